#include "outbox/relay/publishing/confirm.h"
#include "tests/unit/relay/relay_test.h"

#define ITEMS 64

static struct confirm *confirm;
static enum confirm_outcome outcomes[ITEMS]; /* CONFIRM_OPEN: not settled */
static uint32_t order[ITEMS];
static int settled_count;

static void on_settled(void *data, const struct confirm_entry *entry)
{
    assert_ptr_equal(data, outcomes);
    assert_int_equal(outcomes[entry->item], CONFIRM_OPEN); /* once */
    outcomes[entry->item] = entry->outcome;
    order[settled_count++] = entry->item;
}

static int set_up(void **state)
{
    (void)state;
    settled_count = 0;
    for (int i = 0; i < ITEMS; i++)
        outcomes[i] = CONFIRM_OPEN;
    return confirm_create(&confirm, 8, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    confirm_destroy(confirm);
    return 0;
}

static void add(uint64_t tag)
{
    confirm_add(confirm, tag, (uint32_t)tag, 1000 + tag, (int64_t)tag * 10);
}

static bool settle(uint64_t tag, bool multiple, bool acked)
{
    return confirm_settle(confirm, tag, multiple, acked, on_settled, outcomes);
}

static void test_acks_come_in_any_order(void **state)
{
    (void)state;
    for (uint64_t tag = 1; tag <= 5; tag++)
        add(tag);
    assert_true(settle(3, false, true));
    assert_int_equal(outcomes[3], CONFIRM_ACKED);
    assert_int_equal(confirm_open(confirm), 4);
    assert_int_equal(confirm_oldest_us(confirm), 10);
    assert_true(settle(4, true, true)); /* 1, 2 and 4 */
    assert_int_equal(settled_count, 4);
    assert_int_equal(order[1], 1);
    assert_int_equal(order[2], 2);
    assert_int_equal(order[3], 4);
    assert_int_equal(outcomes[5], CONFIRM_OPEN);
    assert_int_equal(confirm_oldest_us(confirm), 50);
    assert_true(settle(5, false, false));
    assert_int_equal(outcomes[5], CONFIRM_NACKED);
    assert_int_equal(confirm_open(confirm), 0);
    assert_int_equal(confirm_oldest_us(confirm), 0);
}

static void test_tag_zero_is_all(void **state)
{
    (void)state;
    add(1);
    add(2);
    assert_true(settle(0, true, true));
    assert_int_equal(settled_count, 2);
}

static void test_what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    assert_false(settle(1, false, true)); /* never given out */
    add(1);
    assert_false(settle(2, true, true));
    assert_true(settle(1, false, true));
    assert_false(settle(1, false, true)); /* settled already */
    assert_false(settle(0, false, true));
    assert_true(settle(1, true, true)); /* nothing is left, and that is no lie */
    assert_int_equal(settled_count, 1);
}

static void test_a_return_waits_for_its_ack(void **state)
{
    (void)state;
    add(1);
    add(2);
    assert_true(confirm_return(confirm, 1002, 312));
    assert_int_equal(settled_count, 0);
    assert_true(settle(2, true, true));
    assert_int_equal(outcomes[1], CONFIRM_ACKED);
    assert_int_equal(outcomes[2], CONFIRM_RETURNED);
    assert_false(confirm_return(confirm, 1002, 312)); /* not open any more */
}

/* The same message twice in flight: each return is for the oldest that has none. */
static void test_returns_of_one_fingerprint_go_to_the_oldest(void **state)
{
    (void)state;
    for (uint64_t tag = 1; tag <= 3; tag++)
        confirm_add(confirm, tag, (uint32_t)tag, 7, 1);
    assert_true(confirm_return(confirm, 7, 312));
    assert_true(confirm_return(confirm, 7, 312));
    assert_true(settle(0, true, true));
    assert_int_equal(outcomes[1], CONFIRM_RETURNED);
    assert_int_equal(outcomes[2], CONFIRM_RETURNED);
    assert_int_equal(outcomes[3], CONFIRM_ACKED);
}

static void test_a_nack_beats_a_return(void **state)
{
    (void)state;
    add(1);
    assert_true(confirm_return(confirm, 1001, 312));
    assert_true(settle(1, false, false));
    assert_int_equal(outcomes[1], CONFIRM_NACKED);
}

static void test_a_lost_channel_leaves_nothing_open(void **state)
{
    (void)state;
    for (uint64_t tag = 1; tag <= 4; tag++)
        add(tag);
    assert_true(settle(2, false, true));
    assert_true(confirm_return(confirm, 1003, 312));
    confirm_lost(confirm, on_settled, outcomes);
    assert_int_equal(settled_count, 4);
    assert_int_equal(outcomes[1], CONFIRM_UNKNOWN);
    assert_int_equal(outcomes[2], CONFIRM_ACKED);
    assert_int_equal(outcomes[3], CONFIRM_UNKNOWN); /* returned, but its ack never came */
    add(1); /* tags start again; outcomes of item 1 would be settled twice, so it is only added */
    assert_int_equal(confirm_open(confirm), 1);
}

static void test_room_ends_with_the_oldest_open(void **state)
{
    uint64_t tag = 0;

    (void)state;
    while (confirm_has_room(confirm))
        add(++tag);
    assert_int_equal(tag, 8);
    for (uint64_t each = 2; each <= 8; each++)
        assert_true(settle(each, false, true));
    assert_false(confirm_has_room(confirm)); /* tag 1 keeps its place */
    assert_true(settle(1, false, true));
    assert_true(confirm_has_room(confirm));
}

static void forget(void *data, struct confirm_entry *entry)
{
    (void)data;
    entry->item = ITEMS - 1;
}

static void test_each_open_may_be_changed(void **state)
{
    (void)state;
    add(1);
    add(2);
    assert_true(settle(1, false, true));
    confirm_each_open(confirm, forget, NULL);
    assert_true(settle(2, false, true));
    assert_int_equal(outcomes[ITEMS - 1], CONFIRM_ACKED);
    assert_int_equal(outcomes[2], CONFIRM_OPEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_acks_come_in_any_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tag_zero_is_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_makes_no_sense_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_return_waits_for_its_ack, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_returns_of_one_fingerprint_go_to_the_oldest, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_nack_beats_a_return, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_lost_channel_leaves_nothing_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_room_ends_with_the_oldest_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_each_open_may_be_changed, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
