/* wakeup_machine.h: the states in which a relay waits for rows, as a table; pure. wakeup.h explains
 * them. */
#ifndef SAGAPOST_RELAY_WAKEUP_MACHINE_H
#define SAGAPOST_RELAY_WAKEUP_MACHINE_H

#include <stdbool.h>

enum wakeup_state {
    WAKEUP_OFF,
    WAKEUP_AWAKE,       /* a look is due or under way */
    WAKEUP_TRYING,      /* asked for the lock */
    WAKEUP_PAUSING,     /* refused: a writer is in flight; or rows trickle in */
    WAKEUP_LAST_LOOK,   /* has the lock, looks once more */
    WAKEUP_ASLEEP,      /* has the lock */
    WAKEUP_QUEUED,      /* waits for the lock on the second connection, and looks now and then */
    WAKEUP_LAST_LOOK_2, /* the second connection has the lock */
    WAKEUP_ASLEEP_2,
    WAKEUP_STATES,
};

enum wakeup_event {
    WAKEUP_FOUND,       /* the look found rows */
    WAKEUP_FOUND_FEW,   /* so few that those of a moment would cost hardly more: as FOUND, but where
                           a row says otherwise */
    WAKEUP_FOUND_OFTEN, /* and so did many before it: as FOUND, but where a row says otherwise */
    WAKEUP_EMPTY,       /* it did not */
    WAKEUP_GRANTED,
    WAKEUP_REFUSED,
    WAKEUP_REFUSED_AGAIN, /* the last of several refusals in a row */
    WAKEUP_NOTIFIED,
    WAKEUP_TIMER,
    WAKEUP_GRANTED_2,
    WAKEUP_LOST_2, /* the second connection */
    WAKEUP_EVENTS,
};

/* What is done, in this order; a set of bits. */
enum wakeup_act {
    WAKEUP_UNLOCK = 1,     /* give the lock back */
    WAKEUP_UNLOCK_2 = 2,   /* on the second connection */
    WAKEUP_TRY = 4,        /* ask for the lock */
    WAKEUP_QUEUE = 8,      /* wait for it on the second connection */
    WAKEUP_LOOK = 16,      /* a look is due */
    WAKEUP_ARM_PAUSE = 32, /* a millisecond */
    WAKEUP_ARM_GROWING = 64,
    WAKEUP_ARM_FALLBACK = 128,
    WAKEUP_DROP_2 = 256, /* leave the queue; only the end of the connection does */
};

struct wakeup_step {
    enum wakeup_state next;
    unsigned acts;
    const char *because;
};

/* An event that means nothing in a state leaves it as it is. A look that was begun before the last
 * WAKEUP_LOOK gives no event: the one that is due then does. A notification that comes while the
 * relay is awake or tries for the lock means nothing, because a look follows in any case. */
struct wakeup_step wakeup_decide(enum wakeup_state state, enum wakeup_event event);
const char *wakeup_state_name(enum wakeup_state state);

#endif
