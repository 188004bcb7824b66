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

static uint64_t bit_if(bool condition, int step)
{
    return (uint64_t)condition << step;
}

struct facts settle_facts(const struct plan *plan, const struct instance *instance)
{
    struct facts facts = {
        .held = instance->paused || instance->phase == PHASE_PROTOCOL,
    };
    bool backward = false;
    for (int i = 0; i < plan->step_count; i++) {
        const struct plan_step *step = &plan->steps[i];
        const struct step_status *status = &instance->steps[i];
        enum step_state state = status->state;
        bool open = is_open(status);
        bool failed = state == STEP_FAILED;
        bool must_succeed = step->kind == KIND_RETRIABLE;

        facts.all |= STEP_BIT(i);
        facts.passed |= bit_if(in(state, S(SUCCEEDED) | S(SKIPPED)), i);
        facts.moving |= bit_if(in(state, S(READY) | S(SENT) | S(RETRY_WAIT) | S(PROBING)), i);
        facts.parked |= bit_if(state == STEP_PARKED, i);
        facts.unsettled |= bit_if((open && step->kind != KIND_READ_ONLY) ||
                                      (state == STEP_SKIPPED && status->due_us != 0),
                                  i);
        facts.unknown |= bit_if(state == STEP_UNKNOWN, i);
        facts.effect |=
            bit_if((state == STEP_SUCCEEDED && step->kind == KIND_COMPENSABLE) ||
                       (failed && step->undo_on_fail && !must_succeed && status->round > 0),
                   i);
        facts.undoing |= bit_if(in(state, S(UNDO_READY) | S(UNDO_SENT) | S(UNDO_RETRY_WAIT)), i);
        facts.stuck |= bit_if(in(state, S(UNKNOWN) | S(UNDO_STUCK)) || (failed && must_succeed), i);
        if (i == plan->pivot) {
            facts.pivot_open = open;
            facts.pivot_passed = (facts.passed & STEP_BIT(i)) != 0;
        }
        backward |= in(state, BACKWARD) || (failed && !must_succeed);
    }
    backward |= instance->cancel_requested && !facts.pivot_open;
    facts.aborting = backward && !facts.pivot_passed;
    return facts;
}

/* Rules. */

static uint64_t in_states(const struct plan *plan, const struct instance *instance, uint32_t states)
{
    uint64_t steps = 0;
    for (int i = 0; i < plan->step_count; i++)
        steps |= bit_if(in(instance->steps[i].state, states), i);
    return steps;
}

static uint64_t of_kind(const struct plan *plan, enum step_kind kind)
{
    uint64_t steps = 0;
    for (int i = 0; i < plan->step_count; i++)
        steps |= bit_if(plan->steps[i].kind == kind, i);
    return steps;
}

static uint64_t child_sagas(const struct plan *plan)
{
    uint64_t steps = 0;
    for (int i = 0; i < plan->step_count; i++)
        steps |= bit_if(plan->steps[i].via == VIA_SAGA, i);
    return steps;
}

static uint64_t must_end(const struct plan *plan, const struct instance *instance,
                         const struct facts *facts)
{
    if (!facts->aborting)
        return 0;
    return in_states(plan, instance, S(WAITING) | S(PARKED) | S(READY) | S(RETRY_WAIT)) |
           (in_states(plan, instance, S(SENT)) &
            (of_kind(plan, KIND_READ_ONLY) | child_sagas(plan)));
}

static uint64_t may_start(const struct plan *plan, const struct instance *instance,
                          const struct facts *facts)
{
    if (facts->aborting)
        return 0;
    uint64_t steps = in_states(plan, instance, S(WAITING));
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].after & ~facts->passed)
            steps &= ~STEP_BIT(i);
    }
    return steps;
}

static uint64_t held_back(const struct plan *plan, const struct instance *instance,
                          const struct facts *facts)
{
    if (facts->held)
        return 0;
    uint64_t probes_owed = in_states(plan, instance, S(PROBING));
    for (int i = 0; i < plan->step_count; i++) {
        if (instance->steps[i].due_us != 0)
            probes_owed &= ~STEP_BIT(i);
    }
    return probes_owed | in_states(plan, instance, S(READY) | S(UNDO_READY));
}

/* In turn: nothing is in flight, and no step that comes after it has anything left to undo. */
static uint64_t may_be_undone(const struct plan *plan, const struct instance *instance,
                              const struct facts *facts)
{
    if (!facts->aborting || facts->unsettled != 0)
        return 0;
    uint64_t left = facts->effect | facts->undoing | in_states(plan, instance, S(UNDO_STUCK));
    uint64_t steps = facts->effect;
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].descendants & left)
            steps &= ~STEP_BIT(i);
    }
    return steps;
}

static MACHINE_ROWS struct settle_rule rules[] = {
    {ON_ABORT, must_end},
    {ON_RUN, may_start},
    {ON_RELEASE, held_back},
    {ON_UNDO, may_be_undone},
};

MACHINE_ROWS struct settle_rule *settle_rules(size_t *ret_count)
{
    *ret_count = sizeof(rules) / sizeof(rules[0]);
    return rules;
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
        return facts->stuck & ~of_kind(plan, KIND_RETRIABLE) ? FOUND_IN_DOUBT : FOUND_STUCK_FORWARD;
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
        for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
            uint64_t steps = rules[i].which(context->plan, context->instance, &context->facts);
            again = again || steps != 0;
            for (; steps != 0; steps &= steps - 1)
                machine_step_event(context, __builtin_ctzll(steps), rules[i].event);
        }
    }
    machine_saga_event(context, settle_find(context->plan, context->instance, &context->facts));
    if (!context->facts.stuck && context->instance->phase != PHASE_PROTOCOL)
        reason_clear_stuck(context->instance);
}
