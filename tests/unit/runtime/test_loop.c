/* loop: descriptors, signals, hooks, and what callbacks may do to them. */
#include "loop_test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- descriptors ---------------------------------------------------------------------------- */

static struct loop_fd *watches[4];
static int ends[4][2];

static void make_pairs(int count)
{
    int i;

    for (i = 0; i < count; i++)
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends[i]), 0);
}

static void close_pairs(int count)
{
    int i;

    for (i = 0; i < count; i++) {
        close(ends[i][0]);
        close(ends[i][1]);
    }
}

static void on_fd(void *data, int fd, unsigned events)
{
    char byte;

    note(*(const char *)data);
    if (events & LOOP_READ) {
        note('r');
        if (recv(fd, &byte, 1, MSG_DONTWAIT) == 0)
            note('0');
    }
    if (events & LOOP_WRITE)
        note('w');
    if (events & LOOP_HANGUP)
        note('h');
}

static void watch(int index, unsigned events, loop_fd_callback *callback)
{
    static const char letters[] = "ABCD";

    must(loop_fd_add(loop, ends[index][0], events, callback, (void *)(uintptr_t)&letters[index],
                     &watches[index], &error));
}

static void descriptors_tell_what_is_wanted(void **state)
{
    (void)state;
    make_pairs(1);
    watch(0, LOOP_READ, on_fd);
    turn();
    assert_string_equal(traced(), "");
    assert_int_equal(write(ends[0][1], "xy", 2), 2);
    turn();
    turn();
    assert_string_equal(traced(), "ArAr"); /* level triggered */
    loop_fd_want(watches[0], LOOP_WRITE);
    turn();
    assert_string_equal(traced(), "Aw");
    loop_fd_want(watches[0], 0);
    turn();
    assert_string_equal(traced(), "");
    loop_fd_want(watches[0], LOOP_READ);
    shutdown(ends[0][1], SHUT_WR);
    turn();
    assert_string_equal(traced(), "Ar0");
    loop_fd_want(watches[0], 0);
    close(ends[0][1]);
    turn();
    assert_string_equal(traced(), "Ah"); /* never asked for, always told */
    loop_fd_remove(watches[0]);
    loop_fd_remove(NULL);
    turn();
    assert_string_equal(traced(), "");
    close(ends[0][0]);
}

static void descriptors_want_without_system_calls(void **state)
{
    (void)state;
    make_pairs(1);
    watch(0, LOOP_READ, on_fd);
    fault_arm("epoll_ctl", 1, EBADF);
    loop_fd_want(watches[0], LOOP_READ);
    assert_false(fault_disarm());
    loop_fd_remove(watches[0]);
    close_pairs(1);
}

static void on_remover(void *data, int fd, unsigned events)
{
    int i;

    on_fd(data, fd, events);
    for (i = 0; i < 3; i++) {
        loop_fd_remove(watches[i]);
        watches[i] = NULL;
    }
}

static void descriptors_removed_are_not_told(void **state)
{
    int i;

    (void)state;
    make_pairs(3);
    for (i = 0; i < 3; i++) {
        watch(i, LOOP_READ, on_remover);
        assert_int_equal(write(ends[i][1], "x", 1), 1);
    }
    turn();
    assert_int_equal(strlen(traced()), 2); /* one of the three, itself removed too */
    turn();
    assert_string_equal(traced(), "");
    close_pairs(3);
}

/* From the middle, the end and the front of those there are. */
static void descriptors_go_in_any_order(void **state)
{
    static const int order[] = {1, 0, 2};
    unsigned i;

    (void)state;
    make_pairs(3);
    for (i = 0; i < 3; i++)
        watch((int)i, LOOP_WRITE, on_fd);
    for (i = 0; i < 3; i++) {
        turn();
        assert_int_equal(strlen(traced()), 2 * (3 - i)); /* a letter and 'w' each */
        loop_fd_remove(watches[order[i]]);
    }
    turn();
    assert_string_equal(traced(), "");
    close_pairs(3);
}

/* The first callback makes the others want nothing more. */
static void on_calmer(void *data, int fd, unsigned events)
{
    int i;

    on_fd(data, fd, events);
    for (i = 0; i < 2; i++)
        loop_fd_want(watches[i], 0);
}

static void descriptors_that_want_less_are_not_told(void **state)
{
    int i;

    (void)state;
    make_pairs(2);
    for (i = 0; i < 2; i++) {
        watch(i, LOOP_READ, on_calmer);
        assert_int_equal(write(ends[i][1], "x", 1), 1);
    }
    turn();
    assert_int_equal(strlen(traced()), 2);
    loop_fd_remove(watches[0]);
    loop_fd_remove(watches[1]);
    close_pairs(2);
}

static void descriptors_may_be_closed_first(void **state)
{
    (void)state;
    make_pairs(1);
    watch(0, LOOP_READ, on_fd);
    close_pairs(1);
    loop_fd_remove(watches[0]);
    turn();
    assert_string_equal(traced(), "");
}

static void descriptors_that_cannot_be_watched(void **state)
{
    struct loop_fd *watch_of_file;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)state;
    must_fail(loop_fd_add(loop, fd, LOOP_READ, on_fd, NULL, &watch_of_file, &error), ERROR_SYSTEM,
              RETRY_LATER, "watching descriptor");
    close(fd);
}

/* --- signals -------------------------------------------------------------------------------- */

static void on_signal(void *data, int signo)
{
    (void)data;
    note(signo == SIGUSR1 ? '1' : '2');
}

static void signals_come_through_the_loop(void **state)
{
    (void)state;
    must(loop_signal_add(loop, SIGUSR1, on_signal, NULL, &error));
    must(loop_signal_add(loop, SIGUSR2, on_signal, NULL, &error));
    turn();
    assert_string_equal(traced(), "");
    kill(getpid(), SIGUSR2);
    kill(getpid(), SIGUSR1);
    turn();
    assert_string_equal(traced(), "12"); /* both in one turn, lower numbers first */
    fault_arm("sigprocmask", 1, EINVAL);
    must_fail(loop_signal_add(loop, SIGUSR1, on_signal, NULL, &error), ERROR_SYSTEM, RETRY_BUG,
              "sigprocmask");
    fault_disarm();
    fault_arm("signalfd", 1, EMFILE);
    must_fail(loop_signal_add(loop, SIGUSR1, on_signal, NULL, &error), ERROR_SYSTEM, RETRY_LATER,
              "signalfd");
    fault_disarm();
}

static void signals_need_a_descriptor(void **state)
{
    (void)state;
    fault_arm("epoll_ctl", 1, ENOSPC);
    must_fail(loop_signal_add(loop, SIGUSR1, on_signal, NULL, &error), ERROR_SYSTEM, RETRY_LATER,
              "epoll_ctl");
    assert_true(fault_disarm());
    must(loop_signal_add(loop, SIGUSR1, on_signal, NULL, &error));
}

/* --- hooks ---------------------------------------------------------------------------------- */

static struct loop_hook *hooks[3];
static int work[3];

static bool on_hook(void *data)
{
    int index = *(const int *)data;

    note((char)('a' + index));
    return work[index]-- > 0;
}

static const int indexes[] = {0, 1, 2};

static void add_hooks(loop_hook_callback *callback)
{
    int i;

    for (i = 0; i < 3; i++) {
        work[i] = 0;
        must(loop_hook_add(loop, callback, (void *)(uintptr_t)&indexes[i], &hooks[i], &error));
    }
}

static void hooks_run_until_nobody_worked(void **state)
{
    (void)state;
    add_hooks(on_hook);
    turn();
    assert_string_equal(traced(), "abc");
    work[0] = 0;
    work[1] = 2;
    work[2] = 0;
    turn();
    assert_string_equal(traced(), "abcabcabc");
    loop_hook_remove(hooks[1]);
    turn();
    assert_string_equal(traced(), "ac");
    loop_hook_remove(hooks[0]);
    turn();
    assert_string_equal(traced(), "c");
    loop_hook_remove(hooks[2]);
    loop_hook_remove(NULL);
    turn();
    assert_string_equal(traced(), "");
}

/* The first removes itself and the one after it, and adds one at the end. */
static bool on_meddling_hook(void *data)
{
    int index = *(const int *)data;

    note((char)('a' + index));
    if (index == 0) {
        loop_hook_remove(hooks[0]);
        loop_hook_remove(hooks[1]);
        must(loop_hook_add(loop, on_meddling_hook, (void *)(uintptr_t)&indexes[1], &hooks[1],
                           &error));
    }
    return false;
}

static void hooks_meddle_with_each_other(void **state)
{
    (void)state;
    add_hooks(on_meddling_hook);
    turn();
    assert_string_equal(traced(), "acb");
    turn();
    assert_string_equal(traced(), "cb");
}

/* One that never ends its work must not starve the others. */
static bool on_greedy_hook(void *data)
{
    ++*(int *)data;
    return true;
}

static void hooks_leave_room_for_others(void **state)
{
    int calls = 0;
    struct loop_timer *timer;
    struct loop_hook *hook;

    (void)state;
    must(loop_hook_add(loop, on_greedy_hook, &calls, &hook, &error));
    must(loop_timer_create(loop, on_stop, loop, &timer, &error));
    loop_timer_arm_in(timer, 0);
    must(loop_run(loop, &error));
    assert_string_equal(traced(), "s");
    assert_true(calls > 1 && calls < 1000);
}

/* --- the loop itself ------------------------------------------------------------------------ */

static void on_advance(void *data)
{
    (void)data;
    note('t');
}

static bool on_turning_hook(void *data)
{
    (void)data;
    clock_fake_advance(&fake, 1000);
    return false;
}

/* With a clock of a test loop_run looks at it now and then, without anything else happening. */
static void the_loop_runs_by_a_clock_of_a_test(void **state)
{
    struct loop_timer *tick, *end;
    struct loop_hook *hook;

    (void)state;
    must(loop_timer_create(loop, on_advance, NULL, &tick, &error));
    must(loop_timer_create(loop, on_stop, loop, &end, &error));
    must(loop_hook_add(loop, on_turning_hook, NULL, &hook, &error));
    loop_timer_arm_in(tick, 1500);
    loop_timer_arm_in(end, 5000);
    must(loop_run(loop, &error));
    assert_string_equal(traced(), "ts");
    loop_stop(loop); /* before it runs: it does not */
    loop_timer_arm_in(tick, 0);
    must(loop_run(loop, &error));
    assert_string_equal(traced(), "");
    loop_timer_arm_in(end, 1000); /* the next time it does */
    must(loop_run(loop, &error));
    assert_string_equal(traced(), "ts");
}

static void the_loop_reports_failure(void **state)
{
    (void)state;
    fault_arm("epoll_wait", 1, EBADF);
    must_fail(loop_run(loop, &error), ERROR_SYSTEM, RETRY_BUG, "epoll_wait");
    assert_true(fault_disarm());
}

static void the_loop_needs_descriptors(void **state)
{
    static const char *const calls[] = {"epoll_create1", "timerfd_create", "epoll_ctl"};
    struct loop *none = NULL;
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(calls); i++) {
        fault_arm(calls[i], 1, EMFILE);
        must_fail(loop_create(&none, &clock_system, &error), ERROR_SYSTEM, RETRY_LATER,
                  "Too many open files");
        assert_true(fault_disarm());
        assert_null(none);
    }
    loop_destroy(NULL);
}

static int loop_scenario(struct error *error)
{
    struct loop *own __attribute__((cleanup(loop_destroyp))) = NULL;
    struct loop_timer *timer;
    struct loop_hook *hook;
    struct loop_fd *watched;
    int result, i;

    result = loop_create(&own, &clock_system, error);
    for (i = 0; i < 17 && !result; i++) /* the heap grows once */
        result = loop_timer_create(own, on_letter, NULL, &timer, error);
    if (!result)
        result = loop_hook_add(own, on_hook, NULL, &hook, error);
    if (!result)
        result = loop_fd_add(own, ends[0][0], LOOP_READ, on_fd, NULL, &watched, error);
    return result;
}

static void the_loop_without_memory(void **state)
{
    (void)state;
    make_pairs(1);
    assert_int_equal(each_allocation_fails(loop_scenario), 1 + 17 + 2 + 1 + 1);
    close_pairs(1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        FAKE(descriptors_tell_what_is_wanted),
        FAKE(descriptors_want_without_system_calls),
        FAKE(descriptors_removed_are_not_told),
        FAKE(descriptors_go_in_any_order),
        FAKE(descriptors_that_want_less_are_not_told),
        FAKE(descriptors_may_be_closed_first),
        FAKE(descriptors_that_cannot_be_watched),
        FAKE(signals_come_through_the_loop),
        FAKE(signals_need_a_descriptor),
        FAKE(hooks_run_until_nobody_worked),
        FAKE(hooks_meddle_with_each_other),
        SYSTEM(hooks_leave_room_for_others),
        FAKE(the_loop_runs_by_a_clock_of_a_test),
        FAKE(the_loop_reports_failure),
        FAKE(the_loop_needs_descriptors),
        cmocka_unit_test(the_loop_without_memory),
    };

    return cmocka_run_group_tests_name("runtime loop", tests, NULL, NULL);
}
