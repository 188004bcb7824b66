/* state_json.h: saga.instance.steps as JSON, both ways. The worker's hot path: no tree, no
 * allocation.
 *
 *     [{"s": "SENT", "r": 1, "u": 0, "a": 1, "d": 1718000000000000}, {"s": "WAITING", ...}]
 *
 * s: state; r: round of the action; u: round of the undo; a: attempts of what is in flight; d: due,
 * microseconds since 1970 (absent: no timer). One object per step of the plan, by index. A fan-out
 * whose list is known has "e" too: an array of such objects, one for each element. */
#ifndef SAGAPOST_MACHINE_STATE_JSON_H
#define SAGAPOST_MACHINE_STATE_JSON_H

#include "outbox/runtime/error.h"
#include "saga/machine/machine.h"

#define STATE_JSON_STEP_BYTES_MAX 112 /* what one step, or one element, can take */
#define STATE_JSON_BYTES_MAX      ((SAGA_STEPS_MAX + SAGA_ELEMENTS_MAX) * STATE_JSON_STEP_BYTES_MAX + 3)

/* Reads the plan's steps into instance->steps, their elements into instance->elements. Strict:
 * unknown, repeated or missing members, another number of steps, more elements than the plan
 * allows, numbers out of range are ERROR_PROTOCOL, with the offset. White space and any order of
 * members is fine (jsonb has its own). On failure the steps are untouched, their elements are not.
 */
int state_json_read(const char *json, size_t bytes, const struct plan *plan,
                    struct instance *instance, struct error *error) MUST_CHECK;

/* Writes the steps, NUL-terminated, into out[STATE_JSON_BYTES_MAX]; returns the bytes without the
 * NUL. */
size_t state_json_write(const struct instance *instance, const struct plan *plan, char *out);

#endif
