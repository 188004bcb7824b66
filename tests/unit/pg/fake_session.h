/* fake_session.h: a session to PostgreSQL that is none. What the code under test sends is kept
 * until the test answers it, or says how it failed; so every answer, and the loss of the connection
 * between any two, can be had without a server.
 *
 *     fake_session_start();
 *     ghosts_create(&ghosts, fake_session(), ...);
 *     ghosts_look(ghosts);
 *     fake_answer("relay_timeline", fake_row(fake_result("i"), 2));
 *     fake_loses_connection();
 *
 * The linker sends calls of pg_session_* here (--wrap, see meson.build). There is one fake; a
 * session that the code creates by itself is that one too, and is up when the test says so.
 * Requests are answered in the order sent, as by the real one, each once; asserted. */
#ifndef SAGAPOST_TESTS_PG_FAKE_SESSION_H
#define SAGAPOST_TESTS_PG_FAKE_SESSION_H

#include "outbox/pg/session.h"

/* Forgets everything; the session is up. */
void fake_session_start(void);
/* Frees it; what was sent and not answered is forgotten. */
void fake_session_stop(void);
struct pg_session *fake_session(void);

/* The oldest request that is not answered: its statement's name, or its text, "sync" for a sync; ""
 * when there is none. Syncs without a callback are passed over. */
const char *fake_asked(void);
/* Its parameter $1, $2, ...: as text whatever its type, "null" for NULL, {a,b} for an array. */
const char *fake_param(int number);

/* Answer the oldest request, which must be `name`. `result` is freed; NULL for a sync. A refusal
 * ends its group: what follows up to the sync gets ERROR_STATE, the sync the refusal. */
void fake_answer(const char *name, struct pg_result *result);
void fake_refuse(const char *name, enum error_retry retry, const char *sqlstate);
/* The same, and the connection is lost before more is heard; see fake_loses_connection. */
void fake_refuse_and_lose(const char *name, enum error_retry retry, const char *sqlstate);
/* All that is open fails: RETRY_RECONNECT. The session is down until fake_session_up. */
void fake_loses_connection(void);
void fake_session_up(bool up);
/* The nth send from now on (1: the next; syncs count) fails at once with this class; 0: none does.
 * With RETRY_RECONNECT the session is down from there on. */
void fake_session_send_fails(int nth, enum error_code code, enum error_retry retry);
bool fake_session_send_failed(void); /* it has come to that */
bool fake_session_is_up(void);
/* Why the code asked for a new connection; NULL: it did not since the session was up. */
const char *fake_reconnect_asked(void);

/* What pg_session_create got last; `creations_fail`: ERROR_NO_MEMORY. */
extern struct pg_session_options fake_session_options;
extern bool fake_session_creations_fail;
extern unsigned fake_session_attempts_failed; /* while it is down; 1 */
extern int fake_sessions_open;                /* created and not destroyed */

/* A result of no rows with these columns, a letter each: b bool, i integer, I bigint, t text,
 * u uuid, T timestamptz, n bigint that is NULL, N timestamptz that is NULL. */
struct pg_result *fake_result(const char *types);
/* Adds a row and gives `result` back. Values as the letters say: int, int, int64_t, const char *
 * (NULL: NULL), const struct uuid *, int64_t (since 1970); none for n and N. */
struct pg_result *fake_row(struct pg_result *result, ...);

#endif
