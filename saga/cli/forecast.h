/* forecast.h: what a running saga waits for, what happens to it next, and what can be done about
 * it. Pure: everything is asked of the machine itself, on copies, so that it cannot say what the
 * worker would not do. */
#ifndef SAGAPOST_CLI_FORECAST_H
#define SAGAPOST_CLI_FORECAST_H

#include "saga/cli/running.h"

/* What is in flight at a step, in words; NULL: nothing is. */
const char *forecast_in_flight(const struct running *running, int step);
/* How many attempts the policy allows for it; 0: it is not a matter of attempts. */
int forecast_attempts(const struct running *running, int step);
/* Which attempt that is, and when its time is up (0: never); of a fan-out, of the element that is
 * due next. */
int forecast_attempt(const struct running *running, int step);
int64_t forecast_due_us(const struct running *running, int step);
/* When the command that waits for its answer was sent; 0: none does. */
int64_t forecast_sent_us(const struct running *running, int step);

struct forecast_event {
    int64_t at_us;
    int step;         /* -1: the saga's timeout */
    const char *what; /* constant */
};
#define FORECAST_EVENTS_MAX (SAGA_STEPS_MAX + 1)
/* What happens at its time if no answer comes before, the earliest first. Returns how many. */
int forecast_next(const struct running *running, struct forecast_event *ret_events);

struct forecast_verb {
    enum machine_event_type verb;
    int step; /* -1: the saga */
    const char *because;
};
#define FORECAST_VERBS_MAX (4 * SAGA_STEPS_MAX + 5)
/* The verbs that would be applied now. Returns how many. */
int forecast_verbs(const struct running *running, struct forecast_verb *ret_verbs);

#endif
