/* What is set aside, without a server: taking over, operators' intents, and what goes wrong with
 * either. Publishing it again is the integration tests'. */
#include "outbox/relay/rows/keys.h"
#include "outbox/relay/settling/park.h"
#include "tests/unit/relay/relay_parts_test.h"

#define KEYS_MAX 4

static struct keys *held;
static struct routes *routes;
static struct park *park;
static int loaded;

static void on_loaded(void *data)
{
    (void)data;
    loaded++;
}

static int create(struct error *error)
{
    struct park_options options = {.loop = parts.loop,
                                   .session = fake_session(),
                                   .routes = routes,
                                   .held = held,
                                   .stats = &parts.stats,
                                   .share = 1,
                                   .rows_max = 16,
                                   .bytes_max = 1 << 20,
                                   .retry_base_us = US_PER_MS,
                                   .retry_cap_us = US_PER_S,
                                   .on_loaded = on_loaded,
                                   .on_failure = parts_on_failure};

    return park_create(&park, &options, error);
}

static int setup(void **state)
{
    struct error error;

    parts_setup(state);
    loaded = 0;
    if (keys_create(&held, KEYS_MAX, &error) < 0 || routes_create(&routes, "", false, &error) < 0 ||
        create(&error) < 0)
        fail_msg("%s", error.message);
    return 0;
}

static int teardown(void **state)
{
    park_destroy(park);
    routes_destroy(routes);
    keys_destroy(held);
    return parts_teardown(state);
}

/* One row of key 7 waits, and one behind it. */
static void take_over(void)
{
    park_start(park);
    fake_answer("relay_parked_recover", fake_result("i"));
    fake_answer("relay_held", fake_row(fake_result("II"), (int64_t)7, (int64_t)2));
    fake_answer("relay_parked_count",
                fake_row(fake_result("III"), (int64_t)1, (int64_t)0, (int64_t)1));
    fake_answer("relay_parked_next", fake_result("I"));
    fake_answer("sync", NULL);
}

static struct pg_result *no_intents(void)
{
    return fake_row(fake_result("nIII"), (int64_t)0, (int64_t)0, (int64_t)0);
}

/* An operator gave up the first row of key 7. */
static struct pg_result *one_discarded(void)
{
    return fake_row(fake_result("IIII"), (int64_t)7, (int64_t)1, (int64_t)0, (int64_t)1);
}

static void test_taking_over(void **state)
{
    (void)state;
    take_over();
    assert_int_equal(loaded, 1);
    assert_int_equal(park_rows(park), 2);
    assert_int_equal(keys_find(held, 7)->held, 2);
    assert_int_equal(metric_value(parts.stats.parked_behind), 1);
    assert_true(park_turn(park)); /* intents may have come meanwhile */
    fake_answer("relay_intents", no_intents());
    fake_answer("sync", NULL);
    assert_true(park_is_idle(park));
    assert_false(park_turn(park));
    assert_int_equal(parts.failures, 0);
}

/* Each statement, and the commit that nobody hears of but the sync. */
static void test_taking_over_that_fails_is_told(void **state)
{
    static const char *const asked[] = {"relay_parked_recover", "relay_held", "relay_parked_count",
                                        "relay_parked_next", "sync"};

    (void)state;
    for (size_t which = 0; which < COUNT_OF(asked); which++) {
        parts.failures = 0;
        park_start(park);
        for (size_t i = 0; i < which; i++)
            fake_answer(asked[i],
                        i == 1   ? fake_result("II")
                        : i == 2 ? fake_row(fake_result("III"), (int64_t)0, (int64_t)0, (int64_t)0)
                                 : fake_result("I"));
        fake_refuse(asked[which], RETRY_LATER, "53100");
        assert_true(parts.failures > 0);
        assert_int_equal(parts.error.retry, RETRY_LATER);
        assert_int_equal(loaded, 0);
        park_stop(park);
    }
    park_start(park);
    fake_loses_connection(); /* the session says so */
    assert_int_equal(loaded, 0);
    park_stop(park);
    fake_session_up(true);
    take_over();
    assert_int_equal(loaded, 1);
}

static void test_more_keys_than_memory(void **state)
{
    struct pg_result *rows = fake_result("II");

    (void)state;
    for (int64_t key = 1; key <= KEYS_MAX * 4; key++)
        fake_row(rows, key, (int64_t)1);
    park_start(park);
    fake_answer("relay_parked_recover", fake_result("i"));
    fake_answer("relay_held", rows);
    assert_int_equal(parts.failures, 1);
    assert_int_equal(parts.error.retry, RETRY_NEVER);
    assert_contains(parts.error.message, "parked-rows");
}

/* A key is free once the discard of its row is committed, and not before: else later messages of
 * the key would go past a row that is still there. */
static void test_a_discard_counts_once_it_is_committed(void **state)
{
    (void)state;
    take_over();
    assert_true(park_turn(park));
    fake_answer("relay_intents", one_discarded());
    assert_int_equal(keys_find(held, 7)->held, 2);
    fake_refuse("sync", RETRY_LATER, "53100");
    assert_int_equal(parts.failures, 1);
    assert_int_equal(keys_find(held, 7)->held, 2);
    park_stop(park);
    keys_clear(held); /* as the relay does when it begins again */

    take_over();
    assert_true(park_turn(park));
    fake_answer("relay_intents", one_discarded());
    fake_answer("sync", NULL);
    assert_contains(parts_logged(), "intents applied\" requeued=0 discarded=1");
    assert_int_equal(keys_find(held, 7)->held, 1);
    assert_string_equal(fake_param(2), "{7}"); /* the row behind it comes first now */
    fake_answer("relay_parked_promote", fake_result("i"));
    fake_answer("relay_parked_next", fake_row(fake_result("I"), (int64_t)0));
    fake_answer("relay_parked_count",
                fake_row(fake_result("III"), (int64_t)1, (int64_t)0, (int64_t)0));
    assert_int_equal(park_rows(park), 1);
    assert_true(park_turn(park)); /* there may be more */
    fake_answer("relay_intents", no_intents());
    fake_answer("sync", NULL);
}

static void test_intents_that_cannot_be_applied(void **state)
{
    (void)state;
    take_over();
    assert_true(park_turn(park));
    fake_refuse("relay_intents", RETRY_LATER, "57014");
    assert_true(parts.failures > 0);
    assert_int_equal(keys_find(held, 7)->held, 2);
    park_stop(park);
    take_over();
    assert_true(park_turn(park));
    fake_answer("relay_intents", one_discarded());
    fake_loses_connection(); /* committed or not: the next connection will tell */
    assert_int_equal(keys_find(held, 7)->held, 2);
    park_stop(park);
    fake_session_up(true);
    parts.failures = 0;
    fake_session_send_fails(1, ERROR_LIMIT, RETRY_LATER);
    park_start(park);
    assert_int_equal(parts.failures, 1);
}

static void test_nothing_counts_once_it_is_stopped(void **state)
{
    (void)state;
    take_over();
    park_count(park);
    assert_true(park_turn(park));
    park_stop(park);
    fake_answer("relay_parked_count",
                fake_row(fake_result("III"), (int64_t)9, (int64_t)9, (int64_t)9));
    fake_answer("relay_intents", one_discarded());
    fake_answer("sync", NULL);
    assert_int_equal(park_rows(park), 2);
    assert_int_equal(keys_find(held, 7)->held, 2);
    park_count(park); /* asks nothing */
    assert_string_equal(fake_asked(), "");
    assert_false(park_turn(park));
}

static void test_no_memory(void **state)
{
    (void)state;
    park_destroy(park);
    park = NULL;
    int nth = 0;
    bool fired;
    do {
        struct error error = {0};
        fault_arm("alloc", ++nth, ENOMEM);
        int failed = create(&error);
        fired = fault_disarm();
        assert_int_equal(failed, error.code);
        assert_int_equal(failed < 0, fired);
    } while (fired);
    assert_true(nth > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_taking_over, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taking_over_that_fails_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_keys_than_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_discard_counts_once_it_is_committed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_intents_that_cannot_be_applied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_counts_once_it_is_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
