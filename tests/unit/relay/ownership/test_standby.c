/* A relay that stands by looks at the owner, ends one that is silent, and says where it is blind.
 */
#include "outbox/relay/ownership/standby.h"
#include "tests/unit/relay/relay_parts_test.h"

#define TERM_US (2 * (int64_t)US_PER_S)
#define LOOK_US (TERM_US / 4)

static const struct pg_session_options second = {.conninfo = "host=example"};

static struct standby *create(void)
{
    struct standby_options options = {.loop = parts.loop,
                                      .second = &second,
                                      .stats = &parts.stats,
                                      .share = 1,
                                      .term_us = TERM_US};
    struct standby *standby;
    struct error error;

    fake_sessions_open = 0;
    if (standby_create(&standby, &options, &error) < 0)
        fail_msg("%s", error.message);
    return standby;
}

static struct pg_result *owner(int silent_s, bool ended)
{
    return fake_row(fake_result("itIb"), 4711, "2026-01-31 12:00:00", (int64_t)silent_s, ended);
}

static void test_a_silent_owner_is_ended(void **state)
{
    struct standby *standby = create();

    (void)state;
    standby_start(standby);
    assert_int_equal(fake_sessions_open, 1);
    assert_string_equal(fake_session_options.conninfo, "host=example");
    standby_start(standby); /* again: nothing */
    assert_int_equal(fake_sessions_open, 1);
    parts_advance(LOOK_US);
    assert_string_equal(fake_param(1), "1");
    assert_string_equal(fake_param(2), "2000");
    parts_advance(LOOK_US); /* one question at a time */
    fake_answer("relay_standby", owner(1, false));
    assert_string_equal(fake_asked(), "");
    assert_string_equal(parts_logged(), "");
    parts_advance(LOOK_US);
    fake_answer("relay_standby", fake_result("itIb")); /* nobody owns it just now */
    parts_advance(LOOK_US);
    fake_answer("relay_standby", owner(3, true));
    assert_contains(parts_logged(), "silent for longer than lease-term");
    assert_int_equal(metric_value(parts.stats.silent_ended), 1);
    standby_stop(standby);
    assert_int_equal(fake_sessions_open, 0);
    parts_advance(10 * LOOK_US);
    assert_string_equal(fake_asked(), "");
    standby_destroy(standby);
}

/* Said once, and once more when it had seen something in between. */
static void test_blindness_is_said_once(void **state)
{
    struct standby *standby = create();

    (void)state;
    standby_start(standby);
    for (int i = 0; i < 3; i++) {
        parts_advance(LOOK_US);
        fake_refuse("relay_standby", RETRY_NEVER, "42501");
        if (i == 0)
            assert_contains(parts_logged(), "must log in as one role");
    }
    assert_string_equal(parts_logged(), "");
    parts_advance(LOOK_US);
    fake_answer("relay_standby", owner(0, false));
    parts_advance(LOOK_US);
    fake_answer("relay_standby", fake_row(fake_result("itnb"), 4711, "then", 0));
    assert_contains(parts_logged(), "pg_stat_activity does not show");
    standby_destroy(standby);
    assert_int_equal(fake_sessions_open, 0);
}

static void test_a_lost_connection_is_waited_for(void **state)
{
    struct standby *standby = create();

    (void)state;
    standby_start(standby);
    parts_advance(LOOK_US);
    fake_loses_connection();
    parts_advance(LOOK_US);
    assert_string_equal(fake_asked(), "");
    fake_session_up(true);
    fake_session_send_fails(1, ERROR_STATE, RETRY_RECONNECT);
    parts_advance(LOOK_US);
    assert_string_equal(fake_asked(), "");
    fake_session_up(true);
    parts_advance(LOOK_US);
    assert_string_equal(fake_asked(), "relay_standby");
    assert_string_equal(parts_logged(), ""); /* the first connection, to the same server, says so */
    standby_destroy(standby);
}

/* The server has room for the first connection and none for the second. */
static void test_a_connection_that_never_comes_is_told(void **state)
{
    struct standby *standby = create();
    struct error why = {0};

    (void)state;
    standby_start(standby);
    error_set(&why, ERROR_POSTGRES, RETRY_LATER, "too many connections for role \"relay\"");
    fake_session_up(false);
    for (fake_session_attempts_failed = 1; fake_session_attempts_failed < 10;
         fake_session_attempts_failed++) {
        fake_session_options.on_down(fake_session_options.data, fake_session(), &why);
        parts_advance(LOOK_US);
    }
    const char *log = parts_logged();
    assert_int_equal(parts_lines(log, "cannot be replaced"), 1);
    assert_contains(log, "too many connections");
    fake_session_up(true);
    parts_advance(LOOK_US);
    fake_answer("relay_standby", owner(1, false));
    standby_destroy(standby);
}

/* The lock comes before the answer of the question that freed it. */
static void test_the_last_answer_is_heard_out(void **state)
{
    struct standby *standby = create();

    (void)state;
    standby_start(standby);
    parts_advance(LOOK_US);
    standby_stop(standby);
    assert_int_equal(fake_sessions_open, 1);
    fake_answer("relay_standby", owner(3, true));
    assert_contains(parts_logged(), "its connection is ended");
    parts_advance(0);
    assert_int_equal(fake_sessions_open, 0);

    standby_start(standby); /* and not longer than a moment */
    parts_advance(LOOK_US);
    standby_stop(standby);
    parts_advance(US_PER_S);
    assert_int_equal(fake_sessions_open, 0);
    parts_advance(LOOK_US); /* nothing is left to look with, and nothing looks */

    standby_start(standby); /* the share is another's again while it is waited for */
    parts_advance(LOOK_US);
    standby_stop(standby);
    standby_start(standby);
    fake_answer("relay_standby", owner(1, false));
    parts_advance(LOOK_US);
    assert_string_equal(fake_asked(), "relay_standby");
    assert_int_equal(fake_sessions_open, 1);
    standby_destroy(standby);
    assert_int_equal(fake_sessions_open, 0);
}

static void test_no_connection_to_look_with(void **state)
{
    struct standby *standby = create();

    (void)state;
    fake_session_creations_fail = true;
    standby_start(standby);
    standby_start(standby);
    assert_contains(parts_logged(), "cannot be replaced");
    assert_int_equal(fake_sessions_open, 0);
    standby_stop(standby);
    fake_session_creations_fail = false;
    standby_start(standby);
    assert_int_equal(fake_sessions_open, 1);
    standby_destroy(standby);
}

static int create_and_destroy(struct error *error)
{
    struct standby_options options = {.loop = parts.loop, .second = &second};
    struct standby *standby = NULL;
    int failed = standby_create(&standby, &options, error);

    standby_destroy(standby);
    return failed;
}

static void test_no_memory(void **state)
{
    (void)state;
    assert_true(each_allocation_fails(create_and_destroy) >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PARTS_TEST(test_a_silent_owner_is_ended),
        PARTS_TEST(test_blindness_is_said_once),
        PARTS_TEST(test_a_lost_connection_is_waited_for),
        PARTS_TEST(test_a_connection_that_never_comes_is_told),
        PARTS_TEST(test_the_last_answer_is_heard_out),
        PARTS_TEST(test_no_connection_to_look_with),
        PARTS_TEST(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
