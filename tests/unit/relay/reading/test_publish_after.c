#include "outbox/relay/reading/publish_after.h"
#include "tests/unit/relay/relay_test.h"

#include <string.h>

static void test_names(void **state)
{
    struct publish_after after = {.count = 7};
    struct error error = {0};

    (void)state;
    assert_int_equal(publish_after_parse(&after, "flushed", &error), 0);
    assert_int_equal(after.count, 0);
    assert_int_equal(publish_after_parse(&after, "replicated(one)", &error), 0);
    assert_int_equal(after.count, 1);
    assert_string_equal(after.names[0], "one");
    assert_int_equal(publish_after_parse(&after, "replicated( one ,\ttwo,3 a )", &error), 0);
    assert_int_equal(after.count, 3);
    assert_string_equal(after.names[0], "one");
    assert_string_equal(after.names[1], "two");
    assert_string_equal(after.names[2], "3 a"); /* a name may have blanks inside */
}

static void test_limits_of_names(void **state)
{
    struct publish_after after = {0};
    struct error error = {0};
    char text[200];

    (void)state;
    assert_int_equal(publish_after_parse(&after, "replicated(1,2,3,4,5,6,7,8)", &error), 0);
    assert_int_equal(after.count, PUBLISH_AFTER_NAMES_MAX);
    snprintf(text, sizeof(text), "replicated(%0*d)", PUBLISH_AFTER_NAME_BYTES - 1, 7);
    assert_int_equal(publish_after_parse(&after, text, &error), 0);
    assert_int_equal(strlen(after.names[0]), PUBLISH_AFTER_NAME_BYTES - 1);
    snprintf(text, sizeof(text), "replicated(%0*d)", PUBLISH_AFTER_NAME_BYTES, 7);
    assert_int_equal(publish_after_parse(&after, text, &error), ERROR_USAGE);
    assert_non_null(strstr(error.message, "more than 63 bytes"));
}

/* The error names the setting, what it was given and what is allowed; what was read before stays.
 */
static void test_what_is_refused(void **state)
{
    static const struct {
        const char *text, *why;
    } refused[] = {
        {"", "it is neither"},
        {"on", "it is neither"},
        {"flushed ", "it is neither"},
        {"replicated", "it is neither"},
        {"replicated(one", "it is neither"},
        {"replicated(one) ", "it is neither"},
        {"Replicated(one)", "it is neither"},
        {"replicated()", "a name is empty"},
        {"replicated( )", "a name is empty"},
        {"replicated(one,)", "a name is empty"},
        {"replicated(,one)", "a name is empty"},
        {"replicated(one, ,two)", "a name is empty"},
        {"replicated(1,2,3,4,5,6,7,8,9)", "more than 8 names"},
    };
    struct publish_after after = {.count = 1, .names = {"before"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct error error = {0};
        char quoted[64];

        assert_int_equal(publish_after_parse(&after, refused[i].text, &error), ERROR_USAGE);
        snprintf(quoted, sizeof(quoted), "publish-after is '%s'", refused[i].text);
        assert_non_null(strstr(error.message, quoted));
        assert_non_null(strstr(error.message, refused[i].why));
        assert_non_null(strstr(error.message, "replicated(name, ...)"));
        assert_int_equal(after.count, 1);
        assert_string_equal(after.names[0], "before");
    }
}

static void test_a_wait_is_shown_once_it_is_long(void **state)
{
    struct publish_after_wait wait = {0};
    struct metrics *metrics;
    struct stats stats;
    struct error error = {0};

    (void)state;
    assert_int_equal(metrics_create(&metrics, &error), 0);
    stats_create(&stats, metrics);
    assert_int_equal(publish_after_still_wait(&wait, 1000, "one", &stats), 0);
    assert_int_equal(
        publish_after_still_wait(&wait, 1000 + PUBLISH_AFTER_PATIENCE_US - 1, NULL, &stats),
        PUBLISH_AFTER_PATIENCE_US - 1);
    assert_int_equal(metric_value(stats.waiting_for_standbys), 0);
    publish_after_still_wait(&wait, 1000 + PUBLISH_AFTER_PATIENCE_US, NULL, &stats);
    assert_int_equal(metric_value(stats.waiting_for_standbys), 1);
    publish_after_still_wait(&wait, 1000 + 2 * PUBLISH_AFTER_PATIENCE_US, "one", &stats);
    publish_after_end_wait(&wait, &stats);
    assert_int_equal(metric_value(stats.waiting_for_standbys), 0);
    /* The next wait begins anew. */
    assert_int_equal(publish_after_still_wait(&wait, 5 * PUBLISH_AFTER_PATIENCE_US, "one", &stats),
                     0);
    assert_int_equal(metric_value(stats.waiting_for_standbys), 0);
    publish_after_end_wait(&wait, &stats);
    metrics_destroy(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_limits_of_names),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_a_wait_is_shown_once_it_is_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
