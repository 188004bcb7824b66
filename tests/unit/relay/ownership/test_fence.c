/* The fence's names and times; and an owner whom RabbitMQ stays away from, who wants to know
 * whether another relay waits. */
#include "outbox/relay/ownership/fence.h"
#include "outbox/runtime/clock.h"
#include "tests/unit/amqp/fake.h"
#include "tests/unit/relay/relay_parts_test.h"

#include <stdlib.h>
#include <string.h>

static void test_names(void **state)
{
    const struct lease_server server = {.system_identifier = INT64_MAX, .database_oid = UINT32_MAX};
    const struct lease_server other = {.system_identifier = INT64_MAX, .database_oid = 5};
    char name[FENCE_QUEUE_BYTES], another[FENCE_QUEUE_BYTES];

    (void)state;
    fence_queue_name(name, &server, 1023, FENCE_PARKED);
    assert_string_equal(name, "outbox.relay.9223372036854775807.4294967295.1023.parked");
    fence_queue_name(name, &server, 0, FENCE_LOG);
    assert_string_equal(name, "outbox.relay.9223372036854775807.4294967295.0");
    fence_queue_name(another, &other, 0, FENCE_LOG);
    assert_string_not_equal(name, another);
}

/* Two of them are the silence after which a side takes the other for gone. */
static void test_heartbeats_are_within_the_term(void **state)
{
    (void)state;
    for (int64_t term_s = 2; term_s <= 600; term_s++) {
        int heartbeat_s = fence_heartbeat_max_s(term_s * US_PER_S);

        assert_true(heartbeat_s >= 1);
        assert_true(2 * heartbeat_s <= term_s);
        assert_true(2 * (heartbeat_s + 1) > term_s);
    }
}

/* Three answers that never come, and the pause of a heartbeat, are no silence. */
static void test_opening_is_no_silence(void **state)
{
    (void)state;
    for (int64_t term_s = 2; term_s <= 600; term_s++)
        assert_true(3 * fence_connect_max_us(term_s * US_PER_S) < term_s * US_PER_S);
}

/* Other relays ----------------------------------------------------------------------------------
 */

#define TERM_S    10
#define TURNS_MAX 5000

static struct fake broker;
static struct keys *held;
static struct flow *flow;
static struct destinations *destinations;
static struct lane *lane;
static struct fence *fence;

static int setup(void **state)
{
    const struct lease_server server = {.system_identifier = 77, .database_oid = 5};
    struct fence_options options = {.loop = parts.loop,
                                    .session = fake_session(),
                                    .stats = &parts.stats,
                                    .share = 3,
                                    .term_us = TERM_S * US_PER_S,
                                    .on_failure = parts_on_failure};
    struct lane_options lane_options = {.name = "log", .window = 4, .stats = &parts.stats};
    struct error error;

    parts_setup(state);
    fake_init(&broker);
    fake_start(&broker, fake_serve); /* as long as the lane is not started, it is away */
    options.loop = lane_options.loop = parts.loop;
    lane_options.broker = (struct broker_options){.uri = broker.uri,
                                                  .connect_timeout_us = US_PER_S,
                                                  .backoff_base_us = US_PER_S,
                                                  .backoff_cap_us = US_PER_S,
                                                  .out_bytes_max = 4096};
    if (fence_create(&fence, &options, &error) < 0 || keys_create(&held, 4, &error) < 0 ||
        flow_create(&flow, 4, held, &error) < 0 || destinations_create(&destinations, &error) < 0)
        fail_msg("%s", error.message);
    lane_options.flow = flow;
    lane_options.destinations = destinations;
    fence_hook(fence, FENCE_LOG, &lane_options);
    if (lane_create(&lane, &lane_options, &error) < 0)
        fail_msg("%s", error.message);
    fence_attach(fence, FENCE_LOG, lane);
    fence_raise(fence, &server);
    return 0;
}

static int teardown(void **state)
{
    lane_destroy(lane);
    fence_destroy(fence);
    destinations_destroy(destinations);
    flow_destroy(flow);
    keys_destroy(held);
    fake_end(&broker);
    fake_finish(&broker);
    return parts_teardown(state);
}

/* RabbitMQ is away for a whole term, and a look is under way. */
static void let_a_term_pass(void)
{
    fence_tick(fence);
    for (int second = 0; second < TERM_S; second++) {
        parts_advance(US_PER_S);
        fence_tick(fence);
        assert_string_equal(fake_asked(), "");
    }
    parts_advance(US_PER_S);
    fence_tick(fence);
    assert_string_equal(fake_asked(), "relay_others");
    assert_string_equal(fake_param(1), "3");
}

/* How many looks are refused in so many seconds; until the share is given up. */
static int refuse_for(int seconds, enum error_retry retry)
{
    int refused = 0;

    for (int second = 0; second < seconds && parts.failures == 0; second++) {
        if (fake_asked()[0]) {
            fake_refuse("relay_others", retry, "42501");
            refused++;
        }
        parts_advance(US_PER_S);
        fence_tick(fence);
    }
    return refused;
}

static struct pg_result *somebody_waits(bool waits)
{
    return fake_row(fake_result("b"), waits);
}

static void test_it_resigns_where_another_waits(void **state)
{
    (void)state;
    let_a_term_pass();
    fake_answer("relay_others", somebody_waits(false));
    assert_int_equal(parts.failures, 0);
    parts_advance(US_PER_S);
    fence_tick(fence);
    fake_answer("relay_others", somebody_waits(true));
    assert_int_equal(parts.failures, 1);
    assert_contains(parts.error.message, "another relay waits");
    assert_int_equal(metric_value(parts.stats.resignations), 1);
}

/* Nobody was told, and nobody stood in: it asked again each second, for as long as RabbitMQ was
 * away, whatever PostgreSQL said. */
static void test_a_look_that_is_refused_is_told_once(void **state)
{
    (void)state;
    let_a_term_pass();
    assert_in_range(refuse_for(TERM_S - 3, RETRY_LATER), 3, 4); /* with pauses that double */
    assert_int_equal(parts.failures, 0);
    const char *log = parts_logged();
    assert_int_equal(parts_lines(log, "cannot be known"), 1);
    assert_contains(log, "share=3");
    assert_contains(log, "42501");
    parts_advance(TERM_S * US_PER_S);
    fence_tick(fence);
    fake_answer("relay_others", somebody_waits(false));
    assert_int_equal(parts_lines(parts_logged(), "is known again"), 1);
    parts_advance(US_PER_S);
    fence_tick(fence); /* as before */
    fake_answer("relay_others", somebody_waits(false));
    assert_string_equal(parts_logged(), "");
    assert_int_equal(parts.failures, 0);
}

/* Another may wait, and RabbitMQ stay away from here for days. */
static void test_it_resigns_where_that_cannot_be_known(void **state)
{
    static const enum error_retry classes[] = {RETRY_NOW, RETRY_LATER, RETRY_BUG, RETRY_NEVER};
    const struct lease_server server = {.system_identifier = 77, .database_oid = 5};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(classes); i++) {
        parts.failures = 0;
        let_a_term_pass();
        assert_in_range(refuse_for(5 * TERM_S, classes[i]), 4, 6);
        assert_int_equal(parts.failures, 1);
        assert_int_equal(parts.error.retry, RETRY_LATER); /* the relay goes on, whatever it was */
        assert_contains(parts.error.message, "in case one does");
        assert_int_equal(metric_value(parts.stats.resignations), i + 1);
        assert_int_equal(parts_lines(parts_logged(), "cannot be known"), i == 0);
        fence_lower(fence, "the share was given up");
        fence_raise(fence, &server); /* nobody waited */
    }
}

static void test_a_look_that_cannot_be_sent_is_told(void **state)
{
    (void)state;
    fence_tick(fence);
    parts_advance((TERM_S + 1) * US_PER_S);
    fake_session_send_fails(1, ERROR_LIMIT, RETRY_LATER);
    fence_tick(fence);
    assert_string_equal(fake_asked(), "");
    assert_int_equal(parts_lines(parts_logged(), "cannot be known"), 1);
    parts_advance(TERM_S * US_PER_S);
    fence_tick(fence);
    assert_string_equal(fake_asked(), "relay_others");
    fake_loses_connection(); /* and with it the share: nothing of ours to tell */
    assert_string_equal(parts_logged(), "");
    parts_advance(TERM_S * US_PER_S);
    fence_tick(fence);
    assert_string_equal(parts_logged(), "");
    assert_int_equal(parts.failures, 0);
}

/* Each outage of RabbitMQ is told of. */
static void test_an_outage_ends(void **state)
{
    struct error error;

    (void)state;
    let_a_term_pass();
    fake_refuse("relay_others", RETRY_LATER, "53200");
    assert_int_equal(parts_lines(parts_logged(), "cannot be known"), 1);
    lane_start(lane);
    for (int turns = 0; !lane_is_up(lane); turns++) {
        assert_in_range(turns, 0, TURNS_MAX);
        clock_fake_advance(&parts.clock, US_PER_MS);
        if (loop_turn(parts.loop, US_PER_MS, &error) < 0)
            fail_msg("%s", error.message);
    }
    fence_tick(fence);
    fake_end(&broker);
    fence_lower(fence, "away again");
    parts_advance(0);
    assert_false(lane_is_up(lane));
    if (fake_asked()[0])
        fake_answer("relay_proof", somebody_waits(true));
    fence_raise(fence, &(const struct lease_server){.system_identifier = 77, .database_oid = 5});
    (void)parts_logged();
    let_a_term_pass();
    fake_refuse("relay_others", RETRY_LATER, "53200");
    assert_int_equal(parts_lines(parts_logged(), "cannot be known"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_heartbeats_are_within_the_term),
        cmocka_unit_test(test_opening_is_no_silence),
        cmocka_unit_test_setup_teardown(test_it_resigns_where_another_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_look_that_is_refused_is_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_resigns_where_that_cannot_be_known, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_look_that_cannot_be_sent_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_outage_ends, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
