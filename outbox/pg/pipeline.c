/* pipeline.c: requests go out, answers come in, in libpq's pipeline mode.
 *
 * The wire and our ring run in step. For a statement libpq gives one result and then NULL; for one
 * that is prepared first, the same before it for its Parse; for a sync one result without a NULL.
 * What does not follow that grammar is a broken connection.
 *
 * One exception: where a command is sent between a failure and its NULL, as a callback may, libpq
 * (15; pqAppendCmdQueueEntry in an aborted pipeline) goes on to the next answer without that NULL.
 */
#include "outbox/pg/failure.h"
#include "outbox/pg/lend.h"
#include "outbox/pg/session_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define RING_MASK ((unsigned)PG_SESSION_PENDING_MAX - 1)
static_assert((PG_SESSION_PENDING_MAX & (PG_SESSION_PENDING_MAX - 1)) == 0, "the ring is masked");

/* Unexpected NULLs in a row that are put up with: libpq gives one where it is between commands. */
#define NULLS_MAX 3

/* The ring ----------------------------------------------------------------------------------- */

int pipeline_create(struct pg_session *session, struct error *error)
{
    session->pending.items = calloc(PG_SESSION_PENDING_MAX, sizeof(struct request));
    if (session->pending.items == NULL)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for pending requests");
    pg_params_init(&session->setting_params);
    return 0;
}

void pipeline_free(struct pg_session *session)
{
    free(session->pending.items);
    pg_params_free(&session->setting_params);
}

void pipeline_reset(struct pg_session *session)
{
    assert(session->pending.count == 0);
    prepared_clear(&session->prepared);
    session->group = 0;
    session->null_due = session->null_possible = false;
    session->nulls = 0;
    error_clear(&session->group_failure);
    error_clear(&session->last_words);
}

static struct request *ring_front(struct request_ring *ring)
{
    assert(ring->count > 0);
    return &ring->items[ring->first & RING_MASK];
}

static struct request ring_pop(struct request_ring *ring)
{
    struct request request = *ring_front(ring);
    ring->first++;
    ring->count--;
    return request;
}

static void ring_push(struct request_ring *ring, const struct request *request)
{
    assert(ring->count < PG_SESSION_PENDING_MAX);
    ring->items[(ring->first + ring->count++) & RING_MASK] = *request;
}

/* Out ---------------------------------------------------------------------------------------- */

static int send_failed(struct pg_session *session, struct error *error)
{
    struct error why;
    pg_failure_of_connection(session->connection, &why);
    why.retry = RETRY_RECONNECT;
    session_break(session, &why);
    if (error != NULL)
        *error = why;
    return why.code;
}

static int check_room(const struct pg_session *session, enum request_kind kind, struct error *error)
{
    assert(!session->noticing);
    if (session->connection == NULL || session->broken)
        return error_set(error, ERROR_STATE, RETRY_RECONNECT, "not connected to PostgreSQL");
    /* The last place is for the sync, without which no answer would ever come. */
    unsigned room = PG_SESSION_PENDING_MAX - (kind == REQUEST_SYNC ? 0 : 1);
    if (session->pending.count >= room)
        return error_set(error, ERROR_LIMIT, RETRY_LATER, "%d requests wait for an answer",
                         PG_SESSION_PENDING_MAX);
    return 0;
}

int pipeline_send(struct pg_session *session, const struct pg_statement *statement,
                  const char *text, const struct pg_params *params, pg_callback *callback,
                  void *data, struct error *error)
{
    PGconn *connection = session->connection;
    struct request request = {.callback = callback, .data = data, .preparing = -1};
    const char *values[PG_PARAMS_MAX];
    enum prepared_way way = PREPARED_WITHOUT;
    int count = params != NULL ? params->count : 0;
    int slot = -1;
    int sent = 1;

    int code = check_room(session, REQUEST_STATEMENT, error);
    if (code == 0)
        code = pg_params_values(params, values, error);
    if (code < 0)
        return code;
    if (statement != NULL) {
        text = statement->sql;
        way = prepared_choose(&session->prepared, statement, params, session->group, &slot);
    }
    if (way == PREPARED_PREPARE) {
        request.preparing = slot;
        sent =
            PQsendPrepare(connection, statement->name, text, count, params ? params->types : NULL);
    }
    if (sent && way == PREPARED_WITHOUT)
        sent =
            PQsendQueryParams(connection, text, count, params ? params->types : NULL, values,
                              params ? params->lengths : NULL, params ? params->formats : NULL, 1);
    else if (sent)
        sent = PQsendQueryPrepared(connection, statement->name, count, values,
                                   params ? params->lengths : NULL, params ? params->formats : NULL,
                                   1);
    if (!sent)
        return send_failed(session, error);
    ring_push(&session->pending, &request);
    return 0;
}

int pipeline_sync(struct pg_session *session, pg_callback *callback, void *data,
                  struct error *error)
{
    int code = check_room(session, REQUEST_SYNC, error);
    if (code < 0)
        return code;
    if (!PQpipelineSync(session->connection))
        return send_failed(session, error);
    ring_push(&session->pending,
              &(struct request){
                  .callback = callback, .data = data, .kind = REQUEST_SYNC, .preparing = -1});
    session->group++;
    return 0;
}

/* In ----------------------------------------------------------------------------------------- */

static bool is_alive(const struct pg_session *session)
{
    return !session->destroyed && !session->broken && session->connection != NULL;
}

static void call(const struct request *request, struct pg_result *result,
                 const struct error *failure)
{
    if (request->callback != NULL)
        request->callback(request->data, result, failure);
}

static void break_protocol(struct pg_session *session, const char *what)
{
    struct error why;
    error_set(&why, ERROR_PROTOCOL, RETRY_RECONNECT, "libpq: %s", what);
    session_break(session, &why);
}

static void take_null(struct pg_session *session)
{
    if (session->null_due || session->null_possible) {
        session->null_due = session->null_possible = false;
        session->nulls = 0;
    } else if (++session->nulls > NULLS_MAX) {
        break_protocol(session, "no result where one is due");
    }
}

static void take_sync(struct pg_session *session)
{
    if (session->null_due || ring_front(&session->pending)->kind != REQUEST_SYNC) {
        break_protocol(session, "a sync where a result is due");
        return;
    }
    struct request request = ring_pop(&session->pending);
    struct error failure = session->group_failure;
    error_clear(&session->group_failure);
    call(&request, NULL, failure.code < 0 ? &failure : NULL);
}

/* A statement, or its Parse, failed. */
static void take_failure(struct pg_session *session, const PGresult *result)
{
    struct request *front = ring_front(&session->pending);
    struct error failure;

    pg_failure_of_result(result, &failure);
    if (failure.sqlstate[0] == '\0') {
        session_break(session, &failure); /* libpq's word: nothing more will come */
        return;
    }
    if (session->group_failure.code == 0)
        session->group_failure = failure;
    if (front->preparing >= 0) {
        prepared_answered(&session->prepared, front->preparing, false);
        front->preparing = -1;
        front->parse_refused = true;
    } else {
        struct request request = ring_pop(&session->pending);
        call(&request, NULL, &failure);
    }
    if (failure.retry == RETRY_RECONNECT && is_alive(session))
        session_break(session, &failure);
}

static void take_aborted(struct pg_session *session)
{
    struct request *front = ring_front(&session->pending);
    const struct error *first = &session->group_failure;
    struct error failure;

    if (front->preparing >= 0) {
        prepared_answered(&session->prepared, front->preparing, false);
        front->preparing = -1;
        return;
    }
    struct request request = ring_pop(&session->pending);
    if (request.parse_refused) {
        failure = *first;
    } else {
        error_set(&failure, ERROR_STATE, first->code < 0 ? first->retry : RETRY_BUG,
                  "pipeline_aborted: an earlier statement of the group failed: %s", first->message);
        memcpy(failure.sqlstate, first->sqlstate, sizeof(failure.sqlstate));
    }
    call(&request, NULL, &failure);
}

static void take_rows(struct pg_session *session, PGresult *result)
{
    struct request *front = ring_front(&session->pending);

    if (front->preparing >= 0) {
        prepared_answered(&session->prepared, front->preparing, true);
        front->preparing = -1;
        PQclear(result);
        return;
    }
    struct request request = ring_pop(&session->pending);
    pg_result_lend(result);
    call(&request, result, NULL);
    pg_result_lend_end(result);
}

static void take_result(struct pg_session *session, PGresult *result)
{
    session->null_possible = false;
    if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
        take_sync(session);
        PQclear(result);
        return;
    }
    if (session->null_due || ring_front(&session->pending)->kind != REQUEST_STATEMENT) {
        /* The last thing libpq says of a dead connection comes where it likes. */
        struct error why;
        if (PQresultStatus(result) == PGRES_FATAL_ERROR && pg_failure_of_result(result, &why) < 0)
            session_break(session, &why);
        else
            break_protocol(session, "a result where none is due");
        PQclear(result);
        return;
    }
    session->null_possible = PQresultStatus(result) == PGRES_PIPELINE_ABORTED ||
                             PQresultStatus(result) == PGRES_FATAL_ERROR;
    session->null_due = !session->null_possible;
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        take_rows(session, result);
        return;
    case PGRES_PIPELINE_ABORTED:
        take_aborted(session);
        break;
    case PGRES_FATAL_ERROR:
        take_failure(session, result);
        break;
    default: /* COPY has no place in a pipeline */
        break_protocol(session, PQresStatus(PQresultStatus(result)));
        break;
    }
    PQclear(result);
}

static int drain_notifications(struct pg_session *session)
{
    int taken = 0;
    PGnotify *notify;

    while (is_alive(session) && (notify = PQnotifies(session->connection)) != NULL) {
        taken++;
        if (session->options.on_notify != NULL)
            session->options.on_notify(session->options.data, session, notify->relname,
                                       notify->extra);
        PQfreemem(notify);
    }
    return taken;
}

int pipeline_drain(struct pg_session *session)
{
    int taken = 0;

    while (is_alive(session) && session->pending.count > 0) {
        /* Once the socket is closed PQgetResult cannot wait for it: it gives what came before the
         * end (the answer to a COMMIT, say), and then the reason. */
        if (PQisBusy(session->connection) && PQsocket(session->connection) >= 0)
            break;
        PGresult *result = PQgetResult(session->connection);
        taken++;
        if (result == NULL)
            take_null(session);
        else
            take_result(session, result);
    }
    return taken + drain_notifications(session);
}

void pipeline_fail_all(struct pg_session *session, const struct error *why)
{
    struct error failure = *why;

    failure.retry = RETRY_RECONNECT;
    while (session->pending.count > 0) {
        struct request request = ring_pop(&session->pending);
        call(&request, NULL, &failure);
    }
}
