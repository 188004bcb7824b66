/* session.c: a connection comes up, is lost, comes up again. session_private.h has the picture. */
#include "outbox/pg/session.h"

#include "outbox/pg/failure.h"
#include "outbox/pg/session_private.h"
#include "outbox/pg/sql.h"

#include <assert.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void on_socket(void *data, int fd, unsigned events);

/* Breaking ----------------------------------------------------------------------------------- */

static void close_connection(struct pg_session *session)
{
    loop_fd_remove(session->watch);
    session->watch = NULL;
    PQfinish(session->connection);
    session->connection = NULL;
}

void session_break(struct pg_session *session, const struct error *why)
{
    if (session->connection == NULL)
        return;
    session->broken = true;
    /* "terminating connection due to administrator command" says more than the closed socket. */
    session->broken_why = session->last_words.code < 0 ? session->last_words : *why;
    close_connection(session);
    session->is_listening = false;
    loop_timer_disarm(session->timer);
}

static void rest(struct pg_session *session, bool was_up)
{
    int64_t now_us = loop_now_us(session->loop);
    int64_t pause_us = 0;

    /* A connection that comes up and is lost at once, again and again, deserves longer pauses. */
    if (was_up && now_us - session->up_since_us >= session->backoff.cap_us)
        backoff_reset(&session->backoff);
    if (!session->next_at_once)
        pause_us = backoff_next_us(&session->backoff);
    session->next_at_once = false;
    loop_timer_arm_in(session->timer, pause_us);
}

/* Tells the owner of a break. */
static void settle_break(struct pg_session *session)
{
    bool was_up = session->state == SESSION_UP;
    struct error why = session->broken_why;

    session->broken = false;
    session->state = SESSION_RESTING;
    if (!was_up)
        session->attempts++;
    pipeline_fail_all(session, &why);
    if (session->destroyed)
        return;
    rest(session, was_up);
    if (session->options.on_down != NULL)
        session->options.on_down(session->options.data, session, &why);
}

static void session_free(struct pg_session *session)
{
    pipeline_free(session);
    pg_conninfo_free(session->conninfo);
    free(session);
}

/* Every way in from the loop is between these two. */
static void enter(struct pg_session *session)
{
    session->depth++;
}

static void leave(struct pg_session *session)
{
    while (session->depth == 1 && session->broken && !session->destroyed)
        settle_break(session);
    if (--session->depth == 0 && session->destroyed)
        session_free(session);
}

/* Up ----------------------------------------------------------------------------------------- */

static void lost(struct pg_session *session)
{
    struct error why;

    pipeline_drain(session); /* what came before the end */
    if (session->connection == NULL || session->destroyed)
        return;
    pg_failure_of_connection(session->connection, &why);
    why.retry = RETRY_RECONNECT;
    session_break(session, &why);
}

static void flush(struct pg_session *session)
{
    if (session->connection == NULL || session->destroyed)
        return;
    int left = PQflush(session->connection);
    if (left < 0)
        lost(session);
    else
        /* While the server does not read, it may be waiting for us to read: never only write. */
        loop_fd_want(session->watch, left > 0 ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

/* A silence counts from the moment on at which there is something to be said. */
static void listen_for_answers(struct pg_session *session)
{
    bool waits = session->state == SESSION_UP && session->connection != NULL &&
                 session->options.silence_limit_us > 0 && session->pending.count > 0;
    if (waits && !session->is_listening) {
        session->heard_us = loop_now_us(session->loop);
        loop_timer_arm_in(session->timer, session->options.silence_limit_us);
    }
    session->is_listening = waits;
}

static int read_and_answer(struct pg_session *session)
{
    session->heard_us = loop_now_us(session->loop);
    if (!PQconsumeInput(session->connection)) {
        lost(session);
        return 1;
    }
    int taken = pipeline_drain(session);
    flush(session);
    return taken;
}

/* Decrypted bytes that OpenSSL holds make no descriptor readable. */
static bool tls_holds_bytes(struct pg_session *session)
{
    SSL *tls = PQsslStruct(session->connection, "OpenSSL");
    return tls != NULL && SSL_pending(tls) > 0;
}

static bool is_established(const struct pg_session *session)
{
    return session->connection != NULL && !session->destroyed &&
           (session->state == SESSION_UP || session->state == SESSION_SETTING);
}

static bool before_sleep(void *data)
{
    struct pg_session *session = data;
    bool worked = session->broken;

    enter(session);
    while (is_established(session) && tls_holds_bytes(session)) {
        worked = true;
        read_and_answer(session);
    }
    if (is_established(session)) {
        worked |= pipeline_drain(session) > 0;
        flush(session);
        listen_for_answers(session);
    }
    worked |= session->broken;
    leave(session);
    return worked;
}

/* Connecting --------------------------------------------------------------------------------- */

static int64_t round_up_ms(int64_t us)
{
    return (us + US_PER_MS - 1) / US_PER_MS;
}

static void add_limit(struct pg_params *params, int64_t limit_us)
{
    char text[24];

    if (limit_us > 0)
        snprintf(text, sizeof(text), "%lld", (long long)round_up_ms(limit_us));
    pg_params_text(params, limit_us > 0 ? text : NULL);
}

static void answered_settings(void *data, struct pg_result *result, const struct error *failure)
{
    struct pg_session *session = data;
    (void)result;

    if (failure != NULL) {
        session_break(session, failure);
        return;
    }
    loop_timer_disarm(session->timer);
    session->state = SESSION_UP;
    session->attempts = 0;
    session->up_since_us = loop_now_us(session->loop);
    pg_conninfo_answered(session->conninfo);
    if (session->options.on_up != NULL)
        session->options.on_up(session->options.data, session);
}

static int send_settings(struct pg_session *session, struct error *error)
{
    struct pg_params *params = &session->setting_params;

    pg_params_reset(params);
    add_limit(params, session->options.statement_timeout_us);
    add_limit(params, session->options.lock_timeout_us);
    add_limit(params, session->options.idle_transaction_timeout_us);
    int code = pipeline_send(session, NULL, sql_pg_settings.sql, params, NULL, NULL, error);
    if (code < 0)
        return code;
    return pipeline_sync(session, answered_settings, session, error);
}

static void connected(struct pg_session *session)
{
    struct error why;
    PGconn *connection = session->connection;

    PQsetErrorVerbosity(connection, PQERRORS_DEFAULT);
    pipeline_reset(session);
    session->state = SESSION_SETTING;
    int code = 0;
    if (PQsetnonblocking(connection, 1) != 0 || !PQenterPipelineMode(connection))
        code = pg_failure_of_connection(connection, &why);
    if (code == 0)
        code = loop_fd_add(session->loop, PQsocket(connection), LOOP_READ, on_socket, session,
                           &session->watch, &why);
    if (code == 0)
        code = send_settings(session, &why);
    if (code < 0)
        session_break(session, &why);
    else
        flush(session);
}

/* libpq goes from host to host by itself; each gets the whole time. */
static void limit_host(struct pg_session *session)
{
    char now[sizeof(session->host)];
    const char *host = PQhost(session->connection);
    const char *address = PQhostaddr(session->connection);
    const char *port = PQport(session->connection);

    snprintf(now, sizeof(now), "%s %s %s", host ? host : "", address ? address : "",
             port ? port : "");
    if (strcmp(now, session->host) == 0)
        return;
    memcpy(session->host, now, sizeof(now));
    loop_timer_arm_in(session->timer, session->options.connect_timeout_us);
}

static void connect_on(struct pg_session *session)
{
    struct error why;

    /* libpq may close the socket and open another, with the same number even: watch it anew. */
    loop_fd_remove(session->watch);
    session->watch = NULL;
    PostgresPollingStatusType status = PQconnectPoll(session->connection);
    if (status == PGRES_POLLING_OK) {
        connected(session);
        return;
    }
    int code = 0;
    if (status == PGRES_POLLING_FAILED)
        code = pg_failure_of_connection(session->connection, &why);
    else
        code = loop_fd_add(session->loop, PQsocket(session->connection),
                           status == PGRES_POLLING_READING ? LOOP_READ : LOOP_WRITE, on_socket,
                           session, &session->watch, &why);
    if (code < 0)
        session_break(session, &why);
    else
        limit_host(session);
}

static void note(void *data, const PGresult *result)
{
    struct pg_session *session = data;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    /* What ends a connection that waits for nothing comes as a notice. */
    if (severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0)) {
        pg_failure_of_result(result, &session->last_words);
        session->last_words.retry = RETRY_RECONNECT;
    } else if (session->options.on_notice != NULL && message != NULL) {
        session->noticing = true;
        session->options.on_notice(session->options.data, message);
        session->noticing = false;
    }
}

static void connect_begin(struct pg_session *session)
{
    const char *const *keywords;
    const char *const *values;
    struct error why;

    pg_conninfo_keywords(session->conninfo, &keywords, &values);
    session->state = SESSION_CONNECTING;
    session->host[0] = '\0';
    error_clear(&session->last_words);
    session->connection = PQconnectStartParams(keywords, values, 0);
    int code = 0;
    if (session->connection == NULL) {
        error_set(&session->broken_why, ERROR_NO_MEMORY, RETRY_LATER, "no memory for a connection");
        session->broken = true;
        return;
    }
    if (PQstatus(session->connection) == CONNECTION_BAD) {
        code = pg_failure_of_connection(session->connection, &why);
    } else {
        PQsetErrorVerbosity(session->connection, PQERRORS_VERBOSE); /* failure.h says why */
        PQsetNoticeReceiver(session->connection, note, session);
        code = loop_fd_add(session->loop, PQsocket(session->connection), LOOP_WRITE, on_socket,
                           session, &session->watch, &why);
    }
    if (code < 0) {
        session_break(session, &why);
        return;
    }
    limit_host(session);
}

static void timed_out(struct pg_session *session)
{
    struct error why;
    const char *host = PQhost(session->connection);
    const char *port = PQport(session->connection);

    error_set(&why, ERROR_TIMEOUT, RETRY_RECONNECT, "no answer from %s port %s within %lld ms",
              host ? host : "the server", port ? port : "?",
              (long long)round_up_ms(session->options.connect_timeout_us));
    session->next_at_once = pg_conninfo_next_host(session->conninfo, session->connection);
    session_break(session, &why);
}

/* The timer runs from the first request on that waited, and was not moved by every answer since.
 * This process may have stood still itself: then the answers lie in the socket, and are read. */
static void check_silence(struct pg_session *session)
{
    struct error why;
    int64_t limit_us = session->options.silence_limit_us;
    int64_t quiet_us = loop_now_us(session->loop) - session->heard_us;

    if (!session->is_listening)
        return;
    if (quiet_us >= limit_us && read_and_answer(session) == 0) {
        error_set(&why, ERROR_TIMEOUT, RETRY_RECONNECT,
                  "PostgreSQL has said nothing for %lld ms, and %u requests wait for an answer",
                  (long long)round_up_ms(quiet_us), session->pending.count);
        session_break(session, &why);
        return;
    }
    if (is_established(session))
        loop_timer_arm_in(session->timer, quiet_us < limit_us ? limit_us - quiet_us : limit_us);
}

/* From the loop ------------------------------------------------------------------------------ */

static void on_socket(void *data, int fd, unsigned events)
{
    struct pg_session *session = data;
    (void)fd;
    (void)events; /* reading also finds out about errors, and writing is tried each time */

    enter(session);
    if (session->state == SESSION_CONNECTING)
        connect_on(session);
    else
        read_and_answer(session);
    leave(session);
}

static void on_timer(void *data)
{
    struct pg_session *session = data;

    enter(session);
    if (session->state == SESSION_RESTING)
        connect_begin(session);
    else if (session->connection != NULL && session->state == SESSION_UP)
        check_silence(session);
    else if (session->connection != NULL)
        timed_out(session);
    leave(session);
}

/* For owners --------------------------------------------------------------------------------- */

int pg_session_create(struct pg_session **ret_session, struct loop *loop,
                      const struct pg_session_options *options, struct error *error)
{
    struct pg_session *session = calloc(1, sizeof(*session));
    uint64_t seed;

    if (session == NULL)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for a session");
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
        seed = (uint64_t)clock_wall_us(loop_clock(loop)) ^ (uint64_t)(uintptr_t)session;
    session->loop = loop;
    session->options = *options;
    backoff_init(&session->backoff, options->backoff_base_us, options->backoff_cap_us, seed);
    int code = pg_conninfo_parse(&session->conninfo, options->conninfo, options->application_name,
                                 options->primary_only, error);
    /* The strings were the caller's to lend. */
    session->options.conninfo = session->options.application_name = NULL;
    if (code == 0)
        code = pipeline_create(session, error);
    if (code == 0)
        code = loop_timer_create(loop, on_timer, session, &session->timer, error);
    if (code == 0)
        code = loop_hook_add(loop, before_sleep, session, &session->hook, error);
    if (code < 0) {
        pg_session_destroy(session);
        return code;
    }
    *ret_session = session;
    return 0;
}

void pg_session_start(struct pg_session *session)
{
    assert(session->state == SESSION_IDLE && !session->destroyed);
    connect_begin(session);
}

void pg_session_reconnect(struct pg_session *session, const char *why)
{
    struct error error;

    assert(!session->noticing);
    error_set(&error, ERROR_STATE, RETRY_RECONNECT, "%s", why);
    error_clear(&session->last_words);
    session_break(session, &error);
}

void pg_session_destroy(struct pg_session *session)
{
    struct error why;

    if (session == NULL || session->destroyed)
        return;
    assert(!session->noticing);
    session->destroyed = true;
    close_connection(session);
    if (session->pending.count > 0) {
        error_set(&why, ERROR_STATE, RETRY_RECONNECT, "the session was closed");
        pipeline_fail_all(session, &why);
    }
    loop_timer_destroy(session->timer);
    loop_hook_remove(session->hook);
    if (session->depth == 0)
        session_free(session);
}

bool pg_session_is_up(const struct pg_session *session)
{
    return session->state == SESSION_UP && session->connection != NULL;
}

unsigned pg_session_attempts(const struct pg_session *session)
{
    return session->attempts;
}

int pg_session_backend_pid(const struct pg_session *session)
{
    return session->connection != NULL ? PQbackendPID(session->connection) : 0;
}

int pg_session_server_version(const struct pg_session *session)
{
    return session->connection != NULL ? PQserverVersion(session->connection) : 0;
}

int pg_session_pending(const struct pg_session *session)
{
    return (int)session->pending.count;
}

static int check_up(const struct pg_session *session, struct error *error)
{
    if (session->destroyed || !pg_session_is_up(session))
        return error_set(error, ERROR_STATE, RETRY_RECONNECT, "not connected to PostgreSQL");
    return 0;
}

int pg_session_send(struct pg_session *session, const struct pg_statement *statement,
                    const struct pg_params *params, pg_callback *callback, void *data,
                    struct error *error)
{
    int code = check_up(session, error);
    if (code < 0)
        return code;
    return pipeline_send(session, statement, NULL, params, callback, data, error);
}

int pg_session_send_text(struct pg_session *session, const char *sql, pg_callback *callback,
                         void *data, struct error *error)
{
    int code = check_up(session, error);
    if (code < 0)
        return code;
    return pipeline_send(session, NULL, sql, NULL, callback, data, error);
}

int pg_session_sync(struct pg_session *session, pg_callback *callback, void *data,
                    struct error *error)
{
    int code = check_up(session, error);
    if (code == 0)
        code = pipeline_sync(session, callback, data, error);
    return code;
}
