/* test_plan.c: plans that publish writes, and every way in which one can be wrong. */
#include "saga/machine/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define POLICY                                                                                     \
    "{\"max\": 5, \"base_ms\": 200, \"factor\": 2.5, \"cap_ms\": 30000, \"jitter\": true}"

#define STEP(name, kind, undo, after)                                                              \
    "{\"name\": \"" name "\", \"action\": \"shop." name "\", \"undo\": " undo                      \
    ", \"participant\": \"shop\", \"kind\": \"" kind "\", \"via\": \"command\", \"after\": " after \
    ", \"timeout_ms\": 30000, \"retry\": " POLICY ", \"undo_retry\": " POLICY                      \
    ", \"undo_on_fail\": false, \"input\": {\"sku\": 19.90}, \"undo_input\": null}"

#define WAIT(name, via, after, timeout)                                                            \
    "{\"name\": \"" name                                                                           \
    "\", \"action\": null, \"undo\": null, \"participant\": null, \"kind\": \"read_only\", "       \
    "\"via\": \"" via "\", \"after\": " after ", \"timeout_ms\": " timeout ", \"retry\": " POLICY  \
    ", \"undo_retry\": " POLICY ", \"undo_on_fail\": false}"

#define CHILD(action, kind)                                                                        \
    "{\"name\": \"child\", \"action\": " action                                                    \
    ", \"undo\": null, \"participant\": null, \"kind\": \"" kind                                   \
    "\", \"via\": \"saga\", \"child\": \"payment\", \"child_version\": 2, \"after\": [], "         \
    "\"timeout_ms\": 300000, \"retry\": " POLICY ", \"undo_retry\": " POLICY                       \
    ", \"undo_on_fail\": false}"

#define PLAN(steps)                                                                                \
    "{\"definition\": \"order\", \"version\": 3, \"timeout_ms\": 900000, \"events\": true, "       \
    "\"steps\": [" steps "]}"

#define RESERVE STEP("reserve", "compensable", "\"shop.release\"", "[]")
#define FRAUD   STEP("fraud", "read_only", "null", "[]")
#define CAPTURE STEP("capture", "pivot", "null", "[0]")
#define SHIP    STEP("ship", "retriable", "null", "[2]")
#define SETTLE  WAIT("settle", "timer", "[2]", "60000")
#define CALL    WAIT("call", "signal", "[3]", "null")

#define CAPTURE_AFTER_BOTH STEP("capture", "pivot", "null", "[0, 1]")

static void the_order_saga(void **state)
{
    (void)state;
    static const char json[] =
        PLAN(RESERVE ", " FRAUD ", " CAPTURE_AFTER_BOTH ", " SHIP ", " SETTLE ", " CALL);
    struct error error = {0};
    struct plan *plan = NULL;
    if (plan_read(json, strlen(json), &plan, &error) < 0)
        fail_msg("%s", error.message);
    assert_string_equal(plan->definition, "order");
    assert_int_equal(plan->version, 3);
    assert_int_equal(plan->timeout_us, INT64_C(900000000));
    assert_true(plan->events);
    assert_int_equal(plan->step_count, 6);
    assert_int_equal(plan->pivot, 2);
    const struct plan_step *reserve = &plan->steps[0];
    assert_string_equal(reserve->action, "shop.reserve");
    assert_string_equal(reserve->undo, "shop.release");
    assert_string_equal(reserve->participant, "shop");
    assert_int_equal(reserve->retry.max, 5);
    assert_int_equal(reserve->retry.base_us, 200000);
    assert_true(reserve->retry.factor > 2.4 && reserve->retry.factor < 2.6);
    assert_int_equal(reserve->retry.cap_us, 30000000);
    assert_true(reserve->retry.jitter && reserve->has_input && !reserve->has_undo_input);
    assert_int_equal(reserve->descendants, 0x3c);
    assert_int_equal(plan->steps[3].ancestors, 0x7);
    assert_null(plan->steps[4].action);
    assert_int_equal(plan->steps[4].kind, KIND_RETRIABLE); /* behind the pivot */
    assert_int_equal(plan->steps[5].timeout_us, 0);
    assert_int_equal(plan_find_step(plan, "ship", 4), 3);
    assert_int_equal(plan_find_step(plan, "shi", 3), -1);
    plan_free(plan);
}

static void refused(const char *json, const char *why)
{
    struct error error = {0};
    struct plan *plan = NULL;
    int rc = plan_read(json, strlen(json), &plan, &error);
    if (rc == 0)
        fail_msg("not refused: %s", json);
    assert_int_equal(rc, ERROR_PROTOCOL);
    assert_int_equal(error.retry, RETRY_POISON);
    assert_null(plan);
    if (!strstr(error.message, why))
        fail_msg("\"%s\" does not say \"%s\"", error.message, why);
    assert_int_equal(plan_read(json, strlen(json), &plan, NULL), ERROR_PROTOCOL);
}

#define FAN_OUT(kind, undo, via, limits)                                                           \
    "{\"name\": \"pick\", \"action\": \"shop.pick\", \"undo\": " undo                              \
    ", \"participant\": \"shop\", \"kind\": \"" kind "\", \"via\": \"" via                         \
    "\", \"after\": [], \"timeout_ms\": 30000, \"retry\": " POLICY ", \"undo_retry\": " POLICY     \
    ", \"undo_on_fail\": false, \"for_each\": {\"holes\": []}" limits "}"
#define PICK(limits) FAN_OUT("compensable", "\"shop.unpick\"", "command", limits)

static void a_fan_out(void **state)
{
    (void)state;
    static const char json[] =
        PLAN(PICK(", \"for_each_max\": 7, \"for_each_at_once\": 3") ", " RESERVE ", " PICK(
            ", \"for_each_max\": 505"));
    struct error error = {0};
    struct plan *plan = NULL;
    assert_int_equal(plan_read(json, strlen(json), &plan, &error), ERROR_PROTOCOL);
    assert_non_null(strstr(error.message, "another step has this name"));
    static const char one[] =
        PLAN(PICK(", \"for_each_max\": 7, \"for_each_at_once\": 3") "," RESERVE);
    assert_int_equal(plan_read(one, strlen(one), &plan, &error), 0);
    assert_int_equal(plan->steps[0].elements_max, 7);
    assert_int_equal(plan->steps[0].elements_at_once, 3);
    assert_int_equal(plan->steps[1].elements_max, 0);
    assert_int_equal(plan->steps[1].elements_from, 7);
    plan_free(plan);
    refused(PLAN(PICK("")), "\"for_each_max\" is no number");
    refused(PLAN(PICK(", \"for_each_max\": 513")), "\"for_each_max\" is 513");
    refused(PLAN(PICK(", \"for_each_max\": 5, \"for_each_at_once\": 0")),
            "\"for_each_at_once\" is 0");
    refused(PLAN(PICK(", \"for_each_max\": 512") "," PICK(", \"for_each_max\": 1")),
            "too many elements together");
    refused(PLAN(FAN_OUT("pivot", "null", "command", ", \"for_each_max\": 5")),
            "a pivot is no fan-out");
    refused(PLAN(FAN_OUT("compensable", "null", "timer", ", \"for_each_max\": 5")),
            "only a command is fanned out");
}

static void what_is_no_plan(void **state)
{
    (void)state;
    refused("", "plan: ");
    refused("[]", "it is no object");
    refused("{", "plan: ");
    refused("null", "plan: ");
    refused("{} {}", "plan: ");
    refused("{\"definition\": \"\"}", "\"definition\" has 0 bytes");
    refused("{\"definition\": \"a\\u0000b\"}", "\"definition\" has 3 bytes");
    refused("{\"definition\": 7}", "\"definition\" is no text");
    refused("{\"definition\": \"x\", \"version\": 0}", "\"version\" is 0");
    refused("{\"definition\": \"x\", \"version\": 1, \"timeout_ms\": -1}", "\"timeout_ms\" is -1");
    refused("{\"definition\": \"x\", \"version\": 1, \"events\": 1}", "neither true nor false");
    refused("{\"definition\": \"x\", \"version\": 1}", "\"steps\" is no array");
    refused(PLAN(""), "it has 0 steps");
    refused(PLAN("7"), "step 0: it is no object");
}

/* The plan of one step, with one member replaced. */
static void refused_step(const char *member, const char *value, const char *why)
{
    char json[4096];
    char pattern[64];
    const char *step = STEP("reserve", "compensable", "\"shop.release\"", "[]");
    snprintf(pattern, sizeof(pattern), "\"%s\": ", member);
    const char *at = strstr(step, pattern);
    assert_non_null(at);
    at += strlen(pattern);
    const char *end = at;
    for (int depth = 0; depth > 0 || (*end != ',' && *end != '}'); end++)
        depth += (*end == '{' || *end == '[') - (*end == '}' || *end == ']');
    snprintf(json, sizeof(json),
             "{\"definition\": \"x\", \"version\": 1, \"events\": false, \"steps\": [%.*s%s%s]}",
             (int)(at - step), step, value, end);
    refused(json, why);
}

static void what_is_wrong_in_a_step_is_named(void **state)
{
    (void)state;
    refused_step("name", "null", "step 0: \"name\" is no text");
    refused_step("kind", "\"optional\"", "step \"reserve\": there is no kind \"optional\"");
    refused_step("via", "\"mail\"", "there is no via \"mail\"");
    refused_step("action", "null", "\"action\" is no text");
    refused_step("undo", "null", "step \"reserve\": it is compensable and has no undo (rule 1)");
    refused_step("undo", "5", "\"undo\" is no text");
    refused_step("participant", "null", "\"participant\" is no text");
    refused_step("after", "{}", "\"after\" is no array");
    refused_step("after", "[0]", "\"after\" may name the steps before it");
    refused_step("after", "[-1]", "\"after\" may name the steps before it");
    refused_step("after", "[\"x\"]", "\"after\" may name the steps before it");
    refused_step("timeout_ms", "null", "it has no timeout");
    refused_step("timeout_ms", "\"5s\"", "\"timeout_ms\" is no number");
    refused_step("timeout_ms", "1e300", "\"timeout_ms\" is 1");
    refused_step("retry", "null", "\"retry\" is no object");
    refused_step("retry", "{}", "\"max\" is no number");
    refused_step("retry", "{\"max\": 0}", "\"max\" is 0");
    refused_step("retry", "{\"max\": 1, \"base_ms\": 5, \"factor\": 0.5}", "\"factor\" is 0.5");
    refused_step("retry", "{\"max\": 1, \"base_ms\": 5, \"factor\": 1, \"cap_ms\": 4}",
                 "the cap of its pauses is below the first");
    refused_step("undo_on_fail", "\"yes\"", "neither true nor false");
}

static void what_is_wrong_in_the_graph_is_named(void **state)
{
    (void)state;
    refused(PLAN(RESERVE ", " RESERVE), "another step has this name");
    refused(PLAN(RESERVE ", " CAPTURE ", " STEP("again", "pivot", "null", "[1]")),
            "step \"again\": a saga has one pivot (rule 2)");
    refused(PLAN(RESERVE ", " CAPTURE ", " STEP("beside", "read_only", "null", "[0]")),
            "step \"beside\": it is neither before nor after the pivot (rule 2)");
    refused(PLAN(STEP("early", "retriable", "null", "[]") ", " CAPTURE),
            "it is retriable and before the pivot (rule 3)");
    refused(PLAN(RESERVE ", " CAPTURE ", " STEP("late", "compensable", "\"shop.x\"", "[1]")),
            "behind the pivot nothing may fail for good (rule 3)");
    refused(PLAN(STEP("lonely", "retriable", "null", "[]")), "there is no pivot (rule 4)");
    refused(PLAN(RESERVE ", " CAPTURE ", " WAIT("call", "signal", "[1]", "5")),
            "behind the pivot a signal may not time out (rule 3)");
    refused(PLAN(WAIT("clock", "timer", "[]", "null")), "it has no timeout");
    refused(PLAN(WAIT("call", "signal", "[]", "5, \"on_timeout\": \"explode\"")),
            "there is no on_timeout \"explode\"");
    refused(PLAN(WAIT("call", "signal", "[]", "null, \"on_timeout\": \"skip\"")),
            "on_timeout is for a signal or a lock that has a timeout");
    refused(PLAN(WAIT("hold", "lock", "[]", "5")), "its input does not name its lock");
    refused(PLAN(RESERVE ", " CAPTURE ", " WAIT("hold", "lock", "[1]", "5, \"input\": {}")),
            "it stands before the pivot (rule 3)");
    refused(PLAN(CHILD("\"shop.do\"", "compensable")), "a child saga has no action, no undo");
    refused(PLAN(CHILD("null", "read_only")), "a child saga has no action, no undo");
    refused(PLAN(CHILD("null", "retriable")), "there is no pivot (rule 4)");
}

static void a_child_saga_is_read(void **state)
{
    (void)state;
    static const char json[] = PLAN(CHILD("null", "compensable"));
    struct error error = {0};
    struct plan *plan = NULL;
    if (plan_read(json, strlen(json), &plan, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(plan->steps[0].via, VIA_SAGA);
    assert_null(plan->steps[0].action);
    assert_false(step_waits(&plan->steps[0]));
    plan_free(plan);
}

static void limits(void **state)
{
    (void)state;
    size_t bytes = PLAN_BYTES_MAX + 2;
    char *json = malloc(bytes);
    assert_non_null(json);
    memset(json, ' ', bytes);
    json[bytes - 1] = '\0';
    refused(json, "allowed are 1048576");
    size_t at =
        (size_t)snprintf(json, bytes, "{\"definition\": \"x\", \"version\": 1, \"steps\": [");
    for (int i = 0; i <= SAGA_STEPS_MAX; i++)
        at += (size_t)snprintf(json + at, bytes - at, "%s{}", i > 0 ? "," : "");
    snprintf(json + at, bytes - at, "]}");
    refused(json, "it has 65 steps, allowed are 1 to 64");
    free(json);
}

static void plans_made_in_memory_are_checked_too(void **state)
{
    (void)state;
    struct error error = {0};
    static struct plan plan;
    const struct plan_step command = {.name = "a",
                                      .action = "x.y",
                                      .participant = "x",
                                      .kind = KIND_READ_ONLY,
                                      .timeout_us = 1,
                                      .retry = {.max = 1},
                                      .undo_retry = {.max = 1}};
    plan = (struct plan){.step_count = 0};
    assert_int_equal(plan_complete(&plan, &error), ERROR_PROTOCOL);
    plan = (struct plan){.step_count = 1, .steps = {command}};
    assert_int_equal(plan_complete(&plan, &error), 0);
    plan.steps[0].undo_on_fail = true;
    assert_int_equal(plan_complete(&plan, &error), ERROR_PROTOCOL);
    plan.steps[0] = command;
    plan.steps[0].after = 1;
    assert_int_equal(plan_complete(&plan, &error), ERROR_PROTOCOL);
    plan.steps[0] = command;
    plan.steps[0].action = NULL;
    assert_int_equal(plan_complete(&plan, &error), ERROR_PROTOCOL);
    plan.steps[0] = command;
    plan.steps[0].retry.max = 0;
    assert_int_equal(plan_complete(&plan, &error), ERROR_PROTOCOL);
    plan.steps[0] = command;
    plan.steps[0].kind = KIND_PIVOT;
    plan.steps[0].via = VIA_TIMER;
    assert_int_equal(plan_complete(&plan, &error), ERROR_PROTOCOL);
    plan_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_saga),
        cmocka_unit_test(a_fan_out),
        cmocka_unit_test(what_is_no_plan),
        cmocka_unit_test(what_is_wrong_in_a_step_is_named),
        cmocka_unit_test(what_is_wrong_in_the_graph_is_named),
        cmocka_unit_test(a_child_saga_is_read),
        cmocka_unit_test(limits),
        cmocka_unit_test(plans_made_in_memory_are_checked_too),
    };
    return cmocka_run_group_tests_name("machine plan", tests, NULL, NULL);
}
