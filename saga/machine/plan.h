/* plan.h: reads saga.definition.plan (JSON) into a struct plan, checked.
 *
 *     struct plan *plan;
 *     if (plan_read(json, bytes, &plan, error) < 0) ...
 *     ...
 *     plan_free(plan);
 *
 * Publish wrote the JSON and has checked it; it is checked again here, so that the machine can rely
 * on it: every step comes after those in its `after`; kinds stand on their side of the pivot;
 * compensable steps have an undo; times and policies are within their limits. A message names the
 * step and what is wrong with it. A plan is immutable and is kept by the worker per version. */
#ifndef SAGAPOST_MACHINE_PLAN_H
#define SAGAPOST_MACHINE_PLAN_H

#include "outbox/runtime/error.h"
#include "saga/machine/machine.h"

#define PLAN_BYTES_MAX      ((size_t)1024 * 1024)
#define PLAN_NAME_BYTES_MAX 127 /* of a definition, a step, an action */
#define PLAN_TIMEOUT_US_MAX (INT64_C(10) * 366 * 24 * 3600 * 1000000)
#define PLAN_ATTEMPTS_MAX   1000000

int plan_read(const char *json, size_t bytes, struct plan **ret_plan,
              struct error *error) MUST_CHECK;
void plan_free(struct plan *plan); /* NULL is fine */

/* Index of the step, or -1. */
int plan_find_step(const struct plan *plan, const char *name, size_t bytes);

/* The same of "pick", or "pick[2]": an element of a fan-out; ret_element is ELEMENT_ALL for one
 * without it, 0 for a plain step. */
int plan_find_element(const struct plan *plan, const char *name, int *ret_element);

/* Fills in ancestors, descendants and pivot from `after` and `kind`, and checks the rules. For
 * plans that are built in memory (tests); plan_read has done it. */
int plan_complete(struct plan *plan, struct error *error) MUST_CHECK;

#endif
