/* test_backward.c: the rules of the machine by name: abort, settle, undo, the pivot, operators. */
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

static void paused_nothing_new_is_sent(void **state)
{
    (void)state;
    start("c c0 c0");
    intent(EVENT_PAUSE, '-');
    assert_int_equal(intent(EVENT_PAUSE, '-'), VERDICT_IGNORED);
    ok('a'); /* answers settle */
    expect("RUNNING", "SUCCEEDED READY READY");
    expect_sent("");
    intent(EVENT_RESUME, '-');
    expect("RUNNING", "SUCCEEDED SENT SENT");
    expect_sent("action b r1, action c r1");
    intent(EVENT_PAUSE, '-');
    due('b');
    due('b'); /* timers settle: its pause is over */
    expect("RUNNING", "SUCCEEDED READY SENT");
    assert_int_equal(intent(EVENT_RESUME, '-'), VERDICT_APPLIED);
    expect_sent("action b r1");
    assert_int_equal(step('b')->attempt, 2);
    assert_int_equal(intent(EVENT_RESUME, '-'), VERDICT_IGNORED);
}

static void paused_a_probe_is_owed(void **state)
{
    (void)state;
    start("c");
    transient('a');
    intent(EVENT_PAUSE, '-');
    intent(EVENT_CANCEL, '-');
    expect("ABORTING", "PROBING");
    expect_sent("");
    assert_int_equal(step('a')->due_us, 0);
    intent(EVENT_RESUME, '-');
    expect_sent("probe a r1");
    intent(EVENT_PAUSE, '-');
    due('a');
    expect_sent("");
    intent(EVENT_RESUME, '-');
    expect_sent("probe a r1");
}

static void paused_undos_wait(void **state)
{
    (void)state;
    start("c r0");
    ok('a');
    intent(EVENT_PAUSE, '-');
    failed('b');
    expect("COMPENSATING", "UNDO_READY FAILED");
    intent(EVENT_RESUME, '-');
    expect_sent("undo a r1");
    undo_failed('a');
    intent(EVENT_PAUSE, '-');
    due('a');
    expect("COMPENSATING", "UNDO_READY FAILED");
    intent(EVENT_RESUME, '-');
    expect_sent("undo a r2");
}

static void retry_is_for_what_is_stuck_or_waits(void **state)
{
    (void)state;
    start("c c0");
    assert_int_equal(intent(EVENT_RETRY, '-'), VERDICT_REFUSED);
    assert_int_equal(intent(EVENT_RETRY, 'a'), VERDICT_REFUSED);
    transient('a');
    assert_int_equal(intent(EVENT_RETRY, 'a'), VERDICT_APPLIED); /* before its time */
    expect_sent("action a r1");
    due('a');
    due('a');
    due('a');
    expect("STUCK/in_doubt", "UNKNOWN WAITING");
    assert_int_equal(intent(EVENT_RETRY, '-'), VERDICT_APPLIED);
    expect("RUNNING", "PROBING WAITING");
    expect_sent("probe a r1");
    failed('a');
    assert_int_equal(intent(EVENT_RETRY, 'a'), VERDICT_REFUSED);
}

static void a_skipped_step_in_flight_is_fenced(void **state)
{
    (void)state;
    start("p t0 t1");
    ok('a');
    assert_int_equal(intent(EVENT_SKIP, 'c'), VERDICT_REFUSED);
    expect_because("its turn has not come");
    intent(EVENT_SKIP, 'b');
    expect("COMPLETING", "SUCCEEDED SKIPPED SENT");
    expect_sent("probe b r1, action c r1");
    assert_int_equal(intent(EVENT_SKIP, 'b'), VERDICT_IGNORED);
    not_executed('b');
    assert_int_equal(step('b')->due_us, 0);
    ok('c');
    expect("SUCCEEDED", "SUCCEEDED SKIPPED SUCCEEDED");
}

static void what_completes_after_it_was_skipped_is_undone_with_the_others(void **state)
{
    (void)state;
    start("c c0 c1");
    ok('a');
    intent(EVENT_SKIP, 'b');
    ok('b');
    expect("RUNNING", "SUCCEEDED SUCCEEDED SENT");
    failed('c');
    expect("COMPENSATING", "SUCCEEDED UNDO_SENT FAILED");
}

static void an_open_fence_holds_the_undo_back(void **state)
{
    (void)state;
    start("c c0 c1");
    ok('a');
    intent(EVENT_SKIP, 'b');
    failed('c');
    expect("ABORTING", "SUCCEEDED SKIPPED FAILED");
    due('b');
    expect_sent("probe b r1");
    due('b'); /* nobody confirms it: the operator's word stands */
    expect("COMPENSATING", "UNDO_SENT SKIPPED FAILED");
    ok('b'); /* too late for its place in the order */
    expect("STUCK/protocol", "UNDO_SENT SKIPPED FAILED");
}

static void mark_undone(void **state)
{
    (void)state;
    start("c c0 r1");
    ok('a');
    ok('b');
    assert_int_equal(intent(EVENT_MARK_UNDONE, 'b'), VERDICT_REFUSED);
    failed('c');
    assert_int_equal(intent(EVENT_MARK_UNDONE, 'b'), VERDICT_REFUSED);
    expect_because("in flight");
    undo_failed('b');
    assert_int_equal(intent(EVENT_MARK_UNDONE, 'b'), VERDICT_APPLIED);
    expect("COMPENSATING", "UNDO_SENT UNDONE FAILED");
    assert_int_equal(intent(EVENT_MARK_UNDONE, 'b'), VERDICT_IGNORED);
    undo_failed('a');
    due('a');
    undo_failed('a');
    expect("STUCK/backward", "UNDO_STUCK UNDONE FAILED");
    intent(EVENT_MARK_UNDONE, 'a');
    expect("COMPENSATED", "UNDONE UNDONE FAILED");
}

static void a_step_in_doubt_can_be_marked_as_undone(void **state)
{
    (void)state;
    start("c c0");
    ok('a');
    intent(EVENT_CANCEL, '-');
    due('b');
    due('b');
    due('b');
    expect("STUCK/in_doubt", "SUCCEEDED UNKNOWN");
    intent(EVENT_MARK_UNDONE, 'b');
    expect("COMPENSATING", "UNDO_SENT UNDONE");
    expect_sent("probe b r1, undo a r1"); /* fenced, and on it goes */
}

static void abandon_fences_what_is_in_flight(void **state)
{
    (void)state;
    start("c c r c1");
    transient('b');
    apply((struct machine_event){.type = EVENT_ABANDON, .step = -1, .reason = "by phone"});
    expect("CLOSED", "SENT RETRY_WAIT SENT WAITING");
    expect_sent("probe a r1, probe b r1");
    expect_reason("abandoned: by phone");
    assert_true(fixture.decision.ended);
    assert_int_equal(machine_wake_us(&fixture.plan, &fixture.instance), 0);
}

static void an_ended_saga_takes_nothing(void **state)
{
    (void)state;
    start("c");
    ok('a');
    struct instance before = fixture.instance;
    for (int type = 0; type < MACHINE_EVENT_COUNT; type++) {
        struct machine_event event = {.type = (enum machine_event_type)type, .step = 0, .round = 1};
        assert_int_equal(apply(event), type >= EVENT_CANCEL ? VERDICT_REFUSED : VERDICT_IGNORED);
        event.step = -1;
        assert_int_not_equal(apply(event), VERDICT_APPLIED);
    }
    assert_memory_equal(&before, &fixture.instance, sizeof(before));
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
        cmocka_unit_test(paused_nothing_new_is_sent),
        cmocka_unit_test(paused_a_probe_is_owed),
        cmocka_unit_test(paused_undos_wait),
        cmocka_unit_test(retry_is_for_what_is_stuck_or_waits),
        cmocka_unit_test(a_skipped_step_in_flight_is_fenced),
        cmocka_unit_test(what_completes_after_it_was_skipped_is_undone_with_the_others),
        cmocka_unit_test(an_open_fence_holds_the_undo_back),
        cmocka_unit_test(mark_undone),
        cmocka_unit_test(a_step_in_doubt_can_be_marked_as_undone),
        cmocka_unit_test(abandon_fences_what_is_in_flight),
        cmocka_unit_test(an_ended_saga_takes_nothing),
    };
    return cmocka_run_group_tests_name("machine backward", tests, NULL, NULL);
}
