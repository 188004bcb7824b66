/* snapshot.h: a pg_snapshot, as text for the server and taken apart for the relay:
 * xmin:xmax:xip,xip,...
 *
 * A transaction x is visible in a snapshot when x < xmin, or x < xmax and x is not in xip and it
 * committed. Source: "System Information Functions", pg_snapshot, in PostgreSQL's manual. The text
 * comes from our own server, and is checked all the same: everything the relay finds or skips rests
 * on it.
 *
 * Counted references: a snapshot is t2 of one window and t1 of the next. */
#ifndef SAGAPOST_RELAY_SNAPSHOT_H
#define SAGAPOST_RELAY_SNAPSHOT_H

#include "outbox/runtime/buffer.h"
#include "outbox/runtime/error.h"
#include <stdint.h>

struct snapshot {
    int references;
    char *text;
    uint64_t xmin, xmax;
    uint64_t *xip; /* rising */
    int xip_count;
    /* Set by the source: no row that this snapshot does not see, of a transaction that began after
     * it (xid >= xmax), has an id up to `bound`. 0: nothing is known. */
    int64_t bound;
};

#define SNAPSHOT_XIDS_MAX                                                                          \
    1000000 /* more than max_connections and max_prepared_transactions can be */

int snapshot_parse(struct snapshot **ret_snapshot, const char *text,
                   struct error *error) MUST_CHECK;
struct snapshot *snapshot_hold(struct snapshot *snapshot);
void snapshot_release(struct snapshot *snapshot);                         /* NULL is fine */
bool snapshot_in_progress(const struct snapshot *snapshot, uint64_t xid); /* in xip */

/* Writes, as PostgreSQL's text of an xid8[], the transactions in progress in `t1` that had ended in
 * `t2`. Returns their number. */
int snapshot_ended_between(const struct snapshot *t1, const struct snapshot *t2,
                           struct buffer *out);

#endif
