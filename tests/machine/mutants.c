/* mutants.c: see mutants.h. */
#include "tests/machine/mutants.h"

#include "saga/machine/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define STEPS(name) VALUE_BIT(STEP_##name)

/* The row of a state and an event whose `because` begins so. */
static struct table_row *find_row(struct table_row *rows, size_t count, uint32_t state,
                                  uint32_t event, const char *because)
{
    for (size_t i = 0; i < count; i++) {
        if ((rows[i].states & state) && (rows[i].events & event) &&
            strncmp(rows[i].because, because, strlen(because)) == 0)
            return &rows[i];
    }
    fail_msg("there is no row \"%s\" any more: mend the mutant", because);
    return NULL;
}

static struct table_row *step_row(enum step_state state, enum step_event event, const char *because)
{
    size_t count;
    struct table_row *rows = step_rows(&count);
    return find_row(rows, count, VALUE_BIT(state), VALUE_BIT(event), because);
}

static struct table_row *saga_row(enum saga_state state, enum saga_event event, const char *because)
{
    size_t count;
    struct table_row *rows = saga_rows(&count);
    return find_row(rows, count, VALUE_BIT(state), VALUE_BIT(event), because);
}

static struct settle_rule *rule(enum step_event event)
{
    size_t count;
    struct settle_rule *rules = settle_rules(&count);
    for (size_t i = 0; i < count; i++) {
        if (rules[i].event == event)
            return &rules[i];
    }
    fail_msg("there is no rule for %s any more: mend the mutant", step_event_name(event));
    return NULL;
}

static void nothing(struct context *context)
{
    (void)context;
}

/* Undo: the rules of its order. */

static uint64_t undo_in_any_order(const struct plan *plan, const struct instance *instance,
                                  const struct facts *facts)
{
    (void)plan;
    (void)instance;
    return facts->aborting && !facts->unsettled ? facts->effect : 0;
}

static uint64_t undo_before_all_is_settled(const struct plan *plan, const struct instance *instance,
                                           const struct facts *facts)
{
    (void)plan;
    (void)instance;
    uint64_t steps = facts->aborting ? facts->effect : 0;
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].descendants & (facts->effect | facts->undoing | facts->unsettled))
            steps &= ~STEP_BIT(i);
    }
    return steps;
}

static uint64_t undo_past_the_pivot(const struct plan *plan, const struct instance *instance,
                                    const struct facts *facts)
{
    (void)plan;
    (void)instance;
    return facts->aborting || facts->stuck ? facts->effect : 0;
}

static void undo_before_dependants(void)
{
    rule(ON_UNDO)->which = undo_in_any_order;
}

static void undo_before_settled(void)
{
    rule(ON_UNDO)->which = undo_before_all_is_settled;
}

static void compensate_after_pivot(void)
{
    rule(ON_UNDO)->which = undo_past_the_pivot;
}

static void double_undo(void)
{
    step_row(STEP_UNDO_SENT, ON_UNDONE, "its participant undid it")->next = STEP_SUCCEEDED;
}

static void undo_gives_up_silently(void)
{
    step_row(STEP_UNDO_SENT, ON_DUE, "no outcome of its undo, and out")->next = STEP_UNDONE;
}

static void undo_failure_keeps_the_round(void)
{
    step_row(STEP_UNDO_SENT, ON_UNDO_NO, "its undo failed; it is tried")->action =
        step_row(STEP_UNDO_SENT, ON_DUE, "no outcome of its undo; the same")->action;
}

/* Timers. */

static void lost_retry_timer(void)
{
    step_row(STEP_SENT, ON_DUE, "no outcome; the same round")->action = nothing;
}

static void lost_undo_timer(void)
{
    step_row(STEP_UNDO_SENT, ON_DUE, "no outcome of its undo; the same")->action = nothing;
}

/* Outcomes that nobody knows. */

static void doubt_is_guessed(void)
{
    step_row(STEP_PROBING, ON_DUE, "its participant stays silent")->next = STEP_UNDO_EMPTY;
}

static void silence_is_taken_for_no(void)
{
    struct table_row *row = step_row(STEP_SENT, ON_DUE, "no outcome, and out of attempts: its");
    row->next = STEP_FAILED;
    row->action = NULL;
}

static void abort_forgets_earlier_attempts(void)
{
    struct table_row *row = step_row(STEP_RETRY_WAIT, ON_ABORT, "the saga aborts; an earlier");
    row->next = STEP_CANCELLED;
    row->action = NULL;
}

static void late_answers_are_not_heard(void)
{
    size_t count;
    struct table_row *rows = step_rows(&count);
    for (size_t i = 0; i < count; i++) {
        if ((rows[i].events & VALUE_BIT(ON_DONE)) && rows[i].next == STEP_SUCCEEDED)
            rows[i].states &= ~STEPS(UNKNOWN);
    }
    step_row(STEP_SUCCEEDED, ON_DONE, "that it took effect")->states |= STEPS(UNKNOWN);
}

static void a_retriable_is_probed(void)
{
    step_row(STEP_SENT, ON_DUE, "no outcome, and out of attempts")->events &= ~VALUE_BIT(ON_DUE);
    struct table_row *row = step_row(STEP_SENT, ON_LATER, "no outcome, and out of attempts");
    row->states = 0; /* the read-only one */
    row = step_row(STEP_SENT, ON_DUE, "no outcome, and out of attempts");
    if (row->next == STEP_UNKNOWN)
        row->states = 0;
}

/* Attempts and rounds. */

static void attempts_without_end(void)
{
    step_row(STEP_SENT, ON_DUE, "no outcome; the same round")->guard = NULL;
}

static void refusal_keeps_the_round(void)
{
    step_row(STEP_SENT, ON_NO, "refused; it is tried again")->action =
        step_row(STEP_SENT, ON_DUE, "no outcome; the same round")->action;
}

static void the_pivot_is_tried_again_after_a_cancel(void)
{
    step_row(STEP_SENT, ON_DUE, "no outcome and no further attempt")->states = 0;
    struct table_row *row = step_row(STEP_SENT, ON_STOP_PIVOT, "no further attempt");
    row->states &= ~STEPS(SENT);
}

/* Starts and ends. */

static uint64_t start_while_others_are_in_flight(const struct plan *plan,
                                                 const struct instance *instance,
                                                 const struct facts *facts)
{
    uint64_t steps = 0;
    for (int i = 0; i < plan->step_count && !facts->aborting; i++) {
        if (instance->steps[i].state == STEP_WAITING &&
            !(plan->steps[i].after & ~(facts->passed | facts->moving)))
            steps |= STEP_BIT(i);
    }
    return steps;
}

static uint64_t none(const struct plan *plan, const struct instance *instance,
                     const struct facts *facts)
{
    (void)plan;
    (void)instance;
    (void)facts;
    return 0;
}

static void early_start(void)
{
    rule(ON_RUN)->which = start_while_others_are_in_flight;
}

static void resume_forgets_what_was_held(void)
{
    rule(ON_RELEASE)->which = none;
}

static void abort_leaves_steps_waiting(void)
{
    rule(ON_ABORT)->which = none;
}

static void abandon_does_not_fence(void)
{
    step_row(STEP_SENT, ON_FENCE, "abandoned; what is in flight")->action = nothing;
}

static void contradictions_are_ignored(void)
{
    step_row(STEP_UNDO_EMPTY, ON_DONE, "an answer claims")->action = machine_ignore;
}

static void what_was_skipped_counts_as_done(void)
{
    step_row(STEP_SENT, ON_CONDITION_FALSE, "its condition")->next = STEP_SUCCEEDED;
}

static void a_skipped_wait_ends_the_saga(void)
{
    step_row(STEP_PARKED, ON_CONDITION_FALSE, "its condition")->next = STEP_CANCELLED;
}

static void what_was_done_may_be_another(void)
{
    saga_row(SAGA_RUNNING, ON_MIGRATE, "what it has done is not the same")->states = 0;
}

/* Child sagas, seen from the parent and from the child. */

static void a_child_is_not_cancelled(void)
{
    step_row(STEP_SENT, ON_ABORT, "the saga aborts; its child")->next = STEP_CANCELLED;
}

static void a_child_is_never_reminded(void)
{
    step_row(STEP_SENT, ON_DUE, "its child saga has not ended")->action = nothing;
}

static void a_childs_undo_is_never_reminded(void)
{
    step_row(STEP_UNDO_SENT, ON_DUE, "its child saga has not ended")->action = nothing;
}

static void a_child_past_its_pivot_is_taken_back(void)
{
    saga_row(SAGA_SUCCEEDED, ON_TAKE_BACK, "its pivot has passed")->states = 0;
}

static void a_child_says_undone_and_is_not(void)
{
    saga_row(SAGA_SUCCEEDED, ON_TAKE_BACK, "its parent saga")->next = SAGA_COMPENSATED;
}

/* Elements. */

static bool undo_of_the_first(const struct unit *unit, const struct facts *facts)
{
    (void)facts;
    return unit->status->state == STEP_SUCCEEDED && unit->element <= 0;
}

static bool end_nothing_that_waits(const struct unit *unit, const struct facts *facts)
{
    (void)facts;
    return unit->status->state == STEP_PARKED || unit->status->state == STEP_RETRY_WAIT;
}

static void undone_but_for_the_second(struct context *context)
{
    context->status->due_us = 0;
    context->status->state = context->unit.element > 0 ? STEP_SUCCEEDED : STEP_UNDONE;
}

static void an_element_is_undone_twice(void)
{
    struct table_row *row = step_row(STEP_UNDO_SENT, ON_UNDONE, "its participant undid it");
    row->action = undone_but_for_the_second;
    row->next = STATE_KEEP;
}

/* A fan-out says `state` before what it says first, which comes last. */
static void tell_before(enum step_state state, int place)
{
    enum step_state *told_first = elements_told_first();
    told_first[ELEMENTS_TOLD_FIRST - 1] = told_first[place];
    told_first[place] = state;
}

static void a_fan_out_is_undone_with_one_of_its_elements(void)
{
    tell_before(STEP_UNDONE, 0);
}

static void a_fan_out_is_done_with_one_of_its_elements(void)
{
    tell_before(STEP_SUCCEEDED, 3);
}

static void an_element_is_left_out_of_the_undo(void)
{
    rule(ON_UNDO)->names = undo_of_the_first;
}

static void elements_are_sent_without_room(void)
{
    rule(ON_RUN)->crowd = 0;
}

static void elements_are_undone_without_room(void)
{
    rule(ON_UNDO)->crowd = 0;
}

static void elements_that_wait_are_sent_when_it_aborts(void)
{
    rule(ON_ABORT)->names = end_nothing_that_waits;
}

static void an_empty_list_is_not_done(void)
{
    step_row(STEP_PARKED, ON_SPREAD, "its list is empty")->next = STEP_CANCELLED;
}

static void a_list_that_is_too_long_is_taken(void)
{
    step_row(STEP_PARKED, ON_SPREAD, "its list is longer")->next = STEP_SUCCEEDED;
}

static void a_list_is_read_and_forgotten(void)
{
    step_row(STEP_PARKED, ON_SPREAD, "its list is known")->action = nothing;
}

static void a_denied_lock_is_held(void)
{
    step_row(STEP_PARKED, ON_DENIED, "to wait for its lock")->next = STEP_SUCCEEDED;
}

static void a_lock_in_vain_is_held(void)
{
    step_row(STEP_PARKED, ON_DUE, "it does not get its lock: it")->next = STEP_SUCCEEDED;
}

static void a_lock_is_not_asked_for(void)
{
    step_row(STEP_WAITING, ON_RUN, "all before it have passed; it asks")->action = nothing;
}

static void a_lock_that_was_held_back_is_not_asked_for(void)
{
    step_row(STEP_READY, ON_RELEASE, "the saga goes on; it asks")->action = nothing;
}

/* The deadlock's victim stays in the queue. */
static void a_deadlock_is_waited_out(void)
{
    struct table_row *row = step_row(STEP_PARKED, ON_DENIED, "to wait for its lock");
    row->action = nothing;
    row->next = STATE_KEEP;
}

static void a_lock_in_vain_is_had_after_all(void)
{
    step_row(STEP_PARKED, ON_GRANT, "it has its lock")->states |= STEPS(FAILED);
}

static bool end_all_but_waiters(const struct unit *unit, const struct facts *facts)
{
    (void)facts;
    enum step_state state = unit->status->state;
    return state == STEP_WAITING || state == STEP_READY || state == STEP_RETRY_WAIT;
}

static void a_waiter_stays_in_the_queue_when_it_aborts(void)
{
    rule(ON_ABORT)->names = end_all_but_waiters;
}

/* Groups of which some failed. */

static bool has_sibling(const struct context *context, enum step_state state)
{
    const struct plan_step *step = context->unit.step;
    int count = context->instance->steps[context->unit.index].elements;
    bool has = false;
    for (int i = 0; i < count; i++)
        has |= context->instance->elements[step->elements_from + i].state == state;
    return has;
}

static void fail_unless_another_is_done(struct context *context)
{
    bool done = has_sibling(context, STEP_SUCCEEDED);
    context->status->due_us = 0;
    context->status->state = done ? STEP_SUCCEEDED : STEP_FAILED;
}

static void one_failure_of_a_group_is_overlooked(void)
{
    struct table_row *row = step_row(STEP_SENT, ON_NO, "its participant refused");
    row->action = fail_unless_another_is_done;
    row->next = STATE_KEEP;
}

static bool undo_what_is_done(const struct unit *unit, const struct facts *facts)
{
    (void)facts;
    return unit->status->state == STEP_SUCCEEDED;
}

static void who_failed_in_a_group_is_not_cleaned_up(void)
{
    rule(ON_UNDO)->names = undo_what_is_done;
}

static void undo_unless_another_is_undone(struct context *context)
{
    bool undone = has_sibling(context, STEP_UNDONE);
    context->status->due_us = 0;
    context->status->state = undone ? STEP_UNDO_EMPTY : STEP_UNDONE;
    context->status->undo_round += undone;
}

static void the_second_undo_of_a_group_counts_anew(void)
{
    struct table_row *row = step_row(STEP_UNDO_SENT, ON_UNDONE, "its participant undid it");
    row->action = undo_unless_another_is_undone;
    row->next = STATE_KEEP;
}

/* A reservation is given back by an undo: an answer that comes twice must not give back twice. */

static void undo_again_what_is_undone(struct context *context)
{
    if (context->status->state == STEP_UNDONE)
        context->status->state = STEP_UNDO_READY;
    else
        machine_ignore(context);
}

static void a_reservation_is_given_back_twice(void)
{
    step_row(STEP_UNDONE, ON_UNDONE, "late or repeated")->action = undo_again_what_is_undone;
}

/* A saga that goes on by another version in the midst of it. */

static action_function *migrates;

static void migrate_and_lose_timers(struct context *context)
{
    migrates(context);
    for (int i = 0; i < context->plan->step_count; i++)
        context->instance->steps[i].due_us = 0;
}

static void migrate_by_place(struct context *context)
{
    struct step_status steps[SAGA_STEPS_MAX];
    memcpy(steps, context->instance->steps, sizeof(steps));
    migrates(context);
    memcpy(context->instance->steps, steps, sizeof(steps));
}

static void migrate_and_forget_elements(struct context *context)
{
    migrates(context);
    memset(context->instance->elements, 0, sizeof(context->instance->elements));
}

static void migrate_wrongly(action_function *wrongly)
{
    struct table_row *row = saga_row(SAGA_RUNNING, ON_MIGRATE, "what it has done is the same");
    migrates = row->action;
    row->action = wrongly;
}

static void a_migration_loses_timers(void)
{
    migrate_wrongly(migrate_and_lose_timers);
}

static void a_migration_goes_by_place(void)
{
    migrate_wrongly(migrate_by_place);
}

static void a_migration_forgets_elements(void)
{
    migrate_wrongly(migrate_and_forget_elements);
}

#define MUTANT(name)                                                                               \
    {                                                                                              \
#name, name                                                                                \
    }

static const struct mutant all[] = {
    MUTANT(undo_before_dependants),
    MUTANT(undo_before_settled),
    MUTANT(compensate_after_pivot),
    MUTANT(double_undo),
    MUTANT(undo_gives_up_silently),
    MUTANT(undo_failure_keeps_the_round),
    MUTANT(lost_retry_timer),
    MUTANT(lost_undo_timer),
    MUTANT(doubt_is_guessed),
    MUTANT(silence_is_taken_for_no),
    MUTANT(abort_forgets_earlier_attempts),
    MUTANT(late_answers_are_not_heard),
    MUTANT(a_retriable_is_probed),
    MUTANT(attempts_without_end),
    MUTANT(refusal_keeps_the_round),
    MUTANT(the_pivot_is_tried_again_after_a_cancel),
    MUTANT(early_start),
    MUTANT(resume_forgets_what_was_held),
    MUTANT(abort_leaves_steps_waiting),
    MUTANT(abandon_does_not_fence),
    MUTANT(contradictions_are_ignored),
    MUTANT(what_was_skipped_counts_as_done),
    MUTANT(a_skipped_wait_ends_the_saga),
    MUTANT(what_was_done_may_be_another),
    MUTANT(a_child_is_not_cancelled),
    MUTANT(a_child_is_never_reminded),
    MUTANT(a_childs_undo_is_never_reminded),
    MUTANT(a_child_past_its_pivot_is_taken_back),
    MUTANT(a_child_says_undone_and_is_not),
    MUTANT(an_element_is_undone_twice),
    MUTANT(a_fan_out_is_undone_with_one_of_its_elements),
    MUTANT(a_fan_out_is_done_with_one_of_its_elements),
    MUTANT(an_element_is_left_out_of_the_undo),
    MUTANT(elements_are_sent_without_room),
    MUTANT(elements_are_undone_without_room),
    MUTANT(elements_that_wait_are_sent_when_it_aborts),
    MUTANT(an_empty_list_is_not_done),
    MUTANT(a_list_that_is_too_long_is_taken),
    MUTANT(a_list_is_read_and_forgotten),
    MUTANT(a_denied_lock_is_held),
    MUTANT(a_lock_in_vain_is_held),
    MUTANT(a_lock_is_not_asked_for),
    MUTANT(a_lock_that_was_held_back_is_not_asked_for),
    MUTANT(a_deadlock_is_waited_out),
    MUTANT(a_lock_in_vain_is_had_after_all),
    MUTANT(a_waiter_stays_in_the_queue_when_it_aborts),
    MUTANT(one_failure_of_a_group_is_overlooked),
    MUTANT(who_failed_in_a_group_is_not_cleaned_up),
    MUTANT(the_second_undo_of_a_group_counts_anew),
    MUTANT(a_reservation_is_given_back_twice),
    MUTANT(a_migration_loses_timers),
    MUTANT(a_migration_goes_by_place),
    MUTANT(a_migration_forgets_elements),
};

const struct mutant *mutants(size_t *ret_count)
{
    *ret_count = sizeof(all) / sizeof(all[0]);
    return all;
}
