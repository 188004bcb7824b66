#include "outbox/relay/publishing/outcome.h"
#include "outbox/runtime/backoff.h"

#include <assert.h>
#include <stddef.h>

enum patience { NONE, GRACE, FOR_EVER };

static const struct {
    enum outcome outcome;
    enum patience patience;
    const char *reason, *because;
} outcomes[] = {
    /* clang-format off */
    {OUTCOME_CONFIRMED,   NONE,     NULL,          "the broker has it"},
    {OUTCOME_NACKED,      FOR_EVER, "nacked",      "a full queue is emptied, a broker recovers"},
    {OUTCOME_RETURNED,    GRACE,    "returned",    "a deployment may be about to bind its queue"},
    {OUTCOME_UNCONFIRMED, FOR_EVER, "unconfirmed", "a queue gets its majority back"},
    {OUTCOME_NO_EXCHANGE, GRACE,    "no_exchange", "a deployment may be about to declare it"},
    {OUTCOME_NO_ACCESS,   GRACE,    "refused",     "somebody may be about to grant it"},
    {OUTCOME_TOO_LARGE,   NONE,     "too_large",   "it will not shrink"},
    {OUTCOME_CLOSES,      NONE,     "uncarriable", "it would close the channel each time"},
    {OUTCOME_UNCARRIABLE, NONE,     "uncarriable", "no frame can hold it"},
    /* clang-format on */
};

struct verdict outcome_decide(enum outcome outcome, uint32_t attempts, int64_t failing_us,
                              const struct outcome_limits *limits, uint64_t chance)
{
    struct backoff backoff;

    _Static_assert(sizeof(outcomes) / sizeof(outcomes[0]) == OUTCOME_COUNT,
                   "a row for each outcome");
    assert(outcome < OUTCOME_COUNT && outcomes[outcome].outcome == outcome && attempts > 0);
    if (!outcomes[outcome].reason)
        return (struct verdict){.act = ACT_DONE};
    if (outcomes[outcome].patience == NONE ||
        (outcomes[outcome].patience == GRACE && failing_us >= limits->grace_us))
        return (struct verdict){.act = ACT_PARK, .reason = outcomes[outcome].reason};
    backoff_init(&backoff, limits->retry_base_us, limits->retry_cap_us, chance);
    backoff.tries = attempts - 1;
    return (struct verdict){
        .act = ACT_WAIT,
        .reason = outcomes[outcome].reason,
        .pause_us = backoff_next_us(&backoff),
    };
}
