/* sweep.h: what a worker looks for in the database from time to time, between batches: sagas that
 * want to be woken soon, sagas that wait for nothing, how many there are for the metrics, and what
 * is older than it is to be kept (saga.maintain).
 *
 * One look at a time on the orchestrating session, never while a batch runs on it. */
#ifndef SAGAPOST_WORKER_SWEEP_H
#define SAGAPOST_WORKER_SWEEP_H

#include "saga/worker/timers.h"
#include "saga/worker/worker.h"

struct sweep;

struct sweep_options {
    struct worker *worker;
    struct pg_session *session;
    struct timers *timers;
    void (*on_done)(void *data); /* the session is free again */
    void (*on_stalled)(void *data, const struct uuid *ids, int count); /* before on_done */
    void *data;
};

int sweep_create(struct sweep **ret_sweep, const struct sweep_options *options,
                 struct error *error) MUST_CHECK;
void sweep_destroy(struct sweep *sweep); /* after the session */

/* Everything is to be looked for again: a new connection. */
void sweep_reset(struct sweep *sweep);
/* A timer was made that may be due before the next look. */
void sweep_look_soon(struct sweep *sweep);
/* Starts a look if one is due; false: none is. */
bool sweep_start(struct sweep *sweep, int64_t now_us);
bool sweep_is_running(const struct sweep *sweep);
int64_t sweep_next_us(const struct sweep *sweep); /* monotonic */
void sweep_connection_lost(struct sweep *sweep);

#endif
