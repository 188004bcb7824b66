/* step_table.c: how a step moves.
 *
 * Rounds and attempts. A command is known by (saga, step, operation); its `round` rises only when a
 * *definite failure* is tried anew, because the participant keeps a failure as the outcome of its
 * round. `error` and `transient` are no outcomes: the participant's work was rolled back and it
 * keeps nothing, so that the same round is sent again, as after silence. Attempts count on over
 * rounds, or a retriable step that is refused for ever would never run out of them; only an
 * operator's retry counts from one again.
 *
 * Before a row is looked for, machine.c has dropped what is stale: a `failed` of another round, a
 * `transient` of another attempt, a timer that is not due. "It took effect" is a fact about the
 * identity, whatever round its answer names, and is never dropped. */
#include "saga/machine/step_guards.h"

#include <assert.h>

/* Actions. */

static int64_t backoff_us(const struct context *context, const struct retry_policy *policy)
{
    uint64_t who = (uint64_t)context->unit.element << 40 | (uint64_t)context->unit.index << 32;
    return retry_pause_us(policy, status(context)->attempt, context->event->seed, who);
}

static void arm(struct context *context, int64_t after_us)
{
    int64_t due_us = context->event->now_us + after_us;
    status(context)->due_us = due_us > 0 ? due_us : 1;
}

static void command(struct context *context, enum saga_operation operation, int round)
{
    struct machine_decision *decision = context->decision;
    assert(decision->command_count < MACHINE_COMMANDS_MAX); /* a unit gets two at most */
    decision->commands[decision->command_count++] = (struct machine_command){
        .step = context->unit.index,
        .element = context->unit.element,
        .operation = operation,
        .round = round,
        .attempt = status(context)->attempt,
    };
}

static void send(struct context *context)
{
    if (status(context)->round == 0)
        status(context)->round = 1;
    status(context)->attempt++;
    arm(context, plan_step(context)->timeout_us);
    command(context, OPERATION_ACTION, status(context)->round);
}

/* A child saga is there from the transaction on that decided on it, so that nothing is tried anew:
 * it repeats its answer if it has ended. */
static void remind(struct context *context)
{
    arm(context, plan_step(context)->timeout_us);
    if (held(context))
        return;
    command(context, OPERATION_ACTION, status(context)->round);
    context->decision->commands[context->decision->command_count - 1].attempt++; /* not the first */
}

static void new_round(struct context *context)
{
    status(context)->round++;
    status(context)->attempt = 0;
}

static void send_new_round(struct context *context)
{
    new_round(context);
    send(context);
}

static void wait_retry(struct context *context)
{
    arm(context, backoff_us(context, &plan_step(context)->retry));
}

static void raise_round(struct context *context)
{
    status(context)->round++;
}

static void raise_round_and_wait(struct context *context)
{
    raise_round(context);
    wait_retry(context);
}

static void park(struct context *context)
{
    if (is_timer(context) || plan_step(context)->timeout_us > 0)
        arm(context, plan_step(context)->timeout_us);
    if (plan_step(context)->has_condition || is_lock(context))
        command(context, OPERATION_ACTION, 0); /* never sent: it asks for condition or lock */
}

/* Sent to nobody: who carries out commands says how long the list is. */
static void ask_list(struct context *context)
{
    command(context, OPERATION_ACTION, 0);
}

static void unsend(struct context *context)
{
    status(context)->round = 0;
    status(context)->attempt = 0;
}

/* The patience with a probe covers the pause after it too. */
static void ask(struct context *context)
{
    if (!is_child(context) || undo_attempts_left(context))
        status(context)->attempt++;
    arm(context,
        plan_step(context)->timeout_us + backoff_us(context, &plan_step(context)->undo_retry));
    command(context, OPERATION_PROBE, status(context)->round);
}

/* While the saga is held a probe is owed: PROBING without a timer. */
static void probe_again(struct context *context)
{
    status(context)->due_us = 0;
    if (!held(context))
        ask(context);
}

static void probe(struct context *context)
{
    status(context)->attempt = 0;
    probe_again(context);
}

/* The next probe comes sooner than after silence; never later, however often this is repeated. */
static void ask_later(struct context *context)
{
    int64_t due_us = status(context)->due_us;
    if (due_us == 0)
        return;
    arm(context, backoff_us(context, &plan_step(context)->undo_retry));
    if (due_us < status(context)->due_us)
        status(context)->due_us = due_us;
}

/* A probe for its fence, by an operator's word: also while the saga is held. */
static void fence(struct context *context)
{
    status(context)->attempt = 0;
    ask(context);
}

static void fence_once(struct context *context)
{
    command(context, OPERATION_PROBE, status(context)->round);
}

static void stop_asking(struct context *context)
{
    status(context)->due_us = 0;
}

static void send_undo(struct context *context)
{
    if (status(context)->undo_round == 0)
        status(context)->undo_round = 1;
    status(context)->attempt++;
    arm(context, plan_step(context)->timeout_us);
    command(context, OPERATION_UNDO, status(context)->undo_round);
}

static void remind_of_undo(struct context *context)
{
    arm(context, plan_step(context)->timeout_us);
    if (!held(context))
        command(context, OPERATION_UNDO, status(context)->undo_round);
}

static void no_attempt_yet(struct context *context)
{
    status(context)->attempt = 0;
}

static void begin_undo(struct context *context)
{
    no_attempt_yet(context);
    send_undo(context);
}

static void new_undo_round(struct context *context)
{
    status(context)->undo_round++;
    status(context)->attempt = 0;
}

static void send_new_undo_round(struct context *context)
{
    new_undo_round(context);
    send_undo(context);
}

static void raise_undo_round(struct context *context)
{
    status(context)->undo_round++;
}

static void unsend_undo(struct context *context)
{
    status(context)->undo_round = 0;
    status(context)->attempt = 0;
}

/* It is not known whether what was sent in an earlier round is still out: see no_undo_out. */
static void count_as_sent(struct context *context)
{
    if (status(context)->attempt == 0)
        status(context)->attempt = 1;
}

static void wait_undo(struct context *context)
{
    arm(context, backoff_us(context, &plan_step(context)->undo_retry));
}

static void raise_undo_round_and_wait(struct context *context)
{
    raise_undo_round(context);
    wait_undo(context);
}

static void early(struct context *context)
{
    context->decision->verdict = VERDICT_EARLY;
}

static void violation(struct context *context)
{
    context->violation = true;
}

#define list_is_empty elements_list_is_empty
#define list_fits     elements_list_fits
#define spread        elements_spread
#define ignore        machine_ignore
#define refuse        machine_refuse

#define S(name) VALUE_BIT(STEP_##name)
#define E(name) VALUE_BIT(ON_##name)

/* Sent, and its outcome is not known; READY only after a retry that met a held saga. */
#define OPEN (S(SENT) | S(RETRY_WAIT) | S(READY) | S(PROBING) | S(UNKNOWN))
/* On its way to be undone. */
#define UNDOING (S(UNDO_READY) | S(UNDO_SENT) | S(UNDO_RETRY_WAIT) | S(UNDO_STUCK))

/* Of those, where something may still come without an operator. */
#define OPEN_ASKED  (OPEN & NOT(S(UNKNOWN)))
#define ANY         STEP_STATES_ALL
#define NOT(states) (STEP_STATES_ALL & ~(states))

#define ROW(states, events, guard, action, next, because)                                          \
    {                                                                                              \
        (states), (events), (guard), (action), (next), (because), #guard                           \
    }
#define ALWAYS NULL

/* Of pairs that settle.c never brings about: the rows are there so that no pair is without one. */
#define NO_RULE "no rule asks for this"

/* A table is read by its columns. */
/* clang-format off */
static MACHINE_ROWS struct table_row rows[] = {
    /* It starts. */
    ROW(S(WAITING), E(RUN), fans_out,  ask_list, STEP_PARKED, "all before it have passed; its list is read"),
    ROW(S(WAITING), E(RUN), is_timer,  park, STEP_PARKED, "all before it have passed; its time runs"),
    ROW(S(WAITING), E(RUN), is_signal, park, STEP_PARKED, "all before it have passed; it waits for its signal"),
    ROW(S(WAITING), E(RUN), held,      NULL, STEP_READY,  "all before it have passed, but the saga is held"),
    ROW(S(WAITING), E(RUN), is_lock,   park, STEP_PARKED, "all before it have passed; it asks for its lock"),
    ROW(S(WAITING), E(RUN), ALWAYS,    send, STEP_SENT,   "all before it have passed"),
    ROW(NOT(S(WAITING)), E(RUN), ALWAYS, ignore, STATE_KEEP, NO_RULE),
    ROW(S(PARKED),  E(SPREAD), list_is_empty, NULL,   STEP_SUCCEEDED, "its list is empty"),
    ROW(S(PARKED),  E(SPREAD), list_fits,     spread, STATE_KEEP,     "its list is known"),
    ROW(S(PARKED),  E(SPREAD), fans_out,      NULL,   STEP_FAILED,    "its list is longer than is allowed"),
    ROW(ANY,        E(SPREAD), ALWAYS,        ignore, STATE_KEEP,     "its list is no longer wanted"),

    /* It took effect. */
    ROW(S(READY),     E(DONE), never_sent,            violation, STATE_KEEP,     "an answer to what was never sent"),
    ROW(OPEN,         E(DONE), ALWAYS,                NULL,      STEP_SUCCEEDED, "its participant did it"),
    ROW(S(SKIPPED),   E(DONE), skipped_after_sending, NULL,      STEP_SUCCEEDED, "skipped, but it did take effect"),
    ROW(S(SUCCEEDED) | UNDOING | S(UNDONE),
                      E(DONE), ALWAYS,                ignore,    STATE_KEEP,     "that it took effect is known"),
    ROW(S(FAILED) | S(CANCELLED) | S(SKIPPED),
                      E(DONE), read_only,             ignore,    STATE_KEEP,     "a read leaves nothing behind"),
    ROW(S(WAITING) | S(PARKED) | S(FAILED) | S(CANCELLED) | S(SKIPPED) | S(UNDO_EMPTY),
                      E(DONE), ALWAYS,                violation, STATE_KEEP,     "an answer claims an effect that is recorded as never done"),

    /* A definite no, or a fence: it was not done in this round, or never will be. */
    ROW(S(READY),     E(NO) | E(NEVER) | E(EXPIRED), never_sent, ignore, STATE_KEEP,  "an answer to what was never sent"),
    ROW(S(SENT),      E(NO),    retriable_attempts_left, raise_round_and_wait, STEP_RETRY_WAIT, "refused; it is tried again in a new round"),
    ROW(S(RETRY_WAIT) | S(READY),
                      E(NO),    retriable,            raise_round, STATE_KEEP,      "refused; the next attempt is a new round"),
    ROW(OPEN,         E(NO),    ALWAYS,               NULL,        STEP_FAILED,     "its participant refused"),
    ROW(OPEN,         E(NEVER), compensable,          NULL,        STEP_UNDO_EMPTY, "it was not done and never will be"),
    ROW(OPEN,         E(NEVER), ALWAYS,               NULL,        STEP_FAILED,     "it was not done and never will be"),
    ROW(S(SKIPPED),   E(NO) | E(NEVER) | E(EXPIRED), fence_open, stop_asking, STATE_KEEP, "skipped, and it will not be done"),
    ROW(NOT(OPEN),    E(NO) | E(NEVER), ALWAYS,       ignore,      STATE_KEEP,      "late or repeated"),

    /* No outcome: silence, trouble, or a bug at the participant. */
    ROW(S(SENT),       E(LATER) | E(DUE), giving_up,     probe,      STEP_PROBING,    "no outcome and no further attempt: its participant is asked"),
    ROW(S(SENT),       E(LATER) | E(DUE), is_child,      remind,     STATE_KEEP,      "its child saga has not ended"),
    ROW(S(SENT),       E(LATER) | E(DUE), attempts_left, wait_retry, STEP_RETRY_WAIT, "no outcome; the same round again"),
    ROW(S(SENT),       E(LATER) | E(DUE), read_only,     NULL,       STEP_FAILED,     "no outcome, and out of attempts"),
    ROW(S(SENT),       E(LATER) | E(DUE), retriable,     NULL,       STEP_UNKNOWN,    "no outcome, and out of attempts"),
    ROW(S(SENT),       E(LATER) | E(DUE), ALWAYS,        probe,      STEP_PROBING,    "no outcome, and out of attempts: its participant is asked"),
    ROW(NOT(S(SENT)),  E(LATER),          ALWAYS,        ignore,     STATE_KEEP,      "late or repeated"),
    ROW(S(RETRY_WAIT), E(DUE),            held,          NULL,       STEP_READY,      "its pause is over, but the saga is held"),
    ROW(S(RETRY_WAIT), E(DUE),            ALWAYS,        send,       STEP_SENT,       "its pause is over"),

    /* Its participant is asked what became of it. */
    ROW(S(PROBING),         E(DUE),     may_ask_again,       probe_again, STATE_KEEP,   "its participant is asked again"),
    ROW(S(PROBING),         E(DUE),     ALWAYS,              NULL,        STEP_UNKNOWN, "its participant stays silent"),
    ROW(S(PROBING),         E(UNCLEAR), ALWAYS,              ask_later,   STATE_KEEP,   "its participant cannot say yet"),
    ROW(S(SKIPPED),         E(UNCLEAR), fence_open,          ask_later,   STATE_KEEP,   "its participant cannot say yet"),
    ROW(NOT(S(PROBING)),    E(UNCLEAR), ALWAYS,              ignore,      STATE_KEEP,   "late or repeated"),
    ROW(OPEN_ASKED,         E(EXPIRED), read_only,           NULL,        STEP_FAILED,  "its participant has forgotten it"),
    ROW(OPEN_ASKED,         E(EXPIRED), ALWAYS,              NULL,        STEP_UNKNOWN, "its participant has forgotten it"),
    ROW(NOT(OPEN_ASKED),    E(EXPIRED), ALWAYS,              ignore,      STATE_KEEP,   "late or repeated"),
    ROW(S(SKIPPED),         E(DUE),     fence_attempts_left, ask,         STATE_KEEP,   "skipped; its fence is sent again"),
    ROW(S(SKIPPED),         E(DUE),     ALWAYS,              stop_asking, STATE_KEEP,   "skipped; nobody confirms its fence: the operator's word stands"),

    /* Timers, signals and locks. */
    ROW(S(PARKED),    E(DUE),    is_timer,  NULL,   STEP_SUCCEEDED, "its time has come"),
    ROW(S(PARKED),    E(GRANT),  is_lock,   NULL,   STEP_SUCCEEDED, "it has its lock"),
    ROW(S(PARKED),    E(DUE) | E(DENIED), lock_goes_on_without, NULL, STEP_SKIPPED, "it does not get its lock: it goes on without"),
    ROW(S(PARKED),    E(DUE),    is_lock,   NULL,   STEP_FAILED,    "it did not get its lock in time"),
    ROW(S(PARKED),    E(DENIED), is_lock,   NULL,   STEP_FAILED,    "to wait for its lock would have no end"),
    ROW(ANY,          E(GRANT),  ALWAYS,    refuse, STATE_KEEP,     "it does not wait for a lock"),
    ROW(ANY,          E(DENIED), ALWAYS,    ignore, STATE_KEEP,     "it does not wait for a lock"),
    ROW(S(PARKED),    E(DUE),    goes_on_without, NULL, STEP_SKIPPED, "its signal did not come in time: it goes on without"),
    ROW(S(PARKED),    E(DUE),    ALWAYS,    NULL,   STEP_FAILED,    "its signal did not come in time"),
    ROW(S(PARKED),    E(SIGNAL), is_signal, NULL,   STEP_SUCCEEDED, "its signal came"),
    ROW(S(WAITING),   E(SIGNAL), is_signal, early,  STATE_KEEP,     "it does not wait for its signal yet"),
    ROW(S(SUCCEEDED), E(SIGNAL), is_signal, ignore, STATE_KEEP,     "its signal came already"),
    ROW(ANY,          E(SIGNAL), is_signal, refuse, STATE_KEEP,     "it no longer waits for its signal"),
    ROW(ANY,          E(SIGNAL), ALWAYS,    refuse, STATE_KEEP,     "it does not wait for a signal"),

    /* The worker could not, or need not, send what was just decided. */
    ROW(S(SENT),      E(UNMAPPABLE),      first_command, unsend, STEP_FAILED,     "its input cannot be built; it was not sent"),
    ROW(S(SENT),      E(UNMAPPABLE),      read_only,     NULL,   STEP_FAILED,     "its input cannot be built any more"),
    ROW(S(SENT),      E(UNMAPPABLE),      retriable,     NULL,   STEP_UNKNOWN,    "its input cannot be built any more"),
    ROW(S(SENT),      E(UNMAPPABLE),      ALWAYS,        probe,  STEP_PROBING,    "its input cannot be built any more: its participant is asked"),
    ROW(S(PARKED),    E(UNMAPPABLE),      fans_out,      NULL,   STEP_FAILED,     "its list cannot be read; nothing was sent"),
    ROW(S(SENT),      E(CONDITION_FALSE), first_command, unsend, STEP_SKIPPED,    "its condition does not hold"),
    ROW(S(PARKED),    E(CONDITION_FALSE), ALWAYS,        NULL,   STEP_SKIPPED,    "its condition does not hold"),
    ROW(S(PARKED),    E(UNMAPPABLE),      is_lock,       NULL,   STEP_FAILED,     "the name of its lock cannot be built"),
    ROW(S(UNDO_SENT), E(UNDO_UNMAPPABLE), first_undo_command, unsend_undo, STEP_UNDO_STUCK, "the input of its undo cannot be built; it was not sent"),
    ROW(S(UNDO_SENT), E(UNDO_UNMAPPABLE), ALWAYS,        NULL,   STEP_UNDO_STUCK, "the input of its undo cannot be built"),
    ROW(ANY, E(UNMAPPABLE) | E(CONDITION_FALSE) | E(UNDO_UNMAPPABLE),
                                          ALWAYS,        ignore, STATE_KEEP,      "that command is no longer wanted"),

    /* The saga aborts. */
    ROW(S(WAITING) | S(PARKED),               E(ABORT), ALWAYS,     NULL,   STEP_CANCELLED, "the saga aborts"),
    ROW(S(SENT),                              E(ABORT), is_child,   probe,  STEP_PROBING,   "the saga aborts; its child saga is cancelled"),
    ROW(S(READY),                             E(ABORT), never_sent, NULL,   STEP_CANCELLED, "the saga aborts"),
    ROW(S(READY) | S(RETRY_WAIT) | S(SENT),   E(ABORT), read_only,  NULL,   STEP_CANCELLED, "the saga aborts; a read leaves nothing behind"),
    ROW(S(READY) | S(RETRY_WAIT),             E(ABORT), ALWAYS,     probe,  STEP_PROBING,   "the saga aborts; an earlier attempt may still be done"),
    ROW(ANY,                                  E(ABORT), ALWAYS,     ignore, STATE_KEEP,     NO_RULE),
    ROW(OPEN & NOT(S(PROBING)),               E(STOP_PIVOT), ALWAYS, probe, STEP_PROBING,   "no further attempt: its participant is asked"),
    ROW(ANY,                                  E(STOP_PIVOT), ALWAYS, ignore, STATE_KEEP,    "its participant is asked already"),

    /* It is undone. */
    ROW(S(SUCCEEDED) | S(FAILED), E(UNDO), held,   no_attempt_yet, STEP_UNDO_READY, "it is to be undone, but the saga is held"),
    ROW(S(SUCCEEDED) | S(FAILED), E(UNDO), ALWAYS, begin_undo,     STEP_UNDO_SENT,  "nothing that depended on it is left"),
    ROW(ANY,                      E(UNDO), ALWAYS, ignore,         STATE_KEEP,      NO_RULE),
    ROW(UNDOING, E(UNDONE) | E(UNDO_EMPTY) | E(UNDO_NO) | E(UNDO_EXPIRED),
                                           undo_never_sent, ignore, STATE_KEEP,     "an answer to an undo that was never sent"),
    ROW(UNDOING,      E(UNDONE),     ALWAYS,             NULL, STEP_UNDONE,     "its participant undid it"),
    ROW(UNDOING,      E(UNDO_EMPTY), ALWAYS,             NULL, STEP_UNDO_EMPTY, "there was nothing to undo, and never will be"),
    ROW(S(UNDO_SENT), E(UNDO_NO),    undo_attempts_left, raise_undo_round_and_wait, STEP_UNDO_RETRY_WAIT, "its undo failed; it is tried again in a new round"),
    ROW(S(UNDO_SENT), E(UNDO_NO),    ALWAYS,             new_undo_round, STEP_UNDO_STUCK, "its undo failed, and is out of attempts"),
    ROW(S(UNDO_RETRY_WAIT) | S(UNDO_READY),
                      E(UNDO_NO),    ALWAYS,             raise_undo_round, STATE_KEEP, "its undo failed; the next attempt is a new round"),
    ROW(S(UNDO_SENT), E(UNDO_LATER) | E(DUE), is_child,  remind_of_undo, STATE_KEEP, "its child saga has not ended"),
    ROW(S(UNDO_SENT), E(UNDO_LATER) | E(DUE), undo_attempts_left, wait_undo, STEP_UNDO_RETRY_WAIT, "no outcome of its undo; the same round again"),
    ROW(S(UNDO_SENT), E(UNDO_LATER) | E(DUE), ALWAYS,    NULL, STEP_UNDO_STUCK, "no outcome of its undo, and out of attempts"),
    ROW(UNDOING & NOT(S(UNDO_STUCK)),
                      E(UNDO_EXPIRED), ALWAYS,           count_as_sent, STEP_UNDO_STUCK, "its participant has forgotten it"),
    ROW(ANY, E(UNDONE) | E(UNDO_EMPTY) | E(UNDO_NO) | E(UNDO_LATER) | E(UNDO_EXPIRED),
                                     ALWAYS,             ignore, STATE_KEEP,    "late or repeated"),
    ROW(S(UNDO_RETRY_WAIT), E(DUE),  held,               NULL, STEP_UNDO_READY, "its pause is over, but the saga is held"),
    ROW(S(UNDO_RETRY_WAIT), E(DUE),  ALWAYS,             send_undo, STEP_UNDO_SENT, "its pause is over"),
    ROW(ANY,                E(DUE),  ALWAYS,             ignore, STATE_KEEP,    "it has no timer: machine.c has dropped it"),

    /* The saga is no longer held. */
    ROW(S(READY),      E(RELEASE), is_lock, park,       STEP_PARKED,    "the saga goes on; it asks for its lock"),
    ROW(S(READY),      E(RELEASE), ALWAYS, send,        STEP_SENT,      "the saga goes on"),
    ROW(S(UNDO_READY), E(RELEASE), ALWAYS, send_undo,   STEP_UNDO_SENT, "the saga goes on"),
    ROW(S(PROBING),    E(RELEASE), ALWAYS, probe_again, STATE_KEEP,     "the saga goes on; its participant is asked"),
    ROW(ANY,           E(RELEASE), ALWAYS, ignore,      STATE_KEEP,     NO_RULE),

    /* Operators: retry. */
    ROW(S(FAILED), E(RETRY), retriable_list, ask_list, STEP_PARKED, "retried by an operator: its list is read again"),
    ROW(S(FAILED) | S(UNKNOWN),  E(RETRY), retriable_and_held, new_round,           STEP_READY,      "retried by an operator, when the saga is no longer held"),
    ROW(S(FAILED) | S(UNKNOWN),  E(RETRY), retriable,          send_new_round,      STEP_SENT,       "retried by an operator in a new round"),
    ROW(S(FAILED),               E(RETRY), ALWAYS,             refuse,              STATE_KEEP,      "it failed for good: the saga undoes what was done"),
    ROW(S(UNKNOWN) | S(PROBING), E(RETRY), ALWAYS,             probe,               STEP_PROBING,    "retried by an operator: its participant is asked"),
    ROW(S(UNDO_STUCK),           E(RETRY), no_undo_out_and_held, NULL,              STEP_UNDO_READY, "retried by an operator, when the saga is no longer held"),
    ROW(S(UNDO_STUCK),           E(RETRY), no_undo_out,        send_undo,           STEP_UNDO_SENT,  "retried by an operator: nothing of it is out"),
    ROW(S(UNDO_STUCK),           E(RETRY), held,               new_undo_round,      STEP_UNDO_READY, "retried by an operator, when the saga is no longer held"),
    ROW(S(UNDO_STUCK),           E(RETRY), ALWAYS,             send_new_undo_round, STEP_UNDO_SENT,  "retried by an operator in a new round"),
    ROW(S(RETRY_WAIT),           E(RETRY), held,               NULL,                STEP_READY,      "retried by an operator, when the saga is no longer held"),
    ROW(S(RETRY_WAIT),           E(RETRY), ALWAYS,             send,                STEP_SENT,       "retried by an operator before its time"),
    ROW(S(UNDO_RETRY_WAIT),      E(RETRY), held,               NULL,                STEP_UNDO_READY, "retried by an operator, when the saga is no longer held"),
    ROW(S(UNDO_RETRY_WAIT),      E(RETRY), ALWAYS,             send_undo,           STEP_UNDO_SENT,  "retried by an operator before its time"),
    ROW(ANY,                     E(RETRY), ALWAYS,             refuse,              STATE_KEEP,      "it is not stuck"),

    /* Skip. Not before its turn: what comes after it would start before what came before it has passed. */
    ROW(S(WAITING), E(SKIP), is_element, NULL,   STEP_SKIPPED, "skipped by an operator before there was room for it"),
    ROW(S(WAITING), E(SKIP), ALWAYS,     refuse, STATE_KEEP,   "its turn has not come"),
    ROW(S(PARKED),  E(SKIP), ALWAYS,     NULL,   STEP_SKIPPED, "skipped by an operator"),
    ROW(S(READY),   E(SKIP), never_sent, NULL,   STEP_SKIPPED, "skipped by an operator"),
    ROW(OPEN,       E(SKIP), read_only,  NULL,   STEP_SKIPPED, "skipped by an operator"),
    ROW(OPEN,       E(SKIP), ALWAYS,     fence,  STEP_SKIPPED, "skipped by an operator; what is in flight is fenced"),
    ROW(S(FAILED),  E(SKIP), retriable,  NULL,   STEP_SKIPPED, "skipped by an operator"),
    ROW(S(SKIPPED), E(SKIP), ALWAYS,     ignore, STATE_KEEP,   "it is skipped already"),
    ROW(ANY,        E(SKIP), ALWAYS,     refuse, STATE_KEEP,   "its outcome is known: there is nothing to skip"),

    /* Mark as undone. */
    ROW(S(UNDO_SENT),             E(MARK_UNDONE), ALWAYS, refuse, STATE_KEEP,  "its undo is in flight: wait for the answer"),
    ROW(UNDOING,                  E(MARK_UNDONE), ALWAYS, NULL,   STEP_UNDONE, "marked as undone by an operator"),
    ROW(S(UNKNOWN),               E(MARK_UNDONE), compensable_in_abort, fence_once, STEP_UNDONE, "marked as undone by an operator; what is in flight is fenced"),
    ROW(S(UNDONE) | S(UNDO_EMPTY), E(MARK_UNDONE), ALWAYS, ignore, STATE_KEEP, "it is undone already"),
    ROW(ANY,                      E(MARK_UNDONE), ALWAYS, refuse, STATE_KEEP,  "it is not to be undone now"),

    /* Abandon. */
    ROW(S(READY), E(FENCE), never_sent, ignore,     STATE_KEEP, "it was never sent"),
    ROW(OPEN,     E(FENCE), read_only,  ignore,     STATE_KEEP, "a read leaves nothing behind"),
    ROW(OPEN,     E(FENCE), ALWAYS,     fence_once, STATE_KEEP, "abandoned; what is in flight is fenced"),
    ROW(ANY,      E(FENCE), ALWAYS,     ignore,     STATE_KEEP, "nothing is in flight"),
};
/* clang-format on */

MACHINE_ROWS struct table_row *step_rows(size_t *ret_count)
{
    *ret_count = sizeof(rows) / sizeof(rows[0]);
    return rows;
}
