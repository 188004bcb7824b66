#include "outbox/amqp/encode.h"
#include "outbox/amqp/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Frames handled before the other descriptors and timers of the loop get their turn. */
#define FRAMES_PER_TURN 512

/* A buffer that one huge message has blown up is given back when it is empty. */
#define OUT_BYTES_KEPT_FACTOR 4

static void fail(struct broker *broker, enum error_code code, const char *what)
{
    struct error error = {0};

    error_set(&error, code, RETRY_RECONNECT, "RabbitMQ at %s: %s", broker->peer, what);
    broker_fail(broker, &error, false);
}

/* ---- out ---- */

static ssize_t send_some(struct broker *broker, const void *bytes, size_t count)
{
    int fd = amqp_get_sockfd(broker->connection);

    if (fd < 0) { /* closed by the library: a request had no answer in time */
        errno = EPIPE;
        return -1;
    }
    if (broker->tls.ssl)
        return tls_send(&broker->tls, bytes, count);
    return send(fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void wire_reset(struct broker *broker)
{
    if (broker->out.capacity > OUT_BYTES_KEPT_FACTOR * broker->options.out_bytes_max)
        buffer_free(&broker->out);
    buffer_clear(&broker->out);
}

void wire_flush(struct broker *broker)
{
    /* Inside on_up requests and answers go through the library; half a frame of ours on the wire
     * would end up in the middle of one of its frames. */
    if (!broker->connection || broker->in_on_up || broker->send_waits || broker->send_errno)
        return;
    while (buffer_length(&broker->out)) {
        ssize_t sent = send_some(broker, buffer_data(&broker->out), buffer_length(&broker->out));

        if (sent > 0) {
            buffer_take(&broker->out, (size_t)sent);
            broker->sent_us = loop_now_us(broker->loop);
            if (!buffer_length(&broker->out))
                wire_reset(broker);
        } else if (errno == EINTR) {
            continue;
        } else if (errno == EAGAIN) {
            broker->send_waits = true;
            loop_fd_want(broker->watch, LOOP_READ | LOOP_WRITE);
            return;
        } else if (errno == EBUSY && broker->tls.ssl) {
            return; /* TLS must read first; tried again after the next read */
        } else {
            /* The reason may stand in a connection.close that is still to be read. */
            broker->send_errno = errno;
            return;
        }
    }
}

bool wire_drained(struct broker *broker)
{
    struct pollfd writable = {.fd = amqp_get_sockfd(broker->connection), .events = POLLOUT};

    if (buffer_length(&broker->out) || broker->send_waits)
        return false;
    if (poll(&writable, 1, 0) == 1)
        return true;
    loop_fd_want(broker->watch, LOOP_READ | LOOP_WRITE);
    return false;
}

/* ---- in ---- */

static void unexpected(struct broker *broker, const amqp_frame_t *frame)
{
    const char *name =
        frame->frame_type == AMQP_FRAME_METHOD ? amqp_method_name(frame->payload.method.id) : NULL;
    struct error error = {0};

    error_set(&error, ERROR_PROTOCOL, RETRY_RECONNECT,
              "RabbitMQ at %s sent what was not expected: %s (frame of type %d on channel %d)",
              broker->peer, name ? name : "not a method", frame->frame_type, frame->channel);
    broker_fail(broker, &error, false);
}

static void take_confirm(struct broker *broker, uint64_t tag, bool multiple, bool acked)
{
    if (tag > broker->tag || (!tag && !multiple) || !broker->options.confirms) {
        fail(broker, ERROR_PROTOCOL, "a confirm for what was never published");
        return;
    }
    /* Tag 0 means all there are (specification 1.8.3.13). */
    if (!tag)
        tag = broker->tag;
    broker->progress = true;
    if (broker->options.on_confirm)
        broker->options.on_confirm(broker->options.data, tag, multiple, acked);
}

static void take_cancel(struct broker *broker, const amqp_basic_cancel_t *cancel)
{
    char consumer_tag[BROKER_SHORT_STRING_BYTES_MAX + 1];

    if (cancel->consumer_tag.len)
        memcpy(consumer_tag, cancel->consumer_tag.bytes, cancel->consumer_tag.len);
    consumer_tag[cancel->consumer_tag.len] = 0;
    if (broker->options.on_cancel)
        broker->options.on_cancel(broker->options.data, consumer_tag);
}

static void take_channel_close(struct broker *broker, const amqp_channel_close_t *close)
{
    struct error error = {0}, no_room = {0};

    reply_closed(broker, "channel", close->reply_code, close->reply_text, &error);
    if (encode_channel_close_ok(&broker->out, CHANNEL, &no_room))
        broker_fail(broker, &no_room, false);
    else
        broker_fail(broker, &error, true);
}

static void take_method(struct broker *broker, const amqp_frame_t *frame)
{
    const amqp_method_t *method = &frame->payload.method;

    switch (method->id) {
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *ack = method->decoded;

        take_confirm(broker, ack->delivery_tag, ack->multiple, true);
        break;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *nack = method->decoded;

        take_confirm(broker, nack->delivery_tag, nack->multiple, false);
        break;
    }
    case AMQP_BASIC_CANCEL_METHOD:
        take_cancel(broker, method->decoded);
        break;
    case AMQP_CHANNEL_CLOSE_METHOD:
        take_channel_close(broker, method->decoded);
        break;
    default:
        unexpected(broker, frame);
    }
}

static void set_blocked(struct broker *broker, bool blocked, amqp_bytes_t reason)
{
    char text[BROKER_SHORT_STRING_BYTES_MAX + 1];

    if (reason.len)
        memcpy(text, reason.bytes, reason.len);
    text[reason.len] = 0;
    if (broker->blocked == blocked)
        return;
    broker->blocked = blocked;
    open_user_timeout(broker, !blocked);
    if (broker->options.on_blocked)
        broker->options.on_blocked(broker->options.data, blocked, blocked ? text : NULL);
}

static void take_connection_close(struct broker *broker, const amqp_connection_close_t *close)
{
    struct error error = {0}, no_room = {0};

    reply_closed(broker, "connection", close->reply_code, close->reply_text, &error);
    if (!encode_connection_close_ok(&broker->out, &no_room))
        wire_flush(broker);
    broker_fail(broker, &error, false);
}

static void take_connection_frame(struct broker *broker, const amqp_frame_t *frame)
{
    const amqp_method_t *method = &frame->payload.method;

    switch (frame->frame_type == AMQP_FRAME_METHOD ? method->id : 0) {
    case AMQP_CONNECTION_BLOCKED_METHOD: {
        const amqp_connection_blocked_t *blocked = method->decoded;

        set_blocked(broker, true, blocked->reason);
        break;
    }
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        set_blocked(broker, false, amqp_empty_bytes);
        break;
    case AMQP_CONNECTION_CLOSE_METHOD:
        take_connection_close(broker, method->decoded);
        break;
    default:
        unexpected(broker, frame);
    }
}

static void take_channel_frame(struct broker *broker, const amqp_frame_t *frame)
{
    struct error error = {0};
    enum frames_event event;

    if (frames_feed(&broker->frames, frame, &event, &error)) {
        error_context(&error, "RabbitMQ at %s sent", broker->peer);
        broker_fail(broker, &error, false);
        return;
    }
    switch (event) {
    case FRAMES_MORE:
        break;
    case FRAMES_METHOD:
        take_method(broker, frame);
        break;
    case FRAMES_DELIVERY:
        broker->progress = true;
        if (broker->options.on_delivery)
            broker->options.on_delivery(broker->options.data, &broker->frames.delivery);
        break;
    case FRAMES_RETURN:
        if (broker->options.on_return)
            broker->options.on_return(broker->options.data, &broker->frames.returned);
        break;
    }
}

/* Of a channel that we are about to close: what it still says is said of messages that are void. It
 * may be closed by the broker at the same time, which then waits for our close-ok instead. */
static void pass_over(struct broker *broker, const amqp_frame_t *frame)
{
    struct error no_room = {0};

    if (frame->frame_type != AMQP_FRAME_METHOD ||
        frame->payload.method.id != AMQP_CHANNEL_CLOSE_METHOD)
        return;
    broker->closing = false;
    if (encode_channel_close_ok(&broker->out, CHANNEL, &no_room))
        broker_fail(broker, &no_room, false);
}

/* Bytes that the kernel no longer has, so that the loop would sleep on them. */
static bool hidden(struct broker *broker)
{
    return amqp_frames_enqueued(broker->connection) || amqp_data_in_buffer(broker->connection) ||
           tls_pending(&broker->tls);
}

bool wire_read(struct broker *broker, bool readable)
{
    struct timeval at_once = {0};

    for (int i = 0; i < FRAMES_PER_TURN; i++) {
        struct error error = {0};
        amqp_frame_t frame;
        int status;

        if (!broker->connection || broker->lost || !(readable || hidden(broker)))
            return false;
        readable = false;
        status = amqp_simple_wait_frame_noblock(broker->connection, &frame, &at_once);
        if (status == AMQP_STATUS_TIMEOUT)
            return false;
        if (status) {
            reply_status(broker, status, "reading", &error);
            broker_fail(broker, &error, false);
            return false;
        }
        if (frame.channel == 0)
            take_connection_frame(broker, &frame);
        else if (frame.channel == CHANNEL && broker->state == BROKER_UP)
            take_channel_frame(broker, &frame);
        else if (frame.channel == CHANNEL && broker->closing)
            pass_over(broker, &frame);
        else if (frame.channel == CHANNEL_FENCE && broker->fence.state != FENCE_DOWN)
            fence_take(broker, &frame);
        else
            unexpected(broker, &frame);
        amqp_maybe_release_buffers_on_channel(broker->connection, frame.channel);
    }
    return true;
}

void wire_drop_queued(struct broker *broker)
{
    struct timeval at_once = {0};
    amqp_frame_t frame;

    while (!broker->lost && amqp_frames_enqueued(broker->connection) &&
           !amqp_simple_wait_frame_noblock(broker->connection, &frame, &at_once)) {
        if (frame.channel == 0)
            take_connection_frame(broker, &frame);
        else if (frame.channel == CHANNEL_FENCE)
            fence_take(broker, &frame);
        amqp_maybe_release_buffers_on_channel(broker->connection, frame.channel);
    }
}
