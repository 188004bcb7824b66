/* outcome.h: what is done about a message, by what became of it at the broker. A table, and a pure
 * function over it. */
#ifndef SAGAPOST_RELAY_OUTCOME_H
#define SAGAPOST_RELAY_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

enum outcome {
    OUTCOME_CONFIRMED,
    OUTCOME_NACKED,      /* the queue is full, or the broker is in trouble */
    OUTCOME_RETURNED,    /* no queue is bound for it */
    OUTCOME_UNCONFIRMED, /* its destination confirms nothing; it may have arrived all the same */
    OUTCOME_NO_EXCHANGE, /* the channel was closed with 404 over its exchange */
    OUTCOME_NO_ACCESS,   /* with 403 */
    OUTCOME_TOO_LARGE,   /* with 406 over its size */
    OUTCOME_CLOSES, /* it alone was in flight when the broker closed the channel or the connection
                     */
    OUTCOME_UNCARRIABLE, /* AMQP has no place for it: it was never sent */
    OUTCOME_COUNT,
};

enum outcome_act {
    ACT_DONE,
    ACT_WAIT, /* it is set aside and tried again after a pause */
    ACT_PARK, /* it is set aside for a person to decide */
};

struct outcome_limits {
    int64_t grace_us; /* how long a missing queue, exchange or permission may stay missing */
    int64_t retry_base_us, retry_cap_us;
};

struct verdict {
    enum outcome_act act;
    const char *reason; /* outbox.parked.reason; NULL with ACT_DONE */
    int64_t pause_us;   /* with ACT_WAIT */
};

/* `attempts` counts this one; `failing_us` is the time since the first refusal; `chance` spreads
 * the pauses. */
struct verdict outcome_decide(enum outcome outcome, uint32_t attempts, int64_t failing_us,
                              const struct outcome_limits *limits, uint64_t chance);

#endif
