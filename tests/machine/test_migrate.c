/* test_migrate.c: a running saga goes on by another version of its definition: what has to be the
 * same, what may change, and how the saga goes on. That no moment of a migration leads to a bad
 * state is for walk.c to show. */
#include "saga/machine/migrate.h"
#include "saga/machine/plan.h"
#include "tests/machine/fixture.h"
#include "tests/machine/sagas.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct plan to;

static void next_version(const char *saga)
{
    saga_make(saga, &to);
    to.version = fixture.plan.version + 1;
    for (int i = 0; i < to.step_count; i++)
        to.steps[i].has_condition = false;
}

/* The fixture's saga goes by the other plan then, if it may. */
static enum machine_verdict migrate_if(bool unfit)
{
    static struct machine_decision decision;
    struct instance before = fixture.instance;
    struct machine_event event = {
        .type = EVENT_MIGRATE, .step = -1, .to = &to, .unfit = unfit, .now_us = fixture.now_us};
    machine_apply(&fixture.plan, &fixture.instance, &event, &decision);
    if (decision.verdict == VERDICT_APPLIED)
        fixture.plan = to;
    else
        assert_memory_equal(&before, &fixture.instance, sizeof before);
    fixture.decision = decision;
    const char *broken = machine_check(&fixture.plan, &fixture.instance);
    if (broken)
        fail_msg("%s", broken);
    return decision.verdict;
}

static enum machine_verdict migrate(void)
{
    return migrate_if(false);
}

static void expect_sent_at(int at, const char *step, enum saga_operation operation)
{
    assert_true(fixture.decision.command_count > at);
    const struct machine_command *command = &fixture.decision.commands[at];
    assert_string_equal(fixture.plan.steps[command->step].name, step);
    assert_int_equal(command->operation, operation);
}

static void expect_refused(const char *why)
{
    char text[MIGRATE_TEXT_BYTES_MAX];
    assert_true(migrate_differs(&fixture.plan, &fixture.instance, &to, text));
    assert_string_equal(text, why);
    assert_int_equal(migrate(), VERDICT_REFUSED);
    expect_because("is not the same in that version");
}

static void a_step_more_behind_what_waits(void **state)
{
    (void)state;
    start("c s0");
    ok('a');
    next_version("c s0 c1");
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect("RUNNING", "SUCCEEDED PARKED WAITING");
    intent(EVENT_SIGNAL, 'b');
    expect("RUNNING", "SUCCEEDED SUCCEEDED SENT");
    ok('c');
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED SUCCEEDED");
}

static void what_may_start_by_the_new_version_starts(void **state)
{
    (void)state;
    start("c s0");
    ok('a');
    next_version("c s0 r0");
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect("RUNNING", "SUCCEEDED PARKED SENT");
    expect_sent_at(0, "c", OPERATION_ACTION);
}

static void steps_keep_their_names_not_their_places(void **state)
{
    (void)state;
    start("c c0 c1");
    ok('a');
    next_version("c c0 r1 c2"); /* x before what waits, the others where they were */
    to.steps[2].name = "x";
    to.steps[3].name = "c";
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect("RUNNING", "SUCCEEDED SENT WAITING WAITING");

    start("c s0");
    ok('a');
    next_version("r c s1"); /* x comes first and stands before nothing that has begun */
    to.steps[0].name = "x";
    to.steps[1].name = "a";
    to.steps[2].name = "b";
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect("RUNNING", "SENT SUCCEEDED PARKED");
    assert_int_equal(fixture.instance.steps[1].round, 1);
    intent(EVENT_CANCEL, '-');
    expect("COMPENSATING", "CANCELLED UNDO_SENT CANCELLED");
    expect_sent_at(0, "a", OPERATION_UNDO);
}

static void what_has_not_begun_may_be_anything(void **state)
{
    (void)state;
    start("c s0 c1 c2");
    ok('a');
    next_version("c s0 p1 t2"); /* c was compensable and is the pivot now */
    assert_int_equal(migrate(), VERDICT_APPLIED);
    intent(EVENT_SIGNAL, 'b');
    ok('c');
    expect("COMPLETING", "SUCCEEDED SUCCEEDED SUCCEEDED SENT");
    start("c s0 p1 t2");
    ok('a');
    next_version("c s0"); /* there is no pivot any more */
    assert_int_equal(migrate(), VERDICT_APPLIED);
    intent(EVENT_SIGNAL, 'b');
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED");
}

static void a_paused_saga_takes_new_inputs_for_what_was_held_back(void **state)
{
    (void)state;
    start("c c0");
    intent(EVENT_PAUSE, '-');
    ok('a');
    expect("RUNNING", "SUCCEEDED READY");
    next_version("c r0 c1"); /* b is another: nothing was sent for it */
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect("RUNNING", "SUCCEEDED READY WAITING");
    intent(EVENT_RESUME, '-');
    expect("RUNNING", "SUCCEEDED SENT WAITING");
}

static void it_may_end_at_once(void **state)
{
    (void)state;
    start("c c0");
    intent(EVENT_PAUSE, '-');
    ok('a');
    next_version("c");
    assert_int_equal(migrate(), VERDICT_APPLIED);
    assert_true(fixture.decision.ended);
    expect("SUCCEEDED", "SUCCEEDED");
}

static void past_the_pivot(void **state)
{
    (void)state;
    start("c p0 t1");
    ok('a');
    ok('b');
    next_version("c p0 t1 t2 w1");
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect("COMPLETING", "SUCCEEDED SUCCEEDED SENT WAITING PARKED");
}

static void while_the_pivot_is_in_flight(void **state)
{
    (void)state;
    start("c p0 t1");
    ok('a');
    intent(EVENT_CANCEL, '-'); /* the pivot decides */
    expect("RUNNING", "SUCCEEDED PROBING WAITING");
    next_version("c p0");
    assert_int_equal(migrate(), VERDICT_APPLIED);
    executed('b');
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED");
}

static void rounds_and_attempts_go_on(void **state)
{
    (void)state;
    start("c");
    due('a');
    due('a');
    assert_int_equal(step('a')->attempt, 2);
    next_version("c");
    to.steps[0].retry.max = 3; /* policies may be others */
    to.steps[0].timeout_us = 5000;
    assert_int_equal(migrate(), VERDICT_APPLIED);
    due('a');
    due('a');
    expect_sent("action a r1");
    assert_int_equal(step('a')->attempt, 3);
    assert_int_equal(step('a')->due_us, fixture.now_us + 5000);
}

static void what_was_done_must_be_there(void **state)
{
    (void)state;
    start("c s0");
    ok('a');
    next_version("s");
    to.steps[0].name = "b";
    expect_refused("step \"a\" has begun, and version 2 has no such step");
    next_version("c");
    expect_refused("step \"b\" has begun, and version 2 has no such step");
}

static void what_was_done_must_be_the_same(void **state)
{
    (void)state;
    start("c s0");
    ok('a');
    next_version("r s0");
    expect_refused("step \"a\" has begun, and is read_only in version 2");
    next_version("c w0");
    expect_refused("step \"b\" has begun, and its via is timer in version 2");
    next_version("c s0");
    to.steps[0].action = "test.other";
    expect_refused("step \"a\" has begun, and its action is another in version 2");
    next_version("u s0");
    expect_refused("step \"a\" has begun, and its undo_on_fail is another in version 2");
    next_version("c s0");
    to.steps[1].timeout_us = 7;
    expect_refused("step \"b\" has begun, its time runs, and its timeout is another in version 2");
    next_version("c z0");
    expect_refused("step \"b\" has begun, and its on_timeout is another in version 2");
    intent(EVENT_PAUSE, '-');
    intent(EVENT_SIGNAL, 'b'); /* it no longer waits: its timeout does not matter any more */
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED");
}

static void the_order_of_what_was_done_must_be_the_same(void **state)
{
    (void)state;
    start("c s0");
    ok('a');
    next_version("c r s01");
    to.steps[1].name = "x";
    to.steps[2].name = "b";
    expect_refused("step \"b\" has begun, and version 2 has it come after \"x\"");
    next_version("c s");
    expect_refused("step \"b\" has begun, and version 2 does not have it come after \"a\"");
    start("c p0 t1");
    ok('a');
    next_version("c c0 p1"); /* something before a pivot in flight */
    to.steps[1].name = "x";
    to.steps[2].name = "b";
    expect_refused("step \"b\" has begun, and version 2 has it come after \"x\"");
    ok('b');
    expect_refused("step \"b\" has begun, and version 2 has it come after \"x\"");
}

static void what_was_skipped_has_begun(void **state)
{
    (void)state;
    start("c s");
    intent(EVENT_SKIP, 'a');
    next_version("s");
    to.steps[0].name = "b";
    expect_refused("step \"a\" has begun, and version 2 has no such step");
}

static void only_to_a_newer_version_of_the_same(void **state)
{
    (void)state;
    start("c");
    next_version("c c0");
    to.version = 1;
    expect_refused("it is at version 1: version 1 is not newer");
    next_version("c c0");
    to.definition = "large";
    expect_refused("\"large\" is another definition than \"small\"");
}

static void what_does_not_suit_its_data_is_refused(void **state)
{
    (void)state;
    start("c");
    next_version("c c0");
    assert_int_equal(migrate_if(true), VERDICT_REFUSED);
    expect_because("does not suit its data");
}

static void next_version_with_other_undos(const char *saga)
{
    next_version(saga);
    for (int i = 0; i < to.step_count; i++)
        to.steps[i].undo = to.steps[i].undo ? "test.other" : NULL;
}

/* Out of attempts: `round` undos were refused, or met silence. */
static void undo_until_stuck(char name, bool refused)
{
    for (int i = 0; i < 2; i++) {
        if (refused)
            undo_failed(name);
        else
            due(name);
        if (step(name)->state == STEP_UNDO_RETRY_WAIT)
            due(name);
    }
    assert_int_equal(step(name)->state, STEP_UNDO_STUCK);
}

static void what_is_being_undone_goes_on_by_it(void **state)
{
    (void)state;
    start("c c0 c1");
    ok('a');
    ok('b');
    failed('c');
    expect("COMPENSATING", "SUCCEEDED UNDO_SENT FAILED");
    next_version_with_other_undos("c c0 c1 c0"); /* of b it is out */
    expect_refused("step \"b\" has begun, and its undo is another in version 2");
    to.steps[1].undo = "test.undo";
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect("COMPENSATING", "SUCCEEDED UNDO_SENT FAILED CANCELLED"); /* what is new is not begun */
    undo_ok('b');
    expect("COMPENSATING", "UNDO_SENT UNDONE FAILED CANCELLED");
    undo_ok('a');
    expect("COMPENSATED", "UNDONE UNDONE FAILED CANCELLED");
    next_version("c c0 c1 c0");
    assert_int_equal(migrate(), VERDICT_REFUSED);
    expect_because("has ended");
}

static void what_aborts_goes_on_by_it(void **state)
{
    (void)state;
    start("c c s01");
    failed('b');
    expect("ABORTING", "SENT FAILED CANCELLED");
    next_version_with_other_undos("c c"); /* what was cancelled before it began may be gone */
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect("ABORTING", "SENT FAILED");
    ok('a');
    expect("COMPENSATING", "UNDO_SENT FAILED");
}

static void stuck_over_an_undo_that_was_refused(void **state)
{
    (void)state;
    start("c c0");
    ok('a');
    failed('b');
    undo_until_stuck('a', true);
    expect("STUCK/backward", "UNDO_STUCK FAILED");
    next_version_with_other_undos("c c0");
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect_because("waits for a retry");
    expect_sent("");
    expect("STUCK/backward", "UNDO_STUCK FAILED");
    expect_reason("b: its participant refused; stuck: a: its undo failed, and is out of attempts");
    intent(EVENT_RETRY, '-');
    expect_sent("undo a r3");
    next_version_with_other_undos("c c0");
    to.version = 3;
    to.steps[0].undo = "test.third";
    expect_refused("step \"a\" has begun, and its undo is another in version 3");
    undo_ok('a');
    expect("COMPENSATED", "UNDONE FAILED");
}

static void stuck_over_an_undo_that_may_have_been_done(void **state)
{
    (void)state;
    start("c c0");
    ok('a');
    failed('b');
    undo_until_stuck('a', false);
    next_version_with_other_undos("c c0");
    expect_refused("step \"a\" has begun, and its undo is another in version 2");
    to.steps[0].undo = "test.undo";
    to.steps[0].undo_retry.max = 9; /* policies may be others */
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect("STUCK/backward", "UNDO_STUCK FAILED");
    undo_ok('a'); /* late */
    expect("COMPENSATED", "UNDONE FAILED");

    start("c c0"); /* retried while it is held, then forgotten: an earlier one may be out */
    ok('a');
    failed('b');
    undo_until_stuck('a', false);
    intent(EVENT_PAUSE, '-');
    intent(EVENT_RETRY, 'a');
    expect("COMPENSATING", "UNDO_READY FAILED");
    reply_of('a', OPERATION_UNDO, EVENT_EXPIRED, 1, 0);
    expect("STUCK/backward", "UNDO_STUCK FAILED");
    next_version_with_other_undos("c c0");
    expect_refused("step \"a\" has begun, and its undo is another in version 2");
}

static void stuck_over_an_undo_that_could_not_be_built(void **state)
{
    (void)state;
    start("c c0");
    ok('a');
    failed('b');
    apply((struct machine_event){
        .type = EVENT_UNMAPPABLE, .operation = OPERATION_UNDO, .attempt = 1});
    expect("STUCK/backward", "UNDO_STUCK FAILED");
    assert_int_equal(step('a')->undo_round, 0);
    next_version_with_other_undos("c c0");
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect("STUCK/backward", "UNDO_STUCK FAILED");
    intent(EVENT_PAUSE, '-');
    intent(EVENT_RETRY, 'a');
    expect("COMPENSATING", "UNDO_READY FAILED");
    intent(EVENT_RESUME, '-');
    expect_sent("undo a r1");
    undo_ok('a');
    expect("COMPENSATED", "UNDONE FAILED");
}

static void stuck_over_what_must_succeed(void **state)
{
    (void)state;
    start("p t0");
    ok('a');
    failed('b');
    due('b');
    failed('b');
    expect("STUCK/forward", "SUCCEEDED FAILED");
    next_version("p t0 t0");
    to.steps[1].action = "other.do"; /* at another participant, too */
    to.steps[1].participant = "other";
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect_because("waits for a retry");
    expect("COMPLETING", "SUCCEEDED FAILED SENT"); /* what may start does */
    expect_sent_at(0, "c", OPERATION_ACTION);
    ok('c');
    expect("STUCK/forward", "SUCCEEDED FAILED SUCCEEDED");
    intent(EVENT_RETRY, 'b');
    expect_sent("action b r3");
    ok('b');
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED SUCCEEDED");

    start("p t0");
    ok('a');
    for (int i = 0; i < 3; i++)
        due('b');
    expect("STUCK/forward", "SUCCEEDED UNKNOWN"); /* it may have been done */
    next_version("p t0");
    to.steps[1].action = "test.other";
    expect_refused("step \"b\" has begun, and its action is another in version 2");
    next_version("p t0 t1");
    assert_int_equal(migrate(), VERDICT_APPLIED);
    ok('b');
    expect("COMPLETING", "SUCCEEDED SUCCEEDED SENT");
}

static void what_failed_and_leaves_traces_stays_what_it_was(void **state)
{
    (void)state;
    start("c u"); /* its undo waits for what is in flight */
    failed('b');
    expect("ABORTING", "SENT FAILED");
    next_version("c u");
    to.steps[1].action = "test.other";
    expect_refused("step \"b\" has begun, and its action is another in version 2");
}

static void fan_outs(void **state)
{
    (void)state;
    start("p g0");
    ok('a');
    spread('b', 2);
    reply_element('b', 0, OPERATION_ACTION, EVENT_OK);
    next_version("p g0");
    to.steps[1].action = "test.other";
    expect_refused("step \"b\" has begun, and its action is another in version 2");
    start("f c0");
    spread('a', 2);
    reply_element('a', 0, OPERATION_ACTION, EVENT_OK);
    reply_element('a', 1, OPERATION_ACTION, EVENT_FAILED);
    expect("COMPENSATING", "UNDO_SENT(UNDO_SENT FAILED) CANCELLED");
    next_version_with_other_undos("f c0");
    expect_refused("step \"a\" has begun, and its undo is another in version 2");
    next_version("f");
    assert_int_equal(migrate(), VERDICT_APPLIED);
    expect("COMPENSATING", "UNDO_SENT(UNDO_SENT FAILED)");
    next_version("c");
    to.version = 3;
    to.steps[0].undo = "test.undo";
    expect_refused("step \"a\" has begun, and its for_each is another in version 3");
}

static void what_contradicts_its_record_is_looked_at_first(void **state)
{
    (void)state;
    start("c c");
    failed('a');
    reply_of('a', OPERATION_ACTION, EVENT_OK, 1, 0);
    expect("STUCK/protocol", "FAILED SENT");
    next_version("c c");
    assert_int_equal(migrate(), VERDICT_REFUSED);
    expect_because("in question");
    intent(EVENT_RETRY, '-');
    assert_int_equal(migrate(), VERDICT_APPLIED);
}

/* What publish writes and the machine does not look at. */

#define POLICY "{\"max\": 5, \"base_ms\": 200, \"factor\": 2, \"cap_ms\": 30000, \"jitter\": true}"
#define STEP(more, after)                                                                          \
    "{\"name\": \"a\", \"action\": \"shop.a\", \"undo\": \"shop.b\", \"participant\": \"shop\", "  \
    "\"kind\": \"compensable\", \"via\": \"command\", \"after\": " after                           \
    ", \"timeout_ms\": 30000, \"retry\": " POLICY ", \"undo_retry\": " POLICY                      \
    ", \"undo_on_fail\": false" more "}"
#define PLAN(version, more)                                                                        \
    "{\"definition\": \"order\", \"version\": " version ", \"timeout_ms\": null, \"events\": "     \
    "false, \"steps\": [" STEP(more, "[]") "]}"

static void expect_content(const char *one, const char *other, const char *why)
{
    struct plan *plans[2] = {NULL, NULL};
    const char *texts[] = {one, other};
    char text[MIGRATE_TEXT_BYTES_MAX];
    struct error error;
    for (int i = 0; i < 2; i++)
        if (plan_read(texts[i], strlen(texts[i]), &plans[i], &error) < 0)
            fail_msg("%s", error.message);
    static struct machine_decision decision;
    struct instance instance;
    machine_start(plans[0], &instance, 1, &decision);
    assert_int_equal(migrate_differs(plans[0], &instance, plans[1], text), why != NULL);
    assert_string_equal(text, why ? why : "");
    plan_free(plans[0]);
    plan_free(plans[1]);
}

static void everything_that_publish_writes_is_compared(void **state)
{
    (void)state;
    expect_content(PLAN("1", ", \"input\": {\"n\": 19.90}"),
                   PLAN("2", ", \"input\": {\"n\": 19.90}"), NULL);
    /* Numbers of any length, of which a double would not see the difference. */
    expect_content(PLAN("1", ", \"input\": {\"n\": 100000000000000000000000000001}"),
                   PLAN("2", ", \"input\": {\"n\": 100000000000000000000000000002}"),
                   "step \"a\" has begun, and its input is another in version 2");
    expect_content(PLAN("1", ""), PLAN("2", ", \"run_if\": {\"input\": {\"x\": 1}}"),
                   "step \"a\" has begun, and its run_if is another in version 2");
    /* No undo of it is out. */
    expect_content(PLAN("1", ", \"undo_input\": {\"x\": 1}"), PLAN("2", ", \"undo_input\": null"),
                   NULL);
    expect_content(PLAN("1", ", \"of_tomorrow\": [1]"), PLAN("2", ", \"of_tomorrow\": [2]"),
                   "step \"a\" has begun, and its of_tomorrow is another in version 2");
    expect_content(PLAN("1", ", \"undo_input\": null"), PLAN("2", ""), NULL);
    expect_content(PLAN("1", ", \"child_version\": 1"), PLAN("2", ", \"child_version\": 2"), NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_more_behind_what_waits),
        cmocka_unit_test(what_may_start_by_the_new_version_starts),
        cmocka_unit_test(steps_keep_their_names_not_their_places),
        cmocka_unit_test(what_has_not_begun_may_be_anything),
        cmocka_unit_test(a_paused_saga_takes_new_inputs_for_what_was_held_back),
        cmocka_unit_test(it_may_end_at_once),
        cmocka_unit_test(past_the_pivot),
        cmocka_unit_test(while_the_pivot_is_in_flight),
        cmocka_unit_test(rounds_and_attempts_go_on),
        cmocka_unit_test(what_was_done_must_be_there),
        cmocka_unit_test(what_was_done_must_be_the_same),
        cmocka_unit_test(the_order_of_what_was_done_must_be_the_same),
        cmocka_unit_test(what_was_skipped_has_begun),
        cmocka_unit_test(only_to_a_newer_version_of_the_same),
        cmocka_unit_test(what_does_not_suit_its_data_is_refused),
        cmocka_unit_test(what_is_being_undone_goes_on_by_it),
        cmocka_unit_test(what_aborts_goes_on_by_it),
        cmocka_unit_test(stuck_over_an_undo_that_was_refused),
        cmocka_unit_test(stuck_over_an_undo_that_may_have_been_done),
        cmocka_unit_test(stuck_over_an_undo_that_could_not_be_built),
        cmocka_unit_test(stuck_over_what_must_succeed),
        cmocka_unit_test(what_failed_and_leaves_traces_stays_what_it_was),
        cmocka_unit_test(fan_outs),
        cmocka_unit_test(what_contradicts_its_record_is_looked_at_first),
        cmocka_unit_test(everything_that_publish_writes_is_compared),
    };
    return cmocka_run_group_tests_name("machine migrate", tests, NULL, NULL);
}
