/* Without memory: every allocation of ours fails once, wherever there is one. Nothing leaks (under
 * ASan) and the caller is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "outbox/pg/client.h"
#include "outbox/pg/conninfo.h"
#include "outbox/runtime/clock.h"
#include "tests/unit/runtime/faults.h"

#include <errno.h>
#include <string.h>

static const char text[] = "host=127.0.0.1,127.0.0.2 port=1,1 user=x dbname=x password=y";

/* Runs `try` with the nth call failing, until no call is left to fail. */
static void walk(const char *function, int least, int (*try)(struct error *error))
{
    int nth = 1;
    for (;; nth++) {
        struct error error = {0};
        fault_arm(function, nth, EAGAIN);
        int code = try(&error);
        if (!fault_disarm())
            break;
        if (code < 0) {
            assert_int_equal(code, error.code);
            assert_true(error.retry != RETRY_NONE);
        }
        assert_true(nth < 1000);
    }
    assert_true(nth > least);
}

static int try_parse(struct error *error)
{
    struct pg_conninfo *conninfo = NULL;
    int code = pg_conninfo_parse(&conninfo, text, "ours", true, error);
    assert_int_equal(code < 0, conninfo == NULL);
    pg_conninfo_free(conninfo);
    return code;
}

/* A list that cannot be turned stays as it is, and is tried again later. */
static int try_next_host(struct error *error)
{
    struct pg_conninfo *conninfo = NULL;
    const char *const *keywords;
    const char *const *values;
    if (pg_conninfo_parse(&conninfo, text, "ours", true, error) < 0)
        return error->code;
    pg_conninfo_keywords(conninfo, &keywords, &values);
    PGconn *connection = PQconnectStartParams(keywords, values, 0);
    (void)pg_conninfo_next_host(conninfo, connection);
    PQfinish(connection);
    pg_conninfo_free(conninfo);
    return 0;
}

static int try_session(struct error *error)
{
    struct loop *loop = NULL;
    struct pg_session *session = NULL;
    const struct pg_session_options options = {.conninfo = text,
                                               .application_name = "test",
                                               .connect_timeout_us = US_PER_S,
                                               .backoff_base_us = 1000,
                                               .backoff_cap_us = 1000};
    int code = loop_create(&loop, &clock_system, error);
    if (code == 0)
        code = pg_session_create(&session, loop, &options, error);
    if (code == 0) {
        pg_session_start(session);
        for (int i = 0; i < 4; i++)
            code = loop_turn(loop, 1000, error);
    }
    pg_session_destroy(session);
    loop_destroy(loop);
    return code;
}

static int try_client(struct error *error)
{
    struct pg_client *client = NULL;
    int code = pg_client_connect(&client, text, "test", US_PER_S, error);
    assert_null(client);
    return code;
}

static int try_params(struct error *error)
{
    const char *values[PG_PARAMS_MAX];
    struct pg_params params;
    pg_params_init(&params);
    for (int i = 0; i < 40; i++) {
        pg_params_array_begin(&params, PG_TYPE_TEXT);
        pg_params_item_text(&params, text);
        pg_params_array_end(&params);
    }
    int code = pg_params_values(&params, values, error);
    pg_params_free(&params);
    return code;
}

static void allocations_fail(void **state)
{
    (void)state;
    walk("alloc", 20, try_parse);
    walk("alloc", 20, try_next_host);
    walk("alloc", 20, try_session);
    walk("alloc", 20, try_client);
    walk("alloc", 3, try_params);
}

static void system_calls_fail(void **state)
{
    (void)state;
    walk("getrandom", 1, try_session);
    walk("epoll_ctl", 1, try_session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_fail),
        cmocka_unit_test(system_calls_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
