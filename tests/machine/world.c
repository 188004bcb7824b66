/* world.c: see world.h. */
#include "tests/machine/world.h"

#include "saga/machine/plan.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define BIT(i) (UINT64_C(1) << (i))

/* Moves. */

struct mover {
    const struct plan *plan;
    const struct world *world;
    struct move *moves;
    int count;
};

static struct move *add(struct mover *mover, enum machine_event_type type, int step)
{
    assert(mover->count < MOVES_MAX);
    struct move *move = &mover->moves[mover->count++];
    *move = (struct move){.event = {.type = type, .step = step, .now_us = WORLD_NOW}};
    if (step >= 0)
        move->truth = mover->world->truth[step];
    return move;
}

static struct move *answer(struct mover *mover, enum machine_event_type type, int step,
                           enum saga_operation operation, int round)
{
    struct move *move = add(mover, type, step);
    move->event.operation = operation;
    move->event.round = round;
    move->is_answer = true;
    return move;
}

/* A round that was sent and has not failed yet may take effect. */
static bool may_be_done(const struct truth *truth)
{
    return truth->action == OUTCOME_OPEN && truth->sent_round > truth->failed_round;
}

static bool was_done(const struct truth *truth)
{
    return truth->action == OUTCOME_OK;
}

static void add_action_answers(struct mover *mover, int step)
{
    const struct truth *truth = &mover->world->truth[step];
    const struct step_status *status = &mover->world->instance.steps[step];
    if (may_be_done(truth) || was_done(truth)) {
        answer(mover, EVENT_OK, step, OPERATION_ACTION, truth->sent_round)->truth.action =
            OUTCOME_OK;
        if (was_done(truth) && truth->sent_round > 1)
            answer(mover, EVENT_OK, step, OPERATION_ACTION, 1); /* to a command of an old round */
    }
    for (int round = 1; round <= truth->sent_round; round++) {
        bool repeated = round <= truth->failed_round;
        if (!repeated && truth->action != OUTCOME_OPEN)
            continue;
        struct move *move = answer(mover, EVENT_FAILED, step, OPERATION_ACTION, round);
        if (!repeated)
            move->truth.failed_round = round;
    }
    if (truth->action == OUTCOME_FENCED)
        answer(mover, EVENT_NOT_EXECUTED, step, OPERATION_ACTION, truth->sent_round);
    for (int attempt = 1; status->state == STEP_SENT && attempt <= status->attempt; attempt++) {
        struct move *move = answer(mover, EVENT_TRANSIENT, step, OPERATION_ACTION, status->round);
        move->event.attempt = attempt;
        move->is_answer = false;
    }
}

static void add_probe_answers(struct mover *mover, int step)
{
    const struct truth *truth = &mover->world->truth[step];
    if (!truth->probe_sent)
        return;
    int round = truth->sent_round;
    bool failed = truth->action == OUTCOME_OPEN && truth->failed_round >= round;
    if (may_be_done(truth) || was_done(truth))
        answer(mover, EVENT_EXECUTED, step, OPERATION_PROBE, round)->truth.action = OUTCOME_OK;
    if (failed)
        answer(mover, EVENT_FAILED, step, OPERATION_PROBE, round);
    else if (truth->action != OUTCOME_OK)
        answer(mover, EVENT_NOT_EXECUTED, step, OPERATION_PROBE, round)->truth.action =
            OUTCOME_FENCED;
    answer(mover, EVENT_IN_DOUBT, step, OPERATION_PROBE, round)->is_answer = false;
}

static void add_undo_answers(struct mover *mover, int step)
{
    const struct truth *truth = &mover->world->truth[step];
    const struct plan_step *plan_step = &mover->plan->steps[step];
    const struct step_status *status = &mover->world->instance.steps[step];
    int sent = truth->undo_sent_round;
    if (sent == 0)
        return;
    bool failed = truth->failed_round > 0 && truth->action == OUTCOME_OPEN;
    bool runs = was_done(truth) || (failed && plan_step->undo_on_fail);
    if (!runs) {
        struct move *move = answer(mover, EVENT_OK, step, OPERATION_UNDO, sent);
        move->event.empty = true;
        move->truth.action = OUTCOME_FENCED;
        return;
    }
    if (truth->undone || sent > truth->undo_failed_round)
        answer(mover, EVENT_OK, step, OPERATION_UNDO, sent)->truth.undone = true;
    for (int round = 1; round <= sent; round++) {
        bool repeated = round <= truth->undo_failed_round;
        if (!repeated && truth->undone)
            continue;
        struct move *move = answer(mover, EVENT_FAILED, step, OPERATION_UNDO, round);
        move->is_answer = false;
        if (!repeated)
            move->truth.undo_failed_round = round;
    }
    if (status->state == STEP_UNDO_SENT) {
        struct move *move =
            answer(mover, EVENT_TRANSIENT, step, OPERATION_UNDO, status->undo_round);
        move->event.attempt = status->attempt;
        move->is_answer = false;
    }
}

static void add_expired(struct mover *mover, int step)
{
    const struct truth *truth = &mover->world->truth[step];
    enum saga_operation operation = truth->undo_sent_round > 0 ? OPERATION_UNDO
                                    : truth->probe_sent        ? OPERATION_PROBE
                                                               : OPERATION_ACTION;
    int round = operation == OPERATION_UNDO ? truth->undo_sent_round : truth->sent_round;
    struct move *move = answer(mover, EVENT_EXPIRED, step, operation, round);
    move->truth.expired = true;
    /* A child saga that was closed is reminded, and says so again. */
    enum step_state state = mover->world->instance.steps[step].state;
    move->is_answer = truth->expired && mover->plan->steps[step].via == VIA_SAGA &&
                      (state == STEP_SENT || state == STEP_PROBING || state == STEP_UNDO_SENT);
}

static void add_step_moves(struct mover *mover, int step, const struct world_options *options)
{
    const struct truth *truth = &mover->world->truth[step];
    const struct step_status *status = &mover->world->instance.steps[step];
    if (truth->sent_round > 0 && !truth->expired) {
        add_action_answers(mover, step);
        add_probe_answers(mover, step);
        add_undo_answers(mover, step);
    }
    if (truth->sent_round > 0 && options->expired)
        add_expired(mover, step);
    if (status->due_us != 0)
        add(mover, EVENT_DUE, step)->is_timer = true;
    if (mover->plan->steps[step].via == VIA_SIGNAL)
        add(mover, EVENT_SIGNAL, step)->is_answer = status->state == STEP_PARKED;
    if (options->lies && !mover->world->lied && !may_be_done(truth) && !was_done(truth)) {
        struct move *move = answer(mover, EVENT_OK, step, OPERATION_ACTION, 1);
        move->is_answer = false;
        move->is_lie = true;
    }
}

static void add_operator_moves(struct mover *mover)
{
    static const enum machine_event_type of_a_step[] = {EVENT_RETRY, EVENT_SKIP, EVENT_MARK_UNDONE};
    add(mover, EVENT_RETRY, -1)->is_operator = true;
    add(mover, EVENT_ABANDON, -1)->is_operator = true;
    for (int step = 0; step < mover->plan->step_count; step++) {
        for (int i = 0; i < 3; i++)
            add(mover, of_a_step[i], step)->is_operator = true;
    }
}

int world_moves(const struct plan *plan, const struct world *world,
                const struct world_options *options, struct move moves[MOVES_MAX])
{
    struct mover mover = {plan, world, moves, 0};
    /* With a pivot it is refused. */
    if (options->taken_back && world->instance.state == SAGA_SUCCEEDED && !world->lied)
        add(&mover, EVENT_TAKE_BACK, -1);
    if (saga_state_ended(world->instance.state))
        return mover.count;
    if (world->instance.paused)
        add(&mover, EVENT_RESUME, -1)->is_answer = true;
    for (int step = 0; step < plan->step_count; step++)
        add_step_moves(&mover, step, options);
    if (world->instance.deadline_us != 0)
        add(&mover, EVENT_DEADLINE, -1)->is_timer = true;
    if (options->cancel && !world->cancelled)
        add(&mover, EVENT_CANCEL, -1);
    if (options->pause && !world->has_been_paused)
        add(&mover, EVENT_PAUSE, -1);
    for (int missing = 0; options->to && !world->migrated && missing < 2; missing++) {
        struct move *move = add(&mover, EVENT_MIGRATE, -1);
        move->event.to = options->to;
        move->event.unfit = missing;
    }
    if (world->operators_used < options->operators)
        add_operator_moves(&mover);
    return mover.count;
}

/* What the truth says about what the machine did. */

/* Nobody asks any more: an operator has said what became of it. */
static bool by_an_operators_word(const struct step_status *status)
{
    return (status->state == STEP_SKIPPED && status->due_us == 0) || status->state == STEP_UNDONE;
}

/* Has taken effect, or still may, and is not undone. */
static bool may_have_effect(const struct world *world, int step)
{
    const struct truth *truth = &world->truth[step];
    bool still_may = may_be_done(truth) && !by_an_operators_word(&world->instance.steps[step]);
    return (was_done(truth) || still_may) && !truth->undone && !truth->by_hand;
}

static const char *check_undo(const struct plan *plan, const struct world *world, int step)
{
    const struct plan_step *plan_step = &plan->steps[step];
    const struct truth *truth = &world->truth[step];
    bool failed = plan_step->undo_on_fail && truth->failed_round > 0;
    if (plan_step->kind != KIND_COMPENSABLE)
        return "an undo of what cannot be undone";
    if (!was_done(truth) && !failed)
        return "an undo of a step that is not known to have taken effect";
    for (int i = 0; i < plan->step_count; i++) {
        const struct truth *other = &world->truth[i];
        enum step_kind kind = plan->steps[i].kind;
        bool behind = (plan_step->descendants & BIT(i)) != 0;
        if (kind == KIND_PIVOT && may_have_effect(world, i))
            return "an undo past the pivot, or while the pivot may still take effect";
        if (behind && kind == KIND_COMPENSABLE && may_have_effect(world, i))
            return "an undo while a step that depends on it has, or may still take, effect";
        if (kind != KIND_READ_ONLY && may_be_done(other) &&
            !by_an_operators_word(&world->instance.steps[i]))
            return "an undo before the outcome of everything in flight is known";
    }
    return NULL;
}

static const char *check_action(const struct plan *plan, const struct world *world, int step)
{
    for (int i = 0; i < plan->step_count; i++) {
        const struct truth *other = &world->truth[i];
        const struct step_status *status = &world->instance.steps[i];
        bool waits = step_waits(&plan->steps[i]);
        if (other->undo_sent_round > 0)
            return "an action after an undo";
        if ((plan->steps[step].after & BIT(i)) && status->state != STEP_SKIPPED &&
            !(waits ? status->state == STEP_SUCCEEDED : was_done(other)))
            return "an action before those that it comes after were done";
        if (plan->steps[i].kind == KIND_PIVOT && i != step &&
            plan->steps[step].kind != KIND_RETRIABLE && other->sent_round > 0)
            return "an action beside the pivot in flight";
    }
    if (plan->steps[step].kind == KIND_PIVOT && world->instance.cancel_requested)
        return "a further attempt of the pivot after a cancel";
    if (world->truth[step].action == OUTCOME_FENCED)
        return plan->steps[step].kind == KIND_RETRIABLE ? NULL : "an action after its fence";
    return NULL;
}

static const char *check_command(const struct plan *plan, const struct world *world,
                                 const struct machine_command *command, bool by_operator)
{
    const struct step_status *status = &world->instance.steps[command->step];
    const struct truth *truth = &world->truth[command->step];
    switch (command->operation) {
    case OPERATION_ACTION:
        if (world->instance.state == SAGA_ABORTING || world->instance.state == SAGA_COMPENSATING)
            return "an action while the saga aborts";
        if (command->attempt > plan->steps[command->step].retry.max)
            return "more attempts than the policy allows";
        if (command->round < truth->sent_round || command->round <= truth->failed_round)
            return "an action of a lower round, or of one that has failed";
        return check_action(plan, world, command->step);
    case OPERATION_UNDO:
        if (command->attempt > plan->steps[command->step].undo_retry.max)
            return "more attempts of an undo than the policy allows";
        if (command->round < truth->undo_sent_round || command->round <= truth->undo_failed_round)
            return "an undo of a lower round, or of one that has failed";
        return check_undo(plan, world, command->step);
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
    for (int i = 0; i < plan->step_count; i++) {
        const struct truth *truth = &world->truth[i];
        enum step_state state = world->instance.steps[i].state;
        bool may_leave_traces =
            plan->steps[i].kind != KIND_READ_ONLY && !step_waits(&plan->steps[i]);
        if (!may_leave_traces || truth->expired)
            continue;
        if (was_done(truth) && !truth->undone && !truth->by_hand)
            return "compensated, and something that was done is not undone";
        if (may_be_done(truth) && !truth->by_hand && state != STEP_SKIPPED)
            return "compensated, and something may still be done";
        if (plan->steps[i].undo_on_fail && truth->failed_round > 0 && !truth->undone &&
            !truth->by_hand && truth->action == OUTCOME_OPEN && state != STEP_SKIPPED)
            return "compensated, and a failed step was not cleaned up";
    }
    return NULL;
}

static const char *check_end(const struct plan *plan, const struct world *world)
{
    const struct instance *instance = &world->instance;
    if (instance->state == SAGA_COMPENSATED)
        return check_compensated(plan, world);
    for (int i = 0; i < plan->step_count; i++) {
        const struct truth *truth = &world->truth[i];
        bool skipped = instance->steps[i].state == STEP_SKIPPED;
        bool is_command = !step_waits(&plan->steps[i]);
        if (instance->state == SAGA_SUCCEEDED && is_command && !skipped && !was_done(truth))
            return "succeeded, and a step was not done";
        if (instance->state == SAGA_SUCCEEDED && truth->undo_sent_round > 0)
            return "succeeded, and a step was undone";
        if (instance->state == SAGA_CLOSED && may_be_done(truth) && !truth->probe_sent &&
            plan->steps[i].kind != KIND_READ_ONLY && !truth->by_hand && !truth->expired)
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

static const char *check_state(const struct plan *plan, const struct world *world)
{
    const char *broken = machine_check(plan, &world->instance);
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
    if (instance->deadline_us != 0)
        instance->deadline_us = WORLD_NOW;
}

static const char *send(const struct plan *plan, struct world *world,
                        const struct machine_decision *decision, int but, bool by_operator)
{
    const char *broken = NULL;
    for (int i = 0; i < decision->command_count && !broken; i++) {
        const struct machine_command *command = &decision->commands[i];
        struct truth *truth = &world->truth[command->step];
        if (i == but)
            continue;
        if (step_waits(&plan->steps[command->step])) { /* sends nothing */
            if (!command_asks_condition(plan, command))
                broken = "a command for a step that waits";
            continue;
        }
        if (!world->lied)
            broken = check_command(plan, world, command, by_operator);
        if (command->operation == OPERATION_ACTION && command->round > truth->sent_round)
            truth->sent_round = command->round;
        if (command->operation == OPERATION_UNDO && command->round > truth->undo_sent_round)
            truth->undo_sent_round = command->round;
        truth->probe_sent |= command->operation == OPERATION_PROBE;
    }
    return broken;
}

static const char *refuse(const struct plan *plan, struct world *world,
                          const struct machine_command *command, enum machine_event_type type)
{
    static struct machine_decision decision;
    const struct machine_event event = {.type = type,
                                        .step = command->step,
                                        .operation = command->operation,
                                        .round = command->round,
                                        .attempt = command->attempt,
                                        .now_us = WORLD_NOW};
    machine_apply(plan, &world->instance, &event, &decision);
    forget_time(&world->instance);
    return send(plan, world, &decision, -1, false);
}

const char *world_start(const struct plan *plan, struct world *ret_world,
                        const struct refusal *refusal, struct machine_decision *ret_decision)
{
    memset(ret_world, 0, sizeof(*ret_world));
    machine_start(plan, &ret_world->instance, WORLD_NOW, ret_decision);
    forget_time(&ret_world->instance);
    const char *broken =
        send(plan, ret_world, ret_decision, refusal ? refusal->command : -1, false);
    if (!broken && refusal)
        broken = refuse(plan, ret_world, &ret_decision->commands[refusal->command], refusal->type);
    return broken ? broken : check_state(plan, ret_world);
}

static const char *check_unchanged(const struct world *before, const struct world *after,
                                   const struct machine_decision *decision)
{
    if (decision->verdict == VERDICT_APPLIED)
        return NULL;
    struct world_key keys[2] = {world_pack(before), world_pack(after)};
    if (memcmp(&keys[0], &keys[1], sizeof(keys[0])) != 0)
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
    enum step_state state = before->instance.steps[move->event.step].state;
    bool open = state == STEP_SENT || state == STEP_PROBING || state == STEP_UNKNOWN;
    bool of_an_old_round = move->event.type == EVENT_FAILED &&
                           move->event.round != before->instance.steps[move->event.step].round;
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
    struct world_key keys[2] = {world_pack(before), world_pack(after)};
    return memcmp(&keys[0], &keys[1], sizeof(keys[0])) == 0 ? "a timer that does nothing" : NULL;
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
    if (move->event.type == EVENT_MARK_UNDONE && applied)
        world->truth[move->event.step].by_hand = true;
}

/* What the participants know goes on under the steps' names. A step that they know of must be one
 * that they would meet in the same way. */
static const char *migrate(const struct plan *plan, const struct plan *to, struct world *world)
{
    struct truth truth[WORLD_STEPS_MAX] = {0};
    for (int i = 0; i < plan->step_count; i++) {
        const struct plan_step *step = &plan->steps[i];
        int found = plan_find_step(to, step->name, strlen(step->name));
        if (found >= 0)
            truth[found] = world->truth[i];
        if (world->truth[i].sent_round > 0 &&
            (found < 0 || to->steps[found].kind != step->kind || to->steps[found].via != step->via))
            return "migrated, and a step that was sent is gone, or is another";
    }
    memcpy(world->truth, truth, sizeof(truth));
    world->migrated = true;
    return NULL;
}

const char *world_apply(const struct plan *plan, struct world *world, const struct move *move,
                        const struct refusal *refusal, struct machine_decision *ret_decision)
{
    if (move->event.step >= 0)
        world->truth[move->event.step] = move->truth;
    struct world before = *world;
    machine_apply(plan, &world->instance, &move->event, ret_decision);
    forget_time(&world->instance);
    const char *broken = check_unchanged(&before, world, ret_decision);
    if (!broken)
        broken = check_heard(plan, &before, world, move, ret_decision);
    if (!broken)
        broken = check_timer(&before, world, move, ret_decision);
    count_move(world, move, ret_decision, before.instance.phase == PHASE_PROTOCOL);
    if (move->event.type == EVENT_MIGRATE && ret_decision->verdict == VERDICT_APPLIED) {
        if (!broken)
            broken = migrate(plan, move->event.to, world);
        plan = move->event.to;
    }
    int but = refusal ? refusal->command : -1;
    if (!broken)
        broken = send(plan, world, ret_decision, but, move->is_operator);
    if (!broken && refusal)
        broken = refuse(plan, world, &ret_decision->commands[but], refusal->type);
    return broken ? broken : check_state(plan, world);
}

const char *world_try_garbage(const struct plan *plan, const struct world *world)
{
    static struct machine_decision decision;
    for (int code = 0; code < MACHINE_EVENT_COUNT * 3 * 2; code++) {
        for (int step = -1; step < plan->step_count; step++) {
            struct instance instance = world->instance;
            const struct machine_event event = {
                .type = (enum machine_event_type)(code / 6),
                .step = step,
                .operation = (enum saga_operation)(code / 2 % 3),
                .round = 1,
                .empty = code % 2,
                .now_us = WORLD_NOW,
            };
            machine_apply(plan, &instance, &event, &decision);
            const char *broken = machine_check(plan, &instance);
            if (broken)
                return broken;
        }
    }
    return NULL;
}
