#include "outbox/runtime/loop_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* A hook that never runs out of work must not keep the others from theirs: after so many rounds the
 * descriptors and timers get their turn, without sleeping. */
#define HOOK_ROUNDS_MAX 64

/* --- creation ------------------------------------------------------------------------------- */

static int watch_own(struct loop *loop, int fd, void *identity, struct error *error)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = identity};

    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return error_set_errno(error, errno, RETRY_LATER, "epoll_ctl");
    return 0;
}

int loop_create(struct loop **ret_loop, const struct clock_source *clock, struct error *error)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    int result = 0;

    if (!loop)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for the loop");
    loop->clock = clock;
    loop->now_us = clock_monotonic_us(clock);
    loop->timer_fd_due_us = LOOP_NEVER;
    loop->signal_fd = -1;
    sigemptyset(&loop->signals);
    loop->timer_fd = -1;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        result = error_set_errno(error, errno, RETRY_LATER, "epoll_create1");
    if (!result) {
        loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (loop->timer_fd < 0)
            result = error_set_errno(error, errno, RETRY_LATER, "timerfd_create");
    }
    if (!result)
        result = watch_own(loop, loop->timer_fd, &loop->timer_fd, error);
    if (result) {
        loop_destroy(loop);
        return result;
    }
    *ret_loop = loop;
    return 0;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void loop_destroy(struct loop *loop)
{
    struct loop_fd *watch, *next_watch;
    struct loop_timer *timer, *next_timer;
    struct loop_hook *hook, *next_hook;

    if (!loop)
        return;
    assert(!loop->turning);
    for (watch = loop->fds; watch; watch = next_watch) {
        next_watch = watch->next;
        loop_fd_remove(watch);
    }
    for (timer = loop->timers; timer; timer = next_timer) {
        next_timer = timer->next;
        loop_timer_destroy(timer);
    }
    for (hook = loop->hooks; hook; hook = next_hook) {
        next_hook = hook->next;
        loop_hook_remove(hook);
    }
    free(loop->heap);
    close_fd(loop->signal_fd);
    close_fd(loop->timer_fd);
    close_fd(loop->epoll_fd);
    free(loop);
}

const struct clock_source *loop_clock(const struct loop *loop)
{
    return loop->clock;
}

int64_t loop_now_us(const struct loop *loop)
{
    return loop->now_us;
}

/* --- descriptors ---------------------------------------------------------------------------- */

static uint32_t to_epoll(unsigned wanted)
{
    return (wanted & LOOP_READ ? (uint32_t)EPOLLIN : 0) |
           (wanted & LOOP_WRITE ? (uint32_t)EPOLLOUT : 0);
}

static unsigned from_epoll(uint32_t events)
{
    return (events & EPOLLIN ? LOOP_READ : 0) | (events & EPOLLOUT ? LOOP_WRITE : 0) |
           (events & (EPOLLERR | EPOLLHUP) ? LOOP_HANGUP : 0);
}

int loop_fd_add(struct loop *loop, int fd, unsigned events, loop_fd_callback *callback, void *data,
                struct loop_fd **ret_watch, struct error *error)
{
    struct loop_fd *watch;
    struct epoll_event event = {.events = to_epoll(events)};

    assert(callback && !(events & ~(LOOP_READ | LOOP_WRITE)));
    watch = calloc(1, sizeof(*watch));
    if (!watch)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory to watch a descriptor");
    event.data.ptr = watch;
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int saved_errno = errno;
        free(watch);
        return error_set_errno(error, saved_errno, RETRY_LATER, "watching descriptor %d", fd);
    }
    *watch = (struct loop_fd){.loop = loop,
                              .next = loop->fds,
                              .fd = fd,
                              .wanted = events,
                              .callback = callback,
                              .data = data};
    if (loop->fds)
        loop->fds->previous = watch;
    loop->fds = watch;
    *ret_watch = watch;
    return 0;
}

void loop_fd_want(struct loop_fd *watch, unsigned events)
{
    struct epoll_event event = {.events = to_epoll(events), .data.ptr = watch};
    int failed;

    assert(!(events & ~(LOOP_READ | LOOP_WRITE)));
    if (events == watch->wanted)
        return;
    failed = epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
    /* Only a descriptor that was closed before its watch was removed can fail here. */
    assert(!failed);
    (void)failed;
    watch->wanted = events;
}

void loop_fd_remove(struct loop_fd *watch)
{
    struct loop *loop;
    int i;

    if (!watch)
        return;
    loop = watch->loop;
    /* Fails where the descriptor was closed first; then the kernel has forgotten it already. */
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    for (i = loop->event_next; i < loop->event_count; i++)
        if (loop->events[i].data.ptr == watch)
            loop->events[i].data.ptr = NULL;
    if (watch->next)
        watch->next->previous = watch->previous;
    if (watch->previous)
        watch->previous->next = watch->next;
    else
        loop->fds = watch->next;
    free(watch);
}

/* --- signals -------------------------------------------------------------------------------- */

int loop_signal_add(struct loop *loop, int signo, loop_signal_callback *callback, void *data,
                    struct error *error)
{
    sigset_t signals = loop->signals, one;
    int fd;

    assert(callback && signo > 0 && signo < NSIG);
    sigaddset(&signals, signo);
    sigemptyset(&one);
    sigaddset(&one, signo);
    if (sigprocmask(SIG_BLOCK, &one, NULL) < 0)
        return error_set_errno(error, errno, RETRY_BUG, "sigprocmask");
    fd = signalfd(loop->signal_fd, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, RETRY_LATER, "signalfd");
    if (loop->signal_fd < 0) {
        int result = watch_own(loop, fd, &loop->signal_fd, error);
        if (result) {
            close(fd);
            return result;
        }
        loop->signal_fd = fd;
    }
    loop->signals = signals;
    loop->signal_watches[signo] = (struct signal_watch){callback, data};
    return 0;
}

static void deliver_signals(struct loop *loop)
{
    struct signalfd_siginfo info;

    while (read(loop->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        const struct signal_watch *watch = &loop->signal_watches[info.ssi_signo];
        watch->callback(watch->data, (int)info.ssi_signo);
    }
}

/* --- hooks ---------------------------------------------------------------------------------- */

int loop_hook_add(struct loop *loop, loop_hook_callback *callback, void *data,
                  struct loop_hook **ret_hook, struct error *error)
{
    struct loop_hook *hook;

    assert(callback);
    hook = calloc(1, sizeof(*hook));
    if (!hook)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for a hook");
    *hook = (struct loop_hook){
        .loop = loop, .previous = loop->hooks_last, .callback = callback, .data = data};
    if (loop->hooks_last)
        loop->hooks_last->next = hook;
    else
        loop->hooks = hook;
    loop->hooks_last = hook;
    *ret_hook = hook;
    return 0;
}

void loop_hook_remove(struct loop_hook *hook)
{
    struct loop *loop;

    if (!hook)
        return;
    loop = hook->loop;
    if (loop->hook_next == hook)
        loop->hook_next = hook->next;
    if (hook->next)
        hook->next->previous = hook->previous;
    else
        loop->hooks_last = hook->previous;
    if (hook->previous)
        hook->previous->next = hook->next;
    else
        loop->hooks = hook->next;
    free(hook);
}

/* True when a hook still has work after the last round. */
static bool run_hooks(struct loop *loop)
{
    bool worked = true;
    int round;

    for (round = 0; worked && round < HOOK_ROUNDS_MAX; round++) {
        struct loop_hook *hook;
        worked = false;
        for (hook = loop->hooks; hook; hook = loop->hook_next) {
            loop->hook_next = hook->next;
            if (hook->callback(hook->data))
                worked = true;
        }
    }
    return worked;
}

/* --- turns ---------------------------------------------------------------------------------- */

/* Sets timer_fd to the earliest timer; false when that one is due already. */
static bool prepare_sleep(struct loop *loop)
{
    int64_t due_us = loop_timers_due_us(loop);
    struct itimerspec spec = {0};
    int failed;

    if (due_us <= loop->now_us)
        return false;
    /* Another clock than the machine's is turned by a test, which then turns the loop. */
    if (loop->clock != &clock_system || due_us == loop->timer_fd_due_us)
        return true;
    if (due_us != LOOP_NEVER) {
        spec.it_value.tv_sec = due_us / US_PER_S;
        spec.it_value.tv_nsec = due_us % US_PER_S * 1000;
    }
    failed = timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    assert(!failed);
    (void)failed;
    loop->timer_fd_due_us = due_us;
    return true;
}

static int sleep_for_events(struct loop *loop, int64_t sleep_max_us, struct error *error)
{
    int64_t timeout_ms = -1;
    int count;

    if (sleep_max_us >= 0) {
        timeout_ms = sleep_max_us / 1000 + (sleep_max_us % 1000 != 0);
        if (timeout_ms > INT32_MAX)
            timeout_ms = INT32_MAX;
    }
    count = epoll_wait(loop->epoll_fd, loop->events, EVENTS_PER_TURN, (int)timeout_ms);
    if (count < 0 && errno != EINTR)
        return error_set_errno(error, errno, RETRY_BUG, "epoll_wait");
    loop->event_next = 0;
    loop->event_count = count < 0 ? 0 : count;
    loop->now_us = clock_monotonic_us(loop->clock);
    return 0;
}

static void deliver_events(struct loop *loop)
{
    while (loop->event_next < loop->event_count) {
        struct epoll_event *event = &loop->events[loop->event_next++];
        void *identity = event->data.ptr;
        if (identity == &loop->timer_fd) {
            uint64_t expirations;
            (void)!read(loop->timer_fd, &expirations, sizeof(expirations));
            loop->timer_fd_due_us = LOOP_NEVER;
        } else if (identity == &loop->signal_fd) {
            deliver_signals(loop);
        } else if (identity) {
            struct loop_fd *watch = identity;
            /* A callback before this one may want less by now. */
            unsigned events = from_epoll(event->events) & (watch->wanted | LOOP_HANGUP);
            if (events)
                watch->callback(watch->data, watch->fd, events);
        }
    }
    loop->event_next = loop->event_count = 0;
}

int loop_turn(struct loop *loop, int64_t sleep_max_us, struct error *error)
{
    int result;

    assert(!loop->turning);
    loop->turning = true;
    loop->now_us = clock_monotonic_us(loop->clock);
    if (run_hooks(loop) || !prepare_sleep(loop) || loop->stopped)
        sleep_max_us = 0;
    result = sleep_for_events(loop, sleep_max_us, error);
    if (!result) {
        loop_deliver_timers(loop);
        deliver_events(loop);
    }
    loop->turning = false;
    return result;
}

int loop_run(struct loop *loop, struct error *error)
{
    /* Nothing wakes the loop when a test turns its clock, so it looks every millisecond. */
    int64_t sleep_max_us = loop->clock == &clock_system ? -1 : US_PER_MS;
    int result = 0;

    while (!result && !loop->stopped)
        result = loop_turn(loop, sleep_max_us, error);
    loop->stopped = false;
    return result;
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}
