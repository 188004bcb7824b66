/* The second connection of the wake-up, which waits for a writer that stays open: where it cannot
 * be had the relay looks for rows all the time, and says so once. */
#include "outbox/relay/reading/wakeup.h"
#include "tests/unit/relay/relay_parts_test.h"

static const struct pg_session_options second = {.conninfo = "host=example",
                                                 .silence_limit_us = 60 * (int64_t)US_PER_S};

static struct wakeup *create(void)
{
    struct wakeup_options options = {.loop = parts.loop,
                                     .session = fake_session(),
                                     .second = &second,
                                     .stats = &parts.stats,
                                     .share = 1,
                                     .by_notify = true,
                                     .fallback_interval_us = 5 * (int64_t)US_PER_S,
                                     .on_failure = parts_on_failure};
    struct wakeup *wakeup;
    struct error error;

    if (wakeup_create(&wakeup, &options, &error) < 0)
        fail_msg("%s", error.message);
    wakeup_start(wakeup);
    return wakeup;
}

/* A look that finds nothing, as often as one is due, until the second connection is asked for. */
static void look_beside_an_open_writer(struct wakeup *wakeup, int looks)
{
    for (int i = 0; i < looks; i++) {
        assert_true(wakeup_is_due(wakeup));
        wakeup_looking(wakeup);
        wakeup_looked(wakeup, 0);
        if (strcmp(fake_asked(), "relay_sleep_try") == 0)
            fake_answer("relay_sleep_try", fake_row(fake_result("b"), 0));
        parts_advance(US_PER_S); /* longer than any pause */
    }
}

static void test_a_queue_that_cannot_be_joined_is_told_once(void **state)
{
    struct wakeup *wakeup = create();
    struct error lost = {0};

    (void)state;
    look_beside_an_open_writer(wakeup, 11);
    assert_int_equal(fake_session_options.silence_limit_us, 0); /* it is there to wait */
    error_set(&lost, ERROR_STATE, RETRY_RECONNECT, "asked for");
    for (int i = 0; i < 3; i++) {
        fake_session_options.on_up(fake_session_options.data, fake_session());
        fake_refuse("relay_sleep_wait", RETRY_LATER, "53200");
        assert_non_null(fake_reconnect_asked());
        fake_session_options.on_down(fake_session_options.data, fake_session(), &lost);
        fake_session_up(true);
        look_beside_an_open_writer(wakeup, 11);
        assert_int_equal(parts_lines(parts_logged(), "polling while a writer stays open"), i == 0);
    }
    fake_session_options.on_up(fake_session_options.data, fake_session());
    fake_answer("relay_sleep_wait", fake_row(fake_result("i"), 1));
    assert_true(wakeup_is_due(wakeup)); /* the last look */
    assert_int_equal(parts.failures, 0);
    wakeup_destroy(wakeup);
}

static void test_a_connection_that_never_comes_is_told_once(void **state)
{
    struct wakeup *wakeup = create();
    struct error full = {0};

    (void)state;
    error_set(&full, ERROR_POSTGRES, RETRY_LATER, "too many connections");
    look_beside_an_open_writer(wakeup, 11);
    fake_session_up(false);
    for (fake_session_attempts_failed = 1; fake_session_attempts_failed < 10;
         fake_session_attempts_failed++)
        fake_session_options.on_down(fake_session_options.data, fake_session(), &full);
    const char *log = parts_logged();
    assert_int_equal(parts_lines(log, "polling while a writer stays open"), 1);
    assert_contains(log, "too many connections");
    wakeup_stop(wakeup);
    fake_session_attempts_failed = 2; /* the server itself is away: the relay tells */
    fake_session_options.on_down(fake_session_options.data, fake_session(), &full);
    assert_string_equal(parts_logged(), "");
    wakeup_destroy(wakeup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PARTS_TEST(test_a_queue_that_cannot_be_joined_is_told_once),
        PARTS_TEST(test_a_connection_that_never_comes_is_told_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
