/* service_batch.c: transactions and batches on the service's connection, for the inbox's client. */
#include "outbox/pg/service_batch.h"
#include "outbox/pg/service.h"
#include "outbox/pg/service_sql.h"

#include <stdlib.h>
#include <string.h>

int sagapost_internal_begin(PGconn *connection, struct sagapost_error *error)
{
    return sagapost_internal_command(connection, "BEGIN", error);
}

int sagapost_internal_commit(PGconn *connection, struct sagapost_error *error)
{
    return sagapost_internal_command(connection, "COMMIT", error);
}

int sagapost_internal_rollback(PGconn *connection, struct sagapost_error *error)
{
    return sagapost_internal_command(connection, "ROLLBACK", error);
}

int sagapost_internal_reset(PGconn *connection, struct sagapost_error *error)
{
    PQreset(connection);
    return PQstatus(connection) == CONNECTION_OK
               ? 0
               : sagapost_internal_lost(error, PQerrorMessage(connection));
}

bool sagapost_internal_is_lost(const PGconn *connection)
{
    return PQstatus(connection) != CONNECTION_OK;
}

enum service_transaction sagapost_internal_transaction(const PGconn *connection)
{
    switch (PQtransactionStatus(connection)) {
    case PQTRANS_INTRANS:
        return SERVICE_OPEN;
    case PQTRANS_INERROR:
        return SERVICE_FAILED;
    default:
        return SERVICE_NONE;
    }
}

/* "{id,id,...}": nothing in a UUID's text needs quoting. */
static char *array_of(const char *const *ids, int count)
{
    char *text = malloc((size_t)count * SAGAPOST_UUID_BYTES + 2);
    size_t at = 0;

    if (text == NULL)
        return NULL;
    text[at++] = '{';
    for (int i = 0; i < count; i++) {
        size_t bytes = strnlen(ids[i], SAGAPOST_UUID_BYTES - 1);
        if (i > 0)
            text[at++] = ',';
        memcpy(text + at, ids[i], bytes);
        at += bytes;
    }
    text[at++] = '}';
    text[at] = '\0';
    return text;
}

int sagapost_internal_accept_batch(PGconn *connection, const char *consumer, const char *const *ids,
                                   int count, bool *ret_first, struct sagapost_error *error)
{
    struct service_params params = {0};
    PGresult *result;

    char *array = array_of(ids, count);
    if (array == NULL)
        return sagapost_internal_fail(error, "no memory for the message ids");
    sagapost_internal_text(&params, consumer);
    sagapost_internal_text(&params, array);
    int code = sagapost_internal_call(connection, SERVICE_IN_TRANSACTION, &sql_service_accept_batch,
                                      &params, &result, error);
    free(array);
    if (code < 0)
        return code;
    const char *firsts = PQgetvalue(result, 0, 0);
    if (strlen(firsts) != (size_t)count)
        code = sagapost_internal_fail(error, "the server did not answer for each message");
    for (int i = 0; code == 0 && i < count; i++)
        ret_first[i] = firsts[i] == 't';
    PQclear(result);
    return code;
}

enum error_retry sagapost_internal_retry(int code)
{
    switch (code) {
    case 0:
        return RETRY_NONE;
    case SAGAPOST_ERROR_AGAIN:
        return RETRY_LATER;
    case SAGAPOST_ERROR_LOST:
        return RETRY_RECONNECT;
    case SAGAPOST_ERROR_REFUSED:
    case SAGAPOST_ERROR_BAD_DATA:
        return RETRY_POISON;
    case SAGAPOST_ERROR_NO_SERVICE: /* until a person has mended it */
        return RETRY_NEVER;
    default:
        return RETRY_BUG;
    }
}
