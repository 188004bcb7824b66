/* The blocking client against a real PostgreSQL (SAGAPOST_TEST_POSTGRES). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "outbox/pg/client.h"
#include "outbox/runtime/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEST_SKIPPED 77

static struct pg_client *client;
static struct error error;

static int setup(void **state)
{
    (void)state;
    if (pg_client_connect(&client, getenv("SAGAPOST_TEST_POSTGRES"), "sagapost test",
                          60 * (int64_t)US_PER_S, &error) < 0)
        fail_msg("%s", error.message);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pg_client_closep(&client);
    return 0;
}

static void query_with_parameters(void **state)
{
    (void)state;
    struct pg_result *result = NULL;
    struct pg_params params;
    pg_params_init(&params);
    pg_params_int8(&params, 20);
    pg_params_text(&params, "x");
    assert_int_equal(pg_client_query(client, "select $1 + 22, $2, current_setting('search_path')",
                                     &params, &result, &error),
                     0);
    assert_int_equal(pg_int(result, 0, 0), 42);
    assert_string_equal(pg_text(result, 0, 1), "x");
    assert_string_equal(pg_text(result, 0, 2), "");
    pg_result_freep(&result);
    pg_params_free(&params);
    assert_int_equal(pg_client_query(client, "select 1", NULL, NULL, &error), 0);
}

static void failures_are_classified(void **state)
{
    (void)state;
    struct pg_result *result = (struct pg_result *)&error; /* untouched on failure */
    assert_int_equal(pg_client_query(client, "select 1/0", NULL, &result, &error), ERROR_POSTGRES);
    assert_ptr_equal(result, &error);
    assert_string_equal(error.sqlstate, "22012");
    assert_int_equal(error.retry, RETRY_POISON);
    /* A rule's refusal has its hint; details, which show rows, stay out. */
    assert_int_equal(
        pg_client_script(client,
                         "do $$ begin raise exception using errcode = 'SG999', message = 'no',"
                         " hint = 'do this', detail = 'card 4111'; end $$",
                         &error),
        ERROR_REFUSED);
    assert_non_null(strstr(error.message, "no (do this)"));
    assert_null(strstr(error.message, "4111"));
}

static void scripts_name_the_line(void **state)
{
    (void)state;
    assert_int_equal(pg_client_script(client, "select 1;\nselect 2;\n\nselect 3", &error), 0);
    assert_int_equal(pg_client_script(client,
                                      "select '\xc3\xa4\xc3\xb6';\n\nselect\n    nothing_such;\n",
                                      &error),
                     ERROR_POSTGRES);
    assert_memory_equal(error.message, "line 4: ", 8);
    assert_int_equal(pg_client_script(client, "nonsense", &error), ERROR_POSTGRES);
    assert_memory_equal(error.message, "line 1: ", 8);
    /* Where the server knows no position it may know the function. */
    assert_int_equal(pg_client_script(client, "do $$ begin\n perform 1/0; end $$", &error),
                     ERROR_POSTGRES);
    assert_non_null(strstr(error.message, "line 2"));
}

static void copy_is_not_for_this(void **state)
{
    (void)state;
    assert_int_equal(pg_client_script(client, "create temp table c (x int)", &error), 0);
    assert_int_equal(pg_client_script(client, "copy pg_temp.c from stdin", &error), ERROR_STATE);
    assert_int_equal(error.retry, RETRY_BUG);
    assert_int_equal(pg_client_query(client, "select 1", NULL, NULL, &error), 0);
}

static void notifications_are_waited_for(void **state)
{
    (void)state;
    bool came = true;
    assert_int_equal(pg_client_wait_notify(client, 1000, &came, &error), 0);
    assert_false(came);
    assert_int_equal(pg_client_query(client, "listen sagapost_test", NULL, NULL, &error), 0);
    assert_int_equal(pg_client_query(client, "notify sagapost_test", NULL, NULL, &error), 0);
    assert_int_equal(pg_client_wait_notify(client, 10 * US_PER_S, &came, &error), 0);
    assert_true(came);
    /* One that comes while waiting. */
    struct pg_client *other = NULL;
    assert_int_equal(pg_client_connect(&other, getenv("SAGAPOST_TEST_POSTGRES"), NULL,
                                       60 * (int64_t)US_PER_S, &error),
                     0);
    assert_int_equal(pg_client_query(other, "notify sagapost_test", NULL, NULL, &error), 0);
    pg_client_close(other);
    assert_int_equal(pg_client_wait_notify(client, 10 * US_PER_S, &came, &error), 0);
    assert_true(came);
}

static void a_lost_connection_is_said(void **state)
{
    (void)state;
    bool came;
    assert_int_equal(pg_client_query(client,
                                     "select pg_catalog.pg_terminate_backend("
                                     "pg_catalog.pg_backend_pid())",
                                     NULL, NULL, &error),
                     ERROR_POSTGRES);
    assert_int_equal(error.retry, RETRY_RECONNECT);
    assert_int_equal(pg_client_query(client, "select 1", NULL, NULL, &error), ERROR_POSTGRES);
    assert_int_equal(error.retry, RETRY_RECONNECT);
    assert_int_equal(pg_client_wait_notify(client, US_PER_S, &came, &error), ERROR_POSTGRES);
    assert_int_equal(error.retry, RETRY_RECONNECT);
}

static void refused_connections(void **state)
{
    (void)state;
    struct pg_client *none = NULL;
    char conninfo[1024];
    snprintf(conninfo, sizeof(conninfo), "%s dbname=no_such_database",
             getenv("SAGAPOST_TEST_POSTGRES"));
    assert_int_equal(pg_client_connect(&none, conninfo, "test", US_PER_S, &error), ERROR_POSTGRES);
    assert_string_equal(error.sqlstate, "3D000");
    assert_int_equal(error.retry, RETRY_NEVER);
    assert_int_equal(pg_client_connect(&none, "host=127.0.0.1 port=1", "test", US_PER_S, &error),
                     ERROR_POSTGRES);
    assert_int_equal(error.retry, RETRY_RECONNECT);
    assert_int_equal(pg_client_connect(&none, "what is this", "test", US_PER_S, &error),
                     ERROR_USAGE);
    assert_null(none);
    pg_client_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(query_with_parameters, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_are_classified, setup, teardown),
        cmocka_unit_test_setup_teardown(scripts_name_the_line, setup, teardown),
        cmocka_unit_test_setup_teardown(copy_is_not_for_this, setup, teardown),
        cmocka_unit_test_setup_teardown(notifications_are_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_connection_is_said, setup, teardown),
        cmocka_unit_test(refused_connections),
    };
    if (getenv("SAGAPOST_TEST_POSTGRES") == NULL)
        return TEST_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
