#include "outbox/amqp/frames.h"
#include "tests/unit/amqp/cmocka_with.h"

#include <stdlib.h>
#include <string.h>

static amqp_basic_deliver_t deliver = {.delivery_tag = 9, .redelivered = 1};
static amqp_basic_return_t returned = {.reply_code = 312};
static amqp_basic_properties_t properties;

static int setup(void **state)
{
    struct frames *frames = malloc(sizeof(*frames));

    assert_non_null(frames);
    frames_init(frames);
    *state = frames;
    deliver.exchange = amqp_cstring_bytes("exchange");
    deliver.routing_key = amqp_cstring_bytes("key");
    returned.exchange = amqp_cstring_bytes("exchange");
    returned.routing_key = amqp_cstring_bytes("key");
    returned.reply_text = amqp_cstring_bytes("NO_ROUTE");
    properties = (amqp_basic_properties_t){
        ._flags = AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_REPLY_TO_FLAG |
                  AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_CONTENT_TYPE_FLAG,
        .message_id = amqp_cstring_bytes("id"),
        .type = amqp_cstring_bytes("type"),
        .reply_to = amqp_cstring_bytes("reply"),
        .correlation_id = amqp_cstring_bytes("correlation"),
        .content_type = amqp_cstring_bytes("text/plain"),
    };
    return 0;
}

static int teardown(void **state)
{
    frames_free(*state);
    free(*state);
    return 0;
}

static amqp_frame_t method(amqp_method_number_t id, void *decoded)
{
    return (amqp_frame_t){.frame_type = AMQP_FRAME_METHOD,
                          .channel = 1,
                          .payload.method = {.id = id, .decoded = decoded}};
}

static amqp_frame_t header(uint64_t body_bytes)
{
    amqp_frame_t frame = {.frame_type = AMQP_FRAME_HEADER, .channel = 1};

    frame.payload.properties.class_id = AMQP_BASIC_CLASS;
    frame.payload.properties.body_size = body_bytes;
    frame.payload.properties.decoded = &properties;
    return frame;
}

static amqp_frame_t body(const char *text)
{
    return (amqp_frame_t){.frame_type = AMQP_FRAME_BODY,
                          .channel = 1,
                          .payload.body_fragment = amqp_cstring_bytes(text)};
}

static void expect(struct frames *frames, amqp_frame_t frame, enum frames_event expected)
{
    struct error error = {0};
    enum frames_event event;

    if (frames_feed(frames, &frame, &event, &error))
        fail_msg("%s", error.message);
    assert_int_equal(event, expected);
}

static void refuse(struct frames *frames, amqp_frame_t frame)
{
    struct error error = {0};
    enum frames_event event;

    assert_int_equal(frames_feed(frames, &frame, &event, &error), ERROR_PROTOCOL);
    assert_int_equal(error.retry, RETRY_RECONNECT);
}

static void assert_text(struct broker_text text, const char *expected)
{
    assert_non_null(text.text);
    assert_int_equal(text.bytes, strlen(expected));
    assert_memory_equal(text.text, expected, text.bytes);
}

static void check_delivery(const struct broker_delivery *d, const char *text)
{
    assert_int_equal(d->tag, 9);
    assert_true(d->redelivered);
    assert_text(d->exchange, "exchange");
    assert_text(d->routing_key, "key");
    assert_text(d->message_id, "id");
    assert_text(d->type, "type");
    assert_text(d->reply_to, "reply");
    assert_text(d->correlation_id, "correlation");
    assert_text(d->content_type, "text/plain");
    assert_text(d->body, text);
}

static void test_a_delivery_in_one_body_frame(void **state)
{
    struct frames *frames = *state;

    expect(frames, method(AMQP_BASIC_DELIVER_METHOD, &deliver), FRAMES_MORE);
    expect(frames, header(5), FRAMES_MORE);
    expect(frames, body("hello"), FRAMES_DELIVERY);
    check_delivery(&frames->delivery, "hello");
    assert_int_equal(frames->body.capacity, 0); /* nothing was copied */
}

static void test_a_delivery_in_many(void **state)
{
    struct frames *frames = *state;

    for (int i = 0; i < 3; i++) {
        char part[] = "he";

        expect(frames, method(AMQP_BASIC_DELIVER_METHOD, &deliver), FRAMES_MORE);
        expect(frames, header(5), FRAMES_MORE);
        expect(frames, body(part), FRAMES_MORE);
        memset(part, 0, sizeof(part)); /* rabbitmq-c has used the frame's memory again */
        expect(frames, body(""), FRAMES_MORE);
        expect(frames, body("llo"), FRAMES_DELIVERY);
        check_delivery(&frames->delivery, "hello");
    }
}

static void test_no_body_and_no_properties(void **state)
{
    struct frames *frames = *state;

    properties._flags = 0;
    expect(frames, method(AMQP_BASIC_DELIVER_METHOD, &deliver), FRAMES_MORE);
    expect(frames, header(0), FRAMES_DELIVERY);
    assert_text(frames->delivery.body, "");
    assert_null(frames->delivery.message_id.text);
    assert_null(frames->delivery.type.text);
    assert_null(frames->delivery.reply_to.text);
}

static void test_a_return(void **state)
{
    struct frames *frames = *state;

    expect(frames, method(AMQP_BASIC_RETURN_METHOD, &returned), FRAMES_MORE);
    expect(frames, header(5), FRAMES_MORE);
    expect(frames, body("he"), FRAMES_MORE);
    expect(frames, body("llo"), FRAMES_RETURN);
    assert_int_equal(frames->returned.code, 312);
    assert_text(frames->returned.text, "NO_ROUTE");
    assert_text(frames->returned.exchange, "exchange");
    assert_text(frames->returned.routing_key, "key");
    assert_text(frames->returned.message_id, "id");
    expect(frames, method(AMQP_BASIC_ACK_METHOD, NULL), FRAMES_METHOD);
}

static void test_strings_outlive_their_frame(void **state)
{
    struct frames *frames = *state;
    char key[] = "a routing key";

    deliver.routing_key = amqp_cstring_bytes(key);
    expect(frames, method(AMQP_BASIC_DELIVER_METHOD, &deliver), FRAMES_MORE);
    memset(key, 0, sizeof(key));
    expect(frames, header(0), FRAMES_DELIVERY);
    assert_text(frames->delivery.routing_key, "a routing key");
}

static void test_what_is_out_of_order(void **state)
{
    struct frames *frames = *state;

    refuse(frames, header(5));
    refuse(frames, body("hello"));
    expect(frames, method(AMQP_BASIC_DELIVER_METHOD, &deliver), FRAMES_MORE);
    refuse(frames, method(AMQP_BASIC_ACK_METHOD, NULL));
    refuse(frames, method(AMQP_BASIC_DELIVER_METHOD, &deliver));
    refuse(frames, body("hello"));
    expect(frames, header(5), FRAMES_MORE);
    refuse(frames, header(5));
    refuse(frames, method(AMQP_BASIC_ACK_METHOD, NULL));
    refuse(frames, body("longer than five"));
    expect(frames, body("hell"), FRAMES_MORE);
    refuse(frames, body("oo"));
    frames_reset(frames);
    refuse(frames, body("o"));
}

static void test_what_makes_no_sense(void **state)
{
    struct frames *frames = *state;
    amqp_frame_t frame = header(1);

    refuse(frames, (amqp_frame_t){.frame_type = AMQP_FRAME_HEARTBEAT, .channel = 1});
    refuse(frames, (amqp_frame_t){.frame_type = 'x', .channel = 1});
    expect(frames, method(AMQP_BASIC_DELIVER_METHOD, &deliver), FRAMES_MORE);
    frame.payload.properties.class_id = AMQP_TX_CLASS;
    refuse(frames, frame);
    refuse(frames, header(FRAMES_BODY_BYTES_MAX + 1));
    refuse(frames, header(UINT64_MAX));
    /* An announcement alone costs no memory. */
    expect(frames, header(FRAMES_BODY_BYTES_MAX), FRAMES_MORE);
    expect(frames, body("hello"), FRAMES_MORE);
    assert_true(frames->body.capacity < 4096);
}

static void test_a_large_buffer_is_given_back(void **state)
{
    struct frames *frames = *state;
    size_t bytes = FRAMES_BODY_BYTES_KEPT;
    char *half = malloc(bytes + 1);

    assert_non_null(half);
    memset(half, 'x', bytes);
    half[bytes] = 0;
    expect(frames, method(AMQP_BASIC_DELIVER_METHOD, &deliver), FRAMES_MORE);
    expect(frames, header(2 * bytes), FRAMES_MORE);
    expect(frames, body(half), FRAMES_MORE);
    expect(frames, body(half), FRAMES_DELIVERY);
    assert_int_equal(frames->delivery.body.bytes, 2 * bytes);
    expect(frames, method(AMQP_BASIC_DELIVER_METHOD, &deliver), FRAMES_MORE);
    expect(frames, header(5), FRAMES_MORE);
    assert_int_equal(frames->body.capacity, 0);
    expect(frames, body("hello"), FRAMES_DELIVERY);
    free(half);
}

#define with_frames(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_frames(test_a_delivery_in_one_body_frame),
        with_frames(test_a_delivery_in_many),
        with_frames(test_no_body_and_no_properties),
        with_frames(test_a_return),
        with_frames(test_strings_outlive_their_frame),
        with_frames(test_what_is_out_of_order),
        with_frames(test_what_makes_no_sense),
        with_frames(test_a_large_buffer_is_given_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
