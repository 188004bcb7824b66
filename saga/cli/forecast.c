#include "saga/cli/forecast.h"

#include <stdlib.h>

static const char *const in_flight[STEP_STATE_COUNT] = {
    [STEP_READY] = "held back, not sent",
    [STEP_SENT] = "action sent, no answer yet",
    [STEP_RETRY_WAIT] = "action, waits to be sent again",
    [STEP_PROBING] = "asked what became of its action",
    [STEP_UNKNOWN] = "out of attempts: nobody knows whether it took effect",
    [STEP_UNDO_READY] = "undo held back, not sent",
    [STEP_UNDO_SENT] = "undo sent, no answer yet",
    [STEP_UNDO_RETRY_WAIT] = "undo, waits to be sent again",
    [STEP_UNDO_STUCK] = "undo out of attempts",
};

const char *forecast_in_flight(const struct running *running, int step)
{
    const struct plan_step *planned = &running->plan->steps[step];
    enum step_state state = running->instance.steps[step].state;
    if (state == STEP_PARKED && planned->via == VIA_LOCK)
        return "waits for its lock";
    if (state == STEP_PARKED)
        return planned->via == VIA_TIMER ? "its time runs" : "waits for its signal";
    if (state == STEP_FAILED && planned->kind == KIND_RETRIABLE)
        return "failed, and must succeed";
    return in_flight[state];
}

int forecast_attempts(const struct running *running, int step)
{
    switch (running->instance.steps[step].state) {
    case STEP_SENT:
    case STEP_RETRY_WAIT:
        return running->plan->steps[step].retry.max;
    case STEP_PROBING:
    case STEP_UNDO_SENT:
    case STEP_UNDO_RETRY_WAIT:
        return running->plan->steps[step].undo_retry.max;
    default:
        return 0;
    }
}

/* A step, or of a fan-out the element that is due next. */
static const struct step_status *first_due(const struct running *running, int step,
                                           int *ret_element)
{
    const struct step_status *own = &running->instance.steps[step];
    const struct step_status *first = own;
    int element = 0;
    for (int i = 0; i < own->elements; i++) {
        const struct step_status *status =
            machine_status(running->plan, &running->instance, step, i);
        if (status->due_us != 0 && (first->due_us == 0 || status->due_us < first->due_us)) {
            first = status;
            element = i;
        }
    }
    if (ret_element != NULL)
        *ret_element = element;
    return first;
}

int forecast_attempt(const struct running *running, int step)
{
    return first_due(running, step, NULL)->attempt;
}

int64_t forecast_due_us(const struct running *running, int step)
{
    return first_due(running, step, NULL)->due_us;
}

int64_t forecast_sent_us(const struct running *running, int step)
{
    const struct step_status *status = first_due(running, step, NULL);
    bool is_sent = status->state == STEP_SENT || status->state == STEP_UNDO_SENT;
    return is_sent && status->due_us != 0 ? status->due_us - running->plan->steps[step].timeout_us
                                          : 0;
}

static const char *what_at(const struct running *running, enum machine_event_type type, int step,
                           int element, int64_t at_us)
{
    struct running then = *running;
    const char *because;
    then.now_us = at_us;
    (void)running_try_element(&then, type, step, element, &because);
    return because;
}

static int compare_events(const void *a, const void *b)
{
    const struct forecast_event *left = a, *right = b;
    return (left->at_us > right->at_us) - (left->at_us < right->at_us);
}

int forecast_next(const struct running *running, struct forecast_event *ret_events)
{
    int count = 0;
    int64_t deadline_us = running->instance.deadline_us;
    if (deadline_us != 0)
        ret_events[count++] = (struct forecast_event){
            deadline_us, -1, what_at(running, EVENT_DEADLINE, -1, 0, deadline_us)};
    for (int i = 0; i < running->plan->step_count; i++) {
        int element;
        int64_t due_us = first_due(running, i, &element)->due_us;
        if (due_us != 0)
            ret_events[count++] =
                (struct forecast_event){due_us, i, what_at(running, EVENT_DUE, i, element, due_us)};
    }
    qsort(ret_events, (size_t)count, sizeof *ret_events, compare_events);
    return count;
}

static void add_verb(const struct running *running, enum machine_event_type verb, int step,
                     struct forecast_verb *verbs, int *count)
{
    const char *because;
    if (running_try(running, verb, step, &because) == VERDICT_APPLIED)
        verbs[(*count)++] = (struct forecast_verb){verb, step, because};
}

int forecast_verbs(const struct running *running, struct forecast_verb *ret_verbs)
{
    static const enum machine_event_type of_step[] = {EVENT_RETRY, EVENT_SIGNAL, EVENT_SKIP,
                                                      EVENT_MARK_UNDONE};
    static const enum machine_event_type of_saga[] = {EVENT_CANCEL, EVENT_PAUSE, EVENT_RESUME,
                                                      EVENT_ABANDON};
    int count = 0;
    add_verb(running, EVENT_RETRY, -1, ret_verbs, &count);
    bool retries_all = count > 0; /* then nobody needs it step by step */
    for (int i = 0; i < running->plan->step_count; i++)
        for (size_t v = retries_all; v < sizeof of_step / sizeof of_step[0]; v++)
            add_verb(running, of_step[v], i, ret_verbs, &count);
    for (size_t v = 0; v < sizeof of_saga / sizeof of_saga[0]; v++)
        add_verb(running, of_saga[v], -1, ret_verbs, &count);
    return count;
}
