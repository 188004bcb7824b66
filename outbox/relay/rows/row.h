/* row.h: the columns of a message, in the order in which sql/read_fresh.sql, read_late.sql and
 * parked_due.sql give them. */
#ifndef SAGAPOST_RELAY_ROW_H
#define SAGAPOST_RELAY_ROW_H

#include "outbox/amqp/broker.h"
#include "outbox/pg/result.h"

enum row_column {
    ROW_ID,
    ROW_MESSAGE_ID,
    ROW_CREATED_AT,
    ROW_TYPE,
    ROW_KEY,
    ROW_EXCHANGE,
    ROW_ROUTING_KEY,
    ROW_HEADERS, /* NULL for {} */
    ROW_PAYLOAD,
    ROW_PAYLOAD_BYTES,
    ROW_CONTENT_TYPE,
    ROW_CORRELATION_ID,
    ROW_REPLY_TO,
    ROW_MANDATORY,
    ROW_BYTES, /* of payload and headers: what the limits on bytes count */
    ROW_COLUMNS_OF_LOG,
    /* Of outbox.parked alone. */
    ROW_ATTEMPTS = ROW_COLUMNS_OF_LOG,
    ROW_FAILING_US, /* since it was set aside, by the database's clock */
    ROW_HOLDS,
    ROW_KEY_HASH,
    ROW_COLUMNS_OF_PARKED,
};

struct row {
    const struct pg_result *rows;
    int row;
};

/* .text is NULL for NULL. */
static inline struct broker_text row_text(struct row row, int column) /* enum row_column */
{
    struct broker_text text = {0};

    text.text = pg_bytes(row.rows, row.row, column, &text.bytes);
    return text;
}

#endif
