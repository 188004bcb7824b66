#include "outbox/relay/settling/ring.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"

#include <stdlib.h>
#include <string.h>

struct ring {
    struct ring_options options;
    bool started, busy;
    int32_t slots[RING_SLOTS_MAX]; /* to be tried */
    int slot_count, slot_next;
    struct loop_timer *timer;
    struct pg_params params;
};

static void try_next(struct ring *ring);

/* Truncation is housekeeping: whatever goes wrong is said, and tried again the next time. */
static void rest(struct ring *ring, const struct error *failure)
{
    if (failure && failure->retry != RETRY_RECONNECT)
        log_failure(LOG_LEVEL_WARN, "the log's leaves could not be emptied", failure);
    ring->busy = false;
    if (ring->started)
        loop_timer_arm_in(ring->timer, ring->options.interval_us);
}

static void on_truncated(void *data, struct pg_result *result, const struct error *failure)
{
    struct ring *ring = data;

    if (!ring->started || failure) {
        rest(ring, failure);
        return;
    }
    if (strcmp(pg_text(result, 0, 0), "truncated") == 0) {
        metric_add(ring->options.stats->leaves_truncated, 1);
        log_info("a leaf of the log was emptied",
                 LOG_INT("slot", ring->slots[ring->slot_next - 1]));
    }
    try_next(ring);
}

static void try_next(struct ring *ring)
{
    struct error error = {0};

    if (ring->slot_next == ring->slot_count) {
        rest(ring, NULL);
        return;
    }
    pg_params_reset(&ring->params);
    pg_params_int4(&ring->params, ring->slots[ring->slot_next++]);
    if (pg_session_send(ring->options.session, &sql_relay_truncate_leaf, &ring->params,
                        on_truncated, ring, &error) < 0 ||
        pg_session_sync(ring->options.session, NULL, NULL, &error) < 0)
        rest(ring, &error);
    FAILPOINT("truncation");
}

static void on_leaves(void *data, struct pg_result *result, const struct error *failure)
{
    struct ring *ring = data;

    if (!ring->started || failure) {
        rest(ring, failure);
        return;
    }
    ring->slot_count = ring->slot_next = 0;
    for (int i = 0; i < pg_result_rows(result) && i < RING_SLOTS_MAX; i++)
        ring->slots[ring->slot_count++] = (int32_t)pg_int(result, i, 0);
    if (ring->slot_count > 0)
        ring->options.on_leaves(ring->options.data);
    try_next(ring);
}

static void on_timer(void *data)
{
    struct ring *ring = data;
    struct error error = {0};

    ring->busy = true;
    if (pg_session_send(ring->options.session, &sql_relay_leaves, NULL, on_leaves, ring, &error) <
            0 ||
        pg_session_sync(ring->options.session, NULL, NULL, &error) < 0)
        rest(ring, &error);
}

void ring_start(struct ring *ring)
{
    ring->started = true;
    if (!ring->busy)
        loop_timer_arm_in(ring->timer, ring->options.interval_us);
}

void ring_stop(struct ring *ring)
{
    ring->started = false;
    loop_timer_disarm(ring->timer);
}

int ring_create(struct ring **ret_ring, const struct ring_options *options, struct error *error)
{
    struct ring *ring = calloc(1, sizeof(*ring));
    int failed;

    if (!ring)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "the ring");
    ring->options = *options;
    pg_params_init(&ring->params);
    failed = loop_timer_create(options->loop, on_timer, ring, &ring->timer, error);
    if (failed < 0) {
        ring_destroy(ring);
        return failed;
    }
    *ret_ring = ring;
    return 0;
}

void ring_destroy(struct ring *ring)
{
    if (!ring)
        return;
    loop_timer_destroy(ring->timer);
    pg_params_free(&ring->params);
    free(ring);
}
