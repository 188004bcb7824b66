/* loop: timers, and what they may do to each other. */
#include "loop_test.h"

#include <stdlib.h>

/* --- timers --------------------------------------------------------------------------------- */

static struct loop_timer *timers[8];

static void make_timers(const char *letters, loop_timer_callback *callback)
{
    int i;

    for (i = 0; letters[i]; i++)
        must(loop_timer_create(loop, callback, (void *)(uintptr_t)&letters[i], &timers[i], &error));
}

static void timers_fire_in_order_of_time(void **state)
{
    (void)state;
    make_timers("abcde", on_letter);
    loop_timer_arm_in(timers[0], 30);
    loop_timer_arm_in(timers[1], 10);
    loop_timer_arm_in(timers[2], 20);
    loop_timer_arm_in(timers[3], 10); /* the same time: the one armed first */
    loop_timer_arm_at(timers[4], loop_now_us(loop) - 5);
    assert_true(loop_timer_armed(timers[0]));
    turn();
    assert_string_equal(traced(), "e");
    clock_fake_advance(&fake, 9);
    turn();
    assert_string_equal(traced(), "");
    clock_fake_advance(&fake, 1);
    turn();
    assert_string_equal(traced(), "bd");
    assert_false(loop_timer_armed(timers[1]));
    clock_fake_advance(&fake, 1000);
    turn();
    assert_string_equal(traced(), "ca");
    turn();
    assert_string_equal(traced(), "");
    assert_int_equal(loop_now_us(loop), fake.monotonic_us);
    assert_ptr_equal(loop_clock(loop), &fake.source);
}

static void timers_move_and_stop(void **state)
{
    (void)state;
    make_timers("abc", on_letter);
    loop_timer_arm_in(timers[0], 10);
    loop_timer_arm_in(timers[1], 20);
    loop_timer_arm_in(timers[2], 30);
    loop_timer_arm_in(timers[0], 40); /* moved */
    loop_timer_disarm(timers[1]);
    loop_timer_disarm(timers[1]);
    assert_false(loop_timer_armed(timers[1]));
    clock_fake_advance(&fake, 50);
    turn();
    assert_string_equal(traced(), "ca");
    loop_timer_arm_in(timers[0], -7); /* at once */
    loop_timer_arm_in(timers[1], INT64_MAX);
    turn();
    assert_string_equal(traced(), "a");
    loop_timer_destroy(timers[2]);
    loop_timer_destroy(timers[0]);
    loop_timer_destroy(NULL);
}

/* a destroys c, disarms b, moves d away and arms itself for now. */
static void on_meddler(void *data)
{
    on_letter(data);
    if (*(const char *)data != 'a')
        return;
    loop_timer_destroy(timers[2]);
    loop_timer_disarm(timers[1]);
    loop_timer_arm_in(timers[3], 100);
    loop_timer_arm_in(timers[0], 0);
}

static void timers_meddle_with_each_other(void **state)
{
    int i;

    (void)state;
    make_timers("abcdef", on_meddler);
    for (i = 0; i < 6; i++)
        loop_timer_arm_in(timers[i], 10);
    clock_fake_advance(&fake, 10);
    turn();
    assert_string_equal(traced(), "aef");
    loop_timer_disarm(timers[4]);
    /* Armed for now inside a callback: the next turn, not the same one for ever. */
    assert_true(loop_timer_armed(timers[0]));
    timers[2] = NULL;
}

static void on_suicide(void *data)
{
    note('x');
    loop_timer_destroy(timers[*(const int *)data]);
}

/* As a callback that blocked: the time of the loop stands, the clock does not. */
static void timers_last_from_when_they_are_armed(void **state)
{
    (void)state;
    make_timers("a", on_letter);
    turn();
    clock_fake_advance(&fake, 5000);
    loop_timer_arm_in(timers[0], 3000);
    turn();
    assert_string_equal(traced(), "");
    clock_fake_advance(&fake, 3000);
    turn();
    assert_string_equal(traced(), "a");
}

static void timers_destroy_themselves(void **state)
{
    static const int zero = 0;

    (void)state;
    must(loop_timer_create(loop, on_suicide, (void *)(uintptr_t)&zero, &timers[0], &error));
    loop_timer_arm_in(timers[0], 0);
    turn();
    turn();
    assert_string_equal(traced(), "x");
}

/* A heap against a plain list, at random. */
static void timers_by_the_hundred(void **state)
{
    enum { COUNT = 200 };
    static int64_t due[COUNT];
    static struct loop_timer *many[COUNT];
    static char letters[COUNT];
    unsigned seed = 4711;
    int step, i;

    (void)state;
    memset(letters, 'n', sizeof(letters));
    for (i = 0; i < COUNT; i++) {
        due[i] = -1;
        must(loop_timer_create(loop, on_letter, &letters[i], &many[i], &error));
    }
    for (step = 0; step < 3000; step++) {
        size_t expected = 0;
        i = rand_r(&seed) % COUNT;
        if (rand_r(&seed) % 4 == 0) {
            loop_timer_disarm(many[i]);
            due[i] = -1;
        } else {
            due[i] = fake.monotonic_us + rand_r(&seed) % 1000;
            loop_timer_arm_at(many[i], due[i]);
        }
        clock_fake_advance(&fake, rand_r(&seed) % 10);
        for (i = 0; i < COUNT; i++) {
            if (due[i] >= 0 && due[i] <= fake.monotonic_us) {
                expected++;
                due[i] = -1;
            }
        }
        turn();
        assert_int_equal(strlen(traced()), expected);
        for (i = 0; i < COUNT; i++)
            assert_int_equal(loop_timer_armed(many[i]), due[i] >= 0);
    }
}

static void timers_wake_the_real_loop(void **state)
{
    int64_t start = loop_now_us(loop);
    struct loop_timer *later, *never;

    (void)state;
    must(loop_timer_create(loop, on_stop, loop, &later, &error));
    must(loop_timer_create(loop, on_stop, loop, &never, &error));
    loop_timer_arm_in(later, 2500);
    loop_timer_arm_in(never, 3600 * (int64_t)US_PER_S);
    must(loop_run(loop, &error));
    assert_string_equal(traced(), "s");
    assert_true(clock_monotonic_us(&clock_system) - start >= 2500);
    /* Sleeping is limited for a single turn, above and below a millisecond. */
    must(loop_turn(loop, 1, &error));
    assert_int_equal(fault_epoll_timeout_ms, 1);
    must(loop_turn(loop, 1500, &error));
    assert_int_equal(fault_epoll_timeout_ms, 2);
    must(loop_turn(loop, 0, &error));
    assert_int_equal(fault_epoll_timeout_ms, 0);
    fault_arm("epoll_wait", 1, EINTR); /* as if it had slept a month */
    must(loop_turn(loop, INT64_MAX, &error));
    assert_true(fault_disarm());
    assert_int_equal(fault_epoll_timeout_ms, INT32_MAX);
    loop_timer_destroy(never);
    must(loop_turn(loop, 0, &error)); /* the timerfd is turned off */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        FAKE(timers_fire_in_order_of_time),  FAKE(timers_move_and_stop),
        FAKE(timers_meddle_with_each_other), FAKE(timers_last_from_when_they_are_armed),
        FAKE(timers_destroy_themselves),     FAKE(timers_by_the_hundred),
        SYSTEM(timers_wake_the_real_loop),
    };

    return cmocka_run_group_tests_name("runtime loop, timers", tests, NULL, NULL);
}
