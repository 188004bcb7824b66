#include "outbox/runtime/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Events taken from the kernel per turn; the rest comes with the next one. */
#define EVENTS_PER_TURN 64
/* A hook that never runs out of work must not keep the others from theirs: after so many rounds the
 * descriptors and timers get their turn, without sleeping. */
#define HOOK_ROUNDS_MAX 64
#define NEVER           INT64_MAX

struct loop_fd {
    struct loop *loop;
    struct loop_fd *next, *previous;
    int fd;
    unsigned wanted;
    loop_fd_callback *callback;
    void *data;
};

/* A timer is idle, in the heap, or in the list of those due in this turn. The list is cut from the
 * heap before the first callback: a timer that arms itself for now waits for the next turn, and
 * whatever a callback does to another timer finds that one in exactly one place. */
enum timer_place { TIMER_IDLE, TIMER_IN_HEAP, TIMER_DUE };

struct loop_timer {
    struct loop *loop;
    struct loop_timer *next, *previous;         /* all timers */
    struct loop_timer *due_next, *due_previous; /* TIMER_DUE */
    enum timer_place place;
    int heap_index; /* TIMER_IN_HEAP */
    int64_t due_us;
    uint64_t order; /* among equals the one armed first goes first */
    loop_timer_callback *callback;
    void *data;
};

struct loop_hook {
    struct loop *loop;
    struct loop_hook *next, *previous;
    loop_hook_callback *callback;
    void *data;
};

struct signal_watch {
    loop_signal_callback *callback;
    void *data;
};

struct loop {
    const struct clock_source *clock;
    int64_t now_us;
    int epoll_fd, timer_fd, signal_fd;
    int64_t timer_fd_due_us; /* what timer_fd is set to */
    bool stopped, turning;

    struct loop_fd *fds;
    struct epoll_event events[EVENTS_PER_TURN];
    int event_count, event_next; /* of this turn */

    struct loop_timer *timers;
    struct loop_timer **heap; /* room for every timer that exists, so that arming cannot fail */
    int heap_count, heap_capacity, timer_count;
    uint64_t timer_order;
    struct loop_timer *due_first, *due_last;

    struct loop_hook *hooks, *hooks_last;
    struct loop_hook *hook_next; /* the one to call after the one that runs */

    sigset_t signals;
    struct signal_watch signal_watches[NSIG];
};

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
    loop->timer_fd_due_us = NEVER;
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
    if (!loop)
        return;
    assert(!loop->turning);
    while (loop->fds)
        loop_fd_remove(loop->fds);
    while (loop->timers)
        loop_timer_destroy(loop->timers);
    while (loop->hooks)
        loop_hook_remove(loop->hooks);
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

/* --- timers --------------------------------------------------------------------------------- */

static bool timer_before(const struct loop_timer *a, const struct loop_timer *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void heap_put(struct loop *loop, int index, struct loop_timer *timer)
{
    loop->heap[index] = timer;
    timer->heap_index = index;
}

static void heap_up(struct loop *loop, int index)
{
    struct loop_timer *timer = loop->heap[index];

    while (index > 0 && timer_before(timer, loop->heap[(index - 1) / 2])) {
        heap_put(loop, index, loop->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    heap_put(loop, index, timer);
}

static void heap_down(struct loop *loop, int index)
{
    struct loop_timer *timer = loop->heap[index];

    for (;;) {
        int child = index * 2 + 1;
        if (child >= loop->heap_count)
            break;
        if (child + 1 < loop->heap_count && timer_before(loop->heap[child + 1], loop->heap[child]))
            child++;
        if (!timer_before(loop->heap[child], timer))
            break;
        heap_put(loop, index, loop->heap[child]);
        index = child;
    }
    heap_put(loop, index, timer);
}

static void heap_remove(struct loop_timer *timer)
{
    struct loop *loop = timer->loop;
    int index = timer->heap_index;
    struct loop_timer *last = loop->heap[--loop->heap_count];

    assert(loop->heap[index] == timer);
    timer->place = TIMER_IDLE;
    if (last == timer)
        return;
    heap_put(loop, index, last);
    heap_up(loop, index);
    heap_down(loop, last->heap_index);
}

static void due_append(struct loop_timer *timer)
{
    struct loop *loop = timer->loop;

    timer->place = TIMER_DUE;
    timer->due_next = NULL;
    timer->due_previous = loop->due_last;
    if (loop->due_last)
        loop->due_last->due_next = timer;
    else
        loop->due_first = timer;
    loop->due_last = timer;
}

static void due_remove(struct loop_timer *timer)
{
    struct loop *loop = timer->loop;

    if (timer->due_next)
        timer->due_next->due_previous = timer->due_previous;
    else
        loop->due_last = timer->due_previous;
    if (timer->due_previous)
        timer->due_previous->due_next = timer->due_next;
    else
        loop->due_first = timer->due_next;
    timer->place = TIMER_IDLE;
}

int loop_timer_create(struct loop *loop, loop_timer_callback *callback, void *data,
                      struct loop_timer **ret_timer, struct error *error)
{
    struct loop_timer *timer;

    assert(callback);
    if (loop->timer_count == loop->heap_capacity) {
        int capacity = loop->heap_capacity ? loop->heap_capacity * 2 : 16;
        struct loop_timer **heap =
            reallocarray(loop->heap, (size_t)capacity, sizeof(struct loop_timer *));
        if (!heap)
            return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for a timer");
        loop->heap = heap;
        loop->heap_capacity = capacity;
    }
    timer = calloc(1, sizeof(*timer));
    if (!timer)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for a timer");
    *timer =
        (struct loop_timer){.loop = loop, .next = loop->timers, .callback = callback, .data = data};
    if (loop->timers)
        loop->timers->previous = timer;
    loop->timers = timer;
    loop->timer_count++;
    *ret_timer = timer;
    return 0;
}

void loop_timer_arm_at(struct loop_timer *timer, int64_t monotonic_us)
{
    struct loop *loop = timer->loop;

    loop_timer_disarm(timer);
    timer->due_us = monotonic_us;
    timer->order = loop->timer_order++;
    timer->place = TIMER_IN_HEAP;
    assert(loop->heap_count < loop->heap_capacity);
    heap_put(loop, loop->heap_count++, timer);
    heap_up(loop, timer->heap_index);
}

void loop_timer_arm_in(struct loop_timer *timer, int64_t delay_us)
{
    int64_t now_us = timer->loop->now_us;

    if (delay_us < 0)
        delay_us = 0;
    loop_timer_arm_at(timer, delay_us > NEVER - now_us ? NEVER : now_us + delay_us);
}

void loop_timer_disarm(struct loop_timer *timer)
{
    if (timer->place == TIMER_IN_HEAP)
        heap_remove(timer);
    else if (timer->place == TIMER_DUE)
        due_remove(timer);
}

bool loop_timer_armed(const struct loop_timer *timer)
{
    return timer->place != TIMER_IDLE;
}

void loop_timer_destroy(struct loop_timer *timer)
{
    if (!timer)
        return;
    loop_timer_disarm(timer);
    if (timer->next)
        timer->next->previous = timer->previous;
    if (timer->previous)
        timer->previous->next = timer->next;
    else
        timer->loop->timers = timer->next;
    timer->loop->timer_count--;
    free(timer);
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
    int64_t due_us = loop->heap_count ? loop->heap[0]->due_us : NEVER;
    struct itimerspec spec = {0};
    int failed;

    if (due_us <= loop->now_us)
        return false;
    /* Another clock than the machine's is turned by a test, which then turns the loop. */
    if (loop->clock != &clock_system || due_us == loop->timer_fd_due_us)
        return true;
    if (due_us != NEVER) {
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

static void deliver_timers(struct loop *loop)
{
    while (loop->heap_count && loop->heap[0]->due_us <= loop->now_us) {
        struct loop_timer *timer = loop->heap[0];
        heap_remove(timer);
        due_append(timer);
    }
    while (loop->due_first) {
        struct loop_timer *timer = loop->due_first;
        due_remove(timer);
        timer->callback(timer->data);
    }
}

static void deliver_events(struct loop *loop)
{
    while (loop->event_next < loop->event_count) {
        struct epoll_event *event = &loop->events[loop->event_next++];
        void *identity = event->data.ptr;
        if (identity == &loop->timer_fd) {
            uint64_t expirations;
            (void)!read(loop->timer_fd, &expirations, sizeof(expirations));
            loop->timer_fd_due_us = NEVER;
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
        deliver_timers(loop);
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
