/* headers.h: the reader of outbox.message.headers: one flat JSON object, as jsonb prints it.
 *
 *     object = '{' [ member { ',' member } ] '}'        white space between tokens
 *     member = string ':' ( string | number | 'true' | 'false' | 'null' )
 *
 * A CHECK refuses anything else at the insert, yet rows can be older than a CHECK: what does not
 * fit is refused here with a reason, never guessed at. Whole numbers that fit are int64, others
 * double, as in the CHECK. A bounds-checked cursor with a sticky error; fuzzed.
 *
 * Strings with escapes are resolved into `text`; the others point into the input. Everything is
 * good until the next call and as long as the input. */
#ifndef SAGAPOST_RELAY_HEADERS_H
#define SAGAPOST_RELAY_HEADERS_H

#include "outbox/amqp/broker.h"

#define HEADERS_MAX            2400  /* of eight bytes and more each, as jsonb prints them */
#define HEADERS_TEXT_BYTES_MAX 32768 /* outbox.message allows 16384 in the row */

struct headers {
    struct broker_header list[HEADERS_MAX];
    int count;
    char text[HEADERS_TEXT_BYTES_MAX];
    size_t text_bytes;
};

/* RETRY_POISON: this row's headers cannot be carried. */
int headers_read(struct headers *headers, const char *json, size_t bytes,
                 struct error *error) MUST_CHECK;
/* Whether a header of that name was read. */
bool headers_has(const struct headers *headers, const char *name);

#endif
