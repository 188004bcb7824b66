/* machine.c: the driver. Sorts an event into what it means for a step or for the saga, finds the
 * row, moves the state, and lets settle.c draw the consequences. */
#include "saga/machine/table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void machine_ignore(struct context *context)
{
    context->decision->verdict = VERDICT_IGNORED;
}

void machine_refuse(struct context *context)
{
    context->decision->verdict = VERDICT_REFUSED;
}

void machine_note(struct context *context, const char *event, const struct unit *unit,
                  const char *because)
{
    struct machine_decision *decision = context->decision;
    assert(decision->note_count < MACHINE_NOTES_MAX);
    decision->notes[decision->note_count++] = (struct machine_note){
        .event = event,
        .step = unit ? unit->index : -1,
        .element = unit && step_fans_out(unit->step) ? unit->element : ELEMENT_ALL,
        .because = because,
    };
}

/* What the history says of a step that came to this state. A command that is sent is in the
 * decision's commands instead. */
static const char *const step_notes[STEP_STATE_COUNT] = {
    [STEP_READY] = "held_back",
    [STEP_RETRY_WAIT] = "retry",
    [STEP_PARKED] = "parked",
    [STEP_PROBING] = "probing",
    [STEP_UNKNOWN] = "unknown",
    [STEP_SUCCEEDED] = "succeeded",
    [STEP_FAILED] = "failed",
    [STEP_SKIPPED] = "skipped",
    [STEP_CANCELLED] = "cancelled",
    [STEP_UNDO_READY] = "undo_held_back",
    [STEP_UNDO_RETRY_WAIT] = "undo_retry",
    [STEP_UNDONE] = "undone",
    [STEP_UNDO_EMPTY] = "not_done",
    [STEP_UNDO_STUCK] = "undo_stuck",
};

static const char *const saga_notes[SAGA_STATE_COUNT] = {
    [SAGA_RUNNING] = "running",
    [SAGA_COMPLETING] = "completing",
    [SAGA_ABORTING] = "aborting",
    [SAGA_COMPENSATING] = "compensating",
    [SAGA_STUCK] = "stuck",
    [SAGA_SUCCEEDED] = "succeeded",
    [SAGA_COMPENSATED] = "compensated",
    [SAGA_CLOSED] = "closed",
};

/* Why the saga will abort, or be stuck, as far as this step can tell. */
static void explain(struct context *context, const struct unit *unit, enum step_state state,
                    const char *because)
{
    const struct plan_step *step = unit->step;
    const char *text = context->event->reason ? context->event->reason : because;
    bool must_succeed = step->kind == KIND_RETRIABLE;
    bool stuck =
        state == STEP_UNKNOWN || state == STEP_UNDO_STUCK || (state == STEP_FAILED && must_succeed);
    bool aborts = state == STEP_FAILED || state == STEP_UNDO_EMPTY;
    if (!stuck && (!aborts || context->facts.aborting))
        return;
    char subject[REASON_SUBJECT_BYTES];
    reason_name_unit(subject, unit);
    if (stuck)
        reason_set_stuck(context->instance, subject, text);
    else
        reason_set_abort(context->instance, subject, text);
}

/* The first row for this state and event whose guard holds. tests/machine proves that there is one
 * for each pair. */
static MACHINE_ROWS struct table_row *find_row(MACHINE_ROWS struct table_row *rows, size_t count,
                                               unsigned state, unsigned event,
                                               const struct context *context)
{
    for (size_t i = 0; i < count; i++) {
        bool here = (rows[i].states & VALUE_BIT(state)) && (rows[i].events & VALUE_BIT(event));
        if (here && (!rows[i].guard || rows[i].guard(context))) {
            ROW_TAKEN(&rows[i]);
            return &rows[i];
        }
    }
    abort();
}

/* What the history says of a fan-out as a whole: that it is over, or stuck. */
#define TOLD_OF_ALL                                                                                \
    (VALUE_BIT(STEP_SUCCEEDED) | VALUE_BIT(STEP_FAILED) | VALUE_BIT(STEP_UNDONE) |                 \
     VALUE_BIT(STEP_UNDO_EMPTY) | VALUE_BIT(STEP_UNDO_STUCK) | VALUE_BIT(STEP_UNKNOWN))

/* After each move of an element. */
static void tell_of_all(struct context *context, const struct unit *element)
{
    struct step_status *status = &context->instance->steps[element->index];
    const struct unit all = {element->step, status, element->index, ELEMENT_ALL};
    if (status->elements == 0)
        return;
    enum step_state state = elements_state(
        all.step, &context->instance->elements[all.step->elements_from], status->elements);
    if (state != status->state && (VALUE_BIT(state) & TOLD_OF_ALL))
        machine_note(context, step_notes[state], &all, "of its elements");
    status->state = state;
}

static bool is_told(const struct unit *unit, enum step_state state)
{
    bool reads_list = unit->element == ELEMENT_ALL && state == STEP_PARKED;
    return step_notes[state] && !reads_list;
}

void machine_unit_event(struct context *context, struct unit unit, enum step_event event)
{
    struct instance *instance = context->instance;
    struct step_status *own = &instance->steps[unit.index];
    struct step_status *status = own;
    if (own->elements > 0)
        status = &instance->elements[unit.step->elements_from + unit.element];
    struct unit outer = context->unit;
    context->unit = unit;
    context->status = status;
    size_t count;
    MACHINE_ROWS struct table_row *rows = step_rows(&count);
    MACHINE_ROWS struct table_row *row = find_row(rows, count, status->state, event, context);
    context->decision->because = row->because;
    if (row->next != STATE_KEEP)
        status->due_us = 0;
    if (row->action)
        row->action(context);
    if (row->next != STATE_KEEP) {
        status->state = (enum step_state)row->next;
        explain(context, &unit, status->state, row->because);
        if (is_told(&unit, status->state))
            machine_note(context, step_notes[status->state], &unit, row->because);
    }
    tell_of_all(context, &unit);
    context->facts = settle_facts(context->plan, instance);
    context->unit = outer;
    context->status = NULL;
}

/* An ended saga wants nothing more. */
static void end(struct context *context)
{
    struct instance *instance = context->instance;
    context->decision->ended = true;
    instance->deadline_us = 0;
    for (int i = 0; i < context->plan->step_count; i++) {
        int from = context->plan->steps[i].elements_from;
        instance->steps[i].due_us = 0;
        for (int j = 0; j < instance->steps[i].elements; j++)
            instance->elements[from + j].due_us = 0;
    }
}

void machine_saga_event(struct context *context, enum saga_event event)
{
    struct instance *instance = context->instance;
    size_t count;
    MACHINE_ROWS struct table_row *rows = saga_rows(&count);
    MACHINE_ROWS struct table_row *row = find_row(rows, count, instance->state, event, context);
    bool found = event >= FOUND_FORWARD;
    const char *because = row->because;
    if (row->action)
        row->action(context);
    if (!found) /* what settle finds is a consequence, not the answer to the event */
        context->decision->because = because;
    if (row->next != STATE_KEEP) {
        instance->state = (enum saga_state)row->next;
        if (instance->state != SAGA_STUCK)
            instance->phase = PHASE_NONE;
        machine_note(context, saga_notes[instance->state], NULL, because);
        if (saga_state_ended(instance->state))
            end(context);
    }
    context->facts = settle_facts(context->plan, instance);
}

bool saga_state_ended(enum saga_state state)
{
    return (VALUE_BIT(state) & SAGA_STATES_ENDED) != 0;
}

bool step_waits(const struct plan_step *step)
{
    return step->via == VIA_TIMER || step->via == VIA_SIGNAL || step->via == VIA_LOCK;
}

bool command_asks_condition(const struct plan *plan, const struct machine_command *command)
{
    const struct plan_step *step = &plan->steps[command->step];
    if (step_fans_out(step) && !command_asks_list(command))
        return false;
    return (step->has_condition || step->via == VIA_LOCK) &&
           command->operation == OPERATION_ACTION && command->round <= 1 && command->attempt <= 1;
}

/* What a message or an intent means for the step that it names. */

#define NOTHING STEP_EVENT_COUNT

static const enum step_event answers[][EVENT_EXPIRED + 1] = {
    [OPERATION_ACTION] = {[EVENT_OK] = ON_DONE,
                          [EVENT_FAILED] = ON_NO,
                          [EVENT_TRANSIENT] = ON_LATER,
                          [EVENT_ERROR] = ON_LATER,
                          [EVENT_EXECUTED] = ON_DONE,
                          [EVENT_NOT_EXECUTED] = ON_NEVER,
                          [EVENT_IN_DOUBT] = ON_LATER,
                          [EVENT_EXPIRED] = ON_EXPIRED},
    [OPERATION_PROBE] = {[EVENT_OK] = ON_DONE,
                         [EVENT_FAILED] = ON_NO,
                         [EVENT_TRANSIENT] = ON_UNCLEAR,
                         [EVENT_ERROR] = ON_UNCLEAR,
                         [EVENT_EXECUTED] = ON_DONE,
                         [EVENT_NOT_EXECUTED] = ON_NEVER,
                         [EVENT_IN_DOUBT] = ON_UNCLEAR,
                         [EVENT_EXPIRED] = ON_EXPIRED},
    [OPERATION_UNDO] = {[EVENT_OK] = ON_UNDONE,
                        [EVENT_FAILED] = ON_UNDO_NO,
                        [EVENT_TRANSIENT] = ON_UNDO_LATER,
                        [EVENT_ERROR] = ON_UNDO_LATER,
                        [EVENT_EXECUTED] = NOTHING,
                        [EVENT_NOT_EXECUTED] = ON_UNDO_EMPTY,
                        [EVENT_IN_DOUBT] = ON_UNDO_LATER,
                        [EVENT_EXPIRED] = ON_UNDO_EXPIRED},
};

static enum step_event step_event_of(const struct machine_event *event)
{
    switch (event->type) {
    case EVENT_DUE:
        return ON_DUE;
    case EVENT_UNMAPPABLE:
        return event->operation == OPERATION_UNDO ? ON_UNDO_UNMAPPABLE : ON_UNMAPPABLE;
    case EVENT_CONDITION_FALSE:
        return ON_CONDITION_FALSE;
    case EVENT_SPREAD:
        return ON_SPREAD;
    case EVENT_DENIED:
        return ON_DENIED;
    case EVENT_RETRY:
        return ON_RETRY;
    case EVENT_SKIP:
        return ON_SKIP;
    case EVENT_MARK_UNDONE:
        return ON_MARK_UNDONE;
    case EVENT_SIGNAL:
        return ON_SIGNAL;
    case EVENT_GRANT:
        return ON_GRANT;
    case EVENT_DEADLINE:
    case EVENT_CANCEL:
    case EVENT_PAUSE:
    case EVENT_RESUME:
    case EVENT_ABANDON:
    case EVENT_TAKE_BACK:
    case EVENT_MIGRATE:
    case MACHINE_EVENT_COUNT:
        return NOTHING;
    default:
        break;
    }
    enum step_event meaning = answers[event->operation][event->type];
    return meaning == ON_UNDONE && event->empty ? ON_UNDO_EMPTY : meaning;
}

static bool is_reply(const struct machine_event *event)
{
    return event->type <= EVENT_EXPIRED;
}

/* NULL, or why this event has no meaning any more. Before the rows, because it holds for all. */
static const char *stale(const struct step_status *status, const struct machine_event *event,
                         enum step_event meaning)
{
    int round = event->operation == OPERATION_UNDO ? status->undo_round : status->round;
    bool of_round = meaning == ON_NO || meaning == ON_LATER || meaning == ON_UNCLEAR ||
                    meaning == ON_UNDO_NO || meaning == ON_UNDO_LATER;
    bool of_attempt = meaning == ON_LATER || meaning == ON_UNCLEAR || meaning == ON_UNDO_LATER;
    if (meaning == ON_DUE && (status->due_us == 0 || status->due_us > event->now_us))
        return "it is not due";
    if (is_reply(event) && of_round && event->round != round)
        return "an answer of another round";
    if (is_reply(event) && of_attempt && event->attempt != 0 && event->attempt != status->attempt)
        return "an answer to another attempt";
    return NULL;
}

static bool is_intent(enum machine_event_type type)
{
    return type >= EVENT_CANCEL;
}

static void drop(struct machine_decision *decision, enum machine_verdict verdict,
                 const char *because)
{
    decision->verdict = verdict;
    decision->because = because;
}

/* An intent about a fan-out as a whole. */
static bool names_all(const struct context *context)
{
    const struct machine_event *event = context->event;
    return is_intent(event->type) && event->element == ELEMENT_ALL &&
           context->instance->steps[event->step].elements > 0;
}

/* Each element that it fits; it is refused, or nothing new, if it is for all of them. */
static void apply_to_elements(struct context *context, enum step_event meaning)
{
    struct machine_decision *decision = context->decision;
    int step = context->event->step;
    enum machine_verdict verdict = VERDICT_REFUSED;
    const char *because = "";
    context->facts = settle_facts(context->plan, context->instance);
    for (int i = 0; i < machine_unit_count(context->instance, step); i++) {
        decision->verdict = VERDICT_APPLIED;
        machine_unit_event(context, machine_unit(context->plan, context->instance, step, i),
                           meaning);
        if (i == 0 || decision->verdict < verdict) { /* the most that one made of it */
            verdict = decision->verdict;
            because = decision->because;
        }
    }
    drop(decision, verdict, because);
}

static bool find_unit(const struct context *context, struct unit *ret_unit)
{
    const struct machine_event *event = context->event;
    const struct plan_step *step = &context->plan->steps[event->step];
    const struct step_status *status =
        machine_status(context->plan, context->instance, event->step, event->element);
    bool is_spread = context->instance->steps[event->step].elements > 0;
    if (!status || (is_spread && event->element == ELEMENT_ALL))
        return false;
    int element = step_fans_out(step) ? event->element : 0;
    *ret_unit = (struct unit){step, status, event->step, element};
    return true;
}

static void apply_to_unit(struct context *context, struct unit unit, enum step_event meaning)
{
    const char *because = stale(unit.status, context->event, meaning);
    if (because) {
        drop(context->decision, VERDICT_IGNORED, because);
        return;
    }
    context->facts = settle_facts(context->plan, context->instance);
    machine_unit_event(context, unit, meaning);
}

static void apply_to_step(struct context *context)
{
    const struct machine_event *event = context->event;
    enum step_event meaning = step_event_of(event);
    if (meaning == NOTHING) {
        drop(context->decision, is_intent(event->type) ? VERDICT_REFUSED : VERDICT_IGNORED,
             "it means nothing for a step");
        return;
    }
    struct unit unit;
    if (names_all(context))
        apply_to_elements(context, meaning);
    else if (find_unit(context, &unit))
        apply_to_unit(context, unit, meaning);
    else
        drop(context->decision, is_intent(event->type) ? VERDICT_REFUSED : VERDICT_IGNORED,
             "the step has no such element");
    if (context->violation) {
        reason_set_stuck(context->instance, context->plan->steps[event->step].name,
                         "an answer claims an effect that is recorded as never done");
        machine_saga_event(context, ON_VIOLATION);
    }
}

static bool deadline_due(const struct context *context)
{
    int64_t deadline_us = context->instance->deadline_us;
    return deadline_us != 0 && deadline_us <= context->event->now_us;
}

static void apply_deadline(struct context *context)
{
    if (deadline_due(context))
        machine_saga_event(context, ON_DEADLINE);
    else
        drop(context->decision, VERDICT_IGNORED, "it is not due");
}

/* A step that waits for an answer or for its pause, and has no timer: no row of ours leaves one.
 * Found all the same (a row that was written by hand), it is due at once, or the saga would stall.
 */
static bool lost_its_timer(const struct step_status *status)
{
    bool needs_one = status->state == STEP_SENT || status->state == STEP_RETRY_WAIT ||
                     status->state == STEP_UNDO_SENT || status->state == STEP_UNDO_RETRY_WAIT;
    return needs_one && status->due_us == 0;
}

static bool is_due(const struct step_status *status, int64_t now_us)
{
    return (status->due_us != 0 && status->due_us <= now_us) || lost_its_timer(status);
}

/* Its time being over may make the saga abort. */
static bool may_fail(const struct unit *unit)
{
    const struct plan_step *step = unit->step;
    if (unit->status->state == STEP_PARKED)
        return step->via != VIA_TIMER && !step->skip_on_timeout;
    return unit->status->state == STEP_SENT && step->via != VIA_SAGA; /* a child is reminded */
}

/* Returns why the first of them moved; NULL: none did. */
static const char *apply_units_due(struct context *context, bool failing)
{
    const struct machine_decision *decision = context->decision;
    const char *because = NULL;
    for (int i = 0; i < context->plan->step_count; i++) {
        for (int j = 0; j < machine_unit_count(context->instance, i) && !decision->ended; j++) {
            struct unit unit = machine_unit(context->plan, context->instance, i, j);
            if (!is_due(unit.status, context->event->now_us) || (failing && !may_fail(&unit)))
                continue;
            machine_unit_event(context, unit, ON_DUE);
            because = because ? because : decision->because;
            settle(context);
        }
    }
    return because;
}

/* Everything that is due. The deadline comes first, then what may fail, so that a saga that aborts
 * has not sent an action in the same event; and the rules are asked even if nothing is due: they
 * repair what should not be. */
static void apply_all_due(struct context *context)
{
    const struct machine_decision *decision = context->decision;
    const char *because = NULL;
    if (deadline_due(context)) {
        machine_saga_event(context, ON_DEADLINE);
        because = decision->because;
    }
    settle(context);
    for (int others = 0; others < 2; others++) {
        const char *moved = apply_units_due(context, !others);
        because = because ? because : moved;
    }
    if (!because && decision->note_count + decision->command_count > 0)
        because = "it had stalled";
    drop(context->decision, because ? VERDICT_APPLIED : VERDICT_IGNORED,
         because ? because : "nothing is due");
}

static void apply_to_saga(struct context *context)
{
    context->facts = settle_facts(context->plan, context->instance);
    switch (context->event->type) {
    case EVENT_DUE:
        if (saga_state_ended(context->instance->state))
            drop(context->decision, VERDICT_IGNORED, "the saga has ended");
        else
            apply_all_due(context);
        return;
    case EVENT_DEADLINE:
        apply_deadline(context);
        return;
    case EVENT_CANCEL:
        machine_saga_event(context, ON_CANCEL);
        return;
    case EVENT_PAUSE:
        machine_saga_event(context, ON_PAUSE);
        return;
    case EVENT_RESUME:
        machine_saga_event(context, ON_RESUME);
        return;
    case EVENT_RETRY:
        machine_saga_event(context, ON_RETRY_STUCK);
        return;
    case EVENT_ABANDON:
        machine_saga_event(context, ON_ABANDON);
        return;
    case EVENT_TAKE_BACK:
        machine_saga_event(context, ON_TAKE_BACK);
        return;
    case EVENT_MIGRATE:
        machine_saga_event(context, ON_MIGRATE);
        return;
    default:
        drop(context->decision, is_intent(context->event->type) ? VERDICT_REFUSED : VERDICT_IGNORED,
             "it needs a step");
    }
}

/* Events that are about the saga whatever step they name. */
static bool about_saga(const struct machine_event *event)
{
    switch (event->type) {
    case EVENT_DEADLINE:
    case EVENT_CANCEL:
    case EVENT_PAUSE:
    case EVENT_RESUME:
    case EVENT_ABANDON:
    case EVENT_TAKE_BACK:
    case EVENT_MIGRATE:
        return true;
    default:
        return event->step < 0;
    }
}

static void decision_clear(struct machine_decision *decision)
{
    decision->verdict = VERDICT_APPLIED;
    decision->because = "";
    decision->ended = false;
    decision->command_count = 0;
    decision->note_count = 0;
}

void machine_apply(const struct plan *plan, struct instance *instance,
                   const struct machine_event *event, struct machine_decision *ret_decision)
{
    assert(event->step < plan->step_count);
    assert((unsigned)event->operation <= OPERATION_PROBE);
    decision_clear(ret_decision);
    if (saga_state_ended(instance->state) && !about_saga(event)) {
        drop(ret_decision, is_intent(event->type) ? VERDICT_REFUSED : VERDICT_IGNORED,
             "the saga has ended");
        return;
    }
    struct context context = {
        .plan = plan,
        .instance = instance,
        .event = event,
        .decision = ret_decision,
    };
    if (about_saga(event))
        apply_to_saga(&context);
    else
        apply_to_step(&context);
    if (ret_decision->verdict != VERDICT_APPLIED || ret_decision->ended)
        return;
    const char *because = ret_decision->because;
    settle(&context);
    ret_decision->because = because;
}

void machine_start(const struct plan *plan, struct instance *ret_instance, int64_t now_us,
                   struct machine_decision *ret_decision)
{
    struct machine_event event = {.type = EVENT_RESUME, .step = -1, .now_us = now_us};
    memset(ret_instance, 0, offsetof(struct instance, elements)); /* they come with their list */
    ret_instance->deadline_us = plan->timeout_us > 0 ? now_us + plan->timeout_us : 0;
    decision_clear(ret_decision);
    struct context context = {
        .plan = plan,
        .instance = ret_instance,
        .event = &event,
        .decision = ret_decision,
        .facts = settle_facts(plan, ret_instance),
    };
    settle(&context);
    ret_decision->because = "it starts";
}

int64_t machine_wake_us(const struct plan *plan, const struct instance *instance)
{
    if (saga_state_ended(instance->state))
        return 0;
    int64_t wake_us = instance->deadline_us;
    for (int i = 0; i < plan->step_count; i++) {
        for (int j = 0; j < machine_unit_count(instance, i); j++) {
            const struct step_status *status = machine_unit(plan, instance, i, j).status;
            int64_t due_us = lost_its_timer(status) ? 1 : status->due_us;
            if (due_us != 0 && (wake_us == 0 || due_us < wake_us))
                wake_us = due_us;
        }
    }
    return wake_us;
}
