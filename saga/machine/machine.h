/* machine.h: decides what a saga does next. Pure: no I/O, no clock, no allocation.
 *
 *     machine_apply(plan, &instance, &event, &decision)
 *
 * takes one event, changes the instance, and lists in the decision the commands to send and what to
 * write into the history. Both levels are tables of rows {state, event, guard, action, next,
 * because} (step_table.c, saga_table.c); one driver finds the row. An event that has no effect
 * (late, repeated, of another round) leaves the instance as it was and says so in `verdict`. */
#ifndef SAGAPOST_MACHINE_H
#define SAGAPOST_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#define SAGA_STEPS_MAX        64
#define SAGA_REASON_BYTES_MAX 512

enum saga_state {
    SAGA_RUNNING,
    SAGA_COMPLETING, /* past the pivot */
    SAGA_ABORTING,   /* no new forward command; what is in flight is being settled */
    SAGA_COMPENSATING,
    SAGA_STUCK,
    SAGA_SUCCEEDED,
    SAGA_COMPENSATED,
    SAGA_CLOSED, /* by an operator */
};

enum saga_phase { PHASE_NONE, PHASE_FORWARD, PHASE_BACKWARD, PHASE_IN_DOUBT, PHASE_PROTOCOL };

enum step_state {
    STEP_WAITING,
    STEP_READY, /* may be sent, but the saga is paused */
    STEP_SENT,
    STEP_RETRY_WAIT,
    STEP_PARKED, /* timer or signal */
    STEP_PROBING,
    STEP_UNKNOWN,
    STEP_SUCCEEDED,
    STEP_FAILED,
    STEP_SKIPPED,
    STEP_CANCELLED,
    STEP_UNDO_READY,
    STEP_UNDO_SENT,
    STEP_UNDO_RETRY_WAIT,
    STEP_UNDONE,
    STEP_UNDO_EMPTY,
    STEP_UNDO_STUCK,
};

enum step_kind { KIND_COMPENSABLE, KIND_READ_ONLY, KIND_PIVOT, KIND_RETRIABLE };
enum step_via { VIA_COMMAND, VIA_TIMER, VIA_SIGNAL };
enum saga_operation { OPERATION_ACTION, OPERATION_UNDO, OPERATION_PROBE };

struct retry_policy {
    int max; /* attempts in all, the first included */
    int64_t base_us;
    double factor;
    int64_t cap_us;
    bool jitter;
};

struct plan_step {
    const char *name, *action, *undo, *participant; /* owned by the plan */
    enum step_kind kind;
    enum step_via via;
    uint64_t after;     /* bit i: step i comes directly before */
    uint64_t ancestors; /* closure of after */
    uint64_t descendants;
    int64_t timeout_us;
    struct retry_policy retry, undo_retry;
    bool undo_on_fail;
    bool has_input, has_undo_input;
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
    int round, undo_round;
    int attempt;    /* of what is in flight or waited for */
    int64_t due_us; /* 0: no timer; the database's clock, since 1970 */
};

struct instance {
    enum saga_state state;
    enum saga_phase phase;
    bool paused, cancel_requested;
    int64_t deadline_us; /* 0: none */
    char reason[SAGA_REASON_BYTES_MAX];
    struct step_status steps[SAGA_STEPS_MAX];
};

enum machine_event_type {
    /* replies */
    EVENT_OK,
    EVENT_FAILED,
    EVENT_TRANSIENT,
    EVENT_ERROR,
    EVENT_EXECUTED, /* answers to a probe */
    EVENT_NOT_EXECUTED,
    EVENT_IN_DOUBT,
    EVENT_EXPIRED, /* the participant no longer knows */
    /* time */
    EVENT_DUE,      /* of a step */
    EVENT_DEADLINE, /* of the saga */
    /* the worker */
    EVENT_UNMAPPABLE, /* the input of a command just decided cannot be built; it was not sent */
    /* intents */
    EVENT_CANCEL,
    EVENT_PAUSE,
    EVENT_RESUME,
    EVENT_RETRY, /* step, or -1 for every stuck one */
    EVENT_SKIP,
    EVENT_MARK_UNDONE,
    EVENT_ABANDON,
    EVENT_SIGNAL,
    MACHINE_EVENT_COUNT
};

struct machine_event {
    enum machine_event_type type;
    int step;                      /* -1: the saga */
    enum saga_operation operation; /* of a reply */
    int round;                     /* of a reply */
    bool empty;                    /* EVENT_OK of an undo: there was nothing to undo */
    int64_t now_us;
    uint64_t seed;      /* for jitter */
    const char *reason; /* of a failure or an intent; may be NULL */
};

struct machine_command {
    int step;
    enum saga_operation operation;
    int round;
    int attempt;
};

struct machine_note {
    const char *event; /* constant: "succeeded", "undone", "stuck", ... */
    int step;          /* -1: the saga */
    const char *because;
};

enum machine_verdict {
    VERDICT_APPLIED,
    VERDICT_IGNORED, /* late or repeated: counted */
    VERDICT_REFUSED, /* an intent that a rule forbids: `because` says which */
};

#define MACHINE_COMMANDS_MAX (2 * SAGA_STEPS_MAX)
#define MACHINE_NOTES_MAX    (4 * SAGA_STEPS_MAX)

struct machine_decision {
    enum machine_verdict verdict;
    const char *because;
    bool ended;
    int command_count, note_count;
    struct machine_command commands[MACHINE_COMMANDS_MAX];
    struct machine_note notes[MACHINE_NOTES_MAX];
};

void machine_apply(const struct plan *plan, struct instance *instance,
                   const struct machine_event *event, struct machine_decision *ret_decision);

/* The earliest time at which machine_apply wants EVENT_DUE or EVENT_DEADLINE; 0: never. */
int64_t machine_wake_us(const struct plan *plan, const struct instance *instance);

const char *saga_state_name(enum saga_state state);
const char *step_state_name(enum step_state state);
const char *saga_phase_name(enum saga_phase phase); /* NULL for none */
const char *saga_operation_name(enum saga_operation operation);

#endif
