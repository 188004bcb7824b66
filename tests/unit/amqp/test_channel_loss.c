/* What takes a channel away, and what comes after, while the connection stays. */
#include "tests/unit/amqp/scene.h"

#include <string.h>

static void missing_exchange(struct fake *f)
{
    fake_up(f);
    fake_read_publishes(f, 2);
    fake_send_ack(f, 1, false);
    fake_send_close(f, 1, 404, "NOT_FOUND - no exchange 'nope' in vhost 'vh'");
    fake_say(f);
    /* What the session had sent before it knew comes first. */
    fake_read_until(f, 1, AMQP_CHANNEL_CLOSE_OK_METHOD);
    fake_channel(f);
    fake_read_publishes(f, 1);
    fake_send_ack(f, 1, false);
    fake_goodbye(f);
}

static void test_a_channel_is_reopened_on_the_same_connection(void **state)
{
    (void)state;
    begin(missing_exchange);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    assert_int_equal(recorder_publish(&recorder, "x", "k", "1"), 1);
    assert_int_equal(recorder_publish(&recorder, "nope", "k", "2"), 2);
    broker_flush(recorder.broker);
    fake_hear(&fake);
    /* Sent into a channel that is closed already: void, like tag 2. */
    assert_int_equal(recorder_publish(&recorder, "x", "k", "3"), 3);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_int_equal(recorder.channel_downs, 1);
    assert_int_equal(recorder.acked, 1);
    assert_int_equal(recorder.why.amqp_code, 404);
    assert_non_null(strstr(recorder.why.message, "no exchange 'nope'"));
    recorder_wait(&recorder, recorder.ups == 2);
    assert_int_equal(recorder_publish(&recorder, "x", "k", "1"), 1);
    recorder_wait(&recorder, recorder.acked == 2);
    assert_int_equal(recorder.downs, 1);
    finish();
}

static void lets_a_channel_go(struct fake *f)
{
    fake_up(f);
    fake_read_publishes(f, 2);
    fake_send_ack(f, 1, false);
    fake_read_until(f, 1, AMQP_CHANNEL_CLOSE_METHOD);
    fake_send_ack(f, 2, false); /* was on its way */
    fake_send(f, 1, AMQP_CHANNEL_CLOSE_OK_METHOD, &(amqp_channel_close_ok_t){0});
    fake_channel(f);
    fake_read_publishes(f, 1);
    fake_send_ack(f, 1, false);
    fake_goodbye(f);
}

/* What the broker says of the old channel is not taken for the new one's. */
static void test_a_channel_is_replaced(void **state)
{
    (void)state;
    begin(lets_a_channel_go);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    assert_int_equal(recorder_publish(&recorder, "x", "k", "1"), 1);
    assert_int_equal(recorder_publish(&recorder, "x", "k", "2"), 2);
    recorder_wait(&recorder, recorder.acked == 1);
    broker_replace_channel(recorder.broker, "it is stale");
    assert_false(broker_is_up(recorder.broker));
    broker_replace_channel(recorder.broker, "once is enough");
    recorder_wait(&recorder, recorder.ups == 2);
    assert_int_equal(recorder.channel_downs, 1);
    assert_string_equal(recorder.why.message, "it is stale");
    assert_int_equal(recorder.acked, 1);
    assert_int_equal(recorder_publish(&recorder, "x", "k", "3"), 1);
    recorder_wait(&recorder, recorder.acked == 2);
    assert_int_equal(recorder.downs, 1);
    finish();
}

static void closes_too(struct fake *f)
{
    fake_up(f);
    fake_say(f);
    fake_wait(f);
    fake_send_close(f, 1, 404, "NOT_FOUND");
    fake_say(f);
    /* To a close that crosses its own the broker answers, and waits for ours. */
    fake_read(f);
    if (f->frame.method == AMQP_CHANNEL_CLOSE_METHOD) {
        fake_send(f, 1, AMQP_CHANNEL_CLOSE_OK_METHOD, &(amqp_channel_close_ok_t){0});
        fake_close(f);
        fake_up(f);
    } else if (f->frame.method == AMQP_CHANNEL_CLOSE_OK_METHOD) {
        fake_channel(f);
    } else {
        fake_fail(f, "neither close nor close-ok");
    }
    fake_goodbye(f);
}

static void test_a_channel_that_both_close(void **state)
{
    (void)state;
    begin(closes_too);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    fake_hear(&fake);
    broker_replace_channel(recorder.broker, "it is stale");
    fake_go(&fake);
    fake_hear(&fake);
    recorder_wait(&recorder, recorder.ups == 2);
    finish();
}

static void loses_the_connection_too(struct fake *f)
{
    fake_up(f);
    fake_read_until(f, 1, AMQP_CHANNEL_CLOSE_METHOD);
    fake_close(f);
    fake_up(f);
    fake_read_publishes(f, 1);
    fake_send_ack(f, 1, false);
    fake_goodbye(f);
}

static void test_a_channel_is_replaced_and_the_connection_lost(void **state)
{
    (void)state;
    begin(loses_the_connection_too);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    broker_replace_channel(recorder.broker, "it is stale");
    recorder_wait(&recorder, recorder.ups == 2);
    assert_int_equal(recorder.downs, 2);
    assert_int_equal(recorder.channel_downs, 1);
    assert_int_equal(recorder_publish(&recorder, "x", "k", "1"), 1);
    recorder_wait(&recorder, recorder.acked == 1);
    finish();
}

static void closes_again_and_again(struct fake *f)
{
    fake_up(f);
    fake_read_publishes(f, 1);
    fake_send_ack(f, 1, false);
    for (int i = 0; i < 5; i++) {
        fake_send_close(f, 1, 541, "INTERNAL_ERROR");
        fake_expect(f, 1, AMQP_CHANNEL_CLOSE_OK_METHOD);
        fake_channel(f);
    }
    fake_goodbye(f);
}

/* At once for three times, and then with a pause. */
static void test_a_channel_that_is_closed_again_and_again(void **state)
{
    (void)state;
    begin_turned(closes_again_and_again);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    recorder_publish(&recorder, "x", "k", "id");
    recorder_wait(&recorder, recorder.ups == 4 && recorder.channel_downs == 4);
    for (int ups = 4; ups < 6; ups++) {
        for (int i = 0; i < 20; i++)
            recorder_turn(&recorder, US_PER_MS);
        assert_int_equal(recorder.ups, ups);
        clock_fake_advance(&recorder.clock, US_PER_S);
        recorder_wait(&recorder, recorder.ups == ups + 1);
    }
    assert_int_equal(recorder.downs, 5);
    finish();
}

/* ---- a channel that is lost while half a frame is on its way ---- */

static void closes_without_reading(struct fake *f)
{
    fake_up(f);
    fake_wait(f);
    fake_send_close(f, 1, 541, "INTERNAL_ERROR");
    fake_wait(f);
    if (fake_read_until(f, 1, AMQP_CHANNEL_CLOSE_OK_METHOD) < 2)
        fake_fail(f, "more had been published");
    fake_channel(f);
    fake_goodbye(f);
}

static void test_what_is_half_sent_goes_out_before_the_next_request(void **state)
{
    static char body[300000];
    const struct broker_message message = {.body = body, .body_bytes = sizeof(body)};
    struct error error = {0};
    uint64_t tag;

    (void)state;
    begin(closes_without_reading);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    while (broker_can_publish(recorder.broker)) {
        assert_int_equal(broker_publish(recorder.broker, &message, &tag, &error), 0);
        recorder_turn(&recorder, 0);
    }
    fake_go(&fake);
    recorder_wait(&recorder, recorder.channel_downs == 1);
    for (int i = 0; i < 20; i++)
        recorder_turn(&recorder, US_PER_MS);
    assert_int_equal(recorder.ups, 1);
    fake_go(&fake);
    recorder_wait(&recorder, recorder.ups == 2);
    assert_int_equal(recorder.downs, 1);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_channel_is_reopened_on_the_same_connection),
        cmocka_unit_test(test_a_channel_that_is_closed_again_and_again),
        cmocka_unit_test(test_a_channel_is_replaced),
        cmocka_unit_test(test_a_channel_that_both_close),
        cmocka_unit_test(test_a_channel_is_replaced_and_the_connection_lost),
        cmocka_unit_test(test_what_is_half_sent_goes_out_before_the_next_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
