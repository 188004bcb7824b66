/* timers.h: which sagas want to be woken, and when, on the database's clock. Pure.
 *
 * A heap in memory of what is due soon: what this worker armed itself, and what a sweep of the
 * database found for the near future. It is a hint, never the truth: an entry whose saga has moved
 * on is found out when the saga is locked, and an entry that is lost (a restart, a full heap) is
 * found by the next sweep. So the heap needs no removal, only a limit.
 *
 * The database's clock is followed by samples (its now, our monotonic clock when the answer came):
 * the sample can only be late, so the one that puts the database furthest ahead is the nearest to
 * the truth; it is forgotten slowly, because clocks drift. */
#ifndef SAGAPOST_WORKER_TIMERS_H
#define SAGAPOST_WORKER_TIMERS_H

#include "outbox/runtime/error.h"
#include "outbox/runtime/uuid.h"
#include <stdint.h>

struct timers;

int timers_create(struct timers **ret_timers, int capacity, struct error *error) MUST_CHECK;
void timers_destroy(struct timers *timers);
void timers_clear(struct timers *timers);

void timers_sample_clock(struct timers *timers, int64_t database_us, int64_t monotonic_us);
/* The database's time at monotonic_us; 0 before the first sample. */
int64_t timers_database_us(const struct timers *timers, int64_t monotonic_us);

/* False: the heap is full of earlier ones, and the sweep will have to find this one. */
bool timers_arm(struct timers *timers, const struct uuid *saga_id, int64_t wake_us);

/* Not before until_us, whoever arms it: it has just failed. Remembers some dozens. */
void timers_defer(struct timers *timers, const struct uuid *saga_id, int64_t until_us);

/* Takes up to count_max sagas whose time has come, each once. */
int timers_take(struct timers *timers, int64_t database_us, int count_max, struct uuid *ret_ids);
/* Monotonic time of the earliest; INT64_MAX: none, or the clock is not known yet. */
int64_t timers_next_us(const struct timers *timers);
int timers_count(const struct timers *timers);

#endif
