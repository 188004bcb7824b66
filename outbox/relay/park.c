#include "outbox/relay/park.h"
#include "outbox/relay/chunk.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/backoff.h"
#include "outbox/runtime/log.h"

#include <assert.h>
#include <stdlib.h>

#define LANE_IDLE_US (60 * (int64_t)US_PER_S) /* then its connection is closed */
#define NEVER        INT64_MAX

enum held_column { HELD_KEY_HASH, HELD_ROWS };
enum count_column { COUNT_WAITING, COUNT_PARKED, COUNT_BEHIND };
enum intents_column { INTENTS_KEY_HASH, INTENTS_ANSWERED, INTENTS_REQUEUED, INTENTS_DISCARDED };

enum park_state {
    PARK_OFF,
    PARK_STARTING,
    PARK_IDLE,
    PARK_LOADING,  /* asked for a batch */
    PARK_TRYING,   /* the batch is in the flow */
    PARK_WRITING,  /* its results are on their way */
    PARK_APPLYING, /* intents are */
};

struct park {
    struct park_options options;
    enum park_state state;
    struct flow *flow;
    struct keys *batch_held; /* keys whose first row was refused again, in this batch */
    struct lane *lane;       /* NULL: not needed now */
    struct pg_params params;
    size_t in_memory;
    bool finishing;
    bool intents_wanted;
    int64_t due_us;  /* when the first waiting row is due, by our clock; NEVER: none */
    int64_t used_us; /* when the lane had something to do */
    uint64_t rows;
    struct loop_timer *due_timer, *retry_timer;
    struct backoff backoff;
};

static int64_t now_us(const struct park *park)
{
    return loop_now_us(park->options.loop);
}

/* Failures and sending ------------------------------------------------------------------------- */

static void fail(struct park *park, const struct error *failure)
{
    if (park->state == PARK_OFF || failure->retry == RETRY_RECONNECT)
        return;
    park->options.on_failure(park->options.data, failure);
}

/* True when the answer is of use. */
static bool answered(struct park *park, const struct error *failure)
{
    if (failure)
        fail(park, failure);
    return !failure && park->state != PARK_OFF;
}

static void send(struct park *park, const struct pg_statement *statement, pg_callback *callback)
{
    struct error error = {0};

    if (pg_session_send(park->options.session, statement, &park->params, callback, park, &error) <
            0 &&
        error.code != ERROR_STATE)
        fail(park, &error);
}

static void sync(struct park *park, pg_callback *callback)
{
    struct error error = {0};

    if (pg_session_sync(park->options.session, callback, park, &error) < 0 &&
        error.code != ERROR_STATE)
        fail(park, &error);
}

static void begin_params(struct park *park)
{
    pg_params_reset(&park->params);
    pg_params_int4(&park->params, park->options.share);
}

/* When the next row is due --------------------------------------------------------------------- */

static void set_due(struct park *park, int64_t due_us)
{
    park->due_us = due_us;
    if (due_us == NEVER)
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

    if (!answered(park, failure))
        return;
    if (pg_result_rows(result) == 0) {
        set_due(park, NEVER);
        return;
    }
    wait_us = pg_int(result, 0, 0);
    set_due(park, now_us(park) + (wait_us > 0 ? wait_us : 0));
}

static void ask_next(struct park *park)
{
    begin_params(park);
    send(park, &sql_relay_parked_next, on_next);
    sync(park, NULL);
}

void park_added(struct park *park, uint32_t rows)
{
    park->rows += rows;
    if (rows > 0)
        ask_next(park); /* a row behind another that is gone by now was made due at once: the table
                           knows */
}

/* Counting ------------------------------------------------------------------------------------- */

static void on_counted(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;
    struct stats *stats = park->options.stats;

    if (!answered(park, failure))
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
    begin_params(park);
    send(park, &sql_relay_parked_count, on_counted);
    sync(park, NULL);
}

/* Starting ------------------------------------------------------------------------------------- */

static void on_held(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;

    if (!answered(park, failure))
        return;
    keys_clear(park->options.held);
    for (int i = 0; i < pg_result_rows(result); i++) {
        struct key_state *key =
            keys_get(park->options.held, (uint64_t)pg_int(result, i, HELD_KEY_HASH));
        struct error error = {0};

        if (!key) {
            error_set(&error, ERROR_LIMIT, RETRY_NEVER,
                      "outbox.parked holds more keys than parked-rows (the setting) has room for");
            fail(park, &error);
            return;
        }
        key->held = (uint64_t)pg_int(result, i, HELD_ROWS);
    }
}

static void on_started(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;

    (void)result;
    if (failure || park->state != PARK_STARTING)
        return; /* the statement that failed has said so */
    park->state = PARK_IDLE;
    park->intents_wanted = true;
    park->options.on_loaded(park->options.data);
}

static void on_recovered(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    (void)answered(data, failure);
}

void park_start(struct park *park)
{
    assert(park->state == PARK_OFF);
    park->state = PARK_STARTING;
    backoff_reset(&park->backoff);
    begin_params(park);
    send(park, &sql_relay_parked_recover, on_recovered);
    send(park, &sql_relay_held, on_held);
    send(park, &sql_relay_parked_count, on_counted);
    send(park, &sql_relay_parked_next, on_next);
    sync(park, on_started);
}

void park_stop(struct park *park)
{
    park->state = PARK_OFF;
    flow_clear(park->flow, chunk_release_row, NULL);
    keys_clear(park->batch_held);
    if (park->lane)
        lane_forget(park->lane);
    loop_timer_disarm(park->retry_timer);
    set_due(park, NEVER);
}

void park_finish(struct park *park)
{
    park->finishing = true;
}

/* A batch -------------------------------------------------------------------------------------- */

static void push(struct park *park, struct chunk *chunk, int i)
{
    struct row row = {chunk->rows, i};
    struct route route = routes_find(park->options.routes, row);
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

static void on_batch(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;
    int rows;
    struct chunk *chunk;

    if (!answered(park, failure))
        return;
    rows = pg_result_rows(result);
    chunk = rows > 0 ? chunk_create(result, &park->in_memory) : NULL;
    if (!chunk) {
        park->state = PARK_IDLE;
        ask_next(park);
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
    if (lane_create(&park->lane, &options, &error) < 0) {
        fail(park, &error);
        return false;
    }
    lane_start(park->lane);
    return true;
}

/* Nothing is loaded before the lane can send it: rows in memory keep intents waiting. */
static bool load(struct park *park)
{
    park->used_us = now_us(park);
    if (!park->lane && !open_lane(park))
        return false;
    if (!lane_is_up(park->lane) || lane_is_blocked(park->lane))
        return false;
    park->state = PARK_LOADING;
    set_due(park, NEVER);
    begin_params(park);
    pg_params_int4(&park->params, (int32_t)park->options.rows_max);
    pg_params_int4(&park->params, (int32_t)park->options.rows_max);
    pg_params_int8(&park->params, park->options.bytes_max);
    send(park, &sql_relay_parked_due, on_batch);
    sync(park, NULL);
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
    if (failure && (failure->retry == RETRY_NOW || failure->retry == RETRY_LATER)) {
        if (park->backoff.tries == 0)
            log_failure(LOG_LEVEL_WARN, "outbox.parked cannot be written; trying on", failure);
        loop_timer_arm_in(park->retry_timer, backoff_next_us(&park->backoff));
        return;
    }
    if (!answered(park, failure))
        return;
    backoff_reset(&park->backoff);
    release_keys(park);
    flow_clear(park->flow, chunk_release_row, NULL);
    keys_clear(park->batch_held);
    park->state = PARK_IDLE;
    ask_next(park);
}

static void write_results(struct park *park)
{
    park->state = PARK_WRITING;
    begin_params(park);
    put_confirmed(park);
    send(park, &sql_relay_parked_confirm, NULL);
    begin_params(park);
    put_results(park);
    send(park, &sql_relay_parked_refuse, NULL);
    begin_params(park);
    put_keys(park);
    send(park, &sql_relay_parked_promote, NULL);
    sync(park, on_results);
}

static void on_retry_timer(void *data)
{
    write_results(data);
}

static void on_settled(void *data, const struct flow_item *item)
{
    (void)data;
    if (item->state == FLOW_ASIDE && item->aside == FLOW_PARKED)
        log_warn("a message is parked: a person must decide", LOG_INT("id", item->id),
                 LOG_STR("reason", item->reason), LOG_STR("detail", item->detail),
                 LOG_INT("attempts", item->attempts));
}

/* Intents -------------------------------------------------------------------------------------- */

static void promote(struct park *park, struct pg_result *intents)
{
    begin_params(park);
    pg_params_array_begin(&park->params, PG_TYPE_INT8);
    for (int i = 0; i < pg_result_rows(intents); i++)
        if (!pg_is_null(intents, i, INTENTS_KEY_HASH))
            pg_params_item_int8(&park->params, pg_int(intents, i, INTENTS_KEY_HASH));
    pg_params_array_end(&park->params);
    send(park, &sql_relay_parked_promote, on_recovered);
    sync(park, NULL);
}

static void on_intents(void *data, struct pg_result *result, const struct error *failure)
{
    struct park *park = data;

    if (!answered(park, failure))
        return;
    park->state = PARK_IDLE;
    park->intents_wanted = pg_int(result, 0, INTENTS_ANSWERED) > 0; /* there may be more */
    if (!park->intents_wanted)
        return;
    log_info("operators' intents applied", LOG_INT("requeued", pg_int(result, 0, INTENTS_REQUEUED)),
             LOG_INT("discarded", pg_int(result, 0, INTENTS_DISCARDED)));
    for (int i = 0; i < pg_result_rows(result); i++)
        if (!pg_is_null(result, i, INTENTS_KEY_HASH))
            keys_release(park->options.held, (uint64_t)pg_int(result, i, INTENTS_KEY_HASH));
    promote(park, result);
    ask_next(park);
    park_count(park);
}

static void apply_intents(struct park *park)
{
    park->intents_wanted = false;
    park->state = PARK_APPLYING;
    begin_params(park);
    send(park, &sql_relay_intents, on_intents);
    sync(park, NULL);
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
        return park->due_us <= now_us(park) && load(park);
    case PARK_TRYING:
        did = lane_publish(park->lane, park->options.rows_max);
        park->used_us = now_us(park);
        if (flow_settled(park->flow) < flow_rows(park->flow))
            return did;
        write_results(park);
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
    if (now_us(park) - park->used_us > LANE_IDLE_US && flow_rows(park->flow) == 0) {
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
        failed = loop_timer_create(loop, on_retry_timer, park, &park->retry_timer, error);
    return failed;
}

int park_create(struct park **ret_park, const struct park_options *options, struct error *error)
{
    struct park *park = calloc(1, sizeof(*park));
    int failed;

    if (!park)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "what is set aside");
    park->options = *options;
    park->options.lane.on_settled = on_settled;
    park->options.lane.data = park;
    park->options.lane.tries_closed = true;
    park->due_us = NEVER;
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
    if (park->flow)
        flow_clear(park->flow, chunk_release_row, NULL);
    flow_destroy(park->flow);
    keys_destroy(park->batch_held);
    loop_timer_destroy(park->due_timer);
    loop_timer_destroy(park->retry_timer);
    pg_params_free(&park->params);
    free(park);
}
