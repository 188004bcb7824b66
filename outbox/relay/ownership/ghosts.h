/* ghosts.h: messages that were sent, and whose transactions a promoted standby never got.
 *
 * With publish-after = flushed a row is sent once its commit is on the primary's disk. When a
 * standby that lags is promoted, what it had not got yet is gone, and what of it was sent is a
 * ghost: a message about something that never happened. It cannot be called back, so it is named:
 * the relay keeps the ids that were confirmed last, and when the server's timeline has changed
 * between two of its connections it looks which of them the log does not have. They go to
 * outbox.ghost, the log and a metric. A look whose answer is lost with its connection is made again
 * on the next one.
 *
 * A row that the ring has emptied since is no ghost: one is believed gone only when one leaf still
 * has both an older and a newer row, or its id is above all that the promoted server's position has
 * settled.
 *
 * Limits: GHOSTS_REMEMBERED ids, the last ones; in memory, so a relay that was restarted in between
 * knows of none. Rows that were confirmed from outbox.parked are not looked at. */
#ifndef SAGAPOST_RELAY_GHOSTS_H
#define SAGAPOST_RELAY_GHOSTS_H

#include "outbox/pg/session.h"
#include "outbox/relay/stats.h"

#define GHOSTS_REMEMBERED 65536

struct ghosts;

/* Taking part of a share of the log; all pointers stay the caller's. */
int ghosts_create(struct ghosts **ret_ghosts, struct pg_session *session, int32_t share,
                  struct stats *stats, struct error *error) MUST_CHECK;
void ghosts_destroy(struct ghosts *ghosts); /* NULL is fine */
void ghosts_remember(struct ghosts *ghosts, int64_t id, struct uuid message_id);
/* On every new connection that owns the share. */
void ghosts_look(struct ghosts *ghosts);

#endif
