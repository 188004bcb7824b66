/* The fence: an exclusive queue on a channel of its own, beside the one that publishes. */
#include "tests/unit/amqp/fake.h"
#include "tests/unit/amqp/recorder.h"

#include <stdio.h>
#include <string.h>

#define FENCE 3 /* its channel */

static struct fake fake;
static struct recorder recorder;
static int held, refused;
static struct error refusal;

static void on_fence(void *data, const struct error *why)
{
    const struct recorder *r = data;

    if (why) {
        refused++;
        refusal = *why;
        assert_false(broker_is_fenced(r->broker));
    } else {
        held++;
        assert_true(broker_is_fenced(r->broker));
    }
}

static void finish_init(void (*script)(struct fake *fake))
{
    recorder.options.on_fence = on_fence;
    held = refused = 0;
    fake_start(&fake, script);
    recorder_start(&recorder);
}

static void begin(void (*script)(struct fake *fake))
{
    fake_init(&fake);
    recorder_init(&recorder, fake.uri);
    finish_init(script);
}

static void finish(void)
{
    recorder_free(&recorder);
    fake_finish(&fake);
}

static void open_ok(struct fake *f)
{
    amqp_channel_open_ok_t ok = {.channel_id = amqp_empty_bytes};

    fake_expect(f, FENCE, AMQP_CHANNEL_OPEN_METHOD);
    fake_send(f, FENCE, AMQP_CHANNEL_OPEN_OK_METHOD, &ok);
}

/* The name of the queue comes after the method's number and two bytes that are not used. */
static void expect_queue(struct fake *f, uint32_t method, const char *name)
{
    fake_expect(f, FENCE, method);
    if (f->frame.payload[6] != strlen(name) ||
        memcmp(f->frame.payload + 7, name, strlen(name)) != 0)
        fake_fail(f, "another queue");
}

static void declare_ok(struct fake *f, const char *name)
{
    amqp_queue_declare_ok_t ok = {.queue = amqp_cstring_bytes(name)};

    expect_queue(f, AMQP_QUEUE_DECLARE_METHOD, name);
    if (f->frame.payload[7 + strlen(name)] != 1 << 2)
        fake_fail(f, "not exclusive alone");
    fake_send(f, FENCE, AMQP_QUEUE_DECLARE_OK_METHOD, &ok);
}

static void delete_ok(struct fake *f, const char *name)
{
    amqp_queue_delete_ok_t ok = {0};

    expect_queue(f, AMQP_QUEUE_DELETE_METHOD, name);
    fake_send(f, FENCE, AMQP_QUEUE_DELETE_OK_METHOD, &ok);
}

static void consume_ok(struct fake *f, const char *name)
{
    amqp_basic_consume_ok_t ok = {.consumer_tag = amqp_cstring_bytes("fence")};

    expect_queue(f, AMQP_BASIC_CONSUME_METHOD, name);
    fake_send(f, FENCE, AMQP_BASIC_CONSUME_OK_METHOD, &ok);
}

static void taken(struct fake *f)
{
    open_ok(f);
    declare_ok(f, "q");
    consume_ok(f, "q");
}

/* ---- taken, on a connection that stands or on the next ---- */

static void taken_and_beside(struct fake *f)
{
    fake_up(f);
    open_ok(f);
    declare_ok(f, "q.beside");
    delete_ok(f, "q.beside");
    declare_ok(f, "q");
    consume_ok(f, "q");
    fake_goodbye(f);
}

static void test_taken_on_a_connection_that_stands(void **state)
{
    (void)state;
    begin(taken_and_beside);
    recorder_wait(&recorder, recorder.ups == 1);
    assert_false(broker_is_fenced(recorder.broker));
    broker_fence(recorder.broker, "q", "q.beside");
    recorder_wait(&recorder, held == 1);
    assert_int_equal(refused + recorder.downs, 0);
    finish();
}

static void taken_twice(struct fake *f)
{
    fake_up(f);
    taken(f);
    fake_wait(f);
    fake_close(f);
    fake_up(f);
    taken(f);
    fake_goodbye(f);
}

static void test_taken_on_each_connection(void **state)
{
    (void)state;
    begin(taken_twice);
    broker_fence(recorder.broker, "q", NULL); /* before there is one */
    recorder_wait(&recorder, held == 1);
    fake_go(&fake);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_false(broker_is_fenced(recorder.broker));
    recorder_wait(&recorder, held == 2);
    finish();
}

/* ---- refused ---- */

static void locked_twice(struct fake *f)
{
    fake_up(f);
    for (int i = 0; i < 2; i++) {
        open_ok(f);
        expect_queue(f, AMQP_QUEUE_DECLARE_METHOD, "q.beside");
        fake_send_close(f, FENCE, 405, "RESOURCE_LOCKED - cannot obtain exclusive access");
        fake_expect(f, FENCE, AMQP_CHANNEL_CLOSE_OK_METHOD);
    }
    open_ok(f);
    declare_ok(f, "q.beside");
    delete_ok(f, "q.beside");
    expect_queue(f, AMQP_QUEUE_DECLARE_METHOD, "q");
    fake_send_close(f, FENCE, 403, "ACCESS_REFUSED");
    fake_expect(f, FENCE, AMQP_CHANNEL_CLOSE_OK_METHOD);
    open_ok(f);
    declare_ok(f, "q.beside");
    delete_ok(f, "q.beside");
    declare_ok(f, "q");
    consume_ok(f, "q");
    fake_goodbye(f);
}

static void test_a_refused_fence_is_asked_for_again(void **state)
{
    (void)state;
    begin(locked_twice);
    broker_fence(recorder.broker, "q", "q.beside");
    recorder_wait(&recorder, refused == 2);
    assert_int_equal(refusal.amqp_code, 405);
    recorder_wait(&recorder, refused == 3);
    assert_int_equal(refusal.amqp_code, 403);
    recorder_wait(&recorder, held == 1);
    assert_int_equal(recorder.downs, 0); /* the channel that publishes knew nothing of it */
    finish();
}

/* ---- held, and then ---- */

static void loses_the_other_channel(struct fake *f)
{
    amqp_basic_deliver_t deliver = {.consumer_tag = amqp_cstring_bytes("fence"),
                                    .delivery_tag = 1,
                                    .exchange = amqp_empty_bytes,
                                    .routing_key = amqp_cstring_bytes("q")};

    fake_up(f);
    taken(f);
    /* Anybody may publish to a queue whose name he knows. */
    fake_send(f, FENCE, AMQP_BASIC_DELIVER_METHOD, &deliver);
    fake_send_header(f, FENCE, 5, "id");
    fake_send_body(f, FENCE, "hello");
    fake_send_close(f, 1, 404, "NOT_FOUND - no exchange");
    fake_expect(f, 1, AMQP_CHANNEL_CLOSE_OK_METHOD);
    fake_channel(f);
    fake_goodbye(f);
}

static void test_outlives_the_channel_that_publishes(void **state)
{
    (void)state;
    begin(loses_the_other_channel);
    broker_fence(recorder.broker, "q", NULL);
    recorder_wait(&recorder, recorder.ups == 2);
    assert_int_equal(recorder.channel_downs, 1);
    assert_int_equal(recorder.downs, 1);
    assert_true(broker_is_fenced(recorder.broker));
    assert_int_equal(recorder.deliveries, 0);
    finish();
}

static void cancels(struct fake *f)
{
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes("fence")};

    fake_up(f);
    taken(f);
    fake_send(f, FENCE, AMQP_BASIC_CANCEL_METHOD, &cancel);
    fake_expect_eof(f);
    fake_up(f);
    taken(f);
    fake_send_close(f, FENCE, 541, "INTERNAL_ERROR");
    fake_expect_eof(f);
    fake_up(f);
    taken(f);
    fake_goodbye(f);
}

static void test_a_fence_that_is_taken_away_ends_the_connection(void **state)
{
    (void)state;
    begin(cancels);
    broker_fence(recorder.broker, "q", NULL);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_non_null(strstr(recorder.why.message, "cancelled the fence 'q'"));
    recorder_wait(&recorder, recorder.downs == 2);
    assert_int_equal(recorder.why.amqp_code, 541);
    recorder_wait(&recorder, held == 3);
    assert_int_equal(recorder.channel_downs + refused, 0);
    finish();
}

static void unfenced(struct fake *f)
{
    fake_up(f);
    taken(f);
    fake_expect_eof(f);
    fake_up(f);
    fake_goodbye(f); /* nothing on the channel of the fence before it */
}

static void test_an_unwanted_fence_goes_with_its_connection(void **state)
{
    (void)state;
    begin(unfenced);
    broker_unfence(recorder.broker, "there is none");
    broker_fence(recorder.broker, "q", NULL);
    recorder_wait(&recorder, held == 1);
    broker_unfence(recorder.broker, "no longer the owner");
    assert_false(broker_is_fenced(recorder.broker));
    recorder_wait(&recorder, recorder.ups == 2);
    assert_non_null(strstr(recorder.why.message, "no longer the owner"));
    assert_int_equal(held, 1);
    finish();
}

/* ---- no answer, and wrong ones ---- */

static void never_answers(struct fake *f)
{
    fake_up(f);
    fake_expect(f, FENCE, AMQP_CHANNEL_OPEN_METHOD);
    fake_say(f);
    fake_expect_eof(f);
}

static void test_no_answer_ends_the_connection(void **state)
{
    (void)state;
    fake_init(&fake);
    recorder_init_turned(&recorder, fake.uri);
    finish_init(never_answers);
    broker_fence(recorder.broker, "q", NULL);
    recorder_wait(&recorder, fake_said(&fake));
    clock_fake_advance(&recorder.clock, recorder.options.connect_timeout_us + US_PER_MS);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_non_null(strstr(recorder.why.message, "no answer"));
    finish();
}

static void answers_what_was_not_asked(struct fake *f)
{
    static const uint32_t methods[] = {AMQP_CHANNEL_OPEN_OK_METHOD, AMQP_QUEUE_DECLARE_OK_METHOD,
                                       AMQP_QUEUE_DELETE_OK_METHOD, AMQP_BASIC_CONSUME_OK_METHOD,
                                       AMQP_BASIC_QOS_OK_METHOD};
    amqp_queue_declare_ok_t zeros = {0}; /* the largest of them */

    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        fake_up(f);
        taken(f);
        fake_send(f, FENCE, methods[i], &zeros);
        fake_expect_eof(f);
    }
    fake_up(f);
    taken(f);
    fake_goodbye(f);
}

static void test_an_answer_that_was_not_asked_for(void **state)
{
    (void)state;
    begin(answers_what_was_not_asked);
    broker_fence(recorder.broker, "q", NULL);
    recorder_wait(&recorder, held == 6);
    assert_int_equal(recorder.downs, 5);
    assert_int_equal(recorder.first_why.code, ERROR_PROTOCOL);
    finish();
}

/* ---- the heartbeat that the user allows at most ---- */

static unsigned heartbeat_tuned;

static void notes_heartbeat(struct fake *f)
{
    amqp_connection_tune_t tune = {.channel_max = 10, .frame_max = 131072, .heartbeat = 60};
    amqp_connection_open_ok_t ok = {.known_hosts = amqp_empty_bytes};

    fake_accept(f);
    fake_login_start(f);
    fake_send(f, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
    fake_expect(f, 0, AMQP_CONNECTION_TUNE_OK_METHOD);
    heartbeat_tuned = f->frame.payload[11]; /* after method, channel_max, frame_max */
    fake_expect(f, 0, AMQP_CONNECTION_OPEN_METHOD);
    fake_send(f, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &ok);
    fake_channel(f);
    fake_goodbye(f);
}

static void test_a_heartbeat_has_a_limit(void **state)
{
    static const char *const queries[] = {"?heartbeat=30", "?heartbeat=0", ""};

    (void)state;
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        char uri[160];

        fake_init(&fake);
        snprintf(uri, sizeof(uri), "%s%s", fake.uri, queries[i]);
        recorder_init(&recorder, uri);
        recorder.options.heartbeat_max_s = 4;
        finish_init(notes_heartbeat);
        recorder_wait(&recorder, recorder.ups == 1);
        finish();
        assert_int_equal(heartbeat_tuned, 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken_on_a_connection_that_stands),
        cmocka_unit_test(test_taken_on_each_connection),
        cmocka_unit_test(test_a_refused_fence_is_asked_for_again),
        cmocka_unit_test(test_outlives_the_channel_that_publishes),
        cmocka_unit_test(test_a_fence_that_is_taken_away_ends_the_connection),
        cmocka_unit_test(test_an_unwanted_fence_goes_with_its_connection),
        cmocka_unit_test(test_no_answer_ends_the_connection),
        cmocka_unit_test(test_an_answer_that_was_not_asked_for),
        cmocka_unit_test(test_a_heartbeat_has_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
