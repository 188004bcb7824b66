/* service_outbox.c: sagapost/outbox.h and sagapost/inbox.h. */
#include "outbox/pg/service.h"
#include "outbox/pg/service_sql.h"

#include <limits.h>
#include <sagapost/inbox.h>
#include <sagapost/outbox.h>

static int check_message(const struct sagapost_message *message, struct sagapost_error *error)
{
    if (message == NULL || message->type == NULL)
        return sagapost_internal_usage(error, "the message has no type");
    if ((message->payload == NULL) == (message->body == NULL))
        return sagapost_internal_usage(error, "the message needs either a payload or a body");
    if (message->body == NULL && message->content_type != NULL)
        return sagapost_internal_usage(error, "content_type is for a body; a payload is JSON");
    if (message->body_bytes > INT_MAX)
        return sagapost_internal_usage(error, "the body is larger than a value can be");
    return 0;
}

int sagapost_publish(PGconn *connection, const struct sagapost_message *message,
                     char ret_message_id[SAGAPOST_UUID_BYTES], struct sagapost_error *error)
{
    struct service_params params = {0};
    PGresult *result;

    int code = check_message(message, error);
    if (code < 0)
        return code;
    sagapost_internal_text(&params, message->type);
    if (message->body != NULL)
        sagapost_internal_bytes(&params, message->body, message->body_bytes);
    else
        sagapost_internal_text(&params, message->payload);
    sagapost_internal_text(&params, message->key);
    sagapost_internal_text(&params, message->exchange);
    sagapost_internal_text(&params, message->routing_key);
    sagapost_internal_text(&params, message->headers);
    sagapost_internal_text(&params, message->message_id);
    sagapost_internal_bool(&params, !message->optional);
    sagapost_internal_bool(&params, message->serialize);
    sagapost_internal_text(&params, message->correlation_id);
    sagapost_internal_text(&params, message->reply_to);
    if (message->body != NULL)
        sagapost_internal_text(&params, message->content_type);
    code = sagapost_internal_call(connection, SERVICE_ANYWHERE,
                                  message->body != NULL ? &sql_service_publish_bytes
                                                        : &sql_service_publish,
                                  &params, &result, error);
    if (code == 0)
        sagapost_internal_take_id(result, ret_message_id);
    return code;
}

int sagapost_inbox_accept(PGconn *connection, const char *consumer, const char *message_id,
                          bool *ret_first, struct sagapost_error *error)
{
    struct service_params params = {0};
    PGresult *result;

    if (consumer == NULL || message_id == NULL || ret_first == NULL)
        return sagapost_internal_usage(error, "consumer, message_id or ret_first is NULL");
    sagapost_internal_text(&params, consumer);
    sagapost_internal_text(&params, message_id);
    int code = sagapost_internal_call(connection, SERVICE_IN_TRANSACTION, &sql_service_accept,
                                      &params, &result, error);
    if (code < 0)
        return code;
    *ret_first = PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return 0;
}
