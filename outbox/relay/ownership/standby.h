/* standby.h: what a relay that stands by does about an owner that has gone silent. (Standby servers
 * of PostgreSQL are another matter: publish_after.h.)
 *
 * The lock lasts as long as the owner's connection, and that can outlive the owner's mind: a
 * process that was stopped, a machine that was frozen, a network that lost one side. A living owner
 * asks its server something every second, so a relay that stands by looks on, on a second
 * connection (the first waits for the lock), and ends an owner's connection whose last statement is
 * older than the term, by the server's clock. Both relays must log in as one role, or the standby's
 * must be a member of pg_signal_backend and pg_read_all_stats; where it sees nothing the log says
 * so once. */
#ifndef SAGAPOST_RELAY_STANDBY_H
#define SAGAPOST_RELAY_STANDBY_H

#include "outbox/pg/session.h"
#include "outbox/relay/stats.h"

struct standby;

struct standby_options {
    struct loop *loop;
    const struct pg_session_options *second; /* for the connection; callbacks are ours */
    struct stats *stats;
    int32_t share;
    int64_t term_us;
};

int standby_create(struct standby **ret_standby, const struct standby_options *options,
                   struct error *error) MUST_CHECK;
void standby_destroy(struct standby *standby); /* NULL is fine */
void standby_start(struct standby *standby);   /* another owns the share; again: nothing */
void standby_stop(struct standby *standby);

#endif
