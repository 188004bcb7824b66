#include "outbox/relay/rows/chunk.h"
#include "outbox/relay/settling/park_private.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/log.h"

#include <assert.h>
#include <stdlib.h>

#define LANE_IDLE_US (60 * (int64_t)US_PER_S) /* then its connection is closed */

enum held_column { HELD_KEY_HASH, HELD_ROWS };
enum count_column { COUNT_WAITING, COUNT_PARKED, COUNT_BEHIND };
enum intents_column { INTENTS_KEY_HASH, INTENTS_ANSWERED, INTENTS_REQUEUED, INTENTS_DISCARDED };

/* Failures and sending ------------------------------------------------------------------------- */

void park_fail(struct park *park, const struct error *failure)
{
    if (park->state == PARK_OFF || failure->retry == RETRY_RECONNECT)
        return;
    park->options.on_failure(park->options.data, failure);
}

/* True when the answer is of use. */
bool park_answered(struct park *park, const struct error *failure)
{
    if (failure)
        park_fail(park, failure);
    return !failure && park->state != PARK_OFF;
}

void park_send(struct park *park, const struct pg_statement *statement, pg_callback *callback)
{
    struct error error = {0};

    if (pg_session_send(park->options.session, statement, &park->params, callback, park, &error) <
            0 &&
        error.code != ERROR_STATE)
        park_fail(park, &error);
}

void park_sync(struct park *park, pg_callback *callback)
{
    struct error error = {0};

    if (pg_session_sync(park->options.session, callback, park, &error) < 0 &&
        error.code != ERROR_STATE)
        park_fail(park, &error);
}

void park_begin_params(struct park *park)
{
    pg_params_reset(&park->params);
    pg_params_int4(&park->params, park->options.share);
}

/* When the next row is due --------------------------------------------------------------------- */

void park_set_due(struct park *park, int64_t due_us)
{
    park->due_us = due_us;
    if (due_us == PARK_NEVER)
        loop_timer_disarm(park->due_timer);
    else
        loop_timer_arm_at(park->due_timer, due_us);
}

static void on_due_timer(void *data)
{
    (void)data; /* park_turn, before the loop sleeps again, does the rest */
}

static void on_next(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;
    int64_t wait_us;

    if (!park_answered(park, failure))
        return;
    if (pg_result_rows(result) == 0) {
        park_set_due(park, PARK_NEVER);
        return;
    }
    wait_us = pg_int(result, 0, 0);
    park_set_due(park, park_now_us(park) + (wait_us > 0 ? wait_us : 0));
}

void park_ask_next(struct park *park)
{
    park_begin_params(park);
    park_send(park, &sql_relay_parked_next, on_next);
    park_sync(park, NULL);
}

void park_added(struct park *park, uint32_t rows)
{
    park->rows += rows;
    if (rows > 0)
        park_ask_next(park); /* a row behind another that is gone by now was made due at once: the
                           table knows */
}

/* Counting ------------------------------------------------------------------------------------- */

static void on_counted(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;
    struct stats *stats = park->options.stats;

    if (!park_answered(park, failure))
        return;
    metric_set(stats->parked_waiting, (double)pg_int(result, 0, COUNT_WAITING));
    metric_set(stats->parked_parked, (double)pg_int(result, 0, COUNT_PARKED));
    metric_set(stats->parked_behind, (double)pg_int(result, 0, COUNT_BEHIND));
    park->rows = (uint64_t)(pg_int(result, 0, COUNT_WAITING) + pg_int(result, 0, COUNT_PARKED) +
                            pg_int(result, 0, COUNT_BEHIND));
}

void park_count(struct park *park)
{
    if (park->state == PARK_OFF)
        return;
    park_begin_params(park);
    park_send(park, &sql_relay_parked_count, on_counted);
    park_sync(park, NULL);
}

/* Starting ------------------------------------------------------------------------------------- */

static void on_held(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;

    if (!park_answered(park, failure))
        return;
    keys_clear(park->options.held);
    for (int i = 0; i < pg_result_rows(result); i++) {
        struct key_state *key =
            keys_get(park->options.held, (uint64_t)pg_int(result, i, HELD_KEY_HASH));
        struct error error = {0};

        if (!key) {
            error_set(&error, ERROR_LIMIT, RETRY_NEVER,
                      "outbox.parked holds more keys than parked-rows (the setting) has room for");
            park_fail(park, &error);
            return;
        }
        key->held = (uint64_t)pg_int(result, i, HELD_ROWS);
    }
}

static void on_started(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;

    (void)result;
    /* A statement that failed has said so; here it is the commit, which nobody else hears of. */
    if (!park_answered(park, failure) || park->state != PARK_STARTING)
        return;
    park->state = PARK_IDLE;
    park->intents_wanted = true;
    park->options.on_loaded(park->options.data);
}

static void on_recovered(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    (void)park_answered(data, failure);
}

void park_start(struct park *park)
{
    assert(park->state == PARK_OFF);
    park->state = PARK_STARTING;
    park->finishing = false;
    backoff_reset(&park->backoff);
    park_begin_params(park);
    park_send(park, &sql_relay_parked_recover, on_recovered);
    park_send(park, &sql_relay_held, on_held);
    park_send(park, &sql_relay_parked_count, on_counted);
    park_send(park, &sql_relay_parked_next, on_next);
    park_sync(park, on_started);
}

void park_stop(struct park *park)
{
    park->state = PARK_OFF;
    flow_clear(park->flow, chunk_release_row, NULL);
    keys_clear(park->batch_held);
    if (park->lane)
        lane_forget(park->lane);
    pg_result_free(park->intents);
    park->intents = NULL;
    loop_timer_disarm(park->retry_timer);
    park_set_due(park, PARK_NEVER);
}

void park_finish(struct park *park)
{
    park->finishing = true;
}

/* Intents -------------------------------------------------------------------------------------- */

static void promote(struct park *park, struct pg_result *intents)
{
    park_begin_params(park);
    pg_params_array_begin(&park->params, PG_TYPE_INT8);
    for (int i = 0; i < pg_result_rows(intents); i++)
        if (!pg_is_null(intents, i, INTENTS_KEY_HASH))
            pg_params_item_int8(&park->params, pg_int(intents, i, INTENTS_KEY_HASH));
    pg_params_array_end(&park->params);
    park_send(park, &sql_relay_parked_promote, on_recovered);
    park_sync(park, NULL);
}

static void on_intents(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;

    if (park_answered(park, failure))
        park->intents = pg_result_keep(result);
}

/* Only a commit frees a key: before it the row may stay where it was, and later ones of its key
 * must not go past it. */
static void on_intents_committed(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;
    struct pg_result *intents __attribute__((cleanup(pg_result_freep))) = park->intents;

    (void)result;
    park->intents = NULL;
    if (!park_answered(park, failure) || !intents)
        return;
    park->state = PARK_IDLE;
    park->intents_wanted = pg_int(intents, 0, INTENTS_ANSWERED) > 0; /* there may be more */
    if (!park->intents_wanted)
        return;
    log_info("operators' intents applied",
             LOG_INT("requeued", pg_int(intents, 0, INTENTS_REQUEUED)),
             LOG_INT("discarded", pg_int(intents, 0, INTENTS_DISCARDED)));
    for (int i = 0; i < pg_result_rows(intents); i++)
        if (!pg_is_null(intents, i, INTENTS_KEY_HASH))
            keys_release(park->options.held, (uint64_t)pg_int(intents, i, INTENTS_KEY_HASH));
    promote(park, intents);
    park_ask_next(park);
    park_count(park);
}

static void apply_intents(struct park *park)
{
    park->intents_wanted = false;
    park->state = PARK_APPLYING;
    park_begin_params(park);
    park_send(park, &sql_relay_intents, on_intents);
    park_sync(park, on_intents_committed);
}

void park_look_for_intents(struct park *park)
{
    park->intents_wanted = true;
}

/* Turning -------------------------------------------------------------------------------------- */

bool park_turn(struct park *park)
{
    bool did;

    switch (park->state) {
    case PARK_IDLE:
        if (park->finishing)
            return false;
        if (park->intents_wanted) {
            apply_intents(park);
            return true;
        }
        return park->due_us <= park_now_us(park) && park_load(park);
    case PARK_TRYING:
        did = lane_publish(park->lane, park->options.rows_max);
        park->used_us = park_now_us(park);
        if (flow_settled(park->flow) < flow_rows(park->flow))
            return did;
        park_write_results(park);
        return true;
    case PARK_OFF:
    case PARK_STARTING:
    case PARK_LOADING:
    case PARK_WRITING:
    case PARK_APPLYING:
        break;
    }
    return false;
}

void park_tick(struct park *park)
{
    if (!park->lane)
        return;
    lane_tick(park->lane);
    if (park_now_us(park) - park->used_us > LANE_IDLE_US && flow_rows(park->flow) == 0) {
        fence_detach(park->options.fence, FENCE_PARKED);
        lane_destroy(park->lane);
        park->lane = NULL;
    }
}

uint64_t park_rows(const struct park *park)
{
    return park->rows;
}

bool park_is_idle(const struct park *park)
{
    return park->state == PARK_OFF || park->state == PARK_IDLE;
}

uint32_t park_in_memory(const struct park *park)
{
    return flow_rows(park->flow);
}

/* Life ----------------------------------------------------------------------------------------- */

static int create_parts(struct park *park, struct error *error)
{
    struct loop *loop = park->options.loop;
    int failed = keys_create(&park->batch_held, park->options.rows_max, error);

    if (failed >= 0)
        failed = flow_create(&park->flow, park->options.rows_max, park->batch_held, error);
    if (failed >= 0)
        failed = loop_timer_create(loop, on_due_timer, park, &park->due_timer, error);
    if (failed >= 0)
        failed = loop_timer_create(loop, park_on_retry_timer, park, &park->retry_timer, error);
    return failed;
}

int park_create(struct park **ret_park, const struct park_options *options, struct error *error)
{
    struct park *park = calloc(1, sizeof(*park));
    int failed;

    if (!park)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "what is set aside");
    park->options = *options;
    park->options.lane.on_settled = park_on_settled;
    park->options.lane.data = park;
    park->options.lane.tries_closed = true;
    park->due_us = PARK_NEVER;
    pg_params_init(&park->params);
    backoff_init(&park->backoff, options->retry_base_us, options->retry_cap_us,
                 (uint64_t)clock_wall_us(loop_clock(options->loop)));
    failed = create_parts(park, error);
    if (failed < 0) {
        park_destroy(park);
        return failed;
    }
    *ret_park = park;
    return 0;
}

void park_destroy(struct park *park)
{
    if (!park)
        return;
    lane_destroy(park->lane);
    pg_result_free(park->intents);
    if (park->flow)
        flow_clear(park->flow, chunk_release_row, NULL);
    flow_destroy(park->flow);
    keys_destroy(park->batch_held);
    loop_timer_destroy(park->due_timer);
    loop_timer_destroy(park->retry_timer);
    pg_params_free(&park->params);
    free(park);
}
