/* What takes a connection away, and what comes after. */
#include "tests/unit/amqp/scene.h"

#include <string.h>

static void forced_close(struct fake *f)
{
    fake_up(f);
    fake_send_close(f, 0, 320, "CONNECTION_FORCED - broker forced connection closure");
    fake_expect(f, 0, AMQP_CONNECTION_CLOSE_OK_METHOD);
    fake_up(f);
    fake_goodbye(f);
}

static void test_the_broker_closes_the_connection(void **state)
{
    (void)state;
    begin(forced_close);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_int_equal(recorder.channel_downs, 0);
    assert_int_equal(recorder.why.amqp_code, 320);
    assert_int_equal(recorder.why.retry, RETRY_RECONNECT);
    assert_non_null(strstr(recorder.why.message, "CONNECTION_FORCED"));
    recorder_wait(&recorder, recorder.ups == 2);
    assert_int_equal(recorder.downs, 1);
    finish();
}

/* The reason is on its way while we are writing into a socket that is closed at the other end. */
static void closes_under_load(struct fake *f)
{
    fake_up(f);
    fake_read_publishes(f, 1);
    fake_send_ack(f, 1, false);
    fake_send_close(f, 0, 320, "CONNECTION_FORCED");
    fake_close(f);
    fake_say(f);
    fake_up(f);
    fake_goodbye(f);
}

static void test_the_reason_is_read_before_the_loss(void **state)
{
    (void)state;
    begin(closes_under_load);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    recorder_publish(&recorder, "x", "k", "1");
    broker_flush(recorder.broker);
    fake_hear(&fake);
    while (broker_can_publish(recorder.broker)) {
        recorder_publish(&recorder, "x", "k", "2");
        broker_flush(recorder.broker);
    }
    recorder_wait(&recorder, recorder.downs == 1);
    assert_int_equal(recorder.why.amqp_code, 320);
    assert_int_equal(recorder.acked, 1);
    recorder_wait(&recorder, recorder.ups == 2);
    finish();
}

static void ends(struct fake *f)
{
    fake_up(f);
    fake_close(f);

    fake_up(f);
    fake_reset(f);

    fake_up(f); /* in the middle of a frame */
    fake_send_bytes(f, "\x01\x00\x01\x00\x00", 5);
    fake_close(f);

    fake_up(f);
    fake_goodbye(f);
}

static void test_a_connection_that_just_ends(void **state)
{
    (void)state;
    begin(ends);
    recorder_start(&recorder);
    for (int i = 1; i <= 3; i++) {
        recorder_wait(&recorder, recorder.downs == i);
        assert_int_equal(recorder.why.retry, RETRY_RECONNECT);
        assert_int_equal(recorder.why.amqp_code, 0);
    }
    recorder_wait(&recorder, recorder.ups == 4);
    assert_int_equal(recorder.channel_downs, 0);
    finish();
}

static void works_and_ends(struct fake *f)
{
    fake_up(f);
    fake_read_publishes(f, 1);
    fake_send_ack(f, 1, false);
    fake_wait(f);
    fake_end(f);
    fake_close(f);
}

/* A connection that worked starts the pauses anew, once: those after it still grow. */
static void test_the_pauses_grow_after_a_connection_that_worked(void **state)
{
    (void)state;
    begin(works_and_ends);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    recorder_publish(&recorder, "x", "k", "1");
    recorder_wait(&recorder, recorder.acked == 1);
    fake_go(&fake);
    for (int i = 1; i <= 4; i++) {
        recorder_wait(&recorder, recorder.downs == i);
        assert_int_equal(broker_attempts(recorder.broker), i);
    }
    finish();
}

static void nonsense(struct fake *f)
{
    amqp_basic_get_empty_t get_empty = {.cluster_id = amqp_empty_bytes};
    amqp_basic_ack_t ack = {.delivery_tag = 1};
    amqp_channel_close_ok_t close_ok = {0};

    fake_up(f); /* a confirm for what was never published */
    fake_send_ack(f, 1, false);
    fake_expect_eof(f);

    fake_up(f); /* tag 0 stands for all with `multiple` only */
    fake_send_ack(f, 0, false);
    fake_expect_eof(f);

    fake_up(f); /* a channel that is not open */
    fake_send(f, 5, AMQP_BASIC_ACK_METHOD, &ack);
    fake_expect_eof(f);

    fake_up(f);
    fake_send(f, 1, AMQP_BASIC_GET_EMPTY_METHOD, &get_empty);
    fake_expect_eof(f);

    fake_up(f); /* an answer to no question */
    fake_send(f, 0, AMQP_CHANNEL_CLOSE_OK_METHOD, &close_ok);
    fake_expect_eof(f);

    fake_up(f); /* a body without a header */
    fake_send_body(f, 1, "hello");
    fake_expect_eof(f);

    fake_up(f); /* content on the connection's own channel */
    fake_send_header(f, 0, 5, "id");
    fake_expect_eof(f);

    fake_up(f); /* a frame without its end byte */
    fake_send_bytes(f, "\x08\x00\x00\x00\x00\x00\x00\x00\x00", 9);
    fake_expect_eof(f);

    fake_up(f); /* a frame larger than agreed */
    fake_send_bytes(f, "\x01\x00\x01\x7f\xff\xff\xf0\x00", 8);
    fake_expect_eof(f);

    fake_up(f);
    fake_goodbye(f);
}

static void test_what_makes_no_sense_ends_the_connection(void **state)
{
    (void)state;
    begin(nonsense);
    recorder_start(&recorder);
    for (int i = 1; i <= 9; i++) {
        recorder_wait(&recorder, recorder.downs == i);
        assert_int_equal(recorder.why.code, ERROR_PROTOCOL);
        assert_int_equal(recorder.why.retry, RETRY_RECONNECT);
    }
    recorder_wait(&recorder, recorder.ups == 10);
    assert_int_equal(recorder.channel_downs, 0);
    assert_int_equal(recorder.acked + recorder.nacked + recorder.deliveries, 0);
    finish();
}

/* ---- heartbeats ---- */

static void heartbeats_and_then_silence(struct fake *f)
{
    f->heartbeat_s = 10;
    fake_up(f);
    for (int i = 0; i < 8; i++) {
        fake_read(f);
        if (f->frame.type != AMQP_FRAME_HEARTBEAT)
            fake_fail(f, "expected a heartbeat");
        fake_send_heartbeat(f);
        fake_say(f);
    }
    fake_expect_eof(f);
    fake_up(f);
    fake_goodbye(f);
}

static void test_heartbeats(void **state)
{
    bool spoke = false;

    (void)state;
    begin_turned(heartbeats_and_then_silence);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    /* As long as the broker speaks the connection stands: one every half of an interval. */
    for (int i = 0; i < 8; i++) {
        clock_fake_advance(&recorder.clock, 5 * US_PER_S);
        recorder_wait(&recorder, (spoke = fake_said(&fake)));
    }
    for (int i = 0; i < 3; i++) {
        clock_fake_advance(&recorder.clock, 5 * US_PER_S);
        recorder_turn(&recorder, 0);
        recorder_turn(&recorder, 0);
    }
    assert_int_equal(recorder.downs, 0);
    for (int i = 0; i < 3 && !recorder.downs; i++) {
        clock_fake_advance(&recorder.clock, 5 * US_PER_S);
        recorder_turn(&recorder, 0);
    }
    assert_int_equal(recorder.downs, 1);
    assert_int_equal(recorder.why.code, ERROR_TIMEOUT);
    assert_non_null(strstr(recorder.why.message, "silent for two heartbeat intervals"));
    clock_fake_advance(&recorder.clock, US_PER_S);
    recorder_wait(&recorder, recorder.ups == 2);
    finish();
}

static void one_heartbeat(struct fake *f)
{
    f->heartbeat_s = 10;
    fake_up(f);
    fake_wait(f);
    fake_send_heartbeat(f);
    fake_say(f);
    fake_goodbye(f);
}

/* A process that was stopped, or slow, finds what the broker sent meanwhile in its socket. */
static void test_our_own_pause_is_not_the_brokers(void **state)
{
    (void)state;
    begin_turned(one_heartbeat);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    fake_go(&fake);
    fake_hear(&fake);
    clock_fake_advance(&recorder.clock, 60 * (int64_t)US_PER_S);
    for (int i = 0; i < 5; i++)
        recorder_turn(&recorder, US_PER_MS);
    assert_int_equal(recorder.downs, 0);
    finish();
}

/* ---- connection.blocked ---- */

static void blocks(struct fake *f)
{
    amqp_connection_blocked_t blocked = {.reason = amqp_cstring_bytes("low on memory")};
    amqp_connection_unblocked_t unblocked = {0};

    fake_up(f);
    fake_send(f, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
    fake_send(f, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked); /* a second alarm */
    fake_wait(f);
    fake_send(f, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, &unblocked);
    fake_read_publishes(f, 1);
    fake_send(f, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
    fake_send_close(f, 1, 541, "INTERNAL_ERROR");
    fake_wait(f);
    fake_send(f, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, &unblocked);
    fake_expect(f, 1, AMQP_CHANNEL_CLOSE_OK_METHOD);
    fake_channel(f);
    fake_send(f, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
    fake_wait(f);
    fake_close(f);
    fake_up(f);
    fake_goodbye(f);
}

static void test_blocked(void **state)
{
    const struct broker_message message = {
        .routing_key = text_of("k"), .body = "", .body_bytes = 1};
    struct error error = {0};
    uint64_t tag = 7;

    (void)state;
    begin(blocks);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.blocks == 1);
    assert_string_equal(recorder.blocked_reason, "low on memory");
    assert_true(broker_is_up(recorder.broker));
    assert_true(broker_is_blocked(recorder.broker));
    assert_false(broker_can_publish(recorder.broker));
    assert_int_equal(broker_publish(recorder.broker, &message, &tag, &error), ERROR_STATE);
    assert_non_null(strstr(error.message, "blocked"));
    assert_int_equal(tag, 7);
    fake_go(&fake);
    recorder_wait(&recorder, recorder.unblocks == 1);
    assert_int_equal(recorder.blocks, 1);
    assert_true(broker_can_publish(recorder.broker));
    assert_int_equal(recorder_publish(&recorder, "", "k", "id"), 1);

    /* A channel that is lost meanwhile is reopened when the broker listens again. */
    recorder_wait(&recorder, recorder.blocks == 2 && recorder.channel_downs == 1);
    for (int i = 0; i < 5; i++)
        recorder_turn(&recorder, US_PER_MS);
    assert_int_equal(recorder.ups, 1);
    assert_true(broker_is_blocked(recorder.broker));
    fake_go(&fake);
    recorder_wait(&recorder, recorder.ups == 2);

    /* A lost connection is not blocked any more. */
    recorder_wait(&recorder, recorder.blocks == 3);
    fake_go(&fake);
    recorder_wait(&recorder, recorder.ups == 3);
    assert_int_equal(recorder.unblocks, 3);
    assert_false(broker_is_blocked(recorder.broker));
    finish();
}

/* ---- on our own wish ---- */

static void two_connections(struct fake *f)
{
    fake_up(f);
    fake_deliver(f, 1, "hello");
    fake_deliver(f, 2, "after the wish");
    fake_expect_eof(f);
    fake_up(f);
    fake_goodbye(f);
}

static void reconnect(struct recorder *r)
{
    broker_reconnect(r->broker, "the test wants it");
    broker_reconnect(r->broker, "twice");
    assert_false(broker_is_up(r->broker));
    assert_false(broker_can_publish(r->broker));
    assert_int_equal(r->downs, 0); /* not inside our own call */
}

static void test_reconnect_inside_a_callback(void **state)
{
    (void)state;
    begin(two_connections);
    recorder.on_delivery = reconnect;
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_string_equal(recorder.why.message, "the test wants it");
    assert_int_equal(recorder.deliveries, 1);
    recorder_wait(&recorder, recorder.ups == 2);
    assert_int_equal(recorder.downs, 1);
    finish();
}

static void channel_then_connection(struct fake *f)
{
    fake_up(f);
    fake_send_close(f, 1, 541, "INTERNAL_ERROR");
    fake_expect_eof(f);
    fake_up(f);
    fake_goodbye(f);
}

static void reconnect_once(struct recorder *r)
{
    if (r->downs == 1)
        broker_reconnect(r->broker, "a new connection rather than a new channel");
}

static void test_reconnect_inside_on_down(void **state)
{
    (void)state;
    begin(channel_then_connection);
    recorder.on_down = reconnect_once;
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 2);
    assert_int_equal(recorder.downs, 2);
    assert_int_equal(recorder.channel_downs, 1);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_broker_closes_the_connection),
        cmocka_unit_test(test_the_reason_is_read_before_the_loss),
        cmocka_unit_test(test_a_connection_that_just_ends),
        cmocka_unit_test(test_the_pauses_grow_after_a_connection_that_worked),
        cmocka_unit_test(test_what_makes_no_sense_ends_the_connection),
        cmocka_unit_test(test_heartbeats),
        cmocka_unit_test(test_our_own_pause_is_not_the_brokers),
        cmocka_unit_test(test_blocked),
        cmocka_unit_test(test_reconnect_inside_a_callback),
        cmocka_unit_test(test_reconnect_inside_on_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
