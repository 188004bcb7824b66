#include "outbox/amqp/frames.h"

#include <assert.h>
#include <string.h>

enum {
    STRING_EXCHANGE,
    STRING_KEY,
    STRING_TEXT,
    STRING_ID,
    STRING_TYPE,
    STRING_CONTENT_TYPE,
    STRING_CORRELATION,
    STRING_REPLY_TO
};

void frames_init(struct frames *frames)
{
    memset(frames, 0, sizeof(*frames));
    buffer_init(&frames->body, FRAMES_BODY_BYTES_MAX);
}

void frames_reset(struct frames *frames)
{
    frames->state = FRAMES_IDLE;
    if (frames->body.capacity > FRAMES_BODY_BYTES_KEPT)
        buffer_free(&frames->body);
    buffer_clear(&frames->body);
}

void frames_free(struct frames *frames)
{
    frames_reset(frames);
    buffer_free(&frames->body);
}

static struct broker_text keep(struct frames *frames, int which, amqp_bytes_t bytes)
{
    char *to = frames->strings[which];

    /* A short string on the wire has one byte of length; rabbitmq-c cannot hand out a longer one.
     */
    assert(bytes.len <= BROKER_SHORT_STRING_BYTES_MAX);
    if (bytes.len)
        memcpy(to, bytes.bytes, bytes.len);
    return (struct broker_text){to, bytes.len};
}

static int unexpected(const char *what, struct error *error)
{
    return error_set(error, ERROR_PROTOCOL, RETRY_RECONNECT, "%s", what);
}

static void start_delivery(struct frames *frames, const amqp_basic_deliver_t *method)
{
    frames->kind = FRAMES_DELIVERY;
    frames->delivery = (struct broker_delivery){
        .tag = method->delivery_tag,
        .redelivered = method->redelivered,
        .exchange = keep(frames, STRING_EXCHANGE, method->exchange),
        .routing_key = keep(frames, STRING_KEY, method->routing_key),
    };
}

static void start_return(struct frames *frames, const amqp_basic_return_t *method)
{
    frames->kind = FRAMES_RETURN;
    frames->returned = (struct broker_return){
        .code = method->reply_code,
        .text = keep(frames, STRING_TEXT, method->reply_text),
        .exchange = keep(frames, STRING_EXCHANGE, method->exchange),
        .routing_key = keep(frames, STRING_KEY, method->routing_key),
    };
}

static int feed_method(struct frames *frames, const amqp_method_t *method,
                       enum frames_event *ret_event, struct error *error)
{
    if (frames->state != FRAMES_IDLE)
        return unexpected("a method in the middle of a message", error);
    if (method->id == AMQP_BASIC_DELIVER_METHOD) {
        start_delivery(frames, method->decoded);
    } else if (method->id == AMQP_BASIC_RETURN_METHOD) {
        start_return(frames, method->decoded);
    } else {
        *ret_event = FRAMES_METHOD;
        return 0;
    }
    frames->state = FRAMES_WANT_HEADER;
    *ret_event = FRAMES_MORE;
    return 0;
}

static void keep_properties(struct frames *frames, const amqp_basic_properties_t *p)
{
    struct broker_delivery *d = &frames->delivery;

    if (frames->kind == FRAMES_RETURN) {
        if (p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG)
            frames->returned.message_id = keep(frames, STRING_ID, p->message_id);
        return;
    }
    if (p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG)
        d->message_id = keep(frames, STRING_ID, p->message_id);
    if (p->_flags & AMQP_BASIC_TYPE_FLAG)
        d->type = keep(frames, STRING_TYPE, p->type);
    if (p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG)
        d->content_type = keep(frames, STRING_CONTENT_TYPE, p->content_type);
    if (p->_flags & AMQP_BASIC_CORRELATION_ID_FLAG)
        d->correlation_id = keep(frames, STRING_CORRELATION, p->correlation_id);
    if (p->_flags & AMQP_BASIC_REPLY_TO_FLAG)
        d->reply_to = keep(frames, STRING_REPLY_TO, p->reply_to);
}

static void complete(struct frames *frames, const void *body, size_t body_bytes,
                     enum frames_event *ret_event)
{
    frames->delivery.body = (struct broker_text){body, body_bytes};
    frames->state = FRAMES_IDLE;
    *ret_event = frames->kind;
}

static int feed_header(struct frames *frames, const amqp_frame_t *frame,
                       enum frames_event *ret_event, struct error *error)
{
    uint64_t body_bytes = frame->payload.properties.body_size;

    if (frames->state != FRAMES_WANT_HEADER)
        return unexpected("a content header without its method", error);
    if (frame->payload.properties.class_id != AMQP_BASIC_CLASS)
        return unexpected("a content header of an unknown class", error);
    if (body_bytes > FRAMES_BODY_BYTES_MAX)
        return unexpected("a message larger than any RabbitMQ carries", error);
    keep_properties(frames, frame->payload.properties.decoded);
    frames_reset(frames);
    frames->body_bytes = body_bytes;
    frames->body_got = 0;
    if (!body_bytes) {
        complete(frames, "", 0, ret_event);
        return 0;
    }
    frames->state = FRAMES_WANT_BODY;
    *ret_event = FRAMES_MORE;
    return 0;
}

static int feed_body(struct frames *frames, amqp_bytes_t part, enum frames_event *ret_event,
                     struct error *error)
{
    if (frames->state != FRAMES_WANT_BODY)
        return unexpected("a body without its header", error);
    if (part.len > frames->body_bytes - frames->body_got)
        return unexpected("a body longer than announced", error);
    if (part.len == frames->body_bytes) {
        complete(frames, part.bytes, part.len, ret_event);
        return 0;
    }
    frames->body_got += part.len;
    /* Nobody asks for the body of a returned message: whoever sent it has it. */
    if (frames->kind == FRAMES_DELIVERY)
        buffer_append(&frames->body, part.bytes, part.len);
    if (frames->body.failed)
        return error_set(error, ERROR_NO_MEMORY, RETRY_RECONNECT,
                         "no memory for a message of %llu bytes",
                         (unsigned long long)frames->body_bytes);
    if (frames->body_got == frames->body_bytes)
        complete(frames, buffer_data(&frames->body), buffer_length(&frames->body), ret_event);
    else
        *ret_event = FRAMES_MORE;
    return 0;
}

int frames_feed(struct frames *frames, const amqp_frame_t *frame, enum frames_event *ret_event,
                struct error *error)
{
    switch (frame->frame_type) {
    case AMQP_FRAME_METHOD:
        return feed_method(frames, &frame->payload.method, ret_event, error);
    case AMQP_FRAME_HEADER:
        return feed_header(frames, frame, ret_event, error);
    case AMQP_FRAME_BODY:
        return feed_body(frames, frame->payload.body_fragment, ret_event, error);
    default:
        return unexpected("a frame of an unknown type", error);
    }
}
