/* machine.h: decides what a saga does next. Pure: no I/O, no clock, no allocation.
 *
 *     machine_apply(plan, &instance, &event, &decision)
 *
 * takes one event, changes the instance, and lists in the decision the commands to send and what to
 * write into the history. Both levels are tables of rows {state, event, guard, action, next,
 * because} (step_table.c, saga_table.c); one short driver finds the row (machine.c). After the
 * event has moved its step, settle.c starts what may start now, ends what must end, and finds the
 * saga's state, which is a function of the states of its steps and of the flags beside them.
 *
 * An event that has no effect (late, repeated, of another round) leaves the instance as it was and
 * says so in `verdict`. No input, however wrong, makes machine_apply fail; what cannot be true
 * makes the saga STUCK(protocol).
 *
 * A step may be a child saga (VIA_SAGA). Its commands go to that saga, not to a participant: the
 * action starts it, a probe cancels it, an undo takes it back. It answers when it has ended: `ok`,
 * `failed` (compensated: nothing is left), `expired` (closed by an operator: nobody knows). It is
 * waited for as long as it takes; what its timer sends again only makes it repeat its answer.
 *
 * A step may be fanned out over a list (plan_step.elements_max > 0). Its first command, of element
 * -1, is sent to nobody: it asks whoever carries out commands for the length of the list, who
 * answers EVENT_SPREAD with `count`, or EVENT_UNMAPPABLE. From then on each element is what a plain
 * step is: it has a status of its own, moves by the same rows, and its commands and answers name
 * it. The step's own state says in one word how its elements stand; nothing moves by it.
 *
 * A step may be a lock (VIA_LOCK). Parking it lists a command, of round and attempt 0, for which
 * nothing is sent: whoever keeps the locks carries it out before any other event of this saga, and
 * reports EVENT_GRANT (it has the lock), EVENT_DENIED (waiting would have no end: a deadlock), or
 * nothing: then it stands in the queue, and EVENT_GRANT comes when its turn has come. Who leaves
 * PARKED otherwise is to be taken out of the queue.
 *
 * Time is the database's clock in microseconds since 1970, given with each event. Randomness is
 * `event.seed`: the same instance, event and seed give the same decision. */
#ifndef SAGAPOST_MACHINE_H
#define SAGAPOST_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifndef SAGA_STEPS_MAX /* the walk copies instances all day, and needs small ones */
#define SAGA_STEPS_MAX        64
#define SAGA_ELEMENTS_MAX     512 /* of all fan-outs of a saga together */
#define SAGA_REASON_BYTES_MAX 512
#endif

enum saga_state {
    SAGA_RUNNING,
    SAGA_COMPLETING,   /* past the pivot */
    SAGA_ABORTING,     /* no new forward command; what is in flight is being settled */
    SAGA_COMPENSATING, /* every outcome is known; what took effect is being undone */
    SAGA_STUCK,        /* nothing moves without a person, or a late answer; see phase and reason */
    SAGA_SUCCEEDED,
    SAGA_COMPENSATED,
    SAGA_CLOSED, /* by an operator */
    SAGA_STATE_COUNT
};

enum saga_phase {
    PHASE_NONE,
    PHASE_FORWARD,  /* a retriable step is out of retries */
    PHASE_BACKWARD, /* an undo is out of retries */
    PHASE_IN_DOUBT, /* nobody can say whether a step took effect */
    PHASE_PROTOCOL, /* an answer claims an effect that is recorded as never done */
    SAGA_PHASE_COUNT
};

enum step_state {
    STEP_WAITING,
    STEP_READY, /* may be sent, but the saga is held (paused) */
    STEP_SENT,
    STEP_RETRY_WAIT,
    STEP_PARKED,  /* timer, signal or lock */
    STEP_PROBING, /* out of attempts or aborting: its participant is asked what became of it */
    STEP_UNKNOWN, /* out of attempts without a definite answer */
    STEP_SUCCEEDED,
    STEP_FAILED,
    STEP_SKIPPED,
    STEP_CANCELLED, /* the saga aborts; it was never sent, or has no effect (read-only) */
    STEP_UNDO_READY,
    STEP_UNDO_SENT,
    STEP_UNDO_RETRY_WAIT,
    STEP_UNDONE,
    STEP_UNDO_EMPTY, /* nothing was done and nothing ever will be (fenced) */
    STEP_UNDO_STUCK,
    STEP_STATE_COUNT
};

enum step_kind { KIND_COMPENSABLE, KIND_READ_ONLY, KIND_PIVOT, KIND_RETRIABLE };
enum step_via { VIA_COMMAND, VIA_TIMER, VIA_SIGNAL, VIA_SAGA, VIA_LOCK };
enum saga_operation { OPERATION_ACTION, OPERATION_UNDO, OPERATION_PROBE };

struct retry_policy {
    int max; /* attempts in all, the first included */
    int64_t base_us;
    double factor;
    int64_t cap_us;
    bool jitter;
};

struct plan_step {
    /* Owned by the plan. undo may be NULL; of a child saga all but the name are. */
    const char *name, *action, *undo, *participant;
    enum step_kind kind;
    enum step_via via;
    uint64_t after;     /* bit i: step i comes directly before */
    uint64_t ancestors; /* closure of after */
    uint64_t descendants;
    int64_t timeout_us; /* of an answer; a timer's length; patience with a signal or a lock
                           (0: for ever) */
    struct retry_policy retry, undo_retry;
    bool undo_on_fail;
    bool skip_on_timeout; /* of a signal or a lock: it goes on without; else it fails */
    bool has_input, has_undo_input;
    bool has_condition;   /* run_if or skip_if: see command_asks_condition */
    int elements_max;     /* of a fan-out; 0: it is none */
    int elements_at_once; /* so many of them in flight, so many being undone, at a time */
    int elements_from;    /* where its own begin in instance.elements; plan_complete says it */
    /* All of it as publish has written it, JSON; NULL: the plan was built in memory. */
    const char *content;
    size_t content_bytes;
};

struct plan {
    const char *definition;
    int version;
    int64_t timeout_us; /* 0: none */
    bool events;
    int step_count;
    int pivot; /* -1: none */
    struct plan_step steps[SAGA_STEPS_MAX];
};

struct step_status {
    enum step_state state;
    int round;      /* of the action; 0: never sent */
    int undo_round; /* of the undo; 0: never sent */
    int attempt;    /* of what is in flight or waited for */
    int elements;   /* of a fan-out whose list is known: how many; 0: none, or not known */
    int64_t due_us; /* 0: no timer */
};

struct instance {
    enum saga_state state;
    enum saga_phase phase;
    bool paused;
    bool cancel_requested;              /* an operator's cancel, or the saga's timeout */
    int64_t deadline_us;                /* 0: none, or it has passed and was dealt with */
    char reason[SAGA_REASON_BYTES_MAX]; /* why it aborts, or is stuck; "" */
    struct step_status steps[SAGA_STEPS_MAX];
    struct step_status elements[SAGA_ELEMENTS_MAX]; /* of a step: from plan_step.elements_from on */
};

#define ELEMENT_ALL (-1)

enum machine_event_type {
    /* replies */
    EVENT_OK,
    EVENT_FAILED,
    EVENT_TRANSIENT,
    EVENT_ERROR,
    EVENT_EXECUTED,     /* to a probe */
    EVENT_NOT_EXECUTED, /* to a probe, or to an action that was fenced */
    EVENT_IN_DOUBT,     /* to a probe or an undo: ask again later */
    EVENT_EXPIRED,      /* the participant no longer knows */
    /* time */
    EVENT_DUE,      /* of a step, or -1: everything that is due by now_us, the deadline included */
    EVENT_DEADLINE, /* of the saga */
    /* the worker, about a command that machine_apply has just decided and that was not sent */
    EVENT_UNMAPPABLE,      /* its input cannot be built; reason says which path found nothing */
    EVENT_CONDITION_FALSE, /* its run_if or skip_if says no: nothing was sent, it is skipped */
    EVENT_SPREAD,          /* its list has `count` elements */
    EVENT_DENIED,          /* of a lock: to wait for it would be a deadlock; reason says of whom */
    /* intents */
    EVENT_CANCEL,
    EVENT_PAUSE,
    EVENT_RESUME,
    EVENT_RETRY, /* step, or -1 for every stuck one */
    EVENT_SKIP,
    EVENT_MARK_UNDONE,
    EVENT_ABANDON,
    EVENT_SIGNAL,
    EVENT_GRANT,     /* of a lock: the saga has it */
    EVENT_TAKE_BACK, /* of a child saga that has succeeded: its parent's step is undone */
    EVENT_MIGRATE,   /* it goes on by another version: see migrate.h */
    MACHINE_EVENT_COUNT
};

struct machine_event {
    enum machine_event_type type;
    int step;    /* -1: the saga */
    int element; /* of a fan-out; ELEMENT_ALL: of an intent each, of a report the step itself */
    enum saga_operation operation; /* of a reply, EVENT_UNMAPPABLE */
    int round;                     /* of a reply: the round that it answers */
    int attempt; /* of a reply: the attempt that it answers; 0: not known, taken as the current */
    int count;   /* EVENT_SPREAD */
    bool empty;  /* EVENT_OK of an undo: there was nothing to undo */
    int64_t now_us;
    uint64_t seed;      /* for jitter */
    const char *reason; /* of a failure or an intent; may be NULL */
    /* Of EVENT_MIGRATE. */
    const struct plan *to;
    bool unfit; /* the saga's data, or its parent, forbids it: the caller has looked */
};

/* The first action of a step with a condition is sent only if its condition holds: whoever sends it
 * asks first, and reports EVENT_CONDITION_FALSE before any other event of this saga. A step that
 * waits (via timer or signal) has a command for this question alone: round and attempt 0, nothing
 * is ever sent for it. The same is true of a fan-out's command of element ELEMENT_ALL, round 0,
 * which asks for its list too. */
struct machine_command {
    int step;
    int element; /* 0 of a plain step */
    enum saga_operation operation;
    int round;
    int attempt;
};

/* For the history. That a command was sent is no note: it is in `commands`. */
struct machine_note {
    const char *event;   /* constant: "succeeded", "undone", "stuck", ... */
    int step;            /* -1: the saga */
    int element;         /* ELEMENT_ALL: the step, or the saga */
    const char *because; /* constant */
};

enum machine_verdict {
    VERDICT_APPLIED,
    VERDICT_IGNORED, /* late or repeated: counted. Of an intent: it was so already */
    VERDICT_REFUSED, /* an intent that a rule forbids: `because` says which */
    VERDICT_EARLY,   /* a signal for a step that does not wait for it yet: keep it */
};

#define MACHINE_COMMANDS_MAX (2 * (SAGA_STEPS_MAX + SAGA_ELEMENTS_MAX))
#define MACHINE_NOTES_MAX    (5 * (SAGA_STEPS_MAX + SAGA_ELEMENTS_MAX))

struct machine_decision {
    enum machine_verdict verdict;
    const char *because; /* of the row that was taken; constant */
    bool ended; /* this event ended the saga; commands may still have to be sent (fences) */
    int command_count, note_count;
    struct machine_command commands[MACHINE_COMMANDS_MAX];
    struct machine_note notes[MACHINE_NOTES_MAX];
};

/* Applies one event. What a reply brought (output, error) is to be kept when the verdict is
 * VERDICT_APPLIED and the step is now SUCCEEDED (output) or the reply was `failed` or `error`.
 * event->step must be -1 or below plan->step_count: the caller has looked the name up. */
void machine_apply(const struct plan *plan, struct instance *instance,
                   const struct machine_event *event, struct machine_decision *ret_decision);

/* A new instance: its roots are sent (the decision lists the commands), timers started. What
 * saga.start writes is the same. */
void machine_start(const struct plan *plan, struct instance *ret_instance, int64_t now_us,
                   struct machine_decision *ret_decision);

/* The earliest time at which machine_apply wants EVENT_DUE or EVENT_DEADLINE; 0: never. */
int64_t machine_wake_us(const struct plan *plan, const struct instance *instance);

bool saga_state_ended(enum saga_state state);

/* A timer, a signal or a lock: nothing is ever sent for it. */
bool step_waits(const struct plan_step *step);

/* A fan-out: its commands name an element. */
static inline bool step_fans_out(const struct plan_step *step)
{
    return step->elements_max > 0;
}

/* True: this command asks for the list of a fan-out, and nothing is ever sent for it. */
bool command_asks_list(const struct machine_command *command);

/* The status that answers and commands of this element are about; a plain step's own for 0. NULL:
 * the step has no such element. */
const struct step_status *machine_status(const struct plan *plan, const struct instance *instance,
                                         int step, int element);

/* True: whether this command is to be sent is for its step's condition to say; or it asks for a
 * lock. What comes of it is told before any other event of the saga. */
bool command_asks_condition(const struct plan *plan, const struct machine_command *command);

/* The invariants. NULL, or what is broken (constant). */
const char *machine_check(const struct plan *plan, const struct instance *instance);

/* Prints both tables as mermaid state diagrams, for README.md. */
void machine_print_mermaid(FILE *out);

/* names.c: enum values as they stand in the database and on the wire. *_parse return -1 for a name
 * that is none. */
const char *saga_state_name(enum saga_state state);
const char *step_state_name(enum step_state state);
const char *saga_phase_name(enum saga_phase phase); /* NULL for none */
const char *saga_operation_name(enum saga_operation operation);
const char *step_kind_name(enum step_kind kind);
const char *step_via_name(enum step_via via);
const char *machine_event_name(enum machine_event_type type);
int saga_state_parse(const char *text, size_t bytes);
int step_state_parse(const char *text, size_t bytes);
int saga_phase_parse(const char *text, size_t bytes); /* of bytes 0: PHASE_NONE */
int saga_operation_parse(const char *text, size_t bytes);
int step_kind_parse(const char *text, size_t bytes);
int step_via_parse(const char *text, size_t bytes);
int machine_event_parse(const char *text, size_t bytes); /* "ok", "not_executed", "mark_undone" */

#endif
