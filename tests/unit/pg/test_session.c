/* The session against a real PostgreSQL (SAGAPOST_TEST_POSTGRES). */
#include "tests/unit/pg/pg_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct pg_statement divide = {"test_divide", "select 1 / $1::int"};
static const struct pg_statement no_such_table = {"test_no_table", "select * from public.nowhere"};
static const struct pg_statement maybe_table = {"test_maybe",
                                                "select count(*) from public.sagapost_maybe"};

static void settings_hold(void **state)
{
    struct fixture *fixture = *state;
    struct answer *answer = ask_and_wait(
        fixture, "select current_setting('search_path'), current_setting('client_encoding'),"
                 " current_setting('DateStyle'), current_setting('default_transaction_isolation'),"
                 " current_setting('application_name'), current_setting('jit'),"
                 " current_setting('client_connection_check_interval')");
    assert_non_null(answer->result);
    assert_string_equal(pg_text(answer->result, 0, 0), "");
    assert_string_equal(pg_text(answer->result, 0, 1), "UTF8");
    assert_memory_equal(pg_text(answer->result, 0, 2), "ISO", 3);
    assert_string_equal(pg_text(answer->result, 0, 3), "read committed");
    assert_string_equal(pg_text(answer->result, 0, 4), "sagapost test");
    assert_string_equal(pg_text(answer->result, 0, 5), "off");
    assert_string_equal(pg_text(answer->result, 0, 6), "1s");
    assert_true(pg_session_server_version(fixture->session) >= 140000);
    assert_true(pg_session_backend_pid(fixture->session) > 0);
}

static void the_users_options_win(void **state)
{
    (void)state;
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    char conninfo[1024];
    snprintf(conninfo, sizeof(conninfo),
             "%s application_name=mine options='-c statement_timeout=777 -c search_path=public "
             "-c jit=on'",
             test_conninfo());
    fixture->options.statement_timeout_us = 5 * US_PER_S;
    fixture->options.lock_timeout_us = 1500; /* rounds up to 2 ms */
    fixture_start(fixture, conninfo);
    turn_until(fixture, fixture->ups == 1);
    struct answer *answer = ask_and_wait(
        fixture, "select current_setting('statement_timeout'), current_setting('lock_timeout'),"
                 " current_setting('search_path'), current_setting('application_name'),"
                 " current_setting('jit')");
    assert_string_equal(pg_text(answer->result, 0, 0), "777ms");
    assert_string_equal(pg_text(answer->result, 0, 1), "2ms");
    assert_string_equal(pg_text(answer->result, 0, 2), ""); /* our statements rest on it */
    assert_string_equal(pg_text(answer->result, 0, 3), "mine");
    assert_string_equal(pg_text(answer->result, 0, 4), "on");
    fixture_stop(fixture);
    free(fixture);
}

static void many_groups_in_one_go(void **state)
{
    struct fixture *fixture = *state;
    int last = 0;
    for (int64_t i = 0; i < 200; i++) {
        ask_int(fixture, &test_add_one, i, true);
        if (i % 5 == 4)
            last = ask_sync(fixture);
    }
    turn_until(fixture, fixture->answered > last);
    int64_t next = 1;
    for (int i = 0; i < fixture->asked; i++) {
        assert_int_equal(fixture->answers[i].failure.code, 0);
        if (!fixture->answers[i].is_sync)
            assert_int_equal(pg_int(fixture->answers[i].result, 0, 0), next++);
    }
    /* Prepared once, however often it was used. */
    struct answer *answer = ask_and_wait(
        fixture, "select count(*), sum(generic_plans + custom_plans) > 0"
                 " from pg_catalog.pg_prepared_statements where name = 'test_add_one'");
    assert_int_equal(pg_int(answer->result, 0, 0), 1);
}

static void an_error_ends_its_group_alone(void **state)
{
    struct fixture *fixture = *state;
    ask_int(fixture, &test_add_one, 1, true); /* 0 */
    ask_int(fixture, &divide, 0, false);      /* 1 fails */
    ask_int(fixture, &test_add_one, 2, true); /* 2 not run */
    ask_text(fixture, "select 1");            /* 3 not run */
    ask_sync(fixture);                        /* 4 the first failure */
    ask_int(fixture, &test_add_one, 5, true); /* 5 runs */
    ask_int(fixture, &divide, 1, false);      /* 6 runs: its Parse had been answered */
    int last = ask_sync(fixture);             /* 7 */
    turn_until(fixture, fixture->answered > last);
    struct answer *a = fixture->answers;
    assert_int_equal(a[0].failure.code, 0);
    assert_string_equal(a[1].failure.sqlstate, "22012");
    assert_int_equal(a[1].failure.retry, RETRY_POISON);
    for (int i = 2; i <= 3; i++) {
        assert_int_equal(a[i].failure.code, ERROR_STATE);
        assert_int_equal(a[i].failure.retry, RETRY_POISON);
        assert_non_null(strstr(a[i].failure.message, "pipeline_aborted"));
        assert_non_null(strstr(a[i].failure.message, "division by zero"));
    }
    assert_string_equal(a[4].failure.sqlstate, "22012");
    assert_int_equal(pg_int(a[5].result, 0, 0), 6);
    assert_int_equal(pg_int(a[6].result, 0, 0), 1);
    assert_int_equal(a[7].failure.code, 0);
    assert_true(pg_session_is_up(fixture->session));
}

/* The hard case of preparing: its Parse is in a group that is aborted before it, or is itself
 * refused, while later groups with the same statement are on the way. */
static void a_parse_that_never_was(void **state)
{
    struct fixture *fixture = *state;
    aside("drop table if exists public.sagapost_maybe, public.nowhere;"
          " create table public.sagapost_maybe (x int)");
    ask_text(fixture, "select 1/0");
    ask(fixture, &maybe_table, NULL); /* 1: aborted, never parsed */
    ask_sync(fixture);
    ask(fixture, &maybe_table, NULL); /* 3: works all the same */
    int last = ask_sync(fixture);
    turn_until(fixture, fixture->answered > last);
    assert_int_equal(fixture->answers[1].failure.code, ERROR_STATE);
    assert_int_equal(fixture->answers[3].failure.code, 0);

    ask(fixture, &no_such_table, NULL); /* 5: its Parse is refused: its own error, not "aborted" */
    ask(fixture, &no_such_table, NULL); /* 6: aborted */
    ask_sync(fixture);                  /* 7 */
    ask(fixture, &no_such_table, NULL); /* 8: sent unprepared; refused for the same reason */
    last = ask_sync(fixture);
    turn_until(fixture, fixture->answered > last);
    assert_string_equal(fixture->answers[5].failure.sqlstate, "42P01");
    assert_int_equal(fixture->answers[5].failure.code, ERROR_POSTGRES);
    assert_int_equal(fixture->answers[6].failure.code, ERROR_STATE);
    assert_string_equal(fixture->answers[7].failure.sqlstate, "42P01");
    assert_string_equal(fixture->answers[8].failure.sqlstate, "42P01");
    aside("create table public.nowhere (x int)");
    int now = ask(fixture, &no_such_table, NULL); /* is prepared at last, and works */
    last = ask_sync(fixture);
    turn_until(fixture, fixture->answered > last);
    assert_int_equal(fixture->answers[now].failure.code, 0);
    aside("drop table public.nowhere");

    /* Once nothing is on the way it is prepared at last. */
    ask(fixture, &maybe_table, NULL);
    last = ask_sync(fixture);
    turn_until(fixture, fixture->answered > last);
    struct answer *answer =
        ask_and_wait(fixture, "select count(*) from pg_catalog.pg_prepared_statements"
                              " where name in ('test_maybe', 'test_no_table')");
    assert_int_equal(pg_int(answer->result, 0, 0), 2);
}

static void a_failed_transaction_wants_a_rollback(void **state)
{
    struct fixture *fixture = *state;
    ask_text(fixture, "begin");
    ask_int(fixture, &divide, 0, false);
    ask_text(fixture, "commit");
    ask_sync(fixture);
    ask_text(fixture, "rollback");
    ask_text(fixture, "select pg_catalog.pg_current_xact_id_if_assigned() is null");
    int last = ask_sync(fixture);
    turn_until(fixture, fixture->answered > last);
    assert_int_equal(fixture->answers[0].failure.code, 0);
    assert_string_equal(fixture->answers[1].failure.sqlstate, "22012");
    assert_int_equal(fixture->answers[2].failure.code, ERROR_STATE);
    assert_int_equal(fixture->answers[4].failure.code, 0);
    assert_true(pg_bool(fixture->answers[5].result, 0, 0));
}

static void a_stale_plan_is_a_reconnect(void **state)
{
    struct fixture *fixture = *state;
    static const struct pg_statement all = {"test_all", "select * from public.sagapost_stale"};
    aside("drop table if exists public.sagapost_stale; create table public.sagapost_stale (x int)");
    ask(fixture, &all, NULL);
    int last = ask_sync(fixture);
    turn_until(fixture, fixture->answered > last);
    aside("alter table public.sagapost_stale add y int");
    ask(fixture, &all, NULL); /* 2 */
    ask_sync(fixture);
    turn_until(fixture, fixture->ups == 2);
    assert_int_equal(fixture->answers[2].failure.retry, RETRY_RECONNECT);
    ask(fixture, &all, NULL); /* 4 */
    last = ask_sync(fixture);
    turn_until(fixture, fixture->answered > last);
    assert_int_equal(pg_result_columns(fixture->answers[4].result), 2);
    aside("drop table public.sagapost_stale");
}

/* Callbacks that send more --------------------------------------------------------------------- */

static void send_more(struct fixture *fixture)
{
    if (fixture->asked < 40) {
        int number = ask_text(fixture, "select 1");
        fixture->answers[number].then = send_more;
        ask_sync(fixture);
    }
}

static void fail_again(struct fixture *fixture)
{
    if (fixture->asked < 40) {
        int number = ask_text(fixture, fixture->asked % 4 ? "select 1/0" : "select 1");
        fixture->answers[number].then = fail_again;
        ask_text(fixture, "select 2");
        ask_sync(fixture);
    }
}

/* libpq then passes over the NULL that ends the failed command. */
static void a_callback_of_a_failure_sends_more(void **state)
{
    struct fixture *fixture = *state;
    fail_again(fixture);
    turn_until(fixture, fixture->answered >= 40 && fixture->answered == fixture->asked);
    for (int i = 0; i < fixture->asked; i++)
        assert_string_equal(fixture->answers[i].failure.sqlstate, i / 3 * 3 % 4 ? "22012" : "");
    assert_int_equal(fixture->downs, 0);
}

static void a_callback_sends_more(void **state)
{
    struct fixture *fixture = *state;
    send_more(fixture);
    turn_until(fixture, fixture->answered == 40);
    for (int i = 0; i < 40; i++)
        assert_int_equal(fixture->answers[i].failure.code, 0);
}

/* NOTIFY, notices, size ---------------------------------------------------------------------- */

static void notifications_come(void **state)
{
    struct fixture *fixture = *state;
    ask_and_wait(fixture, "listen sagapost_test");
    aside("select pg_notify('sagapost_test', 'hello')");
    turn_until(fixture, fixture->notifications == 1);
    assert_string_equal(fixture->payload, "hello");
    /* Also in the middle of other answers, and without a payload. */
    ask_text(fixture, "notify sagapost_test");
    int last = ask_sync(fixture);
    turn_until(fixture, fixture->answered > last && fixture->notifications == 2);
    assert_string_equal(fixture->payload, "");
}

static void notices_are_handed_on(void **state)
{
    struct fixture *fixture = *state;
    ask_and_wait(fixture, "do $$ begin raise warning 'look here'; raise notice 'not here'; end $$");
    assert_int_equal(fixture->notices, 1);
    assert_string_equal(fixture->notice, "look here");
}

/* More than any socket's buffer in both directions at once: whoever only writes stalls here. */
static void big_both_ways(void **state)
{
    struct fixture *fixture = *state;
    static const struct pg_statement echo = {"test_echo", "select $1::bytea, length($1::bytea)"};
    enum { BYTES = 9 << 20, TIMES = 4 };
    uint8_t *bytes = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)(i * 31 >> 3);
    struct pg_params params;
    pg_params_init(&params);
    pg_params_bytes(&params, PG_TYPE_BYTEA, bytes, BYTES);
    int last = 0;
    for (int i = 0; i < TIMES; i++) {
        ask(fixture, &echo, &params);
        last = ask_sync(fixture);
    }
    pg_params_reset(&params); /* they were copied */
    turn_until(fixture, fixture->answered > last);
    for (int i = 0; i < TIMES; i++) {
        size_t length;
        const char *value = pg_bytes(fixture->answers[i * 2].result, 0, 0, &length);
        assert_int_equal(length, BYTES);
        assert_memory_equal(value, bytes, BYTES);
    }
    pg_params_free(&params);
    free(bytes);
}

static void limits_hold(void **state)
{
    struct fixture *fixture = *state;
    struct error error;
    struct pg_params params;
    pg_params_init(&params);
    char *bytes = calloc(1, (size_t)40 << 20);
    pg_params_bytes(&params, PG_TYPE_BYTEA, bytes, (size_t)40 << 20);
    pg_params_bytes(&params, PG_TYPE_BYTEA, bytes, (size_t)40 << 20);
    assert_int_equal(pg_session_send(fixture->session, &test_add_one, &params, NULL, NULL, &error),
                     ERROR_LIMIT);
    assert_int_equal(error.retry, RETRY_POISON);
    free(bytes);
    pg_params_free(&params);

    int sent = 0;
    while (pg_session_send_text(fixture->session, "select 1", NULL, NULL, &error) == 0)
        sent++;
    assert_int_equal(error.code, ERROR_LIMIT);
    assert_int_equal(sent, PG_SESSION_PENDING_MAX - 1);
    assert_int_equal(pg_session_pending(fixture->session), sent);
    int last = ask_sync(fixture); /* there is always room for the sync that ends it */
    turn_until(fixture, fixture->answered > last);
    assert_int_equal(pg_session_pending(fixture->session), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(settings_hold, fixture_setup, fixture_teardown),
        cmocka_unit_test(the_users_options_win),
        cmocka_unit_test_setup_teardown(many_groups_in_one_go, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(an_error_ends_its_group_alone, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_parse_that_never_was, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_failed_transaction_wants_a_rollback, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_stale_plan_is_a_reconnect, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_callback_sends_more, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_callback_of_a_failure_sends_more, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(notifications_come, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(notices_are_handed_on, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(big_both_ways, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(limits_hold, fixture_setup, fixture_teardown),
    };
    if (test_conninfo() == NULL)
        return TEST_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
