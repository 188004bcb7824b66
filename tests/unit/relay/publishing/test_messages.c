/* What a message looks like, where it goes, and what is done about one that was refused. */
#include "outbox/relay/publishing/envelope.h"
#include "outbox/relay/publishing/outcome.h"
#include "outbox/runtime/clock.h"
#include "tests/unit/relay/relay_test.h"

#include <string.h>

static struct broker_text text(const char *of)
{
    return (struct broker_text){of, strlen(of)};
}

static void test_time(void **state)
{
    static const struct {
        int64_t unix_us;
        const char *text;
    } times[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {1, "1970-01-01T00:00:00.000001Z"},
        {INT64_C(1767225599999999), "2025-12-31T23:59:59.999999Z"},
        {INT64_C(1767225600000000), "2026-01-01T00:00:00.000000Z"},
        {INT64_C(1767225600120000), "2026-01-01T00:00:00.120000Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {INT64_C(1767225600120000), "2026-01-01T00:00:00.120000Z"},
    };
    static struct envelope envelope;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        envelope_format_time(&envelope, times[i].unix_us);
        assert_string_equal(envelope.time, times[i].text);
    }
}

static void test_fingerprints_tell_apart(void **state)
{
    char id[] = "0190a5b0-7c1e-7000-8000-000000000000";
    uint64_t whole = envelope_fingerprint(text(id), text("ex"), text("rk"));
    uint64_t one = envelope_fingerprint(text("id"), text("ex"), text("rk"));

    (void)state;
    assert_int_equal(one, envelope_fingerprint(text("id"), text("ex"), text("rk")));
    assert_int_not_equal(one, envelope_fingerprint(text("ie"), text("ex"), text("rk")));
    assert_int_not_equal(one, envelope_fingerprint(text("id"), text("rk"), text("ex")));
    assert_int_not_equal(one, envelope_fingerprint(text("id"), text("exr"), text("k")));
    for (size_t at = 0; at + 1 < sizeof(id); at++) { /* each byte counts, the last ones too */
        id[at]++;
        assert_int_not_equal(whole, envelope_fingerprint(text(id), text("ex"), text("rk")));
        id[at]--;
    }
    assert_int_equal(whole, envelope_fingerprint(text(id), text("ex"), text("rk")));
}

static const struct outcome_limits limits = {
    .grace_us = 60 * US_PER_S,
    .retry_base_us = 200 * US_PER_MS,
    .retry_cap_us = 10 * US_PER_S,
};

static void test_what_is_done(void **state)
{
    static const struct {
        enum outcome outcome;
        enum outcome_act at_once, after_grace;
        const char *reason;
    } expected[] = {
        {OUTCOME_CONFIRMED, ACT_DONE, ACT_DONE, NULL},
        {OUTCOME_NACKED, ACT_WAIT, ACT_WAIT, "nacked"},
        {OUTCOME_RETURNED, ACT_WAIT, ACT_PARK, "returned"},
        {OUTCOME_UNCONFIRMED, ACT_WAIT, ACT_WAIT, "unconfirmed"},
        {OUTCOME_NO_EXCHANGE, ACT_WAIT, ACT_PARK, "no_exchange"},
        {OUTCOME_NO_ACCESS, ACT_WAIT, ACT_PARK, "refused"},
        {OUTCOME_TOO_LARGE, ACT_PARK, ACT_PARK, "too_large"},
        {OUTCOME_CLOSES, ACT_PARK, ACT_PARK, "uncarriable"},
        {OUTCOME_UNCARRIABLE, ACT_PARK, ACT_PARK, "uncarriable"},
    };

    (void)state;
    assert_int_equal(COUNT_OF(expected), OUTCOME_COUNT);
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        struct verdict first = outcome_decide(expected[i].outcome, 1, 0, &limits, i);
        struct verdict later = outcome_decide(expected[i].outcome, 5, limits.grace_us, &limits, i);

        assert_int_equal(first.act, expected[i].at_once);
        assert_int_equal(later.act, expected[i].after_grace);
        if (expected[i].reason)
            assert_string_equal(first.reason, expected[i].reason);
        else
            assert_null(first.reason);
    }
}

static void test_pauses_grow_to_their_cap(void **state)
{
    (void)state;
    for (uint64_t chance = 0; chance < 100; chance++)
        for (uint32_t attempts = 1; attempts < 200; attempts++) {
            int64_t whole =
                attempts < 7 ? limits.retry_base_us << (attempts - 1) : limits.retry_cap_us;
            struct verdict verdict = outcome_decide(OUTCOME_NACKED, attempts, 0, &limits, chance);

            if (whole > limits.retry_cap_us)
                whole = limits.retry_cap_us;
            assert_in_range(verdict.pause_us, whole / 2, whole);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_fingerprints_tell_apart),
        cmocka_unit_test(test_what_is_done),
        cmocka_unit_test(test_pauses_grow_to_their_cap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
