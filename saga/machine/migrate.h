/* migrate.h: may a running saga go on by another version of its definition?
 *
 * It may where what it has done so far is the same in both, whether it goes forward, is being
 * undone or is stuck. A step has *begun* once something was sent for it, its wait has started, or
 * it was skipped; one that waits for its turn has not, nor one that was held back by a pause, or
 * cancelled, before anything was sent. Of every step that has begun, the other version must have a
 * step of the same name that
 *   - says the same: action, undo, kind, via, child, input, undo_input, run_if, skip_if,
 *     undo_on_fail, on_timeout, for_each, and whatever else publish writes down, compared as it is
 *     written; but for what is told below;
 *   - comes after the same steps, by name. So nothing new stands before what was done, what was
 *     done is undone in the same order, and a pivot that has begun is still the pivot;
 *   - if it waits now: has the same timeout, since its time runs.
 * Of a step that has begun may be another:
 *   - always: its timeout, its retry policies, how many elements of it are in flight at once, and
 *     the version of its child saga. They say how what comes next is done. (A child that runs stays
 *     what it is.)
 *   - its undo and undo_input, as long as no undo is out: none was sent (its turn has not come, or
 *     its input could not be built), or the last that was sent was refused for good and so can
 *     never be carried out. One that met silence, or `error`, may have been, or may yet be: then
 *     nobody could say by which version it was undone. Not of a child saga, whose undo fits the
 *     version that runs.
 *   - its action and its input, if it failed for good and leaves no traces (undo_on_fail): nothing
 *     was done, and nothing of it can be done any more; and its list, if it failed over that.
 * All other steps may be changed, added, taken away and moved as publish allows. What they read of
 * the saga's input and of steps that have ended must be there, or have a default, and so must what
 * is read by inputs that are another; and a child saga that its parent may want to take back must
 * stay one that can be undone. That is for the caller to find out (saga.migration_obstacles), who
 * has the data.
 *
 * A migration sends nothing for what is stuck: that waits for a retry, as before, which then goes
 * by the new version. So a person can look between the two, and take up many at a rate. What has
 * not begun and may start by the new version starts. A saga that holds because of an answer that
 * contradicts its record (STUCK, protocol) is refused: what it has done is the question. Its
 * deadline stays the one it started with.
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
