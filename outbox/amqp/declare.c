#include "outbox/amqp/internal.h"

#include <string.h>

#define ARGUMENTS_MAX 16

/* Requests of the user inside on_up. The library sends them, waits for the answer and keeps what
 * else comes in meanwhile; nothing of ours is half-sent at that time (wire_flush sees to it). */

static int may_ask(const struct broker *broker, struct error *error)
{
    if (broker->in_on_up && !broker->lost)
        return 0;
    return error_set(error, ERROR_STATE, RETRY_RECONNECT, "%s",
                     broker->lost ? "the channel is lost already"
                                  : "may be asked inside on_up only");
}

/* A string that goes out as a short string; rabbitmq-c would cut its length silently. */
static int check_name(const char *name, const char *what, struct error *error)
{
    if (strlen(name) <= BROKER_SHORT_STRING_BYTES_MAX)
        return 0;
    return error_set(error, ERROR_USAGE, RETRY_NEVER,
                     "the name of the %s '%.32s...' has more than %d bytes", what, name,
                     BROKER_SHORT_STRING_BYTES_MAX);
}

static int send_close_ok(struct broker *broker, amqp_channel_t channel, struct error *error)
{
    amqp_channel_close_ok_t close_ok = {0};
    int status =
        amqp_send_method(broker->connection, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &close_ok);

    return status ? reply_status(broker, status, "closing a channel", error) : 0;
}

/* What the last request on the channel of the session came to; a failure loses the channel. */
static int finish(struct broker *broker, const char *doing, const char *name, struct error *error)
{
    struct error local = {0}, *why = error ? error : &local;
    bool channel_only;
    int r = reply_check(broker, amqp_get_rpc_reply(broker->connection), doing, &channel_only, why);

    if (!r) {
        amqp_maybe_release_buffers(broker->connection);
        return 0;
    }
    if (channel_only) {
        struct error broken = {0};

        if (send_close_ok(broker, CHANNEL, &broken)) {
            *why = broken;
            channel_only = false;
        }
    }
    r = error_context(why, "'%s'", name);
    broker_fail(broker, why, channel_only);
    return r;
}

int broker_declare_exchange(struct broker *broker, const char *name, const char *type, bool durable,
                            struct error *error)
{
    int r = may_ask(broker, error);

    if (!r)
        r = check_name(name, "exchange", error);
    if (r)
        return r;
    amqp_exchange_declare(broker->connection, CHANNEL, amqp_cstring_bytes(name),
                          amqp_cstring_bytes(type), false, durable, false, false, amqp_empty_table);
    return finish(broker, "declaring an exchange", name, error);
}

int broker_declare_queue(struct broker *broker, const char *name, bool durable, bool exclusive,
                         const struct broker_argument *arguments, int argument_count,
                         struct error *error)
{
    amqp_table_entry_t entries[ARGUMENTS_MAX];
    amqp_table_t table = {.num_entries = argument_count, .entries = entries};
    int r = may_ask(broker, error);

    if (!r)
        r = check_name(name, "queue", error);
    if (!r && (argument_count < 0 || argument_count > ARGUMENTS_MAX))
        r = error_set(error, ERROR_LIMIT, RETRY_NEVER, "a queue can be declared with %d arguments",
                      ARGUMENTS_MAX);
    if (r)
        return r;
    for (int i = 0; i < argument_count; i++) {
        entries[i].key = amqp_cstring_bytes(arguments[i].name);
        if (arguments[i].text) {
            entries[i].value.kind = AMQP_FIELD_KIND_UTF8;
            entries[i].value.value.bytes = amqp_cstring_bytes(arguments[i].text);
        } else {
            entries[i].value.kind = AMQP_FIELD_KIND_I64;
            entries[i].value.value.i64 = arguments[i].integer;
        }
    }
    amqp_queue_declare(broker->connection, CHANNEL, amqp_cstring_bytes(name), false, durable,
                       exclusive, false, table);
    return finish(broker, "declaring a queue", name, error);
}

int broker_bind_queue(struct broker *broker, const char *queue, const char *exchange,
                      const char *routing_key, struct error *error)
{
    int r = may_ask(broker, error);

    if (!r)
        r = check_name(queue, "queue", error);
    if (!r)
        r = check_name(exchange, "exchange", error);
    if (!r)
        r = check_name(routing_key, "routing key", error);
    if (r)
        return r;
    amqp_queue_bind(broker->connection, CHANNEL, amqp_cstring_bytes(queue),
                    amqp_cstring_bytes(exchange), amqp_cstring_bytes(routing_key),
                    amqp_empty_table);
    return finish(broker, "binding a queue", queue, error);
}

int broker_consume(struct broker *broker, const char *queue, const char *consumer_tag,
                   bool exclusive, int prefetch, struct error *error)
{
    int r = may_ask(broker, error);

    if (!r)
        r = check_name(queue, "queue", error);
    if (!r)
        r = check_name(consumer_tag, "consumer", error);
    /* 0 would be "as many as there are", and nothing here is without a limit. */
    if (!r && (prefetch < 1 || prefetch > UINT16_MAX))
        r = error_set(error, ERROR_USAGE, RETRY_NEVER, "prefetch must be from 1 to %d", UINT16_MAX);
    if (r)
        return r;
    amqp_basic_qos(broker->connection, CHANNEL, 0, (uint16_t)prefetch, false);
    r = finish(broker, "setting prefetch for a queue", queue, error);
    if (r)
        return r;
    amqp_basic_consume(broker->connection, CHANNEL, amqp_cstring_bytes(queue),
                       amqp_cstring_bytes(consumer_tag), false, false, exclusive, amqp_empty_table);
    return finish(broker, "consuming from a queue", queue, error);
}

/* ---- whether something exists, on a channel that may die of the answer ---- */

/* The connection is of no use any more. */
static int probe_lost(struct broker *broker, const char *name, struct error *why)
{
    int r = error_context(why, "'%s'", name);

    broker_fail(broker, why, false);
    return r;
}

static int probe_reply(struct broker *broker, bool *ret_channel_only, struct error *why)
{
    return reply_check(broker, amqp_get_rpc_reply(broker->connection), "asking whether it exists",
                       ret_channel_only, why);
}

static int probe_open(struct broker *broker, const char *name, const char *what, struct error *why)
{
    bool channel_only;
    int r = may_ask(broker, why);

    if (!r)
        r = check_name(name, what, why);
    if (r)
        return r;
    amqp_channel_open(broker->connection, CHANNEL_PROBE);
    return probe_reply(broker, &channel_only, why) ? probe_lost(broker, name, why) : 0;
}

/* The answer to the passive declare. 404: it does not exist. 405: it does, and belongs to another
 * connection. What else closes the probe's channel, 403 above all, is an error, but not a loss. */
static int probe_close(struct broker *broker, const char *name, bool *ret_exists, struct error *why)
{
    struct error broken = {0};
    bool channel_only;

    if (!probe_reply(broker, &channel_only, why)) {
        amqp_rpc_reply_t closed =
            amqp_channel_close(broker->connection, CHANNEL_PROBE, AMQP_REPLY_SUCCESS);

        if (reply_check(broker, closed, "asking whether it exists", &channel_only, why))
            return probe_lost(broker, name, why);
        *ret_exists = true;
    } else if (!channel_only) {
        return probe_lost(broker, name, why);
    } else if (send_close_ok(broker, CHANNEL_PROBE, &broken)) {
        *why = broken;
        return probe_lost(broker, name, why);
    } else if (why->amqp_code == AMQP_NOT_FOUND || why->amqp_code == AMQP_RESOURCE_LOCKED) {
        *ret_exists = why->amqp_code == AMQP_RESOURCE_LOCKED;
        error_clear(why);
    } else {
        return error_context(why, "'%s'", name);
    }
    amqp_maybe_release_buffers(broker->connection);
    return 0;
}

int broker_exchange_exists(struct broker *broker, const char *name, bool *ret_exists,
                           struct error *error)
{
    struct error local = {0}, *why = error ? error : &local;
    int r;

    if (!*name) { /* the default exchange: always there, and RabbitMQ refuses the question */
        *ret_exists = true;
        return 0;
    }
    r = probe_open(broker, name, "exchange", why);
    if (r)
        return r;
    amqp_exchange_declare(broker->connection, CHANNEL_PROBE, amqp_cstring_bytes(name),
                          amqp_cstring_bytes("direct"), true, false, false, false,
                          amqp_empty_table);
    return probe_close(broker, name, ret_exists, why);
}

int broker_queue_exists(struct broker *broker, const char *name, bool *ret_exists,
                        int64_t *ret_messages, int64_t *ret_consumers, struct error *error)
{
    struct error local = {0}, *why = error ? error : &local;
    const amqp_queue_declare_ok_t *ok;
    int64_t messages = 0, consumers = 0;
    int r = probe_open(broker, name, "queue", why);

    if (r)
        return r;
    ok = amqp_queue_declare(broker->connection, CHANNEL_PROBE, amqp_cstring_bytes(name), true,
                            false, false, false, amqp_empty_table);
    if (ok) {
        messages = ok->message_count;
        consumers = ok->consumer_count;
    }
    r = probe_close(broker, name, ret_exists, why);
    if (!r && ret_messages)
        *ret_messages = messages;
    if (!r && ret_consumers)
        *ret_consumers = consumers;
    return r;
}
