/* table.h: what the files of the machine share; nobody else includes it.
 *
 * A step moves by the rows of step_table.c, the saga by those of saga_table.c. In both, the first
 * row whose state, event and guard match is taken; the last row of a pair has no guard. `due_us` is
 * cleared by every change of state: the row's action sets the new one. Rules (settle.c) give the
 * steps the events that come from no message: that a step may start, must end, is to be undone. */
#ifndef SAGAPOST_MACHINE_TABLE_H
#define SAGAPOST_MACHINE_TABLE_H

#include "saga/machine/machine.h"

#include <assert.h>

/* tests/machine builds the machine once more with this, to alter rows and to count those taken. */
#ifdef SAGAPOST_MACHINE_TESTED
#define MACHINE_ROWS
#define ROW_TAKEN(row) ((row)->taken++)
#else
#define MACHINE_ROWS   const
#define ROW_TAKEN(row) ((void)(row))
#endif

/* What can happen to a step. */
enum step_event {
    /* answers about the action, whoever was asked: the action itself or a probe */
    ON_DONE,    /* it took effect */
    ON_NO,      /* a definite no, of the current round */
    ON_NEVER,   /* it was not done and never will be: fenced */
    ON_LATER,   /* transient, or a bug: nothing was done, may be tried again */
    ON_UNCLEAR, /* a probe that could not be answered */
    ON_EXPIRED, /* forgotten */
    /* answers to an undo */
    ON_UNDONE,
    ON_UNDO_EMPTY,
    ON_UNDO_NO,
    ON_UNDO_LATER,
    ON_UNDO_EXPIRED,
    /* time */
    ON_DUE,
    /* the worker */
    ON_UNMAPPABLE,
    ON_UNDO_UNMAPPABLE,
    ON_CONDITION_FALSE,
    ON_SPREAD,
    ON_DENIED, /* of a lock: waiting would have no end */
    /* intents */
    ON_RETRY,
    ON_SKIP,
    ON_MARK_UNDONE,
    ON_SIGNAL,
    ON_GRANT, /* of a lock */
    /* from the saga: the rules of settle.c and the actions of saga_table.c */
    ON_RUN,        /* all before it have passed */
    ON_RELEASE,    /* the saga is no longer held */
    ON_ABORT,      /* the saga aborts */
    ON_STOP_PIVOT, /* a cancel or timeout while the pivot is in flight */
    ON_UNDO,       /* it took effect, and nothing that depended on it is left */
    ON_FENCE,      /* abandon: what is in flight must not take effect any more */
    STEP_EVENT_COUNT
};

/* What can happen to the saga. */
enum saga_event {
    ON_CANCEL,
    ON_DEADLINE,
    ON_PAUSE,
    ON_RESUME,
    ON_RETRY_STUCK,
    ON_ABANDON,
    ON_TAKE_BACK, /* a saga that succeeded is undone with its parent */
    ON_MIGRATE,   /* it goes on by another version of its definition */
    ON_VIOLATION, /* an answer claims an effect that is recorded as never done */
    /* what settle.c finds in the steps; each stands for one state */
    FOUND_FORWARD,
    FOUND_PAST_PIVOT,
    FOUND_UNSETTLED,
    FOUND_UNDOING,
    FOUND_STUCK_FORWARD,
    FOUND_STUCK_BACKWARD,
    FOUND_IN_DOUBT,
    FOUND_VIOLATION,
    FOUND_ALL_PASSED,
    FOUND_ALL_UNDONE,
    SAGA_EVENT_COUNT
};

/* What moves by the rows of step_table.c: a plain step, a fan-out whose list is not known, or one
 * element of a fan-out. */
struct unit {
    const struct plan_step *step;
    const struct step_status *status;
    int index;   /* of the step */
    int element; /* 0 of a plain step; ELEMENT_ALL: the fan-out itself */
};

/* The units of one step are 0 to machine_unit_count() - 1. Here, because all that looks at a saga
 * goes through its units. */
static inline int machine_unit_count(const struct instance *instance, int step)
{
    int elements = instance->steps[step].elements;
    return elements > 0 ? elements : 1;
}

static inline struct unit machine_unit(const struct plan *plan, const struct instance *instance,
                                       int step, int i)
{
    const struct plan_step *plan_step = &plan->steps[step];
    const struct step_status *status = &instance->steps[step];
    bool is_element = status->elements > 0;
    assert(i >= 0 && i < machine_unit_count(instance, step));
    return (struct unit){
        .step = plan_step,
        .status = is_element ? &instance->elements[plan_step->elements_from + i] : status,
        .index = step,
        .element = step_fans_out(plan_step) && !is_element ? ELEMENT_ALL : i,
    };
}

/* The steps sorted by what their states mean for the saga; bit i is step i. Of a fan-out, what is
 * true of one of its elements is true of it, but for `passed` and `unknown`: they need all. */
struct facts {
    uint64_t all;
    uint64_t passed;     /* satisfies `after` */
    uint64_t moving;     /* will change by an answer or a timer */
    uint64_t parked;     /* waits for a timer, a signal or a lock */
    uint64_t unsettled;  /* may have taken effect or may still take it; nobody knows yet */
    uint64_t unknown;    /* of those: where nobody asks any more */
    uint64_t effect;     /* took effect and is to be undone when the saga aborts */
    uint64_t undoing;    /* is being undone */
    uint64_t undo_stuck; /* its undo is out of attempts */
    uint64_t stuck;      /* only a person or a late answer moves it */
    bool pivot_open;     /* sent, outcome not known */
    bool pivot_passed;
    bool aborting;
    bool held; /* nothing new is sent: paused, or a protocol violation */
};

struct context {
    const struct plan *plan;
    struct instance *instance;
    const struct machine_event *event;
    struct machine_decision *decision;
    struct unit unit;           /* of the row that is looked for; the saga's has none */
    struct step_status *status; /* of the unit, to be changed */
    struct facts facts;
    bool violation; /* raised by a step's row, applied to the saga after it */
};

typedef bool guard_function(const struct context *context);
typedef void action_function(struct context *context);

#define STATE_KEEP (-1)

/* Of both tables. */
struct table_row {
    uint32_t states; /* bit per enum step_state, enum saga_state */
    uint32_t events; /* bit per enum step_event, enum saga_event */
    guard_function *guard;
    action_function *action;
    int next; /* a state, or STATE_KEEP */
    const char *because;
    const char *guard_name;
#ifdef SAGAPOST_MACHINE_TESTED
    unsigned long taken;
#endif
};

/* A rule gives `event` to the units that it `names`, of the steps that it may name at all; settle.c
 * repeats them all until none names any. A unit that got its event must not be named again. Of a
 * fan-out it names a few at a time: as many as there is room for beside those in `crowd`. */
struct settle_rule {
    enum step_event event;
    uint32_t crowd; /* states; 0: there is always room */
    uint64_t (*which)(const struct plan *plan, const struct instance *instance,
                      const struct facts *facts);
    bool (*names)(const struct unit *unit, const struct facts *facts);
};

/* The steps that have a unit which the rule names. */
uint64_t settle_named(MACHINE_ROWS struct settle_rule *rule, const struct plan *plan,
                      const struct instance *instance, const struct facts *facts);

MACHINE_ROWS struct table_row *step_rows(size_t *ret_count);
MACHINE_ROWS struct table_row *saga_rows(size_t *ret_count);
MACHINE_ROWS struct settle_rule *settle_rules(size_t *ret_count);

/* machine.c: the driver. */
void machine_unit_event(struct context *context, struct unit unit, enum step_event event);
void machine_saga_event(struct context *context, enum saga_event event);

/* Actions common to both tables. */
void machine_ignore(struct context *context);
void machine_refuse(struct context *context);
void machine_note(struct context *context, const char *event, const struct unit *unit,
                  const char *because); /* unit NULL: of the saga */

/* settle.c */
struct facts settle_facts(const struct plan *plan, const struct instance *instance);
enum saga_event settle_find(const struct plan *plan, const struct instance *instance,
                            const struct facts *facts);
void settle(struct context *context);
bool settle_is_stuck(const struct unit *unit); /* only a person or a late answer moves it */

/* elements.c: the state of a fan-out, in one word, from those of its elements. */
#define ELEMENTS_TOLD_FIRST 11
MACHINE_ROWS enum step_state *elements_told_first(void);
bool elements_list_is_empty(const struct context *context);
bool elements_list_fits(const struct context *context);
void elements_spread(struct context *context); /* each element begins as a step does */
enum step_state elements_state(const struct plan_step *step, const struct step_status *elements,
                               int count);

/* retry.c: the pause after attempt n: base * factor^(n-1), at most cap; with jitter between half
 * and all of it. `who` sets apart those that wait in the same event; its lowest bits are 0. */
int64_t retry_pause_us(const struct retry_policy *policy, int attempt, uint64_t seed, uint64_t who);

/* reason.c: instance.reason is "<why it aborts>; stuck: <why it is stuck>", both parts optional. */
#define REASON_SUBJECT_BYTES 160 /* a name has 127 */
void reason_name_unit(char out[REASON_SUBJECT_BYTES],
                      const struct unit *unit); /* "pick", or "pick[2]" of an element */
void reason_set_abort(struct instance *instance, const char *subject,
                      const char *text); /* the first one stays */
void reason_set_stuck(struct instance *instance, const char *subject, const char *text);
void reason_clear_abort(struct instance *instance);
void reason_clear_stuck(struct instance *instance);

/* names.c */
const char *step_event_name(enum step_event event);
const char *saga_event_name(enum saga_event event);

#define STEP_BIT(step)   (UINT64_C(1) << (step))
#define VALUE_BIT(value) (UINT32_C(1) << (value))
#define STEP_STATES_ALL  (VALUE_BIT(STEP_STATE_COUNT) - 1)
#define STEP_EVENTS_ALL  (VALUE_BIT(STEP_EVENT_COUNT) - 1)
#define SAGA_STATES_ALL  (VALUE_BIT(SAGA_STATE_COUNT) - 1)
#define SAGA_STATES_ENDED                                                                          \
    (VALUE_BIT(SAGA_SUCCEEDED) | VALUE_BIT(SAGA_COMPENSATED) | VALUE_BIT(SAGA_CLOSED))

#endif
