/* test_forward.c: the rules of the machine by name: forward, retries, probes, what is stuck. */
#include "tests/machine/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void all_steps_succeed(void **state)
{
    (void)state;
    start("c r p01 t2"); /* reserve, fraud -> capture -> ship */
    expect("RUNNING", "SENT SENT WAITING WAITING");
    expect_sent("action a r1, action b r1");
    ok('b');
    expect("RUNNING", "SENT SUCCEEDED WAITING WAITING");
    expect_sent("");
    ok('a');
    expect("RUNNING", "SUCCEEDED SUCCEEDED SENT WAITING");
    expect_sent("action c r1");
    ok('c');
    expect("COMPLETING", "SUCCEEDED SUCCEEDED SUCCEEDED SENT");
    expect_noted("completing");
    ok('d');
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED SUCCEEDED SUCCEEDED");
    assert_true(fixture.decision.ended);
    assert_int_equal(machine_wake_us(&fixture.plan, &fixture.instance), 0);
}

static void silence_sends_the_same_round_again(void **state)
{
    (void)state;
    start("c");
    assert_int_equal(step('a')->due_us, fixture.now_us + 1000);
    due('a');
    expect("RUNNING", "RETRY_WAIT");
    expect_noted("retry a");
    assert_int_equal(step('a')->due_us, fixture.now_us + 1000); /* the policy's base */
    due('a');
    expect("RUNNING", "SENT");
    expect_sent("action a r1");
    assert_int_equal(step('a')->attempt, 2);
    ok('a');
    expect("SUCCEEDED", "SUCCEEDED");
}

static void an_answer_during_the_pause_counts(void **state)
{
    (void)state;
    start("c");
    due('a');
    ok('a');
    expect("SUCCEEDED", "SUCCEEDED");
    start("c");
    due('a');
    failed('a');
    expect("COMPENSATED", "FAILED");
}

static void a_compensable_step_out_of_attempts_is_probed(void **state)
{
    (void)state;
    start("c c0");
    due('a');
    due('a');
    due('a');
    expect("RUNNING", "PROBING WAITING");
    expect_sent("probe a r1");
    executed('a');
    expect("RUNNING", "SUCCEEDED SENT");
}

static void a_transient_last_attempt_is_probed_too(void **state)
{
    (void)state;
    start("c");
    transient('a');
    expect("RUNNING", "RETRY_WAIT");
    due('a');
    transient('a');
    expect("RUNNING", "PROBING");
    expect_sent("probe a r1");
    not_executed('a');
    expect("COMPENSATED", "UNDO_EMPTY");
    expect_reason("a: it was not done and never will be");
}

static void an_error_sends_the_same_round_and_then_probes(void **state)
{
    (void)state;
    start("p");
    reply('a', OPERATION_ACTION, EVENT_ERROR);
    expect("RUNNING", "RETRY_WAIT");
    due('a');
    expect_sent("action a r1");
    reply('a', OPERATION_ACTION, EVENT_ERROR);
    expect("RUNNING", "PROBING");
}

static void a_stale_transient_changes_nothing(void **state)
{
    (void)state;
    start("c");
    due('a');
    due('a');
    assert_int_equal(reply_of('a', OPERATION_ACTION, EVENT_TRANSIENT, 1, 1), VERDICT_IGNORED);
    expect_because("another attempt");
    expect("RUNNING", "SENT");
    assert_int_equal(reply_of('a', OPERATION_ACTION, EVENT_TRANSIENT, 1, 0), VERDICT_APPLIED);
    expect("RUNNING", "PROBING");
}

static void a_read_only_step_out_of_attempts_fails(void **state)
{
    (void)state;
    start("r c");
    ok('b');
    due('a');
    due('a');
    due('a');
    expect("COMPENSATING", "FAILED UNDO_SENT");
    expect_reason("a: no outcome, and out of attempts");
    assert_int_equal(ok('a'), VERDICT_IGNORED); /* late: it leaves nothing behind */
}

static void silence_of_a_probe_is_in_doubt_and_a_late_answer_lifts_it(void **state)
{
    (void)state;
    static const struct {
        enum saga_operation operation;
        enum machine_event_type type;
        const char *saga, *step;
    } answers[] = {
        {OPERATION_PROBE, EVENT_EXECUTED, "SUCCEEDED", "SUCCEEDED"},
        {OPERATION_PROBE, EVENT_NOT_EXECUTED, "COMPENSATED", "UNDO_EMPTY"},
        {OPERATION_PROBE, EVENT_FAILED, "COMPENSATED", "FAILED"},
        {OPERATION_ACTION, EVENT_OK, "SUCCEEDED", "SUCCEEDED"},
        {OPERATION_ACTION, EVENT_FAILED, "COMPENSATED", "FAILED"},
    };
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        start("c");
        due('a');
        due('a');
        due('a');
        due('a');
        expect("RUNNING", "PROBING");
        expect_sent("probe a r1");
        due('a');
        expect("STUCK/in_doubt", "UNKNOWN");
        expect_reason("stuck: a: its participant stays silent");
        expect_noted("stuck");
        assert_int_equal(machine_wake_us(&fixture.plan, &fixture.instance),
                         fixture.instance.deadline_us);
        assert_int_equal(reply('a', answers[i].operation, answers[i].type), VERDICT_APPLIED);
        expect(answers[i].saga, answers[i].step);
        assert_null(strstr(fixture.instance.reason, "stuck"));
    }
}

static void an_unclear_probe_is_asked_again_after_the_pause(void **state)
{
    (void)state;
    start("c");
    due('a');
    due('a');
    due('a');
    int64_t silence_us = step('a')->due_us - fixture.now_us;
    in_doubt('a');
    expect("RUNNING", "PROBING");
    int64_t pause_us = step('a')->due_us - fixture.now_us;
    assert_true(pause_us < silence_us);
    fixture.now_us += pause_us / 2;
    in_doubt('a'); /* repeated: not put off */
    assert_int_equal(step('a')->due_us, fixture.now_us + pause_us - pause_us / 2);
    due('a');
    expect_sent("probe a r1");
    due('a');
    expect("STUCK/in_doubt", "UNKNOWN");
}

static void in_doubt_other_branches_finish_first(void **state)
{
    (void)state;
    start("c c");
    due('a');
    due('a');
    due('a');
    due('a');
    due('a');
    expect("RUNNING", "UNKNOWN SENT");
    ok('b');
    expect("STUCK/in_doubt", "UNKNOWN SUCCEEDED");
    executed('a');
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED");
}

static void a_retriable_step_is_never_probed(void **state)
{
    (void)state;
    start("p t0 t0");
    ok('a');
    due('b');
    due('b');
    due('b');
    expect("COMPLETING", "SUCCEEDED UNKNOWN SENT"); /* the other branch finishes first */
    expect_sent("");
    ok('c');
    expect("STUCK/forward", "SUCCEEDED UNKNOWN SUCCEEDED");
    expect_reason("stuck: b: no outcome, and out of attempts");
    ok('b'); /* late */
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED SUCCEEDED");
    expect_reason("");
}

static void a_refused_retriable_step_is_tried_in_a_new_round(void **state)
{
    (void)state;
    start("p t0");
    ok('a');
    failed('b');
    expect("COMPLETING", "SUCCEEDED RETRY_WAIT");
    assert_int_equal(reply_of('b', OPERATION_ACTION, EVENT_FAILED, 1, 1), VERDICT_IGNORED);
    expect_because("another round");
    due('b');
    expect_sent("action b r2");
    failed('b');
    expect("STUCK/forward", "SUCCEEDED FAILED");
    assert_int_equal(intent(EVENT_RETRY, '-'), VERDICT_APPLIED);
    expect("COMPLETING", "SUCCEEDED SENT");
    expect_sent("action b r3");
    assert_int_equal(step('b')->attempt, 1);
    ok('b');
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED");
}

static void a_refusal_that_comes_during_the_pause_raises_the_round(void **state)
{
    (void)state;
    start("p t0");
    ok('a');
    transient('b');
    expect("COMPLETING", "SUCCEEDED RETRY_WAIT");
    failed('b');
    due('b');
    expect_sent("action b r2");
}

static void done_is_done_whatever_round_it_names(void **state)
{
    (void)state;
    start("p t0");
    ok('a');
    failed('b');
    due('b');
    assert_int_equal(reply_of('b', OPERATION_ACTION, EVENT_OK, 1, 1), VERDICT_APPLIED);
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED");
}

static void late_and_repeated_answers_change_nothing(void **state)
{
    (void)state;
    start("c c0");
    ok('a');
    struct instance before = fixture.instance;
    assert_int_equal(ok('a'), VERDICT_IGNORED);
    assert_int_equal(failed('a'), VERDICT_IGNORED);
    assert_int_equal(transient('a'), VERDICT_IGNORED);
    assert_int_equal(not_executed('a'), VERDICT_IGNORED);
    assert_int_equal(in_doubt('a'), VERDICT_IGNORED);
    assert_int_equal(undo_ok('a'), VERDICT_IGNORED);
    assert_int_equal(reply('a', OPERATION_ACTION, EVENT_EXPIRED), VERDICT_IGNORED);
    assert_int_equal(due('a'), VERDICT_IGNORED);
    assert_memory_equal(&before, &fixture.instance, sizeof(before));
}

static void a_timer_that_is_not_due_changes_nothing(void **state)
{
    (void)state;
    start("c");
    assert_int_equal(apply((struct machine_event){.type = EVENT_DUE, .step = 0}), VERDICT_IGNORED);
    assert_int_equal(apply((struct machine_event){.type = EVENT_DUE, .step = -1}), VERDICT_IGNORED);
    assert_int_equal(apply((struct machine_event){.type = EVENT_DEADLINE, .step = -1}),
                     VERDICT_IGNORED);
    expect("RUNNING", "SENT");
}

static void everything_that_is_due_is_done_at_once(void **state)
{
    (void)state;
    start("c c w");
    fixture.now_us += 1000;
    assert_int_equal(apply((struct machine_event){.type = EVENT_DUE, .step = -1}), VERDICT_APPLIED);
    expect("RUNNING", "RETRY_WAIT RETRY_WAIT SUCCEEDED");
    /* With the deadline: nothing is sent once more that is then given up. */
    fixture.now_us = fixture.instance.deadline_us;
    apply((struct machine_event){.type = EVENT_DUE, .step = -1});
    expect("ABORTING", "PROBING PROBING SUCCEEDED");
    expect_sent("probe a r1, probe b r1");
}

/* What may fail comes first, whatever the order of the steps: a saga that aborts sends no action.
 */
static void nothing_is_sent_by_what_is_due_beside_a_failure(void **state)
{
    (void)state;
    start("c w c1 s");
    transient('a');
    fixture.now_us += 1000;
    assert_int_equal(apply((struct machine_event){.type = EVENT_DUE, .step = -1}), VERDICT_APPLIED);
    expect("ABORTING", "PROBING CANCELLED CANCELLED FAILED");
    expect_sent("probe a r1");
    start("k s");
    fixture.now_us += 1000;
    apply((struct machine_event){.type = EVENT_DUE, .step = -1});
    expect("ABORTING", "PROBING FAILED");
    expect_sent("probe a r1");
}

static void an_answer_to_what_was_never_sent_is_a_violation(void **state)
{
    (void)state;
    start("c c0");
    assert_int_equal(reply_of('b', OPERATION_ACTION, EVENT_OK, 1, 1), VERDICT_APPLIED);
    expect("STUCK/protocol", "SENT WAITING");
    expect_reason("stuck: b: an answer claims an effect that is recorded as never done");
}

static void a_violation_holds_everything_until_an_operator_has_looked(void **state)
{
    (void)state;
    start("c c c1");
    due('a');
    due('a');
    due('a');
    not_executed('a');
    expect("ABORTING", "UNDO_EMPTY SENT CANCELLED");
    ok('a'); /* it had said: never */
    expect("STUCK/protocol", "UNDO_EMPTY SENT CANCELLED");
    ok('b'); /* is recorded, and nothing is sent */
    expect("STUCK/protocol", "UNDO_EMPTY UNDO_READY CANCELLED");
    expect_sent("");
    assert_int_equal(intent(EVENT_RETRY, '-'), VERDICT_APPLIED);
    expect("COMPENSATING", "UNDO_EMPTY UNDO_SENT CANCELLED");
    expect_sent("undo b r1");
    expect_reason("a: it was not done and never will be");
}

static void what_a_participant_has_forgotten_is_in_doubt(void **state)
{
    (void)state;
    start("c");
    reply('a', OPERATION_ACTION, EVENT_EXPIRED);
    expect("STUCK/in_doubt", "UNKNOWN");
    start("p t0");
    ok('a');
    reply('b', OPERATION_ACTION, EVENT_EXPIRED);
    expect("STUCK/forward", "SUCCEEDED UNKNOWN");
    start("r");
    reply('a', OPERATION_ACTION, EVENT_EXPIRED);
    expect("COMPENSATED", "FAILED");
    start("c c0");
    ok('a');
    failed('b');
    reply('a', OPERATION_UNDO, EVENT_EXPIRED);
    expect("STUCK/backward", "UNDO_STUCK FAILED");
}

static void a_fenced_action_will_never_be_done(void **state)
{
    (void)state;
    start("p");
    reply('a', OPERATION_ACTION, EVENT_NOT_EXECUTED);
    expect("COMPENSATED", "FAILED");
}

static void an_input_that_cannot_be_built_fails_the_step_unsent(void **state)
{
    (void)state;
    const struct machine_event event = {
        .type = EVENT_UNMAPPABLE, .step = 1, .reason = "$.steps.a.id finds nothing"};
    start("c c0");
    ok('a');
    assert_int_equal(apply(event), VERDICT_APPLIED);
    expect("COMPENSATING", "UNDO_SENT FAILED");
    assert_int_equal(step('b')->round, 0);
    expect_reason("b: $.steps.a.id finds nothing");
    start("u");
    apply((struct machine_event){.type = EVENT_UNMAPPABLE, .step = 0});
    expect("COMPENSATED", "FAILED"); /* never sent: nothing to clean up */
    start("p t0");
    ok('a');
    apply(event);
    expect("STUCK/forward", "SUCCEEDED FAILED");
    expect_reason("stuck: b: $.steps.a.id finds nothing");
}

static void a_retry_that_cannot_be_built_is_not_taken_for_never_sent(void **state)
{
    (void)state;
    const struct machine_event event = {.type = EVENT_UNMAPPABLE, .step = 0};
    start("c");
    due('a');
    due('a');
    apply(event);
    expect("RUNNING", "PROBING");
    start("r");
    due('a');
    due('a');
    apply(event);
    expect("COMPENSATED", "FAILED");
    start("p t0");
    ok('a');
    due('b');
    due('b');
    apply((struct machine_event){.type = EVENT_UNMAPPABLE, .step = 1});
    expect("STUCK/forward", "SUCCEEDED UNKNOWN");
}

static void an_undo_that_cannot_be_built_is_stuck(void **state)
{
    (void)state;
    start("c c0");
    ok('a');
    failed('b');
    apply((struct machine_event){
        .type = EVENT_UNMAPPABLE, .step = 0, .operation = OPERATION_UNDO, .reason = "no path"});
    expect("STUCK/backward", "UNDO_STUCK FAILED");
    expect_reason("b: its participant refused; stuck: a: no path");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_steps_succeed),
        cmocka_unit_test(silence_sends_the_same_round_again),
        cmocka_unit_test(an_answer_during_the_pause_counts),
        cmocka_unit_test(a_compensable_step_out_of_attempts_is_probed),
        cmocka_unit_test(a_transient_last_attempt_is_probed_too),
        cmocka_unit_test(an_error_sends_the_same_round_and_then_probes),
        cmocka_unit_test(a_stale_transient_changes_nothing),
        cmocka_unit_test(a_read_only_step_out_of_attempts_fails),
        cmocka_unit_test(silence_of_a_probe_is_in_doubt_and_a_late_answer_lifts_it),
        cmocka_unit_test(an_unclear_probe_is_asked_again_after_the_pause),
        cmocka_unit_test(in_doubt_other_branches_finish_first),
        cmocka_unit_test(a_retriable_step_is_never_probed),
        cmocka_unit_test(a_refused_retriable_step_is_tried_in_a_new_round),
        cmocka_unit_test(a_refusal_that_comes_during_the_pause_raises_the_round),
        cmocka_unit_test(done_is_done_whatever_round_it_names),
        cmocka_unit_test(late_and_repeated_answers_change_nothing),
        cmocka_unit_test(a_timer_that_is_not_due_changes_nothing),
        cmocka_unit_test(everything_that_is_due_is_done_at_once),
        cmocka_unit_test(nothing_is_sent_by_what_is_due_beside_a_failure),
        cmocka_unit_test(an_answer_to_what_was_never_sent_is_a_violation),
        cmocka_unit_test(a_violation_holds_everything_until_an_operator_has_looked),
        cmocka_unit_test(what_a_participant_has_forgotten_is_in_doubt),
        cmocka_unit_test(a_fenced_action_will_never_be_done),
        cmocka_unit_test(an_input_that_cannot_be_built_fails_the_step_unsent),
        cmocka_unit_test(a_retry_that_cannot_be_built_is_not_taken_for_never_sent),
        cmocka_unit_test(an_undo_that_cannot_be_built_is_stuck),
    };
    return cmocka_run_group_tests_name("machine forward", tests, NULL, NULL);
}
