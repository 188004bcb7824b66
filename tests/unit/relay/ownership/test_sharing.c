/* What the owner of a share may read: what the database says, says wrongly, or does not say. */
#include "outbox/relay/ownership/sharing.h"
#include "tests/unit/relay/relay_parts_test.h"

#include <stdio.h>

static struct sharing_turn turn;
static char barrier[64];
static int turns;

static void on_turn(void *data, const struct sharing_turn *given)
{
    (void)data;
    turns++;
    turn = *given;
    snprintf(barrier, sizeof(barrier), "%s", given->barrier ? given->barrier->text : "none");
    turn.barrier = NULL; /* it was only lent */
}

static struct sharing *create(void)
{
    struct sharing_options options = {
        .session = fake_session(), .share = 2, .on_turn = on_turn, .on_failure = parts_on_failure};
    struct sharing *sharing;
    struct error error;

    turns = 0;
    if (sharing_create(&sharing, &options, &error) < 0)
        fail_msg("%s", error.message);
    return sharing;
}

static void test_verdicts(void **state)
{
    (void)state;
    assert_int_equal(sharing_verdict_of("run"), SHARING_RUN);
    assert_int_equal(sharing_verdict_of("stop"), SHARING_STOP);
    assert_int_equal(sharing_verdict_of("rest"), SHARING_REST);
    assert_int_equal(sharing_verdict_of("lost"), SHARING_LOST);
    assert_int_equal(sharing_verdict_of("running"), SHARING_UNKNOWN);
    assert_int_equal(sharing_verdict_of(""), SHARING_UNKNOWN);
    assert_int_equal(sharing_verdict_of(NULL), SHARING_UNKNOWN);
}

static void test_a_turn_is_handed_on(void **state)
{
    struct sharing *sharing = create();

    (void)state;
    sharing_start(sharing, 7);
    assert_string_equal(fake_asked(), "relay_share_turn");
    assert_string_equal(fake_param(1), "2");
    assert_string_equal(fake_param(2), "7");
    assert_string_equal(fake_param(3), "false");
    fake_answer("relay_share_turn", fake_row(fake_result("tti"), "run", "10:20:11", 4));
    assert_int_equal(turns, 1);
    assert_int_equal(turn.verdict, SHARING_RUN);
    assert_int_equal(turn.shares, 4);
    assert_string_equal(barrier, "10:20:11");
    sharing_ask(sharing, true);
    assert_string_equal(fake_param(3), "true");
    fake_answer("relay_share_turn", fake_row(fake_result("ttn"), "lost", NULL));
    assert_int_equal(turn.verdict, SHARING_LOST);
    assert_int_equal(turn.shares, 0);
    assert_string_equal(barrier, "none");
    assert_int_equal(parts.failures, 0);
    sharing_destroy(sharing);
}

/* The long question is asked when the short one says that there is something to know. */
static void test_a_look_asks_when_there_is_reason(void **state)
{
    struct sharing *sharing = create();

    (void)state;
    sharing_start(sharing, 7);
    fake_answer("relay_share_turn", fake_row(fake_result("tti"), "run", NULL, 1));
    sharing_look(sharing);
    fake_answer("relay_share_look", fake_row(fake_result("b"), 0));
    assert_string_equal(fake_asked(), "");
    sharing_look(sharing);
    fake_answer("relay_share_look", fake_row(fake_result("b"), 1));
    assert_string_equal(fake_asked(), "relay_share_turn");
    fake_loses_connection(); /* the session says so: nothing of ours */
    assert_int_equal(parts.failures, 0);
    assert_int_equal(turns, 1);
    sharing_destroy(sharing);
}

static void test_answers_that_make_no_sense_are_failures(void **state)
{
    struct sharing *sharing = create();

    (void)state;
    sharing_start(sharing, 7);
    fake_answer("relay_share_turn", fake_row(fake_result("tti"), "dance", NULL, 1));
    assert_int_equal(parts.failures, 1);
    assert_int_equal(parts.error.retry, RETRY_NEVER); /* another version's database */
    assert_contains(parts.error.message, "outbox.share_turn says \"dance\"");
    sharing_ask(sharing, false);
    fake_answer("relay_share_turn", fake_row(fake_result("tti"), "run", "20:10:", 1));
    assert_int_equal(parts.failures, 2);
    assert_contains(parts.error.message, "20:10:");
    assert_int_equal(turns, 0);
    sharing_destroy(sharing);
}

static void test_failures_are_handed_up(void **state)
{
    struct sharing *sharing = create();

    (void)state;
    sharing_start(sharing, 7);
    fake_refuse("relay_share_turn", RETRY_LATER, "57014");
    assert_int_equal(parts.failures, 1);
    fake_session_send_fails(1, ERROR_LIMIT, RETRY_POISON);
    sharing_look(sharing);
    assert_int_equal(parts.failures, 2);
    fake_session_send_fails(1, ERROR_STATE, RETRY_RECONNECT);
    sharing_look(sharing); /* no connection: somebody else's news */
    assert_int_equal(parts.failures, 2);
    assert_string_equal(fake_asked(), "");
    sharing_destroy(sharing);
}

/* The share was given up while an answer was on its way. */
static void test_nothing_counts_once_it_is_stopped(void **state)
{
    struct sharing *sharing = create();

    (void)state;
    sharing_start(sharing, 7);
    sharing_look(sharing);
    sharing_ask(sharing, false);
    sharing_stop(sharing);
    fake_answer("relay_share_turn", fake_row(fake_result("tti"), "run", NULL, 1));
    fake_answer("relay_share_look", fake_row(fake_result("b"), 1));
    fake_refuse("relay_share_turn", RETRY_LATER, "57014");
    assert_string_equal(fake_asked(), "");
    assert_int_equal(turns, 0);
    assert_int_equal(parts.failures, 0);
    sharing_destroy(sharing);
}

static void test_leaving_names_the_epoch(void **state)
{
    struct sharing *sharing = create();

    (void)state;
    sharing_start(sharing, 9);
    fake_answer("relay_share_turn", fake_row(fake_result("tti"), "run", NULL, 1));
    sharing_leave(sharing);
    assert_string_equal(fake_asked(), "relay_share_leave");
    assert_string_equal(fake_param(1), "2");
    assert_string_equal(fake_param(2), "9");
    fake_refuse("relay_share_leave", RETRY_LATER, "55P03");
    assert_contains(parts_logged(), "not given back in good order");
    sharing_leave(sharing);
    fake_loses_connection(); /* the next owner will have been told nothing either way */
    assert_string_equal(parts_logged(), "");
    assert_int_equal(parts.failures, 0);
    sharing_destroy(sharing);
}

static int create_and_destroy(struct error *error)
{
    struct sharing_options options = {.session = fake_session()};
    struct sharing *sharing = NULL;
    int failed = sharing_create(&sharing, &options, error);

    sharing_destroy(sharing);
    return failed;
}

static void test_no_memory(void **state)
{
    (void)state;
    assert_int_equal(each_allocation_fails(create_and_destroy), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        PARTS_TEST(test_a_turn_is_handed_on),
        PARTS_TEST(test_a_look_asks_when_there_is_reason),
        PARTS_TEST(test_answers_that_make_no_sense_are_failures),
        PARTS_TEST(test_failures_are_handed_up),
        PARTS_TEST(test_nothing_counts_once_it_is_stopped),
        PARTS_TEST(test_leaving_names_the_epoch),
        PARTS_TEST(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
