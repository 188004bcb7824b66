#include "saga/worker/body.h"
#include "worker_test.h"

#include <stdio.h>
#include <string.h>

static const struct json_limits limits = {.bytes_max = 4096, .depth_max = 16};

#define ID "01890a5d-ac96-774b-bcce-b302099a8057"
#define SAGA                                                                                       \
    "\"saga\": {\"id\": \"" ID "\", \"definition\": \"order\", \"version\": 1, "                   \
    "\"step\": \"reserve\", \"element\": 0, \"operation\": \"action\", \"round\": 2, "             \
    "\"attempt\": 3, \"reply_to\": \"shop\"}"

static int read_reply(const char *text, struct body *body, struct error *error)
{
    return body_read_reply(text, strlen(text), &limits, body, error);
}

static void reads_a_reply(void **state)
{
    (void)state;
    struct body body;
    struct error error;
    char id[UUID_TEXT_BYTES];
    assert_int_equal(read_reply("{" SAGA ", \"outcome\": \"ok\", \"output\": {\"total\": 19.90}}",
                                &body, &error),
                     0);
    uuid_format(&body.saga_id, id);
    assert_string_equal(id, ID);
    assert_string_equal(body.step, "reserve");
    assert_int_equal(body.operation, OPERATION_ACTION);
    assert_int_equal(body.round, 2);
    assert_int_equal(body.attempt, 3);
    assert_int_equal(body.event, EVENT_OK);
    assert_false(body.empty);
    /* The number stays the bytes that it was. */
    assert_int_equal(body.output.bytes, strlen("{\"total\": 19.90}"));
    assert_memory_equal(body.output.text, "{\"total\": 19.90}", body.output.bytes);
    assert_null(body.error.text);
}

static void reads_every_outcome(void **state)
{
    (void)state;
    static const struct {
        const char *outcome;
        enum machine_event_type event;
    } known[] = {
        {"ok", EVENT_OK},
        {"failed", EVENT_FAILED},
        {"transient", EVENT_TRANSIENT},
        {"error", EVENT_ERROR},
        {"executed", EVENT_EXECUTED},
        {"not_executed", EVENT_NOT_EXECUTED},
        {"in_doubt", EVENT_IN_DOUBT},
        {"expired", EVENT_EXPIRED},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct body body;
        struct error error;
        char text[1024];
        (void)snprintf(text, sizeof text, "{" SAGA ", \"outcome\": \"%s\", \"empty\": true}",
                       known[i].outcome);
        assert_int_equal(read_reply(text, &body, &error), 0);
        assert_int_equal(body.event, known[i].event);
        assert_true(body.empty);
        assert_null(body.output.text);
    }
}

static void reads_an_error(void **state)
{
    (void)state;
    struct body body;
    struct error error;
    assert_int_equal(read_reply("{" SAGA ", \"outcome\": \"failed\", \"output\": null, \"error\": "
                                "{\"code\": \"no_stock\", \"message\": \"none \\u00e4t all\"}}",
                                &body, &error),
                     0);
    assert_null(body.output.text);
    assert_non_null(body.error.text);
    assert_string_equal(body.reason, "no_stock: none \xc3\xa4t all");
}

/* A reason is cut between characters: half of one would be refused by PostgreSQL, with the batch.
 */
static void cuts_a_long_reason_between_characters(void **state)
{
    (void)state;
    for (size_t before = 0; before < 4; before++) {
        char text[2048];
        int end = snprintf(text, sizeof text,
                           "{" SAGA ", \"outcome\": \"failed\", \"error\": "
                           "{\"message\": \"%.*s",
                           (int)before, "xxx");
        for (int i = 0; i < 100; i++) {
            end += snprintf(text + end, sizeof text - (size_t)end, "\xe2\x82\xac");
        }
        (void)snprintf(text + end, sizeof text - (size_t)end, "\"}}");
        struct body body;
        struct error error;
        assert_int_equal(read_reply(text, &body, &error), 0);
        size_t length = strlen(body.reason);
        assert_true(length > sizeof body.reason - 5 && length < sizeof body.reason);
        assert_int_equal((length - before) % 3, 0);
    }
}

static void refuses_what_is_no_reply(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "{}",
        "{" SAGA "}",
        "{" SAGA ", \"outcome\": \"perhaps\"}",
        "{" SAGA ", \"outcome\": \"an outcome that is longer than any\"}",
        "{" SAGA ", \"outcome\": 1}",
        "{" SAGA ", \"outcome\": \"ok\", \"output\": \"\\u0000\"}",
        "{" SAGA ", \"outcome\": \"ok\", \"outcome\": \"failed\"}",
        "{" SAGA ", \"outcome\": \"ok\", \"output\": 1e999999}",
        "{" SAGA ", \"outcome\": \"ok\"} x",
        "{\"saga\": [], \"outcome\": \"ok\"}",
        "{\"saga\": {\"id\": \"x\", \"step\": \"a\", \"operation\": \"action\", \"round\": 1}, "
        "\"outcome\": \"ok\"}",
        "{\"saga\": {\"id\": \"" ID "\", \"operation\": \"action\", \"round\": 1}, \"outcome\": "
        "\"ok\"}",
        "{\"saga\": {\"id\": \"" ID "\", \"step\": \"a\", \"operation\": \"dance\", \"round\": 1}, "
        "\"outcome\": \"ok\"}",
        "{\"saga\": {\"id\": \"" ID "\", \"step\": \"a\", \"operation\": \"action\"}, \"outcome\": "
        "\"ok\"}",
        "{\"saga\": {\"id\": \"" ID "\", \"step\": \"a\", \"operation\": \"action\", \"round\": "
        "-1}, \"outcome\": \"ok\"}",
        "{\"saga\": {\"id\": \"" ID "\", \"step\": \"a\", \"operation\": \"action\", \"round\": "
        "4294967297}, \"outcome\": \"ok\"}",
        "{\"saga\": {\"id\": \"" ID "\", \"step\": \"a\", \"operation\": \"action\", \"round\": "
        "1.5}, \"outcome\": \"ok\"}",
        "{\"saga\": {\"id\": \"" ID "\", \"step\": \"a\", \"operation\": \"action\", \"round\": 1, "
        "\"element\": \"x\"}, \"outcome\": \"ok\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct body body;
        struct error error = {0};
        if (read_reply(bad[i], &body, &error) == 0) {
            fail_msg("taken for a reply: %s", bad[i]);
        }
        assert_int_equal(error.retry, RETRY_POISON);
        assert_true(error.message[0] != '\0');
    }
}

static void refuses_what_is_too_large(void **state)
{
    (void)state;
    char text[8192];
    struct body body;
    struct error error;
    int length =
        snprintf(text, sizeof text, "{" SAGA ", \"outcome\": \"ok\", \"output\": \"%05000d\"}", 0);
    assert_true(body_read_reply(text, (size_t)length, &limits, &body, &error) < 0);
    assert_int_equal(error.retry, RETRY_POISON);
}

static void reads_a_command_with_its_action(void **state)
{
    (void)state;
    static const char text[] = "{" SAGA ", \"input\": {}}";
    struct body body;
    struct error error;
    char action[300];
    assert_int_equal(
        body_read_command(text, strlen(text), &limits, "inventory.reserve", 17, &body, &error), 0);
    assert_string_equal(body.action, "inventory.reserve");
    memset(action, 'a', sizeof action);
    assert_true(
        body_read_command(text, strlen(text), &limits, action, sizeof action, &body, &error) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_reply),
        cmocka_unit_test(reads_every_outcome),
        cmocka_unit_test(reads_an_error),
        cmocka_unit_test(cuts_a_long_reason_between_characters),
        cmocka_unit_test(refuses_what_is_no_reply),
        cmocka_unit_test(refuses_what_is_too_large),
        cmocka_unit_test(reads_a_command_with_its_action),
    };
    return cmocka_run_group_tests_name("body", tests, NULL, NULL);
}
