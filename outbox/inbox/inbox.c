/* inbox.c: the life of an inbox, and what arrives. Its manual is include/sagapost/inbox.h. */
#include "outbox/inbox/inbox_private.h"

#include "outbox/runtime/uuid.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PREFETCH_DEFAULT   200
#define BATCH_DEFAULT      100
#define BODY_BYTES_DEFAULT ((size_t)16 * 1024 * 1024)
#define TURN_US            (60 * (int64_t)US_PER_S) /* at most this long without a look */

#define HEARTBEAT_S        60
#define CONNECT_TIMEOUT_US (10 * (int64_t)US_PER_S)
#define BACKOFF_BASE_US    (100 * (int64_t)US_PER_MS)
#define BACKOFF_CAP_US     (10 * (int64_t)US_PER_S)

static int fail(struct sagapost_error *error, enum sagapost_code code, const char *message)
{
    if (error != NULL) {
        *error = (struct sagapost_error){.code = code};
        (void)snprintf(error->message, sizeof(error->message), "%.*s",
                       (int)sizeof(error->message) - 1, message);
    }
    return code;
}

static int fail_inside(struct sagapost_error *error, const struct error *why)
{
    return fail(error, why->code == ERROR_USAGE ? SAGAPOST_ERROR_USAGE : SAGAPOST_ERROR_NO_SERVICE,
                why->message);
}

/* Which server is away ------------------------------------------------------------------------- */

/* Once when it is lost, and once when it is back. */
static void tell(struct sagapost_inbox *inbox, bool *said, const char *server, const char *why)
{
    char line[sizeof(((struct sagapost_error *)NULL)->message)];

    if (*said == (why != NULL) || inbox->is_stopping)
        return;
    *said = why != NULL;
    if (inbox->options.on_trouble == NULL)
        return;
    if (why != NULL) { /* libpq's messages end with a newline */
        (void)snprintf(line, sizeof(line), "%s", why);
        line[strcspn(line, "\n")] = '\0';
    }
    inbox->options.on_trouble(inbox->options.data, server, why != NULL ? line : NULL);
}

void inbox_database_lost(struct sagapost_inbox *inbox, const char *why)
{
    inbox->is_database_lost = true;
    inbox->database_due_us = loop_now_us(inbox->loop);
    tell(inbox, &inbox->database_said, "PostgreSQL", why);
}

static void reset_database(struct sagapost_inbox *inbox)
{
    struct sagapost_error error;

    if (sagapost_internal_reset(inbox->connection, &error) < 0) {
        tell(inbox, &inbox->database_said, "PostgreSQL", error.message);
        inbox->database_due_us =
            loop_now_us(inbox->loop) + backoff_next_us(&inbox->database_backoff);
        return;
    }
    inbox->is_database_lost = false;
    backoff_reset(&inbox->database_backoff);
    tell(inbox, &inbox->database_said, "PostgreSQL", NULL);
    if (inbox->options.on_reset != NULL)
        inbox->options.on_reset(inbox->options.data, inbox->connection);
}

/* What comes next ------------------------------------------------------------------------------ */

static void schedule(struct sagapost_inbox *inbox)
{
    int64_t due_us = inbox->is_database_lost ? inbox->database_due_us : held_next_us(inbox->held);

    if (due_us == INT64_MAX || inbox->is_stopping)
        loop_timer_disarm(inbox->timer);
    else
        loop_timer_arm_at(inbox->timer, due_us);
}

/* One batch in a turn of the loop, so that heartbeats get theirs however much there is to do. */
static void on_due(void *data)
{
    struct sagapost_inbox *inbox = data;

    if (inbox->is_stopping)
        return;
    if (inbox->is_database_lost)
        reset_database(inbox);
    else
        (void)inbox_run_batch(inbox);
    schedule(inbox);
}

/* What arrives --------------------------------------------------------------------------------- */

void inbox_describe(const struct held_message *message, struct sagapost_inbox_message *ret_told)
{
    const struct arrived *arrived = message->extra;

    *ret_told = (struct sagapost_inbox_message){
        .message_id = arrived->message_id,
        .type = arrived->type,
        .exchange = arrived->exchange,
        .routing_key = arrived->routing_key,
        .content_type = arrived->content_type,
        .correlation_id = arrived->correlation_id,
        .reply_to = arrived->reply_to,
        .body = buffer_data(&message->body),
        .body_bytes = buffer_length(&message->body),
        .redelivered = message->redelivered,
    };
    if (ret_told->body_bytes > 0)
        ret_told->body_bytes--; /* the NUL */
    else
        ret_told->body = ""; /* it was too large to be kept */
}

void inbox_refuse(struct sagapost_inbox *inbox, struct held_message *message,
                  const struct sagapost_error *why)
{
    struct sagapost_inbox_message told;

    inbox->counts.refused++;
    if (inbox->options.on_refused != NULL) {
        inbox_describe(message, &told);
        inbox->options.on_refused(inbox->options.data, inbox->connection, &told, why);
    }
    broker_reject(inbox->broker, message->tag);
    held_refuse(inbox->held, message);
}

static void copy_text(char out[SHORT_STRING_BYTES], const struct broker_text *text)
{
    size_t bytes = text->text != NULL ? text->bytes : 0;

    assert(bytes < SHORT_STRING_BYTES); /* AMQP 0-9-1, 4.2.5.3 */
    if (bytes > 0)
        memcpy(out, text->text, bytes);
    out[bytes] = '\0';
}

static void copy_properties(struct arrived *arrived, const struct broker_delivery *delivery)
{
    copy_text(arrived->message_id, &delivery->message_id);
    copy_text(arrived->type, &delivery->type);
    copy_text(arrived->exchange, &delivery->exchange);
    copy_text(arrived->routing_key, &delivery->routing_key);
    copy_text(arrived->content_type, &delivery->content_type);
    copy_text(arrived->correlation_id, &delivery->correlation_id);
    copy_text(arrived->reply_to, &delivery->reply_to);
}

static void on_delivery(void *data, const struct broker_delivery *delivery)
{
    struct sagapost_inbox *inbox = data;
    struct held_message *message;
    struct sagapost_error why;
    struct error error;
    struct uuid id;
    uint64_t tag;

    if (held_receive(inbox->held, delivery->tag, delivery->body.bytes + 1, &message, &error) < 0) {
        broker_reconnect(inbox->broker, error.message);
        return;
    }
    inbox->counts.received++;
    message->redelivered = delivery->redelivered;
    copy_properties(message->extra, delivery);
    buffer_append(&message->body, delivery->body.text, delivery->body.bytes);
    buffer_append(&message->body, "", 1);
    const struct arrived *arrived = message->extra;
    if (message->body.failed) {
        buffer_clear(&message->body);
        (void)fail(&why, SAGAPOST_ERROR_BAD_DATA, "its body is larger than body_bytes_max");
        inbox_refuse(inbox, message, &why);
    } else if (!inbox->options.recognises &&
               uuid_parse(arrived->message_id, strlen(arrived->message_id), &id, &error) < 0) {
        (void)fail(&why, SAGAPOST_ERROR_BAD_DATA,
                   arrived->message_id[0] == '\0' ? "it has no message-id"
                                                  : "its message-id is no UUID");
        inbox_refuse(inbox, message, &why);
    } else if (!inbox->is_database_lost && !inbox->is_stopping) {
        loop_timer_arm_at(inbox->timer, loop_now_us(inbox->loop));
    }
    if (held_ack(inbox->held, &tag)) /* one that is settled may have waited for the refused one */
        broker_ack(inbox->broker, tag, true);
}

static void on_up(void *data, struct broker *broker)
{
    struct sagapost_inbox *inbox = data;
    struct error error;

    /* A refusal is a lost channel: on_down tells. */
    if (broker_consume(broker, inbox->options.queue, inbox->options.consumer, false,
                       inbox->options.prefetch, &error) < 0)
        broker_reconnect(broker, error.message);
    else
        tell(inbox, &inbox->broker_said, "RabbitMQ", NULL);
}

static void on_down(void *data, struct broker *broker, const struct error *why, bool channel_only)
{
    struct sagapost_inbox *inbox = data;

    (void)broker;
    (void)channel_only;
    held_void(inbox->held);
    tell(inbox, &inbox->broker_said, "RabbitMQ", why->message);
}

static void on_cancel(void *data, const char *consumer_tag)
{
    struct sagapost_inbox *inbox = data;

    (void)consumer_tag;
    broker_reconnect(inbox->broker, "the queue was deleted or moved");
}

/* Life ----------------------------------------------------------------------------------------- */

static void on_stop(void *data, int fd, unsigned events)
{
    struct sagapost_inbox *inbox = data;
    eventfd_t count;

    (void)events;
    (void)eventfd_read(fd, &count);
    inbox->is_stopping = true;
}

void sagapost_inbox_stop(struct sagapost_inbox *inbox)
{
    (void)eventfd_write(inbox->stop_fd, 1);
}

static int check(PGconn *connection, const struct sagapost_inbox_options *options,
                 struct sagapost_error *error)
{
    if (connection == NULL || options == NULL || options->amqp == NULL || options->queue == NULL ||
        options->consumer == NULL || options->on_batch == NULL)
        return fail(error, SAGAPOST_ERROR_USAGE,
                    "the connection, amqp, queue, consumer or on_batch is NULL");
    if (strlen(options->consumer) < 1 || strlen(options->consumer) > BROKER_SHORT_STRING_BYTES_MAX)
        return fail(error, SAGAPOST_ERROR_USAGE, "consumer: 1 to 255 bytes are allowed");
    if (strlen(options->queue) < 1 || strlen(options->queue) > BROKER_SHORT_STRING_BYTES_MAX)
        return fail(error, SAGAPOST_ERROR_USAGE, "queue: 1 to 255 bytes are allowed");
    if (options->prefetch < 0 || options->prefetch > 65535)
        return fail(error, SAGAPOST_ERROR_USAGE, "prefetch: 1 to 65535 is allowed, 0 for 200");
    int prefetch = options->prefetch > 0 ? options->prefetch : PREFETCH_DEFAULT;
    if (options->batch_max < 0 || options->batch_max > prefetch)
        return fail(error, SAGAPOST_ERROR_USAGE, "batch_max: 1 to prefetch is allowed, 0 for 100");
    if (sagapost_internal_is_lost(connection))
        return fail(error, SAGAPOST_ERROR_LOST, "the connection is not open");
    if (sagapost_internal_transaction(connection) != SERVICE_NONE)
        return fail(error, SAGAPOST_ERROR_USAGE, "the connection has a transaction open");
    return 0;
}

static int copy_options(struct sagapost_inbox *inbox, const struct sagapost_inbox_options *options,
                        struct error *error)
{
    struct sagapost_inbox_options *ours = &inbox->options;

    *ours = *options;
    ours->amqp = NULL; /* the broker keeps what it needs, and not the password's text */
    ours->connection_name = NULL;
    ours->queue = strdup(options->queue);
    ours->consumer = strdup(options->consumer);
    if (ours->prefetch == 0)
        ours->prefetch = PREFETCH_DEFAULT;
    if (ours->batch_max == 0)
        ours->batch_max = ours->prefetch < BATCH_DEFAULT ? ours->prefetch : BATCH_DEFAULT;
    if (ours->body_bytes_max == 0)
        ours->body_bytes_max = BODY_BYTES_DEFAULT;
    size_t count = (size_t)ours->batch_max;
    inbox->messages = (struct held_message **)calloc(count, sizeof(struct held_message *));
    inbox->ids = (const char **)calloc(count, sizeof(char *));
    inbox->firsts = calloc(count, sizeof(*inbox->firsts));
    inbox->fresh = calloc(count, sizeof(*inbox->fresh));
    if (!ours->queue || !ours->consumer || !inbox->messages || !inbox->ids || !inbox->firsts ||
        !inbox->fresh)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for the inbox");
    return 0;
}

static int create_parts(struct sagapost_inbox *inbox, const struct sagapost_inbox_options *options,
                        struct error *error)
{
    struct broker_options broker = {
        .uri = options->amqp,
        .connection_name =
            options->connection_name != NULL ? options->connection_name : options->consumer,
        .verify_peer = true,
        .heartbeat_s = HEARTBEAT_S,
        .connect_timeout_us = CONNECT_TIMEOUT_US,
        .backoff_base_us = BACKOFF_BASE_US,
        .backoff_cap_us = BACKOFF_CAP_US,
        .out_bytes_max = 65536,
        .on_up = on_up,
        .on_down = on_down,
        .on_delivery = on_delivery,
        .on_cancel = on_cancel,
        .data = inbox,
    };

    int rc = loop_create(&inbox->loop, &clock_system, error);
    if (rc == 0)
        rc = loop_timer_create(inbox->loop, on_due, inbox, &inbox->timer, error);
    if (rc == 0)
        rc = held_create(&inbox->held, inbox->options.prefetch, inbox->options.body_bytes_max + 1,
                         sizeof(struct arrived), error);
    if (rc == 0) {
        inbox->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (inbox->stop_fd < 0)
            rc = error_set_errno(error, errno, RETRY_LATER, "eventfd");
    }
    if (rc == 0)
        rc = loop_fd_add(inbox->loop, inbox->stop_fd, LOOP_READ, on_stop, inbox, &inbox->stop_watch,
                         error);
    if (rc == 0)
        rc = broker_create(&inbox->broker, inbox->loop, &broker, error);
    return rc;
}

int sagapost_inbox_create(struct sagapost_inbox **ret_inbox, PGconn *connection,
                          const struct sagapost_inbox_options *options,
                          struct sagapost_error *error)
{
    struct error why;
    int code = check(connection, options, error);

    if (code < 0)
        return code;
    struct sagapost_inbox *inbox = calloc(1, sizeof(*inbox));
    if (inbox == NULL)
        return fail(error, SAGAPOST_ERROR_NO_SERVICE, "no memory for the inbox");
    inbox->connection = connection;
    inbox->stop_fd = -1;
    backoff_init(&inbox->database_backoff, BACKOFF_BASE_US, BACKOFF_CAP_US, (uintptr_t)inbox);
    if (copy_options(inbox, options, &why) < 0 || create_parts(inbox, options, &why) < 0) {
        sagapost_inbox_destroy(inbox);
        return fail_inside(error, &why);
    }
    broker_start(inbox->broker);
    *ret_inbox = inbox;
    return 0;
}

static int turn(struct sagapost_inbox *inbox, int64_t wait_us, struct sagapost_error *error)
{
    struct error why;

    if (loop_turn(inbox->loop, wait_us, &why) < 0)
        return fail_inside(error, &why);
    if (inbox->fatal.code != 0) {
        if (error != NULL)
            *error = inbox->fatal;
        return inbox->fatal.code;
    }
    return 0;
}

int sagapost_inbox_turn(struct sagapost_inbox *inbox, int wait_ms, struct sagapost_error *error)
{
    inbox->is_stopping = false; /* it is the caller who stops */
    return turn(inbox, wait_ms * (int64_t)US_PER_MS, error);
}

int sagapost_inbox_run(struct sagapost_inbox *inbox, struct sagapost_error *error)
{
    int code = 0;

    while (code == 0 && !inbox->is_stopping)
        code = turn(inbox, TURN_US, error);
    broker_flush(inbox->broker);
    inbox->is_stopping = false; /* it may be run again */
    schedule(inbox);
    return code;
}

struct sagapost_inbox_counts sagapost_inbox_count(const struct sagapost_inbox *inbox)
{
    return inbox->counts;
}

void sagapost_inbox_destroy(struct sagapost_inbox *inbox)
{
    if (inbox == NULL)
        return;
    inbox->is_stopping = true; /* what the broker says from here on is nobody's trouble */
    broker_destroy(inbox->broker);
    loop_fd_remove(inbox->stop_watch);
    loop_timer_destroy(inbox->timer);
    held_destroy(inbox->held);
    loop_destroy(inbox->loop);
    if (inbox->stop_fd >= 0)
        (void)close(inbox->stop_fd);
    free((void *)inbox->messages);
    free((void *)inbox->ids);
    free(inbox->firsts);
    free(inbox->fresh);
    free((char *)(uintptr_t)inbox->options.queue);
    free((char *)(uintptr_t)inbox->options.consumer);
    free(inbox);
}
