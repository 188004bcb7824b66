/* wakeup.h: when to look for new rows: at once, in a moment, or when a writer says so.
 *
 * A NOTIFY takes a lock of the whole server at commit, so writers send one only to a relay that
 * sleeps. A sleeping relay holds an advisory lock exclusively that every writer tries to share
 * (migrations/0002_outbox.sql, wake-up):
 *
 *   awake --found nothing--> trying --granted--> last look --found nothing--> asleep --notified-->
 * awake |                    `--found rows--> awake
 *                              `--refused (a writer is in flight)--> a millisecond's pause -->
 * awake
 *
 * A writer that stays open would keep the relay polling, so after REFUSALS_MAX refusals in a row
 * the lock is asked for on a second connection, which waits in the lock's queue: while it does,
 * every new writer is refused its share, and notifies. Writers from before the queue do not; the
 * relay looks for their rows with growing pauses until the lock is granted. A slow fallback look
 * stays in every state. Losing the second connection is losing the queue: back to polling.
 *
 * A look that found only a few rows is followed by the same pause: under a steady trickle the rows
 * of a moment are read together, and nobody goes to sleep for less than that.
 *
 * With notifications off, the relay polls at an interval.
 *
 * The table of states is wakeup_machine.h's; this is what carries it out. */
#ifndef SAGAPOST_RELAY_WAKEUP_H
#define SAGAPOST_RELAY_WAKEUP_H

#include "outbox/pg/session.h"
#include "outbox/relay/stats.h"

struct wakeup;

struct wakeup_options {
    struct loop *loop;
    struct pg_session *session;              /* the relay's: it holds the lock while asleep */
    const struct pg_session_options *second; /* for the second connection; callbacks are ours */
    struct stats *stats;
    int32_t share;
    bool by_notify;
    int64_t poll_interval_us, fallback_interval_us;
    void (*on_failure)(void *data, const struct error *failure);
    void *data;
};

int wakeup_create(struct wakeup **ret_wakeup, const struct wakeup_options *options,
                  struct error *error) MUST_CHECK;
void wakeup_destroy(struct wakeup *wakeup); /* NULL is fine */

void wakeup_start(
    struct wakeup *wakeup); /* a new connection owns the share: the first look is due */
void wakeup_stop(struct wakeup *wakeup);
/* Whether a look is due; asked between windows. */
bool wakeup_is_due(const struct wakeup *wakeup);
void wakeup_looking(struct wakeup *wakeup);               /* it was begun */
void wakeup_looked(struct wakeup *wakeup, uint64_t rows); /* and ended, having found so many */
void wakeup_notified(struct wakeup *wakeup);

#endif
