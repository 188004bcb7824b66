/* lease.h: who owns the share.
 *
 * Ownership is a session advisory lock: it lasts as long as the connection, and a standby waits in
 * its queue, so that it takes over the moment the owner's connection ends. Taking over raises the
 * epoch in the position's row; a relay that lost its connection without noticing finds its writes
 * refused. Publishing needs more than the lock: fence.h. A standby that cannot publish itself does
 * not queue for the lock (an owner resigns to whoever queues); it only looks whether it is free.
 *
 * A share that the log does not have, or has no more, is waited for: `sagapost outbox shares` may
 * make it. Its lock is held meanwhile.
 *
 * Before anything else the server is asked who it is: the position's snapshots mean something on
 * one server and in one database alone. */
#ifndef SAGAPOST_RELAY_LEASE_H
#define SAGAPOST_RELAY_LEASE_H

#include "outbox/pg/session.h"
#include "outbox/relay/reading/windows.h"

/* The newest migration of part outbox that this program needs. */
#define LEASE_MIGRATION_NEEDED 18

/* A standby's wait for the lock holds a snapshot, which keeps vacuum from removing rows: it is
 * ended and begun again. Nothing that is asked on the relay's connection takes longer. */
#define LEASE_WAIT_MS 60000

struct lease;

enum lease_state {
    LEASE_OFF,     /* no connection */
    LEASE_ASKING,  /* who is the server */
    LEASE_STANDBY, /* waits for the lock */
    LEASE_TAKING,  /* has the lock, reads the position */
    LEASE_OWNER,
};

/* Who the server is: its answer to sql/hello.sql. */
struct lease_server {
    int64_t system_identifier, database_oid, newest_migration;
    bool in_recovery;
};

/* What on_owner gets: the persisted position. */
struct lease_position {
    struct position position; /* snapshots are the caller's to hold */
    char place[32];           /* of the row: its ctid */
    int64_t epoch;
};

struct lease_options {
    struct loop *loop;
    struct pg_session *session;
    int32_t share;
    const char *relay; /* who we are, for people: outbox.position.relay */
    int64_t term_us;
    bool (*can_publish)(void *data); /* RabbitMQ can be reached */
    void (*on_standby)(void *data);  /* another owns the share */
    void (*on_owner)(void *data, const struct lease_position *at);
    /* RETRY_NEVER: no retry can help. */
    void (*on_failure)(void *data, const struct error *failure);
    void *data;
};

int lease_create(struct lease **ret_lease, const struct lease_options *options,
                 struct error *error) MUST_CHECK;
void lease_destroy(struct lease *lease); /* NULL is fine */
void lease_start(struct lease *lease);   /* the session has a connection */
void lease_stop(struct lease *lease);    /* it has none any more */
enum lease_state lease_state(const struct lease *lease);
const struct lease_server *lease_server(const struct lease *lease); /* as it said at the start */
int64_t lease_epoch(const struct lease *lease);                     /* 0: not the owner */

/* Pure: whether the relay can work there. */
int lease_check_server(const struct lease_server *server, struct error *error) MUST_CHECK;
/* And whether the position is of this server. */
int lease_check_identity(const struct lease_server *server, int64_t system_identifier,
                         int64_t database_oid, struct error *error) MUST_CHECK;

#endif
