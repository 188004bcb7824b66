#include "outbox/relay/flow.h"
#include "tests/unit/relay/relay_test.h"

#include <string.h>

static struct flow *flow;
static struct keys *held;

static void create(uint32_t rows_max)
{
    assert_int_equal(keys_create(&held, 10000, NULL), 0);
    assert_int_equal(flow_create(&flow, rows_max, held, NULL), 0);
}

static void destroy(void)
{
    flow_clear(flow, NULL, NULL);
    flow_destroy(flow);
    keys_destroy(held);
}

static void push(int64_t id, uint64_t key, bool pipelined, bool holds)
{
    struct flow_item item = {.id = id, .key = key, .pipelined = pipelined, .holds = holds};

    flow_push(flow, &item);
    flow_permit(flow, flow_pushed(flow));
}

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

static uint32_t place_of(int64_t id)
{
    for (uint64_t number = flow_popped(flow); number < flow_pushed(flow); number++)
        if (flow_item(flow, flow_place(flow, number))->id == id)
            return flow_place(flow, number);
    fail_msg("no row %lld", (long long)id);
    return 0;
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

/* A run of chance against the promises ------------------------------------------------------------
 */

enum { KEYS = 6, ROWS = 4000 };

struct world {
    struct chance chance;
    uint64_t key_of[ROWS + 1];
    bool pipelined[ROWS + 1], holds[ROWS + 1];
    int state[ROWS + 1]; /* 0: waits, 1: in flight, 2: done, 3: aside */
    int in_flight[ROWS + 1];
    int flight_count;
    int64_t pushed, popped;
    uint32_t window;
    bool was_held[KEYS + 1];
};

static void world_push(struct world *world)
{
    int64_t id = ++world->pushed;
    uint64_t key = chance_below(&world->chance, KEYS + 1);

    world->key_of[id] = key;
    world->pipelined[id] = key % 2 == 1 && chance_below(&world->chance, 4) > 0;
    world->holds[id] = key && key % 3 != 0;
    push(id, key, world->pipelined[id], world->holds[id]);
}

/* Whether it was right to send this row now. */
static void world_check_sent(const struct world *world, int64_t id)
{
    uint64_t key = world->key_of[id];

    assert_int_equal(world->state[id], 0);
    if (!key)
        return;
    for (int64_t other = world->popped + 1; other <= world->pushed; other++) {
        if (world->key_of[other] != key || other == id)
            continue;
        if (other < id) /* everything before it is settled, or sent before it without waiting */
            assert_true(
                world->state[other] >= 2 ||
                (world->state[other] == 1 && world->pipelined[other] && world->pipelined[id]));
        else
            assert_int_not_equal(world->state[other], 1);
    }
}

static void world_send(struct world *world)
{
    uint32_t place = flow_next(flow);
    int64_t id;

    if (place == FLOW_NONE)
        return;
    id = flow_item(flow, place)->id;
    world_check_sent(world, id);
    assert_null(world->key_of[id] ? keys_find(held, world->key_of[id]) : NULL);
    flow_sent(flow, place);
    world->state[id] = 1;
    world->in_flight[world->flight_count++] = (int)id;
    assert_true(flow_unpersisted(flow) <= world->window);
}

static void world_settle(struct world *world, uint32_t refuse_one_in)
{
    uint32_t which;
    int64_t id;

    if (world->flight_count == 0)
        return;
    which = chance_below(&world->chance, (uint32_t)world->flight_count);
    id = world->in_flight[which];
    world->in_flight[which] = world->in_flight[--world->flight_count];
    if (refuse_one_in && chance_below(&world->chance, refuse_one_in) == 0) {
        flow_set_aside(flow, place_of(id), FLOW_WAITING);
        world->state[id] = 3;
    } else {
        flow_done(flow, place_of(id));
        world->state[id] = 2;
    }
}

static void world_lose(struct world *world)
{
    flow_lost(flow);
    for (int i = 0; i < world->flight_count; i++)
        world->state[world->in_flight[i]] = 0;
    world->flight_count = 0;
}

static void world_pop_row(void *data, struct flow_item *item)
{
    struct world *world = data;

    assert_int_equal(item->id, world->popped + 1);
    assert_true(item->state == FLOW_DONE || item->state == FLOW_ASIDE);
    world->popped = item->id;
    /* As when the transaction that took its parked row away has committed. */
    if (item->state == FLOW_ASIDE && item->key && (item->holds || item->aside == FLOW_BEHIND))
        keys_release(held, item->key);
}

/* Rows set aside behind another are settled without our doing. */
static void world_notice_behind(struct world *world)
{
    for (uint64_t number = flow_popped(flow); number < flow_pushed(flow); number++) {
        const struct flow_item *item = flow_item(flow, flow_place(flow, number));

        if (item->state == FLOW_ASIDE)
            world->state[item->id] = 3;
    }
}

static void world_step(struct world *world, uint32_t refuse_one_in, uint32_t lose_one_in)
{
    uint32_t what = chance_below(&world->chance, 100);

    if (what < 30 && world->pushed < ROWS && flow_room(flow) > 0)
        world_push(world);
    else if (what < 60)
        world_send(world);
    else if (what < 90)
        world_settle(world, refuse_one_in);
    else if (lose_one_in && chance_below(&world->chance, lose_one_in) == 0)
        world_lose(world);
    else
        flow_pop(flow, flow_settled(flow), world_pop_row, world);
    world_notice_behind(world);
}

static void run_world(uint64_t seed, uint32_t window, uint32_t refuse_one_in, uint32_t lose_one_in)
{
    struct world *world = calloc(1, sizeof(*world));
    int steps = 0;

    create(64);
    world->chance = chance_of(seed);
    world->window = window;
    flow_set_window(flow, window);
    while (world->popped < ROWS) {
        world_step(world, refuse_one_in, lose_one_in);
        if (++steps > 4000000)
            fail_msg("seed %llu: stands still at row %lld of %lld", (unsigned long long)seed,
                     (long long)world->popped, (long long)world->pushed);
    }
    assert_int_equal(flow_unpersisted(flow), 0);
    assert_int_equal(keys_count(held), 0);
    destroy();
    free(world);
}

/* Stopped in the middle of it: nothing that is confirmed is left beyond what is popped, and nothing
 * was sent but for that. */
static void stop_world(uint64_t seed, uint32_t window)
{
    struct world *world = calloc(1, sizeof(*world));
    uint32_t before;
    int64_t last_sent;

    create(64);
    world->chance = chance_of(seed);
    world->window = window;
    flow_set_window(flow, window);
    before = 100 + chance_below(&world->chance, 400);
    for (uint32_t i = 0; i < before; i++)
        world_step(world, 20, 50);
    last_sent = world->popped;
    for (int64_t id = world->popped + 1; id <= world->pushed; id++)
        if (flow_item(flow, place_of(id))->sent)
            last_sent = id;
    flow_finish(flow, UINT32_MAX);
    for (int steps = 0; !flow_is_finished(flow) || world->flight_count > 0; steps++) {
        if (steps > 100000)
            fail_msg("seed %llu: does not finish", (unsigned long long)seed);
        world_step(world, 20, steps < 1000 ? 50 : 0);
    }
    flow_pop(flow, flow_settled(flow), world_pop_row, world);
    for (int64_t id = world->popped + 1; id <= world->pushed; id++)
        assert_int_not_equal(world->state[id], 2);
    for (int64_t id = last_sent + 1; id <= world->pushed; id++)
        assert_true(world->state[id] == 0 || world->state[id] == 3);
    destroy();
    free(world);
}

static void test_chance_when_it_is_stopped(void **state)
{
    static const uint32_t windows[] = {1, 2, 3, 4, 8, 20, 64};

    (void)state;
    for (uint64_t seed = 1; seed <= 210; seed++)
        stop_world(seed, windows[seed % COUNT_OF(windows)]);
}

static void test_chance(void **state)
{
    static const uint32_t windows[] = {1, 2, 3, 4, 8, 20, 64};

    (void)state;
    for (uint64_t seed = 1; seed <= 28; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_world(seed, windows[seed % COUNT_OF(windows)], seed % 3 ? 20 : 0, seed % 4 ? 5 : 0);
    }
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
        cmocka_unit_test(test_chance),
        cmocka_unit_test(test_chance_when_it_is_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
