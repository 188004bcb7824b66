/* test_operators.c: the rules of the machine by name: what operators may do, and what it does to a
 * saga. */
#include "tests/machine/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

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
    start("p");
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
    return cmocka_run_group_tests_name("machine operators", tests, NULL, NULL);
}
