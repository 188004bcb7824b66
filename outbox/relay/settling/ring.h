/* ring.h: empties leaves of the log's ring that are published to the end.
 *
 * From time to time the leaves that hold rows and take no new ones are tried, one per transaction;
 * the database checks against every persisted position, under a lock for which it does not wait
 * (outbox.truncate_leaf). Being late breaks nothing. */
#ifndef SAGAPOST_RELAY_RING_H
#define SAGAPOST_RELAY_RING_H

#include "outbox/pg/session.h"
#include "outbox/relay/stats.h"

#define RING_SLOTS_MAX 1000

struct ring;

struct ring_options {
    struct loop *loop;
    struct pg_session *session;
    struct stats *stats;
    int64_t interval_us;
    /* There are leaves to try: a position that has moved and is not persisted should be, first. */
    void (*on_leaves)(void *data);
    void *data;
};

int ring_create(struct ring **ret_ring, const struct ring_options *options,
                struct error *error) MUST_CHECK;
void ring_destroy(struct ring *ring); /* NULL is fine */
void ring_start(struct ring *ring);
void ring_stop(struct ring *ring);

#endif
