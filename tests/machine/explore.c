/* explore.c: see explore.h. */
#include "tests/machine/explore.h"
#include "tests/machine/sagas.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_FIRST    (1u << 16)
#define PATH_MAX_MOVES 200

enum { SETTLES_GOOD = 1, SETTLES_SILENT = 2 };

struct node {
    struct world_key key;
    uint32_t parent;
    uint8_t settles; /* known to come to an end, by which path */
};

struct explorer {
    struct node *nodes; /* in the order in which they were found */
    uint32_t node_count, node_capacity;
    uint32_t *slots; /* open addressing; index + 1 of a node; 0: free */
    uint32_t slot_count;
};

static void *must_have(void *memory)
{
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return memory;
}

struct explorer *explorer_create(void)
{
    struct explorer *explorer = must_have(calloc(1, sizeof(*explorer)));
    explorer->slot_count = SLOTS_FIRST;
    explorer->slots = must_have(calloc(explorer->slot_count, sizeof(*explorer->slots)));
    return explorer;
}

void explorer_destroy(struct explorer *explorer)
{
    free(explorer->nodes);
    free(explorer->slots);
    free(explorer);
}

static uint64_t hash(const struct world_key *key)
{
    uint64_t value = 0;
    for (int i = 0; i < KEY_WORDS; i++) {
        value = (value ^ key->words[i]) * UINT64_C(0x9e3779b97f4a7c15);
        value ^= value >> 29;
    }
    return value;
}

static uint32_t *slot_of(struct explorer *explorer, const struct world_key *key)
{
    uint32_t mask = explorer->slot_count - 1;
    uint32_t at = (uint32_t)hash(key) & mask;
    while (explorer->slots[at] != 0 &&
           memcmp(&explorer->nodes[explorer->slots[at] - 1].key, key, sizeof(*key)) != 0)
        at = (at + 1) & mask;
    return &explorer->slots[at];
}

static void grow(struct explorer *explorer)
{
    if (explorer->node_count == explorer->node_capacity) {
        explorer->node_capacity = explorer->node_capacity ? 2 * explorer->node_capacity : 1024;
        explorer->nodes =
            must_have(realloc(explorer->nodes, explorer->node_capacity * sizeof(*explorer->nodes)));
    }
    if (2 * (uint64_t)explorer->node_count < explorer->slot_count)
        return;
    free(explorer->slots);
    explorer->slot_count *= 2;
    assert(explorer->slot_count > 0);
    explorer->slots = must_have(calloc(explorer->slot_count, sizeof(*explorer->slots)));
    for (uint32_t i = 0; i < explorer->node_count; i++)
        *slot_of(explorer, &explorer->nodes[i].key) = i + 1;
}

/* The node of a world, new or known. */
static uint32_t visit(struct explorer *explorer, const struct world_key *key, uint32_t parent)
{
    grow(explorer);
    uint32_t *slot = slot_of(explorer, key);
    if (*slot == 0) {
        explorer->nodes[explorer->node_count] = (struct node){.key = *key, .parent = parent};
        *slot = ++explorer->node_count;
    }
    return *slot - 1;
}

struct walk {
    struct explorer *explorer;
    const struct plan *plan;
    const struct world_options *options;
    struct exploration *result;
    bool trace;
    struct saga_orders likes; /* in which worlds are the same; only the first without `folded` */
};

/* The plan that a world goes by. */
static const struct plan *plan_of(const struct walk *walk, const struct world *world)
{
    return world->migrated ? walk->options->to : walk->plan;
}

/* Of all worlds that are the same but for the names of their steps, one stands for the others. */
static struct world_key key_of(const struct walk *walk, const struct world *world)
{
    struct world_key key = world_pack(world);
    struct world_key least = key;
    for (int i = 1; i < walk->likes.count; i++) {
        struct world_key other = world_reorder(&key, walk->likes.orders[i]);
        if (memcmp(&other, &least, sizeof(least)) < 0)
            least = other;
    }
    return least;
}

/* Traces: the moves are found again on the way from each world to the next. */

static bool is_world(const struct walk *walk, const struct world *world,
                     const struct world_key *wanted)
{
    struct world_key key = key_of(walk, world);
    return memcmp(&key, wanted, sizeof(key)) == 0;
}

/* True if this move leads to `wanted`; a command that could not be sent is told in *ret_refusal. */
static bool leads_to(const struct walk *walk, const struct world *before, const struct move *move,
                     const struct world_key *wanted, struct refusal *ret_refusal)
{
    static struct machine_decision decision, unused;
    struct world after = *before;
    const struct plan *plan = plan_of(walk, before);
    const struct plan *after_plan = move->event.to ? move->event.to : plan;
    (void)world_apply(plan, &after, move, NULL, &decision);
    *ret_refusal = (struct refusal){.type = MACHINE_EVENT_COUNT};
    if (is_world(walk, &after, wanted))
        return true;
    for (int i = 0; i < decision.command_count; i++) {
        for (int j = 0; world_refusal(after_plan, &decision, i, j, ret_refusal); j++) {
            after = *before;
            (void)world_apply(plan, &after, move, ret_refusal, &unused);
            if (is_world(walk, &after, wanted))
                return true;
        }
    }
    return false;
}

static void print_step(const struct walk *walk, uint32_t from, uint32_t to)
{
    struct world before, after;
    struct move moves[MOVES_MAX];
    struct refusal refusal;
    const struct world_key *wanted = &walk->explorer->nodes[to].key;
    world_unpack(&walk->explorer->nodes[from].key, &before);
    const struct plan *plan = plan_of(walk, &before);
    int count = world_moves(plan, &before, walk->options, moves);
    for (int i = 0; i < count; i++) {
        if (!leads_to(walk, &before, &moves[i], wanted, &refusal))
            continue;
        move_print(plan, &moves[i]);
        if (refusal.type != MACHINE_EVENT_COUNT)
            printf("  then %s\n", machine_event_name(refusal.type));
        break;
    }
    world_unpack(wanted, &after);
    world_print(plan_of(walk, &after), &after);
}

static void print_path(const struct walk *walk, uint32_t node)
{
    uint32_t parent = walk->explorer->nodes[node].parent;
    if (parent != node) {
        print_path(walk, parent);
        print_step(walk, parent, node);
        return;
    }
    struct world world;
    world_unpack(&walk->explorer->nodes[node].key, &world);
    world_print(plan_of(walk, &world), &world);
}

static void broken(struct walk *walk, const char *why, uint32_t node, const struct move *move,
                   const struct world *world)
{
    walk->result->broken = why;
    if (!walk->trace)
        return;
    printf("BROKEN: %s\n", why);
    print_path(walk, node);
    if (move)
        move_print(world && !move->event.to ? plan_of(walk, world) : walk->plan, move);
    if (world)
        world_print(plan_of(walk, world), world);
}

/* Moves. */

static void make(struct walk *walk, uint32_t node, const struct world *before,
                 const struct move *move, const struct refusal *refusal,
                 struct machine_decision *ret_decision)
{
    struct world after = *before;
    const char *why = world_apply(plan_of(walk, before), &after, move, refusal, ret_decision);
    walk->result->moves++;
    if (why) {
        broken(walk, why, node, move, &after);
        return;
    }
    struct world_key key = key_of(walk, &after);
    visit(walk->explorer, &key, node);
}

/* The same move, and the worker finds that one of the commands cannot be sent. */
static void make_refused(struct walk *walk, uint32_t node, const struct world *before,
                         const struct move *move, const struct machine_decision *decision)
{
    static struct machine_decision unused;
    const struct plan *plan = move->event.to ? move->event.to : plan_of(walk, before);
    struct refusal refusal;
    for (int i = 0; i < decision->command_count; i++) {
        for (int j = 0; !walk->result->broken && world_refusal(plan, decision, i, j, &refusal); j++)
            make(walk, node, before, move, &refusal, &unused);
    }
}

static void expand(struct walk *walk, uint32_t node)
{
    static struct machine_decision decision;
    struct world world;
    struct move moves[MOVES_MAX];
    world_unpack(&walk->explorer->nodes[node].key, &world);
    int count = world_moves(plan_of(walk, &world), &world, walk->options, moves);
    enum saga_state state = world.instance.state;
    if (saga_state_ended(state) || state == SAGA_STUCK)
        walk->result->ended[state]++;
    const char *why =
        walk->options->garbage ? world_try_garbage(plan_of(walk, &world), &world) : NULL;
    if (why)
        broken(walk, why, node, NULL, &world);
    for (int i = 0; i < count && !walk->result->broken; i++) {
        make(walk, node, &world, &moves[i], NULL, &decision);
        if (walk->options->unmappable)
            make_refused(walk, node, &world, &moves[i], &decision);
    }
}

/* Paths to an end. */

static bool at_rest(const struct world *world)
{
    return saga_state_ended(world->instance.state) || world->instance.state == SAGA_STUCK;
}

static bool are_same(const struct walk *walk, const struct world *one, const struct world *other)
{
    struct world_key keys[2] = {key_of(walk, one), key_of(walk, other)};
    return memcmp(&keys[0], &keys[1], sizeof(keys[0])) == 0;
}

/* The move of the path that changes something; -1: none. A child saga that is reminded of its
 * answer is none. */
static int next_move(const struct walk *walk, const struct world *world, bool silent,
                     struct world *ret_after)
{
    static struct machine_decision decision;
    struct move moves[MOVES_MAX];
    int count = world_moves(plan_of(walk, world), world, walk->options, moves);
    for (int timers = silent; timers < 2; timers++) {
        for (int i = 0; i < count; i++) {
            bool wanted = timers ? moves[i].is_timer : moves[i].is_answer;
            *ret_after = *world;
            if (wanted &&
                !world_apply(plan_of(walk, world), ret_after, &moves[i], NULL, &decision) &&
                decision.verdict == VERDICT_APPLIED && !are_same(walk, world, ret_after))
                return i;
        }
    }
    return -1;
}

/* Nobody answers and no timer runs: a pause, a signal that does not come, a child saga that does
 * not end. */
static bool may_wait_for_ever(const struct walk *walk, const struct world *world)
{
    bool waits = world->instance.paused;
    const struct plan *plan = plan_of(walk, world);
    for (int i = 0; i < plan->step_count; i++)
        waits |= world->instance.steps[i].state == STEP_PARKED || plan->steps[i].via == VIA_SAGA;
    return waits;
}

static void follow(struct walk *walk, uint32_t first, bool silent)
{
    uint8_t mark = silent ? SETTLES_SILENT : SETTLES_GOOD;
    uint32_t path[PATH_MAX_MOVES];
    int length = 0;
    uint32_t node = first;
    for (;;) {
        struct world world, after;
        if (walk->explorer->nodes[node].settles & mark)
            break;
        path[length++] = node;
        world_unpack(&walk->explorer->nodes[node].key, &world);
        if (at_rest(&world))
            break;
        bool stands = next_move(walk, &world, silent, &after) < 0;
        if (stands && silent && may_wait_for_ever(walk, &world))
            break;
        if (stands || length == PATH_MAX_MOVES) {
            broken(walk, stands ? "nothing moves it any more" : "it goes round for ever", first,
                   NULL, &world);
            return;
        }
        struct world_key key = key_of(walk, &after);
        node = visit(walk->explorer, &key, node);
    }
    for (int i = 0; i < length; i++)
        walk->explorer->nodes[path[i]].settles |= mark;
}

/* A first world; one that is new is its own parent. */
static void begin(struct walk *walk, const struct refusal *refusal,
                  struct machine_decision *ret_decision)
{
    struct world first;
    const char *why = world_start(walk->plan, &first, refusal, ret_decision);
    struct world_key key = key_of(walk, &first);
    uint32_t node = visit(walk->explorer, &key, walk->explorer->node_count);
    if (why)
        broken(walk, why, node, NULL, NULL);
}

/* A root whose condition does not hold is skipped before anything else happens. */
static void begin_all(struct walk *walk)
{
    static struct machine_decision decision, unused;
    begin(walk, NULL, &decision);
    struct refusal refusal;
    for (int i = 0; walk->options->unmappable && i < decision.command_count; i++) {
        for (int j = 0; world_refusal(walk->plan, &decision, i, j, &refusal); j++) {
            if (!walk->result->broken)
                begin(walk, &refusal, &unused);
        }
    }
}

void explore(struct explorer *explorer, const struct plan *plan,
             const struct world_options *options, bool trace, struct exploration *ret_exploration)
{
    struct walk walk = {explorer, plan, options, ret_exploration, trace, {.count = 1}};
    if (options->folded)
        saga_likes(plan, &walk.likes);
    memset(ret_exploration, 0, sizeof(*ret_exploration));
    memset(explorer->slots, 0, explorer->slot_count * sizeof(*explorer->slots));
    explorer->node_count = 0;
    begin_all(&walk);
    for (uint32_t node = 0; node < explorer->node_count && !ret_exploration->broken; node++)
        expand(&walk, node);
    uint32_t found = explorer->node_count;
    for (uint32_t node = 0; node < found && !ret_exploration->broken; node++) {
        follow(&walk, node, false);
        if (!ret_exploration->broken)
            follow(&walk, node, true);
    }
    ret_exploration->states = explorer->node_count;
}
