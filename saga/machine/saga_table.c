/* saga_table.c: how the saga moves: by intents, by its deadline, and by what settle.c finds in its
 * steps. */
#include "saga/machine/migrate.h"
#include "saga/machine/table.h"

/* Guards. */

static bool pivot_passed(const struct context *context)
{
    return context->facts.pivot_passed;
}

static bool pivot_open(const struct context *context)
{
    return context->facts.pivot_open;
}

static bool aborting(const struct context *context)
{
    return context->facts.aborting;
}

static bool cancel_recorded(const struct context *context)
{
    return context->instance->cancel_requested;
}

static bool paused(const struct context *context)
{
    return context->instance->paused;
}

static bool in_protocol(const struct context *context)
{
    return context->instance->phase == PHASE_PROTOCOL;
}

static bool something_stuck(const struct context *context)
{
    return context->facts.stuck != 0 || in_protocol(context);
}

static bool stuck_forward(const struct context *context)
{
    return context->instance->phase == PHASE_FORWARD;
}

static bool stuck_backward(const struct context *context)
{
    return context->instance->phase == PHASE_BACKWARD;
}

static bool stuck_in_doubt(const struct context *context)
{
    return context->instance->phase == PHASE_IN_DOUBT;
}

static bool other_past(const struct context *context)
{
    char why[MIGRATE_TEXT_BYTES_MAX];
    return !context->event->to ||
           migrate_differs(context->plan, context->instance, context->event->to, why);
}

static bool unfit(const struct context *context)
{
    return context->event->unfit;
}

/* Actions. */

static void note(struct context *context, const char *event, const char *because)
{
    machine_note(context, event, NULL, because);
}

static void record_cancel(struct context *context)
{
    context->instance->cancel_requested = true;
    reason_set_abort(context->instance, "cancelled", context->event->reason);
    note(context, "cancel_requested", "an operator or a service wants it");
}

static void record_timeout(struct context *context)
{
    context->instance->deadline_us = 0;
    context->instance->cancel_requested = true;
    reason_set_abort(context->instance, "the saga's timeout has passed", NULL);
    note(context, "timeout", "it has not passed its pivot in time");
}

static bool any(const struct unit *unit)
{
    (void)unit;
    return true;
}

/* Whatever a single unit makes of it, the verdict is about the saga. */
static void for_units(struct context *context, uint64_t steps,
                      bool (*wanted)(const struct unit *unit), enum step_event event)
{
    enum machine_verdict verdict = context->decision->verdict;
    for (; steps != 0; steps &= steps - 1) {
        int step = __builtin_ctzll(steps);
        for (int i = 0; i < machine_unit_count(context->instance, step); i++) {
            struct unit unit = machine_unit(context->plan, context->instance, step, i);
            if (wanted(&unit))
                machine_unit_event(context, unit, event);
        }
    }
    context->decision->verdict = verdict;
}

static void stop_pivot(struct context *context)
{
    for_units(context, STEP_BIT(context->plan->pivot), any, ON_STOP_PIVOT);
}

static void record_cancel_and_stop_pivot(struct context *context)
{
    record_cancel(context);
    stop_pivot(context);
}

static void record_timeout_and_stop_pivot(struct context *context)
{
    record_timeout(context);
    stop_pivot(context);
}

static void clear_deadline(struct context *context)
{
    context->instance->deadline_us = 0;
}

static void note_timeout(struct context *context)
{
    clear_deadline(context);
    note(context, "late", "past the pivot a timeout only alerts");
}

static void refuse_cancel(struct context *context)
{
    context->instance->cancel_requested = false;
    reason_clear_abort(context->instance);
    note(context, "cancel_refused", "the pivot took effect");
}

static void pause(struct context *context)
{
    context->instance->paused = true;
    note(context, "paused", "by an operator");
}

static void resume(struct context *context)
{
    context->instance->paused = false;
    note(context, "resumed", "by an operator");
}

static void set_phase(struct context *context, enum saga_phase phase)
{
    context->instance->phase = phase;
}

static void retry_stuck(struct context *context)
{
    set_phase(context, PHASE_NONE);
    context->facts = settle_facts(context->plan, context->instance);
    note(context, "retried", "by an operator");
    for_units(context, context->facts.stuck, settle_is_stuck, ON_RETRY);
}

static void abandon(struct context *context)
{
    note(context, "abandoned", "by an operator");
    reason_set_abort(context->instance, "abandoned", context->event->reason);
    for_units(context, context->facts.all, any, ON_FENCE);
}

static void take_back(struct context *context)
{
    context->instance->cancel_requested = true;
    reason_set_abort(context->instance, "its parent saga is undone", context->event->reason);
}

static void migrate(struct context *context)
{
    migrate_instance(context->plan, context->instance, context->event->to);
    context->plan = context->event->to;
    note(context, "migrated", "by an operator");
}

static void phase_forward(struct context *context)
{
    set_phase(context, PHASE_FORWARD);
}

static void phase_backward(struct context *context)
{
    set_phase(context, PHASE_BACKWARD);
}

static void phase_in_doubt(struct context *context)
{
    set_phase(context, PHASE_IN_DOUBT);
}

static void phase_protocol(struct context *context)
{
    set_phase(context, PHASE_PROTOCOL);
}

/* Only a row that somebody changed by hand gets here. */
static void contradiction(struct context *context)
{
    reason_set_stuck(context->instance, "the recorded steps contradict the saga's state", NULL);
    set_phase(context, PHASE_PROTOCOL);
}

#define ignore machine_ignore
#define refuse machine_refuse

#define S(name) VALUE_BIT(SAGA_##name)
#define E(name) VALUE_BIT(ON_##name)
#define F(name) VALUE_BIT(FOUND_##name)

#define ENDED   SAGA_STATES_ENDED
#define LIVE    (SAGA_STATES_ALL & ~SAGA_STATES_ENDED)
#define INTENTS (E(CANCEL) | E(PAUSE) | E(RESUME) | E(RETRY_STUCK) | E(ABANDON))
#define FOUND   (VALUE_BIT(SAGA_EVENT_COUNT) - VALUE_BIT(FOUND_FORWARD))

#define ROW(states, events, guard, action, next, because)                                          \
    {                                                                                              \
        (states), (events), (guard), (action), (next), (because), #guard                           \
    }
#define ALWAYS NULL

/* A table is read by its columns. */
/* clang-format off */
static MACHINE_ROWS struct table_row rows[] = {
    /* A cancel. */
    ROW(LIVE, E(CANCEL), pivot_passed,    refuse, STATE_KEEP, "its pivot has passed: it can only be completed"),
    ROW(LIVE, E(CANCEL), aborting,        ignore, STATE_KEEP, "it is being undone already"),
    ROW(LIVE, E(CANCEL), cancel_recorded, ignore, STATE_KEEP, "a cancel is recorded already: its pivot is in flight and decides"),
    ROW(LIVE, E(CANCEL), pivot_open, record_cancel_and_stop_pivot, STATE_KEEP, "recorded: its pivot is in flight and decides"),
    ROW(LIVE, E(CANCEL), ALWAYS,          record_cancel, STATE_KEEP, "cancelled: what was done is undone"),

    /* Its timeout. */
    ROW(LIVE, E(DEADLINE), pivot_passed,    note_timeout,   STATE_KEEP, "past the pivot a timeout only alerts"),
    ROW(LIVE, E(DEADLINE), aborting,        clear_deadline, STATE_KEEP, "it is being undone already"),
    ROW(LIVE, E(DEADLINE), cancel_recorded, clear_deadline, STATE_KEEP, "a cancel is recorded already"),
    ROW(LIVE, E(DEADLINE), pivot_open, record_timeout_and_stop_pivot, STATE_KEEP, "its pivot is in flight and decides"),
    ROW(LIVE, E(DEADLINE), ALWAYS,          record_timeout, STATE_KEEP, "its timeout has passed: what was done is undone"),

    /* Operators. */
    ROW(LIVE,  E(PAUSE),       paused,          ignore,      STATE_KEEP, "it is paused already"),
    ROW(LIVE,  E(PAUSE),       ALWAYS,          pause,       STATE_KEEP, "nothing new is sent"),
    ROW(LIVE,  E(RESUME),      paused,          resume,      STATE_KEEP, "it goes on"),
    ROW(LIVE,  E(RESUME),      ALWAYS,          ignore,      STATE_KEEP, "it is not paused"),
    ROW(LIVE,  E(RETRY_STUCK), something_stuck, retry_stuck, STATE_KEEP, "what is stuck is tried again"),
    ROW(LIVE,  E(RETRY_STUCK), ALWAYS,          refuse,      STATE_KEEP, "no step is stuck"),
    ROW(LIVE,  E(ABANDON),     ALWAYS,          abandon,     SAGA_CLOSED, "closed by an operator; what is in flight is fenced"),
    ROW(LIVE,         E(TAKE_BACK), ALWAYS,       refuse,    STATE_KEEP,    "it has not ended"),
    ROW(S(SUCCEEDED), E(TAKE_BACK), pivot_passed, refuse,    STATE_KEEP,    "its pivot has passed: it can only be completed"),
    ROW(S(SUCCEEDED), E(TAKE_BACK), ALWAYS,       take_back, SAGA_ABORTING, "its parent saga is undone: so is what it did"),
    ROW(S(STUCK),     E(MIGRATE), in_protocol,    refuse,    STATE_KEEP,    "what it has done is in question: look at it and retry it first"),
    ROW(LIVE,         E(MIGRATE), other_past,     refuse,    STATE_KEEP,    "what it has done is not the same in that version"),
    ROW(LIVE,         E(MIGRATE), unfit,          refuse,    STATE_KEEP,    "that version does not suit its data, or its parent saga"),
    ROW(LIVE,         E(MIGRATE), something_stuck, migrate,  STATE_KEEP,    "what it has done is the same in that version; what is stuck waits for a retry"),
    ROW(LIVE,         E(MIGRATE), ALWAYS,         migrate,   STATE_KEEP,    "what it has done is the same in that version"),
    ROW(ENDED, INTENTS | E(TAKE_BACK) | E(MIGRATE), ALWAYS, refuse,      STATE_KEEP, "the saga has ended"),
    ROW(ENDED, E(DEADLINE) | E(VIOLATION) | FOUND, ALWAYS, ignore, STATE_KEEP, "no rule asks for this"),

    /* What an answer claims cannot be. Nothing new is sent until an operator has looked. */
    ROW(LIVE,     E(VIOLATION), ALWAYS,      phase_protocol, SAGA_STUCK, "an answer claims an effect that is recorded as never done"),
    ROW(S(STUCK), F(VIOLATION), in_protocol, NULL,           STATE_KEEP, "it waits for an operator"),

    /* Forward. */
    ROW(S(RUNNING),    F(FORWARD),    ALWAYS, NULL, STATE_KEEP,      "its steps are in flight or wait"),
    ROW(S(STUCK),      F(FORWARD),    ALWAYS, NULL, SAGA_RUNNING,    "it moves again"),
    ROW(S(RUNNING) | S(STUCK),
                       F(PAST_PIVOT), cancel_recorded, refuse_cancel, SAGA_COMPLETING, "its pivot took effect: the cancel is refused"),
    ROW(S(RUNNING),    F(PAST_PIVOT), ALWAYS, NULL, SAGA_COMPLETING, "its pivot has passed"),
    ROW(S(STUCK),      F(PAST_PIVOT), ALWAYS, NULL, SAGA_COMPLETING, "it moves again"),
    ROW(S(COMPLETING), F(PAST_PIVOT), ALWAYS, NULL, STATE_KEEP,      "its steps are in flight or wait"),
    ROW(S(STUCK),      F(STUCK_FORWARD), stuck_forward, NULL,          STATE_KEEP, "it waits for an operator, or a late answer"),
    ROW(S(COMPLETING) | S(STUCK),
                       F(STUCK_FORWARD), ALWAYS,        phase_forward, SAGA_STUCK, "a step that must succeed is out of attempts"),
    ROW(S(RUNNING) | S(STUCK),
                       F(ALL_PASSED), cancel_recorded, refuse_cancel, SAGA_SUCCEEDED, "its pivot took effect: the cancel is refused"),
    ROW(S(RUNNING) | S(COMPLETING) | S(STUCK),
                       F(ALL_PASSED), ALWAYS, NULL, SAGA_SUCCEEDED,  "all steps have passed"),

    /* Backward. */
    ROW(S(RUNNING),      F(UNSETTLED), ALWAYS, NULL, SAGA_ABORTING, "it aborts; what is in flight is settled first"),
    ROW(S(STUCK),        F(UNSETTLED), ALWAYS, NULL, SAGA_ABORTING, "what is in flight is being settled"),
    ROW(S(ABORTING),     F(UNSETTLED), ALWAYS, NULL, STATE_KEEP,    "what is in flight is being settled"),
    ROW(S(STUCK),        F(IN_DOUBT), stuck_in_doubt, NULL, STATE_KEEP, "it waits for an operator, or a late answer"),
    ROW(S(RUNNING) | S(ABORTING) | S(STUCK),
                         F(IN_DOUBT), ALWAYS, phase_in_doubt, SAGA_STUCK, "nobody can say whether a step took effect"),
    ROW(S(RUNNING) | S(ABORTING),
                         F(UNDOING),  ALWAYS, NULL, SAGA_COMPENSATING, "every outcome is known; what took effect is undone"),
    ROW(S(STUCK),        F(UNDOING),  ALWAYS, NULL, SAGA_COMPENSATING, "it moves again"),
    ROW(S(COMPENSATING), F(UNDOING),  ALWAYS, NULL, STATE_KEEP,        "what took effect is being undone"),
    ROW(S(STUCK),        F(STUCK_BACKWARD), stuck_backward, NULL, STATE_KEEP, "it waits for an operator, or a late answer"),
    ROW(S(COMPENSATING) | S(STUCK),
                         F(STUCK_BACKWARD), ALWAYS, phase_backward, SAGA_STUCK, "an undo is out of attempts"),
    ROW(S(RUNNING) | S(ABORTING) | S(COMPENSATING) | S(STUCK),
                         F(ALL_UNDONE), ALWAYS, NULL, SAGA_COMPENSATED, "nothing that took effect is left"),

    /* Only a row that somebody changed by hand gets here. */
    ROW(LIVE, FOUND, ALWAYS, contradiction, SAGA_STUCK, "the recorded steps contradict the saga's state"),
};
/* clang-format on */

MACHINE_ROWS struct table_row *saga_rows(size_t *ret_count)
{
    *ret_count = sizeof(rows) / sizeof(rows[0]);
    return rows;
}
