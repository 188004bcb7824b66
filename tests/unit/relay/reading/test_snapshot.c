#include "outbox/relay/reading/snapshot.h"
#include "tests/unit/relay/relay_test.h"

static void test_good(void **state)
{
    struct snapshot *snapshot;

    (void)state;
    assert_int_equal(snapshot_parse(&snapshot, "10:20:10,14,15", NULL), 0);
    assert_int_equal(snapshot->xmin, 10);
    assert_int_equal(snapshot->xmax, 20);
    assert_int_equal(snapshot->xip_count, 3);
    assert_true(snapshot_in_progress(snapshot, 10));
    assert_true(snapshot_in_progress(snapshot, 15));
    assert_false(snapshot_in_progress(snapshot, 11));
    assert_false(snapshot_in_progress(snapshot, 20));
    assert_string_equal(snapshot->text, "10:20:10,14,15");
    snapshot_hold(snapshot);
    snapshot_release(snapshot);
    snapshot_release(snapshot);

    assert_int_equal(snapshot_parse(&snapshot, "3:3:", NULL), 0);
    assert_int_equal(snapshot->xip_count, 0);
    assert_false(snapshot_in_progress(snapshot, 3));
    snapshot_release(snapshot);

    assert_int_equal(snapshot_parse(&snapshot, "18446744073709551610:18446744073709551615:", NULL),
                     0);
    assert_int_equal(snapshot->xmax, UINT64_MAX);
    snapshot_release(snapshot);
}

static void test_bad(void **state)
{
    static const char *const bad[] = {
        "",
        "10",
        "10:",
        "10:20",
        ":20:",
        "10:20:5",
        "10:20:20",
        "10:20:12,11",
        "10:20:11,11",
        "10:20:11,",
        "10:20:,",
        "20:10:",
        "0:10:",
        "10:20:11x",
        "10:20: 11",
        "-1:20:",
        "10:20:11,12 ",
        "10:99999999999999999999:",
        "10:18446744073709551616:",
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct snapshot *snapshot;
        struct error error = {0};

        if (snapshot_parse(&snapshot, bad[i], &error) == 0)
            fail_msg("'%s' was taken for a snapshot", bad[i]);
        assert_int_equal(error.code, ERROR_PROTOCOL);
    }
}

static void test_late_transactions(void **state)
{
    struct snapshot *t1, *t2;
    struct buffer xids;

    (void)state;
    buffer_init(&xids, 0);
    assert_int_equal(snapshot_parse(&t1, "10:20:10,14,15,18", NULL), 0);
    assert_int_equal(snapshot_parse(&t2, "14:40:14,18,22,31", NULL), 0);
    assert_int_equal(snapshot_ended_between(t1, t2, &xids), 2);
    assert_string_equal(buffer_text(&xids), "{10,15}");
    buffer_clear(&xids);
    assert_int_equal(snapshot_ended_between(t1, t1, &xids), 0);
    assert_string_equal(buffer_text(&xids), "{}");
    snapshot_release(t1);
    snapshot_release(t2);
    buffer_free(&xids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_late_transactions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
