/* test_state_json.c: the steps of an instance, there and back, and everything else refused. */
#include "saga/machine/state_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A plan of so many steps; step 0 may have `elements` elements. */
static const struct plan *plan_of(int step_count, int elements)
{
    static struct plan plan;
    memset(&plan, 0, sizeof(plan));
    plan.step_count = step_count;
    plan.steps[0].elements_max = elements;
    for (int i = 1; i < step_count; i++)
        plan.steps[i].elements_from = elements;
    return &plan;
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct error error;
    static struct instance instance, back;
    const struct plan *plan = plan_of(SAGA_STEPS_MAX, SAGA_ELEMENTS_MAX);
    char json[STATE_JSON_BYTES_MAX];
    for (int i = 0; i < SAGA_STEPS_MAX; i++) {
        instance.steps[i] = (struct step_status){
            .state = STEP_UNDO_RETRY_WAIT,
            .round = 1000000000 - i,
            .undo_round = 1000000000,
            .attempt = i % 2 ? 0 : 1000000000,
            .due_us = i % 3 ? INT64_MAX - i : 0,
        };
    }
    for (int i = 0; i < SAGA_ELEMENTS_MAX; i++)
        instance.elements[i] = instance.steps[1 + i % 60];
    instance.steps[0].elements = SAGA_ELEMENTS_MAX;
    size_t bytes = state_json_write(&instance, plan, json);
    assert_int_equal(bytes, strlen(json));
    assert_int_equal(state_json_read(json, bytes, plan, &back, &error), 0);
    assert_memory_equal(instance.steps, back.steps, sizeof(instance.steps));
    assert_memory_equal(instance.elements, back.elements, sizeof(instance.elements));
}

static void every_state_has_its_name(void **state)
{
    (void)state;
    struct error error;
    static struct instance instance, back;
    char json[STATE_JSON_BYTES_MAX];
    for (int i = 0; i < STEP_STATE_COUNT; i++)
        instance.steps[i].state = (enum step_state)i;
    size_t bytes = state_json_write(&instance, plan_of(STEP_STATE_COUNT, 0), json);
    assert_int_equal(state_json_read(json, bytes, plan_of(STEP_STATE_COUNT, 0), &back, &error), 0);
    assert_memory_equal(instance.steps, back.steps, sizeof(instance.steps));
}

static void it_looks_as_it_is_documented(void **state)
{
    (void)state;
    char json[STATE_JSON_BYTES_MAX];
    static const struct instance instance = {
        .steps = {{.state = STEP_SENT, .round = 1, .attempt = 2, .due_us = 1718000000000000},
                  {.state = STEP_WAITING}}};
    state_json_write(&instance, plan_of(2, 0), json);
    assert_string_equal(json, "[{\"s\": \"SENT\", \"r\": 1, \"u\": 0, \"a\": 2, \"d\": "
                              "1718000000000000}, {\"s\": \"WAITING\", \"r\": 0, \"u\": 0, "
                              "\"a\": 0}]");
    static struct instance fan_out = {
        .steps = {{.state = STEP_SENT, .elements = 2}},
        .elements = {{.state = STEP_SUCCEEDED, .round = 1}, {.state = STEP_SENT, .due_us = 7}}};
    state_json_write(&fan_out, plan_of(1, 2), json);
    assert_string_equal(json, "[{\"s\": \"SENT\", \"r\": 0, \"u\": 0, \"a\": 0, \"e\": [{\"s\": "
                              "\"SUCCEEDED\", \"r\": 1, \"u\": 0, \"a\": 0}, {\"s\": \"SENT\", "
                              "\"r\": 0, \"u\": 0, \"a\": 0, \"d\": 7}]}]");
}

static void as_postgresql_and_others_write_it(void **state)
{
    (void)state;
    static const char *const same[] = {
        "[{\"a\": 1, \"d\": 7, \"r\": 2, \"s\": \"SENT\", \"u\": 0}]",
        "[{\"s\":\"SENT\",\"r\":2,\"u\":0,\"a\":1,\"d\":7}]",
        " [ {\t\"d\" : 7 , \"s\"\n: \"SENT\", \"u\": 0 ,\r\"a\": 1, \"r\":2 } ] \n",
    };
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        struct error error;
        static struct instance instance;
        if (state_json_read(same[i], strlen(same[i]), plan_of(1, 0), &instance, &error) < 0)
            fail_msg("%s", error.message);
        assert_int_equal(instance.steps[0].state, STEP_SENT);
        assert_int_equal(instance.steps[0].round, 2);
        assert_int_equal(instance.steps[0].attempt, 1);
        assert_int_equal(instance.steps[0].due_us, 7);
    }
}

#define GOOD "{\"s\": \"SENT\", \"r\": 1, \"u\": 0, \"a\": 1}"

static void everything_else_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *why;
    } wrong[] = {
        {"", "it is no array"},
        {"{}", "it is no array"},
        {"[", "an object is missing"},
        {"[]", "an object is missing"},
        {"[{}]", "a name in quotes is missing"},
        {"[" GOOD, "too many steps"},
        {"[" GOOD "," GOOD "]", "too many steps"},
        {"[" GOOD "] x", "something follows it"},
        {"[{\"s\": \"SENT\", \"r\": 1, \"u\": 0}]", "lacks s, r, u or a"},
        {"[{\"s\": \"SENT\", \"s\": \"SENT\"}]", "comes twice"},
        {"[{\"x\": 1}]", "no such member"},
        {"[{\"\": 1}]", "no such member"},
        {"[{\"sr\": 1}]", "no such member"},
        {"[{\"s\" \"SENT\"}]", "a colon is missing"},
        {"[{\"s\": SENT}]", "a name in quotes is missing"},
        {"[{\"s\": \"SENT}]", "a name does not end"},
        {"[{\"s\": \"sent\"}]", "no such state"},
        {"[{\"s\": \"SEN\\u0054\"}]", "no such state"},
        {"[{\"r\": -1}]", "a whole number is missing"},
        {"[{\"r\": null}]", "a whole number is missing"},
        {"[{\"r\": 01}]", "begins with 0"},
        {"[{\"r\": 1.5}]", "an object does not end"},
        {"[{\"r\": 1e3}]", "an object does not end"},
        {"[{\"r\": 1000000001}]", "out of range"},
        {"[{\"d\": 9223372036854775808}]", "out of range"},
        {"[{\"d\": 99999999999999999999999999}]", "out of range"},
        {"[" GOOD ",]", "too many steps"},
        {"[{\"e\": 1}]", "an array is missing"},
        {"[{\"e\": []}]", "an object is missing"},
        {"[{\"e\": [" GOOD "}]", "an array does not end"},
        {"[{\"e\": [" GOOD "," GOOD "," GOOD "]}]", "more elements"},
        {"[{\"e\": [{\"e\": [" GOOD "]}]}]", "more elements"},
        {"[{\"e\": [" GOOD "]}]", "lacks s, r, u or a"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct error error = {0};
        static struct instance instance;
        instance.steps[0].round = 7;
        size_t bytes = strlen(wrong[i].json);
        char *exact = malloc(bytes + 1); /* no byte more: what is read past the end is seen */
        assert_non_null(exact);
        memcpy(exact, wrong[i].json, bytes);
        assert_int_equal(state_json_read(exact, bytes, plan_of(1, 2), &instance, &error),
                         ERROR_PROTOCOL);
        free(exact);
        if (!strstr(error.message, wrong[i].why))
            fail_msg("%s: \"%s\" does not say \"%s\"", wrong[i].json, error.message, wrong[i].why);
        assert_int_equal(error.retry, RETRY_POISON);
        assert_int_equal(instance.steps[0].round, 7); /* untouched */
    }
}

static void too_few_steps(void **state)
{
    (void)state;
    struct error error = {0};
    static struct instance instance;
    const char json[] = "[" GOOD "]";
    assert_int_equal(state_json_read(json, strlen(json), plan_of(2, 0), &instance, &error),
                     ERROR_PROTOCOL);
    assert_non_null(strstr(error.message, "it has too few steps"));
}

/* Cut anywhere, it is refused. */
static void every_cut_is_refused(void **state)
{
    (void)state;
    static const char json[] =
        "[{\"s\": \"SENT\", \"r\": 12, \"u\": 0, \"a\": 1, \"d\": 77, \"e\": [" GOOD "," GOOD "]}]";
    for (size_t bytes = 0; bytes < strlen(json); bytes++) {
        struct error error = {0};
        static struct instance instance;
        assert_int_equal(state_json_read(json, bytes, plan_of(1, 2), &instance, &error),
                         ERROR_PROTOCOL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(every_state_has_its_name),
        cmocka_unit_test(it_looks_as_it_is_documented),
        cmocka_unit_test(as_postgresql_and_others_write_it),
        cmocka_unit_test(everything_else_is_refused),
        cmocka_unit_test(too_few_steps),
        cmocka_unit_test(every_cut_is_refused),
    };
    return cmocka_run_group_tests_name("machine state_json", tests, NULL, NULL);
}
