#include "outbox/relay/ownership/fence.h"
#include "outbox/runtime/clock.h"
#include "tests/unit/relay/relay_test.h"

#include <string.h>

static void test_names(void **state)
{
    const struct lease_server server = {.system_identifier = INT64_MAX, .database_oid = UINT32_MAX};
    const struct lease_server other = {.system_identifier = INT64_MAX, .database_oid = 5};
    char name[FENCE_QUEUE_BYTES], another[FENCE_QUEUE_BYTES];

    (void)state;
    fence_queue_name(name, &server, 1023, FENCE_PARKED);
    assert_string_equal(name, "outbox.relay.9223372036854775807.4294967295.1023.parked");
    fence_queue_name(name, &server, 0, FENCE_LOG);
    assert_string_equal(name, "outbox.relay.9223372036854775807.4294967295.0");
    fence_queue_name(another, &other, 0, FENCE_LOG);
    assert_string_not_equal(name, another);
}

/* Two of them are the silence after which a side takes the other for gone. */
static void test_heartbeats_are_within_the_term(void **state)
{
    (void)state;
    for (int64_t term_s = 2; term_s <= 600; term_s++) {
        int heartbeat_s = fence_heartbeat_max_s(term_s * US_PER_S);

        assert_true(heartbeat_s >= 1);
        assert_true(2 * heartbeat_s <= term_s);
        assert_true(2 * (heartbeat_s + 1) > term_s);
    }
}

/* Three answers that never come, and the pause of a heartbeat, are no silence. */
static void test_opening_is_no_silence(void **state)
{
    (void)state;
    for (int64_t term_s = 2; term_s <= 600; term_s++)
        assert_true(3 * fence_connect_max_us(term_s * US_PER_S) < term_s * US_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_heartbeats_are_within_the_term),
        cmocka_unit_test(test_opening_is_no_silence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
