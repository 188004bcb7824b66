/* world_moves.c: everything that can happen next in a world. */
#include "tests/machine/world_private.h"

#include <assert.h>

int world_slot(const struct plan *plan, int step, int element)
{
    const struct plan_step *plan_step = &plan->steps[step];
    bool is_element = step_fans_out(plan_step) && element != ELEMENT_ALL;
    int slot = is_element ? WORLD_FANNED_STEPS_MAX + plan_step->elements_from + element : step;
    assert(!is_element || plan->step_count <= WORLD_FANNED_STEPS_MAX);
    assert(slot >= 0 && slot < WORLD_SLOTS_MAX);
    return slot;
}

bool next_matter(const struct plan *plan, const struct world *world, struct matter *matter)
{
    if (matter->next_step == plan->step_count)
        return false;
    int step = matter->next_step;
    matter->unit = machine_unit(plan, &world->instance, step, matter->next_unit++);
    matter->truth = &world->truth[world_slot(plan, step, matter->unit.element)];
    if (matter->next_unit == machine_unit_count(&world->instance, step)) {
        matter->next_step++;
        matter->next_unit = 0;
    }
    return true;
}

struct mover {
    const struct plan *plan;
    const struct world *world;
    struct move *moves;
    int count;
};

static struct move *add(struct mover *mover, enum machine_event_type type, int step, int element)
{
    assert(mover->count < MOVES_MAX);
    struct move *move = &mover->moves[mover->count++];
    *move = (struct move){
        .event = {.type = type, .step = step, .element = element, .now_us = WORLD_NOW}};
    if (step >= 0)
        move->truth = mover->world->truth[world_slot(mover->plan, step, element)];
    return move;
}

static struct move *add_saga(struct mover *mover, enum machine_event_type type)
{
    return add(mover, type, -1, 0);
}

static struct move *answer(struct mover *mover, enum machine_event_type type,
                           const struct matter *matter, enum saga_operation operation, int round)
{
    struct move *move = add(mover, type, matter->unit.index, matter->unit.element);
    move->event.operation = operation;
    move->event.round = round;
    move->is_answer = true;
    return move;
}

static void add_action_answers(struct mover *mover, const struct matter *matter)
{
    const struct truth *truth = matter->truth;
    const struct step_status *status = matter->unit.status;
    if (may_be_done(truth) || was_done(truth)) {
        answer(mover, EVENT_OK, matter, OPERATION_ACTION, truth->sent_round)->truth.action =
            OUTCOME_OK;
        if (was_done(truth) && truth->sent_round > 1)
            answer(mover, EVENT_OK, matter, OPERATION_ACTION, 1); /* to a command of an old round */
    }
    for (int round = 1; round <= truth->sent_round; round++) {
        bool repeated = round <= truth->failed_round;
        if (!repeated && truth->action != OUTCOME_OPEN)
            continue;
        struct move *move = answer(mover, EVENT_FAILED, matter, OPERATION_ACTION, round);
        if (!repeated)
            move->truth.failed_round = round;
    }
    if (truth->action == OUTCOME_FENCED)
        answer(mover, EVENT_NOT_EXECUTED, matter, OPERATION_ACTION, truth->sent_round);
    for (int attempt = 1; status->state == STEP_SENT && attempt <= status->attempt; attempt++) {
        struct move *move = answer(mover, EVENT_TRANSIENT, matter, OPERATION_ACTION, status->round);
        move->event.attempt = attempt;
        move->is_answer = false;
    }
}

static void add_probe_answers(struct mover *mover, const struct matter *matter)
{
    const struct truth *truth = matter->truth;
    if (!truth->probe_sent)
        return;
    int round = truth->sent_round;
    bool failed = truth->action == OUTCOME_OPEN && truth->failed_round >= round;
    if (may_be_done(truth) || was_done(truth))
        answer(mover, EVENT_EXECUTED, matter, OPERATION_PROBE, round)->truth.action = OUTCOME_OK;
    if (failed)
        answer(mover, EVENT_FAILED, matter, OPERATION_PROBE, round);
    else if (truth->action != OUTCOME_OK)
        answer(mover, EVENT_NOT_EXECUTED, matter, OPERATION_PROBE, round)->truth.action =
            OUTCOME_FENCED;
    answer(mover, EVENT_IN_DOUBT, matter, OPERATION_PROBE, round)->is_answer = false;
}

static void add_undo_answers(struct mover *mover, const struct matter *matter)
{
    const struct truth *truth = matter->truth;
    const struct step_status *status = matter->unit.status;
    int sent = truth->undo_sent_round;
    if (sent == 0)
        return;
    bool failed = truth->failed_round > 0 && truth->action == OUTCOME_OPEN;
    bool runs = was_done(truth) || (failed && matter->unit.step->undo_on_fail);
    if (!runs) {
        struct move *move = answer(mover, EVENT_OK, matter, OPERATION_UNDO, sent);
        move->event.empty = true;
        move->truth.action = OUTCOME_FENCED;
        return;
    }
    if (truth->undone || sent > truth->undo_failed_round)
        answer(mover, EVENT_OK, matter, OPERATION_UNDO, sent)->truth.undone = true;
    for (int round = 1; round <= sent; round++) {
        bool repeated = round <= truth->undo_failed_round;
        if (!repeated && truth->undone)
            continue;
        struct move *move = answer(mover, EVENT_FAILED, matter, OPERATION_UNDO, round);
        move->is_answer = false;
        if (!repeated)
            move->truth.undo_failed_round = round;
    }
    if (status->state == STEP_UNDO_SENT) {
        struct move *move =
            answer(mover, EVENT_TRANSIENT, matter, OPERATION_UNDO, status->undo_round);
        move->event.attempt = status->attempt;
        move->is_answer = false;
    }
}

static void add_expired(struct mover *mover, const struct matter *matter)
{
    const struct truth *truth = matter->truth;
    enum saga_operation operation = truth->undo_sent_round > 0 ? OPERATION_UNDO
                                    : truth->probe_sent        ? OPERATION_PROBE
                                                               : OPERATION_ACTION;
    int round = operation == OPERATION_UNDO ? truth->undo_sent_round : truth->sent_round;
    struct move *move = answer(mover, EVENT_EXPIRED, matter, operation, round);
    move->truth.expired = true;
    /* A child saga that was closed is reminded, and says so again. */
    enum step_state state = matter->unit.status->state;
    move->is_answer = truth->expired && matter->unit.step->via == VIA_SAGA &&
                      (state == STEP_SENT || state == STEP_PROBING || state == STEP_UNDO_SENT);
}

static void add_unit_moves(struct mover *mover, const struct matter *matter,
                           const struct world_options *options)
{
    const struct truth *truth = matter->truth;
    const struct step_status *status = matter->unit.status;
    int step = matter->unit.index;
    int element = matter->unit.element;
    if (truth->sent_round > 0 && !truth->expired) {
        add_action_answers(mover, matter);
        add_probe_answers(mover, matter);
        add_undo_answers(mover, matter);
    }
    if (truth->sent_round > 0 && options->expired)
        add_expired(mover, matter);
    if (status->due_us != 0)
        add(mover, EVENT_DUE, step, element)->is_timer = true;
    if (matter->unit.step->via == VIA_SIGNAL)
        add(mover, EVENT_SIGNAL, step, element)->is_answer = status->state == STEP_PARKED;
    if (matter->unit.step->via == VIA_LOCK && truth->probe_sent) {
        struct move *move = add(mover, EVENT_GRANT, step, element);
        move->is_answer = status->state == STEP_PARKED;
        move->truth.action = OUTCOME_OK; /* the saga has it */
    }
    if (options->lies && !mover->world->lied && !may_be_done(truth) && !was_done(truth) &&
        element != ELEMENT_ALL) {
        struct move *move = answer(mover, EVENT_OK, matter, OPERATION_ACTION, 1);
        move->is_answer = false;
        move->is_lie = true;
    }
}

static void add_operator_moves(struct mover *mover)
{
    static const enum machine_event_type of_a_step[] = {EVENT_RETRY, EVENT_SKIP, EVENT_MARK_UNDONE};
    add_saga(mover, EVENT_RETRY)->is_operator = true;
    add_saga(mover, EVENT_ABANDON)->is_operator = true;
    for (int i = 0; i < 3; i++) {
        for (struct matter matter = NO_MATTER; next_matter(mover->plan, mover->world, &matter);)
            add(mover, of_a_step[i], matter.unit.index, matter.unit.element)->is_operator = true;
        for (int step = 0; step < mover->plan->step_count; step++) {
            if (mover->world->instance.steps[step].elements > 0)
                add(mover, of_a_step[i], step, ELEMENT_ALL)->is_operator = true;
        }
    }
}

int world_moves(const struct plan *plan, const struct world *world,
                const struct world_options *options, struct move moves[MOVES_MAX])
{
    struct mover mover = {plan, world, moves, 0};
    /* With a pivot it is refused. */
    if (options->taken_back && world->instance.state == SAGA_SUCCEEDED && !world->lied)
        add_saga(&mover, EVENT_TAKE_BACK);
    if (saga_state_ended(world->instance.state))
        return mover.count;
    if (world->instance.paused)
        add_saga(&mover, EVENT_RESUME)->is_answer = true;
    for (struct matter matter = NO_MATTER; next_matter(plan, world, &matter);)
        add_unit_moves(&mover, &matter, options);
    if (world->instance.deadline_us != 0) {
        struct move *move = add_saga(&mover, EVENT_DEADLINE);
        move->event.now_us = WORLD_LATER;
        move->is_timer = true;
    }
    if (options->cancel && !world->cancelled)
        add_saga(&mover, EVENT_CANCEL);
    if (options->pause && !world->has_been_paused)
        add_saga(&mover, EVENT_PAUSE);
    for (int missing = 0; options->to && !world->migrated && missing < 2; missing++) {
        struct move *move = add_saga(&mover, EVENT_MIGRATE);
        move->event.to = options->to;
        move->event.unfit = missing;
    }
    if (world->operators_used < options->operators)
        add_operator_moves(&mover);
    for (int now = WORLD_NOW; options->all_due && now <= WORLD_LATER; now++)
        add_saga(&mover, EVENT_DUE)->event.now_us = now;
    return mover.count;
}
