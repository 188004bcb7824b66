#include "outbox/amqp/internal.h"

/* Reply codes of AMQP 0-9-1 (specification 1.2) as RabbitMQ uses them. The class tells the log what
 * a person could do; a session reconnects all the same. */
static enum error_retry code_retry(int code)
{
    switch (code) {
    case AMQP_CONTENT_TOO_LARGE:
        return RETRY_POISON;
    case AMQP_ACCESS_REFUSED:
    case AMQP_INVALID_PATH:
    case AMQP_PRECONDITION_FAILED:
    case AMQP_NOT_ALLOWED:
    case AMQP_NOT_IMPLEMENTED:
        return RETRY_NEVER;
    case AMQP_NOT_FOUND:
    case AMQP_RESOURCE_LOCKED:
    case AMQP_RESOURCE_ERROR:
        return RETRY_LATER;
    case AMQP_FRAME_ERROR:
    case AMQP_SYNTAX_ERROR:
    case AMQP_COMMAND_INVALID:
    case AMQP_CHANNEL_ERROR:
    case AMQP_UNEXPECTED_FRAME:
        return RETRY_BUG;
    default:
        return RETRY_RECONNECT;
    }
}

int reply_closed(const struct broker *broker, const char *what, int code, amqp_bytes_t text,
                 struct error *error)
{
    int r = error_set(error, ERROR_AMQP, code_retry(code), "RabbitMQ at %s closed the %s: %d %.*s",
                      broker->peer, what, code, (int)text.len, (const char *)text.bytes);

    if (error)
        error->amqp_code = code;
    return r;
}

int reply_status(const struct broker *broker, int status, const char *doing, struct error *error)
{
    switch (status) {
    case AMQP_STATUS_TIMEOUT:
        return error_set(error, ERROR_TIMEOUT, RETRY_RECONNECT,
                         "%s: RabbitMQ at %s did not answer in time", doing, broker->peer);
    case AMQP_STATUS_NO_MEMORY:
        return error_set(error, ERROR_NO_MEMORY, RETRY_RECONNECT, "%s: out of memory", doing);
    case AMQP_STATUS_BAD_AMQP_DATA:
    case AMQP_STATUS_UNKNOWN_CLASS:
    case AMQP_STATUS_UNKNOWN_METHOD:
    case AMQP_STATUS_WRONG_METHOD:
    case AMQP_STATUS_UNEXPECTED_STATE:
    case AMQP_STATUS_INCOMPATIBLE_AMQP_VERSION:
        return error_set(error, ERROR_PROTOCOL, RETRY_RECONNECT,
                         "%s: %s does not speak AMQP 0-9-1 as it should: %s", doing, broker->peer,
                         amqp_error_string2(status));
    default:
        return error_set(error, ERROR_AMQP, RETRY_RECONNECT,
                         "%s: the connection to RabbitMQ at %s is lost: %s", doing, broker->peer,
                         amqp_error_string2(status));
    }
}

int reply_check(const struct broker *broker, amqp_rpc_reply_t reply, const char *doing,
                bool *ret_channel_only, struct error *error)
{
    *ret_channel_only = false;
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return 0;
    if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION)
        return reply_status(broker, reply.library_error, doing, error);
    if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = reply.reply.decoded;

        *ret_channel_only = true;
        reply_closed(broker, "channel", close->reply_code, close->reply_text, error);
    } else if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close = reply.reply.decoded;

        reply_closed(broker, "connection", close->reply_code, close->reply_text, error);
    } else {
        return reply_status(broker, AMQP_STATUS_WRONG_METHOD, doing, error);
    }
    return error_context(error, "%s", doing);
}
