/* park_batch.c: rows of outbox.parked whose time has come, published, and what became of them. */
#include "outbox/relay/rows/chunk.h"
#include "outbox/relay/settling/park_private.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/log.h"

/* A batch -------------------------------------------------------------------------------------- */

static void push(struct park *park, struct chunk *chunk, int i)
{
    struct row row = {chunk->rows, i};
    struct route route = routes_policy(park->options.routes, row);
    bool holds = pg_bool(chunk->rows, i, ROW_HOLDS);
    uint32_t attempts = (uint32_t)pg_int(chunk->rows, i, ROW_ATTEMPTS);
    struct flow_item item = {
        .id = pg_int(chunk->rows, i, ROW_ID),
        .key = holds ? (uint64_t)pg_int(chunk->rows, i, ROW_KEY_HASH) : 0,
        .chunk = chunk_hold(chunk),
        .row = (uint32_t)i,
        .attempts = attempts,
        .failing_us = attempts > 0 ? pg_int(chunk->rows, i, ROW_FAILING_US) : 0,
        .holds = holds && route.holds,
    };

    flow_push(park->flow, &item);
}

/* Nothing of it was sent, and the rows are where they were. They are due again after a pause; to
 * begin again would send the log's messages twice. Intents do not wait for it. */
static void put_off(struct park *park, const struct error *failure)
{
    if (park->backoff.tries == 0)
        log_failure(LOG_LEVEL_WARN, "messages of outbox.parked cannot be read; trying on", failure);
    chunk_size_failed(&park->size);
    park->state = PARK_IDLE;
    park_set_due(park, park_now_us(park) + backoff_next_us(&park->backoff));
}

static void on_batch(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;
    struct error no_memory = {0};
    struct chunk *chunk;
    int rows;

    if (failure && failure->retry != RETRY_RECONNECT && failure->retry != RETRY_NEVER &&
        park->state == PARK_LOADING) {
        put_off(park, failure);
        return;
    }
    if (!park_answered(park, failure))
        return;
    rows = pg_result_rows(result);
    chunk = rows > 0 ? chunk_create(result, &park->in_memory) : NULL;
    if (rows > 0 && !chunk) {
        error_set(&no_memory, ERROR_NO_MEMORY, RETRY_LATER, "a batch of %d rows", rows);
        put_off(park, &no_memory);
        return;
    }
    if (park->backoff.tries > 0)
        log_info("messages of outbox.parked can be read again");
    backoff_reset(&park->backoff);
    (void)chunk_size_learn(&park->size, chunk);
    if (rows == 0) {
        park->state = PARK_IDLE;
        park_ask_next(park);
        return;
    }
    for (int i = 0; i < rows; i++)
        push(park, chunk, i);
    chunk_release(chunk);
    flow_permit(park->flow, flow_pushed(park->flow));
    park->state = PARK_TRYING;
}

static bool open_lane(struct park *park)
{
    struct lane_options options = park->options.lane;
    struct error error = {0};

    options.flow = park->flow;
    options.window = park->options.rows_max;
    fence_hook(park->options.fence, FENCE_PARKED, &options);
    if (lane_create(&park->lane, &options, &error) < 0) {
        park_fail(park, &error);
        return false;
    }
    fence_attach(park->options.fence, FENCE_PARKED, park->lane);
    lane_start(park->lane);
    return true;
}

/* Nothing is loaded before the lane can send it: rows in memory keep intents waiting. */
bool park_load(struct park *park)
{
    int32_t rows;

    park->used_us = park_now_us(park);
    if (!park->lane && !open_lane(park))
        return false;
    if (!lane_is_open(park->lane) || lane_is_blocked(park->lane))
        return false;
    rows = chunk_size_ask(&park->size, (int32_t)park->options.rows_max, park->options.bytes_max);
    park->state = PARK_LOADING;
    park_set_due(park, PARK_NEVER);
    park_begin_params(park);
    pg_params_int4(&park->params, rows);
    pg_params_int4(&park->params, rows);
    pg_params_int8(&park->params, park->options.bytes_max);
    park_send(park, &sql_relay_parked_due, on_batch);
    park_sync(park, NULL);
    return true;
}

/* Its results ---------------------------------------------------------------------------------- */

static struct flow_item *item_at(const struct park *park, uint64_t number)
{
    return flow_item(park->flow, flow_place(park->flow, number));
}

static bool is_refused(const struct flow_item *item)
{
    return item->state == FLOW_ASIDE && item->aside != FLOW_BEHIND;
}

enum result_column {
    RESULT_ID,
    RESULT_HOLDS,
    RESULT_STATE,
    RESULT_REASON,
    RESULT_DETAIL,
    RESULT_ATTEMPTS,
    RESULT_PAUSE
};

static void put_result(struct park *park, const struct flow_item *item, enum result_column column)
{
    struct pg_params *params = &park->params;

    switch (column) {
    case RESULT_ID:
        pg_params_item_int8(params, item->id);
        break;
    case RESULT_HOLDS:
        pg_params_item_bool(params, item->key && item->holds);
        break;
    case RESULT_STATE:
        pg_params_item_text(params, item->aside == FLOW_WAITING ? "waiting" : "parked");
        break;
    case RESULT_REASON:
        pg_params_item_text(params, item->reason);
        break;
    case RESULT_DETAIL:
        pg_params_item_text(params, item->detail);
        break;
    case RESULT_ATTEMPTS:
        pg_params_item_int4(params, (int32_t)item->attempts);
        break;
    case RESULT_PAUSE:
        pg_params_item_int8(params, item->pause_us);
        break;
    }
}

static void put_results(struct park *park)
{
    static const enum pg_type types[] = {
        [RESULT_ID] = PG_TYPE_INT8,     [RESULT_HOLDS] = PG_TYPE_BOOL,
        [RESULT_STATE] = PG_TYPE_TEXT,  [RESULT_REASON] = PG_TYPE_TEXT,
        [RESULT_DETAIL] = PG_TYPE_TEXT, [RESULT_ATTEMPTS] = PG_TYPE_INT4,
        [RESULT_PAUSE] = PG_TYPE_INT8,
    };

    for (enum result_column column = RESULT_ID; column <= RESULT_PAUSE; column++) {
        pg_params_array_begin(&park->params, types[column]);
        for (uint64_t number = flow_popped(park->flow); number < flow_pushed(park->flow); number++)
            if (is_refused(item_at(park, number)))
                put_result(park, item_at(park, number), column);
        pg_params_array_end(&park->params);
    }
}

static void put_confirmed(struct park *park)
{
    pg_params_array_begin(&park->params, PG_TYPE_INT8);
    for (uint64_t number = flow_popped(park->flow); number < flow_pushed(park->flow); number++)
        if (item_at(park, number)->state == FLOW_DONE)
            pg_params_item_int8(&park->params, item_at(park, number)->id);
    pg_params_array_end(&park->params);
}

static void put_keys(struct park *park)
{
    pg_params_array_begin(&park->params, PG_TYPE_INT8);
    for (uint64_t number = flow_popped(park->flow); number < flow_pushed(park->flow); number++)
        if (item_at(park, number)->key)
            pg_params_item_int8(&park->params, (int64_t)item_at(park, number)->key);
    pg_params_array_end(&park->params);
}

/* The rows are no longer, or no longer in the way: their keys may be free. */
static void release_keys(struct park *park)
{
    for (uint64_t number = flow_popped(park->flow); number < flow_pushed(park->flow); number++) {
        const struct flow_item *item = item_at(park, number);

        if (item->state == FLOW_DONE) {
            park->rows -= park->rows > 0;
            metric_add(park->options.stats->settled_aside, 1);
        }
        if (item->key && (item->state == FLOW_DONE || (is_refused(item) && !item->holds)))
            keys_release(park->options.held, item->key);
    }
}

static void on_results(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;

    (void)result;
    if (park->state != PARK_WRITING)
        return;
    if (failure && failure->retry != RETRY_RECONNECT && failure->retry != RETRY_NEVER) {
        /* Also what a retry will hardly mend: to begin again would send these messages again. */
        if (park->backoff.tries == 0)
            log_failure(LOG_LEVEL_WARN, "outbox.parked cannot be written; trying on", failure);
        loop_timer_arm_in(park->retry_timer, backoff_next_us(&park->backoff));
        return;
    }
    if (!park_answered(park, failure))
        return;
    backoff_reset(&park->backoff);
    release_keys(park);
    flow_clear(park->flow, chunk_release_row, NULL);
    keys_clear(park->batch_held);
    park->state = PARK_IDLE;
    park_ask_next(park);
}

void park_write_results(struct park *park)
{
    park->state = PARK_WRITING;
    park_begin_params(park);
    put_confirmed(park);
    park_send(park, &sql_relay_parked_confirm, NULL);
    park_begin_params(park);
    put_results(park);
    park_send(park, &sql_relay_parked_refuse, NULL);
    park_begin_params(park);
    put_keys(park);
    park_send(park, &sql_relay_parked_promote, NULL);
    park_sync(park, on_results);
}

void park_on_retry_timer(void *data)
{
    park_write_results(data);
}

void park_on_settled(void *data, const struct flow_item *item)
{
    (void)data;
    if (item->state == FLOW_ASIDE && item->aside == FLOW_PARKED)
        log_warn("a message is parked: a person must decide", LOG_INT("id", item->id),
                 LOG_STR("reason", item->reason), LOG_STR("detail", item->detail),
                 LOG_INT("attempts", item->attempts));
}
