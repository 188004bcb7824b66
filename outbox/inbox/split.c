#include "outbox/inbox/split.h"

#include "outbox/runtime/clock.h"
#include <assert.h>

void split_start(struct split *split, int count)
{
    assert(count >= 0);
    split->depth = 0;
    if (count > 0) {
        split->firsts[0] = 0;
        split->counts[0] = count;
        split->depth = 1;
    }
}

bool split_range(const struct split *split, int *ret_first, int *ret_count)
{
    if (split->depth == 0) {
        return false;
    }
    *ret_first = split->firsts[split->depth - 1];
    *ret_count = split->counts[split->depth - 1];
    return true;
}

void split_done(struct split *split)
{
    assert(split->depth > 0);
    split->depth--;
}

bool split_failed(struct split *split)
{
    assert(split->depth > 0);
    int top = split->depth - 1;
    int first = split->firsts[top];
    int count = split->counts[top];
    if (count == 1) {
        split->depth--;
        return false;
    }
    assert(split->depth < SPLIT_DEPTH_MAX); /* each halving adds one: 2^31 items would fit */
    int left = count / 2;
    split->firsts[top] = first + left;
    split->counts[top] = count - left;
    split->firsts[top + 1] = first;
    split->counts[top + 1] = left;
    split->depth++;
    return true;
}

/* The pauses between two tries of one that failed alone. Losing against another transaction is over
 * in no time; a full disk is not. */
#define PAUSE_BASE_US (10 * US_PER_MS)
#define PAUSE_CAP_US  (10 * US_PER_S)
/* A statement that cannot work is not made to work by repeating it; but what looks like that may be
 * a function that is just being replaced: 10 ms, 20 ms ... 10 s, some 15 seconds in all. */
#define TRIES_BUG_MAX 11

static int64_t pause_after(unsigned tries)
{
    int64_t pause_us = PAUSE_BASE_US;
    for (unsigned i = 1; i < tries && pause_us < PAUSE_CAP_US; i++) {
        pause_us *= 2;
    }
    return pause_us < PAUSE_CAP_US ? pause_us : PAUSE_CAP_US;
}

enum culprit split_culprit(const struct error *failure, unsigned tries, int64_t *ret_pause_us)
{
    *ret_pause_us = pause_after(tries);
    switch (failure->retry) {
    case RETRY_RECONNECT: /* not its fault */
        *ret_pause_us = 0;
        return CULPRIT_AGAIN;
    case RETRY_NOW:
    case RETRY_LATER:
        return CULPRIT_AGAIN;
    case RETRY_NEVER: /* a privilege is missing: all of them fail, until somebody grants it */
        *ret_pause_us = PAUSE_CAP_US;
        return CULPRIT_AGAIN;
    case RETRY_POISON:
        return CULPRIT_GIVE_UP;
    case RETRY_NONE:
    case RETRY_BUG:
        break;
    }
    return tries < TRIES_BUG_MAX ? CULPRIT_AGAIN : CULPRIT_GIVE_UP;
}
