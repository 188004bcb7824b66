/* A heap of timers by due time, in which each knows its place. */
#include "outbox/runtime/loop_private.h"

#include <assert.h>
#include <stdlib.h>

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
    /* Not the loop's time: a callback that took long must not shorten what it arms. */
    int64_t now_us = clock_monotonic_us(timer->loop->clock);

    if (delay_us < 0)
        delay_us = 0;
    loop_timer_arm_at(timer, delay_us > LOOP_NEVER - now_us ? LOOP_NEVER : now_us + delay_us);
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

/* --- a turn --------------------------------------------------------------------------------- */

int64_t loop_timers_due_us(const struct loop *loop)
{
    return loop->heap_count ? loop->heap[0]->due_us : LOOP_NEVER;
}

void loop_deliver_timers(struct loop *loop)
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
