#include "outbox/relay/settling/position.h"
#include "outbox/relay/rows/chunk.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/backoff.h"
#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SQLSTATE_NOT_THERE "22012" /* position_write.sql divides by the number of rows it moved */
#define PLACE_BYTES        32

enum write_column { WRITE_PLACE, WRITE_XACT };
enum find_column { FIND_PLACE, FIND_EPOCH };

struct position_writer {
    struct position_writer_options options;
    char place[PLACE_BYTES]; /* ctid of the row, as of the last write that committed */
    int64_t epoch;
    struct pg_params params;
    struct loop_timer *retry_timer;
    struct backoff backoff;
    bool started, busy;
    bool searched; /* the row was looked for by its key since the last write that worked */
    /* Of the write under way. */
    uint32_t rows, rows_aside;
    int64_t last_id, highest_id; /* rows of several windows do not come in the order of their ids */
    char moved_to[PLACE_BYTES];  /* where the row will be; nowhere if the group fails after that */
    int64_t sequence;
    uint64_t xact;
};

static void send_write(struct position_writer *writer);

static void fail(struct position_writer *writer, const struct error *failure)
{
    writer->started = false;
    writer->options.on_failure(writer->options.data, failure);
}

/* Where the connection is gone, we will be stopped. Anything else must not leave half a group
 * behind, nor a write that is busy for ever. */
static void not_sent(struct position_writer *writer, const struct error *error)
{
    if (error->retry != RETRY_RECONNECT && error->code != ERROR_STATE)
        fail(writer, error);
}

/* The row was not where it was left ------------------------------------------------------------ */

/* Somebody rewrote the table, or took the share over: the epoch tells. */
static void on_found(void *data, struct pg_result *result, const struct error *failure)
{
    struct position_writer *writer = data;
    struct error error = {0};

    if (!writer->started || (failure && failure->retry == RETRY_RECONNECT))
        return;
    if (failure) {
        fail(writer, failure);
        return;
    }
    if (pg_result_rows(result) == 1 && pg_int(result, 0, FIND_EPOCH) == writer->epoch &&
        !writer->searched) {
        (void)snprintf(writer->place, sizeof(writer->place), "%s", pg_text(result, 0, FIND_PLACE));
        writer->searched = true;
        send_write(writer);
        return;
    }
    error_set(&error, ERROR_REFUSED, RETRY_RECONNECT,
              "the position of share %d is not of epoch %lld any more: another relay took it over",
              writer->options.share, (long long)writer->epoch);
    fail(writer, &error);
}

static void find(struct position_writer *writer)
{
    struct error error = {0};

    pg_params_reset(&writer->params);
    pg_params_int4(&writer->params, writer->options.share);
    if (pg_session_send(writer->options.session, &sql_relay_position_read, &writer->params,
                        on_found, writer, &error) < 0 ||
        pg_session_sync(writer->options.session, NULL, NULL, &error) < 0)
        not_sent(writer, &error);
}

/* Answers -------------------------------------------------------------------------------------- */

static void on_moved(void *data, struct pg_result *result, const struct error *failure)
{
    struct position_writer *writer = data;

    if (failure)
        return; /* on_committed gets it too */
    (void)snprintf(writer->moved_to, sizeof(writer->moved_to), "%s",
                   pg_text(result, 0, WRITE_PLACE));
    writer->xact = strtoull(pg_text(result, 0, WRITE_XACT), NULL, 10);
}

static void on_aside(void *data, struct pg_result *result, const struct error *failure)
{
    struct position_writer *writer = data;

    if (!failure && pg_result_affected(result) != writer->rows_aside)
        log_error("rows that were to be set aside are not in the log: somebody deleted them",
                  LOG_INT("wanted", writer->rows_aside),
                  LOG_INT("found", pg_result_affected(result)));
}

static void committed(struct position_writer *writer)
{
    struct flow *flow = writer->options.flow;

    writer->busy = false;
    writer->searched = false;
    memcpy(writer->place, writer->moved_to, sizeof(writer->place));
    backoff_reset(&writer->backoff);
    source_own_transaction(writer->options.source, writer->sequence, writer->xact);
    windows_advance(writer->options.windows, flow_popped(flow) + writer->rows);
    flow_pop(flow, writer->rows, chunk_release_row, NULL);
    metric_add(writer->options.stats->positions, 1);
    metric_add(writer->options.stats->set_aside, writer->rows_aside);
    writer->options.on_written(writer->options.data, writer->rows_aside);
}

static void on_committed(void *data, struct pg_result *result, const struct error *failure)
{
    struct position_writer *writer = data;

    (void)result;
    if (!writer->started || !writer->busy)
        return;
    if (!failure) {
        committed(writer);
    } else if (failure->retry == RETRY_RECONNECT) {
        return; /* whether it committed is unknown: the row will tell, on the next connection */
    } else if (strcmp(failure->sqlstate, SQLSTATE_NOT_THERE) == 0) {
        find(writer);
    } else if (failure->retry != RETRY_NEVER) {
        /* Also what a retry will hardly mend: what is in memory is right, and to begin again from
         * the row that cannot be written would send the window once more each time. */
        if (writer->backoff.tries == 0)
            log_failure(LOG_LEVEL_WARN, "the position cannot be written; trying on", failure);
        loop_timer_arm_in(writer->retry_timer, backoff_next_us(&writer->backoff));
    } else {
        fail(writer, failure);
    }
}

/* Rows set aside ------------------------------------------------------------------------------- */

static const char *state_of(const struct flow_item *item)
{
    static const char *const names[] = {
        [FLOW_WAITING] = "waiting", [FLOW_PARKED] = "parked", [FLOW_BEHIND] = "behind"};

    return names[item->aside];
}

/* Calls `put` for each row of the write that was set aside. */
static void each_aside(struct position_writer *writer,
                       void (*put)(struct position_writer *writer, const struct flow_item *item))
{
    const struct flow *flow = writer->options.flow;

    for (uint64_t number = flow_popped(flow); number < flow_popped(flow) + writer->rows; number++) {
        const struct flow_item *item = flow_item(flow, flow_place(flow, number));

        if (item->state == FLOW_ASIDE)
            put(writer, item);
    }
}

static void put_id(struct position_writer *writer, const struct flow_item *item)
{
    pg_params_item_int8(&writer->params, item->id);
}

static void put_key(struct position_writer *writer, const struct flow_item *item)
{
    if (item->key)
        pg_params_item_int8(&writer->params, (int64_t)item->key);
    else
        pg_params_item_null(&writer->params);
}

/* A row behind another holds its place in the key's order, whatever its own type does on failure.
 */
static bool holds(const struct flow_item *item)
{
    return item->key && (item->holds || item->aside == FLOW_BEHIND);
}

static void put_holds(struct position_writer *writer, const struct flow_item *item)
{
    pg_params_item_bool(&writer->params, holds(item));
}

static void put_exchange(struct position_writer *writer, const struct flow_item *item)
{
    struct route route =
        routes_find(writer->options.routes, (struct row){item->chunk->rows, (int)item->row});

    pg_params_item_bytes(&writer->params, route.exchange.text, route.exchange.bytes);
}

static void put_routing_key(struct position_writer *writer, const struct flow_item *item)
{
    struct route route =
        routes_find(writer->options.routes, (struct row){item->chunk->rows, (int)item->row});

    pg_params_item_bytes(&writer->params, route.routing_key.text, route.routing_key.bytes);
}

static void put_state(struct position_writer *writer, const struct flow_item *item)
{
    pg_params_item_text(&writer->params, state_of(item));
}

static void put_reason(struct position_writer *writer, const struct flow_item *item)
{
    pg_params_item_text(&writer->params, item->reason ? item->reason : "behind");
}

static void put_detail(struct position_writer *writer, const struct flow_item *item)
{
    pg_params_item_text(&writer->params, item->detail);
}

static void put_attempts(struct position_writer *writer, const struct flow_item *item)
{
    pg_params_item_int4(&writer->params, (int32_t)item->attempts);
}

static void put_pause(struct position_writer *writer, const struct flow_item *item)
{
    pg_params_item_int8(&writer->params, item->pause_us);
}

/* Keys of rows that wait behind another: it may have gone since. */
static void put_behind(struct position_writer *writer, const struct flow_item *item)
{
    if (item->aside == FLOW_BEHIND)
        pg_params_item_int8(&writer->params, (int64_t)item->key);
}

static void put_array(struct position_writer *writer, enum pg_type type,
                      void (*put)(struct position_writer *writer, const struct flow_item *item))
{
    pg_params_array_begin(&writer->params, type);
    each_aside(writer, put);
    pg_params_array_end(&writer->params);
}

static int send_aside(struct position_writer *writer, struct error *error)
{
    struct pg_session *session = writer->options.session;
    int failed;

    pg_params_reset(&writer->params);
    pg_params_int4(&writer->params, writer->options.share);
    put_array(writer, PG_TYPE_INT8, put_id);
    put_array(writer, PG_TYPE_INT8, put_key);
    put_array(writer, PG_TYPE_BOOL, put_holds);
    put_array(writer, PG_TYPE_TEXT, put_exchange);
    put_array(writer, PG_TYPE_TEXT, put_routing_key);
    put_array(writer, PG_TYPE_TEXT, put_state);
    put_array(writer, PG_TYPE_TEXT, put_reason);
    put_array(writer, PG_TYPE_TEXT, put_detail);
    put_array(writer, PG_TYPE_INT4, put_attempts);
    put_array(writer, PG_TYPE_INT8, put_pause);
    failed = pg_session_send(session, &sql_relay_park, &writer->params, on_aside, writer, error);
    if (failed < 0)
        return failed;
    pg_params_reset(&writer->params);
    pg_params_int4(&writer->params, writer->options.share);
    put_array(writer, PG_TYPE_INT8, put_behind);
    return pg_session_send(session, &sql_relay_parked_promote, &writer->params, NULL, NULL, error);
}

/* Writing -------------------------------------------------------------------------------------- */

static int send_position(struct position_writer *writer, struct error *error)
{
    const struct flow *flow = writer->options.flow;
    struct position position;

    windows_position(writer->options.windows, flow_popped(flow) + writer->rows, writer->last_id,
                     &position);
    pg_params_reset(&writer->params);
    pg_params_untyped(&writer->params, writer->place);
    pg_params_int4(&writer->params, writer->options.share);
    pg_params_int8(&writer->params, writer->epoch);
    pg_params_untyped(&writer->params, position.t1->text);
    pg_params_untyped(&writer->params, position.t2 ? position.t2->text : NULL);
    pg_params_int8(&writer->params, position.last_id);
    pg_params_int8(&writer->params, writer->highest_id);
    pg_params_int8(&writer->params, position.t1->bound);
    return pg_session_send(writer->options.session, &sql_relay_position_write, &writer->params,
                           on_moved, writer, error);
}

static void send_write(struct position_writer *writer)
{
    struct error error = {0};
    int failed;

    writer->sequence = source_sequence(writer->options.source);
    failed = send_position(writer, &error);
    if (failed >= 0 && writer->rows_aside > 0)
        failed = send_aside(writer, &error);
    if (failed >= 0)
        failed = pg_session_sync(writer->options.session, on_committed, writer, &error);
    FAILPOINT("position-transaction");
    if (failed < 0)
        not_sent(writer, &error);
}

static void on_retry_timer(void *data)
{
    send_write(data);
}

/* How many settled rows one transaction takes, and what it does with them. */
static void gather(struct position_writer *writer)
{
    const struct flow *flow = writer->options.flow;
    uint32_t settled = flow_settled(flow);

    writer->rows = writer->rows_aside = 0;
    writer->last_id = writer->highest_id = 0;
    while (writer->rows < settled) {
        const struct flow_item *item =
            flow_item(flow, flow_place(flow, flow_popped(flow) + writer->rows));

        if (item->state == FLOW_ASIDE) {
            if (writer->rows_aside == ROWS_ASIDE_MAX)
                break;
            writer->rows_aside++;
        }
        writer->last_id = item->id;
        if (item->id > writer->highest_id)
            writer->highest_id = item->id;
        writer->rows++;
    }
}

void position_writer_write(struct position_writer *writer)
{
    assert(writer->started && !writer->busy);
    gather(writer);
    writer->busy = true;
    send_write(writer);
}

/* Life ----------------------------------------------------------------------------------------- */

void position_writer_start(struct position_writer *writer, const char *place, int64_t epoch)
{
    (void)snprintf(writer->place, sizeof(writer->place), "%s", place);
    writer->epoch = epoch;
    writer->started = true;
    writer->busy = writer->searched = false;
    backoff_reset(&writer->backoff);
}

void position_writer_stop(struct position_writer *writer)
{
    writer->started = writer->busy = false;
    loop_timer_disarm(writer->retry_timer);
}

bool position_writer_is_busy(const struct position_writer *writer)
{
    return writer->busy;
}

int position_writer_create(struct position_writer **ret_writer,
                           const struct position_writer_options *options, struct error *error)
{
    struct position_writer *writer = calloc(1, sizeof(*writer));
    int failed;

    if (!writer)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a writer of positions");
    writer->options = *options;
    pg_params_init(&writer->params);
    backoff_init(&writer->backoff, options->retry_base_us, options->retry_cap_us,
                 (uint64_t)clock_wall_us(loop_clock(options->loop)));
    failed = loop_timer_create(options->loop, on_retry_timer, writer, &writer->retry_timer, error);
    if (failed < 0) {
        position_writer_destroy(writer);
        return failed;
    }
    *ret_writer = writer;
    return 0;
}

void position_writer_destroy(struct position_writer *writer)
{
    if (!writer)
        return;
    loop_timer_destroy(writer->retry_timer);
    pg_params_free(&writer->params);
    free(writer);
}
