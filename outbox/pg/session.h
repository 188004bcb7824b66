/* session.h: one connection to PostgreSQL on the loop: connects, reconnects, pipelines statements,
 * hands notifications on.
 *
 * Everything is non-blocking. pg_session_send queues a statement (prepared on first use on each
 * connection) and its callback; pg_session_sync ends a group. Inside libpq's pipeline mode a group
 * up to a sync is one implicit transaction unless it contains BEGIN/COMMIT itself; when a statement
 * of a group fails, its callback gets the error and those of the rest of the group get ERROR_STATE
 * with `pipeline_aborted`. A failed explicit transaction wants ROLLBACK in the next group
 * (pg_session_send_text).
 *
 * Callbacks come in the order sent, exactly one per request, also when the connection is lost
 * (RETRY_RECONNECT: whether a COMMIT took place is then unknown) and when the session is destroyed.
 * A callback may send more. After the loss of a connection, and after all callbacks, on_down is
 * called once; the session reconnects by itself with backoff and jitter and calls on_up. Nothing
 * survives from one connection to the next: what was not answered is the owner's to do again.
 *
 * A multi-host conninfo works; with primary_only, hosts that are standbys are passed over. Settings
 * of each connection: application_name, search_path '' , statement_timeout, lock_timeout,
 * idle_in_transaction_session_timeout, client_encoding UTF8, DateStyle ISO, TCP keepalives and
 * tcp_user_timeout. */
#ifndef SAGAPOST_PG_SESSION_H
#define SAGAPOST_PG_SESSION_H

#include "outbox/pg/params.h"
#include "outbox/pg/result.h"
#include "outbox/runtime/loop.h"

struct pg_session;

/* A statement is static; its address is its identity. `name` is unique in the program: it names the
 * prepared statement. */
struct pg_statement {
    const char *name;
    const char *sql;
};

struct pg_session_options {
    const char *conninfo;
    const char *application_name;
    bool primary_only;
    int64_t connect_timeout_us;   /* per attempt */
    int64_t statement_timeout_us; /* 0: none */
    int64_t lock_timeout_us;      /* 0: none */
    int64_t idle_transaction_timeout_us;
    int64_t backoff_base_us, backoff_cap_us;
    void (*on_up)(void *data, struct pg_session *session);
    void (*on_down)(void *data, struct pg_session *session,
                    const struct error
                        *why); /* also for each failed attempt: `attempts` in pg_session_attempts */
    void (*on_notify)(void *data, struct pg_session *session, const char *channel,
                      const char *payload);
    void *data;
};

/* `result` is NULL when `failure` is set. Borrowed: see pg_result_keep. */
typedef void pg_callback(void *data, struct pg_result *result, const struct error *failure);

int pg_session_create(struct pg_session **ret_session, struct loop *loop,
                      const struct pg_session_options *options, struct error *error) MUST_CHECK;
void pg_session_start(struct pg_session *session);
void pg_session_reconnect(struct pg_session *session,
                          const char *why);          /* drops the connection now */
void pg_session_destroy(struct pg_session *session); /* NULL is fine */
bool pg_session_is_up(const struct pg_session *session);
unsigned pg_session_attempts(
    const struct pg_session *session); /* failed attempts since the last success */
int pg_session_backend_pid(const struct pg_session *session);
int pg_session_server_version(const struct pg_session *session); /* as 150004 */
int pg_session_pending(const struct pg_session *session);        /* requests without an answer */

/* `params` may be NULL; they are copied. Fails with ERROR_STATE when the session is not up, and
 * with ERROR_LIMIT for parameters over the limit; then no callback comes. */
int pg_session_send(struct pg_session *session, const struct pg_statement *statement,
                    const struct pg_params *params, pg_callback *callback, void *data,
                    struct error *error) MUST_CHECK;
/* An unprepared statement, for BEGIN, COMMIT, ROLLBACK, SAVEPOINT, LISTEN, SET. callback may be
 * NULL: the error still aborts the group. */
int pg_session_send_text(struct pg_session *session, const char *sql, pg_callback *callback,
                         void *data, struct error *error) MUST_CHECK;
/* Ends the group and flushes. callback (may be NULL) comes when the server has answered the whole
 * group. */
int pg_session_sync(struct pg_session *session, pg_callback *callback, void *data,
                    struct error *error) MUST_CHECK;

#endif
