/* The bytes of a broker, as rabbitmq-c takes them apart and frames.c puts them together.
 *
 * Held against a model of its own: a message is handed out only when its frames came in order, with
 * exactly the body that was announced. Frames too short for what they claim to be are left out:
 * rabbitmq-c 0.11 reads past their end, which is not ours to find. */
#include "outbox/amqp/frames.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FRAME_MAX 4096
#define START     7 /* type, channel, size */

struct model {
    enum { NOTHING, METHOD, HEADER } seen;
    uint64_t announced;
    uint8_t body[1 << 16];
    size_t have;
};

static bool too_short(const uint8_t *frame, size_t size)
{
    size_t payload;

    if (size < START)
        return true;
    payload = (size_t)frame[3] << 24 | (size_t)frame[4] << 16 | (size_t)frame[5] << 8 | frame[6];
    return (frame[0] == AMQP_FRAME_METHOD && payload < 4) ||
           (frame[0] == AMQP_FRAME_HEADER && payload < 14);
}

/* What the model makes of a frame: whether it is in order. */
static bool step(struct model *model, const amqp_frame_t *frame)
{
    switch (frame->frame_type) {
    case AMQP_FRAME_METHOD:
        if (model->seen != NOTHING)
            return false;
        if (frame->payload.method.id == AMQP_BASIC_DELIVER_METHOD ||
            frame->payload.method.id == AMQP_BASIC_RETURN_METHOD)
            model->seen = METHOD;
        return true;
    case AMQP_FRAME_HEADER:
        if (model->seen != METHOD || frame->payload.properties.class_id != AMQP_BASIC_CLASS ||
            frame->payload.properties.body_size > FRAMES_BODY_BYTES_MAX)
            return false;
        model->seen = HEADER;
        model->announced = frame->payload.properties.body_size;
        model->have = 0;
        return true;
    case AMQP_FRAME_BODY:
        if (model->seen != HEADER ||
            frame->payload.body_fragment.len > model->announced - model->have)
            return false;
        /* A fuzzer's input is no larger than this. */
        assert(model->have + frame->payload.body_fragment.len <= sizeof(model->body));
        memcpy(model->body + model->have, frame->payload.body_fragment.bytes,
               frame->payload.body_fragment.len);
        model->have += frame->payload.body_fragment.len;
        return true;
    default:
        return false;
    }
}

static void use(struct broker_text text)
{
    volatile char sum = 0;

    for (size_t i = 0; i < text.bytes; i++)
        sum = (char)(sum + text.text[i]);
}

static void check(struct model *model, const struct frames *frames, enum frames_event event)
{
    bool complete = model->seen == HEADER && model->have == model->announced;

    assert((event == FRAMES_DELIVERY || event == FRAMES_RETURN) == complete);
    if (event == FRAMES_DELIVERY) {
        const struct broker_delivery *d = &frames->delivery;

        assert(d->body.bytes == model->announced);
        assert(!d->body.bytes || !memcmp(d->body.text, model->body, d->body.bytes));
        use(d->exchange);
        use(d->routing_key);
        use(d->message_id);
        use(d->type);
        use(d->content_type);
        use(d->correlation_id);
        use(d->reply_to);
    } else if (event == FRAMES_RETURN) {
        use(frames->returned.text);
        use(frames->returned.exchange);
        use(frames->returned.routing_key);
        use(frames->returned.message_id);
    }
    if (complete)
        model->seen = NOTHING;
}

static amqp_connection_state_t open_connection(void)
{
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_bytes_t hello = {8, (char[]){'A', 'M', 'Q', 'P', 0, 0, 9, 1}};
    amqp_frame_t frame;

    if (!connection || amqp_handle_input(connection, hello, &frame) != 8 ||
        amqp_tune_connection(connection, 0, FRAME_MAX, 0))
        abort();
    return connection;
}

static void walk(amqp_connection_state_t connection, struct frames *frames, struct model *model,
                 uint8_t *bytes, size_t size)
{
    while (!too_short(bytes, size)) {
        amqp_bytes_t input = {size, bytes};
        enum frames_event event;
        amqp_frame_t frame;
        int taken = amqp_handle_input(connection, input, &frame), r;
        bool in_order;

        if (taken <= 0)
            return;
        bytes += taken;
        size -= (size_t)taken;
        if (!frame.frame_type || frame.frame_type == AMQP_FRAME_HEARTBEAT)
            continue;
        in_order = step(model, &frame);
        r = frames_feed(frames, &frame, &event, NULL);
        assert(in_order == !r);
        if (r)
            return; /* the session hangs up */
        check(model, frames, event);
        amqp_maybe_release_buffers_on_channel(connection, frame.channel);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model model;
    amqp_connection_state_t connection;
    struct frames frames;
    uint8_t *bytes;

    if (size > sizeof(model.body))
        return 0;
    bytes = malloc(size + 1);
    if (!bytes)
        return 0;
    if (size)
        memcpy(bytes, data, size);
    model.seen = NOTHING;
    connection = open_connection();
    frames_init(&frames);
    walk(connection, &frames, &model, bytes, size);
    frames_free(&frames);
    amqp_destroy_connection(connection);
    free(bytes);
    return 0;
}
