/* test_backward.c: the rules of the machine by name: abort, settle, undo, the pivot. */
#include "tests/machine/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void a_refusal_undoes_in_reverse_order_of_dependence(void **state)
{
    (void)state;
    start("c c0 c1 c2");
    ok('a');
    ok('b');
    ok('c');
    apply((struct machine_event){
        .type = EVENT_FAILED, .step = 3, .round = 1, .attempt = 1, .reason = "no money"});
    expect("COMPENSATING", "SUCCEEDED SUCCEEDED UNDO_SENT FAILED");
    expect_reason("d: no money");
    expect_noted("compensating");
    undo_ok('c');
    expect("COMPENSATING", "SUCCEEDED UNDO_SENT UNDONE FAILED");
    undo_ok('b');
    undo_ok('a');
    expect("COMPENSATED", "UNDONE UNDONE UNDONE FAILED");
    expect_reason("d: no money");
}

static void branches_are_undone_in_parallel_and_joins_first(void **state)
{
    (void)state;
    start("c c0 c0 c12 r3");
    ok('a');
    ok('b');
    ok('c');
    ok('d');
    failed('e');
    expect_sent("undo d r1");
    undo_ok('d');
    expect_sent("undo b r1, undo c r1");
    undo_ok('c');
    expect_sent("");
    undo_ok('b');
    expect_sent("undo a r1");
}

static void what_never_started_is_not_undone(void **state)
{
    (void)state;
    start("c c c1");
    ok('a');
    failed('b');
    expect("COMPENSATING", "UNDO_SENT FAILED CANCELLED");
}

static void a_refused_read_aborts(void **state)
{
    (void)state;
    start("c r");
    ok('a');
    failed('b');
    expect("COMPENSATING", "UNDO_SENT FAILED");
}

static void a_refused_pivot_undoes_all_before_it(void **state)
{
    (void)state;
    start("c r p01");
    ok('a');
    ok('b');
    failed('c');
    expect("COMPENSATING", "UNDO_SENT SUCCEEDED FAILED");
}

static void what_is_in_flight_is_settled_before_anything_is_undone(void **state)
{
    (void)state;
    start("c c r c");
    ok('a');
    failed('d');
    expect("ABORTING", "SUCCEEDED SENT CANCELLED FAILED"); /* a read leaves nothing behind */
    expect_sent("");
    due('b'); /* its answer was awaited; no further attempt */
    expect("ABORTING", "SUCCEEDED PROBING CANCELLED FAILED");
    expect_sent("probe b r1");
    executed('b');
    expect("COMPENSATING", "UNDO_SENT UNDO_SENT CANCELLED FAILED");
}

static void an_answer_in_time_settles(void **state)
{
    (void)state;
    start("c c c");
    failed('a');
    ok('b');
    expect("ABORTING", "FAILED SUCCEEDED SENT");
    failed('c');
    expect("COMPENSATING", "FAILED UNDO_SENT FAILED");
}

static void a_pause_between_attempts_ends_in_a_probe(void **state)
{
    (void)state;
    start("c c");
    transient('a');
    failed('b');
    expect("ABORTING", "PROBING FAILED");
    expect_sent("probe a r1");
    not_executed('a');
    expect("COMPENSATED", "UNDO_EMPTY FAILED");
}

static void transient_while_aborting_is_probed(void **state)
{
    (void)state;
    start("c c");
    failed('b');
    transient('a');
    expect("ABORTING", "PROBING FAILED");
}

static void a_silent_participant_is_never_guessed(void **state)
{
    (void)state;
    start("c c c0");
    ok('a');
    failed('b');
    due('c');
    due('c');
    due('c');
    expect("STUCK/in_doubt", "SUCCEEDED FAILED UNKNOWN");
    expect_reason("b: its participant refused; stuck: c: its participant stays silent");
    executed('c');
    expect("COMPENSATING", "SUCCEEDED FAILED UNDO_SENT");
    expect_reason("b: its participant refused");
}

static void undo_retries_then_stuck_and_the_other_branches_go_on(void **state)
{
    (void)state;
    start("c c0 c0 r12");
    ok('a');
    ok('b');
    ok('c');
    failed('d');
    undo_failed('b');
    expect("COMPENSATING", "SUCCEEDED UNDO_RETRY_WAIT UNDO_SENT FAILED");
    due('b');
    expect_sent("undo b r2"); /* a definite failure is tried anew */
    undo_failed('b');
    expect("COMPENSATING", "SUCCEEDED UNDO_STUCK UNDO_SENT FAILED");
    undo_ok('c');
    expect("STUCK/backward", "SUCCEEDED UNDO_STUCK UNDONE FAILED");
    expect_reason("d: its participant refused; stuck: b: its undo failed, and is out of attempts");
    assert_int_equal(intent(EVENT_RETRY, 'b'), VERDICT_APPLIED);
    expect_sent("undo b r3");
    expect("COMPENSATING", "SUCCEEDED UNDO_SENT UNDONE FAILED");
    undo_ok('b');
    expect("COMPENSATING", "UNDO_SENT UNDONE UNDONE FAILED");
}

static void silence_of_an_undo_keeps_its_round(void **state)
{
    (void)state;
    start("c r0");
    ok('a');
    failed('b');
    due('a');
    due('a');
    expect_sent("undo a r1");
    reply('a', OPERATION_UNDO, EVENT_TRANSIENT);
    expect("STUCK/backward", "UNDO_STUCK FAILED");
    undo_ok('a'); /* late */
    expect("COMPENSATED", "UNDONE FAILED");
}

static void a_late_undo_failure_raises_the_round_of_the_next(void **state)
{
    (void)state;
    start("c r0");
    ok('a');
    failed('b');
    due('a');
    undo_failed('a');
    due('a');
    expect_sent("undo a r2");
    assert_int_equal(reply_of('a', OPERATION_UNDO, EVENT_FAILED, 1, 1), VERDICT_IGNORED);
}

static void nothing_to_undo(void **state)
{
    (void)state;
    start("c r0");
    ok('a');
    failed('b');
    apply((struct machine_event){
        .type = EVENT_OK, .step = 0, .operation = OPERATION_UNDO, .round = 1, .empty = true});
    expect("COMPENSATED", "UNDO_EMPTY FAILED");
}

static void undo_on_fail_cleans_up_a_failed_step(void **state)
{
    (void)state;
    start("c u0");
    ok('a');
    failed('b');
    expect("COMPENSATING", "SUCCEEDED UNDO_SENT");
    undo_ok('b');
    expect("COMPENSATING", "UNDO_SENT UNDONE");
    expect_reason("b: its participant refused");
}

static void a_cancel_before_the_pivot_aborts(void **state)
{
    (void)state;
    start("c c0 p1");
    ok('a');
    apply((struct machine_event){.type = EVENT_CANCEL, .step = -1, .reason = "wrong address"});
    expect("ABORTING", "SUCCEEDED SENT CANCELLED");
    expect_reason("cancelled: wrong address");
    assert_int_equal(intent(EVENT_CANCEL, '-'), VERDICT_IGNORED);
    ok('b');
    undo_ok('b');
    undo_ok('a');
    expect("COMPENSATED", "UNDONE UNDONE CANCELLED");
    assert_int_equal(intent(EVENT_CANCEL, '-'), VERDICT_REFUSED);
}

static void a_cancel_past_the_pivot_is_refused(void **state)
{
    (void)state;
    start("p t0");
    ok('a');
    assert_int_equal(intent(EVENT_CANCEL, '-'), VERDICT_REFUSED);
    expect_because("pivot has passed");
    due('b');
    due('b');
    due('b');
    expect("STUCK/forward", "SUCCEEDED UNKNOWN");
    assert_int_equal(intent(EVENT_CANCEL, '-'), VERDICT_REFUSED);
}

static void cancel_the_pivot_in_flight(void (*decide)(void), const char *saga, const char *steps)
{
    start("c p0 t1");
    ok('a');
    intent(EVENT_CANCEL, '-');
    expect("RUNNING", "SUCCEEDED PROBING WAITING"); /* no further attempt; asked at once */
    expect_sent("probe b r1");
    assert_true(fixture.instance.cancel_requested);
    assert_int_equal(intent(EVENT_CANCEL, '-'), VERDICT_IGNORED);
    decide();
    expect(saga, steps);
}

static void pivot_was_done(void)
{
    executed('b');
    expect_noted("cancel_refused");
    expect_reason("");
    assert_false(fixture.instance.cancel_requested);
}

static void pivot_answers_ok(void)
{
    ok('b');
}

static void pivot_was_not_done(void)
{
    not_executed('b');
    expect_reason("cancelled");
}

static void pivot_refused(void)
{
    failed('b');
}

static void pivot_stays_silent(void)
{
    due('b');
    due('b');
}

static void a_cancel_with_the_pivot_in_flight_is_decided_by_it(void **state)
{
    (void)state;
    cancel_the_pivot_in_flight(pivot_was_done, "COMPLETING", "SUCCEEDED SUCCEEDED SENT");
    cancel_the_pivot_in_flight(pivot_answers_ok, "COMPLETING", "SUCCEEDED SUCCEEDED SENT");
    cancel_the_pivot_in_flight(pivot_was_not_done, "COMPENSATING", "UNDO_SENT FAILED CANCELLED");
    cancel_the_pivot_in_flight(pivot_refused, "COMPENSATING", "UNDO_SENT FAILED CANCELLED");
    cancel_the_pivot_in_flight(pivot_stays_silent, "STUCK/in_doubt", "SUCCEEDED UNKNOWN WAITING");
}

static void a_cancel_asks_a_pivot_in_doubt_again(void **state)
{
    (void)state;
    start("p");
    due('a');
    due('a');
    due('a');
    due('a');
    due('a');
    expect("STUCK/in_doubt", "UNKNOWN");
    intent(EVENT_CANCEL, '-');
    expect("RUNNING", "PROBING");
    expect_sent("probe a r1");
}

static void a_cancelled_last_pivot_that_was_done_succeeds(void **state)
{
    (void)state;
    start("p");
    intent(EVENT_CANCEL, '-');
    ok('a');
    expect("SUCCEEDED", "SUCCEEDED");
    expect_noted("cancel_refused");
}

static void a_timeout_before_the_pivot_aborts(void **state)
{
    (void)state;
    start("c c0");
    ok('a');
    assert_int_equal(machine_wake_us(&fixture.plan, &fixture.instance), step('b')->due_us);
    deadline();
    expect("ABORTING", "SUCCEEDED SENT");
    expect_reason("the saga's timeout has passed");
    assert_int_equal(fixture.instance.deadline_us, 0);
}

static void a_timeout_with_the_pivot_in_flight_is_decided_by_it(void **state)
{
    (void)state;
    start("p");
    deadline();
    expect("RUNNING", "PROBING");
    expect_sent("probe a r1");
    not_executed('a');
    expect("COMPENSATED", "FAILED");
}

static void a_timeout_past_the_pivot_alerts_once(void **state)
{
    (void)state;
    start("p t0");
    ok('a');
    assert_int_equal(deadline(), VERDICT_APPLIED);
    expect_noted("late");
    expect("COMPLETING", "SUCCEEDED SENT");
    assert_int_equal(machine_wake_us(&fixture.plan, &fixture.instance), step('b')->due_us);
    assert_int_equal(deadline(), VERDICT_IGNORED);
}

static void a_timeout_while_it_is_undone_changes_nothing_else(void **state)
{
    (void)state;
    start("c r0");
    ok('a');
    failed('b');
    assert_int_equal(deadline(), VERDICT_APPLIED);
    expect("COMPENSATING", "UNDO_SENT FAILED");
    expect_reason("b: its participant refused");
    start("p");
    intent(EVENT_CANCEL, '-');
    deadline();
    expect_reason("cancelled");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_undoes_in_reverse_order_of_dependence),
        cmocka_unit_test(branches_are_undone_in_parallel_and_joins_first),
        cmocka_unit_test(what_never_started_is_not_undone),
        cmocka_unit_test(a_refused_read_aborts),
        cmocka_unit_test(a_refused_pivot_undoes_all_before_it),
        cmocka_unit_test(what_is_in_flight_is_settled_before_anything_is_undone),
        cmocka_unit_test(an_answer_in_time_settles),
        cmocka_unit_test(a_pause_between_attempts_ends_in_a_probe),
        cmocka_unit_test(transient_while_aborting_is_probed),
        cmocka_unit_test(a_silent_participant_is_never_guessed),
        cmocka_unit_test(undo_retries_then_stuck_and_the_other_branches_go_on),
        cmocka_unit_test(silence_of_an_undo_keeps_its_round),
        cmocka_unit_test(a_late_undo_failure_raises_the_round_of_the_next),
        cmocka_unit_test(nothing_to_undo),
        cmocka_unit_test(undo_on_fail_cleans_up_a_failed_step),
        cmocka_unit_test(a_cancel_before_the_pivot_aborts),
        cmocka_unit_test(a_cancel_past_the_pivot_is_refused),
        cmocka_unit_test(a_cancel_with_the_pivot_in_flight_is_decided_by_it),
        cmocka_unit_test(a_cancel_asks_a_pivot_in_doubt_again),
        cmocka_unit_test(a_cancelled_last_pivot_that_was_done_succeeds),
        cmocka_unit_test(a_timeout_before_the_pivot_aborts),
        cmocka_unit_test(a_timeout_with_the_pivot_in_flight_is_decided_by_it),
        cmocka_unit_test(a_timeout_past_the_pivot_alerts_once),
        cmocka_unit_test(a_timeout_while_it_is_undone_changes_nothing_else),
    };
    return cmocka_run_group_tests_name("machine backward", tests, NULL, NULL);
}
