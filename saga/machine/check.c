/* check.c: the invariants of a saga, said once more, apart from the tables.
 *
 * tests/machine asks after every event; the worker's sweeper may ask of any row. Where it can, a
 * check is written without the code that it checks: the order of undos, the order of starts, who
 * may be in flight beside whom. That a rule of settle.c is left undone is asked of the rules. */
#include "saga/machine/table.h"

#define S(name) VALUE_BIT(STEP_##name)

#define IN_FLIGHT      (S(SENT) | S(RETRY_WAIT) | S(PROBING) | S(UNKNOWN))
#define NEEDS_TIMER    (S(SENT) | S(RETRY_WAIT) | S(UNDO_SENT) | S(UNDO_RETRY_WAIT))
#define MAY_HAVE_TIMER (NEEDS_TIMER | S(PARKED) | S(PROBING) | S(SKIPPED))
#define UNDO_BEGUN     (S(UNDO_READY) | S(UNDO_SENT) | S(UNDO_RETRY_WAIT) | S(UNDO_STUCK))
#define UNDO_KNOWN     (UNDO_BEGUN | S(UNDONE) | S(UNDO_EMPTY))
#define NOT_STARTED    (S(WAITING) | S(CANCELLED) | S(SKIPPED))
#define AT_REST        (S(SUCCEEDED) | S(FAILED) | S(SKIPPED) | S(CANCELLED) | S(UNDONE) | S(UNDO_EMPTY))
#define PASSED_ONCE    (S(SUCCEEDED) | S(SKIPPED) | UNDO_KNOWN)

static bool in(const struct step_status *status, uint32_t states)
{
    return (VALUE_BIT(status->state) & states) != 0;
}

static bool has_effect(const struct plan_step *step, const struct step_status *status)
{
    return in(status, IN_FLIGHT | UNDO_BEGUN) ||
           (status->state == STEP_SUCCEEDED && step->kind == KIND_COMPENSABLE);
}

/* A step alone. */
static const char *check_step(const struct plan_step *step, const struct step_status *status,
                              bool held)
{
    bool is_command = !step_waits(step);
    if ((in(status, NEEDS_TIMER) || (status->state == STEP_PARKED && step->via == VIA_TIMER) ||
         (status->state == STEP_PROBING && !held)) &&
        status->due_us == 0)
        return "a step that waits for an answer or for time has no timer";
    if (!in(status, MAY_HAVE_TIMER) && status->due_us != 0)
        return "a step that waits for nothing has a timer";
    if (in(status, IN_FLIGHT | UNDO_BEGUN) && (status->round < 1 || !is_command))
        return "a step is in flight and was never sent";
    if (in(status, S(WAITING) | S(PARKED)) && (status->round != 0 || status->undo_round != 0))
        return "a step was sent and waits to be";
    if (status->state == STEP_PARKED && is_command)
        return "a command is parked";
    if (in(status, S(UNDO_SENT) | S(UNDO_RETRY_WAIT)) && status->undo_round < 1)
        return "an undo is in flight and was never sent";
    if (status->undo_round > 0 && !in(status, UNDO_KNOWN))
        return "an undo was sent and forgotten";
    if (in(status, S(SENT) | S(UNDO_SENT)) && status->attempt < 1)
        return "a command is in flight without an attempt";
    if (status->state == STEP_PROBING && step->kind != KIND_COMPENSABLE && step->kind != KIND_PIVOT)
        return "a step is probed that need not be";
    if (in(status, UNDO_BEGUN | S(UNDONE)) && step->kind != KIND_COMPENSABLE)
        return "a step is undone that cannot be";
    return NULL;
}

/* A step, or an element, among the others. */
static const char *check_order(const struct plan *plan, const struct instance *instance,
                               const struct unit *unit)
{
    const struct step_status *status = unit->status;
    bool undo_begun = in(status, UNDO_BEGUN) || status->undo_round > 0;
    bool started = !in(status, NOT_STARTED);
    for (int i = 0; i < plan->step_count; i++) {
        bool before = (unit->step->after & STEP_BIT(i)) != 0;
        bool behind = (unit->step->descendants & STEP_BIT(i)) != 0;
        for (int j = 0; j < machine_unit_count(instance, i); j++) {
            const struct unit other = machine_unit(plan, instance, i, j);
            if (before && started && !in(other.status, PASSED_ONCE))
                return "a step was started before those that it comes after have passed";
            bool is_nothing = other.element == ELEMENT_ALL; /* its list was empty, or never read */
            if (undo_begun && behind && !is_nothing && has_effect(other.step, other.status))
                return "a step is undone before one that depends on it";
            if (undo_begun && in(other.status, IN_FLIGHT) && other.step->kind != KIND_READ_ONLY)
                return "a step is undone while the outcome of another is not known";
        }
    }
    return NULL;
}

/* What a fan-out says of itself, and what its elements say. */
static const char *check_fan_out(const struct plan_step *step, const struct step_status *own,
                                 const struct step_status *elements)
{
    int effects = 0, passed = 0, waiting = 0, undone = 0;
    for (int i = 0; i < own->elements; i++) {
        effects += has_effect(step, &elements[i]);
        passed += in(&elements[i], S(SUCCEEDED) | S(SKIPPED));
        waiting += in(&elements[i], S(WAITING));
        undone += in(&elements[i], S(UNDO_SENT) | S(UNDO_RETRY_WAIT));
    }
    bool gone = in(own, S(UNDONE) | S(UNDO_EMPTY) | S(CANCELLED) | S(WAITING));
    if (own->elements > step->elements_max)
        return "a fan-out has more elements than it may";
    if (gone && effects > 0)
        return "a fan-out is declared undone, or never begun, and one of its elements is not";
    if (in(own, S(SUCCEEDED) | S(SKIPPED)) != (passed == own->elements))
        return "a fan-out is declared done, and one of its elements is not, or the other way round";
    if (waiting > 0 && undone > 0)
        return "elements of a fan-out wait to be sent while others are undone";
    return own->round != 0 || own->undo_round != 0 || own->due_us != 0
               ? "a fan-out counts or waits beside its elements"
               : NULL;
}

static const char *check_steps(const struct plan *plan, const struct instance *instance, bool held)
{
    const char *broken = NULL;
    for (int i = 0; i < plan->step_count && !broken; i++) {
        const struct plan_step *step = &plan->steps[i];
        for (int j = 0; j < machine_unit_count(instance, i) && !broken; j++) {
            const struct unit unit = machine_unit(plan, instance, i, j);
            broken = check_step(step, unit.status, held);
            if (!broken)
                broken = check_order(plan, instance, &unit);
        }
        if (!broken && instance->steps[i].elements > 0)
            broken =
                check_fan_out(step, &instance->steps[i], &instance->elements[step->elements_from]);
    }
    return broken;
}

static const char *check_pivot(const struct plan *plan, const struct instance *instance,
                               const struct facts *facts)
{
    for (int i = 0; i < plan->step_count; i++) {
        for (int j = 0; j < machine_unit_count(instance, i); j++) {
            const struct step_status *status = machine_unit(plan, instance, i, j).status;
            if (facts->pivot_passed && in(status, UNDO_KNOWN | S(CANCELLED)))
                return "past the pivot a step is undone or cancelled";
            if (facts->pivot_open && i != plan->pivot && in(status, IN_FLIGHT | UNDO_KNOWN))
                return "another step is in flight, or undone, beside the pivot";
        }
    }
    if (facts->pivot_passed &&
        (instance->state == SAGA_RUNNING || instance->state == SAGA_ABORTING ||
         instance->state == SAGA_COMPENSATING || instance->state == SAGA_COMPENSATED))
        return "past the pivot the saga goes backward, or does not know it";
    return NULL;
}

static const char *check_ended(const struct plan *plan, const struct instance *instance,
                               const struct facts *facts)
{
    if (machine_wake_us(plan, instance) != 0 || instance->deadline_us != 0)
        return "an ended saga has a timer";
    for (int i = 0; i < plan->step_count; i++) {
        for (int j = 0; j < machine_unit_count(instance, i); j++) {
            bool at_rest = in(machine_unit(plan, instance, i, j).status, AT_REST);
            if (instance->state != SAGA_CLOSED && !at_rest)
                return "an ended saga has a step that has not ended";
        }
    }
    if (instance->state == SAGA_SUCCEEDED && facts->passed != facts->all)
        return "a saga succeeded without one of its steps";
    if (instance->state == SAGA_COMPENSATED &&
        (facts->effect | facts->undoing | facts->unsettled | facts->stuck))
        return "a saga is compensated and something that took effect is left";
    return NULL;
}

static const struct {
    enum saga_state state;
    enum saga_phase phase;
} found_states[SAGA_EVENT_COUNT] = {
    [FOUND_FORWARD] = {SAGA_RUNNING, PHASE_NONE},
    [FOUND_PAST_PIVOT] = {SAGA_COMPLETING, PHASE_NONE},
    [FOUND_UNSETTLED] = {SAGA_ABORTING, PHASE_NONE},
    [FOUND_UNDOING] = {SAGA_COMPENSATING, PHASE_NONE},
    [FOUND_STUCK_FORWARD] = {SAGA_STUCK, PHASE_FORWARD},
    [FOUND_STUCK_BACKWARD] = {SAGA_STUCK, PHASE_BACKWARD},
    [FOUND_IN_DOUBT] = {SAGA_STUCK, PHASE_IN_DOUBT},
    [FOUND_VIOLATION] = {SAGA_STUCK, PHASE_PROTOCOL},
    [FOUND_ALL_PASSED] = {SAGA_SUCCEEDED, PHASE_NONE},
    [FOUND_ALL_UNDONE] = {SAGA_COMPENSATED, PHASE_NONE},
};

static const char *check_live(const struct plan *plan, const struct instance *instance,
                              const struct facts *facts)
{
    enum saga_event found = settle_find(plan, instance, facts);
    if (instance->state != found_states[found].state ||
        instance->phase != found_states[found].phase)
        return "the saga's state is not what its steps say";
    size_t count;
    MACHINE_ROWS struct settle_rule *rules = settle_rules(&count);
    for (size_t i = 0; i < count; i++) {
        if (settle_named(&rules[i], plan, instance, facts))
            return "a step was left as it was that should have moved";
    }
    bool waits_for_signal = false;
    bool has_timer = false;
    for (int i = 0; i < plan->step_count; i++) {
        for (int j = 0; j < machine_unit_count(instance, i); j++) {
            const struct step_status *status = machine_unit(plan, instance, i, j).status;
            waits_for_signal |= status->state == STEP_PARKED;
            has_timer |= status->due_us != 0;
        }
    }
    if (!facts->held && instance->state != SAGA_STUCK && !has_timer && !waits_for_signal)
        return "nothing will ever move this saga, and it does not say so";
    return NULL;
}

const char *machine_check(const struct plan *plan, const struct instance *instance)
{
    struct facts facts = settle_facts(plan, instance);
    const char *broken = NULL;
    bool ended = saga_state_ended(instance->state);
    if (instance->state == SAGA_CLOSED)
        return check_ended(plan, instance, &facts);
    broken = check_steps(plan, instance, facts.held);
    if (!broken)
        broken = check_pivot(plan, instance, &facts);
    if (!broken)
        broken = ended ? check_ended(plan, instance, &facts) : check_live(plan, instance, &facts);
    return broken;
}
