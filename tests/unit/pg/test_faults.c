/* Every call of libpq fails once, at every place of a scenario where it is made: the calls go
 * through the linker's --wrap to the real libpq, except the one whose turn it is. Whatever happens,
 * each request gets one answer, in order (pg_test.c asserts it), and the session comes up again.
 * Needs a server (SAGAPOST_TEST_POSTGRES). */
#include "tests/unit/pg/pg_test.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

enum fault {
    FAULT_NONE,
    START_NULL,
    START_NO_MEMORY,
    POLL_FAILED,
    SET_NONBLOCKING,
    ENTER_PIPELINE,
    SEND_PREPARE,
    SEND_PREPARED,
    SEND_PARAMS,
    PIPELINE_SYNC,
    FLUSH_FAILED,
    FLUSH_LATER,
    CONSUME_FAILED,
    RESULT_EXTRA_NULL,
    RESULT_MANY_NULLS,
    RESULT_COPY,
    RESULT_SYNC,
    RESULT_LOST,
    RESULT_DOUBLE,
    FAULT_COUNT,
};

static enum fault armed;
static int calls_left; /* the fault comes when this reaches 0 */
static bool struck;

/* Is it this call's turn? */
static bool strikes(enum fault fault)
{
    if (armed != fault || struck || --calls_left > 0)
        return false;
    struck = true;
    return true;
}

#define WRAP(type, name, arguments)                                                                \
    type __real_##name arguments;                                                                  \
    type __wrap_##name arguments;                                                                  \
    type __wrap_##name arguments

WRAP(PGconn *, PQconnectStartParams,
     (const char *const *keywords, const char *const *values, int expand_dbname))
{
    if (strikes(START_NULL))
        return NULL;
    if (strikes(START_NO_MEMORY)) {
        const char *const none[] = {"port", NULL};
        const char *const bad[] = {"not a port", NULL};
        return __real_PQconnectStartParams(none, bad, 0); /* CONNECTION_BAD from the start */
    }
    return __real_PQconnectStartParams(keywords, values, expand_dbname);
}

WRAP(PostgresPollingStatusType, PQconnectPoll, (PGconn * connection))
{
    if (strikes(POLL_FAILED))
        return PGRES_POLLING_FAILED;
    return __real_PQconnectPoll(connection);
}

WRAP(int, PQsetnonblocking, (PGconn * connection, int on))
{
    return strikes(SET_NONBLOCKING) ? -1 : __real_PQsetnonblocking(connection, on);
}

WRAP(int, PQenterPipelineMode, (PGconn * connection))
{
    return strikes(ENTER_PIPELINE) ? 0 : __real_PQenterPipelineMode(connection);
}

WRAP(int, PQsendPrepare,
     (PGconn * connection, const char *name, const char *sql, int count, const Oid *types))
{
    return strikes(SEND_PREPARE) ? 0 : __real_PQsendPrepare(connection, name, sql, count, types);
}

WRAP(int, PQsendQueryPrepared,
     (PGconn * connection, const char *name, int count, const char *const *values,
      const int *lengths, const int *formats, int result_format))
{
    if (strikes(SEND_PREPARED))
        return 0;
    return __real_PQsendQueryPrepared(connection, name, count, values, lengths, formats,
                                      result_format);
}

WRAP(int, PQsendQueryParams,
     (PGconn * connection, const char *sql, int count, const Oid *types, const char *const *values,
      const int *lengths, const int *formats, int result_format))
{
    if (strikes(SEND_PARAMS))
        return 0;
    return __real_PQsendQueryParams(connection, sql, count, types, values, lengths, formats,
                                    result_format);
}

WRAP(int, PQpipelineSync, (PGconn * connection))
{
    return strikes(PIPELINE_SYNC) ? 0 : __real_PQpipelineSync(connection);
}

WRAP(int, PQflush, (PGconn * connection))
{
    if (strikes(FLUSH_FAILED))
        return -1;
    return strikes(FLUSH_LATER) ? 1 : __real_PQflush(connection);
}

WRAP(int, PQconsumeInput, (PGconn * connection))
{
    return strikes(CONSUME_FAILED) ? 0 : __real_PQconsumeInput(connection);
}

static PGresult *instead(PGconn *connection, ExecStatusType status, PGresult *(*real)(PGconn *))
{
    PQclear(real(connection));
    return PQmakeEmptyPGresult(NULL, status);
}

WRAP(PGresult *, PQgetResult, (PGconn * connection))
{
    static int nulls;
    static ExecStatusType again;
    if (strikes(RESULT_MANY_NULLS))
        nulls = 10;
    if (nulls > 0) {
        nulls--;
        return NULL;
    }
    if (again != 0) {
        ExecStatusType status = again;
        again = 0;
        return PQmakeEmptyPGresult(NULL, status);
    }
    if (strikes(RESULT_EXTRA_NULL))
        return NULL;
    if (strikes(RESULT_COPY))
        return instead(connection, PGRES_COPY_IN, __real_PQgetResult);
    if (strikes(RESULT_SYNC))
        return instead(connection, PGRES_PIPELINE_SYNC, __real_PQgetResult);
    if (strikes(RESULT_LOST))
        return instead(connection, PGRES_FATAL_ERROR, __real_PQgetResult);
    PGresult *result = __real_PQgetResult(connection);
    /* In place of the NULL that is due; where none is, it would pass for the next answer. */
    if (result != NULL && PQresultStatus(result) != PGRES_PIPELINE_SYNC && strikes(RESULT_DOUBLE))
        again = PGRES_TUPLES_OK;
    return result;
}

/* The scenario ------------------------------------------------------------------------------- */

/* Groups that work, one that fails in the middle, one big enough to be sent in pieces. */
static void ask_all(struct fixture *fixture)
{
    ask_int(fixture, &test_add_one, 1, true);
    ask_int(fixture, &test_add_one, 2, true);
    ask_sync(fixture);
    ask_text(fixture, "begin");
    ask_int(fixture, &test_add_one, 3, true);
    ask_text(fixture, "commit");
    ask_sync(fixture);
    ask_text(fixture, "select 1/0");
    ask_int(fixture, &test_add_one, 4, true);
    ask_sync(fixture);
    ask_text(fixture, "notify sagapost_test");
    ask_sync(fixture);
}

/* Returns false when the fault found no place to strike: `turn` is past the last one. */
static bool run(enum fault fault, int turn)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    fixture->tolerant = true;
    armed = fault;
    calls_left = turn;
    struck = false;
    fixture_start(fixture, test_conninfo());
    turn_until(fixture, fixture->ups > 0);
    ask_all(fixture);
    turn_until(fixture, fixture->answered == fixture->asked && pg_session_is_up(fixture->session));
    armed = FAULT_NONE;
    /* It works again, and in step. */
    int number;
    do {
        turn_until(fixture, pg_session_is_up(fixture->session));
        number = ask_int(fixture, &test_add_one, 41, true);
        ask_sync(fixture);
        turn_until(fixture, fixture->answered == fixture->asked);
    } while (number < 0 || fixture->answers[number].failure.code < 0);
    assert_int_equal(pg_int(fixture->answers[number].result, 0, 0), 42);
    fixture_stop(fixture);
    free(fixture);
    return struck;
}

static void every_call_fails_at_every_place(void **state)
{
    (void)state;
    for (enum fault fault = FAULT_NONE + 1; fault < FAULT_COUNT; fault++) {
        int turn = 1;
        while (run(fault, turn))
            turn++;
        print_message("fault %d: %d places\n", fault, turn - 1);
        assert_true(turn > 1);   /* it did strike */
        assert_true(turn < 500); /* and the scenario ends */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_fails_at_every_place),
    };
    if (test_conninfo() == NULL)
        return TEST_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
