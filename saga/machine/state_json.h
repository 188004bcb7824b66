/* state_json.h: saga.instance.steps as JSON, both ways. The worker's hot path: no tree, no
 * allocation.
 *
 *     [{"s": "SENT", "r": 1, "u": 0, "a": 1, "d": 1718000000000000}, {"s": "WAITING", ...}]
 *
 * s: state; r: round of the action; u: round of the undo; a: attempts of what is in flight; d: due,
 * microseconds since 1970 (absent: no timer). One object per step of the plan, by index. */
#ifndef SAGAPOST_MACHINE_STATE_JSON_H
#define SAGAPOST_MACHINE_STATE_JSON_H

#include "outbox/runtime/error.h"
#include "saga/machine/machine.h"

#define STATE_JSON_STEP_BYTES_MAX 112 /* what one step can take */
#define STATE_JSON_BYTES_MAX      (SAGA_STEPS_MAX * STATE_JSON_STEP_BYTES_MAX + 3)

/* Reads `step_count` steps into instance->steps. Strict: unknown, repeated or missing members,
 * another number of steps, numbers out of range are ERROR_PROTOCOL, with the offset. White space
 * and any order of members is fine (jsonb has its own). On failure the steps are untouched. */
int state_json_read(const char *json, size_t bytes, int step_count, struct instance *instance,
                    struct error *error) MUST_CHECK;

/* Writes the steps, NUL-terminated, into out[STATE_JSON_BYTES_MAX]; returns the bytes without the
 * NUL. */
size_t state_json_write(const struct instance *instance, int step_count, char *out);

#endif
