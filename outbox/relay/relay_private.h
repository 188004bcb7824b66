/* relay_private.h: the relay's parts, for relay.c (the road), relay_watch.c (what it watches and
 * shows) and relay_parts.c (how it is put together). */
#ifndef SAGAPOST_RELAY_RELAY_PRIVATE_H
#define SAGAPOST_RELAY_RELAY_PRIVATE_H

#include "outbox/relay/ownership/fence.h"
#include "outbox/relay/ownership/ghosts.h"
#include "outbox/relay/ownership/lease.h"
#include "outbox/relay/ownership/sharing.h"
#include "outbox/relay/ownership/standby.h"
#include "outbox/relay/publishing/lane.h"
#include "outbox/relay/reading/source.h"
#include "outbox/relay/reading/wakeup.h"
#include "outbox/relay/relay.h"
#include "outbox/relay/rows/chunk.h"
#include "outbox/relay/settling/park.h"
#include "outbox/relay/settling/position.h"
#include "outbox/relay/settling/ring.h"

#define RELAY_NAME_BYTES 128
#define RELAY_TICK_US    US_PER_S

enum relay_state {
    RELAY_STARTING, /* no connection, or not the owner, or not loaded */
    RELAY_RUNNING,
    RELAY_DRAINING,
    RELAY_RESTING, /* owns the share and sends nothing: the number of shares changes */
    RELAY_LEAVING, /* gives the share back */
    RELAY_FINISHED,
};

struct relay {
    struct relay_options options;
    struct stats stats;
    enum relay_state state;
    char name[RELAY_NAME_BYTES];
    char application_name[64];

    struct pg_session_options session_options;
    struct pg_session *session;
    struct lease *lease;
    struct sharing *sharing;
    struct standby *standby;
    struct fence *fence;
    struct routes *routes;
    struct destinations *destinations;
    struct keys *held;
    struct flow *flow;
    struct windows *windows;
    struct source *source;
    struct lane *lane;
    struct position_writer *writer;
    struct park *park;
    struct wakeup *wakeup;
    struct ring *ring;
    struct ghosts *ghosts;

    struct loop_hook *hook;
    struct loop_timer *tick, *position_timer, *look_timer, *drain_timer;
    int64_t position_written_us, looked_us, checked_us;
    int64_t asked_us;  /* a sign of life was asked for then; 0: it came */
    int64_t proven_us; /* the last one that came was asked for then */
    int64_t sequence;  /* last id given out, as of the last sign of life */
    uint32_t asides;   /* messages set aside since the last tick */
    bool session_was_up, stalled, position_wanted;

    /* The share, relay_shares.c. */
    enum sharing_verdict verdict; /* with which it began */
    int32_t shares;
    bool pausing;                               /* draining in order to rest, not to leave */
    bool asked_rest;                            /* and said so */
    int64_t window_sequence, position_sequence; /* of the last window, and position, without rows */
};

static inline int64_t relay_now_us(const struct relay *relay)
{
    return loop_now_us(relay->options.loop);
}

/* Whether the share is ours and the road is open, or being drained. */
static inline bool relay_owns(const struct relay *relay)
{
    return relay->state == RELAY_RUNNING || relay->state == RELAY_DRAINING;
}

/* relay.c, for the parts to call */
bool relay_turn(void *data);
void relay_on_window(void *data, uint64_t rows);
void relay_on_settled(void *data, const struct flow_item *item);
void relay_on_written(void *data, uint32_t rows_aside);
void relay_on_leaves(void *data);
void relay_on_loaded(void *data);
bool relay_can_publish(void *data);
bool relay_owes_position(const struct relay *relay); /* nothing is settled, and it may move */
void relay_on_standby(void *data);
void relay_on_owner(void *data, const struct lease_position *at);
void relay_on_failure(void *data, const struct error *failure);
void relay_on_up(void *data, struct pg_session *session);
void relay_on_down(void *data, struct pg_session *session, const struct error *why);
void relay_on_notify(void *data, struct pg_session *session, const char *channel,
                     const char *payload);
void relay_on_drain_timer(void *data);

/* Everything in memory goes; what is in flight on the broker stays there, and will be sent again.
 */
void relay_forget(struct relay *relay);
/* Something is wrong with what we know or may do: from the persisted position, on a new connection.
 */
void relay_begin_again(struct relay *relay, const struct error *why);
void relay_ask_routes(struct relay *relay);

/* The same, when nothing is wrong. */
void relay_restart(struct relay *relay, const char *why);
/* No row is read, no leaf emptied, nothing of outbox.parked tried any more. */
void relay_stop_reading(struct relay *relay);
/* What is in memory goes, and the lease stays. */
void relay_drop_rows(struct relay *relay);

/* relay_shares.c */
void relay_on_turn(void *data, const struct sharing_turn *turn);
void relay_pause(struct relay *relay);
bool relay_begins(struct relay *relay);     /* loaded: may it read and publish? */
bool relay_at_barrier(struct relay *relay); /* true: it is, and comes to rest */
bool relay_has_paused(struct relay *relay); /* nothing is in flight; true: did something */
void relay_told_of_shares(struct relay *relay);
bool relay_others_write(struct relay *relay);

/* relay_watch.c */
void relay_on_tick(void *data);
/* Says what was set aside: the first of a second one by one, the others by their number. */
void relay_tell_aside(struct relay *relay, const struct flow_item *item);

#endif
