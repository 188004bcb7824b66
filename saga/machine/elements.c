/* elements.c: a step that is fanned out over a list, and its elements.
 *
 * Each element moves by the rows of step_table.c as a plain step does, and the rules of settle.c
 * look at elements, never at the step that they belong to. The state of that step is one word for
 * people, for views and for what is counted; it is found anew after every move of an element. */
#include "saga/machine/table.h"

#include <assert.h>

#define S(name) VALUE_BIT(STEP_##name)

bool command_asks_list(const struct machine_command *command)
{
    return command->element == ELEMENT_ALL;
}

const struct step_status *machine_status(const struct plan *plan, const struct instance *instance,
                                         int step, int element)
{
    const struct plan_step *plan_step = &plan->steps[step];
    const struct step_status *status = &instance->steps[step];
    if (element == ELEMENT_ALL || (element == 0 && !step_fans_out(plan_step)))
        return status;
    return element >= 0 && element < status->elements
               ? &instance->elements[plan_step->elements_from + element]
               : NULL;
}

/* The first of these that an element has. What moves comes before what is stuck, and that before
 * what is over: a step is over when all its elements are. (An element is PARKED in a row that was
 * changed by hand.) */
static MACHINE_ROWS enum step_state told_first[ELEMENTS_TOLD_FIRST] = {
    STEP_UNDO_SENT, STEP_UNDO_RETRY_WAIT, STEP_UNDO_READY, STEP_SENT,
    STEP_PROBING,   STEP_RETRY_WAIT,      STEP_READY,      STEP_UNDO_STUCK,
    STEP_UNKNOWN,   STEP_WAITING,         STEP_PARKED,
};

/* Of elements that are all over. */
static const enum step_state told_last[] = {
    STEP_UNDONE, STEP_FAILED, STEP_UNDO_EMPTY, STEP_CANCELLED, STEP_SUCCEEDED, STEP_SKIPPED,
};

#define TOLD_LAST_COUNT ((int)(sizeof(told_last) / sizeof(told_last[0])))
#define GIVEN_UP        (S(FAILED) | S(UNDO_EMPTY) | S(CANCELLED) | S(UNDONE))

static enum step_state first_of(const enum step_state *order, int count, uint32_t states)
{
    for (int i = 0; i < count; i++) {
        if (VALUE_BIT(order[i]) & states)
            return order[i];
    }
    return STEP_STATE_COUNT;
}

MACHINE_ROWS enum step_state *elements_told_first(void)
{
    return told_first;
}

enum step_state elements_state(const struct plan_step *step, const struct step_status *elements,
                               int count)
{
    uint32_t states = 0;
    assert(count > 0);
    for (int i = 0; i < count; i++)
        states |= VALUE_BIT(elements[i].state);
    enum step_state state = first_of(told_first, ELEMENTS_TOLD_FIRST, states);
    /* Some took effect and some did not: those that did are going to be undone. */
    bool to_be_undone =
        step->kind == KIND_COMPENSABLE && (states & S(SUCCEEDED)) && (states & GIVEN_UP);
    if (state == STEP_STATE_COUNT)
        state = to_be_undone ? STEP_UNDO_READY : first_of(told_last, TOLD_LAST_COUNT, states);
    assert(state != STEP_STATE_COUNT);
    return state;
}

/* Guards and an action of step_table.c: of a fan-out whose list is told. */

static bool asks(const struct context *context)
{
    return context->unit.element == ELEMENT_ALL;
}

bool elements_list_is_empty(const struct context *context)
{
    return asks(context) && context->event->count == 0;
}

bool elements_list_fits(const struct context *context)
{
    int count = context->event->count;
    return asks(context) && count > 0 && count <= context->unit.step->elements_max;
}

void elements_spread(struct context *context)
{
    const struct plan_step *step = context->unit.step;
    context->status->elements = context->event->count;
    for (int i = 0; i < context->event->count; i++)
        context->instance->elements[step->elements_from + i] =
            (struct step_status){.state = STEP_WAITING};
    machine_note(context, "fanned_out", &context->unit, "each element of its list is a command");
}
