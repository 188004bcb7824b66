/* explore.c: see explore.h. */
#include "tests/machine/explore.h"
#include "tests/machine/sagas.h"
#include "tests/machine/worlds.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MAX_MOVES 200

struct explorer {
    struct worlds worlds;
    struct worlds tried; /* keys of what the machine has written down, which garbage was tried on */
};

struct explorer *explorer_create(void)
{
    struct explorer *explorer = calloc(1, sizeof(*explorer));
    if (!explorer)
        abort();
    return explorer;
}

void explorer_destroy(struct explorer *explorer)
{
    worlds_free(&explorer->worlds);
    worlds_free(&explorer->tried);
    free(explorer);
}

struct walk {
    struct worlds *worlds, *tried;
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
    return world_key_same(&key, wanted);
}

/* True if this move leads to `wanted`; a command that could not be sent is told in *ret_refusal. */
static bool leads_to(const struct walk *walk, const struct world *before, const struct move *move,
                     const struct world_key *wanted, struct refusal *ret_refusal)
{
    static struct machine_decision decision, unused;
    struct world after;
    const struct plan *plan = plan_of(walk, before);
    const struct plan *after_plan = move->event.to ? move->event.to : plan;
    (void)world_apply(plan, before, move, NULL, &after, &decision);
    *ret_refusal = (struct refusal){.type = MACHINE_EVENT_COUNT};
    if (is_world(walk, &after, wanted))
        return true;
    for (int i = 0; i < decision.command_count; i++) {
        for (int j = 0; world_refusal(after_plan, &decision, i, j, ret_refusal); j++) {
            (void)world_apply(plan, before, move, ret_refusal, &after, &unused);
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
    const struct world_key *wanted = &walk->worlds->keys[to];
    world_unpack(&walk->worlds->keys[from], &before);
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
    uint32_t parent = walk->worlds->links[node].parent;
    if (parent != node) {
        print_path(walk, parent);
        print_step(walk, parent, node);
        return;
    }
    struct world world;
    world_unpack(&walk->worlds->keys[node], &world);
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

/* Worlds that were reached from the one that is gone on from, and are not looked up yet: by then
 * the memory has what is asked for. */
#define REACHED_MAX 64

struct reached {
    struct world_key key;
    uint64_t hash;
    bool by_answer, by_timer; /* an event of this kind that was applied */
};

struct step_on {
    struct walk *walk;
    uint32_t node;
    const struct world *before;
    uint32_t by_answer, by_timer; /* the first world that the path goes on to */
    int reached_count;
    struct reached reached[REACHED_MAX];
};

static void look_up(struct step_on *on)
{
    struct worlds *worlds = on->walk->worlds;
    for (int i = 0; i < on->reached_count; i++) {
        const struct reached *reached = &on->reached[i];
        uint32_t index = worlds_add(worlds, &reached->key, reached->hash, on->node);
        if (reached->by_answer && on->by_answer == PATH_NONE)
            on->by_answer = index;
        if (reached->by_timer && on->by_timer == PATH_NONE)
            on->by_timer = index;
    }
    on->reached_count = 0;
}

static void make(struct step_on *on, const struct move *move, const struct refusal *refusal,
                 struct machine_decision *ret_decision)
{
    static struct world after;
    struct walk *walk = on->walk;
    const struct plan *plan = plan_of(walk, on->before);
    const char *why = world_apply(plan, on->before, move, refusal, &after, ret_decision);
    walk->result->moves++;
    if (why) {
        broken(walk, why, on->node, move, &after);
        return;
    }
    struct reached *reached = &on->reached[on->reached_count];
    bool applied = !refusal && ret_decision->verdict == VERDICT_APPLIED;
    reached->key = key_of(walk, &after);
    if (world_key_same(&reached->key, &walk->worlds->keys[on->node]))
        return; /* it leads nowhere */
    reached->hash = worlds_hash(&reached->key);
    reached->by_answer = applied && move->is_answer;
    reached->by_timer = applied && move->is_timer;
    worlds_expect(walk->worlds, reached->hash);
    if (++on->reached_count == REACHED_MAX)
        look_up(on);
}

/* The same move, and the worker finds that one of the commands cannot be sent. */
static void make_refused(struct step_on *on, const struct move *move,
                         const struct machine_decision *decision)
{
    static struct machine_decision unused;
    const struct plan *plan = move->event.to ? move->event.to : plan_of(on->walk, on->before);
    struct refusal refusal;
    for (int i = 0; i < decision->command_count; i++) {
        for (int j = 0; !on->walk->result->broken && world_refusal(plan, decision, i, j, &refusal);
             j++)
            make(on, move, &refusal, &unused);
    }
}

static bool at_rest(const struct world *world)
{
    return saga_state_ended(world->instance.state) || world->instance.state == SAGA_STUCK;
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

/* Where the two paths go on. An answer of a child saga that was reminded changes nothing, and is no
 * way on. */
static void keep_paths(const struct step_on *on)
{
    struct world_links *links = &on->walk->worlds->links[on->node];
    bool waits = on->by_timer == PATH_NONE && may_wait_for_ever(on->walk, on->before);
    links->good = on->by_answer != PATH_NONE ? on->by_answer : on->by_timer;
    links->silent = waits ? PATH_END : on->by_timer;
    if (at_rest(on->before))
        links->good = links->silent = PATH_END;
}

/* The machine knows nothing but what it has written down: garbage does the same to all worlds in
 * which that is the same. */
static bool is_untried(struct walk *walk, uint32_t node)
{
    struct world_key key = world_saga_key(&walk->worlds->keys[node]);
    uint32_t before = walk->tried->count;
    return worlds_add(walk->tried, &key, worlds_hash(&key), node) == before;
}

/* Of how many worlds this one is the least. */
static uint64_t stands_for(const struct walk *walk, const struct world_key *key)
{
    struct world_key others[ORDERS_MAX];
    uint64_t count = 0;
    for (int i = 0; i < walk->likes.count; i++) {
        others[count] = i > 0 ? world_reorder(key, walk->likes.orders[i]) : *key;
        bool known = false;
        for (uint64_t j = 0; j < count && !known; j++)
            known = world_key_same(&others[j], &others[count]);
        count += !known;
    }
    return count;
}

/* What is to be true of a world whatever happens next. */
static void look_at(struct walk *walk, uint32_t node, const struct world *world)
{
    enum saga_state state = world->instance.state;
    const char *why = world_check(plan_of(walk, world), world);
    walk->result->stand_for += stands_for(walk, &walk->worlds->keys[node]);
    if (at_rest(world))
        walk->result->ended[state]++;
    if (!why && walk->options->garbage && is_untried(walk, node))
        why = world_try_garbage(plan_of(walk, world), world);
    if (why)
        broken(walk, why, node, NULL, NULL);
}

static void expand(struct walk *walk, uint32_t node)
{
    static struct machine_decision decision;
    static struct move moves[MOVES_MAX];
    struct world world;
    struct step_on on = {walk, node, &world, .by_answer = PATH_NONE, .by_timer = PATH_NONE};
    world_unpack(&walk->worlds->keys[node], &world);
    look_at(walk, node, &world);
    int count = world_moves(plan_of(walk, &world), &world, walk->options, moves);
    for (int i = 0; i < count && !walk->result->broken; i++) {
        make(&on, &moves[i], NULL, &decision);
        if (walk->options->unmappable && !walk->result->broken)
            make_refused(&on, &moves[i], &decision);
    }
    look_up(&on);
    keep_paths(&on);
}

/* A world beyond the bound: what comes next is not known. */
static void look_only(struct walk *walk, uint32_t node)
{
    struct world_links *links = &walk->worlds->links[node];
    struct world world;
    world_unpack(&walk->worlds->keys[node], &world);
    look_at(walk, node, &world);
    links->good = links->silent = PATH_END;
    walk->result->unexplored++;
}

/* Paths to an end. */

static uint32_t *way_on(struct walk *walk, uint32_t node, bool silent)
{
    struct world_links *links = &walk->worlds->links[node];
    return silent ? &links->silent : &links->good;
}

/* From a world that comes to an end, the way need not be looked for again. */
static void follow(struct walk *walk, uint32_t first, bool silent)
{
    uint32_t path[PATH_MAX_MOVES];
    int length = 0;
    for (uint32_t node = first; *way_on(walk, node, silent) != PATH_END;) {
        bool stands = *way_on(walk, node, silent) == PATH_NONE;
        if (stands || length == PATH_MAX_MOVES) {
            struct world world;
            world_unpack(&walk->worlds->keys[node], &world);
            broken(walk, stands ? "nothing moves it any more" : "it goes round for ever", first,
                   NULL, &world);
            return;
        }
        path[length++] = node;
        node = *way_on(walk, node, silent);
    }
    for (int i = 0; i < length; i++)
        *way_on(walk, path[i], silent) = PATH_END;
}

/* A first world; one that is new is its own parent. */
static void begin(struct walk *walk, const struct refusal *refusal,
                  struct machine_decision *ret_decision)
{
    struct world first;
    const char *why = world_start(walk->plan, &first, refusal, ret_decision);
    struct world_key key = key_of(walk, &first);
    uint32_t node = worlds_add(walk->worlds, &key, worlds_hash(&key), walk->worlds->count);
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
    struct worlds *worlds = &explorer->worlds;
    struct walk walk = {worlds, &explorer->tried, plan, options, ret_exploration,
                        trace,  {.count = 1}};
    uint32_t most = options->worlds_max ? options->worlds_max : WORLDS_MAX / 2;
    if (options->folded)
        saga_likes(plan, &walk.likes);
    memset(ret_exploration, 0, sizeof(*ret_exploration));
    worlds_clear(worlds);
    worlds_clear(&explorer->tried);
    begin_all(&walk);
    for (uint32_t node = 0; node < worlds->count && !ret_exploration->broken; node++) {
        if (worlds->count <= most)
            expand(&walk, node);
        else
            look_only(&walk, node);
    }
    for (uint32_t node = 0; node < worlds->count && !ret_exploration->broken; node++) {
        follow(&walk, node, false);
        if (!ret_exploration->broken)
            follow(&walk, node, true);
    }
    ret_exploration->states = worlds->count;
}
