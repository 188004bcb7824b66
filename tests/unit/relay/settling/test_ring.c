/* Emptying leaves of the log is housekeeping: it goes on after whatever went wrong, and says it. */
#include "outbox/relay/settling/ring.h"
#include "tests/unit/relay/relay_parts_test.h"

#define INTERVAL_US (10 * (int64_t)US_PER_S)

static int told; /* that there are leaves to try */

static void on_leaves(void *data)
{
    (void)data;
    told++;
}

static struct ring *create(void)
{
    struct ring_options options = {.loop = parts.loop,
                                   .session = fake_session(),
                                   .stats = &parts.stats,
                                   .interval_us = INTERVAL_US,
                                   .on_leaves = on_leaves};
    struct ring *ring;
    struct error error;

    told = 0;
    if (ring_create(&ring, &options, &error) < 0)
        fail_msg("%s", error.message);
    ring_start(ring);
    return ring;
}

static void test_leaves_are_tried_one_by_one(void **state)
{
    struct ring *ring = create();

    (void)state;
    assert_string_equal(fake_asked(), "");
    parts_advance(INTERVAL_US);
    fake_answer("relay_leaves", fake_row(fake_row(fake_result("i"), 4), 5));
    assert_int_equal(told, 1);
    assert_string_equal(fake_param(1), "4");
    fake_answer("relay_truncate_leaf", fake_row(fake_result("t"), "truncated"));
    assert_contains(parts_logged(), "emptied\" slot=4");
    assert_string_equal(fake_param(1), "5");
    fake_answer("relay_truncate_leaf", fake_row(fake_result("t"), "locked"));
    assert_string_equal(parts_logged(), "");
    assert_int_equal(metric_value(parts.stats.leaves_truncated), 1);
    assert_string_equal(fake_asked(), "");
    parts_advance(INTERVAL_US);
    fake_answer("relay_leaves", fake_result("i"));
    assert_int_equal(told, 1); /* nothing to try */
    ring_destroy(ring);
}

static void test_what_goes_wrong_is_said_and_tried_again(void **state)
{
    struct ring *ring = create();

    (void)state;
    parts_advance(INTERVAL_US);
    fake_refuse("relay_leaves", RETRY_NEVER, "42501");
    assert_contains(parts_logged(), "sqlstate=42501");
    parts_advance(INTERVAL_US);
    fake_answer("relay_leaves", fake_row(fake_row(fake_result("i"), 4), 5));
    fake_refuse("relay_truncate_leaf", RETRY_LATER, "57014"); /* the others wait too */
    assert_contains(parts_logged(), "the log's leaves could not be emptied");
    assert_string_equal(fake_asked(), "");
    fake_session_send_fails(1, ERROR_LIMIT, RETRY_LATER);
    parts_advance(INTERVAL_US);
    assert_contains(parts_logged(), "it cannot be sent");
    parts_advance(INTERVAL_US);
    fake_session_send_fails(1, ERROR_LIMIT, RETRY_LATER);
    fake_answer("relay_leaves", fake_row(fake_result("i"), 4));
    assert_contains(parts_logged(), "it cannot be sent");
    parts_advance(INTERVAL_US);
    assert_string_equal(fake_asked(), "relay_leaves");
    ring_destroy(ring);
}

static void test_a_lost_connection_is_not_its_news(void **state)
{
    struct ring *ring = create();

    (void)state;
    parts_advance(INTERVAL_US);
    fake_answer("relay_leaves", fake_row(fake_result("i"), 4));
    fake_loses_connection();
    ring_stop(ring);
    assert_string_equal(parts_logged(), "");
    parts_advance(2 * INTERVAL_US);
    assert_string_equal(fake_asked(), "");
    fake_session_up(true);
    ring_start(ring);
    parts_advance(INTERVAL_US);
    assert_string_equal(fake_asked(), "relay_leaves");
    ring_destroy(ring);
}

/* Stopped and started again while an answer is on its way: one look follows, not two. */
static void test_an_answer_after_the_stop(void **state)
{
    struct ring *ring = create();

    (void)state;
    parts_advance(INTERVAL_US);
    ring_stop(ring);
    fake_answer("relay_leaves", fake_row(fake_result("i"), 4));
    assert_string_equal(fake_asked(), "");
    assert_int_equal(told, 0);
    ring_start(ring);
    parts_advance(INTERVAL_US);
    ring_stop(ring);
    ring_start(ring);
    parts_advance(INTERVAL_US);
    fake_answer("relay_leaves", fake_result("i"));
    assert_string_equal(fake_asked(), "");
    parts_advance(INTERVAL_US);
    assert_string_equal(fake_asked(), "relay_leaves");
    ring_destroy(ring);
}

static int create_and_destroy(struct error *error)
{
    struct ring_options options = {.loop = parts.loop, .session = fake_session()};
    struct ring *ring = NULL;
    int failed = ring_create(&ring, &options, error);

    ring_destroy(ring);
    return failed;
}

static void test_no_memory(void **state)
{
    (void)state;
    assert_true(each_allocation_fails(create_and_destroy) >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PARTS_TEST(test_leaves_are_tried_one_by_one),
        PARTS_TEST(test_what_goes_wrong_is_said_and_tried_again),
        PARTS_TEST(test_a_lost_connection_is_not_its_news),
        PARTS_TEST(test_an_answer_after_the_stop),
        PARTS_TEST(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
