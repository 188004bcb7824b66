/* frames.h: deliveries and returned messages put together from METHOD, HEADER and BODY frames.
 *
 * The frames of one message come in this order and nothing of the same channel comes between them
 * (specification 4.2.6); anything else is ERROR_PROTOCOL. What the views in `struct frames` point
 * to is good until the next frames_feed: the strings are copied, and so is a body that comes in
 * several frames; a body in one frame is not copied, so use it before the frame is released.
 *
 * Limits: a body of FRAMES_BODY_BYTES_MAX; memory grows with what has come, not with the size the
 * peer announces. */
#ifndef SAGAPOST_AMQP_FRAMES_H
#define SAGAPOST_AMQP_FRAMES_H

#include "outbox/amqp/broker.h"
#include "outbox/amqp/compat.h"
#include "outbox/runtime/buffer.h"

#define FRAMES_BODY_BYTES_MAX  ((uint64_t)512 << 20) /* RabbitMQ's own limit of a message */
#define FRAMES_BODY_BYTES_KEPT ((size_t)1 << 20)     /* a larger buffer is given back */

enum frames_event {
    FRAMES_MORE,     /* a part of a message; nothing to do yet */
    FRAMES_METHOD,   /* a method without content: the caller's */
    FRAMES_DELIVERY, /* `delivery` is complete */
    FRAMES_RETURN,   /* `returned` is complete */
};

struct frames {
    enum { FRAMES_IDLE, FRAMES_WANT_HEADER, FRAMES_WANT_BODY } state;
    enum frames_event kind; /* of the message in hand */
    uint64_t body_bytes;    /* announced */
    uint64_t body_got;
    struct broker_delivery delivery;
    struct broker_return returned;
    struct buffer body;
    /* exchange, routing key, reply text, message-id, type, content-type, correlation-id, reply-to:
     * each a short string */
    char strings[8][BROKER_SHORT_STRING_BYTES_MAX];
};

void frames_init(struct frames *frames);
void frames_reset(struct frames *frames); /* the channel is gone, and half a message with it */
void frames_free(struct frames *frames);
int frames_feed(struct frames *frames, const amqp_frame_t *frame, enum frames_event *ret_event,
                struct error *error) MUST_CHECK;

#endif
