/* intents.h: which intents are left for later: their saga was busy, or they failed. Pure. A short
 * list: what falls out of it is merely tried too soon. */
#ifndef SAGAPOST_WORKER_INTENTS_H
#define SAGAPOST_WORKER_INTENTS_H

#include <stdint.h>

#define INTENTS_SKIPPED_MAX 256

struct intents {
    int64_t ids[INTENTS_SKIPPED_MAX];
    int64_t until_us[INTENTS_SKIPPED_MAX];
    int next;
    int one_by_one; /* batches to come that take one intent each, to find the one that fails */
};

void intents_skip(struct intents *intents, int64_t id, int64_t until_us);
/* Those to be left out now; returns how many. */
int intents_skipped(const struct intents *intents, int64_t now_us,
                    int64_t ret_ids[INTENTS_SKIPPED_MAX]);
/* A batch of `count` failed. */
void intents_failed(struct intents *intents, int count);
/* How many the next batch may take. */
int intents_limit(struct intents *intents, int limit);

#endif
