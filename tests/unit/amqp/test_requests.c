/* Declare, bind, consume, and whether something exists: inside on_up, request and answer. */
#include "tests/unit/amqp/fake.h"
#include "tests/unit/amqp/recorder.h"

#include <string.h>

static struct fake fake;
static struct recorder recorder;

static void begin(void (*script)(struct fake *fake), void (*on_up)(struct recorder *recorder))
{
    fake_init(&fake);
    recorder_init(&recorder, fake.uri);
    recorder.on_up = on_up;
    fake_start(&fake, script);
    recorder_start(&recorder);
}

static void finish(void)
{
    recorder_free(&recorder);
    fake_finish(&fake);
}

static void queue_ok(struct fake *f, int channel, uint32_t messages, uint32_t consumers)
{
    amqp_queue_declare_ok_t ok = {
        .queue = amqp_cstring_bytes("q"), .message_count = messages, .consumer_count = consumers};

    fake_expect(f, channel, AMQP_QUEUE_DECLARE_METHOD);
    fake_send(f, channel, AMQP_QUEUE_DECLARE_OK_METHOD, &ok);
}

static void consume_ok(struct fake *f)
{
    amqp_basic_qos_ok_t qos_ok = {0};
    amqp_basic_consume_ok_t ok = {.consumer_tag = amqp_cstring_bytes("c")};

    fake_expect(f, 1, AMQP_BASIC_QOS_METHOD);
    fake_send(f, 1, AMQP_BASIC_QOS_OK_METHOD, &qos_ok);
    fake_expect(f, 1, AMQP_BASIC_CONSUME_METHOD);
    fake_send(f, 1, AMQP_BASIC_CONSUME_OK_METHOD, &ok);
}

static void must(int r, const struct error *error)
{
    if (r)
        fail_msg("%s", error->message);
}

/* ---- deliveries between the answers ---- */

static void delivers_between_answers(struct fake *f)
{
    amqp_exchange_declare_ok_t exchange_ok = {0};
    amqp_queue_bind_ok_t bind_ok = {0};

    fake_up(f);
    queue_ok(f, 1, 0, 0);
    consume_ok(f);
    fake_expect(f, 1, AMQP_EXCHANGE_DECLARE_METHOD);
    fake_deliver(f, 1, "one");
    fake_deliver(f, 2, "two");
    fake_send(f, 1, AMQP_EXCHANGE_DECLARE_OK_METHOD, &exchange_ok);
    fake_expect(f, 1, AMQP_QUEUE_BIND_METHOD);
    fake_deliver(f, 3, "three");
    fake_send(f, 1, AMQP_QUEUE_BIND_OK_METHOD, &bind_ok);
    /* What was published in the middle of the requests comes after them, whole. */
    fake_expect(f, 1, AMQP_BASIC_PUBLISH_METHOD);
    fake_read(f);
    fake_read(f);
    fake_wait(f);
    fake_send_ack(f, 1, false);
    fake_goodbye(f);
}

static void asks_for_everything(struct recorder *r)
{
    const struct broker_argument arguments[] = {{.name = "x-queue-type", .text = "quorum"},
                                                {.name = "x-delivery-limit", .integer = 5}};
    struct error error;

    must(broker_declare_queue(r->broker, "q", true, false, arguments, 2, &error), &error);
    must(broker_consume(r->broker, "q", "c", false, 10, &error), &error);
    assert_int_equal(recorder_publish(r, "", "q", "id"), 1);
    broker_flush(r->broker);
    must(broker_declare_exchange(r->broker, "x", "topic", true, &error), &error);
    must(broker_bind_queue(r->broker, "q", "x", "#", &error), &error);
    assert_int_equal(r->deliveries, 0);
}

static void test_deliveries_between_answers(void **state)
{
    (void)state;
    begin(delivers_between_answers, asks_for_everything);
    /* They came while the library read: nothing more comes that would wake the loop. */
    recorder_wait(&recorder, recorder.deliveries == 3);
    fake_go(&fake);
    recorder_wait(&recorder, recorder.acked == 1);
    assert_memory_equal(recorder.delivery_body, "three", 5);
    assert_int_equal(recorder.downs, 0);
    finish();
}

/* ---- a refusal ---- */

static void refuses_once(struct fake *f)
{
    fake_up(f);
    queue_ok(f, 1, 0, 0);
    consume_ok(f);
    fake_expect(f, 1, AMQP_EXCHANGE_DECLARE_METHOD);
    fake_deliver(f, 1, "of the channel that is lost");
    fake_send_close(f, 1, 406, "PRECONDITION_FAILED - inequivalent arg 'type'");
    fake_expect(f, 1, AMQP_CHANNEL_CLOSE_OK_METHOD);
    fake_channel(f);
    fake_deliver(f, 1, "of the new one");
    fake_goodbye(f);
}

static void asks_what_is_refused(struct recorder *r)
{
    struct error error;

    if (r->ups > 1)
        return;
    must(broker_declare_queue(r->broker, "q", true, false, NULL, 0, &error), &error);
    must(broker_consume(r->broker, "q", "c", false, 10, &error), &error);
    assert_int_equal(broker_declare_exchange(r->broker, "x", "topic", true, &error), ERROR_AMQP);
    assert_int_equal(error.amqp_code, 406);
    assert_int_equal(error.retry, RETRY_NEVER);
    assert_non_null(strstr(error.message, "inequivalent"));
    assert_non_null(strstr(error.message, "'x'"));
    /* Nothing more on this channel. */
    assert_false(broker_is_up(r->broker));
    assert_int_equal(broker_bind_queue(r->broker, "q", "x", "k", &error), ERROR_STATE);
    assert_int_equal(broker_consume(r->broker, "q", "c", false, 1, &error), ERROR_STATE);
    assert_int_equal(r->downs, 0);
}

static void test_a_refusal_loses_the_channel(void **state)
{
    (void)state;
    begin(refuses_once, asks_what_is_refused);
    recorder_wait(&recorder, recorder.ups == 2);
    assert_int_equal(recorder.downs, 1);
    assert_int_equal(recorder.channel_downs, 1);
    assert_int_equal(recorder.why.amqp_code, 406);
    recorder_wait(&recorder, recorder.deliveries == 1);
    assert_memory_equal(recorder.delivery_body, "of the new one", 14);
    finish();
}

/* ---- no answer, or the end of the connection ---- */

static void does_not_answer(struct fake *f)
{
    fake_up(f);
    fake_expect(f, 1, AMQP_QUEUE_DECLARE_METHOD);
    fake_expect_eof(f);
    fake_up(f);
    fake_expect(f, 1, AMQP_QUEUE_DECLARE_METHOD);
    fake_send_close(f, 0, 320, "CONNECTION_FORCED");
    fake_expect_eof(f);
    fake_up(f);
    fake_expect(f, 1, AMQP_QUEUE_DECLARE_METHOD);
    fake_reset(f);
    fake_up(f);
    queue_ok(f, 1, 0, 0);
    fake_goodbye(f);
}

static void asks_for_a_queue(struct recorder *r)
{
    struct error error = {0};
    int got = broker_declare_queue(r->broker, "q", true, false, NULL, 0, &error);

    assert_int_equal(!got, r->ups == 4);
}

static void test_a_request_without_an_answer(void **state)
{
    (void)state;
    fake_init(&fake);
    recorder_init(&recorder, fake.uri);
    recorder.options.connect_timeout_us = US_PER_S;
    recorder.on_up = asks_for_a_queue;
    fake_start(&fake, does_not_answer);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_int_equal(recorder.why.code, ERROR_TIMEOUT);
    recorder_wait(&recorder, recorder.downs == 2);
    assert_int_equal(recorder.why.amqp_code, 320);
    recorder_wait(&recorder, recorder.downs == 3);
    recorder_wait(&recorder, recorder.ups == 4 && broker_is_up(recorder.broker));
    assert_int_equal(recorder.downs, 3);
    assert_int_equal(recorder.channel_downs, 0);
    finish();
}

/* ---- whether it exists ---- */

static void probe_channel(struct fake *f)
{
    amqp_channel_open_ok_t open_ok = {.channel_id = amqp_empty_bytes};

    fake_expect(f, 2, AMQP_CHANNEL_OPEN_METHOD);
    fake_send(f, 2, AMQP_CHANNEL_OPEN_OK_METHOD, &open_ok);
}

static void probe_closed(struct fake *f)
{
    amqp_channel_close_ok_t ok = {0};

    fake_expect(f, 2, AMQP_CHANNEL_CLOSE_METHOD);
    fake_send(f, 2, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
}

static void probe_refused(struct fake *f, uint32_t method, int code)
{
    probe_channel(f);
    fake_expect(f, 2, method);
    fake_send_close(f, 2, code, "a reason");
    fake_expect(f, 2, AMQP_CHANNEL_CLOSE_OK_METHOD);
}

static void answers_probes(struct fake *f)
{
    amqp_exchange_declare_ok_t exchange_ok = {0};

    fake_up(f);
    probe_channel(f);
    queue_ok(f, 2, 17, 3);
    probe_closed(f);
    probe_refused(f, AMQP_QUEUE_DECLARE_METHOD, 404);
    probe_refused(f, AMQP_QUEUE_DECLARE_METHOD, 405);
    probe_refused(f, AMQP_QUEUE_DECLARE_METHOD, 403);
    probe_channel(f);
    fake_expect(f, 2, AMQP_EXCHANGE_DECLARE_METHOD);
    fake_send(f, 2, AMQP_EXCHANGE_DECLARE_OK_METHOD, &exchange_ok);
    probe_closed(f);
    probe_refused(f, AMQP_EXCHANGE_DECLARE_METHOD, 404);
    fake_goodbye(f);
}

static void asks_what_exists(struct recorder *r)
{
    int64_t messages = -1, consumers = -1;
    struct error error = {0};
    bool exists = false;

    must(broker_queue_exists(r->broker, "q", &exists, &messages, &consumers, &error), &error);
    assert_true(exists);
    assert_int_equal(messages, 17);
    assert_int_equal(consumers, 3);
    must(broker_queue_exists(r->broker, "q", &exists, &messages, NULL, &error), &error);
    assert_false(exists);
    assert_int_equal(messages, 0);
    must(broker_queue_exists(r->broker, "q", &exists, NULL, NULL, &error), &error);
    assert_true(exists); /* 405: another connection's own */
    assert_int_equal(broker_queue_exists(r->broker, "q", &exists, NULL, NULL, &error), ERROR_AMQP);
    assert_int_equal(error.amqp_code, 403);
    assert_true(broker_is_up(r->broker)); /* it says nothing of our channel */
    must(broker_exchange_exists(r->broker, "x", &exists, &error), &error);
    assert_true(exists);
    must(broker_exchange_exists(r->broker, "x", &exists, NULL), &error);
    assert_false(exists);
    must(broker_exchange_exists(r->broker, "", &exists, &error), &error);
    assert_true(exists); /* the default exchange: not asked for */
}

static void test_whether_it_exists(void **state)
{
    (void)state;
    begin(answers_probes, asks_what_exists);
    recorder_wait(&recorder, recorder.ups == 1);
    recorder_turn(&recorder, 0);
    assert_int_equal(recorder.downs, 0);
    finish();
}

static void probe_ends_the_connection(struct fake *f)
{
    fake_up(f);
    fake_expect(f, 2, AMQP_CHANNEL_OPEN_METHOD);
    fake_send_close(f, 0, 504, "CHANNEL_ERROR - no more channels");
    fake_expect_eof(f);
    fake_up(f);
    probe_channel(f);
    fake_expect(f, 2, AMQP_EXCHANGE_DECLARE_METHOD);
    fake_reset(f);
    fake_up(f);
    fake_goodbye(f);
}

static void asks_for_an_exchange(struct recorder *r)
{
    struct error error = {0};
    bool exists = true;

    if (r->ups < 3)
        assert_int_not_equal(broker_exchange_exists(r->broker, "x", &exists, &error), 0);
    assert_true(exists); /* untouched */
}

static void test_a_probe_that_ends_the_connection(void **state)
{
    (void)state;
    begin(probe_ends_the_connection, asks_for_an_exchange);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_int_equal(recorder.why.amqp_code, 504);
    recorder_wait(&recorder, recorder.ups == 3);
    assert_int_equal(recorder.downs, 2);
    assert_int_equal(recorder.channel_downs, 0);
    finish();
}

/* ---- what is not asked at all ---- */

static void up_and_away(struct fake *f)
{
    fake_up(f);
    fake_goodbye(f);
}

static void asks_nonsense(struct recorder *r)
{
    static const struct broker_argument many[17];
    char name[257];
    struct error error = {0};
    bool exists;

    memset(name, 'x', 256);
    name[256] = 0;
    assert_int_equal(broker_declare_queue(r->broker, name, true, false, NULL, 0, &error),
                     ERROR_USAGE);
    assert_int_equal(broker_declare_queue(r->broker, "q", true, false, many, 17, &error),
                     ERROR_LIMIT);
    assert_int_equal(broker_declare_exchange(r->broker, name, "topic", true, &error), ERROR_USAGE);
    assert_int_equal(broker_bind_queue(r->broker, "q", "x", name, &error), ERROR_USAGE);
    assert_int_equal(broker_consume(r->broker, "q", "c", false, 0, &error), ERROR_USAGE);
    assert_int_equal(broker_consume(r->broker, "q", "c", false, 65536, &error), ERROR_USAGE);
    assert_int_equal(broker_exchange_exists(r->broker, name, &exists, &error), ERROR_USAGE);
    assert_true(broker_is_up(r->broker));
}

static void test_what_is_not_asked_at_all(void **state)
{
    struct error error = {0};
    bool exists;

    (void)state;
    begin(up_and_away, asks_nonsense);
    recorder_wait(&recorder, recorder.ups == 1);
    /* Outside on_up an answer would have to be waited for. */
    assert_int_equal(broker_declare_queue(recorder.broker, "q", true, false, NULL, 0, &error),
                     ERROR_STATE);
    assert_int_equal(broker_exchange_exists(recorder.broker, "x", &exists, &error), ERROR_STATE);
    recorder_turn(&recorder, 0);
    assert_int_equal(recorder.downs, 0);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deliveries_between_answers),
        cmocka_unit_test(test_a_refusal_loses_the_channel),
        cmocka_unit_test(test_a_request_without_an_answer),
        cmocka_unit_test(test_whether_it_exists),
        cmocka_unit_test(test_a_probe_that_ends_the_connection),
        cmocka_unit_test(test_what_is_not_asked_at_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
