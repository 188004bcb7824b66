/* source_flush.c: rows may be published once the log of their commits is on disk, here and on the
 * standbys of publish-after; empty windows wait for it too. */
#include "outbox/relay/reading/source_private.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/clock.h"

#define FLUSH_LOOK_US   US_PER_MS         /* between looks whether the log has reached the disk */
#define FLUSH_NUDGE_US  (50 * US_PER_MS)  /* then a commit of ours makes it */
#define STANDBY_LOOK_US (100 * US_PER_MS) /* between looks when a standby is slow or away */

enum replicated_column { REPLICATED_FLUSH_LSN, REPLICATED_MISSING };

/* Also at the barrier, where no later look tells of the flush that an empty window waits for. */
bool source_waits_for_flush(const struct source *source)
{
    return windows_wait_for_flush(source->options.windows) ||
           (source_is_through(source) && flow_rows(source->options.flow) == 0 &&
            windows_count(source->options.windows) > 0);
}

void source_permit(struct source *source)
{
    flow_permit(source->options.flow, windows_permitted(source->options.windows));
    if (!source_waits_for_flush(source)) {
        source->flush_since_us = 0;
        source->nudged = false;
        publish_after_end_wait(&source->standbys_wait, source->options.stats);
    }
}

bool source_needs_standbys(const struct source *source)
{
    return source->options.publish_after->count > 0;
}

static void on_replicated(void *data, struct pg_result *result, const struct error *failure)
{
    struct source *source = data;
    int64_t waited_us;

    source->flush_busy = false;
    if (!source_answered(source, failure))
        return;
    windows_flushed(source->options.windows, pg_int(result, 0, REPLICATED_FLUSH_LSN));
    source_permit(source);
    if (!source_waits_for_flush(source))
        return;
    waited_us =
        publish_after_still_wait(&source->standbys_wait, loop_now_us(source->options.loop),
                                 pg_text(result, 0, REPLICATED_MISSING), source->options.stats);
    loop_timer_arm_in(source->flush_timer,
                      waited_us < PUBLISH_AFTER_PATIENCE_US ? FLUSH_LOOK_US : STANDBY_LOOK_US);
}

void source_look_at_standbys(struct source *source)
{
    const struct publish_after *after = source->options.publish_after;

    if (source->flush_busy)
        return;
    pg_params_reset(&source->params);
    pg_params_array_begin(&source->params, PG_TYPE_TEXT);
    for (int i = 0; i < after->count; i++)
        pg_params_item_text(&source->params, after->names[i]);
    pg_params_array_end(&source->params);
    source->flush_busy =
        source_send(source, &sql_relay_replicated, &source->params, on_replicated, source);
}

static void on_flushed(void *data, struct pg_result *result, const struct error *failure)
{
    struct source *source = data;

    source->flush_busy = false;
    if (!source_answered(source, failure))
        return;
    windows_flushed(source->options.windows, pg_int(result, 0, 0));
    source_permit(source);
    if (source->flush_since_us)
        loop_timer_arm_in(source->flush_timer, FLUSH_LOOK_US);
}

/* The record's own place says nothing yet: the look that follows does. */
static void on_nudged(void *data, struct pg_result *result, const struct error *failure)
{
    struct source *source = data;

    (void)result;
    (void)source_answered(source, failure);
}

void source_look_at_flush(struct source *source)
{
    int64_t now = loop_now_us(source->options.loop);

    if (source->flush_busy || source->state == SOURCE_OFF)
        return;
    if (!source->flush_since_us) {
        source->flush_since_us = now;
        metric_add(source->options.stats->flush_waits, 1);
    }
    if (now - source->flush_since_us > FLUSH_NUDGE_US &&
        !(source_needs_standbys(source) && source->nudged)) {
        metric_add(source->options.stats->flush_nudges, 1);
        source->flush_since_us = now;
        source->nudged = true;
        if (!source_send(source, &sql_relay_nudge, NULL, on_nudged, source))
            return;
    }
    if (source_needs_standbys(source))
        source_look_at_standbys(source);
    else
        source->flush_busy = source_send(source, &sql_relay_flushed, NULL, on_flushed, source);
}

void source_on_flush_timer(void *data)
{
    source_look_at_flush(data);
}
