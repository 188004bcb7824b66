/* plan_cache.h: published definitions, by id, read once. They never change, so nothing is ever out
 * of date; past the limit all are forgotten between two batches and read again as needed. */
#ifndef SAGAPOST_WORKER_PLAN_CACHE_H
#define SAGAPOST_WORKER_PLAN_CACHE_H

#include "outbox/runtime/metrics.h"
#include "saga/machine/plan.h"

struct plan_entry {
    int definition_id;
    struct plan *plan; /* NULL: it cannot be read; `why` says why not */
    char *why;
    struct metric *latency;                 /* of its steps */
    struct metric *ended[SAGA_STATE_COUNT]; /* of its sagas, made when first needed */
};

struct plan_cache;

int plan_cache_create(struct plan_cache **ret_cache, struct metrics *metrics, int entries_max,
                      struct error *error) MUST_CHECK;
void plan_cache_destroy(struct plan_cache *cache);

/* Forgets everything when it is full. Call it only while nobody holds an entry. */
void plan_cache_trim(struct plan_cache *cache);

/* NULL: not met yet. */
struct plan_entry *plan_cache_find(const struct plan_cache *cache, int definition_id);

/* Reads and keeps a plan. `json` NULL: the database has none of that id. One that cannot be read is
 * kept too, without a plan, so that it is asked for once; one that is there already stays. Fails
 * only without memory. */
int plan_cache_add(struct plan_cache *cache, int definition_id, const char *json, size_t bytes,
                   struct error *error) MUST_CHECK;

void plan_cache_count_ended(struct plan_cache *cache, struct plan_entry *entry,
                            enum saga_state state);

#endif
