/* The session that loses its connection, is told to reconnect, is destroyed in the midst of things,
 * or gets no connection at all. Needs a server (SAGAPOST_TEST_POSTGRES). */
#include "tests/unit/pg/pg_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Losing ------------------------------------------------------------------------------------- */

static void terminate(struct fixture *fixture)
{
    char sql[100];
    snprintf(sql, sizeof(sql), "select pg_terminate_backend(%d)",
             pg_session_backend_pid(fixture->session));
    aside(sql);
}

/* A server that is ended before it has begun with a request says so in answer to another. */
static void wait_until_it_sleeps(struct fixture *fixture)
{
    char sql[300];
    snprintf(sql, sizeof(sql),
             "do $$ begin for i in 1 .. 6000 loop"
             " perform from pg_stat_activity where pid = %d and wait_event = 'PgSleep';"
             " if found then return; end if;"
             " perform pg_stat_clear_snapshot(), pg_sleep(0.01);"
             " end loop; raise 'it does not sleep'; end $$",
             pg_session_backend_pid(fixture->session));
    aside(sql);
}

static void terminated_while_requests_are_open(void **state)
{
    struct fixture *fixture = *state;
    ask_int(fixture, &test_add_one, 1, true); /* 0 */
    ask_sync(fixture);                        /* 1 */
    ask_text(fixture, "begin");
    ask_text(fixture, "select pg_sleep(60)"); /* 3 */
    ask_text(fixture, "commit");              /* 4: whether it took place is unknown */
    ask_sync(fixture);
    turn_until(fixture,
               fixture->answered == 2); /* that of BEGIN waits on the server for the group */
    wait_until_it_sleeps(fixture);
    terminate(fixture);
    turn_until(fixture, fixture->ups == 2);
    assert_int_equal(fixture->answered, 6);
    assert_int_equal(fixture->downs, 1);
    assert_string_equal(fixture->answers[3].failure.sqlstate, "57P01");
    for (int i = 3; i < 6; i++)
        assert_int_equal(fixture->answers[i].failure.retry, RETRY_RECONNECT);
    assert_string_equal(fixture->why.sqlstate, "57P01");
    /* The new connection knows nothing of the old one's prepared statements. */
    ask_int(fixture, &test_add_one, 41, true);
    int last = ask_sync(fixture);
    turn_until(fixture, fixture->answered > last);
    assert_int_equal(pg_int(fixture->answers[6].result, 0, 0), 42);
}

static void terminated_while_idle(void **state)
{
    struct fixture *fixture = *state;
    terminate(fixture);
    turn_until(fixture, fixture->ups == 2);
    assert_int_equal(fixture->downs, 1);
    assert_string_equal(fixture->why.sqlstate, "57P01"); /* it comes as a notice */
    assert_int_equal(fixture->notices, 0);
}

static void idle_in_transaction_is_ended(void **state)
{
    (void)state;
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    fixture->options.idle_transaction_timeout_us = 30 * US_PER_MS;
    fixture_start(fixture, test_conninfo());
    turn_until(fixture, fixture->ups == 1);
    ask_and_wait(fixture, "begin");
    turn_until(fixture, fixture->ups == 2);
    assert_string_equal(fixture->why.sqlstate, "25P03");
    assert_int_equal(fixture->why.retry, RETRY_RECONNECT);
    fixture_stop(fixture);
    free(fixture);
}

static void statement_timeout_is_later(void **state)
{
    (void)state;
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    fixture->options.statement_timeout_us = 30 * US_PER_MS;
    fixture_start(fixture, test_conninfo());
    turn_until(fixture, fixture->ups == 1);
    struct answer *answer = ask_and_wait(fixture, "select pg_sleep(60)");
    assert_string_equal(answer->failure.sqlstate, "57014");
    assert_int_equal(answer->failure.retry, RETRY_LATER);
    assert_true(pg_session_is_up(fixture->session));
    fixture_stop(fixture);
    free(fixture);
}

static void reconnect_now(struct fixture *fixture)
{
    int before = fixture->answered;
    pg_session_reconnect(fixture->session, "because the test says so");
    assert_false(pg_session_is_up(fixture->session));
    assert_int_equal(fixture->answered, before); /* nobody is called from within */
    pg_session_reconnect(fixture->session, "twice is once");
    struct error error;
    assert_int_equal(pg_session_send_text(fixture->session, "select 1", NULL, NULL, &error),
                     ERROR_STATE);
    assert_int_equal(pg_session_sync(fixture->session, NULL, NULL, &error), ERROR_STATE);
}

static void reconnect_from_outside(void **state)
{
    struct fixture *fixture = *state;
    ask_text(fixture, "select 1");
    ask_sync(fixture);
    reconnect_now(fixture);
    turn_until(fixture, fixture->ups == 2);
    assert_int_equal(fixture->answered, 2);
    assert_int_equal(fixture->downs, 1);
    assert_string_equal(fixture->why.message, "because the test says so");
    assert_int_equal(fixture->answers[0].failure.retry, RETRY_RECONNECT);
}

static void reconnect_within_a_callback(void **state)
{
    struct fixture *fixture = *state;
    int first = ask_text(fixture, "select generate_series(1, 1000)");
    fixture->answers[first].then = reconnect_now;
    ask_text(fixture, "select 2");
    ask_sync(fixture);
    turn_until(fixture, fixture->ups == 2);
    assert_int_equal(pg_result_rows(fixture->answers[0].result), 1000); /* kept, still good */
    assert_int_equal(fixture->answers[1].failure.retry, RETRY_RECONNECT);
    assert_int_equal(fixture->answers[2].failure.retry, RETRY_RECONNECT);
    assert_int_equal(fixture->downs, 1);
}

static void destroy_now(struct fixture *fixture)
{
    pg_session_destroy(fixture->session);
    fixture->destroyed = true;
    assert_int_equal(fixture->answered, fixture->asked);
}

static void destroy_within_a_callback(void **state)
{
    struct fixture *fixture = *state;
    int first = ask_text(fixture, "select 1");
    fixture->answers[first].then = destroy_now;
    ask_text(fixture, "select 2");
    ask_sync(fixture);
    turn_until(fixture, fixture->destroyed);
    assert_int_equal(fixture->answers[1].failure.code, ERROR_STATE);
    assert_int_equal(fixture->answers[1].failure.retry, RETRY_RECONNECT);
    assert_int_equal(fixture->downs, 0);
}

static void destroy_while_the_lost_are_told(void **state)
{
    struct fixture *fixture = *state;
    ask_text(fixture, "select pg_sleep(60)");
    fixture->answers[0].then = destroy_now;
    ask_text(fixture, "select 2");
    ask_sync(fixture);
    turn_until(fixture, fixture->answered == 0);
    terminate(fixture);
    turn_until(fixture, fixture->destroyed);
    assert_int_equal(fixture->downs, 0);
}

static void destroy_in_on_down(void **state)
{
    struct fixture *fixture = *state;
    fixture->then_down = destroy_now;
    fixture->look_us = US_PER_MS; /* a loop with nothing in it sleeps well */
    pg_session_reconnect(fixture->session, "test");
    turn_until(fixture, fixture->destroyed);
    assert_int_equal(fixture->downs, 1);
}

static void destroy_in_on_up(void **state)
{
    (void)state;
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    fixture->then_up = destroy_now;
    fixture_start(fixture, test_conninfo());
    turn_until(fixture, fixture->destroyed);
    fixture_stop(fixture);
    free(fixture);
}

/* Connecting --------------------------------------------------------------------------------- */

static void wrong_database(void **state)
{
    (void)state;
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    char conninfo[1024];
    snprintf(conninfo, sizeof(conninfo), "%s dbname=no_such_database password=s3cret",
             test_conninfo());
    fixture_start(fixture, conninfo);
    turn_until(fixture, fixture->downs == 3);
    assert_int_equal(fixture->ups, 0);
    assert_true(pg_session_attempts(fixture->session) >= 3);
    assert_string_equal(fixture->why.sqlstate, "3D000");
    assert_int_equal(fixture->why.retry, RETRY_NEVER);
    assert_null(strstr(fixture->why.message, "s3cret"));
    assert_non_null(strstr(fixture->why.message, "no_such_database"));
    fixture_stop(fixture);
    free(fixture);
}

static void nobody_there(void **state)
{
    (void)state;
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    fixture_start(fixture, "host=127.0.0.1 port=1 user=x dbname=y");
    turn_until(fixture, fixture->downs == 4);
    assert_int_equal(fixture->why.retry, RETRY_RECONNECT);
    assert_non_null(strstr(fixture->why.message, "127.0.0.1"));
    fixture_stop(fixture);
    free(fixture);
}

static void destroyed_while_connecting(void **state)
{
    (void)state;
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    fixture_start(fixture, test_conninfo());
    assert_int_equal(loop_turn(fixture->loop, 0, NULL), 0);
    fixture_stop(fixture);
    free(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(terminated_while_requests_are_open, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(terminated_while_idle, fixture_setup, fixture_teardown),
        cmocka_unit_test(idle_in_transaction_is_ended),
        cmocka_unit_test(statement_timeout_is_later),
        cmocka_unit_test_setup_teardown(reconnect_from_outside, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(reconnect_within_a_callback, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(destroy_within_a_callback, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(destroy_while_the_lost_are_told, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(destroy_in_on_down, fixture_setup, fixture_teardown),
        cmocka_unit_test(destroy_in_on_up),
        cmocka_unit_test(wrong_database),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(destroyed_while_connecting),
    };
    if (test_conninfo() == NULL)
        return TEST_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
