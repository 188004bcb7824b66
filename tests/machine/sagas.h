/* sagas.h: all small sagas that publish accepts. */
#ifndef TESTS_MACHINE_SAGAS_H
#define TESTS_MACHINE_SAGAS_H

#include "saga/machine/machine.h"
#include "tests/machine/world.h"

#define BRANCHES_MAX 3 /* steps side by side, at most, in an enumerated saga */
#define ORDERS_MAX   24

/* What a step of an enumerated saga can be. */
enum step_type {
    TYPE_COMPENSABLE,
    TYPE_READ_ONLY,
    TYPE_PIVOT,
    TYPE_RETRIABLE,
    TYPE_TIMER,
    TYPE_SIGNAL,
    TYPE_UNDO_ON_FAIL, /* compensable, and undone also when it failed */
    TYPE_CHILD,        /* a child saga, compensable */
    TYPE_PATIENT,      /* a signal that is skipped when it does not come in time */
    TYPE_LOCK,
    TYPE_PATIENT_LOCK, /* a lock that is done without when it cannot be had */
    TYPE_FAN,          /* compensable, fanned out over two elements */
    TYPE_FAN_RETRIABLE,
    TYPE_FAN_READ,
    TYPE_FAN_NARROW,    /* compensable, two elements, one at a time */
    TYPE_FAN_THREE,     /* compensable, three elements, two at a time */
    TYPE_FAN_CLEANED,   /* compensable, two elements, each undone also when it failed */
    TYPE_LOCK_FOR_EVER, /* a lock that is waited for as long as it takes */
    TYPE_CHILD_PIVOT,   /* a child saga, the pivot */
    TYPE_CHILD_BEHIND,  /* a child saga, retriable */
    TYPE_COUNT
};

typedef void saga_visitor(void *context, const struct plan *plan);

/* Calls `visitor` once for every saga of `step_count` steps, with `types` (bit per enum step_type),
 * that plan_complete accepts; sagas that are the same but for the order of their steps count once.
 */
void sagas_each(int step_count, uint32_t types, saga_visitor *visitor, void *context);

/* Calls `visitor` for every next version that a saga of steps a, b may get: one to `most` steps,
 * three at most, of `types` with names of a, b, c in any order, in every shape that plan_complete
 * accepts. */
void sagas_each_version(int most, uint32_t types, saga_visitor *visitor, void *context);

/* The orders of its steps in which a saga is the same saga; orders[0] is its own. Three steps side
 * by side of one kind have six. */
struct saga_orders {
    int orders[ORDERS_MAX][WORLD_STEPS_MAX];
    int count;
};
void saga_likes(const struct plan *plan, struct saga_orders *ret_likes);

/* "c c p01 t2": type and `after` of each step. */
void saga_describe(const struct plan *plan, char *out, size_t capacity);

/* A plan from such a description; aborts on a bad one. */
void saga_make(const char *description, struct plan *ret_plan);

#endif
