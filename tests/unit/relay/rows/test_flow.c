#include "tests/unit/relay/rows/flow_test.h"

/* Sends what is next and gives its id; 0: nothing is. */
static int64_t send_next(void)
{
    uint32_t place = flow_next(flow);

    if (place == FLOW_NONE)
        return 0;
    assert_int_equal(flow_next(flow), place); /* asking again gives the same */
    flow_sent(flow, place);
    return flow_item(flow, place)->id;
}

static void release_nothing(void *data, struct flow_item *item)
{
    (void)data;
    (void)item;
}

static void test_strict_keys_go_one_at_a_time(void **state)
{
    (void)state;
    create(16);
    push(1, 7, false, true);
    push(2, 7, false, true);
    push(3, 8, false, true);
    push(4, 0, false, false);
    push(5, 7, false, true);
    assert_int_equal(send_next(), 1);
    assert_int_equal(send_next(), 3);
    assert_int_equal(send_next(), 4);
    assert_int_equal(send_next(), 0);
    flow_done(flow, place_of(1));
    assert_int_equal(send_next(), 2);
    assert_int_equal(send_next(), 0);
    flow_done(flow, place_of(2));
    assert_int_equal(send_next(), 5);
    destroy();
}

static void test_pipelined_keys_do_not_wait_for_themselves(void **state)
{
    (void)state;
    create(16);
    push(1, 7, true, true);
    push(2, 7, true, true);
    push(3, 7, false, true); /* another type of the same key, strict */
    push(4, 7, true, true);
    assert_int_equal(send_next(), 1);
    assert_int_equal(send_next(), 2);
    assert_int_equal(send_next(), 0);
    flow_done(flow, place_of(1));
    assert_int_equal(send_next(), 0);
    flow_done(flow, place_of(2));
    assert_int_equal(send_next(), 3);
    assert_int_equal(send_next(), 0);
    flow_done(flow, place_of(3));
    assert_int_equal(send_next(), 4);
    destroy();
}

static void test_a_refused_row_holds_its_key(void **state)
{
    (void)state;
    create(16);
    push(1, 7, false, true);
    push(2, 7, false, true);
    push(3, 8, false, true);
    assert_int_equal(send_next(), 1);
    assert_int_equal(send_next(), 3);
    flow_set_aside(flow, place_of(1), FLOW_WAITING);
    assert_int_equal(flow_item(flow, place_of(1))->aside, FLOW_WAITING);
    assert_int_equal(flow_item(flow, place_of(2))->state, FLOW_ASIDE); /* it was queued */
    assert_int_equal(flow_item(flow, place_of(2))->aside, FLOW_BEHIND);
    push(4, 7, false, true); /* and so is what comes later */
    assert_int_equal(send_next(), 0);
    assert_int_equal(flow_item(flow, place_of(4))->aside, FLOW_BEHIND);
    assert_int_equal(keys_find(held, 7)->held, 3);
    assert_int_equal(flow_settled(flow), 2);
    flow_done(flow, place_of(3));
    assert_int_equal(flow_settled(flow), 4);
    destroy();
}

static void test_skip_lets_the_key_go_on(void **state)
{
    (void)state;
    create(16);
    push(1, 7, false, false);
    push(2, 7, false, false);
    assert_int_equal(send_next(), 1);
    flow_set_aside(flow, place_of(1), FLOW_PARKED);
    assert_null(keys_find(held, 7));
    assert_int_equal(send_next(), 2);
    destroy();
}

/* Also a row of a type that would not hold its key waits behind one that does. */
static void test_skip_waits_behind_hold(void **state)
{
    (void)state;
    create(16);
    push(1, 7, false, true);
    push(2, 7, false, false);
    assert_int_equal(send_next(), 1);
    flow_set_aside(flow, place_of(1), FLOW_PARKED);
    assert_int_equal(send_next(), 0);
    assert_int_equal(flow_item(flow, place_of(2))->aside, FLOW_BEHIND);
    assert_int_equal(keys_find(held, 7)->held, 2);
    destroy();
}

static void test_a_pipelined_row_refused_after_another_is_behind(void **state)
{
    (void)state;
    create(16);
    push(1, 7, true, true);
    push(2, 7, true, true);
    push(3, 7, true, true);
    assert_int_equal(send_next(), 1);
    assert_int_equal(send_next(), 2);
    assert_int_equal(send_next(), 3);
    flow_set_aside(flow, place_of(1), FLOW_WAITING);
    assert_int_equal(flow_overtaken(flow), 0); /* nobody has, yet */
    flow_done(flow, place_of(2));
    assert_int_equal(flow_overtaken(flow), 1);
    flow_set_aside(flow, place_of(3), FLOW_WAITING);
    assert_int_equal(flow_item(flow, place_of(3))->aside, FLOW_BEHIND);
    assert_int_equal(flow_overtaken(flow), 1);
    destroy();
}

/* Each refused row counts once, whatever the order in which the answers come. */
static void test_overtaken_rows_are_counted(void **state)
{
    (void)state;
    create(16);
    for (int64_t id = 1; id <= 6; id++)
        push(id, 7, true, true);
    push(7, 8, true, true);
    while (send_next())
        ;
    flow_done(flow, place_of(2));
    assert_int_equal(flow_overtaken(flow), 0);
    flow_set_aside(flow, place_of(1), FLOW_WAITING); /* 2 has arrived before this was known */
    assert_int_equal(flow_overtaken(flow), 1);
    flow_set_aside(flow, place_of(3), FLOW_WAITING);
    flow_set_aside(flow, place_of(4), FLOW_WAITING);
    flow_done(flow, place_of(7)); /* another key */
    assert_int_equal(flow_overtaken(flow), 1);
    flow_done(flow, place_of(5));
    assert_int_equal(flow_overtaken(flow), 3);
    flow_set_aside(flow, place_of(6), FLOW_WAITING); /* nobody is left to overtake it */
    assert_int_equal(flow_overtaken(flow), 3);
    flow_clear(flow, NULL, NULL);
    assert_int_equal(flow_overtaken(flow), 3);
    destroy();
}

/* The broker may tell of refusals before it confirms what lies between them. */
static void test_overtaken_rows_are_counted_between_refusals(void **state)
{
    (void)state;
    create(16);
    for (int64_t id = 1; id <= 7; id++)
        push(id, id == 4 ? 8 : 7, true, true);
    while (send_next())
        ;
    flow_set_aside(flow, place_of(1), FLOW_WAITING);
    flow_set_aside(flow, place_of(3), FLOW_WAITING);
    flow_set_aside(flow, place_of(4), FLOW_WAITING); /* another key */
    flow_set_aside(flow, place_of(6), FLOW_WAITING);
    flow_done(flow, place_of(5)); /* has overtaken 1 and 3 */
    assert_int_equal(flow_overtaken(flow), 2);
    flow_done(flow, place_of(2)); /* has overtaken 1, which counts once */
    assert_int_equal(flow_overtaken(flow), 2);
    flow_done(flow, place_of(7));
    assert_int_equal(flow_overtaken(flow), 3);
    destroy();
}

static void test_uncarriable_rows_are_set_aside_unsent(void **state)
{
    uint32_t place;

    (void)state;
    create(16);
    push(1, 7, false, true);
    push(2, 0, false, false);
    place = flow_next(flow);
    flow_set_aside(flow, place, FLOW_PARKED);
    assert_int_equal(flow_unpersisted(flow), 0);
    assert_int_equal(send_next(), 2);
    destroy();
}

static void test_a_lost_channel_sends_again_in_order(void **state)
{
    (void)state;
    create(16);
    for (int64_t id = 1; id <= 5; id++)
        push(id, 7, true, true);
    for (int64_t id = 1; id <= 4; id++)
        assert_int_equal(send_next(), id);
    flow_done(flow, place_of(2));
    flow_lost(flow);
    assert_int_equal(send_next(), 1);
    assert_int_equal(send_next(), 3);
    flow_lost(flow); /* again, while 4 was still to be sent */
    assert_int_equal(send_next(), 1);
    assert_int_equal(send_next(), 3);
    assert_int_equal(send_next(), 4);
    assert_int_equal(send_next(), 5);
    destroy();
}

static void test_rows_that_are_not_permitted_wait(void **state)
{
    struct flow_item item = {.id = 1};

    (void)state;
    create(16);
    flow_push(flow, &item);
    assert_int_equal(send_next(), 0);
    flow_permit(flow, 1);
    assert_int_equal(send_next(), 1);
    destroy();
}

static void test_the_window_counts_what_is_not_popped(void **state)
{
    int sent = 0;

    (void)state;
    create(64);
    flow_set_window(flow, 8);
    for (int64_t id = 1; id <= 32; id++)
        push(id, 0, false, false);
    while (send_next())
        sent++;
    assert_int_equal(sent, 6); /* a quarter is for rows that waited for their key */
    for (int64_t id = 2; id <= 6; id++)
        flow_done(flow, place_of(id));
    assert_int_equal(send_next(), 0); /* settled is not persisted */
    flow_done(flow, place_of(1));
    assert_int_equal(flow_settled(flow), 6);
    flow_pop(flow, 6, release_nothing, NULL);
    assert_int_equal(send_next(), 7);
    destroy();
}

static void test_a_window_of_one_works(void **state)
{
    (void)state;
    create(8);
    flow_set_window(flow, 1);
    push(1, 7, false, true);
    push(2, 7, false, true);
    push(3, 8, false, true);
    for (int64_t id = 1; id <= 3; id++) {
        assert_int_equal(send_next(), id);
        assert_int_equal(send_next(), 0);
        flow_done(flow, place_of(id));
        flow_pop(flow, flow_settled(flow), release_nothing, NULL);
    }
    destroy();
}

static void test_finishing_sends_what_lies_before_what_was_sent(void **state)
{
    (void)state;
    create(16);
    push(1, 7, false, true);
    push(2, 7, false, true);
    push(3, 0, false, true);
    push(4, 7, false, true);
    push(5, 8, false, true);
    push(6, 0, false, true);
    assert_int_equal(send_next(), 1);
    assert_int_equal(send_next(), 3);
    flow_done(flow, place_of(3));
    flow_finish(flow, 16);
    assert_int_equal(send_next(), 0); /* 2 waits for 1; 4, 5 and 6 lie beyond all that was sent */
    flow_done(flow, place_of(1));
    assert_int_equal(send_next(), 2);
    flow_pop(flow, flow_settled(flow), release_nothing, NULL);
    assert_false(flow_is_finished(flow));
    flow_done(flow, place_of(2));
    flow_pop(flow, flow_settled(flow), release_nothing, NULL);
    assert_int_equal(flow_popped(flow), 3);
    assert_true(flow_is_finished(flow));
    assert_int_equal(send_next(), 0);
    destroy();
}

static void test_finishing_sends_no_more_than_it_may(void **state)
{
    (void)state;
    create(16);
    push(1, 7, false, true);
    push(2, 7, false, true);
    push(3, 0, false, true);
    push(4, 7, false, true);
    push(5, 7, false, true);
    push(6, 0, false, true);
    assert_int_equal(send_next(), 1);
    assert_int_equal(send_next(), 3);
    assert_int_equal(send_next(), 6);
    flow_finish(flow, 1); /* 2 for the sake of 3, but not 4 and 5 for that of 6 */
    flow_done(flow, place_of(1));
    assert_int_equal(send_next(), 2);
    flow_done(flow, place_of(3));
    flow_done(flow, place_of(2));
    assert_int_equal(send_next(), 0);
    flow_pop(flow, flow_settled(flow), release_nothing, NULL);
    assert_true(flow_is_finished(flow));
    destroy();
}

static void test_finishing_with_nothing_sent_is_finished(void **state)
{
    (void)state;
    create(16);
    assert_false(flow_is_finished(flow));
    flow_finish(flow, 16);
    assert_true(flow_is_finished(flow));
    push(1, 0, false, true);
    assert_int_equal(send_next(), 0);
    flow_clear(flow, NULL, NULL);
    push(1, 0, false, true);
    assert_int_equal(send_next(), 1); /* of another life */
    destroy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strict_keys_go_one_at_a_time),
        cmocka_unit_test(test_pipelined_keys_do_not_wait_for_themselves),
        cmocka_unit_test(test_a_refused_row_holds_its_key),
        cmocka_unit_test(test_skip_lets_the_key_go_on),
        cmocka_unit_test(test_skip_waits_behind_hold),
        cmocka_unit_test(test_a_pipelined_row_refused_after_another_is_behind),
        cmocka_unit_test(test_overtaken_rows_are_counted),
        cmocka_unit_test(test_overtaken_rows_are_counted_between_refusals),
        cmocka_unit_test(test_uncarriable_rows_are_set_aside_unsent),
        cmocka_unit_test(test_a_lost_channel_sends_again_in_order),
        cmocka_unit_test(test_rows_that_are_not_permitted_wait),
        cmocka_unit_test(test_the_window_counts_what_is_not_popped),
        cmocka_unit_test(test_a_window_of_one_works),
        cmocka_unit_test(test_finishing_sends_what_lies_before_what_was_sent),
        cmocka_unit_test(test_finishing_sends_no_more_than_it_may),
        cmocka_unit_test(test_finishing_with_nothing_sent_is_finished),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
