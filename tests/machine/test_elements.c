/* test_elements.c: steps that are fanned out over a list, rule by rule. */
#include "saga/machine/plan.h"
#include "tests/machine/fixture.h"
#include "tests/machine/sagas.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define element_ok(name, i)      reply_element(name, i, OPERATION_ACTION, EVENT_OK)
#define element_failed(name, i)  reply_element(name, i, OPERATION_ACTION, EVENT_FAILED)
#define element_undone(name, i)  reply_element(name, i, OPERATION_UNDO, EVENT_OK)
#define element_no_undo(name, i) reply_element(name, i, OPERATION_UNDO, EVENT_FAILED)

/* Of one element, or of all with ELEMENT_ALL. */
static enum machine_verdict want(enum machine_event_type type, char name, int index)
{
    return apply((struct machine_event){.type = type, .step = name - 'a', .element = index});
}

static enum machine_verdict element_due(char name, int index)
{
    fixture.now_us = element(name, index)->due_us;
    return apply((struct machine_event){.type = EVENT_DUE, .step = name - 'a', .element = index});
}

static void its_list_is_asked_for_and_each_element_is_sent(void **state)
{
    (void)state;
    start("f c0");
    expect_sent("list a");
    spread('a', 2);
    expect_sent("action a[0] r1, action a[1] r1");
    expect_noted("fanned_out a");
    expect("RUNNING", "SENT(SENT SENT) WAITING");
    element_ok('a', 1);
    expect("RUNNING", "SENT(SENT SUCCEEDED) WAITING");
    assert_int_equal(element_ok('a', 1), VERDICT_IGNORED);
    element_ok('a', 0);
    expect_sent("action b r1");
    expect_noted("succeeded a[0]");
    expect_noted("succeeded a");
    expect("RUNNING", "SUCCEEDED(SUCCEEDED SUCCEEDED) SENT");
    ok('b');
    expect("SUCCEEDED", "SUCCEEDED(SUCCEEDED SUCCEEDED) SUCCEEDED");
}

static void an_empty_list_is_done_and_leaves_nothing_to_undo(void **state)
{
    (void)state;
    start("f c0");
    spread('a', 0);
    expect("RUNNING", "SUCCEEDED SENT");
    failed('b');
    expect("COMPENSATED", "SUCCEEDED FAILED");
}

static void a_list_that_cannot_be_is_a_failure(void **state)
{
    (void)state;
    start("c f0");
    ok('a');
    expect_sent("list b");
    assert_int_equal(spread('b', 3), VERDICT_APPLIED);
    expect("COMPENSATING", "UNDO_SENT FAILED");
    start("c f0");
    ok('a');
    apply((struct machine_event){.type = EVENT_UNMAPPABLE,
                                 .step = 1,
                                 .element = ELEMENT_ALL,
                                 .reason = "for_each: it is no list"});
    expect("COMPENSATING", "UNDO_SENT FAILED");
    expect_reason("b: for_each: it is no list");
    assert_int_equal(spread('b', 2), VERDICT_IGNORED);
}

static void a_retriable_list_that_cannot_be_is_stuck(void **state)
{
    (void)state;
    start("p g0");
    ok('a');
    apply((struct machine_event){.type = EVENT_UNMAPPABLE, .step = 1, .element = ELEMENT_ALL});
    expect("STUCK/forward", "SUCCEEDED FAILED");
    want(EVENT_RETRY, 'b', ELEMENT_ALL);
    expect_sent("list b");
    spread('b', 1);
    expect("COMPLETING", "SUCCEEDED SENT(SENT)");
}

static void one_that_fails_has_the_others_settled_and_undone(void **state)
{
    (void)state;
    start("x");
    spread('a', 3);
    expect_sent("action a[0] r1, action a[1] r1"); /* two at a time */
    element_ok('a', 0);
    expect_sent("action a[2] r1");
    element_failed('a', 2);
    expect("ABORTING", "SENT(SUCCEEDED SENT FAILED)");
    expect_reason("a[2]: its participant refused");
    element_due('a', 1);
    expect_sent("probe a[1] r1");
    reply_element('a', 1, OPERATION_PROBE, EVENT_EXECUTED);
    expect_sent("undo a[0] r1, undo a[1] r1");
    expect("COMPENSATING", "UNDO_SENT(UNDO_SENT UNDO_SENT FAILED)");
    element_undone('a', 1);
    expect("COMPENSATING", "UNDO_SENT(UNDO_SENT UNDONE FAILED)");
    element_undone('a', 0);
    expect_noted("undone a");
    expect("COMPENSATED", "UNDONE(UNDONE UNDONE FAILED)");
}

static void what_waits_for_room_is_never_sent(void **state)
{
    (void)state;
    start("n");
    spread('a', 2);
    expect_sent("action a[0] r1");
    element_failed('a', 0);
    expect("COMPENSATED", "FAILED(FAILED CANCELLED)");
}

static void it_is_undone_before_what_it_comes_after(void **state)
{
    (void)state;
    start("c f0 c1");
    ok('a');
    spread('b', 2);
    element_ok('b', 0);
    element_ok('b', 1);
    failed('c');
    expect("COMPENSATING", "SUCCEEDED UNDO_SENT(UNDO_SENT UNDO_SENT) FAILED");
    element_undone('b', 0);
    expect_sent("");
    element_undone('b', 1);
    expect_sent("undo a r1");
    undo_ok('a');
    expect("COMPENSATED", "UNDONE UNDONE(UNDONE UNDONE) FAILED");
}

static void a_retriable_element_is_tried_till_it_succeeds(void **state)
{
    (void)state;
    start("p g0");
    ok('a');
    spread('b', 2);
    element_ok('b', 0);
    element_failed('b', 1);
    expect("COMPLETING", "SUCCEEDED RETRY_WAIT(SUCCEEDED RETRY_WAIT)");
    element_due('b', 1);
    expect_sent("action b[1] r2");
    element_failed('b', 1);
    expect("STUCK/forward", "SUCCEEDED FAILED(SUCCEEDED FAILED)");
    expect_reason("stuck: b[1]: its participant refused");
    assert_int_equal(want(EVENT_RETRY, 'b', 0), VERDICT_REFUSED);
    assert_int_equal(want(EVENT_RETRY, 'b', ELEMENT_ALL), VERDICT_APPLIED);
    expect_sent("action b[1] r3");
    element_ok('b', 1);
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED(SUCCEEDED SUCCEEDED)");
}

static void an_operator_speaks_of_all_or_of_one(void **state)
{
    (void)state;
    start("f c0");
    spread('a', 2);
    element_ok('a', 0);
    element_ok('a', 1);
    failed('b');
    for (int i = 0; i < 2; i++) {
        element_no_undo('a', i);
        element_due('a', i);
        element_no_undo('a', i);
    }
    expect("STUCK/backward", "UNDO_STUCK(UNDO_STUCK UNDO_STUCK) FAILED");
    expect_reason(
        "b: its participant refused; stuck: a[1]: its undo failed, and is out of attempts");
    want(EVENT_MARK_UNDONE, 'a', 1);
    expect("STUCK/backward", "UNDO_STUCK(UNDO_STUCK UNDONE) FAILED");
    want(EVENT_RETRY, 'a', ELEMENT_ALL);
    expect_sent("undo a[0] r3");
    element_undone('a', 0);
    expect("COMPENSATED", "UNDONE(UNDONE UNDONE) FAILED");
}

static void a_skip_of_all_fences_what_is_in_flight(void **state)
{
    (void)state;
    start("x c0");
    spread('a', 3);
    element_ok('a', 0);
    intent(EVENT_PAUSE, '-');
    want(EVENT_SKIP, 'a', ELEMENT_ALL);
    expect_sent("probe a[1] r1, probe a[2] r1");
    expect("RUNNING", "SUCCEEDED(SUCCEEDED SKIPPED SKIPPED) READY");
    assert_int_equal(want(EVENT_SKIP, 'a', 3), VERDICT_REFUSED);
    expect_because("no such element");
}

static void what_names_no_element_is_let_by(void **state)
{
    (void)state;
    start("f c");
    spread('a', 2);
    assert_int_equal(spread('a', 2), VERDICT_IGNORED);
    for (int index = 2; index < 5; index++)
        assert_int_equal(apply((struct machine_event){
                             .type = EVENT_OK, .step = 0, .element = index, .round = 1}),
                         VERDICT_IGNORED);
    assert_int_equal(
        apply((struct machine_event){.type = EVENT_OK, .step = 1, .element = 1, .round = 1}),
        VERDICT_IGNORED);
    assert_int_equal(apply((struct machine_event){
                         .type = EVENT_UNMAPPABLE, .step = 0, .element = ELEMENT_ALL, .round = 1}),
                     VERDICT_IGNORED);
    expect("RUNNING", "SENT(SENT SENT) SENT");
}

static void a_condition_is_asked_for_with_the_list(void **state)
{
    (void)state;
    start_with_conditions("f");
    assert_true(command_asks_condition(&fixture.plan, &fixture.decision.commands[0]));
    apply((struct machine_event){.type = EVENT_CONDITION_FALSE, .step = 0, .element = ELEMENT_ALL});
    expect("SUCCEEDED", "SKIPPED");
    start_with_conditions("f");
    spread('a', 1);
    assert_false(command_asks_condition(&fixture.plan, &fixture.decision.commands[0]));
}

/* The elements of a step lie elsewhere in another version, and go with it. */
static void elements_go_along_to_another_version(void **state)
{
    (void)state;
    static struct plan to;
    start("f f0");
    saga_make("f f0", &to);
    to.version = fixture.plan.version + 1;
    to.steps[0].name = "c"; /* not begun there, and as long as may be */
    to.steps[1].name = "a";
    to.steps[1].after = 0;
    assert_int_equal(plan_complete(&to, NULL), 0);
    spread('a', 2);
    element_ok('a', 1);
    machine_apply(&fixture.plan, &fixture.instance,
                  &(struct machine_event){
                      .type = EVENT_MIGRATE, .step = -1, .now_us = fixture.now_us, .to = &to},
                  &fixture.decision);
    assert_int_equal(fixture.decision.verdict, VERDICT_APPLIED);
    assert_int_equal(fixture.instance.steps[1].elements, 2);
    assert_int_equal(fixture.instance.elements[2].state, STEP_SENT);
    assert_int_equal(fixture.instance.elements[3].state, STEP_SUCCEEDED);
    assert_true(command_asks_list(&fixture.decision.commands[0]));
}

static void a_name_may_name_an_element(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int step, element;
    } names[] = {{"a", 0, ELEMENT_ALL}, {"a[0]", 0, 0},  {"a[17]", 0, 17}, {"b", 1, 0},
                 {"b[0]", -1, 0},       {"a[]", -1, 0},  {"a[-1]", -1, 0}, {"a[1]x", -1, 0},
                 {"a[1", -1, 0},        {"c[1]", -1, 0}, {"[1]", -1, 0},   {"", -1, 0}};
    start("f c");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int element = 0;
        assert_int_equal(plan_find_element(&fixture.plan, names[i].name, &element), names[i].step);
        if (names[i].step >= 0)
            assert_int_equal(element, names[i].element);
    }
}

/* It took no effect, so that what came before it can be undone at once. */
static void an_empty_list_is_nothing_to_undo(void **state)
{
    (void)state;
    start("c f0");
    ok('a');
    spread('b', 0);
    expect("SUCCEEDED", "SUCCEEDED SUCCEEDED");
    intent(EVENT_TAKE_BACK, '-');
    expect("COMPENSATING", "UNDO_SENT SUCCEEDED");
    undo_ok('a');
    expect("COMPENSATED", "UNDONE SUCCEEDED");
}

/* The largest fan-out: as many commands and notes as one event can bring. */
static void the_largest_list_fits_into_a_decision(void **state)
{
    (void)state;
    start("f");
    fixture.plan.steps[0].elements_max = SAGA_ELEMENTS_MAX;
    fixture.plan.steps[0].elements_at_once = SAGA_ELEMENTS_MAX;
    start_again();
    spread('a', SAGA_ELEMENTS_MAX);
    assert_int_equal(fixture.decision.command_count, SAGA_ELEMENTS_MAX);
    fixture.now_us += 1000;
    apply((struct machine_event){.type = EVENT_DUE, .step = -1});
    assert_int_equal(fixture.decision.note_count, SAGA_ELEMENTS_MAX);
    fixture.now_us = fixture.instance.deadline_us;
    apply((struct machine_event){.type = EVENT_DUE, .step = -1});
    assert_int_equal(fixture.decision.command_count, SAGA_ELEMENTS_MAX);
    intent(EVENT_ABANDON, '-');
    assert_int_equal(fixture.decision.command_count, SAGA_ELEMENTS_MAX);
}

/* Every state of every element, whether it can be or not, meets every event. */
static void no_element_however_wrong_stops_the_machine(void **state)
{
    (void)state;
    struct machine_decision decision;
    start("f c0");
    for (int code = 0; code < STEP_STATE_COUNT * STEP_STATE_COUNT * STEP_STATE_COUNT; code++) {
        int first = code % STEP_STATE_COUNT;
        int second = code / STEP_STATE_COUNT % STEP_STATE_COUNT;
        int own = code / STEP_STATE_COUNT / STEP_STATE_COUNT;
        for (int type = 0; type < MACHINE_EVENT_COUNT; type++) {
            for (int target = ELEMENT_ALL; target < 3; target++) {
                static struct instance changed;
                memset(&changed, 0, offsetof(struct instance, elements[3]));
                changed.state = (enum saga_state)(code % SAGA_SUCCEEDED);
                changed.steps[0] =
                    (struct step_status){.state = (enum step_state)own, .elements = 2};
                changed.elements[0] = (struct step_status){(enum step_state)first, 1, 1, 1, 0, 1};
                changed.elements[1] = (struct step_status){(enum step_state)second, 1, 1, 1, 0, 1};
                struct machine_event event = {.type = (enum machine_event_type)type,
                                              .element = target,
                                              .operation = (enum saga_operation)((code + type) % 3),
                                              .round = 1,
                                              .now_us = 1};
                machine_apply(&fixture.plan, &changed, &event, &decision);
                (void)machine_check(&fixture.plan, &changed);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_list_is_asked_for_and_each_element_is_sent),
        cmocka_unit_test(an_empty_list_is_done_and_leaves_nothing_to_undo),
        cmocka_unit_test(a_list_that_cannot_be_is_a_failure),
        cmocka_unit_test(a_retriable_list_that_cannot_be_is_stuck),
        cmocka_unit_test(one_that_fails_has_the_others_settled_and_undone),
        cmocka_unit_test(what_waits_for_room_is_never_sent),
        cmocka_unit_test(it_is_undone_before_what_it_comes_after),
        cmocka_unit_test(a_retriable_element_is_tried_till_it_succeeds),
        cmocka_unit_test(an_operator_speaks_of_all_or_of_one),
        cmocka_unit_test(a_skip_of_all_fences_what_is_in_flight),
        cmocka_unit_test(what_names_no_element_is_let_by),
        cmocka_unit_test(a_condition_is_asked_for_with_the_list),
        cmocka_unit_test(elements_go_along_to_another_version),
        cmocka_unit_test(a_name_may_name_an_element),
        cmocka_unit_test(an_empty_list_is_nothing_to_undo),
        cmocka_unit_test(the_largest_list_fits_into_a_decision),
        cmocka_unit_test(no_element_however_wrong_stops_the_machine),
    };
    return cmocka_run_group_tests_name("machine elements", tests, NULL, NULL);
}
