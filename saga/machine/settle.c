/* settle.c: what the saga is, given its steps.
 *
 * After every event, rules give the steps what follows from the others: what may start now, what
 * must end because the saga aborts, what is to be undone. Then the saga's state is found; it is a
 * function of the steps' states and of the flags cancel_requested, paused and a protocol violation,
 * which only a person takes back.
 *
 * Abort: what is in flight is settled first; then what took effect is undone, each step only after
 * everything that comes after it (directly or not) has nothing left to undo; branches in parallel.
 */
#include "saga/machine/table.h"

#include <assert.h>

#define S(name) VALUE_BIT(STEP_##name)

/* States a step has only when the saga goes backward. */
#define BACKWARD                                                                                   \
    (S(CANCELLED) | S(UNDO_READY) | S(UNDO_SENT) | S(UNDO_RETRY_WAIT) | S(UNDONE) |                \
     S(UNDO_EMPTY) | S(UNDO_STUCK))
#define OPEN (S(SENT) | S(RETRY_WAIT) | S(PROBING) | S(UNKNOWN))

static bool in(enum step_state state, uint32_t states)
{
    return (VALUE_BIT(state) & states) != 0;
}

static bool is_open(const struct step_status *status)
{
    return in(status->state, OPEN) || (status->state == STEP_READY && status->round > 0);
}

static bool is_unsettled(const struct unit *unit)
{
    bool fence_open = unit->status->state == STEP_SKIPPED && unit->status->due_us != 0;
    return (is_open(unit->status) && unit->step->kind != KIND_READ_ONLY) || fence_open;
}

static bool has_effect(const struct unit *unit)
{
    const struct plan_step *step = unit->step;
    bool is_nothing = unit->element == ELEMENT_ALL; /* an empty list, or one that was never read */
    bool failed = unit->status->state == STEP_FAILED;
    bool leaves_traces = step->undo_on_fail && step->kind != KIND_RETRIABLE;
    return !is_nothing &&
           ((unit->status->state == STEP_SUCCEEDED && step->kind == KIND_COMPENSABLE) ||
            (failed && leaves_traces && unit->status->round > 0));
}

bool settle_is_stuck(const struct unit *unit)
{
    enum step_state state = unit->status->state;
    return in(state, S(UNKNOWN) | S(UNDO_STUCK)) ||
           (state == STEP_FAILED && unit->step->kind == KIND_RETRIABLE);
}

static bool is_backward(const struct unit *unit)
{
    enum step_state state = unit->status->state;
    return in(state, BACKWARD) || (state == STEP_FAILED && unit->step->kind != KIND_RETRIABLE);
}

static uint64_t bit_if(bool condition, int step)
{
    return (uint64_t)condition << step;
}

static void add_facts(struct facts *facts, const struct unit *unit)
{
    enum step_state state = unit->status->state;
    int i = unit->index;
    bool unsettled = is_unsettled(unit);
    if (!in(state, S(SUCCEEDED) | S(SKIPPED)))
        facts->passed &= ~STEP_BIT(i);
    if (unsettled && state != STEP_UNKNOWN)
        facts->unknown &= ~STEP_BIT(i);
    facts->moving |= bit_if(in(state, S(READY) | S(SENT) | S(RETRY_WAIT) | S(PROBING)), i);
    facts->parked |= bit_if(state == STEP_PARKED, i);
    facts->unsettled |= bit_if(unsettled, i);
    facts->effect |= bit_if(has_effect(unit), i);
    facts->undoing |= bit_if(in(state, S(UNDO_READY) | S(UNDO_SENT) | S(UNDO_RETRY_WAIT)), i);
    facts->undo_stuck |= bit_if(state == STEP_UNDO_STUCK, i);
    facts->stuck |= bit_if(settle_is_stuck(unit), i);
}

struct facts settle_facts(const struct plan *plan, const struct instance *instance)
{
    struct facts facts = {
        .held = instance->paused || instance->phase == PHASE_PROTOCOL,
    };
    bool backward = false;
    for (int i = 0; i < plan->step_count; i++) {
        facts.all |= STEP_BIT(i);
        facts.passed |= STEP_BIT(i);  /* until one of its units has not */
        facts.unknown |= STEP_BIT(i); /* until one of its units is asked */
        for (int j = 0; j < machine_unit_count(instance, i); j++) {
            struct unit unit = machine_unit(plan, instance, i, j);
            add_facts(&facts, &unit);
            backward |= is_backward(&unit);
        }
    }
    if (plan->pivot >= 0) { /* no fan-out */
        facts.pivot_open = is_open(&instance->steps[plan->pivot]);
        facts.pivot_passed = (facts.passed & STEP_BIT(plan->pivot)) != 0;
    }
    backward |= instance->cancel_requested && !facts.pivot_open;
    facts.aborting = backward && !facts.pivot_passed;
    return facts;
}

/* Rules: which steps, and which of their units. */

static uint64_t all_if_aborting(const struct plan *plan, const struct instance *instance,
                                const struct facts *facts)
{
    (void)plan;
    (void)instance;
    return facts->aborting ? facts->all : 0;
}

static bool must_end(const struct unit *unit, const struct facts *facts)
{
    (void)facts;
    enum step_state state = unit->status->state;
    bool given_up = unit->step->kind == KIND_READ_ONLY || unit->step->via == VIA_SAGA;
    return in(state, S(WAITING) | S(PARKED) | S(READY) | S(RETRY_WAIT)) ||
           (state == STEP_SENT && given_up);
}

static uint64_t all_before_passed(const struct plan *plan, const struct instance *instance,
                                  const struct facts *facts)
{
    (void)instance;
    uint64_t steps = facts->aborting ? 0 : facts->all & ~facts->passed;
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].after & ~facts->passed)
            steps &= ~STEP_BIT(i);
    }
    return steps;
}

static bool may_start(const struct unit *unit, const struct facts *facts)
{
    (void)facts;
    return unit->status->state == STEP_WAITING;
}

static uint64_t all_unless_held(const struct plan *plan, const struct instance *instance,
                                const struct facts *facts)
{
    (void)plan;
    (void)instance;
    return facts->held ? 0 : facts->all;
}

static bool held_back(const struct unit *unit, const struct facts *facts)
{
    (void)facts;
    bool probe_owed = unit->status->state == STEP_PROBING && unit->status->due_us == 0;
    return probe_owed || in(unit->status->state, S(READY) | S(UNDO_READY));
}

/* In turn: nothing is in flight, and no step that comes after it has anything left to undo. */
static uint64_t in_turn(const struct plan *plan, const struct instance *instance,
                        const struct facts *facts)
{
    (void)instance;
    if (!facts->aborting || facts->unsettled != 0)
        return 0;
    uint64_t left = facts->effect | facts->undoing | facts->undo_stuck;
    uint64_t steps = facts->effect;
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].descendants & left)
            steps &= ~STEP_BIT(i);
    }
    return steps;
}

static bool may_be_undone(const struct unit *unit, const struct facts *facts)
{
    (void)facts;
    return has_effect(unit);
}

#define ROOM  0 /* always */
#define SENDS (S(READY) | S(SENT) | S(RETRY_WAIT) | S(PROBING))
#define UNDOS (S(UNDO_READY) | S(UNDO_SENT) | S(UNDO_RETRY_WAIT))

static MACHINE_ROWS struct settle_rule rules[] = {
    {ON_ABORT, ROOM, all_if_aborting, must_end},
    {ON_RUN, SENDS, all_before_passed, may_start},
    {ON_RELEASE, ROOM, all_unless_held, held_back},
    {ON_UNDO, UNDOS, in_turn, may_be_undone},
};

MACHINE_ROWS struct settle_rule *settle_rules(size_t *ret_count)
{
    *ret_count = sizeof(rules) / sizeof(rules[0]);
    return rules;
}

/* How many more units of this step the rule may name. */
static int room(MACHINE_ROWS struct settle_rule *rule, const struct plan *plan,
                const struct instance *instance, int step)
{
    int count = machine_unit_count(instance, step);
    int taken = 0;
    if (rule->crowd == ROOM || instance->steps[step].elements == 0)
        return count;
    for (int i = 0; i < count; i++)
        taken += in(machine_unit(plan, instance, step, i).status->state, rule->crowd);
    return plan->steps[step].elements_at_once - taken;
}

uint64_t settle_named(MACHINE_ROWS struct settle_rule *rule, const struct plan *plan,
                      const struct instance *instance, const struct facts *facts)
{
    uint64_t named = 0;
    for (uint64_t left = rule->which(plan, instance, facts); left != 0; left &= left - 1) {
        int step = __builtin_ctzll(left);
        for (int i = 0; i < machine_unit_count(instance, step); i++) {
            struct unit unit = machine_unit(plan, instance, step, i);
            bool is_named = rule->names(&unit, facts);
            named |= bit_if(is_named && room(rule, plan, instance, step) > 0, step);
        }
    }
    return named;
}

static bool give_to_units(struct context *context, MACHINE_ROWS struct settle_rule *rule, int step)
{
    int left = room(rule, context->plan, context->instance, step);
    bool given = false;
    int count = machine_unit_count(context->instance, step);
    for (int i = 0; i < count && left > 0; i++) {
        struct unit unit = machine_unit(context->plan, context->instance, step, i);
        if (!rule->names(&unit, &context->facts))
            continue;
        machine_unit_event(context, unit, rule->event);
        given = true;
        left--;
    }
    return given;
}

static bool give(struct context *context, MACHINE_ROWS struct settle_rule *rule)
{
    bool given = false;
    uint64_t steps = rule->which(context->plan, context->instance, &context->facts);
    for (; steps != 0; steps &= steps - 1)
        given |= give_to_units(context, rule, __builtin_ctzll(steps));
    return given;
}

static uint64_t retriable(const struct plan *plan)
{
    uint64_t steps = 0;
    for (int i = 0; i < plan->step_count; i++)
        steps |= bit_if(plan->steps[i].kind == KIND_RETRIABLE, i);
    return steps;
}

static enum saga_event find_backward(const struct facts *facts)
{
    if (facts->unsettled & ~facts->unknown)
        return FOUND_UNSETTLED;
    if (facts->unsettled)
        return FOUND_IN_DOUBT;
    if (facts->undoing)
        return FOUND_UNDOING;
    if (facts->stuck)
        return FOUND_STUCK_BACKWARD;
    return facts->effect ? FOUND_VIOLATION : FOUND_ALL_UNDONE;
}

/* A wait for a signal hides no stuck step: it may be long. It does not move before it is over. */
static enum saga_event find_forward(const struct plan *plan, const struct facts *facts)
{
    if (facts->passed == facts->all)
        return FOUND_ALL_PASSED;
    if (facts->stuck && !facts->moving)
        return facts->stuck & ~retriable(plan) ? FOUND_IN_DOUBT : FOUND_STUCK_FORWARD;
    if (facts->moving | facts->parked)
        return facts->pivot_passed ? FOUND_PAST_PIVOT : FOUND_FORWARD;
    return FOUND_VIOLATION; /* nothing moves and nothing is stuck: not by any row of ours */
}

enum saga_event settle_find(const struct plan *plan, const struct instance *instance,
                            const struct facts *facts)
{
    if (instance->phase == PHASE_PROTOCOL)
        return FOUND_VIOLATION;
    return facts->aborting ? find_backward(facts) : find_forward(plan, facts);
}

/* Each pass of the rules can only let the next begin (abort, then undo), so that few are needed. */
#define PASSES_MAX 8

void settle(struct context *context)
{
    bool again = true;
    for (int pass = 0; again; pass++) {
        assert(pass < PASSES_MAX);
        again = false;
        for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
            again |= give(context, &rules[i]);
    }
    machine_saga_event(context, settle_find(context->plan, context->instance, &context->facts));
    if (!context->facts.stuck && context->instance->phase != PHASE_PROTOCOL)
        reason_clear_stuck(context->instance);
}
