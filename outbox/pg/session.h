/* session.h: one connection to PostgreSQL on the loop: connects, reconnects, pipelines statements,
 * hands notifications on.
 *
 *     pg_session_send_text(session, "begin", NULL, NULL, error);
 *     pg_session_send(session, &sql_relay_position_write, &params, on_written, relay, error);
 *     pg_session_send_text(session, "commit", NULL, NULL, error);
 *     pg_session_sync(session, on_committed, relay, error);
 *
 * Everything is non-blocking, but for the look-up of a host's name while connecting (libpq asks
 * the system's resolver; `hostaddr` avoids it). pg_session_send queues a statement (prepared on
 * first use on each connection) and its callback; pg_session_sync ends a group. Inside libpq's
 * pipeline mode a group up to a sync is one implicit transaction unless it contains BEGIN/COMMIT
 * itself; when a statement of a group fails, its callback gets the error and those of the rest of
 * the group get ERROR_STATE with `pipeline_aborted` and the retry class of the first. The sync's
 * callback gets the first failure of its group, so a caller that only wants to know whether all of
 * it worked looks there. A failed explicit transaction wants ROLLBACK in the next group
 * (pg_session_send_text).
 *
 * Callbacks come in the order sent, exactly one per request, also when the connection is lost
 * (RETRY_RECONNECT: whether a COMMIT took place is then unknown) and when the session is destroyed.
 * They come from the loop and from pg_session_destroy, never from within another function here. A
 * callback may send more, reconnect and destroy. After the loss of a connection, and after all
 * callbacks, on_down is called once; the session reconnects by itself with backoff and jitter and
 * calls on_up. Nothing survives from one connection to the next: what was not answered is the
 * owner's to do again. After pg_session_destroy on_down is not called.
 *
 * A statement that fails with class RETRY_RECONNECT (the server shuts down, is read-only by now, a
 * plan is stale) makes the session drop the connection by itself, after the callback.
 *
 * A server whose kernel answers while it says nothing itself (a process that is stopped, a disk
 * that hangs, a cable behind a proxy) is no lost connection to TCP. With silence_limit the session
 * gives up one that has said nothing for so long while requests wait for an answer: ERROR_TIMEOUT.
 *
 * A multi-host conninfo works, also when a host stays silent: each gets connect_timeout. With
 * primary_only, hosts that are standbys are passed over. Settings of each connection: search_path
 * '', read committed, DateStyle ISO, client_encoding UTF8, standard_conforming_strings; and, unless
 * the user's conninfo says otherwise: application_name, statement_timeout, lock_timeout,
 * idle_in_transaction_session_timeout, jit off, client_connection_check_interval 1 s, TCP
 * keepalives and tcp_user_timeout 20 s. TLS is as libpq's sslmode says. */
#ifndef SAGAPOST_PG_SESSION_H
#define SAGAPOST_PG_SESSION_H

#include "outbox/pg/params.h"
#include "outbox/pg/result.h"
#include "outbox/runtime/loop.h"

struct pg_session;

#define PG_SESSION_PENDING_MAX 4096 /* requests without an answer, syncs included */

/* A statement is static, made from a .sql file by embed.py. `name` is unique in the program: it
 * names the prepared statement. */
struct pg_statement {
    const char *name;
    const char *sql;
};

struct pg_session_options {
    const char *conninfo;
    const char *application_name;
    bool primary_only;
    int64_t connect_timeout_us;   /* per attempt */
    int64_t statement_timeout_us; /* 0: as the server has it; limits round up to milliseconds */
    int64_t lock_timeout_us;
    int64_t idle_transaction_timeout_us;
    int64_t silence_limit_us; /* longer than any statement may run; 0: none */
    int64_t backoff_base_us, backoff_cap_us;
    void (*on_up)(void *data, struct pg_session *session);
    void (*on_down)(
        void *data, struct pg_session *session,
        const struct error *why); /* also for each failed attempt: see pg_session_attempts */
    void (*on_notify)(void *data, struct pg_session *session, const char *channel,
                      const char *payload);
    void (*on_notice)(void *data,
                      const char *message); /* WARNING, NOTICE; may only note it; may be NULL */
    void *data;
};

/* `result` is NULL when `failure` is set. Borrowed: see pg_result_keep. */
typedef void pg_callback(void *data, struct pg_result *result, const struct error *failure);

int pg_session_create(struct pg_session **ret_session, struct loop *loop,
                      const struct pg_session_options *options, struct error *error) MUST_CHECK;
void pg_session_start(struct pg_session *session);
/* Drops the connection now; callbacks and on_down come from the loop. Nothing when there is none.
 */
void pg_session_reconnect(struct pg_session *session, const char *why);
void pg_session_destroy(struct pg_session *session); /* NULL is fine */
bool pg_session_is_up(const struct pg_session *session);
unsigned pg_session_attempts(
    const struct pg_session *session); /* failed attempts since the last success */
int pg_session_backend_pid(const struct pg_session *session);
int pg_session_server_version(const struct pg_session *session); /* as 150004 */
int pg_session_pending(const struct pg_session *session);        /* requests without an answer */

/* `params` may be NULL; they are copied. `callback` may be NULL: the error still aborts the group.
 * Fails with ERROR_STATE when the session is not up, with ERROR_LIMIT for parameters over the limit
 * and for more than PG_SESSION_PENDING_MAX requests, and with RETRY_RECONNECT when the connection
 * turns out to be gone; then no callback comes. */
int pg_session_send(struct pg_session *session, const struct pg_statement *statement,
                    const struct pg_params *params, pg_callback *callback, void *data,
                    struct error *error) MUST_CHECK;
/* An unprepared statement, for BEGIN, COMMIT, ROLLBACK, SAVEPOINT, LISTEN, SET. */
int pg_session_send_text(struct pg_session *session, const char *sql, pg_callback *callback,
                         void *data, struct error *error) MUST_CHECK;
/* Ends the group and flushes. callback (may be NULL) comes when the server has answered the whole
 * group, with the group's first failure, or with neither result nor failure. */
int pg_session_sync(struct pg_session *session, pg_callback *callback, void *data,
                    struct error *error) MUST_CHECK;

#endif
