/* test_steps.c: the rules of steps that are no plain commands: those that wait, that are skipped by
 * a condition, and that are sagas of their own. */
#include "tests/machine/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void timers_and_signals(void **state)
{
    (void)state;
    start("w s c01");
    expect("RUNNING", "PARKED PARKED WAITING");
    expect_sent("");
    assert_int_equal(intent(EVENT_SIGNAL, 'a'), VERDICT_REFUSED);
    due('a');
    expect("RUNNING", "SUCCEEDED PARKED WAITING");
    assert_int_equal(intent(EVENT_SIGNAL, 'b'), VERDICT_APPLIED);
    expect("RUNNING", "SUCCEEDED SUCCEEDED SENT");
    assert_int_equal(intent(EVENT_SIGNAL, 'b'), VERDICT_IGNORED);
}

static void a_signal_before_its_step_is_early(void **state)
{
    (void)state;
    start("c s0");
    assert_int_equal(intent(EVENT_SIGNAL, 'b'), VERDICT_EARLY);
    expect("RUNNING", "SENT WAITING");
    ok('a');
    assert_int_equal(intent(EVENT_SIGNAL, 'b'), VERDICT_APPLIED);
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED");
}

static void a_signal_that_does_not_come_in_time_fails_its_step(void **state)
{
    (void)state;
    start("c s0 p1");
    ok('a');
    due('b');
    expect("COMPENSATING", "UNDO_SENT FAILED CANCELLED");
    expect_reason("b: its signal did not come in time");
    assert_int_equal(intent(EVENT_SIGNAL, 'b'), VERDICT_REFUSED);
}

static void a_saga_goes_on_without_a_signal_that_does_not_come(void **state)
{
    (void)state;
    start("c z0 p1 z2");
    ok('a');
    due('b');
    expect("RUNNING", "SUCCEEDED SKIPPED SENT WAITING");
    expect_because("its signal did not come in time: it goes on without");
    assert_int_equal(intent(EVENT_SIGNAL, 'b'), VERDICT_REFUSED);
    assert_int_equal(intent(EVENT_SIGNAL, 'd'), VERDICT_EARLY);
    ok('c');
    due('d');
    expect("SUCCEEDED", "SUCCEEDED SKIPPED SUCCEEDED SKIPPED");
}

static void a_signal_behind_the_pivot_waits_for_ever(void **state)
{
    (void)state;
    start("p s0");
    ok('a');
    expect("COMPLETING", "SUCCEEDED PARKED");
    deadline();
    assert_int_equal(machine_wake_us(&fixture.plan, &fixture.instance), 0);
}

static void a_child_saga_is_waited_for(void **state)
{
    (void)state;
    start("k p0");
    expect("RUNNING", "SENT WAITING");
    for (int i = 0; i < 10; i++) {
        due('a');
        expect("RUNNING", "SENT WAITING");
        expect_sent("action a r1"); /* only a reminder: it is the same attempt */
        assert_int_equal(step('a')->attempt, 1);
    }
    ok('a');
    expect("RUNNING", "SUCCEEDED SENT");
}

static void a_child_saga_that_fails_aborts_its_parent(void **state)
{
    (void)state;
    start("c k0 p1");
    ok('a');
    failed('b');
    expect("COMPENSATING", "UNDO_SENT FAILED CANCELLED");
}

static void a_lock_is_asked_for_and_granted(void **state)
{
    (void)state;
    start("c l0 c1");
    ok('a');
    expect("RUNNING", "SUCCEEDED PARKED WAITING");
    expect_sent("action b r0"); /* for the worker: ask for the lock */
    assert_true(command_asks_condition(&fixture.plan, &fixture.decision.commands[0]));
    assert_int_equal(intent(EVENT_GRANT, 'b'), VERDICT_APPLIED);
    expect("RUNNING", "SUCCEEDED SUCCEEDED SENT");
    expect_because("it has its lock");
    assert_int_equal(step('b')->due_us, 0);
    assert_int_equal(intent(EVENT_GRANT, 'b'), VERDICT_REFUSED);
}

static void a_lock_that_does_not_come_in_time_fails_its_step(void **state)
{
    (void)state;
    start("c l0");
    ok('a');
    due('b');
    expect("COMPENSATING", "UNDO_SENT FAILED");
    expect_reason("b: it did not get its lock in time");
    assert_int_equal(intent(EVENT_GRANT, 'b'), VERDICT_REFUSED);
}

static void a_deadlock_fails_the_step_that_would_close_it(void **state)
{
    (void)state;
    start("c l0");
    ok('a');
    apply((struct machine_event){.type = EVENT_DENIED, .step = 1, .reason = "deadlock: ..."});
    expect("COMPENSATING", "UNDO_SENT FAILED");
    expect_reason("b: deadlock: ...");
    assert_int_equal(apply((struct machine_event){.type = EVENT_DENIED, .step = 0}),
                     VERDICT_IGNORED);
}

static void a_saga_goes_on_without_a_lock_that_it_cannot_have(void **state)
{
    (void)state;
    start("m c0");
    due('a');
    expect("RUNNING", "SKIPPED SENT");
    start("m c0");
    apply((struct machine_event){.type = EVENT_DENIED, .step = 0});
    expect("RUNNING", "SKIPPED SENT");
    expect_because("it does not get its lock: it goes on without");
}

static void a_paused_saga_asks_for_no_lock(void **state)
{
    (void)state;
    start("c l0");
    intent(EVENT_PAUSE, '-');
    ok('a');
    expect("RUNNING", "SUCCEEDED READY");
    expect_sent("");
    intent(EVENT_RESUME, '-');
    expect("RUNNING", "SUCCEEDED PARKED");
    expect_sent("action b r0");
}

static void an_operator_skips_a_lock_and_a_cancel_ends_the_wait(void **state)
{
    (void)state;
    start("l c0");
    assert_int_equal(intent(EVENT_SKIP, 'a'), VERDICT_APPLIED);
    expect("RUNNING", "SKIPPED SENT");
    start("l c0");
    assert_int_equal(intent(EVENT_CANCEL, '-'), VERDICT_APPLIED);
    expect("COMPENSATED", "CANCELLED CANCELLED");
}

static void a_lock_without_a_name_fails(void **state)
{
    (void)state;
    start("c l0");
    ok('a');
    apply((struct machine_event){.type = EVENT_UNMAPPABLE, .step = 1, .reason = "no path"});
    expect("COMPENSATING", "UNDO_SENT FAILED");
    expect_reason("b: no path");
}

static void a_wait_whose_condition_is_false_is_skipped(void **state)
{
    (void)state;
    start_with_conditions("c w0 s0 p12");
    ok('a');
    expect("RUNNING", "SUCCEEDED PARKED PARKED WAITING");
    expect_sent("action b r0, action c r0"); /* for the worker: ask for their conditions */
    assert_true(command_asks_condition(&fixture.plan, &fixture.decision.commands[0]));
    apply((struct machine_event){.type = EVENT_CONDITION_FALSE, .step = 1});
    expect("RUNNING", "SUCCEEDED SKIPPED PARKED WAITING");
    expect_because("its condition does not hold");
    assert_int_equal(step('b')->due_us, 0);
    assert_int_equal(intent(EVENT_SIGNAL, 'c'), VERDICT_APPLIED);
    expect("RUNNING", "SUCCEEDED SKIPPED SUCCEEDED SENT");
}

/* Asked for once: the saga's data can look otherwise at a later attempt. */
static void only_the_first_command_asks_for_the_condition(void **state)
{
    (void)state;
    start_with_conditions("c");
    assert_true(command_asks_condition(&fixture.plan, &fixture.decision.commands[0]));
    due('a');
    due('a');
    expect_sent("action a r1");
    assert_false(command_asks_condition(&fixture.plan, &fixture.decision.commands[0]));
    apply((struct machine_event){.type = EVENT_CONDITION_FALSE, .step = 0});
    expect("RUNNING", "SENT");
    due('a');
    expect_sent("probe a r1");
    assert_false(command_asks_condition(&fixture.plan, &fixture.decision.commands[0]));
}

/* Skipped, it has passed: from here on nothing can fail, and nothing is undone. */
static void a_pivot_whose_condition_is_false_has_passed(void **state)
{
    (void)state;
    start("c p0 t1");
    ok('a');
    apply((struct machine_event){.type = EVENT_CONDITION_FALSE, .step = 1});
    expect("COMPLETING", "SUCCEEDED SKIPPED SENT");
    assert_int_equal(intent(EVENT_CANCEL, '-'), VERDICT_REFUSED);
    ok('c');
    expect("SUCCEEDED", "SUCCEEDED SKIPPED SUCCEEDED");
}

static void what_was_skipped_is_not_undone(void **state)
{
    (void)state;
    start("c c0 p1");
    ok('a');
    apply((struct machine_event){.type = EVENT_CONDITION_FALSE, .step = 1});
    failed('c');
    expect("COMPENSATING", "UNDO_SENT SKIPPED FAILED");
    expect_sent("undo a r1");
    undo_ok('a');
    expect("COMPENSATED", "UNDONE SKIPPED FAILED");
}

static void a_step_whose_condition_is_false_is_skipped(void **state)
{
    (void)state;
    start("c p0 t1");
    ok('a');
    apply((struct machine_event){.type = EVENT_CONDITION_FALSE, .step = 1});
    expect("COMPLETING", "SUCCEEDED SKIPPED SENT"); /* a skipped pivot has passed */
    assert_int_equal(step('b')->round, 0);
}

static void a_running_child_saga_is_cancelled_at_once(void **state)
{
    (void)state;
    start("k c p01");
    failed('b');
    expect("ABORTING", "PROBING FAILED CANCELLED");
    expect_sent("probe a r1");
    for (int i = 0; i < 10; i++) {
        due('a');
        expect("ABORTING", "PROBING FAILED CANCELLED"); /* stuck or slow, it is never guessed */
        expect_sent("probe a r1");
    }
    failed('a'); /* it is compensated */
    expect("COMPENSATED", "FAILED FAILED CANCELLED");
}

static void a_child_saga_that_succeeds_all_the_same_is_undone(void **state)
{
    (void)state;
    start("k c p01");
    failed('b');
    ok('a');
    expect("COMPENSATING", "UNDO_SENT FAILED CANCELLED");
    expect_sent("undo a r1");
    for (int i = 0; i < 10; i++) {
        due('a');
        expect("COMPENSATING", "UNDO_SENT FAILED CANCELLED");
        expect_sent("undo a r1");
    }
    undo_ok('a');
    expect("COMPENSATED", "UNDONE FAILED CANCELLED");
}

static void a_child_saga_that_was_closed_leaves_a_doubt(void **state)
{
    (void)state;
    start("k c p01");
    failed('b');
    reply('a', OPERATION_ACTION, EVENT_EXPIRED);
    expect("STUCK/in_doubt", "UNKNOWN FAILED CANCELLED");
    assert_int_equal(intent(EVENT_MARK_UNDONE, 'a'), VERDICT_APPLIED);
    expect("COMPENSATED", "UNDONE FAILED CANCELLED");
}

static void a_saga_that_succeeded_is_taken_back(void **state)
{
    (void)state;
    start("c c0 r1");
    assert_int_equal(intent(EVENT_TAKE_BACK, '-'), VERDICT_REFUSED);
    ok('a');
    ok('b');
    ok('c');
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED SUCCEEDED");
    assert_int_equal(intent(EVENT_TAKE_BACK, '-'), VERDICT_APPLIED);
    expect("COMPENSATING", "SUCCEEDED UNDO_SENT SUCCEEDED");
    expect_reason("its parent saga is undone");
    undo_ok('b');
    undo_ok('a');
    expect("COMPENSATED", "UNDONE UNDONE SUCCEEDED");
    assert_int_equal(intent(EVENT_TAKE_BACK, '-'), VERDICT_REFUSED);
    start("r");
    ok('a');
    intent(EVENT_TAKE_BACK, '-');
    expect("COMPENSATED", "SUCCEEDED");
    start("p");
    ok('a');
    assert_int_equal(intent(EVENT_TAKE_BACK, '-'), VERDICT_REFUSED);
    expect_because("its pivot has passed: it can only be completed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_and_signals),
        cmocka_unit_test(a_signal_before_its_step_is_early),
        cmocka_unit_test(a_signal_that_does_not_come_in_time_fails_its_step),
        cmocka_unit_test(a_saga_goes_on_without_a_signal_that_does_not_come),
        cmocka_unit_test(a_signal_behind_the_pivot_waits_for_ever),
        cmocka_unit_test(a_lock_is_asked_for_and_granted),
        cmocka_unit_test(a_lock_that_does_not_come_in_time_fails_its_step),
        cmocka_unit_test(a_deadlock_fails_the_step_that_would_close_it),
        cmocka_unit_test(a_saga_goes_on_without_a_lock_that_it_cannot_have),
        cmocka_unit_test(a_paused_saga_asks_for_no_lock),
        cmocka_unit_test(an_operator_skips_a_lock_and_a_cancel_ends_the_wait),
        cmocka_unit_test(a_lock_without_a_name_fails),
        cmocka_unit_test(a_child_saga_is_waited_for),
        cmocka_unit_test(a_child_saga_that_fails_aborts_its_parent),
        cmocka_unit_test(a_wait_whose_condition_is_false_is_skipped),
        cmocka_unit_test(only_the_first_command_asks_for_the_condition),
        cmocka_unit_test(a_pivot_whose_condition_is_false_has_passed),
        cmocka_unit_test(what_was_skipped_is_not_undone),
        cmocka_unit_test(a_step_whose_condition_is_false_is_skipped),
        cmocka_unit_test(a_running_child_saga_is_cancelled_at_once),
        cmocka_unit_test(a_child_saga_that_succeeds_all_the_same_is_undone),
        cmocka_unit_test(a_child_saga_that_was_closed_leaves_a_doubt),
        cmocka_unit_test(a_saga_that_succeeded_is_taken_back),
    };
    return cmocka_run_group_tests_name("machine steps", tests, NULL, NULL);
}
