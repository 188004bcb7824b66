#include "outbox/amqp/broker.h"
#include "outbox/amqp/encode.h"
#include "outbox/amqp/internal.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* A connection that lived this long was a good one: the next attempt starts from the least pause.
 */
#define GOOD_AFTER_US (30 * (int64_t)US_PER_S)

/* A channel is reopened at once, but not for ever: something may close it again each time before
 * any confirm or delivery. */
#define CHANNEL_LOSSES_AT_ONCE 3

#define CLOSE_TIME_US US_PER_S

/* How often a connection that takes no more bytes is asked for what it still has for us. */
#define LAST_READS_MAX 64

/* ---- failure and what follows ---- */

void broker_fail(struct broker *broker, const struct error *why, bool channel_only)
{
    /* The first reason is the true one; but a lost connection is more than a lost channel. */
    if (broker->lost && (channel_only || !broker->lost_channel_only))
        return;
    broker->lost = true;
    broker->lost_channel_only = channel_only && broker->connection;
    broker->loss = *why;
}

int64_t broker_connect_timeout_us(const struct broker *broker)
{
    const struct broker_options *o = &broker->options;
    int64_t us = broker->uri->connect_timeout_us > 0 ? broker->uri->connect_timeout_us
                                                     : o->connect_timeout_us;

    return o->connect_timeout_max_us && us > o->connect_timeout_max_us ? o->connect_timeout_max_us
                                                                       : us;
}

static void disconnect(struct broker *broker)
{
    connect_end(broker);
    loop_timer_disarm(broker->retry_timer);
    loop_timer_disarm(broker->heartbeat_timer);
    fence_down(broker);
    loop_fd_remove(broker->watch);
    broker->watch = NULL;
    broker->tls.ssl = NULL;
    amqp_destroy_connection(broker->connection);
    broker->connection = NULL;
    broker->send_waits = broker->was_full = broker->closing = false;
    broker->send_errno = 0;
    frames_reset(&broker->frames);
    wire_reset(broker);
}

static bool lived_long(const struct broker *broker)
{
    return broker->connection && loop_now_us(broker->loop) - broker->up_since_us >= GOOD_AFTER_US;
}

/* After a failure the next of the URIs is the one to try; round and round. */
static void turn_to_next_uri(struct broker *broker)
{
    const struct uri *end = broker->uris.uris + broker->uris.count;

    if (++broker->uri == end)
        broker->uri = broker->uris.uris;
}

/* An attempt is over only when every node was tried: the next one may be up. */
static bool next_node(struct broker *broker)
{
    bool more = broker->state == BROKER_CONNECTING && broker->untried > 0;

    turn_to_next_uri(broker);
    if (!more) {
        broker->untried = 0;
        return false;
    }
    disconnect(broker);
    broker->state = BROKER_WAITING;
    loop_timer_arm_in(broker->retry_timer, 0);
    return true;
}

static void lose_connection(struct broker *broker, const struct error *given)
{
    bool was_blocked = broker->blocked;
    struct error why = *given;

    if (next_node(broker))
        return;
    if (broker->state == BROKER_CONNECTING && broker->uris.count > 1)
        error_context(&why, "none of %d nodes, at last", broker->uris.count);
    if (broker->progress || lived_long(broker))
        backoff_reset(&broker->backoff);
    broker->progress = false; /* it was that connection's: the attempts that follow made none */
    disconnect(broker);
    broker->blocked = false;
    broker->state = BROKER_WAITING;
    loop_timer_arm_in(broker->retry_timer, backoff_next_us(&broker->backoff));
    if (was_blocked && broker->options.on_blocked)
        broker->options.on_blocked(broker->options.data, false, NULL);
    if (broker->options.on_down)
        broker->options.on_down(broker->options.data, broker, &why, false);
}

static void lose_channel(struct broker *broker, const struct error *why)
{
    int64_t pause_us;

    if (broker->progress)
        backoff_reset(&broker->channel_backoff);
    pause_us = backoff_next_us(&broker->channel_backoff);
    broker->state = BROKER_REOPENING;
    broker->progress = false;
    frames_reset(&broker->frames);
    /* Deliveries of the old channel, which came while a request waited for its answer, would carry
     * tags that the new channel does not know. */
    wire_drop_queued(broker);
    loop_timer_arm_in(broker->retry_timer,
                      broker->channel_backoff.tries <= CHANNEL_LOSSES_AT_ONCE ? 0 : pause_us);
    if (broker->options.on_down)
        broker->options.on_down(broker->options.data, broker, why, true);
}

void broker_settle(struct broker *broker)
{
    while (broker->lost) {
        struct error why = broker->loss;
        bool channel_only = broker->lost_channel_only;

        broker->lost = false;
        if (channel_only)
            lose_channel(broker, &why);
        else
            lose_connection(broker, &why);
    }
}

/* ---- opening ---- */

static void on_socket_event(void *data, int fd, unsigned events)
{
    struct broker *broker = data;

    (void)fd;
    if (events & LOOP_WRITE) {
        broker->send_waits = false;
        loop_fd_want(broker->watch, LOOP_READ);
    }
    if (events & (LOOP_READ | LOOP_HANGUP)) {
        broker->heard_us = loop_now_us(broker->loop);
        wire_read(broker, true);
    }
    broker_settle(broker);
}

static void arm_heartbeat(struct broker *broker)
{
    if (broker->heartbeat_us)
        loop_timer_arm_in(broker->heartbeat_timer, broker->heartbeat_us / 2);
}

/* The broker's answers to what went over the old channel may come until it has said close-ok. */
static int replace_channel(struct broker *broker, struct error *error)
{
    int r = broker->closing ? close_channel(broker, error) : 0;

    if (!r && broker->closing)
        wire_drop_queued(broker);
    broker->closing = false;
    return r ? r : open_channel(broker, error);
}

/* Everything here is request and answer through the library, which closes the socket itself when an
 * answer does not come: the loop must not watch the descriptor meanwhile. */
static void bring_up(struct broker *broker)
{
    struct error error = {0};

    loop_fd_remove(broker->watch);
    broker->watch = NULL;
    broker->tag = 0;
    if (replace_channel(broker, &error)) {
        broker_fail(broker, &error, false);
        return;
    }
    broker->state = BROKER_UP;
    broker->in_on_up = true;
    if (broker->options.on_up)
        broker->options.on_up(broker->options.data, broker);
    broker->in_on_up = false;
    if (broker->lost && !broker->lost_channel_only)
        return;
    broker->heard_us = broker->sent_us = clock_monotonic_us(loop_clock(broker->loop));
    if (loop_fd_add(broker->loop, amqp_get_sockfd(broker->connection), LOOP_READ, on_socket_event,
                    broker, &broker->watch, &error))
        broker_fail(broker, &error, false);
    fence_begin(broker);
}

void broker_connected(struct broker *broker, int fd)
{
    struct error error = {0};

    broker->up_since_us = clock_monotonic_us(loop_clock(broker->loop));
    broker->progress = false;
    backoff_reset(&broker->channel_backoff);
    if (open_connection(broker, fd, &error)) {
        broker_fail(broker, &error, false);
        return;
    }
    arm_heartbeat(broker);
    bring_up(broker);
}

/* What was queued for the old channel goes out first: the broker passes over it until it sees our
 * close-ok, and half of it may be on its way already. A blocked broker reads nothing, so a request
 * to it would only run into its limit. */
static void reopen_when_possible(struct broker *broker)
{
    if (broker->state == BROKER_REOPENING && !broker->lost && !broker->blocked &&
        !broker->send_errno && !loop_timer_armed(broker->retry_timer) && wire_drained(broker))
        bring_up(broker);
}

static void on_retry_timer(void *data)
{
    struct broker *broker = data;
    struct error error = {0};

    switch (broker->state) {
    case BROKER_WAITING:
        connect_begin(broker);
        break;
    case BROKER_CONNECTING:
        error_set(&error, ERROR_TIMEOUT, RETRY_RECONNECT, "cannot connect to %s: no answer",
                  broker->peer);
        connect_next(broker, &error);
        break;
    case BROKER_REOPENING: /* the hook does it */
    case BROKER_IDLE:
    case BROKER_UP:
        break;
    }
    broker_settle(broker);
}

/* ---- heartbeats ---- */

/* Silence of ours is not the peer's: after a pause of this process (SIGSTOP, a slow callback) what
 * the peer sent is still in the socket. */
static bool anything_to_read(struct broker *broker)
{
    struct pollfd readable = {.fd = amqp_get_sockfd(broker->connection), .events = POLLIN};

    return poll(&readable, 1, 0) == 1;
}

static void on_heartbeat_timer(void *data)
{
    struct broker *broker = data;
    int64_t now_us = loop_now_us(broker->loop);
    struct error error = {0};

    if (now_us - broker->heard_us >= 2 * broker->heartbeat_us && !anything_to_read(broker)) {
        error_set(&error, ERROR_TIMEOUT, RETRY_RECONNECT,
                  "RabbitMQ at %s was silent for two heartbeat intervals (%lld s)", broker->peer,
                  (long long)((now_us - broker->heard_us) / US_PER_S));
        broker_fail(broker, &error, false);
    } else {
        /* Bytes that wait to be sent are a sign of life as good as any. */
        if (!buffer_length(&broker->out) && now_us - broker->sent_us >= broker->heartbeat_us / 4 &&
            encode_heartbeat(&broker->out, &error))
            broker_fail(broker, &error, false);
        arm_heartbeat(broker);
    }
    broker_settle(broker);
}

/* ---- before the loop sleeps ---- */

static void send_failed(struct broker *broker)
{
    struct error error = {0};

    /* The reason, if the broker gave one, came before the end, and so did the last confirms. */
    for (int i = 0; i < LAST_READS_MAX && wire_read(broker, true); i++) {
    }
    error_set_errno(&error, broker->send_errno, RETRY_RECONNECT,
                    "the connection to RabbitMQ at %s is lost", broker->peer);
    broker_fail(broker, &error, false);
}

static bool on_before_sleep(void *data)
{
    struct broker *broker = data;
    bool more = false;

    broker_settle(broker);
    if (broker->connection) {
        more = wire_read(broker, false);
        wire_flush(broker);
        if (broker->send_errno)
            send_failed(broker);
        reopen_when_possible(broker);
    }
    broker_settle(broker);
    if (broker->was_full && broker_can_publish(broker)) {
        broker->was_full = false;
        if (broker->options.on_writable)
            broker->options.on_writable(broker->options.data);
        more = true; /* what that published is to be sent before the loop sleeps */
    }
    return more;
}

/* ---- creation and end ---- */

static int check_options(const struct broker_options *o, struct error *error)
{
    if (!o->uri || !*o->uri)
        return error_set(error, ERROR_USAGE, RETRY_NEVER, "the AMQP URI is not set");
    if (o->heartbeat_s < 0 || o->heartbeat_s > UINT16_MAX)
        return error_set(error, ERROR_USAGE, RETRY_NEVER, "heartbeat must be from 0 to 65535 s");
    if (o->connect_timeout_us <= 0 || o->backoff_base_us <= 0 ||
        o->backoff_cap_us < o->backoff_base_us || !o->out_bytes_max)
        return error_set(error, ERROR_USAGE, RETRY_NEVER,
                         "connect timeout, backoff and buffer of a broker session must be set");
    return 0;
}

/* NULL stays NULL. */
static bool copy_string(const char **string)
{
    if (!*string)
        return true;
    *string = strdup(*string);
    return *string;
}

static bool copy_strings(struct broker_options *options)
{
    const char **strings[] = {&options->connection_name, &options->ca_file,
                              &options->certificate_file, &options->key_file};
    bool good = true;

    options->uri = NULL; /* parsed; it is not needed again, and holds the password */
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
        good &= copy_string(strings[i]);
    return good;
}

static void free_strings(struct broker_options *options)
{
    union {
        const char *given;
        char *ours;
    } strings[] = {{options->connection_name},
                   {options->ca_file},
                   {options->certificate_file},
                   {options->key_file}};

    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
        free(strings[i].ours);
}

static int prepare(struct broker *broker, struct error *error)
{
    const struct broker_options *o = &broker->options;
    uint64_t seed = 0;
    int r;

    if (!copy_strings(&broker->options))
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "out of memory");
    /* Only so that many clients do not come back in step: any bits will do. */
    (void)!getrandom(&seed, sizeof(seed), GRND_NONBLOCK);
    backoff_init(&broker->backoff, o->backoff_base_us, o->backoff_cap_us, seed);
    backoff_init(&broker->channel_backoff, o->backoff_base_us, o->backoff_cap_us, seed + 1);
    r = loop_timer_create(broker->loop, on_retry_timer, broker, &broker->retry_timer, error);
    if (!r)
        r = loop_timer_create(broker->loop, on_heartbeat_timer, broker, &broker->heartbeat_timer,
                              error);
    if (!r)
        r = fence_prepare(broker, seed + 2, error);
    if (!r)
        r = loop_hook_add(broker->loop, on_before_sleep, broker, &broker->hook, error);
    return r;
}

int broker_create(struct broker **ret_broker, struct loop *loop,
                  const struct broker_options *options, struct error *error)
{
    struct broker *broker;
    int r = check_options(options, error);

    if (r)
        return r;
    broker = calloc(1, sizeof(*broker));
    if (!broker)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "out of memory");
    broker->loop = loop;
    broker->connect_fd = -1;
    frames_init(&broker->frames);
    /* Its limit is kept by broker_can_publish, so that one message may be larger than all of it. */
    buffer_init(&broker->out, 0);
    r = uri_list_parse(&broker->uris, options->uri, error);
    if (!r) {
        broker->uri = broker->uris.uris;
        broker->options = *options;
        r = prepare(broker, error);
    }
    if (r)
        broker_destroy(broker);
    else
        *ret_broker = broker;
    return r;
}

void broker_start(struct broker *broker)
{
    if (broker->state != BROKER_IDLE)
        return;
    broker->state = BROKER_WAITING;
    loop_timer_arm_in(broker->retry_timer, 0);
}

void broker_reconnect(struct broker *broker, const char *why)
{
    struct error error = {0};

    if (!broker->connection)
        return; /* it is on its way already */
    error_set(&error, ERROR_STATE, RETRY_RECONNECT, "%s", why);
    broker_fail(broker, &error, false);
}

void broker_replace_channel(struct broker *broker, const char *why)
{
    struct error error = {0};

    if (!broker_is_up(broker))
        return; /* it is being replaced already */
    broker->closing = true;
    error_set(&error, ERROR_STATE, RETRY_NOW, "%s", why);
    broker_fail(broker, &error, true);
}

static int64_t left_us(const struct broker *broker, int64_t end_us)
{
    return end_us - clock_monotonic_us(loop_clock(broker->loop));
}

/* Acknowledgements in the buffer are worth a moment: without them the broker delivers again. */
static bool send_the_rest(struct broker *broker, int64_t end_us)
{
    struct pollfd writable = {.fd = amqp_get_sockfd(broker->connection), .events = POLLOUT};

    for (;;) {
        broker->send_waits = false;
        wire_flush(broker);
        if (broker->send_errno)
            return false;
        if (wire_drained(broker))
            return true;
        if (left_us(broker, end_us) <= 0)
            return false;
        poll(&writable, 1, (int)(left_us(broker, end_us) / US_PER_MS) + 1);
    }
}

static void close_in_good_order(struct broker *broker)
{
    int64_t end_us = clock_monotonic_us(loop_clock(broker->loop)) + CLOSE_TIME_US, left;
    struct timeval timeout;

    if (!send_the_rest(broker, end_us))
        return;
    left = left_us(broker, end_us);
    if (left <= 0)
        return;
    timeout = (struct timeval){.tv_sec = left / US_PER_S, .tv_usec = left % US_PER_S};
    if (!amqp_set_rpc_timeout(broker->connection, &timeout))
        amqp_connection_close(broker->connection, AMQP_REPLY_SUCCESS);
}

void broker_destroy(struct broker *broker)
{
    if (!broker)
        return;
    assert(!broker->in_on_up);
    if (broker->state == BROKER_UP && !broker->lost && !broker->blocked)
        close_in_good_order(broker);
    if (broker->retry_timer && broker->heartbeat_timer && broker->fence.timer)
        disconnect(broker);
    loop_timer_destroy(broker->retry_timer);
    loop_timer_destroy(broker->heartbeat_timer);
    loop_timer_destroy(broker->fence.timer);
    if (broker->hook)
        loop_hook_remove(broker->hook);
    frames_free(&broker->frames);
    buffer_free(&broker->out);
    uri_list_free(&broker->uris);
    free_strings(&broker->options);
    free(broker);
}

/* ---- what the user asks and sends ---- */

bool broker_is_up(const struct broker *broker)
{
    return broker->state == BROKER_UP && !broker->lost;
}

bool broker_is_blocked(const struct broker *broker)
{
    return broker->blocked;
}

bool broker_can_publish(const struct broker *broker)
{
    return broker_is_up(broker) && !broker->blocked && !broker->send_errno &&
           buffer_length(&broker->out) < broker->options.out_bytes_max;
}

unsigned broker_attempts(const struct broker *broker)
{
    return broker->backoff.tries;
}

int broker_publish(struct broker *broker, const struct broker_message *message, uint64_t *ret_tag,
                   struct error *error)
{
    int r;

    if (!broker_can_publish(broker))
        return error_set(error, ERROR_STATE, RETRY_LATER, "%s",
                         !broker_is_up(broker) ? "not connected to RabbitMQ"
                         : broker->blocked     ? "RabbitMQ has blocked publishers"
                                               : "the buffer to RabbitMQ is full");
    r = encode_publish(&broker->out, CHANNEL, broker->frame_max, message, error);
    if (r)
        return r;
    *ret_tag = ++broker->tag;
    if (buffer_length(&broker->out) >= broker->options.out_bytes_max) {
        wire_flush(broker);
        broker->was_full = buffer_length(&broker->out) >= broker->options.out_bytes_max;
    }
    return 0;
}

void broker_flush(struct broker *broker)
{
    wire_flush(broker);
}

void broker_ack(struct broker *broker, uint64_t tag, bool multiple)
{
    struct error error = {0};

    /* On a lost channel every delivery is void: the broker will deliver again. */
    if (broker_is_up(broker) && encode_ack(&broker->out, CHANNEL, tag, multiple, &error))
        broker_fail(broker, &error, false);
}

void broker_reject(struct broker *broker, uint64_t tag)
{
    struct error error = {0};

    if (broker_is_up(broker) && encode_reject(&broker->out, CHANNEL, tag, &error))
        broker_fail(broker, &error, false);
}
