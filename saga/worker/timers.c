#include "saga/worker/timers.h"

#include "outbox/runtime/clock.h"
#include <assert.h>
#include <stdlib.h>

struct timer_entry {
    int64_t wake_us;
    struct uuid saga_id;
};

#define DEFERRED_MAX 64

struct timers {
    struct timer_entry *heap;
    int count, capacity;
    struct timer_entry deferred[DEFERRED_MAX]; /* a ring: the oldest is forgotten */
    int deferred_next;
    bool clock_known;
    int64_t offset_us; /* database minus monotonic */
};

/* How much of an older, better sample is given up per new one: a clock that was set back, or
 * drifts, is followed within some hundreds of batches, and one slow answer moves nothing. */
#define OFFSET_FORGET 64
/* Further off than any answer takes: the database's clock was set back. */
#define OFFSET_JUMP_US (2 * US_PER_S)

int timers_create(struct timers **ret_timers, int capacity, struct error *error)
{
    assert(capacity > 0);
    struct timers *timers = calloc(1, sizeof *timers);
    if (timers) {
        timers->heap = calloc((size_t)capacity, sizeof *timers->heap);
        timers->capacity = capacity;
    }
    if (!timers || !timers->heap) {
        free(timers);
        return error_set(error, ERROR_NO_MEMORY, RETRY_NEVER, "no memory for %d timers", capacity);
    }
    *ret_timers = timers;
    return 0;
}

void timers_destroy(struct timers *timers)
{
    if (timers) {
        free(timers->heap);
        free(timers);
    }
}

void timers_clear(struct timers *timers)
{
    timers->count = 0;
    timers->clock_known = false;
}

void timers_sample_clock(struct timers *timers, int64_t database_us, int64_t monotonic_us)
{
    int64_t offset_us = database_us - monotonic_us;
    if (!timers->clock_known || offset_us > timers->offset_us ||
        timers->offset_us - offset_us > OFFSET_JUMP_US) {
        timers->offset_us = offset_us;
    } else {
        timers->offset_us -= (timers->offset_us - offset_us) / OFFSET_FORGET;
    }
    timers->clock_known = true;
}

int64_t timers_database_us(const struct timers *timers, int64_t monotonic_us)
{
    return timers->clock_known ? monotonic_us + timers->offset_us : 0;
}

static void swap_entries(struct timer_entry *a, struct timer_entry *b)
{
    struct timer_entry kept = *a;
    *a = *b;
    *b = kept;
}

static void sift_down(struct timers *timers)
{
    int at = 0;
    for (;;) {
        int least = at;
        for (int child = 2 * at + 1; child <= 2 * at + 2 && child < timers->count; child++) {
            if (timers->heap[child].wake_us < timers->heap[least].wake_us) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        swap_entries(&timers->heap[at], &timers->heap[least]);
        at = least;
    }
}

bool timers_arm(struct timers *timers, const struct uuid *saga_id, int64_t wake_us)
{
    if (timers->count == timers->capacity) {
        return false;
    }
    for (int i = 0; i < DEFERRED_MAX; i++) {
        if (timers->deferred[i].wake_us > wake_us &&
            uuid_compare(&timers->deferred[i].saga_id, saga_id) == 0) {
            wake_us = timers->deferred[i].wake_us;
        }
    }
    int at = timers->count++;
    timers->heap[at] = (struct timer_entry){.wake_us = wake_us, .saga_id = *saga_id};
    while (at > 0 && timers->heap[(at - 1) / 2].wake_us > timers->heap[at].wake_us) {
        swap_entries(&timers->heap[(at - 1) / 2], &timers->heap[at]);
        at = (at - 1) / 2;
    }
    return true;
}

void timers_defer(struct timers *timers, const struct uuid *saga_id, int64_t until_us)
{
    timers->deferred[timers->deferred_next] =
        (struct timer_entry){.wake_us = until_us, .saga_id = *saga_id};
    timers->deferred_next = (timers->deferred_next + 1) % DEFERRED_MAX;
}

static bool is_among(const struct uuid *id, const struct uuid *ids, int count)
{
    for (int i = 0; i < count; i++) {
        if (uuid_compare(id, &ids[i]) == 0) {
            return true;
        }
    }
    return false;
}

int timers_take(struct timers *timers, int64_t database_us, int count_max, struct uuid *ret_ids)
{
    int count = 0;
    while (timers->count > 0 && count < count_max && timers->heap[0].wake_us <= database_us) {
        if (!is_among(&timers->heap[0].saga_id, ret_ids, count)) {
            ret_ids[count++] = timers->heap[0].saga_id;
        }
        timers->heap[0] = timers->heap[--timers->count];
        sift_down(timers);
    }
    return count;
}

int64_t timers_next_us(const struct timers *timers)
{
    if (timers->count == 0 || !timers->clock_known) {
        return INT64_MAX;
    }
    return timers->heap[0].wake_us - timers->offset_us;
}

int timers_count(const struct timers *timers)
{
    return timers->count;
}
