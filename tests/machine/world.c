/* world.c: see world.h. */
#include "tests/machine/world_private.h"

#include "saga/machine/plan.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define BIT(i) (UINT64_C(1) << (i))

/* What the truth says about what the machine did. */

/* Nobody asks any more: an operator has said what became of it. */
static bool by_an_operators_word(const struct step_status *status)
{
    return (status->state == STEP_SKIPPED && status->due_us == 0) || status->state == STEP_UNDONE;
}

/* Has taken effect, or still may, and is not undone. */
static bool may_have_effect(const struct matter *matter)
{
    const struct truth *truth = matter->truth;
    bool still_may = may_be_done(truth) && !by_an_operators_word(matter->unit.status);
    return (was_done(truth) || still_may) && !truth->undone && !truth->by_hand;
}

static const char *check_undo(const struct plan *plan, const struct world *world, int step,
                              const struct truth *truth)
{
    const struct plan_step *plan_step = &plan->steps[step];
    bool failed = plan_step->undo_on_fail && truth->failed_round > 0;
    if (plan_step->kind != KIND_COMPENSABLE)
        return "an undo of what cannot be undone";
    if (!was_done(truth) && !failed)
        return "an undo of a step that is not known to have taken effect";
    if (truth->undone)
        return "an undo of what is undone";
    for (struct matter other = NO_MATTER; next_matter(plan, world, &other);) {
        enum step_kind kind = other.unit.step->kind;
        bool behind = (plan_step->descendants & BIT(other.unit.index)) != 0;
        if (kind == KIND_PIVOT && may_have_effect(&other))
            return "an undo past the pivot, or while the pivot may still take effect";
        if (behind && kind == KIND_COMPENSABLE && may_have_effect(&other))
            return "an undo while a step that depends on it has, or may still take, effect";
        if (kind != KIND_READ_ONLY && may_be_done(other.truth) &&
            !by_an_operators_word(other.unit.status))
            return "an undo before the outcome of everything in flight is known";
    }
    return NULL;
}

/* Nothing is ever sent for a wait, or for a fan-out itself. */
static bool is_sent(const struct unit *unit)
{
    return !step_waits(unit->step) && unit->element != ELEMENT_ALL;
}

static const char *check_action(const struct plan *plan, const struct world *world, int step,
                                const struct truth *truth)
{
    for (struct matter other = NO_MATTER; next_matter(plan, world, &other);) {
        enum step_state state = other.unit.status->state;
        bool before = (plan->steps[step].after & BIT(other.unit.index)) != 0;
        bool done = is_sent(&other.unit) || other.unit.step->via == VIA_LOCK
                        ? was_done(other.truth)
                        : state == STEP_SUCCEEDED;
        if (other.truth->undo_sent_round > 0)
            return "an action after an undo";
        if (before && state != STEP_SKIPPED && !done)
            return "an action before those that it comes after were done";
        if (other.unit.step->kind == KIND_PIVOT && other.unit.index != step &&
            plan->steps[step].kind != KIND_RETRIABLE && other.truth->sent_round > 0)
            return "an action beside the pivot in flight";
    }
    if (plan->steps[step].kind == KIND_PIVOT && world->instance.cancel_requested)
        return "a further attempt of the pivot after a cancel";
    if (truth->action == OUTCOME_FENCED)
        return plan->steps[step].kind == KIND_RETRIABLE ? NULL : "an action after its fence";
    return NULL;
}

static const char *check_command(const struct plan *plan, const struct world *world,
                                 const struct machine_command *command, bool by_operator)
{
    const struct step_status *status =
        machine_status(plan, &world->instance, command->step, command->element);
    const struct truth *truth = &world->truth[world_slot(plan, command->step, command->element)];
    int reminds = plan->steps[command->step].via == VIA_SAGA; /* that is no attempt, and says so */
    if (!status)
        return "a command of an element that is none";
    switch (command->operation) {
    case OPERATION_ACTION:
        if (world->instance.state == SAGA_ABORTING || world->instance.state == SAGA_COMPENSATING)
            return "an action while the saga aborts";
        if (command->attempt > plan->steps[command->step].retry.max + reminds)
            return "more attempts than the policy allows";
        if (command->round < truth->sent_round || command->round <= truth->failed_round)
            return "an action of a lower round, or of one that has failed";
        return check_action(plan, world, command->step, truth);
    case OPERATION_UNDO:
        if (command->attempt > plan->steps[command->step].undo_retry.max)
            return "more attempts of an undo than the policy allows";
        if (command->round < truth->undo_sent_round || command->round <= truth->undo_failed_round)
            return "an undo of a lower round, or of one that has failed";
        return check_undo(plan, world, command->step, truth);
    default:
        if (plan->steps[command->step].kind == KIND_RETRIABLE && !by_operator &&
            status->state != STEP_SKIPPED)
            return "a retriable step is probed";
        return plan->steps[command->step].kind == KIND_READ_ONLY ? "a read-only step is probed"
                                                                 : NULL;
    }
}

static const char *check_compensated(const struct plan *plan, const struct world *world)
{
    for (struct matter matter = NO_MATTER; next_matter(plan, world, &matter);) {
        const struct truth *truth = matter.truth;
        const struct plan_step *step = matter.unit.step;
        enum step_state state = matter.unit.status->state;
        bool may_leave_traces = step->kind != KIND_READ_ONLY && is_sent(&matter.unit);
        if (!may_leave_traces || truth->expired)
            continue;
        if (was_done(truth) && !truth->undone && !truth->by_hand)
            return "compensated, and something that was done is not undone";
        if (may_be_done(truth) && !truth->by_hand && state != STEP_SKIPPED)
            return "compensated, and something may still be done";
        if (step->undo_on_fail && truth->failed_round > 0 && !truth->undone && !truth->by_hand &&
            truth->action == OUTCOME_OPEN && state != STEP_SKIPPED)
            return "compensated, and a failed step was not cleaned up";
    }
    return NULL;
}

static const char *check_end(const struct plan *plan, const struct world *world)
{
    const struct instance *instance = &world->instance;
    if (instance->state == SAGA_COMPENSATED)
        return check_compensated(plan, world);
    for (struct matter matter = NO_MATTER; next_matter(plan, world, &matter);) {
        const struct truth *truth = matter.truth;
        bool skipped = matter.unit.status->state == STEP_SKIPPED;
        if (instance->state == SAGA_SUCCEEDED && is_sent(&matter.unit) && !skipped &&
            !was_done(truth))
            return "succeeded, and a step was not done";
        if (instance->state == SAGA_SUCCEEDED && truth->undo_sent_round > 0)
            return "succeeded, and a step was undone";
        if (instance->state == SAGA_CLOSED && may_be_done(truth) && !truth->probe_sent &&
            matter.unit.step->kind != KIND_READ_ONLY && !truth->by_hand && !truth->expired)
            return "closed, and what is in flight was not fenced";
    }
    return NULL;
}

/* An answer can contradict the record without a lie only where an operator's word was taken for
 * it, or a participant forgets. */
static bool may_contradict(const struct world *world)
{
    return world->lied || world->operators_used > 0;
}

/* So many elements at a time; an operator may have asked for more. */
static const char *check_room(const struct plan *plan, const struct world *world)
{
    int sent[SAGA_STEPS_MAX] = {0};
    for (struct matter matter = NO_MATTER; next_matter(plan, world, &matter);) {
        enum step_state state = matter.unit.status->state;
        sent[matter.unit.index] += state == STEP_SENT || state == STEP_UNDO_SENT;
        if (step_fans_out(matter.unit.step) && world->operators_used == 0 &&
            sent[matter.unit.index] > matter.unit.step->elements_at_once)
            return "more elements in flight at once than may be";
    }
    return NULL;
}

/* It was asked for, and has not been given up since. */
static bool has_place(const struct truth *truth)
{
    return truth->probe_sent && !truth->undone;
}

/* Waits for its lock, or has it. */
static bool wants_place(const struct step_status *status)
{
    return status->state == STEP_PARKED || status->state == STEP_SUCCEEDED;
}

/* Who waits for a lock is in its queue, and who does not is not: other sagas would wait behind a
 * place that nobody uses. */
static const char *check_locks(const struct plan *plan, const struct world *world)
{
    for (int i = 0; i < plan->step_count; i++) {
        const struct step_status *status = &world->instance.steps[i];
        bool is_there = has_place(&world->truth[world_slot(plan, i, 0)]);
        if (plan->steps[i].via != VIA_LOCK)
            continue;
        if (status->state == STEP_PARKED && !is_there)
            return "a lock is waited for, and nobody has asked for it";
        if (is_there && !wants_place(status))
            return "a lock is no longer waited for, and its place in the queue is kept";
    }
    return NULL;
}

/* What a worker gives up at the end of its transaction: of steps that the decision tells of
 * (saga/worker/decide.c). */
static void leave_locks(const struct plan *plan, struct world *world,
                        const struct machine_decision *decision)
{
    for (int i = 0; i < decision->note_count; i++) {
        int step = decision->notes[i].step;
        if (step >= 0 && plan->steps[step].via == VIA_LOCK &&
            !wants_place(&world->instance.steps[step]))
            world->truth[world_slot(plan, step, 0)].undone = true;
    }
}

const char *world_check(const struct plan *plan, const struct world *world)
{
    const char *broken = machine_check(plan, &world->instance);
    if (!broken)
        broken = check_room(plan, world);
    if (!broken)
        broken = check_locks(plan, world);
    if (!broken && world->instance.phase == PHASE_PROTOCOL && !may_contradict(world))
        broken = "a protocol violation where nobody lied";
    if (!broken && saga_state_ended(world->instance.state) && !world->lied)
        broken = check_end(plan, world);
    return broken;
}

/* Time is not measured: every timer that is armed is due. */
static void forget_time(struct instance *instance)
{
    for (int i = 0; i < WORLD_STEPS_MAX; i++) {
        if (instance->steps[i].due_us != 0)
            instance->steps[i].due_us = WORLD_NOW;
    }
    for (int i = 0; i < SAGA_ELEMENTS_MAX; i++) {
        if (instance->elements[i].due_us != 0)
            instance->elements[i].due_us = WORLD_NOW;
    }
    if (instance->deadline_us != 0)
        instance->deadline_us = WORLD_LATER;
}

static const char *send(const struct plan *plan, struct world *world,
                        const struct machine_decision *decision, int but, bool by_operator)
{
    const char *broken = NULL;
    for (int i = 0; i < decision->command_count && !broken; i++) {
        const struct machine_command *command = &decision->commands[i];
        if (i == but)
            continue;
        if (step_waits(&plan->steps[command->step])) { /* sends nothing */
            if (!command_asks_condition(plan, command))
                broken = "a command for a step that waits";
            if (plan->steps[command->step].via == VIA_LOCK) {
                struct truth *place = &world->truth[world_slot(plan, command->step, 0)];
                place->probe_sent = true;
                place->undone = false;
            }
            continue;
        }
        if (command_asks_list(command)) {
            if (!step_fans_out(&plan->steps[command->step]))
                broken = "a list is asked for that a step has not";
            continue;
        }
        if (!world->lied)
            broken = check_command(plan, world, command, by_operator);
        if (broken)
            continue;
        struct truth *truth = &world->truth[world_slot(plan, command->step, command->element)];
        if (command->operation == OPERATION_ACTION && command->round > truth->sent_round)
            truth->sent_round = command->round;
        if (command->operation == OPERATION_UNDO && command->round > truth->undo_sent_round)
            truth->undo_sent_round = command->round;
        truth->probe_sent |= command->operation == OPERATION_PROBE;
    }
    return broken;
}

bool world_refusal(const struct plan *plan, const struct machine_decision *decision, int command,
                   int i, struct refusal *ret_refusal)
{
    const struct machine_command *about = &decision->commands[command];
    const struct plan_step *step = &plan->steps[about->step];
    bool is_lock = step->via == VIA_LOCK;
    bool has_input = (is_lock || !step_waits(step)) && about->operation != OPERATION_PROBE;
    bool asks = command_asks_condition(plan, about);
    *ret_refusal = (struct refusal){EVENT_UNMAPPABLE, command, 0};
    if (has_input && i-- == 0)
        return true;
    ret_refusal->type = EVENT_CONDITION_FALSE;
    if (asks && i-- == 0)
        return true;
    ret_refusal->type = EVENT_DENIED;
    if (is_lock && i-- == 0)
        return true;
    ret_refusal->type = EVENT_GRANT;
    if (is_lock && i-- == 0)
        return true;
    ret_refusal->type = EVENT_SPREAD;
    ret_refusal->count = i < step->elements_max ? i : i + 1; /* shorter, or longer than it may be */
    return command_asks_list(about) && i <= step->elements_max;
}

static const char *carry_out(const struct plan *plan, struct world *world,
                             const struct machine_decision *decision, const struct refusal *refusal,
                             bool by_operator);

/* What became of a fan-out whose list has so many elements. */
static const char *check_list(const struct plan *plan, const struct world *world, int step,
                              int count)
{
    const struct step_status *own = &world->instance.steps[step];
    int most = plan->steps[step].elements_max;
    if (count == 0 && own->state != STEP_SUCCEEDED)
        return "an empty list, and its step is not done";
    if (count > most && own->state != STEP_FAILED)
        return "a list longer than it may be, and its step has not failed";
    return count <= most && own->elements != count ? "some elements of a list were left out" : NULL;
}

static const char *report(const struct plan *plan, struct world *world,
                          const struct machine_command *command, enum machine_event_type type,
                          int count)
{
    struct machine_decision decision;
    /* Not if something else could not be sent, and the saga has aborted before the list was read.
     */
    bool is_list =
        type == EVENT_SPREAD && world->instance.steps[command->step].state == STEP_PARKED;
    const struct machine_event event = {.type = type,
                                        .step = command->step,
                                        .element = command->element,
                                        .operation = command->operation,
                                        .round = command->round,
                                        .attempt = command->attempt,
                                        .count = count,
                                        .now_us = WORLD_NOW};
    if (type == EVENT_GRANT)
        world->truth[world_slot(plan, command->step, 0)].action = OUTCOME_OK;
    machine_apply(plan, &world->instance, &event, &decision);
    forget_time(&world->instance);
    const char *broken = carry_out(plan, world, &decision, NULL, false);
    if (type == EVENT_DENIED && world->instance.steps[command->step].state == STEP_PARKED)
        return "to wait for a lock would have no end, and it is waited for";
    return is_list && !broken ? check_list(plan, world, command->step, count) : broken;
}

/* What a worker does with a decision: sends what is to be sent, and reports what it found. */
static const char *carry_out(const struct plan *plan, struct world *world,
                             const struct machine_decision *decision, const struct refusal *refusal,
                             bool by_operator)
{
    int but = refusal ? refusal->command : -1;
    const char *broken = send(plan, world, decision, but, by_operator);
    leave_locks(plan, world, decision);
    for (int i = 0; i < decision->command_count && !broken; i++) {
        const struct machine_command *command = &decision->commands[i];
        if (i == but)
            broken = report(plan, world, command, refusal->type, refusal->count);
        else if (command_asks_list(command))
            broken =
                report(plan, world, command, EVENT_SPREAD, plan->steps[command->step].elements_max);
    }
    return broken;
}

const char *world_start(const struct plan *plan, struct world *ret_world,
                        const struct refusal *refusal, struct machine_decision *ret_decision)
{
    memset(ret_world, 0, sizeof(*ret_world));
    machine_start(plan, &ret_world->instance, WORLD_NOW, ret_decision);
    forget_time(&ret_world->instance);
    return carry_out(plan, ret_world, ret_decision, refusal, false);
}

static bool is_same_world(const struct world *one, const struct world *other)
{
    struct world_key keys[2] = {world_pack(one), world_pack(other)};
    return memcmp(&keys[0], &keys[1], sizeof(keys[0])) == 0;
}

static bool is_same_status(const struct step_status *one, const struct step_status *other)
{
    return one->state == other->state && one->round == other->round &&
           one->undo_round == other->undo_round && one->attempt == other->attempt &&
           one->elements == other->elements && one->due_us == other->due_us;
}

/* What the machine has written down, to the last field; but for texts. */
static bool is_same_instance(const struct instance *one, const struct instance *other)
{
    bool same = one->state == other->state && one->phase == other->phase &&
                one->paused == other->paused && one->cancel_requested == other->cancel_requested &&
                one->deadline_us == other->deadline_us;
    for (int i = 0; i < SAGA_STEPS_MAX && same; i++)
        same = is_same_status(&one->steps[i], &other->steps[i]);
    for (int i = 0; i < SAGA_ELEMENTS_MAX && same; i++)
        same = is_same_status(&one->elements[i], &other->elements[i]);
    return same;
}

/* Of the saga; what the participants know is not the machine's. */
static const char *check_unchanged(const struct world *before, const struct world *after,
                                   const struct machine_decision *decision)
{
    if (decision->verdict == VERDICT_APPLIED)
        return NULL;
    if (!is_same_instance(&before->instance, &after->instance))
        return "an event that was not applied changed the saga";
    return decision->command_count + decision->note_count > 0
               ? "an event that was not applied had consequences"
               : NULL;
}

/* A definite answer always resolves what is open, and one that claims what never was is noticed. */
static const char *check_heard(const struct plan *plan, const struct world *before,
                               const struct world *after, const struct move *move,
                               const struct machine_decision *decision)
{
    if (move->event.type > EVENT_EXPIRED || move->event.operation == OPERATION_UNDO)
        return NULL;
    const struct step_status *status =
        machine_status(plan, &before->instance, move->event.step, move->event.element);
    enum step_state state = status->state;
    bool open = state == STEP_SENT || state == STEP_PROBING || state == STEP_UNKNOWN;
    bool of_an_old_round = move->event.type == EVENT_FAILED && move->event.round != status->round;
    bool never = state == STEP_FAILED || state == STEP_CANCELLED || state == STEP_UNDO_EMPTY ||
                 state == STEP_WAITING;
    bool harmless = plan->steps[move->event.step].kind == KIND_READ_ONLY && state != STEP_WAITING;
    if (move->is_answer && open && !of_an_old_round && decision->verdict != VERDICT_APPLIED)
        return "a definite answer was not heard";
    if (move->is_lie && never && !harmless && after->instance.phase != PHASE_PROTOCOL)
        return "an answer that cannot be was taken without a word";
    return NULL;
}

/* The answer for which nobody asks again may have been lost. A saga that is held sends nothing. */
static const char *check_timer(const struct world *before, const struct world *after,
                               const struct move *move, const struct machine_decision *decision)
{
    bool held = before->instance.paused || before->instance.phase == PHASE_PROTOCOL;
    if (move->event.type != EVENT_DUE || decision->verdict != VERDICT_APPLIED || held ||
        decision->command_count > 0)
        return NULL;
    return is_same_world(before, after) ? "a timer that does nothing" : NULL;
}

/* An operator's word stands for what became undone by it. */
static void note_by_hand(const struct plan *plan, const struct world *before, struct world *world)
{
    for (struct matter matter = NO_MATTER; next_matter(plan, world, &matter);) {
        const struct unit *unit = &matter.unit;
        const struct step_status *was =
            machine_status(plan, &before->instance, unit->index, unit->element);
        if (was && was->state != STEP_UNDONE && unit->status->state == STEP_UNDONE)
            world->truth[world_slot(plan, unit->index, unit->element)].by_hand = true;
    }
}

static void count_move(struct world *world, const struct move *move,
                       const struct machine_decision *decision, bool was_contradiction)
{
    bool applied = decision->verdict == VERDICT_APPLIED;
    world->cancelled |= move->event.type == EVENT_CANCEL;
    world->has_been_paused |= move->event.type == EVENT_PAUSE;
    world->operators_used += move->is_operator && applied;
    /* An operator who goes on after a contradiction has taken it upon himself. */
    bool overruled = was_contradiction && move->event.type == EVENT_RETRY && move->event.step < 0;
    world->lied |= (move->is_lie || overruled) && applied;
}

static bool is_another(const char *one, const char *other)
{
    return (one == NULL) != (other == NULL) || (one && strcmp(one, other) != 0);
}

static bool was_sent(const struct plan *plan, const struct world *world, int step)
{
    bool sent = world->truth[step].sent_round > 0;
    for (int i = 0; i < plan->steps[step].elements_max; i++)
        sent |= world->truth[world_slot(plan, step, i)].sent_round > 0;
    return sent;
}

/* What the participants know goes on under the steps' names. A step that they know of, or that
 * waits, or was done, must be one that they would meet in the same way. Of another nothing is left,
 * no place in the queue of a lock either. */
static const char *migrate(const struct plan *plan, const struct plan *to,
                           const struct instance *before, struct world *world)
{
    struct truth truth[WORLD_SLOTS_MAX] = {0};
    for (int i = 0; i < plan->step_count; i++) {
        const struct plan_step *step = &plan->steps[i];
        int found = plan_find_step(to, step->name, strlen(step->name));
        bool is_same = found >= 0 && to->steps[found].kind == step->kind &&
                       to->steps[found].via == step->via &&
                       to->steps[found].elements_max == step->elements_max;
        bool matters = was_sent(plan, world, i) || before->steps[i].state == STEP_PARKED ||
                       before->steps[i].state == STEP_SUCCEEDED;
        if (!is_same && matters)
            return "migrated, and a step that was sent, waits or was done is gone, or is another";
        if (!is_same && step->via == VIA_LOCK && has_place(&world->truth[i]))
            return "migrated, and the place in the queue of a lock is left behind";
        if (!is_same)
            continue;
        truth[found] = world->truth[i];
        for (int j = 0; j < step->elements_max; j++)
            truth[world_slot(to, found, j)] = world->truth[world_slot(plan, i, j)];
        if (is_another(step->action, to->steps[found].action) &&
            (was_done(&world->truth[i]) || may_be_done(&world->truth[i])))
            return "migrated to another action, and the one before was, or may still be, done";
        if (is_another(step->undo, to->steps[found].undo) &&
            world->truth[i].undo_sent_round > world->truth[i].undo_failed_round)
            return "migrated to another undo, and the one before was, or may still be, done";
    }
    memcpy(world->truth, truth, sizeof(truth));
    world->migrated = true;
    return NULL;
}

const char *world_apply(const struct plan *plan, const struct world *world, const struct move *move,
                        const struct refusal *refusal, struct world *ret_after,
                        struct machine_decision *ret_decision)
{
    struct world *after = ret_after;
    *after = *world;
    if (move->event.step >= 0)
        after->truth[world_slot(plan, move->event.step, move->event.element)] = move->truth;
    machine_apply(plan, &after->instance, &move->event, ret_decision);
    bool applied = ret_decision->verdict == VERDICT_APPLIED;
    const char *broken = check_unchanged(world, after, ret_decision);
    forget_time(&after->instance);
    if (!broken)
        broken = check_heard(plan, world, after, move, ret_decision);
    if (!broken)
        broken = check_timer(world, after, move, ret_decision);
    count_move(after, move, ret_decision, world->instance.phase == PHASE_PROTOCOL);
    if (move->event.type == EVENT_MIGRATE && applied) {
        if (!broken)
            broken = migrate(plan, move->event.to, &world->instance, after);
        plan = move->event.to;
    }
    if (move->event.type == EVENT_MARK_UNDONE && applied)
        note_by_hand(plan, world, after);
    return broken ? broken : carry_out(plan, after, ret_decision, refusal, move->is_operator);
}

static const char *try_events(const struct plan *plan, const struct world *world, int step,
                              int element)
{
    static struct machine_decision decision;
    const char *broken = NULL;
    for (int code = 0; code < MACHINE_EVENT_COUNT * 3 * 2 && !broken; code++) {
        struct instance instance = world->instance;
        const struct machine_event event = {
            .type = (enum machine_event_type)(code / 6),
            .step = step,
            .element = element,
            .operation = (enum saga_operation)(code / 2 % 3),
            .round = 1,
            .count = code % 6,
            .empty = code % 2,
            .now_us = WORLD_LATER,
        };
        bool asked = false; /* then it is only right again when the list is known */
        machine_apply(plan, &instance, &event, &decision);
        for (int i = 0; i < decision.command_count; i++)
            asked |= command_asks_list(&decision.commands[i]);
        bool applied = decision.verdict == VERDICT_APPLIED;
        if (!applied && !is_same_instance(&instance, &world->instance))
            broken = "an event that was not applied changed the saga";
        if (applied && !asked)
            broken = machine_check(plan, &instance);
    }
    return broken;
}

const char *world_try_garbage(const struct plan *plan, const struct world *world)
{
    const char *broken = NULL;
    for (int step = -1; step < plan->step_count && !broken; step++) {
        bool fans_out = step >= 0 && step_fans_out(&plan->steps[step]);
        for (int element = fans_out ? ELEMENT_ALL : 0; element <= fans_out * 3 && !broken;
             element++)
            broken = try_events(plan, world, step, element);
    }
    return broken;
}
