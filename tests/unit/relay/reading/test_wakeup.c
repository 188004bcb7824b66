/* The table of the wake-up, walked with writers: in every state that can be reached, a row that
 * committed is seen, is being looked for, or somebody is about to say so. The fallback timer is
 * left out: no wake-up may rest on it. */
#include "outbox/relay/reading/wakeup_machine.h"
#include "tests/unit/relay/relay_test.h"

#include <stdbool.h>
#include <string.h>

#define WRITERS    3
#define WORLDS_MAX 4000000

enum writer { BEFORE, SHARES, WILL_NOTIFY, COMMITTED };

/* Everything that matters, in bytes, so that worlds can be compared with memcmp. */
struct world {
    uint8_t state;
    uint8_t due, looking, found; /* `found`: what the look under way will say */
    uint8_t locked, queued_2, locked_2;
    uint8_t trying; /* the lock was asked for */
    uint8_t timer;  /* of a pause or a growing one */
    uint8_t writers[WRITERS];
    uint8_t seen; /* of the writers' rows, a bit each */
    uint8_t notifications;
    uint8_t lost_2; /* the second connection was lost, once */
};

static struct world *worlds;
static uint32_t *table; /* hash table of world + 1 */
static size_t world_count;

#define TABLE_SIZE (WORLDS_MAX * 4u)

static uint64_t hash_of(const struct world *world)
{
    const uint8_t *byte = (const uint8_t *)world;
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < sizeof(*world); i++)
        hash = (hash ^ byte[i]) * 0x100000001b3u;
    return hash ^ (hash >> 31);
}

static void reach(const struct world *world)
{
    uint64_t place = hash_of(world) % TABLE_SIZE;

    for (; table[place]; place = (place + 1) % TABLE_SIZE)
        if (memcmp(&worlds[table[place] - 1], world, sizeof(*world)) == 0)
            return;
    if (world_count == WORLDS_MAX)
        fail_msg("more worlds than expected");
    worlds[world_count++] = *world;
    table[place] = (uint32_t)world_count;
}

/* The relay
 * ---------------------------------------------------------------------------------------- */

static void happened(struct world *world, enum wakeup_event event)
{
    struct wakeup_step step = wakeup_decide(world->state, event);

    if (step.next != world->state)
        world->timer = 0;
    world->state = (uint8_t)step.next;
    if (step.acts & WAKEUP_UNLOCK)
        world->locked = 0;
    if (step.acts & (WAKEUP_UNLOCK_2 | WAKEUP_DROP_2))
        world->locked_2 = world->queued_2 = 0;
    if (step.acts & WAKEUP_TRY)
        world->trying = 1;
    if (step.acts & WAKEUP_QUEUE)
        world->queued_2 = 1;
    if (step.acts & WAKEUP_LOOK)
        world->due = 1;
    if (step.acts & (WAKEUP_ARM_PAUSE | WAKEUP_ARM_GROWING))
        world->timer = 1;
}

static uint8_t committed(const struct world *world)
{
    uint8_t rows = 0;

    for (int i = 0; i < WRITERS; i++)
        if (world->writers[i] == COMMITTED)
            rows |= (uint8_t)(1 << i);
    return rows;
}

static bool is_shared(const struct world *world)
{
    for (int i = 0; i < WRITERS; i++)
        if (world->writers[i] == SHARES)
            return true;
    return false;
}

static void relay_steps(const struct world *from)
{
    struct world next = *from;

    if (from->due && !from->looking) {
        next.due = 0;
        next.looking = 1;
        next.found = committed(from) != from->seen;
        next.seen = committed(from);
        reach(&next);
    }
    if (from->looking) {
        next = *from;
        next.looking = next.found = 0;
        if (!next.due) {
            happened(&next, from->found ? WAKEUP_FOUND : WAKEUP_EMPTY);
            reach(&next);
            if (from->found) {
                next = *from;
                next.looking = next.found = 0;
                happened(&next, WAKEUP_FOUND_OFTEN);
                reach(&next);
                next = *from;
                next.looking = next.found = 0;
                happened(&next, WAKEUP_FOUND_FEW);
            }
        }
        reach(&next);
    }
    if (from->trying) {
        next = *from;
        next.trying = 0;
        if (is_shared(from)) {
            happened(&next, WAKEUP_REFUSED);
            reach(&next);
            next = *from;
            next.trying = 0;
            happened(&next, WAKEUP_REFUSED_AGAIN);
        } else {
            next.locked = 1;
            happened(&next, WAKEUP_GRANTED);
        }
        reach(&next);
    }
    if (from->timer) {
        next = *from;
        next.timer = 0;
        happened(&next, WAKEUP_TIMER);
        reach(&next);
    }
}

/* The world around it
 * ------------------------------------------------------------------------------ */

static void second_connection_steps(const struct world *from)
{
    struct world next = *from;

    if (from->queued_2 && !is_shared(from) && !from->locked) {
        next.queued_2 = 0;
        next.locked_2 = 1;
        happened(&next, WAKEUP_GRANTED_2);
        reach(&next);
    }
    if ((from->queued_2 || from->locked_2) && !from->lost_2) {
        next = *from;
        next.queued_2 = next.locked_2 = 0;
        next.lost_2 = 1;
        happened(&next, WAKEUP_LOST_2);
        reach(&next);
    }
}

static void writer_steps(const struct world *from)
{
    for (int i = 0; i < WRITERS; i++) {
        struct world next = *from;

        if (from->writers[i] == BEFORE) {
            bool refused = from->locked || from->locked_2 || from->queued_2;

            next.writers[i] = refused ? WILL_NOTIFY : SHARES;
            reach(&next);
        } else if (from->writers[i] != COMMITTED) {
            next.writers[i] = COMMITTED;
            if (from->writers[i] == WILL_NOTIFY)
                next.notifications++;
            reach(&next);
        }
    }
}

static void notification_steps(const struct world *from)
{
    struct world next = *from;

    if (!from->notifications)
        return;
    next.notifications--;
    happened(&next, WAKEUP_NOTIFIED);
    reach(&next);
}

/* A relay at rest: nothing of its own is going to happen. */
static bool is_at_rest(const struct world *world)
{
    return !world->due && !world->looking && !world->trying && !world->timer;
}

static void check(const struct world *world)
{
    bool asleep = world->state == WAKEUP_ASLEEP || world->state == WAKEUP_ASLEEP_2;

    if (is_at_rest(world) && !asleep)
        fail_msg("rests without being asleep: %s", wakeup_state_name(world->state));
    if (asleep && !(world->locked || world->locked_2))
        fail_msg("asleep without the lock");
    if (world->locked && world->state != WAKEUP_LAST_LOOK && world->state != WAKEUP_ASLEEP)
        fail_msg("keeps the lock while %s: writers pay for nothing",
                 wakeup_state_name(world->state));
    if (is_at_rest(world) && !world->notifications && committed(world) != world->seen)
        fail_msg("a row committed, and nobody says so");
}

static void test_no_wakeup_is_lost(void **state)
{
    struct world first;
    bool reached[WAKEUP_STATES] = {false};

    (void)state;
    worlds = calloc(WORLDS_MAX, sizeof(*worlds));
    table = calloc(TABLE_SIZE, sizeof(*table));
    world_count = 0;
    memset(&first, 0, sizeof(first));
    first.state = WAKEUP_AWAKE;
    first.due = 1;
    reach(&first);
    for (size_t i = 0; i < world_count; i++) {
        struct world world = worlds[i];

        check(&world);
        reached[world.state] = true;
        relay_steps(&world);
        second_connection_steps(&world);
        writer_steps(&world);
        notification_steps(&world);
    }
    print_message("%zu worlds\n", world_count);
    for (int each = WAKEUP_AWAKE; each < WAKEUP_STATES; each++)
        assert_true(reached[each]);
    free(worlds);
    free(table);
}

static void test_what_means_nothing_changes_nothing(void **state)
{
    (void)state;
    for (int event = 0; event < WAKEUP_EVENTS; event++) {
        struct wakeup_step step = wakeup_decide(WAKEUP_OFF, (enum wakeup_event)event);

        assert_int_equal(step.next, WAKEUP_OFF);
        assert_int_equal(step.acts, 0);
    }
    assert_int_equal(wakeup_decide(WAKEUP_AWAKE, WAKEUP_GRANTED_2).next, WAKEUP_AWAKE);
}

/* Rows that trickle in are looked for once in a moment, and nobody goes to sleep in between. */
static void test_a_few_rows_are_followed_by_a_pause(void **state)
{
    static const enum wakeup_state looking[] = {WAKEUP_AWAKE, WAKEUP_LAST_LOOK};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct wakeup_step step = wakeup_decide(looking[i], WAKEUP_FOUND_FEW);

        assert_int_equal(step.next, WAKEUP_PAUSING);
        assert_true(step.acts & WAKEUP_ARM_PAUSE);
        assert_false(step.acts & WAKEUP_LOOK);
        assert_int_equal(wakeup_decide(looking[i], WAKEUP_FOUND).acts & WAKEUP_LOOK, WAKEUP_LOOK);
    }
    assert_int_equal(wakeup_decide(WAKEUP_PAUSING, WAKEUP_TIMER).acts, WAKEUP_LOOK);
    assert_int_equal(wakeup_decide(WAKEUP_LAST_LOOK_2, WAKEUP_FOUND_FEW).next, WAKEUP_AWAKE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_wakeup_is_lost),
        cmocka_unit_test(test_a_few_rows_are_followed_by_a_pause),
        cmocka_unit_test(test_what_means_nothing_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
