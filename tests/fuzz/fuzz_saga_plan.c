/* Plans: what is taken keeps the promises of plan.h, and the machine can drive it.
 *
 * Input: a plan's JSON; after a NUL byte, events of three bytes each. */
#include "saga/machine/plan.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_plan(const struct plan *plan)
{
    assert(plan->step_count >= 1 && plan->step_count <= SAGA_STEPS_MAX);
    assert(plan->pivot >= -1 && plan->pivot < plan->step_count);
    for (int i = 0; i < plan->step_count; i++) {
        const struct plan_step *step = &plan->steps[i];
        uint64_t before = (UINT64_C(1) << i) - 1;
        assert((step->after & ~step->ancestors) == 0 && (step->ancestors & ~before) == 0);
        assert(plan_find_step(plan, step->name, strlen(step->name)) == i);
        assert(step->retry.max >= 1 && step->undo_retry.max >= 1);
        assert(step->timeout_us >= 0 && step->timeout_us <= PLAN_TIMEOUT_US_MAX);
        assert((step->kind == KIND_PIVOT) == (i == plan->pivot));
        assert(step->via != VIA_COMMAND || (step->action && step->participant));
        assert(step->kind != KIND_COMPENSABLE || step->undo || step->via == VIA_SAGA);
    }
}

/* An honest machine stays whole whatever it is told. */
static void drive(const struct plan *plan, const uint8_t *bytes, size_t size)
{
    static struct instance instance;
    static struct machine_decision decision;
    int64_t now_us = 1;
    machine_start(plan, &instance, now_us, &decision);
    assert(!machine_check(plan, &instance));
    for (size_t at = 0; at + 3 <= size; at += 3) {
        now_us += bytes[at + 2] & 1 ? INT64_C(1000000) * bytes[at + 2] : 0;
        struct machine_event event = {
            .type = (enum machine_event_type)(bytes[at] % MACHINE_EVENT_COUNT),
            .step = bytes[at + 1] % (plan->step_count + 1) - 1,
            .operation = (enum saga_operation)(bytes[at + 2] / 2 % 3),
            .round = bytes[at + 2] / 8 % 4,
            .attempt = bytes[at + 2] / 32,
            .empty = bytes[at + 2] & 1,
            .now_us = now_us,
            .seed = at,
            .reason = bytes[at] & 128 ? "stuck: because; stuck: of that" : NULL,
        };
        machine_apply(plan, &instance, &event, &decision);
        assert(!machine_check(plan, &instance));
        assert(strlen(instance.reason) < SAGA_REASON_BYTES_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error = {0};
    struct plan *plan = NULL;
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t bytes = end ? (size_t)(end - data) : size;
    if (plan_read((const char *)data, bytes, &plan, &error) < 0) {
        assert(error.message[0] && error.retry == RETRY_POISON && !plan);
        return 0;
    }
    check_plan(plan);
    if (end)
        drive(plan, end + 1, size - bytes - 1);
    plan_free(plan);
    return 0;
}
