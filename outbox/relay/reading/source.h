/* source.h: reads what committed, window by window, into the flow.
 *
 * A poll takes a snapshot t2. The rows of the window (t1, t2] come in two streams, each in the
 * order of the ids and in chunks: fresh (of transactions that began after t1) and late (of those in
 * progress at t1 that had ended by t2). They are merged by id into the flow, as far as it has room.
 * Rows may be published once the log of their commits is on disk: a commit with synchronous_commit
 * = off is visible before that, and a crash would take it back.
 *
 * The bound: fresh rows are found by an index on their ids, from an id that no unread row of theirs
 * can be below. It is what the sequence had given out before the relay's own transaction p got its
 * xid (moving the position is one), and it serves every snapshot with xmax > p: a transaction that
 * such a snapshot does not see and that is not in its xip has an xid above p, so took it after the
 * sequence was read, and an id after that (the id's default takes the xid first).
 *
 *     source_start(source);              -- the windows are at the persisted position, the flow is
 * empty source_poll(source);               -- opens the next window; on_window tells when all of it
 * is in the flow source_turn(source);               -- before each sleep: moves rows on, asks for
 * more source_stop(source);               -- the connection is gone
 *
 * Of several shares, each statement finds its own rows among a span of ids, so that one that finds
 * none is short too.
 *
 * Limits: rows and bytes in memory are bounded by options; one row may exceed the bytes. */
#ifndef SAGAPOST_RELAY_SOURCE_H
#define SAGAPOST_RELAY_SOURCE_H

#include "outbox/pg/session.h"
#include "outbox/relay/reading/publish_after.h"
#include "outbox/relay/reading/windows.h"
#include "outbox/relay/rows/flow.h"
#include "outbox/relay/rows/routes.h"
#include "outbox/relay/stats.h"

struct source;

struct source_options {
    struct loop *loop;
    struct pg_session *session;
    struct windows *windows;
    struct flow *flow;
    const struct routes *routes;
    struct stats *stats;
    const struct publish_after *publish_after; /* that must have a row too before it is published */
    uint32_t rows_max;                         /* read ahead */
    int64_t bytes_max;                         /* in memory */
    void (*on_window)(void *data, uint64_t rows); /* it had so many */
    /* A statement failed other than by the loss of the connection. The source stands still until it
     * is stopped and started. */
    void (*on_failure)(void *data, const struct error *failure);
    void *data;
};

int source_create(struct source **ret_source, const struct source_options *options,
                  struct error *error) MUST_CHECK;
void source_destroy(struct source *source); /* NULL is fine; the flow must have been cleared */

/* Before source_start: the rows of this share, of so many. With a barrier, windows end at that
 * snapshot, and then source_is_through. */
void source_set_share(struct source *source, int32_t share, int32_t shares,
                      struct snapshot *barrier);
/* All that the barrier sees is in the flow. */
bool source_is_through(const struct source *source);
void source_start(struct source *source);
void source_stop(struct source *source);
/* Opens no further window and reads no further chunk, until it is started again: the relay drains.
 */
void source_finish(struct source *source);
bool source_can_poll(const struct source *source);
void source_poll(struct source *source);
bool source_turn(struct source *source); /* true: did something */

/* The last id that the sequence had given out at the last poll. */
int64_t source_sequence(const struct source *source);
/* A transaction of ours with the xid `xact` has committed, and had no xid yet when the sequence
 * stood at `sequence`. */
void source_own_transaction(struct source *source, int64_t sequence, uint64_t xact);

#endif
