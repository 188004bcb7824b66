#include "saga/worker/plan_cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct plan_cache {
    struct metrics *metrics;
    struct plan_entry **entries; /* sorted by id */
    int count, capacity, entries_max;
};

int plan_cache_create(struct plan_cache **ret_cache, struct metrics *metrics, int entries_max,
                      struct error *error)
{
    struct plan_cache *cache = calloc(1, sizeof *cache);
    if (!cache) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_NEVER, "no memory for definitions");
    }
    cache->metrics = metrics;
    cache->entries_max = entries_max;
    *ret_cache = cache;
    return 0;
}

static void forget_all(struct plan_cache *cache)
{
    for (int i = 0; i < cache->count; i++) {
        plan_free(cache->entries[i]->plan);
        free(cache->entries[i]->why);
        free(cache->entries[i]);
    }
    cache->count = 0;
}

void plan_cache_destroy(struct plan_cache *cache)
{
    if (cache) {
        forget_all(cache);
        free((void *)cache->entries);
        free(cache);
    }
}

void plan_cache_trim(struct plan_cache *cache)
{
    if (cache->count >= cache->entries_max) {
        forget_all(cache);
    }
}

/* Where the id is, or where it belongs. */
static int position_of(const struct plan_cache *cache, int definition_id)
{
    int low = 0;
    int high = cache->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (cache->entries[middle]->definition_id < definition_id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct plan_entry *plan_cache_find(const struct plan_cache *cache, int definition_id)
{
    int at = position_of(cache, definition_id);
    if (at < cache->count && cache->entries[at]->definition_id == definition_id) {
        return cache->entries[at];
    }
    return NULL;
}

static int make_room(struct plan_cache *cache, struct error *error)
{
    if (cache->count < cache->capacity) {
        return 0;
    }
    int capacity = cache->capacity > 0 ? 2 * cache->capacity : 16;
    struct plan_entry **entries = (struct plan_entry **)realloc(
        (void *)cache->entries, (size_t)capacity * sizeof(struct plan_entry *));
    if (!entries) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for definitions");
    }
    cache->entries = entries;
    cache->capacity = capacity;
    return 0;
}

int plan_cache_add(struct plan_cache *cache, int definition_id, const char *json, size_t bytes,
                   struct error *error)
{
    if (plan_cache_find(cache, definition_id)) {
        return 0;
    }
    int rc = make_room(cache, error);
    if (rc < 0) {
        return rc;
    }
    struct plan_entry *entry = calloc(1, sizeof *entry);
    if (!entry) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for a definition");
    }
    entry->definition_id = definition_id;
    struct error unreadable;
    rc = json ? plan_read(json, bytes, &entry->plan, &unreadable) : 0;
    if (rc == ERROR_NO_MEMORY) { /* what is kept as unreadable stays so, and its replies are lost */
        free(entry);
        *error = unreadable;
        return rc;
    }
    if (!json) {
        entry->why = strdup("there is no such definition");
    } else if (rc < 0) {
        entry->why = strdup(unreadable.message);
    } else {
        entry->latency = metrics_get_histogram(
            cache->metrics, "sagapost_saga_step_latency_seconds",
            "from a command to its answer, by definition",
            (const char *const[]){"definition", entry->plan->definition, NULL},
            metrics_latency_bounds, metrics_latency_bound_count);
    }
    int at = position_of(cache, definition_id);
    memmove((void *)&cache->entries[at + 1], (const void *)&cache->entries[at],
            (size_t)(cache->count - at) * sizeof(struct plan_entry *));
    cache->entries[at] = entry;
    cache->count++;
    return 0;
}

void plan_cache_count_ended(struct plan_cache *cache, struct plan_entry *entry,
                            enum saga_state state)
{
    assert(entry->plan);
    if (!entry->ended[state]) {
        entry->ended[state] =
            metrics_get(cache->metrics, METRIC_COUNTER, "sagapost_saga_ended_total",
                        "sagas that ended, by definition and state",
                        (const char *const[]){"definition", entry->plan->definition, "state",
                                              saga_state_name(state), NULL});
    }
    metric_add(entry->ended[state], 1);
}
