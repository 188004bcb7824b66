/* What encode.c writes, read back by rabbitmq-c. */
#include "outbox/amqp/encode.h"
#include "tests/unit/amqp/decoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_MAX 4096

static struct broker_text text_of(const char *text)
{
    return (struct broker_text){text, strlen(text)};
}

static void assert_bytes(amqp_bytes_t bytes, const char *text)
{
    assert_int_equal(bytes.len, strlen(text));
    if (bytes.len)
        assert_memory_equal(bytes.bytes, text, bytes.len);
}

static void expect_method(struct decoder *decoder, uint32_t id, int channel, amqp_frame_t *frame)
{
    assert_true(decoder_next(decoder, frame));
    assert_int_equal(frame->frame_type, AMQP_FRAME_METHOD);
    assert_int_equal(frame->channel, channel);
    assert_int_equal(frame->payload.method.id, id);
}

static void test_a_bare_message(void **state)
{
    const struct broker_message message = {.routing_key = text_of("key")};
    struct error error = {0};
    const amqp_basic_publish_t *publish;
    const amqp_basic_properties_t *properties;
    struct decoder decoder;
    amqp_frame_t frame = {0};
    struct buffer out;

    (void)state;
    buffer_init(&out, 0);
    assert_int_equal(encode_publish(&out, 7, FRAME_MAX, &message, &error), 0);
    decoder_init(&decoder, buffer_data(&out), buffer_length(&out), FRAME_MAX);
    expect_method(&decoder, AMQP_BASIC_PUBLISH_METHOD, 7, &frame);
    publish = frame.payload.method.decoded;
    assert_bytes(publish->exchange, "");
    assert_bytes(publish->routing_key, "key");
    assert_false(publish->mandatory);
    assert_false(publish->immediate);
    assert_int_equal(publish->ticket, 0);
    assert_true(decoder_next(&decoder, &frame));
    assert_int_equal(frame.frame_type, AMQP_FRAME_HEADER);
    assert_int_equal(frame.payload.properties.class_id, AMQP_BASIC_CLASS);
    assert_int_equal(frame.payload.properties.body_size, 0);
    properties = frame.payload.properties.decoded;
    assert_int_equal(properties->_flags, AMQP_BASIC_DELIVERY_MODE_FLAG);
    assert_int_equal(properties->delivery_mode, 1);
    assert_false(decoder_next(&decoder, &frame)); /* no body frame for no body */
    decoder_free(&decoder);
    buffer_free(&out);
}

static const struct broker_header six_headers[] = {
    {.name = {"text", 4}, .kind = BROKER_TEXT, .text = {"a value", 7}},
    {.name = {"int", 3}, .kind = BROKER_INT, .integer = INT64_MIN},
    {.name = {"real", 4}, .kind = BROKER_REAL, .real = -0.5},
    {.name = {"bool", 4}, .kind = BROKER_BOOL, .integer = 7},
    {.name = {"", 0}, .kind = BROKER_NULL},
    {.name = {"small", 5}, .kind = BROKER_INT, .integer = -3},
};

static void check_headers(amqp_table_t table)
{
    assert_int_equal(table.num_entries, 6);
    assert_bytes(table.entries[0].key, "text");
    assert_int_equal(table.entries[0].value.kind, AMQP_FIELD_KIND_UTF8);
    assert_bytes(table.entries[0].value.value.bytes, "a value");
    assert_bytes(table.entries[1].key, "int");
    assert_int_equal(table.entries[1].value.kind, AMQP_FIELD_KIND_I64);
    assert_true(table.entries[1].value.value.i64 == INT64_MIN);
    assert_int_equal(table.entries[2].value.kind, AMQP_FIELD_KIND_F64);
    assert_true(table.entries[2].value.value.f64 == -0.5);
    assert_int_equal(table.entries[3].value.kind, AMQP_FIELD_KIND_BOOLEAN);
    assert_true(table.entries[3].value.value.boolean);
    assert_bytes(table.entries[4].key, "");
    assert_int_equal(table.entries[4].value.kind, AMQP_FIELD_KIND_VOID);
    assert_int_equal(table.entries[5].value.kind, AMQP_FIELD_KIND_I32);
    assert_int_equal(table.entries[5].value.value.i32, -3);
}

static void test_a_message_with_everything(void **state)
{
    const struct broker_message message = {
        .exchange = text_of("an exchange"),
        .routing_key = text_of("a key"),
        .mandatory = true,
        .persistent = true,
        .message_id = text_of("the id"),
        .type = text_of("the type"),
        .content_type = text_of("text/plain"),
        .correlation_id = text_of("correlated"),
        .reply_to = text_of("answer here"),
        .app_id = text_of(""), /* empty is there; NULL is not */
        .timestamp_s = 1234567890123,
        .headers = six_headers,
        .header_count = 6,
        .body = "body",
        .body_bytes = 4,
    };
    struct error error = {0};
    const amqp_basic_publish_t *publish;
    const amqp_basic_properties_t *properties;
    struct decoder decoder;
    amqp_frame_t frame = {0};
    struct buffer out;

    (void)state;
    buffer_init(&out, 0);
    assert_int_equal(encode_publish(&out, 1, FRAME_MAX, &message, &error), 0);
    decoder_init(&decoder, buffer_data(&out), buffer_length(&out), FRAME_MAX);
    expect_method(&decoder, AMQP_BASIC_PUBLISH_METHOD, 1, &frame);
    publish = frame.payload.method.decoded;
    assert_bytes(publish->exchange, "an exchange");
    assert_bytes(publish->routing_key, "a key");
    assert_true(publish->mandatory);
    assert_true(decoder_next(&decoder, &frame));
    assert_int_equal(frame.payload.properties.body_size, 4);
    properties = frame.payload.properties.decoded;
    assert_int_equal(properties->_flags, AMQP_BASIC_DELIVERY_MODE_FLAG |
                                             AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TYPE_FLAG |
                                             AMQP_BASIC_CONTENT_TYPE_FLAG |
                                             AMQP_BASIC_CORRELATION_ID_FLAG |
                                             AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_APP_ID_FLAG |
                                             AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_HEADERS_FLAG);
    assert_int_equal(properties->delivery_mode, 2);
    assert_bytes(properties->message_id, "the id");
    assert_bytes(properties->type, "the type");
    assert_bytes(properties->content_type, "text/plain");
    assert_bytes(properties->correlation_id, "correlated");
    assert_bytes(properties->reply_to, "answer here");
    assert_bytes(properties->app_id, "");
    assert_true(properties->timestamp == 1234567890123);
    check_headers(properties->headers);
    assert_true(decoder_next(&decoder, &frame));
    assert_int_equal(frame.frame_type, AMQP_FRAME_BODY);
    assert_bytes(frame.payload.body_fragment, "body");
    assert_false(decoder_next(&decoder, &frame));
    decoder_free(&decoder);
    buffer_free(&out);
}

/* Around each multiple of what one frame carries. */
static void test_bodies_are_split(void **state)
{
    static const size_t slice = FRAME_MAX - ENCODE_FRAME_OVERHEAD;
    const size_t sizes[] = {1, slice - 1, slice, slice + 1, 2 * slice, 2 * slice + 1, 10 * slice};
    uint8_t *body = malloc(10 * slice);

    (void)state;
    assert_non_null(body);
    for (size_t i = 0; i < 10 * slice; i++)
        body[i] = (uint8_t)(i * 31 + i / 256);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct broker_message message = {.body = body, .body_bytes = sizes[i]};
        size_t got = 0, frames = 0;
        struct decoder decoder;
        amqp_frame_t frame = {0};
        struct buffer out;

        buffer_init(&out, 0);
        assert_int_equal(encode_publish(&out, 1, FRAME_MAX, &message, NULL), 0);
        decoder_init(&decoder, buffer_data(&out), buffer_length(&out), FRAME_MAX);
        expect_method(&decoder, AMQP_BASIC_PUBLISH_METHOD, 1, &frame);
        assert_true(decoder_next(&decoder, &frame));
        assert_int_equal(frame.payload.properties.body_size, sizes[i]);
        while (decoder_next(&decoder, &frame)) {
            assert_int_equal(frame.frame_type, AMQP_FRAME_BODY);
            assert_memory_equal(frame.payload.body_fragment.bytes, body + got,
                                frame.payload.body_fragment.len);
            got += frame.payload.body_fragment.len;
            frames++;
        }
        assert_int_equal(got, sizes[i]);
        assert_int_equal(frames, (sizes[i] + slice - 1) / slice);
        decoder_free(&decoder);
        buffer_free(&out);
    }
    free(body);
}

static void test_short_strings_have_a_limit(void **state)
{
    char text[BROKER_SHORT_STRING_BYTES_MAX + 1];
    const struct broker_text longest = {text, BROKER_SHORT_STRING_BYTES_MAX};
    const struct broker_text too_long = {text, BROKER_SHORT_STRING_BYTES_MAX + 1};
    struct broker_header header = {.kind = BROKER_NULL};
    struct broker_message message = {.headers = &header, .header_count = 1};
    struct broker_text *const places[] = {
        &message.exchange, &message.routing_key,  &message.message_id,
        &message.type,     &message.content_type, &message.correlation_id,
        &message.reply_to, &message.app_id,       &header.name,
    };
    struct buffer out;

    (void)state;
    memset(text, 'x', sizeof(text));
    buffer_init(&out, 0);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct error error = {0};

        *places[i] = too_long;
        assert_int_equal(encode_publish(&out, 1, FRAME_MAX, &message, &error), ERROR_LIMIT);
        assert_int_equal(error.retry, RETRY_POISON);
        assert_non_null(strstr(error.message, "256"));
        assert_int_equal(buffer_length(&out), 0);
        *places[i] = longest;
        assert_int_equal(encode_publish(&out, 1, FRAME_MAX, &message, &error), 0);
        buffer_clear(&out);
    }
    buffer_free(&out);
}

/* The header frame of a message may be as large as a frame, and no larger. */
static void test_headers_have_a_limit(void **state)
{
    static const size_t around = 2 + 2 + 8 + 2 + 1 /* delivery mode */ + 4 + 1 + 1 + 1 + 4;
    static const size_t fits = FRAME_MAX - ENCODE_FRAME_OVERHEAD - around;
    char *text = malloc(fits + 1);
    struct broker_header header = {.name = {"h", 1}, .kind = BROKER_TEXT, .text = {text, fits}};
    const struct broker_message message = {.headers = &header, .header_count = 1};
    struct error error = {0};
    struct decoder decoder;
    amqp_frame_t frame = {0};
    struct buffer out;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', fits + 1);
    buffer_init(&out, 0);
    assert_int_equal(encode_publish(&out, 1, FRAME_MAX, &message, &error), 0);
    decoder_init(&decoder, buffer_data(&out), buffer_length(&out), FRAME_MAX);
    expect_method(&decoder, AMQP_BASIC_PUBLISH_METHOD, 1, &frame);
    assert_true(decoder_next(&decoder, &frame));
    decoder_free(&decoder);
    buffer_clear(&out);
    header.text.bytes++;
    assert_int_equal(encode_publish(&out, 1, FRAME_MAX, &message, &error), ERROR_LIMIT);
    assert_int_equal(error.retry, RETRY_POISON);
    assert_int_equal(buffer_length(&out), 0);
    free(text);
    buffer_free(&out);
}

static void test_a_body_has_a_limit(void **state)
{
    const struct broker_message message = {.body = "", .body_bytes = ENCODE_BODY_BYTES_MAX + 1};
    struct error error = {0};
    struct buffer out;

    (void)state;
    buffer_init(&out, 0);
    assert_int_equal(encode_publish(&out, 1, FRAME_MAX, &message, &error), ERROR_LIMIT);
    assert_int_equal(error.retry, RETRY_POISON);
    buffer_free(&out);
}

static void test_what_is_not_a_message(void **state)
{
    struct error error = {0};
    struct decoder decoder;
    amqp_frame_t frame = {0};
    struct buffer out;

    (void)state;
    buffer_init(&out, 0);
    assert_int_equal(encode_ack(&out, 1, UINT64_MAX, true, &error), 0);
    assert_int_equal(encode_ack(&out, 1, 1, false, &error), 0);
    assert_int_equal(encode_reject(&out, 1, 5, &error), 0);
    assert_int_equal(encode_channel_close_ok(&out, 1, &error), 0);
    assert_int_equal(encode_connection_close_ok(&out, &error), 0);
    assert_int_equal(encode_heartbeat(&out, &error), 0);
    decoder_init(&decoder, buffer_data(&out), buffer_length(&out), FRAME_MAX);
    expect_method(&decoder, AMQP_BASIC_ACK_METHOD, 1, &frame);
    assert_true(((amqp_basic_ack_t *)frame.payload.method.decoded)->delivery_tag == UINT64_MAX);
    assert_true(((amqp_basic_ack_t *)frame.payload.method.decoded)->multiple);
    expect_method(&decoder, AMQP_BASIC_ACK_METHOD, 1, &frame);
    assert_false(((amqp_basic_ack_t *)frame.payload.method.decoded)->multiple);
    expect_method(&decoder, AMQP_BASIC_REJECT_METHOD, 1, &frame);
    assert_int_equal(((amqp_basic_reject_t *)frame.payload.method.decoded)->delivery_tag, 5);
    assert_false(((amqp_basic_reject_t *)frame.payload.method.decoded)->requeue);
    expect_method(&decoder, AMQP_CHANNEL_CLOSE_OK_METHOD, 1, &frame);
    expect_method(&decoder, AMQP_CONNECTION_CLOSE_OK_METHOD, 0, &frame);
    assert_true(decoder_next(&decoder, &frame));
    assert_int_equal(frame.frame_type, AMQP_FRAME_HEARTBEAT);
    assert_int_equal(frame.channel, 0);
    assert_false(decoder_next(&decoder, &frame));
    decoder_free(&decoder);
    buffer_free(&out);
}

/* Without room nothing is written, and what was in the buffer stays good. */
static void test_no_room(void **state)
{
    const struct broker_message message = {.body = "0123456789", .body_bytes = 10};
    struct error error = {0};
    struct decoder decoder;
    amqp_frame_t frame = {0};
    struct buffer out;

    (void)state;
    buffer_init(&out, 40);
    assert_int_equal(encode_heartbeat(&out, &error), 0);
    assert_int_equal(encode_publish(&out, 1, FRAME_MAX, &message, &error), ERROR_NO_MEMORY);
    assert_int_equal(error.retry, RETRY_LATER);
    assert_int_equal(encode_heartbeat(&out, &error), 0);
    decoder_init(&decoder, buffer_data(&out), buffer_length(&out), FRAME_MAX);
    assert_true(decoder_next(&decoder, &frame));
    assert_true(decoder_next(&decoder, &frame));
    assert_false(decoder_next(&decoder, &frame));
    decoder_free(&decoder);
    buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_bare_message),
        cmocka_unit_test(test_a_message_with_everything),
        cmocka_unit_test(test_bodies_are_split),
        cmocka_unit_test(test_short_strings_have_a_limit),
        cmocka_unit_test(test_headers_have_a_limit),
        cmocka_unit_test(test_a_body_has_a_limit),
        cmocka_unit_test(test_what_is_not_a_message),
        cmocka_unit_test(test_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
