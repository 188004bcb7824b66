/* A run of chance against what the flow promises: each row sent is checked against all that went
 * before. */
#include "tests/unit/relay/rows/flow_test.h"

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
        cmocka_unit_test(test_chance),
        cmocka_unit_test(test_chance_when_it_is_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
