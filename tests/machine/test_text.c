/* test_text.c: what the machine computes and writes beside states: pauses, reasons, wake-ups, and
 * what it makes of an instance that somebody has changed by hand. */
#include "tests/machine/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int64_t pause_after_attempt(int attempt, uint64_t seed)
{
    start_again();
    step('a')->attempt = attempt;
    apply((struct machine_event){
        .type = EVENT_TRANSIENT, .step = 0, .round = 1, .attempt = attempt, .seed = seed});
    expect("RUNNING", "RETRY_WAIT");
    return step('a')->due_us - fixture.now_us;
}

static void pauses_grow_to_their_cap(void **state)
{
    (void)state;
    start("c");
    fixture.plan.steps[0].retry = (struct retry_policy){
        .max = 1000, .base_us = 200000, .factor = 3, .cap_us = 30000000, .jitter = false};
    assert_int_equal(pause_after_attempt(1, 0), 200000);
    assert_int_equal(pause_after_attempt(2, 0), 600000);
    assert_int_equal(pause_after_attempt(5, 0), 16200000);
    assert_int_equal(pause_after_attempt(6, 0), 30000000);
    assert_int_equal(pause_after_attempt(999, 0), 30000000); /* 3^998 is no number */
    fixture.plan.steps[0].retry.base_us = 0;
    assert_int_equal(pause_after_attempt(7, 0), 0);
}

static void jitter_is_between_half_and_all_and_follows_the_seed(void **state)
{
    (void)state;
    int64_t least = INT64_MAX, most = 0;
    start("c");
    fixture.plan.steps[0].retry = (struct retry_policy){
        .max = 10, .base_us = 1000, .factor = 2, .cap_us = 100000, .jitter = true};
    for (uint64_t seed = 0; seed < 2000; seed++) {
        int64_t pause_us = pause_after_attempt(1, seed);
        assert_int_equal(pause_after_attempt(1, seed), pause_us);
        least = pause_us < least ? pause_us : least;
        most = pause_us > most ? pause_us : most;
    }
    assert_in_range(least, 500, 520);
    assert_in_range(most, 980, 1000);
}

static void wakes_at_the_earliest_timer(void **state)
{
    (void)state;
    start("c c");
    int64_t first_us = step('a')->due_us;
    assert_int_equal(machine_wake_us(&fixture.plan, &fixture.instance), first_us);
    fixture.now_us += 10;
    transient('b');
    ok('a');
    assert_int_equal(machine_wake_us(&fixture.plan, &fixture.instance), step('b')->due_us);
    step('b')->due_us = fixture.instance.deadline_us + 1;
    assert_int_equal(machine_wake_us(&fixture.plan, &fixture.instance),
                     fixture.instance.deadline_us);
}

static void a_saga_without_a_timeout_has_no_deadline(void **state)
{
    (void)state;
    start("c");
    fixture.plan.timeout_us = 0;
    start_again();
    assert_int_equal(fixture.instance.deadline_us, 0);
    assert_int_equal(deadline(), VERDICT_IGNORED);
}

static void both_reasons_stand_side_by_side(void **state)
{
    (void)state;
    start("c c");
    due('a');
    due('a');
    due('a');
    reply('a', OPERATION_PROBE, EVENT_EXPIRED);
    ok('b');
    expect_reason("stuck: a: its participant has forgotten it");
    apply((struct machine_event){.type = EVENT_CANCEL, .step = -1, .reason = "stuck: so what"});
    expect_reason("cancelled: stuck: so what; stuck: a: its participant has forgotten it");
    not_executed('a');
    expect("COMPENSATING", "UNDO_EMPTY UNDO_SENT");
    expect_reason("cancelled: stuck: so what");
}

static void a_long_reason_is_cut_between_characters(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        char reason[2048] = "xxx";
        for (size_t at = shift; at + 4 < sizeof(reason); at += 4)
            memcpy(reason + at, "\xf0\x9f\x92\xb6", 5); /* a character of four bytes */
        start("c c0");
        ok('a');
        apply(
            (struct machine_event){.type = EVENT_FAILED, .step = 1, .round = 1, .reason = reason});
        size_t bytes = strlen(fixture.instance.reason);
        assert_in_range(bytes, 200, 255);
        assert_int_equal((bytes - strlen("b: ") - shift) % 4, 0);
        apply((struct machine_event){
            .type = EVENT_UNMAPPABLE, .step = 0, .operation = OPERATION_UNDO, .reason = reason});
        expect("STUCK/backward", "UNDO_STUCK FAILED");
        assert_in_range(strlen(fixture.instance.reason), 400, SAGA_REASON_BYTES_MAX - 1);
    }
}

static void a_reason_from_elsewhere_is_taken_as_it_is(void **state)
{
    (void)state;
    start("c c");
    memset(fixture.instance.reason, 'x', SAGA_REASON_BYTES_MAX - 1);
    fixture.instance.reason[SAGA_REASON_BYTES_MAX - 1] = '\0';
    due('a');
    due('a');
    due('a');
    reply('a', OPERATION_PROBE, EVENT_EXPIRED);
    assert_non_null(strstr(fixture.instance.reason, "; stuck: a: "));
}

/* Steps that no row leads to: found stuck, and never a crash. */
static void what_was_changed_by_hand_is_stuck(void **state)
{
    (void)state;
    struct machine_decision decision;
    const struct machine_event event = {.type = EVENT_PAUSE, .step = -1};
    start("c p0");
    step('a')->state = STEP_WAITING;
    assert_non_null(machine_check(&fixture.plan, &fixture.instance));
    start("c p0");
    fixture.instance.state = SAGA_COMPENSATING;
    machine_apply(&fixture.plan, &fixture.instance, &event, &decision);
    expect("STUCK/protocol", "SENT WAITING");
    expect_reason("stuck: the recorded steps contradict the saga's state");
}

/* A wake-up puts right what no row of ours would have left. */
static void a_stalled_saga_is_set_going_again(void **state)
{
    (void)state;
    start("c c0");
    step('a')->due_us = 0;
    assert_non_null(machine_check(&fixture.plan, &fixture.instance));
    assert_int_equal(machine_wake_us(&fixture.plan, &fixture.instance), 1);
    assert_int_equal(apply((struct machine_event){.type = EVENT_DUE, .step = -1}), VERDICT_APPLIED);
    expect("RUNNING", "RETRY_WAIT WAITING");
    ok('a');
    *step('b') = (struct step_status){.state = STEP_WAITING};
    assert_int_equal(apply((struct machine_event){.type = EVENT_DUE, .step = -1}), VERDICT_APPLIED);
    expect_because("it had stalled");
    expect("RUNNING", "SUCCEEDED SENT");
    assert_int_equal(apply((struct machine_event){.type = EVENT_DUE, .step = -1}), VERDICT_IGNORED);
}

/* Every state of every step of a small saga, whether it can be or not, meets every event. */
static void no_instance_however_wrong_stops_the_machine(void **state)
{
    (void)state;
    struct machine_decision decision;
    start("c p0 t1");
    for (int code = 0; code < STEP_STATE_COUNT * STEP_STATE_COUNT * STEP_STATE_COUNT; code++) {
        static struct instance instance, changed;
        memset(&instance, 0, sizeof(instance));
        instance.deadline_us = 1;
        for (int i = 0, rest = code; i < 3; i++, rest /= STEP_STATE_COUNT)
            instance.steps[i] =
                (struct step_status){(enum step_state)(rest % STEP_STATE_COUNT), 1, 1, 1, 0, 1};
        for (int type = 0; type < MACHINE_EVENT_COUNT; type++) {
            for (int target = -1; target < 3; target++) {
                struct machine_event event = {.type = (enum machine_event_type)type,
                                              .step = target,
                                              .operation = (enum saga_operation)((code + type) % 3),
                                              .round = 1,
                                              .now_us = 1};
                memcpy(&changed, &instance, offsetof(struct instance, elements));
                changed.state = (enum saga_state)(code % SAGA_SUCCEEDED);
                machine_apply(&fixture.plan, &changed, &event, &decision);
                (void)machine_check(&fixture.plan, &changed);
                assert_in_range(decision.command_count, 0, MACHINE_COMMANDS_MAX);
            }
        }
    }
}

/* The largest plan: as many commands and notes as one event can bring. */
static void the_largest_saga_fits_into_a_decision(void **state)
{
    (void)state;
    start("c");
    fixture.plan.step_count = SAGA_STEPS_MAX;
    for (int i = 1; i < SAGA_STEPS_MAX; i++)
        fixture.plan.steps[i] = fixture.plan.steps[0];
    start_again();
    assert_int_equal(fixture.decision.command_count, SAGA_STEPS_MAX);
    fixture.now_us += 1000;
    apply((struct machine_event){.type = EVENT_DUE, .step = -1});
    assert_int_equal(fixture.decision.note_count, SAGA_STEPS_MAX);
    fixture.now_us = fixture.instance.deadline_us;
    apply((struct machine_event){.type = EVENT_DUE, .step = -1});
    assert_int_equal(fixture.decision.command_count, SAGA_STEPS_MAX);
    intent(EVENT_ABANDON, '-');
    assert_int_equal(fixture.decision.command_count, SAGA_STEPS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_grow_to_their_cap),
        cmocka_unit_test(jitter_is_between_half_and_all_and_follows_the_seed),
        cmocka_unit_test(wakes_at_the_earliest_timer),
        cmocka_unit_test(a_saga_without_a_timeout_has_no_deadline),
        cmocka_unit_test(both_reasons_stand_side_by_side),
        cmocka_unit_test(a_long_reason_is_cut_between_characters),
        cmocka_unit_test(a_reason_from_elsewhere_is_taken_as_it_is),
        cmocka_unit_test(what_was_changed_by_hand_is_stuck),
        cmocka_unit_test(a_stalled_saga_is_set_going_again),
        cmocka_unit_test(no_instance_however_wrong_stops_the_machine),
        cmocka_unit_test(the_largest_saga_fits_into_a_decision),
    };
    return cmocka_run_group_tests_name("machine text", tests, NULL, NULL);
}
