/* plan_check.c: what the machine relies on in a plan; the rules of publish, checked again. */
#include "saga/machine/plan.h"

#include <string.h>

#define STEP_BIT(i) (UINT64_C(1) << (i))

static int refuse(struct error *error, const struct plan_step *step, const char *why)
{
    return error_set(error, ERROR_PROTOCOL, RETRY_POISON, "plan: step \"%s\": %s", step->name, why);
}

/* Who comes before and after whom, directly or not. Steps are in an order in which each comes after
 * those in its `after`. */
static int close_graph(struct plan *plan, struct error *error)
{
    for (int i = 0; i < plan->step_count; i++) {
        struct plan_step *step = &plan->steps[i];
        if (step->after & ~(STEP_BIT(i) - 1))
            return refuse(error, step, "its `after` names a step that does not come before it");
        step->ancestors = step->after;
        for (int j = 0; j < i; j++) {
            if (step->after & STEP_BIT(j))
                step->ancestors |= plan->steps[j].ancestors;
        }
        step->descendants = 0;
        for (int j = 0; j < i; j++) {
            if (step->ancestors & STEP_BIT(j))
                plan->steps[j].descendants |= STEP_BIT(i);
        }
    }
    return 0;
}

static int find_pivot(struct plan *plan, struct error *error)
{
    plan->pivot = -1;
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].kind != KIND_PIVOT)
            continue;
        if (plan->pivot >= 0)
            return refuse(error, &plan->steps[i], "a saga has one pivot (rule 2)");
        if (step_waits(&plan->steps[i]))
            return refuse(error, &plan->steps[i], "a pivot is a command or a child saga");
        plan->pivot = i;
    }
    return 0;
}

/* A wait step has no kind of its own: before the pivot it may fail and leaves nothing to undo,
 * behind it must succeed. */
static void give_kind(struct plan *plan, int index)
{
    struct plan_step *step = &plan->steps[index];
    bool behind = plan->pivot >= 0 && (step->ancestors & STEP_BIT(plan->pivot));
    if (step_waits(step))
        step->kind = behind ? KIND_RETRIABLE : KIND_READ_ONLY;
}

/* Elements of all steps lie in one array of the instance. */
static int place_elements(struct plan *plan, struct error *error)
{
    int from = 0;
    for (int i = 0; i < plan->step_count; i++) {
        struct plan_step *step = &plan->steps[i];
        step->elements_from = from;
        from += step->elements_max;
        if (from > SAGA_ELEMENTS_MAX)
            return refuse(error, step, "the fan-outs of a saga have too many elements together");
    }
    return 0;
}

static int check_fan_out(const struct plan_step *step, struct error *error)
{
    if (step->via != VIA_COMMAND)
        return refuse(error, step, "only a command is fanned out");
    if (step->kind == KIND_PIVOT)
        return refuse(error, step, "a pivot is no fan-out (rule 5)");
    if (step->elements_at_once < 1)
        return refuse(error, step, "it is a fan-out that may send nothing");
    return 0;
}

static int check_place(const struct plan *plan, int index, struct error *error)
{
    const struct plan_step *step = &plan->steps[index];
    if (plan->pivot < 0)
        return step->kind == KIND_RETRIABLE
                   ? refuse(error, step, "it is retriable, and there is no pivot (rule 4)")
                   : 0;
    if (index == plan->pivot)
        return 0;
    bool before = (step->descendants & STEP_BIT(plan->pivot)) != 0;
    bool behind = (step->ancestors & STEP_BIT(plan->pivot)) != 0;
    if (!before && !behind)
        return refuse(error, step, "it is neither before nor after the pivot (rule 2)");
    if (before && step->kind == KIND_RETRIABLE)
        return refuse(error, step, "it is retriable and before the pivot (rule 3)");
    if (behind && step->kind != KIND_RETRIABLE)
        return refuse(error, step, "behind the pivot nothing may fail for good (rule 3)");
    return 0;
}

static int check_step(const struct plan *plan, int index, struct error *error)
{
    const struct plan_step *step = &plan->steps[index];
    bool is_command = step->via == VIA_COMMAND;
    if (plan_find_step(plan, step->name, strlen(step->name)) != index)
        return refuse(error, step, "another step has this name");
    if (is_command && (!step->action || !step->participant))
        return refuse(error, step, "a command has an action and a participant");
    if (is_command && step->kind == KIND_COMPENSABLE && !step->undo)
        return refuse(error, step, "it is compensable and has no undo (rule 1)");
    if (step->via == VIA_SAGA &&
        (step->action || step->undo || step->undo_on_fail || step->kind == KIND_READ_ONLY))
        return refuse(error, step, "a child saga has no action, no undo and an effect");
    if (step->undo_on_fail && step->kind != KIND_COMPENSABLE)
        return refuse(error, step, "undo_on_fail is for compensable steps");
    bool may_wait_for_ever = step->via == VIA_SIGNAL || step->via == VIA_LOCK;
    if (!may_wait_for_ever && step->timeout_us <= 0)
        return refuse(error, step, "it has no timeout");
    if (step->skip_on_timeout && (!may_wait_for_ever || step->timeout_us == 0))
        return refuse(error, step, "on_timeout is for a signal or a lock that has a timeout");
    if (step->via == VIA_LOCK && !step->has_input)
        return refuse(error, step, "its input does not name its lock");
    if (step->via == VIA_LOCK && step->kind == KIND_RETRIABLE)
        return refuse(error, step, "a lock may be denied: it stands before the pivot (rule 3)");
    if (step->via == VIA_SIGNAL && step->kind == KIND_RETRIABLE && step->timeout_us != 0 &&
        !step->skip_on_timeout)
        return refuse(error, step, "behind the pivot a signal may not time out (rule 3)");
    if (step->retry.max < 1 || step->undo_retry.max < 1)
        return refuse(error, step, "its retry policies allow no attempt");
    int rc = step_fans_out(step) ? check_fan_out(step, error) : 0;
    return rc < 0 ? rc : check_place(plan, index, error);
}

int plan_complete(struct plan *plan, struct error *error)
{
    if (plan->step_count < 1 || plan->step_count > SAGA_STEPS_MAX)
        return error_set(error, ERROR_PROTOCOL, RETRY_POISON,
                         "plan: it has %d steps, allowed are 1 to %d", plan->step_count,
                         SAGA_STEPS_MAX);
    int rc = close_graph(plan, error);
    if (rc == 0)
        rc = find_pivot(plan, error);
    if (rc == 0)
        rc = place_elements(plan, error);
    for (int i = 0; rc == 0 && i < plan->step_count; i++) {
        give_kind(plan, i);
        rc = check_step(plan, i, error);
    }
    return rc;
}
