/* What was sent and a promoted server does not have: found once, also when connections are lost
 * while it is looked for. */
#include "outbox/relay/ownership/ghosts.h"
#include "tests/unit/relay/relay_parts_test.h"

static struct ghosts *create(void)
{
    struct ghosts *ghosts;
    struct error error;

    if (ghosts_create(&ghosts, fake_session(), 3, &parts.stats, &error) < 0)
        fail_msg("%s", error.message);
    return ghosts;
}

static struct uuid id_of(uint8_t number)
{
    return (struct uuid){.bytes = {[15] = number}};
}

static void see_timeline(struct ghosts *ghosts, int timeline)
{
    ghosts_look(ghosts);
    fake_answer("relay_timeline", fake_row(fake_result("i"), timeline));
}

static void test_the_first_timeline_is_no_news(void **state)
{
    struct ghosts *ghosts = create();

    (void)state;
    ghosts_remember(ghosts, 1, id_of(1));
    see_timeline(ghosts, 7);
    see_timeline(ghosts, 7); /* nor is the same one again */
    assert_string_equal(fake_asked(), "");
    assert_string_equal(parts_logged(), "");
    ghosts_destroy(ghosts);
}

static void test_a_promotion_names_its_ghosts(void **state)
{
    struct ghosts *ghosts = create();
    struct uuid gone = id_of(2);

    (void)state;
    see_timeline(ghosts, 1);
    ghosts_remember(ghosts, 10, id_of(1));
    ghosts_remember(ghosts, 11, gone);
    see_timeline(ghosts, 2);
    assert_contains(parts_logged(), "a standby was promoted\" from=1 to=2");
    assert_string_equal(fake_asked(), "relay_ghosts");
    assert_string_equal(fake_param(1), "3");
    assert_string_equal(fake_param(2), "{10,11}");
    assert_string_equal(fake_param(3), "{00000000-0000-0000-0000-000000000001,"
                                       "00000000-0000-0000-0000-000000000002}");
    fake_answer("relay_ghosts", fake_row(fake_result("u"), &gone));
    assert_contains(parts_logged(), "messages=1 first=00000000-0000-0000-0000-000000000002");
    assert_int_equal(metric_value(parts.stats.ghosts), 1);
    see_timeline(ghosts, 2); /* known */
    assert_string_equal(fake_asked(), "");
    see_timeline(ghosts, 3); /* and another one */
    fake_answer("relay_ghosts", fake_result("u"));
    assert_contains(parts_logged(), "no message is a ghost");
    assert_int_equal(metric_value(parts.stats.ghosts), 1);
    ghosts_destroy(ghosts);
}

/* After a promotion connections come and go. A look whose answer never came was no look. */
static void test_a_look_that_is_lost_is_made_again(void **state)
{
    struct ghosts *ghosts = create();

    (void)state;
    see_timeline(ghosts, 1);
    ghosts_remember(ghosts, 10, id_of(1));
    see_timeline(ghosts, 2);
    assert_string_equal(fake_asked(), "relay_ghosts");
    fake_loses_connection();
    assert_lacks(parts_logged(), "cannot be looked for"); /* the session says what happened */
    fake_session_up(true);
    ghosts_look(ghosts);
    fake_loses_connection(); /* before it even said its timeline */
    fake_session_up(true);
    see_timeline(ghosts, 2);
    assert_string_equal(fake_param(2), "{10}");
    fake_answer("relay_ghosts", fake_result("u"));
    assert_contains(parts_logged(), "no message is a ghost");
    see_timeline(ghosts, 2);
    assert_string_equal(fake_asked(), "");
    ghosts_destroy(ghosts);
}

static void test_what_forbids_the_look_is_said(void **state)
{
    struct ghosts *ghosts = create();

    (void)state;
    ghosts_look(ghosts);
    fake_refuse("relay_timeline", RETRY_NEVER, "42501");
    assert_contains(parts_logged(), "ghosts cannot be looked for");
    see_timeline(ghosts, 1);
    see_timeline(ghosts, 2);
    fake_refuse("relay_ghosts", RETRY_NEVER, "42501");
    assert_contains(parts_logged(), "sqlstate=42501");
    fake_session_send_fails(1, ERROR_LIMIT, RETRY_POISON);
    ghosts_look(ghosts);
    assert_contains(parts_logged(), "it cannot be sent");
    fake_session_send_fails(2, ERROR_STATE, RETRY_RECONNECT); /* its sync finds no connection */
    ghosts_look(ghosts);
    assert_string_equal(parts_logged(), "");
    fake_loses_connection();
    fake_session_up(true);
    see_timeline(ghosts, 2); /* still to be looked at */
    assert_string_equal(fake_asked(), "relay_ghosts");
    ghosts_destroy(ghosts);
}

/* The last ones, the oldest of them first. */
static void test_memory_has_a_limit(void **state)
{
    struct ghosts *ghosts = create();
    int64_t all = GHOSTS_REMEMBERED + 5;

    (void)state;
    see_timeline(ghosts, 1);
    for (int64_t id = 1; id <= all; id++)
        ghosts_remember(ghosts, id, id_of((uint8_t)id));
    see_timeline(ghosts, 2);
    assert_memory_equal(fake_param(2), "{6,7,8,", 7);
    assert_contains(fake_param(2), ",65541}");
    ghosts_destroy(ghosts);
}

static int create_and_destroy(struct error *error)
{
    struct ghosts *ghosts = NULL;
    int failed = ghosts_create(&ghosts, fake_session(), 0, &parts.stats, error);

    assert_int_equal(failed == 0, ghosts != NULL);
    ghosts_destroy(ghosts);
    return failed;
}

static void test_no_memory(void **state)
{
    (void)state;
    assert_int_equal(each_allocation_fails(create_and_destroy), 2);
    ghosts_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PARTS_TEST(test_the_first_timeline_is_no_news),
        PARTS_TEST(test_a_promotion_names_its_ghosts),
        PARTS_TEST(test_a_look_that_is_lost_is_made_again),
        PARTS_TEST(test_what_forbids_the_look_is_said),
        PARTS_TEST(test_memory_has_a_limit),
        PARTS_TEST(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
