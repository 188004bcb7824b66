#include "inbox_test.h"
#include "outbox/inbox/split.h"

#include "outbox/runtime/clock.h"
#include <stdbool.h>

/* Runs a batch in which `culprits` (a bit each) fail. Every other must be done once and in order.
 */
static int run_split(int count, uint64_t culprits)
{
    struct split split;
    int first;
    int range;
    int tries = 0;
    int next = 0;
    split_start(&split, count);
    while (split_range(&split, &first, &range)) {
        assert_true(range >= 1 && first >= next && first + range <= count);
        uint64_t bits = range == 64 ? UINT64_MAX : ((UINT64_C(1) << range) - 1) << first;
        tries++;
        if (bits & culprits) {
            if (!split_failed(&split)) {
                assert_int_equal(range, 1);
                assert_int_equal(first, next);
                next = first + 1;
            }
        } else {
            assert_int_equal(first, next);
            next = first + range;
            split_done(&split);
        }
    }
    assert_int_equal(next, count);
    return tries;
}

static void split_finds_every_culprit(void **state)
{
    (void)state;
    assert_int_equal(run_split(0, 0), 0);
    for (int count = 1; count <= 10; count++) {
        for (uint64_t culprits = 0; culprits < UINT64_C(1) << count; culprits++) {
            run_split(count, culprits);
        }
    }
}

static void split_of_one_culprit_is_logarithmic(void **state)
{
    (void)state;
    for (int culprit = 0; culprit < 64; culprit++) {
        assert_true(run_split(64, UINT64_C(1) << culprit) <= 13);
    }
}

static void culprits_by_class(void **state)
{
    (void)state;
    struct error failure = {.code = ERROR_POSTGRES};
    int64_t pause_us;
    failure.retry = RETRY_POISON;
    assert_int_equal(split_culprit(&failure, 1, &pause_us), CULPRIT_GIVE_UP);
    failure.retry = RETRY_RECONNECT;
    assert_int_equal(split_culprit(&failure, 1000, &pause_us), CULPRIT_AGAIN);
    assert_int_equal(pause_us, 0);
    static const enum error_retry patient[] = {RETRY_NOW, RETRY_LATER, RETRY_NEVER};
    for (size_t i = 0; i < sizeof patient / sizeof patient[0]; i++) {
        failure.retry = patient[i];
        assert_int_equal(split_culprit(&failure, 1000, &pause_us), CULPRIT_AGAIN);
        assert_true(pause_us >= US_PER_S);
    }
    failure.retry = RETRY_NOW;
    assert_int_equal(split_culprit(&failure, 1, &pause_us), CULPRIT_AGAIN);
    int64_t first_pause_us = pause_us;
    assert_int_equal(split_culprit(&failure, 3, &pause_us), CULPRIT_AGAIN);
    assert_int_equal(pause_us, 4 * first_pause_us);
    failure.retry = RETRY_BUG;
    assert_int_equal(split_culprit(&failure, 1, &pause_us), CULPRIT_AGAIN);
    assert_int_equal(split_culprit(&failure, 100, &pause_us), CULPRIT_GIVE_UP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_finds_every_culprit),
        cmocka_unit_test(split_of_one_culprit_is_logarithmic),
        cmocka_unit_test(culprits_by_class),
    };
    return cmocka_run_group_tests_name("split", tests, NULL, NULL);
}
