#include "outbox/amqp/encode.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

/* Specification 4.2.3, and the numbers of its XML. */
#define FRAME_METHOD    1
#define FRAME_HEADER    2
#define FRAME_BODY      3
#define FRAME_HEARTBEAT 8
#define FRAME_END       0xce

#define CLASS_BASIC         60
#define CONNECTION_CLOSE_OK 0x000a0033u
#define CHANNEL_CLOSE_OK    0x00140029u
#define BASIC_PUBLISH       0x003c0028u
#define BASIC_ACK           0x003c0050u
#define BASIC_REJECT        0x003c005au

/* Property flags of the basic class, in the order in which the properties are written. */
#define FLAG_CONTENT_TYPE   (1u << 15)
#define FLAG_HEADERS        (1u << 13)
#define FLAG_DELIVERY_MODE  (1u << 12)
#define FLAG_CORRELATION_ID (1u << 10)
#define FLAG_REPLY_TO       (1u << 9)
#define FLAG_MESSAGE_ID     (1u << 7)
#define FLAG_TIMESTAMP      (1u << 6)
#define FLAG_TYPE           (1u << 5)
#define FLAG_APP_ID         (1u << 3)

static uint8_t *put8(uint8_t *at, unsigned value)
{
    *at = (uint8_t)value;
    return at + 1;
}

static uint8_t *put16(uint8_t *at, unsigned value)
{
    uint16_t big = htobe16((uint16_t)value);

    memcpy(at, &big, sizeof(big));
    return at + sizeof(big);
}

static uint8_t *put32(uint8_t *at, size_t value)
{
    uint32_t big = htobe32((uint32_t)value);

    assert(value <= UINT32_MAX);
    memcpy(at, &big, sizeof(big));
    return at + sizeof(big);
}

static uint8_t *put64(uint8_t *at, uint64_t value)
{
    uint64_t big = htobe64(value);

    memcpy(at, &big, sizeof(big));
    return at + sizeof(big);
}

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t count)
{
    if (count)
        memcpy(at, bytes, count);
    return at + count;
}

static uint8_t *put_short_string(uint8_t *at, struct broker_text text)
{
    assert(text.bytes <= BROKER_SHORT_STRING_BYTES_MAX);
    return put_bytes(put8(at, (unsigned)text.bytes), text.text, text.bytes);
}

static uint8_t *put_frame_start(uint8_t *at, unsigned type, uint16_t channel, size_t payload_bytes)
{
    return put32(put16(put8(at, type), channel), payload_bytes);
}

static uint8_t *put_method_start(uint8_t *at, uint16_t channel, uint32_t method,
                                 size_t argument_bytes)
{
    return put32(put_frame_start(at, FRAME_METHOD, channel, 4 + argument_bytes), method);
}

static int no_room(struct buffer *out, struct error *error)
{
    out->failed = false; /* what is in it is whole frames and stays good */
    return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for frames to RabbitMQ");
}

/* The narrow kind where it does: clients that mistake the wide one for unsigned (pika) read it
 * right. */
static bool fits_32_bits(int64_t integer)
{
    return integer >= INT32_MIN && integer <= INT32_MAX;
}

static size_t header_value_bytes(const struct broker_header *header)
{
    switch (header->kind) {
    case BROKER_TEXT:
        return 4 + header->text.bytes;
    case BROKER_INT:
        return fits_32_bits(header->integer) ? 4 : 8;
    case BROKER_REAL:
        return 8;
    case BROKER_BOOL:
        return 1;
    case BROKER_NULL:
        break;
    }
    return 0;
}

static size_t headers_bytes(const struct broker_message *message)
{
    size_t bytes = 0;

    for (int i = 0; i < message->header_count; i++)
        bytes += 1 + message->headers[i].name.bytes + 1 + header_value_bytes(&message->headers[i]);
    return bytes;
}

/* Field kinds as RabbitMQ reads them (https://www.rabbitmq.com/amqp-0-9-1-errata.html, section 3).
 */
static uint8_t *put_header(uint8_t *at, const struct broker_header *header)
{
    uint64_t bits;

    at = put_short_string(at, header->name);
    switch (header->kind) {
    case BROKER_TEXT:
        at = put32(put8(at, 'S'), header->text.bytes);
        return put_bytes(at, header->text.text, header->text.bytes);
    case BROKER_INT:
        if (fits_32_bits(header->integer))
            return put32(put8(at, 'I'), (uint32_t)header->integer);
        return put64(put8(at, 'l'), (uint64_t)header->integer);
    case BROKER_REAL:
        memcpy(&bits, &header->real, sizeof(bits));
        return put64(put8(at, 'd'), bits);
    case BROKER_BOOL:
        return put8(put8(at, 't'), header->integer != 0);
    case BROKER_NULL:
        break;
    }
    return put8(at, 'V');
}

static int check_short(struct broker_text text, const char *what, struct error *error)
{
    if (text.bytes <= BROKER_SHORT_STRING_BYTES_MAX)
        return 0;
    return error_set(error, ERROR_LIMIT, RETRY_POISON, "%s has %zu bytes; AMQP carries at most %d",
                     what, text.bytes, BROKER_SHORT_STRING_BYTES_MAX);
}

static int check_message(const struct broker_message *m, struct error *error)
{
    int r = check_short(m->exchange, "exchange", error);

    if (!r)
        r = check_short(m->routing_key, "routing key", error);
    if (!r)
        r = check_short(m->message_id, "message-id", error);
    if (!r)
        r = check_short(m->type, "type", error);
    if (!r)
        r = check_short(m->content_type, "content-type", error);
    if (!r)
        r = check_short(m->correlation_id, "correlation-id", error);
    if (!r)
        r = check_short(m->reply_to, "reply-to", error);
    if (!r)
        r = check_short(m->app_id, "app-id", error);
    for (int i = 0; !r && i < m->header_count; i++)
        r = check_short(m->headers[i].name, "the name of a header", error);
    if (!r && m->body_bytes > ENCODE_BODY_BYTES_MAX)
        r = error_set(error, ERROR_LIMIT, RETRY_POISON,
                      "the body has %zu bytes; RabbitMQ carries at most %zu", m->body_bytes,
                      ENCODE_BODY_BYTES_MAX);
    return r;
}

static unsigned property_flags(const struct broker_message *m)
{
    unsigned flags = FLAG_DELIVERY_MODE;

    if (m->content_type.text)
        flags |= FLAG_CONTENT_TYPE;
    if (m->header_count)
        flags |= FLAG_HEADERS;
    if (m->correlation_id.text)
        flags |= FLAG_CORRELATION_ID;
    if (m->reply_to.text)
        flags |= FLAG_REPLY_TO;
    if (m->message_id.text)
        flags |= FLAG_MESSAGE_ID;
    if (m->timestamp_s)
        flags |= FLAG_TIMESTAMP;
    if (m->type.text)
        flags |= FLAG_TYPE;
    if (m->app_id.text)
        flags |= FLAG_APP_ID;
    return flags;
}

static size_t short_bytes(struct broker_text text)
{
    return text.text ? 1 + text.bytes : 0;
}

/* Class, weight, body size, flags, and the properties themselves. */
static size_t properties_bytes(const struct broker_message *m, size_t table_bytes)
{
    return 2 + 2 + 8 + 2 + 1 /* delivery mode */ + (m->header_count ? 4 + table_bytes : 0) +
           (m->timestamp_s ? 8 : 0) + short_bytes(m->content_type) +
           short_bytes(m->correlation_id) + short_bytes(m->reply_to) + short_bytes(m->message_id) +
           short_bytes(m->type) + short_bytes(m->app_id);
}

static uint8_t *put_properties(uint8_t *at, const struct broker_message *m, size_t table_bytes)
{
    at = put16(put16(at, CLASS_BASIC), 0);
    at = put16(put64(at, m->body_bytes), property_flags(m));
    if (m->content_type.text)
        at = put_short_string(at, m->content_type);
    if (m->header_count) {
        at = put32(at, table_bytes);
        for (int i = 0; i < m->header_count; i++)
            at = put_header(at, &m->headers[i]);
    }
    at = put8(at, m->persistent ? 2 : 1);
    if (m->correlation_id.text)
        at = put_short_string(at, m->correlation_id);
    if (m->reply_to.text)
        at = put_short_string(at, m->reply_to);
    if (m->message_id.text)
        at = put_short_string(at, m->message_id);
    if (m->timestamp_s)
        at = put64(at, (uint64_t)m->timestamp_s);
    if (m->type.text)
        at = put_short_string(at, m->type);
    if (m->app_id.text)
        at = put_short_string(at, m->app_id);
    return at;
}

static uint8_t *put_body(uint8_t *at, uint16_t channel, size_t slice_max, const void *body,
                         size_t body_bytes)
{
    const uint8_t *from = body;

    while (body_bytes) {
        size_t slice = body_bytes < slice_max ? body_bytes : slice_max;

        at = put_frame_start(at, FRAME_BODY, channel, slice);
        at = put8(put_bytes(at, from, slice), FRAME_END);
        from += slice;
        body_bytes -= slice;
    }
    return at;
}

int encode_publish(struct buffer *out, uint16_t channel, size_t frame_max,
                   const struct broker_message *message, struct error *error)
{
    size_t slice_max = frame_max - ENCODE_FRAME_OVERHEAD;
    size_t method = 4 + 2 + 1 + message->exchange.bytes + 1 + message->routing_key.bytes + 1;
    size_t table = headers_bytes(message), properties, slices, total;
    uint8_t *start, *at;
    int r = check_message(message, error);

    assert(frame_max >= 4096); /* the least a peer may ask for (specification 4.2.3) */
    if (r)
        return r;
    properties = properties_bytes(message, table);
    if (properties > slice_max)
        return error_set(error, ERROR_LIMIT, RETRY_POISON,
                         "properties and headers take %zu bytes; a frame of this connection "
                         "carries at most %zu",
                         properties, slice_max);
    slices = (message->body_bytes + slice_max - 1) / slice_max;
    total = method + properties + message->body_bytes + (2 + slices) * ENCODE_FRAME_OVERHEAD;
    start = at = buffer_reserve(out, total);
    if (!start)
        return no_room(out, error);

    at = put16(put_method_start(at, channel, BASIC_PUBLISH, method - 4), 0);
    at = put_short_string(put_short_string(at, message->exchange), message->routing_key);
    at = put8(put8(at, message->mandatory), FRAME_END);
    at = put_frame_start(at, FRAME_HEADER, channel, properties);
    at = put8(put_properties(at, message, table), FRAME_END);
    at = put_body(at, channel, slice_max, message->body, message->body_bytes);
    assert((size_t)(at - start) == total);
    buffer_filled(out, total);
    return 0;
}

static int put_tag_method(struct buffer *out, uint16_t channel, uint32_t method, uint64_t tag,
                          bool bit, struct error *error)
{
    uint8_t *at = buffer_reserve(out, ENCODE_FRAME_OVERHEAD + 4 + 9);

    if (!at)
        return no_room(out, error);
    at = put64(put_method_start(at, channel, method, 9), tag);
    put8(put8(at, bit), FRAME_END);
    buffer_filled(out, ENCODE_FRAME_OVERHEAD + 4 + 9);
    return 0;
}

int encode_method(struct buffer *out, uint16_t channel, uint32_t method, const void *arguments,
                  size_t argument_bytes, struct error *error)
{
    uint8_t *at = buffer_reserve(out, ENCODE_FRAME_OVERHEAD + 4 + argument_bytes);

    if (!at)
        return no_room(out, error);
    at = put_method_start(at, channel, method, argument_bytes);
    put8(put_bytes(at, arguments, argument_bytes), FRAME_END);
    buffer_filled(out, ENCODE_FRAME_OVERHEAD + 4 + argument_bytes);
    return 0;
}

int encode_ack(struct buffer *out, uint16_t channel, uint64_t tag, bool multiple,
               struct error *error)
{
    return put_tag_method(out, channel, BASIC_ACK, tag, multiple, error);
}

int encode_reject(struct buffer *out, uint16_t channel, uint64_t tag, struct error *error)
{
    return put_tag_method(out, channel, BASIC_REJECT, tag, false, error);
}

int encode_channel_close_ok(struct buffer *out, uint16_t channel, struct error *error)
{
    return encode_method(out, channel, CHANNEL_CLOSE_OK, NULL, 0, error);
}

int encode_connection_close_ok(struct buffer *out, struct error *error)
{
    return encode_method(out, 0, CONNECTION_CLOSE_OK, NULL, 0, error);
}

int encode_heartbeat(struct buffer *out, struct error *error)
{
    uint8_t *at = buffer_reserve(out, ENCODE_FRAME_OVERHEAD);

    if (!at)
        return no_room(out, error);
    put8(put_frame_start(at, FRAME_HEARTBEAT, 0, 0), FRAME_END);
    buffer_filled(out, ENCODE_FRAME_OVERHEAD);
    return 0;
}
