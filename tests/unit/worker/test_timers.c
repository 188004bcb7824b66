#include "saga/worker/timers.h"
#include "worker_test.h"

#include "outbox/runtime/clock.h"
#include <stdlib.h>

#define CAPACITY 100

static int setup(void **state)
{
    struct timers *timers;
    struct error error;
    assert_int_equal(timers_create(&timers, CAPACITY, &error), 0);
    *state = timers;
    return 0;
}

static int teardown(void **state)
{
    timers_destroy(*state);
    return 0;
}

static struct uuid id_of(int number)
{
    struct uuid id = {{0}};
    id.bytes[0] = (uint8_t)(number >> 8);
    id.bytes[1] = (uint8_t)number;
    return id;
}

static void arm(struct timers *timers, int number, int64_t wake_us)
{
    struct uuid id = id_of(number);
    assert_true(timers_arm(timers, &id, wake_us));
}

static void fires_in_order_and_not_early(void **state)
{
    struct timers *timers = *state;
    struct uuid ids[CAPACITY];
    int64_t wakes[CAPACITY];
    unsigned seed = 7;
    for (int i = 0; i < CAPACITY; i++) {
        wakes[i] = rand_r(&seed) % 1000;
        arm(timers, i, wakes[i]);
    }
    int taken = 0;
    for (int64_t now_us = 0; now_us < 1000; now_us += 10) {
        int count = timers_take(timers, now_us, CAPACITY, ids);
        for (int i = 0; i < count; i++) {
            int64_t wake_us = wakes[ids[i].bytes[0] << 8 | ids[i].bytes[1]];
            assert_true(wake_us <= now_us && wake_us > now_us - 10);
        }
        taken += count;
    }
    assert_int_equal(taken, CAPACITY);
    assert_int_equal(timers_count(timers), 0);
}

static void takes_a_saga_once(void **state)
{
    struct timers *timers = *state;
    struct uuid ids[4];
    arm(timers, 1, 10);
    arm(timers, 1, 11);
    arm(timers, 2, 12);
    assert_int_equal(timers_take(timers, 20, 4, ids), 2);
    assert_int_equal(timers_count(timers), 0);
}

static void takes_no_more_than_asked(void **state)
{
    struct timers *timers = *state;
    struct uuid ids[4];
    for (int i = 0; i < 10; i++) {
        arm(timers, i, i);
    }
    assert_int_equal(timers_take(timers, 20, 4, ids), 4);
    assert_int_equal(ids[0].bytes[1], 0);
    assert_int_equal(timers_count(timers), 6);
}

static void is_full(void **state)
{
    struct timers *timers = *state;
    struct uuid id = id_of(1000);
    for (int i = 0; i < CAPACITY; i++) {
        arm(timers, i, i);
    }
    assert_false(timers_arm(timers, &id, 0));
}

static void defers_what_has_failed(void **state)
{
    struct timers *timers = *state;
    struct uuid ids[4];
    struct uuid id = id_of(5);
    timers_defer(timers, &id, 500);
    arm(timers, 5, 10);
    arm(timers, 6, 10);
    assert_int_equal(timers_take(timers, 100, 4, ids), 1);
    assert_int_equal(ids[0].bytes[1], 6);
    assert_int_equal(timers_take(timers, 500, 4, ids), 1);
    arm(timers, 5, 600);
    assert_int_equal(timers_take(timers, 600, 4, ids), 1);
}

/* A sample is late by the answer's way, never early: the best one is kept, and forgotten slowly. */
static void follows_the_databases_clock(void **state)
{
    struct timers *timers = *state;
    assert_int_equal(timers_database_us(timers, 100), 0);
    assert_int_equal(timers_next_us(timers), INT64_MAX);
    timers_sample_clock(timers, 1000000, 500);
    assert_int_equal(timers_database_us(timers, 500), 1000000);
    timers_sample_clock(timers, 2000000, 500500);
    assert_int_equal(timers_database_us(timers, 500500), 2000000);
    timers_sample_clock(timers, 3000000, 1600500); /* this answer took 100 ms longer */
    int64_t expected_us = 3000000 + 100000;
    assert_true(timers_database_us(timers, 1600500) > expected_us - 2000);
    assert_true(timers_database_us(timers, 1600500) <= expected_us);
    arm(timers, 1, 4000000);
    assert_true(llabs(timers_next_us(timers) - (4000000 - 3000000 + 1600500 - 100000)) <= 2000);
    timers_clear(timers);
    assert_int_equal(timers_count(timers), 0);
    assert_int_equal(timers_database_us(timers, 0), 0);
}

static void follows_a_clock_that_was_set_back(void **state)
{
    struct timers *timers = *state;
    int64_t hour_us = INT64_C(3600) * US_PER_S;
    timers_sample_clock(timers, 10 * hour_us, 0);
    timers_sample_clock(timers, 9 * hour_us, 1000);
    assert_int_equal(timers_database_us(timers, 1000), 9 * hour_us);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fires_in_order_and_not_early, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_a_saga_once, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_no_more_than_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(is_full, setup, teardown),
        cmocka_unit_test_setup_teardown(defers_what_has_failed, setup, teardown),
        cmocka_unit_test_setup_teardown(follows_the_databases_clock, setup, teardown),
        cmocka_unit_test_setup_teardown(follows_a_clock_that_was_set_back, setup, teardown),
    };
    return cmocka_run_group_tests_name("timers", tests, NULL, NULL);
}
