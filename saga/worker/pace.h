/* pace.h: how soon the next batch may begin. Pure.
 *
 *     pace_started(&pace, count);                 a batch begins
 *     pace_finished(&pace, now_us, pause_us);     it is over
 *     if (pace_holds(&pace, now_us, is_full))     look again at pace.not_before_us
 *
 * A batch costs a transaction of its own whatever is in it, here, in PostgreSQL, in the relay that
 * finds its rows and in RabbitMQ that confirms them. Where things arrive one at a time, each is
 * served at once. Once a batch had several, more are on their way: a pause before the next one lets
 * them share it. On two busy cores 2 ms took a fifth of the CPU of a saga (1.95 to 1.59 ms, the
 * servers included) and gave a fifth to a third more sagas a second; 5 ms gave no more.
 *
 * Nothing waits longer than pause_us, and a full batch does not wait. */
#ifndef SAGAPOST_WORKER_PACE_H
#define SAGAPOST_WORKER_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
    int count;             /* in the batch that runs, or ran last */
    int64_t not_before_us; /* monotonic */
};

void pace_started(struct pace *pace, int count);
void pace_finished(struct pace *pace, int64_t now_us, int64_t pause_us);
bool pace_holds(const struct pace *pace, int64_t now_us, bool is_full);

#endif
