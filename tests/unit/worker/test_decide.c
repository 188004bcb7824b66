#include "saga/worker/decide.h"
#include "worker_test.h"

#include "outbox/runtime/clock.h"
#include "saga/machine/plan.h"
#include "saga/worker/plan_cache.h"
#include <stdio.h>
#include <string.h>

#define POLICY "{\"max\": 3, \"base_ms\": 100, \"factor\": 2, \"cap_ms\": 1000, \"jitter\": true}"
#define POLICIES                                                                                   \
    "\"retry\": " POLICY ", \"undo_retry\": " POLICY                                               \
    ", \"undo_on_fail\": false, \"input\": null, "                                                 \
    "\"undo_input\": null"

/* reserve (compensable) -> capture (pivot) -> ship (retriable) */
static const char plan_text[] =
    "{\"definition\": \"order\", \"version\": 3, \"timeout_ms\": null, \"events\": false, "
    "\"steps\": ["
    "{\"name\": \"reserve\", \"action\": \"inventory.reserve\", \"undo\": \"inventory.release\", "
    "\"participant\": \"inventory\", \"kind\": \"compensable\", \"via\": \"command\", \"after\": "
    "[], "
    "\"timeout_ms\": 30000, " POLICIES "},"
    "{\"name\": \"capture\", \"action\": \"payment.capture\", \"undo\": null, \"participant\": "
    "\"payment\", \"kind\": \"pivot\", \"via\": \"command\", \"after\": [0], \"timeout_ms\": "
    "10000, " POLICIES "},"
    "{\"name\": \"ship\", \"action\": \"shipping.book\", \"undo\": null, \"participant\": "
    "\"shipping\", \"kind\": \"retriable\", \"via\": \"command\", \"after\": [1], \"timeout_ms\": "
    "30000, " POLICIES "}]}";

#define NOW_US (INT64_C(1800000000) * US_PER_S)

struct fixture {
    struct arena *arena;
    struct plan *plan;
    struct decisions decisions;
    struct fact fact;
};

static int setup(void **state)
{
    static struct fixture fixture;
    struct error error;
    memset(&fixture, 0, sizeof fixture);
    assert_int_equal(arena_create(&fixture.arena, 4096, (size_t)1024 * 1024, &error), 0);
    if (plan_read(plan_text, strlen(plan_text), &fixture.plan, &error) < 0) {
        fail_msg("%s", error.message);
    }
    fixture.fact.plan = fixture.plan;
    machine_start(fixture.plan, &fixture.fact.instance, NOW_US, &fixture.decisions.scratch);
    fixture.fact.wake_us = machine_wake_us(fixture.plan, &fixture.fact.instance);
    decide_begin(&fixture.decisions, fixture.arena, NOW_US + 5 * US_PER_MS, 1);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    decide_free(&fixture->decisions);
    plan_free(fixture->plan);
    arena_destroy(fixture->arena);
    return 0;
}

static struct happening reply(enum machine_event_type type, int step)
{
    return (struct happening){
        .event = {.type = type, .step = step, .operation = OPERATION_ACTION, .round = 1}};
}

static void apply(struct fixture *fixture, struct happening *happening)
{
    struct error error;
    assert_int_equal(decide_apply(&fixture->decisions, &fixture->fact, happening, &error), 0);
}

static void an_answer_moves_the_saga(void **state)
{
    struct fixture *fixture = *state;
    struct happening done = reply(EVENT_OK, 0);
    done.output = (struct json_span){"{\"id\": 7.50}", 12, JSON_OBJECT};
    apply(fixture, &done);
    assert_int_equal(done.verdict, VERDICT_APPLIED);
    assert_int_equal(done.latency_us, 5 * US_PER_MS);
    assert_true(fixture->fact.changed);
    assert_string_equal(fixture->fact.outputs, "\"reserve\": {\"id\": 7.50}");
    assert_null(fixture->fact.errors);
    assert_int_equal(fixture->decisions.command_count, 1);
    assert_int_equal(fixture->decisions.commands[0].command.step, 1);
}

/* A participant that is asked says only that nothing was done: why, the saga knows. */
static void what_was_not_done_is_told_with_what_it_met(void **state)
{
    struct fixture *fixture = *state;
    static const char failures[] = "{\"reserve\": \"42P01: no such table\"}";
    fixture->fact.failures = failures;
    fixture->fact.failures_bytes = sizeof failures - 1;
    struct happening fenced = reply(EVENT_NOT_EXECUTED, 0);
    apply(fixture, &fenced);
    assert_int_equal(fenced.verdict, VERDICT_APPLIED);
    assert_string_equal(fixture->fact.instance.reason, "reserve: not done: 42P01: no such table");
    assert_null(fenced.event.reason);
}

static void what_met_nothing_is_told_without(void **state)
{
    struct fixture *fixture = *state;
    static const char others[] = "{\"ship\": \"42P01: no such table\"}", broken[] = "{";
    fixture->fact.failures = others;
    fixture->fact.failures_bytes = sizeof others - 1;
    struct happening fenced = reply(EVENT_NOT_EXECUTED, 0);
    apply(fixture, &fenced);
    assert_string_equal(fixture->fact.instance.reason,
                        "reserve: it was not done and never will be");
    fixture->fact.failures = broken;
    fixture->fact.failures_bytes = sizeof broken - 1;
    apply(fixture, &fenced);
}

/* wake_at is an indexed column: as long as it does not move, the update of the row is HOT. */
static void a_later_wake_up_leaves_the_row_hot(void **state)
{
    struct fixture *fixture = *state;
    fixture->fact.wake_us = NOW_US + 1 * US_PER_S; /* earlier than anything the machine wants now */
    struct happening done = reply(EVENT_OK, 0);
    apply(fixture, &done);
    decide_finish(&fixture->decisions, &fixture->fact);
    assert_int_equal(fixture->fact.wake_us, NOW_US + 1 * US_PER_S);
    assert_false(fixture->fact.wake_changed);
}

static void an_earlier_wake_up_moves_it(void **state)
{
    struct fixture *fixture = *state;
    struct happening done = reply(EVENT_OK, 0); /* the next step's timeout is 10 s, not 30 s */
    apply(fixture, &done);
    decide_finish(&fixture->decisions, &fixture->fact);
    assert_int_equal(fixture->fact.wake_us, fixture->decisions.now_us + 10 * US_PER_S);
    assert_true(fixture->fact.wake_changed);
}

static void waking_too_early_arms_it_again(void **state)
{
    struct fixture *fixture = *state;
    fixture->fact.wake_us = NOW_US; /* due, but nothing of the machine's is */
    struct happening due = {.event = {.type = EVENT_DUE, .step = -1}};
    apply(fixture, &due);
    assert_int_equal(due.verdict, VERDICT_IGNORED);
    decide_finish(&fixture->decisions, &fixture->fact);
    assert_int_equal(fixture->fact.wake_us, NOW_US + 30 * US_PER_S);
    assert_true(fixture->fact.changed);
    assert_int_equal(fixture->decisions.note_count, 0);
}

static void a_lost_wake_up_is_repaired(void **state)
{
    struct fixture *fixture = *state;
    fixture->fact.wake_us = 0;
    struct happening due = {.event = {.type = EVENT_DUE, .step = -1}};
    apply(fixture, &due);
    decide_finish(&fixture->decisions, &fixture->fact);
    assert_int_equal(fixture->fact.wake_us, NOW_US + 30 * US_PER_S);
    assert_true(fixture->fact.changed);
}

static void a_repeated_answer_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct happening first = reply(EVENT_OK, 0);
    struct happening again = reply(EVENT_OK, 0);
    again.output = (struct json_span){"{\"id\": 8}", 9, JSON_OBJECT};
    apply(fixture, &first);
    int64_t revision = fixture->fact.revision;
    apply(fixture, &again);
    assert_int_equal(again.verdict, VERDICT_IGNORED);
    assert_int_equal(again.latency_us, -1);
    assert_int_equal(fixture->fact.revision, revision);
    assert_string_equal(fixture->fact.outputs, "\"reserve\": null");
    assert_int_equal(fixture->decisions.command_count, 1);
}

static void a_refusal_keeps_its_error_and_ends_the_saga(void **state)
{
    struct fixture *fixture = *state;
    struct happening failed = reply(EVENT_FAILED, 0);
    failed.error = (struct json_span){"{\"code\": \"no\"}", 14, JSON_OBJECT};
    apply(fixture, &failed);
    decide_finish(&fixture->decisions, &fixture->fact);
    assert_true(fixture->fact.ended);
    assert_int_equal(fixture->fact.instance.state, SAGA_COMPENSATED);
    assert_int_equal(fixture->fact.wake_us, 0);
    assert_string_equal(fixture->fact.errors, "\"reserve\": {\"code\": \"no\"}");
    int with_error = 0;
    for (int i = 0; i < fixture->decisions.note_count; i++) {
        with_error += fixture->decisions.notes[i].error.text ? 1 : 0;
    }
    assert_int_equal(with_error, 1);
}

static void what_cannot_be_built_is_told_in_the_same_batch(void **state)
{
    struct fixture *fixture = *state;
    struct happening done = reply(EVENT_OK, 0);
    apply(fixture, &done);
    struct decided_command unsent = fixture->decisions.commands[0];
    struct happening unmappable = {.event = {.type = EVENT_UNMAPPABLE,
                                             .step = unsent.command.step,
                                             .operation = unsent.command.operation,
                                             .round = unsent.command.round,
                                             .attempt = unsent.command.attempt,
                                             .reason = "the path $.x finds nothing"}};
    fixture->decisions.commands_from = fixture->decisions.command_count;
    apply(fixture, &unmappable);
    /* The pivot was never sent: what was reserved is released. */
    assert_int_equal(fixture->fact.instance.state, SAGA_COMPENSATING);
    assert_int_equal(fixture->decisions.command_count, 2);
    assert_int_equal(fixture->decisions.commands[1].command.operation, OPERATION_UNDO);
}

/* Until it is known whether ship runs, nothing else may happen to the saga. */
static void a_condition_is_asked_for_first(void **state)
{
    struct fixture *fixture = *state;
    fixture->plan->steps[2].has_condition = true;
    struct happening first = reply(EVENT_OK, 0);
    apply(fixture, &first);
    assert_false(fixture->fact.asks_condition);
    struct happening second = reply(EVENT_OK, 1);
    apply(fixture, &second);
    assert_true(fixture->fact.asks_condition);
    struct happening skipped = {.event = {.type = EVENT_CONDITION_FALSE, .step = 2}};
    apply(fixture, &skipped);
    assert_int_equal(fixture->fact.instance.steps[2].state, STEP_SKIPPED);
    assert_true(fixture->fact.ended);
}

/* A step that waits has nothing to send: its command asks for the condition alone. */
static void a_wait_asks_and_sends_nothing(void **state)
{
    struct fixture *fixture = *state;
    fixture->plan->steps[2].has_condition = true;
    fixture->plan->steps[2].via = VIA_SIGNAL;
    struct happening replies[] = {reply(EVENT_OK, 0), reply(EVENT_OK, 1)};
    apply(fixture, &replies[0]);
    apply(fixture, &replies[1]);
    assert_int_equal(fixture->fact.instance.steps[2].state, STEP_PARKED);
    assert_true(fixture->fact.asks_condition);
    assert_int_equal(fixture->decisions.command_count, 2);
    assert_false(fixture->decisions.commands[0].unsent);
    assert_true(fixture->decisions.commands[1].unsent);
}

/* A lock asks before anything else happens, and brings its name; denied or not waited for any more,
 * it leaves the queue. */
static void a_lock_is_asked_for_brings_its_name_and_is_left(void **state)
{
    struct fixture *fixture = *state;
    fixture->plan->steps[2].via = VIA_LOCK;
    struct happening replies[] = {reply(EVENT_OK, 0), reply(EVENT_OK, 1)};
    apply(fixture, &replies[0]);
    apply(fixture, &replies[1]);
    assert_true(fixture->fact.asks_condition);
    assert_true(fixture->decisions.commands[1].unsent);
    assert_null(fixture->fact.left_locks);
    struct fact parked = fixture->fact;
    fixture->fact.outputs = NULL;
    struct happening granted = {.event = {.type = EVENT_GRANT, .step = 2},
                                .output = {"{\"resource\": \"r\"}", 17, JSON_OBJECT}};
    apply(fixture, &granted);
    assert_string_equal(fixture->fact.outputs, "\"ship\": {\"resource\": \"r\"}");
    assert_null(fixture->fact.left_locks);
    fixture->fact = parked;
    fixture->fact.outputs = NULL;
    struct happening skipped = {.event = {.type = EVENT_SKIP, .step = 2}};
    apply(fixture, &skipped);
    assert_string_equal(fixture->fact.left_locks->step, "ship");
    assert_null(fixture->fact.left_locks->next);
    assert_null(fixture->fact.outputs);
}

/* By its name: the version that the saga goes on by in the same transaction does not know it. */
static void a_lock_is_left_behind_by_a_migration(void **state)
{
    struct fixture *fixture = *state;
    struct plan_step *ship = &fixture->plan->steps[2];
    fixture->plan->steps[1].kind = KIND_COMPENSABLE;
    fixture->plan->pivot = -1;
    ship->via = VIA_LOCK;
    ship->kind = KIND_READ_ONLY;
    struct plan to = *fixture->plan;
    to.version = 4;
    to.step_count = 2;
    struct happening replies[] = {reply(EVENT_OK, 0), reply(EVENT_OK, 1)};
    apply(fixture, &replies[0]);
    apply(fixture, &replies[1]);
    assert_int_equal(fixture->fact.instance.steps[2].state, STEP_PARKED);
    struct happening cancelled = {.event = {.type = EVENT_CANCEL, .step = -1}};
    struct happening moved = {.event = {.type = EVENT_MIGRATE, .step = -1, .to = &to}};
    apply(fixture, &cancelled);
    fixture->fact.changed = false; /* it was written */
    apply(fixture, &moved);
    assert_int_equal(moved.verdict, VERDICT_APPLIED);
    assert_string_equal(fixture->fact.left_locks->step, "ship");
    assert_null(fixture->fact.left_locks->next);
}

static void what_left_a_lock_fits_into_the_arena(void **state)
{
    struct fixture *fixture = *state;
    struct error error;
    fixture->plan->steps[2].via = VIA_LOCK;
    struct happening replies[] = {reply(EVENT_OK, 0), reply(EVENT_OK, 1)};
    apply(fixture, &replies[0]);
    apply(fixture, &replies[1]);
    while (arena_alloc(fixture->arena, 1)) {
    }
    struct happening skipped = {.event = {.type = EVENT_SKIP, .step = 2}};
    assert_int_equal(decide_apply(&fixture->decisions, &fixture->fact, &skipped, &error),
                     ERROR_NO_MEMORY);
    assert_int_equal(error.retry, RETRY_LATER);
}

/* A list is asked for first; then each element is sent, and brings its own output and error. */
static void elements_bring_outputs_of_their_own(void **state)
{
    struct fixture *fixture = *state;
    struct plan_step *ship = &fixture->plan->steps[2];
    ship->elements_max = ship->elements_at_once = 3;
    struct happening replies[] = {reply(EVENT_OK, 0), reply(EVENT_OK, 1)};
    apply(fixture, &replies[0]);
    apply(fixture, &replies[1]);
    assert_true(fixture->fact.asks_condition);
    assert_true(fixture->decisions.commands[1].unsent);
    fixture->fact.outputs = NULL;
    struct happening list = {
        .event = {.type = EVENT_SPREAD, .step = 2, .element = ELEMENT_ALL, .count = 3}};
    apply(fixture, &list);
    assert_string_equal(fixture->fact.outputs, "\"ship\": [null, null, null]");
    assert_int_equal(fixture->decisions.command_count, 5);
    assert_int_equal(fixture->decisions.commands[4].command.element, 2);
    for (int element = 2; element >= 1; element--) {
        struct happening done = reply(EVENT_OK, 2);
        done.event.element = element;
        done.output = (struct json_span){element == 2 ? "{\"n\": 2}" : NULL, 8, JSON_OBJECT};
        apply(fixture, &done);
        assert_int_equal(done.latency_us, 0);
    }
    assert_string_equal(fixture->fact.element_outputs->text, "[\"ship\", 2, {\"n\": 2}]");
    assert_string_equal(fixture->fact.element_outputs->next->text, "[\"ship\", 1, null]");
    assert_null(fixture->fact.element_outputs->next->next);
    assert_int_equal(fixture->fact.element_output_bytes, 21 + 17 + 2 * 2);
    struct happening failed = reply(EVENT_FAILED, 2);
    failed.error = (struct json_span){"{\"code\": \"no\"}", 14, JSON_OBJECT};
    apply(fixture, &failed);
    assert_string_equal(fixture->fact.errors, "\"ship\": {\"element\": 0, \"code\": \"no\"}");
    struct happening again = reply(EVENT_FAILED, 2);
    again.event.round = 2;
    again.error = (struct json_span){"{}", 2, JSON_OBJECT};
    fixture->fact.errors = NULL;
    fixture->decisions.now_us += 10 * US_PER_S;
    struct happening due = {.event = {.type = EVENT_DUE, .step = -1}};
    apply(fixture, &due);
    apply(fixture, &again);
    assert_string_equal(fixture->fact.errors, "\"ship\": {\"element\": 0}");
    assert_int_equal(fixture->fact.instance.steps[2].state, STEP_RETRY_WAIT);
}

static void a_migrated_saga_goes_by_the_other_plan(void **state)
{
    struct fixture *fixture = *state;
    struct plan to = *fixture->plan;
    to.version = 4;
    to.step_count = 2;
    struct happening moved = {
        .event = {.type = EVENT_MIGRATE, .step = -1, .to = &to, .unfit = true},
        .definition_id = 44,
        .actor = "ann",
    };
    apply(fixture, &moved);
    assert_int_equal(moved.verdict, VERDICT_REFUSED);
    assert_false(fixture->fact.changed || fixture->fact.moved || fixture->fact.wants_signals);
    assert_ptr_equal(fixture->fact.plan, fixture->plan);
    moved.event.unfit = false;
    apply(fixture, &moved);
    assert_int_equal(moved.verdict, VERDICT_APPLIED);
    assert_true(fixture->fact.changed && fixture->fact.moved && fixture->fact.wants_signals);
    assert_ptr_equal(fixture->fact.plan, &to);
    assert_int_equal(fixture->fact.definition_id, 44);
    assert_int_equal(fixture->decisions.note_count, 1);
    assert_string_equal(fixture->decisions.notes[0].note.because,
                        "version 3 to 4: what it has done is the same in that version");
    assert_string_equal(fixture->decisions.notes[0].actor, "ann");
}

static void many_decisions_grow(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 500; i++) {
        machine_start(fixture->plan, &fixture->fact.instance, NOW_US, &fixture->decisions.scratch);
        struct happening done = reply(EVENT_OK, 0);
        apply(fixture, &done);
        fixture->fact.outputs = NULL;
    }
    assert_int_equal(fixture->decisions.command_count, 500);
}

static void outputs_over_the_limit_fail(void **state)
{
    struct fixture *fixture = *state;
    static char large[600 * 1024];
    struct error error;
    memset(large, '1', sizeof large);
    struct happening done = reply(EVENT_OK, 0);
    struct happening next = reply(EVENT_OK, 1);
    done.output = next.output = (struct json_span){large, sizeof large, JSON_NUMBER};
    apply(fixture, &done);
    assert_int_equal(decide_apply(&fixture->decisions, &fixture->fact, &next, &error),
                     ERROR_NO_MEMORY);
}

static void plans_are_kept_and_forgotten(void **state)
{
    (void)state;
    struct plan_cache *cache;
    struct metrics *metrics;
    struct error error;
    assert_int_equal(metrics_create(&metrics, &error), 0);
    assert_int_equal(plan_cache_create(&cache, metrics, 40, &error), 0);
    for (int i = 0; i < 40; i++) {
        int id = i * 7 % 40;
        assert_null(plan_cache_find(cache, id));
        assert_int_equal(plan_cache_add(cache, id, plan_text, strlen(plan_text), &error), 0);
        assert_int_equal(plan_cache_find(cache, id)->definition_id, id);
    }
    plan_cache_count_ended(cache, plan_cache_find(cache, 3), SAGA_SUCCEEDED);
    plan_cache_count_ended(cache, plan_cache_find(cache, 3), SAGA_SUCCEEDED);
    assert_true(metric_value(plan_cache_find(cache, 3)->ended[SAGA_SUCCEEDED]) == 2);
    plan_cache_trim(cache);
    assert_null(plan_cache_find(cache, 3));
    assert_int_equal(plan_cache_add(cache, 1, "{}", 2, &error), 0);
    assert_null(plan_cache_find(cache, 1)->plan);
    assert_non_null(plan_cache_find(cache, 1)->why);
    assert_int_equal(plan_cache_add(cache, 2, NULL, 0, &error), 0);
    assert_non_null(plan_cache_find(cache, 2)->why);
    plan_cache_destroy(cache);
    metrics_destroy(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_answer_moves_the_saga, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_not_done_is_told_with_what_it_met, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_met_nothing_is_told_without, setup, teardown),
        cmocka_unit_test_setup_teardown(a_later_wake_up_leaves_the_row_hot, setup, teardown),
        cmocka_unit_test_setup_teardown(an_earlier_wake_up_moves_it, setup, teardown),
        cmocka_unit_test_setup_teardown(waking_too_early_arms_it_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_wake_up_is_repaired, setup, teardown),
        cmocka_unit_test_setup_teardown(a_repeated_answer_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refusal_keeps_its_error_and_ends_the_saga, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_built_is_told_in_the_same_batch, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_condition_is_asked_for_first, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lock_is_asked_for_brings_its_name_and_is_left, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_lock_is_left_behind_by_a_migration, setup, teardown),
        cmocka_unit_test_setup_teardown(what_left_a_lock_fits_into_the_arena, setup, teardown),
        cmocka_unit_test_setup_teardown(a_wait_asks_and_sends_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(elements_bring_outputs_of_their_own, setup, teardown),
        cmocka_unit_test_setup_teardown(a_migrated_saga_goes_by_the_other_plan, setup, teardown),
        cmocka_unit_test_setup_teardown(many_decisions_grow, setup, teardown),
        cmocka_unit_test_setup_teardown(outputs_over_the_limit_fail, setup, teardown),
        cmocka_unit_test(plans_are_kept_and_forgotten),
    };
    return cmocka_run_group_tests_name("decide", tests, NULL, NULL);
}
