/* encode.h: AMQP 0-9-1 frames, written straight into the buffer that is sent.
 *
 * A publish is a METHOD frame, a HEADER frame and as many BODY frames as frame_max asks for
 * (section 2.3.5 of the specification); writing them here, and sending many messages with one
 * send(), is what makes the publisher cheap. Everything is checked and measured before the first
 * byte is written: a function either appends whole frames or leaves the buffer as it was.
 *
 * No rabbitmq-c in here: it is pure, and tested by decoding with rabbitmq-c. */
#ifndef SAGAPOST_AMQP_ENCODE_H
#define SAGAPOST_AMQP_ENCODE_H

#include "outbox/amqp/broker.h"
#include "outbox/runtime/buffer.h"

#define ENCODE_FRAME_OVERHEAD 8 /* type, channel, size in front; the end byte */

/* RabbitMQ itself refuses more (max_message_size has this as its own limit). */
#define ENCODE_BODY_BYTES_MAX ((size_t)512 << 20)

/* RETRY_POISON: a short string over 255 bytes, headers that do not fit into one frame, a body over
 * ENCODE_BODY_BYTES_MAX. */
int encode_publish(struct buffer *out, uint16_t channel, size_t frame_max,
                   const struct broker_message *message, struct error *error) MUST_CHECK;

/* A method whose arguments (a frame at most) are encoded already. */
int encode_method(struct buffer *out, uint16_t channel, uint32_t method, const void *arguments,
                  size_t argument_bytes, struct error *error) MUST_CHECK;
int encode_ack(struct buffer *out, uint16_t channel, uint64_t tag, bool multiple,
               struct error *error) MUST_CHECK;
int encode_reject(struct buffer *out, uint16_t channel, uint64_t tag,
                  struct error *error) MUST_CHECK; /* without requeue */
int encode_channel_close_ok(struct buffer *out, uint16_t channel, struct error *error) MUST_CHECK;
int encode_connection_close_ok(struct buffer *out, struct error *error) MUST_CHECK;
int encode_heartbeat(struct buffer *out, struct error *error) MUST_CHECK;

#endif
