/* loop_private.h: what loop.c and loop_timer.c share. */
#ifndef SAGAPOST_RUNTIME_LOOP_PRIVATE_H
#define SAGAPOST_RUNTIME_LOOP_PRIVATE_H

#include "outbox/runtime/loop.h"

#include <signal.h>
#include <sys/epoll.h>

/* Events taken from the kernel per turn; the rest comes with the next one. */
#define EVENTS_PER_TURN 64
#define LOOP_NEVER      INT64_MAX

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

/* When the earliest timer is due, or LOOP_NEVER. */
int64_t loop_timers_due_us(const struct loop *loop);
/* Calls those that are due at loop->now_us. */
void loop_deliver_timers(struct loop *loop);

#endif
