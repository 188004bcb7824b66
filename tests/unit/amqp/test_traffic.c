/* Messages out and in: confirms, returns, deliveries, a buffer that fills, and the end. */
#include "tests/unit/amqp/scene.h"

#include <stdlib.h>
#include <string.h>

static void expect_publish(struct fake *f)
{
    fake_expect(f, 1, AMQP_BASIC_PUBLISH_METHOD);
    fake_read(f);
    fake_read(f);
}

static void send_return(struct fake *f, const char *id)
{
    fake_send_return(f, id, 5);
    fake_send_body(f, 1, "he");
    fake_send_body(f, 1, "llo");
}

static void confirms(struct fake *f)
{
    amqp_basic_nack_t nack = {.delivery_tag = 6};

    f->dribble = f->context;
    fake_up(f);
    for (int i = 0; i < 10; i++)
        expect_publish(f);
    fake_send_ack(f, 3, false);
    fake_send_ack(f, 5, true);
    fake_send(f, 1, AMQP_BASIC_NACK_METHOD, &nack);
    send_return(f, "seven");
    fake_send_ack(f, 7, false);
    fake_send_ack(f, 0, true); /* all there are */
    fake_goodbye(f);
}

static void run_confirms(void *dribble)
{
    fake_init(&fake);
    fake.context = dribble;
    recorder_init(&recorder, fake.uri);
    fake_start(&fake, confirms);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    for (int i = 1; i <= 10; i++)
        assert_int_equal(recorder_publish(&recorder, "x", "k", "id"), i);
    recorder_wait(&recorder, recorder.acked + recorder.nacked == 10);
    assert_int_equal(recorder.nacked, 1);
    assert_int_equal(recorder.returns, 1);
    assert_int_equal(recorder.return_code, 312);
    assert_string_equal(recorder.returned_id, "seven");
    assert_int_equal(recorder.downs, 0);
    finish();
}

static void test_confirms_and_returns(void **state)
{
    (void)state;
    run_confirms(NULL);
}

static void test_confirms_and_returns_byte_by_byte(void **state)
{
    (void)state;
    run_confirms(&fake);
}

static void delivers(struct fake *f)
{
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes("the consumer"), .nowait = 1};

    fake_up(f);
    fake_deliver(f, 1, "");
    fake_expect(f, 1, AMQP_BASIC_ACK_METHOD);
    fake_wait(f);
    fake_deliver(f, 2, "hello");
    fake_expect(f, 1, AMQP_BASIC_ACK_METHOD);
    fake_send(f, 1, AMQP_BASIC_CANCEL_METHOD, &cancel);
    fake_goodbye(f);
}

static void test_deliveries(void **state)
{
    (void)state;
    begin(delivers);
    recorder.acknowledge = true;
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.deliveries == 1);
    assert_int_equal(recorder.delivery_body_bytes, 0);
    fake_go(&fake);
    recorder_wait(&recorder, recorder.deliveries == 2);
    assert_int_equal(recorder.delivery_tag, 2);
    assert_memory_equal(recorder.delivery_body, "hello", 5);
    assert_string_equal(recorder.delivery_key, "k");
    assert_string_equal(recorder.delivery_id, "delivered");
    recorder_wait(&recorder, recorder.cancels == 1);
    assert_string_equal(recorder.cancelled, "the consumer");
    assert_true(broker_is_up(recorder.broker));
    finish();
}

/* ---- a broker that does not read ---- */

#define LARGE_BYTES 300000

static void reads_late(struct fake *f)
{
    const uint8_t *expected = f->context;
    int messages = 0;

    fake_up(f);
    fake_wait(f);
    do {
        size_t got = 0;

        fake_expect(f, 1, AMQP_BASIC_PUBLISH_METHOD);
        fake_read(f);
        if (f->frame.type != AMQP_FRAME_HEADER)
            fake_fail(f, "expected a header");
        while (got < LARGE_BYTES) {
            fake_read(f);
            if (f->frame.type != AMQP_FRAME_BODY || got + f->frame.bytes > LARGE_BYTES ||
                memcmp(f->frame.payload, expected + got, f->frame.bytes) != 0)
                fake_fail(f, "a body that is not what was published");
            got += f->frame.bytes;
        }
        messages++;
        fake_send_ack(f, (uint64_t)messages, false);
    } while (messages < 40);
    fake_goodbye(f);
}

static void test_a_buffer_that_fills(void **state)
{
    uint8_t *body = malloc(LARGE_BYTES);
    struct broker_message message = {
        .routing_key = text_of("k"), .body = body, .body_bytes = LARGE_BYTES};
    struct error error = {0};
    uint64_t tag = 0;

    (void)state;
    assert_non_null(body);
    for (size_t i = 0; i < LARGE_BYTES; i++)
        body[i] = (uint8_t)(i * 7 + i / 1000);
    fake_init(&fake);
    fake.context = body;
    recorder_init(&recorder, fake.uri);
    recorder.options.out_bytes_max = 100000;
    fake_start(&fake, reads_late);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    /* A message larger than the buffer may be is taken, and fills it. */
    while (broker_can_publish(recorder.broker)) {
        assert_int_equal(broker_publish(recorder.broker, &message, &tag, &error), 0);
        recorder_turn(&recorder, 0);
        assert_true(tag < 40);
    }
    assert_int_equal(broker_publish(recorder.broker, &message, &tag, &error), ERROR_STATE);
    assert_non_null(strstr(error.message, "full"));
    assert_int_equal(error.retry, RETRY_LATER);
    assert_int_equal(recorder.writables, 0);
    fake_go(&fake);
    recorder_wait(&recorder, recorder.writables == 1);
    while (tag < 40) {
        recorder_wait(&recorder, broker_can_publish(recorder.broker));
        assert_int_equal(broker_publish(recorder.broker, &message, &tag, &error), 0);
    }
    recorder_wait(&recorder, recorder.acked == 40);
    assert_int_equal(recorder.downs, 0);
    finish();
    free(body);
}

/* ---- what cannot be carried ---- */

static void one_message(struct fake *f)
{
    f->frame_max = 4096;
    fake_up(f);
    expect_publish(f);
    fake_send_ack(f, 1, false);
    fake_goodbye(f);
}

static void test_poison_takes_no_tag(void **state)
{
    char text[5000];
    struct broker_header header = {.name = text_of("h"), .kind = BROKER_TEXT, .text = {text, 5000}};
    struct broker_message message = {.routing_key = {text, 256}};
    struct error error = {0};
    uint64_t tag = 99;

    (void)state;
    memset(text, 'x', sizeof(text));
    begin(one_message);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    assert_int_equal(broker_publish(recorder.broker, &message, &tag, &error), ERROR_LIMIT);
    assert_int_equal(error.retry, RETRY_POISON);
    message.routing_key.bytes = 255;
    message.headers = &header; /* fits into RabbitMQ's usual frame, not into this broker's */
    message.header_count = 1;
    assert_int_equal(broker_publish(recorder.broker, &message, &tag, &error), ERROR_LIMIT);
    assert_int_equal(error.retry, RETRY_POISON);
    assert_int_equal(tag, 99);
    assert_int_equal(recorder_publish(&recorder, "x", "k", "id"), 1);
    recorder_wait(&recorder, recorder.acked == 1);
    finish();
}

/* ---- the end ---- */

static void acks_before_the_end(struct fake *f)
{
    amqp_connection_close_ok_t ok = {0};

    fake_up(f);
    fake_deliver(f, 1, "hello");
    fake_expect(f, 1, AMQP_BASIC_ACK_METHOD);
    fake_expect(f, 1, AMQP_BASIC_REJECT_METHOD);
    fake_expect(f, 0, AMQP_CONNECTION_CLOSE_METHOD);
    fake_deliver(f, 2, "not wanted any more");
    fake_send(f, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    fake_expect_eof(f);
}

static void test_acknowledgements_go_out_before_the_end(void **state)
{
    (void)state;
    begin(acks_before_the_end);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.deliveries == 1);
    broker_ack(recorder.broker, 1, false);
    broker_reject(recorder.broker, 2);
    finish();
}

static void says_nothing_at_the_end(struct fake *f)
{
    fake_up(f);
    fake_wait(f);
    fake_expect_eof(f);
}

static void test_a_broker_that_does_not_answer_the_end(void **state)
{
    (void)state;
    begin(says_nothing_at_the_end);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    recorder_free(&recorder);
    fake_go(&fake);
    fake_finish(&fake);
}

/* More is waiting than the broker takes. */
static void test_a_broker_that_does_not_read_at_the_end(void **state)
{
    static char body[1 << 20];
    const struct broker_message message = {.body = body, .body_bytes = sizeof(body)};
    struct error error = {0};
    uint64_t tag;

    (void)state;
    begin(says_nothing_at_the_end);
    recorder.options.out_bytes_max = 64 << 20;
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    for (int i = 0; i < 32; i++)
        assert_int_equal(broker_publish(recorder.broker, &message, &tag, &error), 0);
    recorder_free(&recorder);
    fake_go(&fake);
    fake_finish(&fake);
}

static void test_acknowledging_without_a_channel_is_nothing(void **state)
{
    (void)state;
    fake_init(&fake);
    recorder_init(&recorder, fake.uri);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs == 1);
    broker_ack(recorder.broker, 1, true);
    broker_reject(recorder.broker, 1);
    broker_flush(recorder.broker);
    recorder_free(&recorder);
    fake_start(&fake, fake_close);
    fake_finish(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_confirms_and_returns),
        cmocka_unit_test(test_confirms_and_returns_byte_by_byte),
        cmocka_unit_test(test_deliveries),
        cmocka_unit_test(test_a_buffer_that_fills),
        cmocka_unit_test(test_poison_takes_no_tag),
        cmocka_unit_test(test_acknowledgements_go_out_before_the_end),
        cmocka_unit_test(test_a_broker_that_does_not_answer_the_end),
        cmocka_unit_test(test_a_broker_that_does_not_read_at_the_end),
        cmocka_unit_test(test_acknowledging_without_a_channel_is_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
