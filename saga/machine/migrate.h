/* migrate.h: may a running saga go on by another version of its definition?
 *
 * It may where what it has done so far is the same in both. A step has *begun* once something was
 * sent for it, its wait has started, or it was skipped; one that waits for its turn has not, nor
 * one that was held back by a pause before anything was sent. Of every step that has begun, the
 * other version must have a step of the same name that
 *   - says the same: action, undo, kind, via, child, input, undo_input, run_if, skip_if,
 *     undo_on_fail, on_timeout, and whatever else publish writes down, compared as it is written.
 *     Only its timeout, its retry policies and the version of its child saga may be others: they
 *     say how what comes next is done. (A child that runs stays what it is.)
 *   - comes after the same steps, by name. So nothing new stands before what was done, what was
 *     done is undone in the same order, and a pivot that has begun is still the pivot;
 *   - if it waits now: has the same timeout, since its time runs.
 * All other steps may be changed, added, taken away and moved as publish allows. What they read of
 * the saga's input and of steps that have ended must be there, or have a default; and a child saga
 * that its parent may want to take back must stay one that can be undone. That is for the caller to
 * find out (saga.migration_obstacles), who has the data.
 *
 * A saga migrates only while it goes forward: RUNNING or COMPLETING, paused or not. One that is
 * being undone or is stuck ends by the version that it has. Its deadline stays the one it started
 * with.
 *
 *     event = {.type = EVENT_MIGRATE, .step = -1, .to = other, .unfit = ..., .now_us, ...}
 *     machine_apply(plan, &instance, &event, &decision);
 *     if (decision.verdict == VERDICT_APPLIED) plan = other;      the instance is of it now
 *     else if (migrate_differs(plan, &instance, other, why)) ...  says which step, and what */
#ifndef SAGAPOST_MACHINE_MIGRATE_H
#define SAGAPOST_MACHINE_MIGRATE_H

#include "saga/machine/machine.h"

#define MIGRATE_TEXT_BYTES_MAX 400

/* The first difference that forbids it, for people; false: there is none. */
bool migrate_differs(const struct plan *plan, const struct instance *instance,
                     const struct plan *to, char ret_why[MIGRATE_TEXT_BYTES_MAX]);

/* True: something was sent for it, it waits, or it was skipped. */
bool migrate_has_begun(const struct step_status *status);

/* The instance as one of the other version; migrate_differs has found nothing. */
void migrate_instance(const struct plan *plan, struct instance *instance, const struct plan *to);

#endif
