#include "outbox/relay/source.h"
#include "outbox/relay/chunk.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/clock.h"
#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A chunk is this part of what may be read ahead, so that the next one is asked for while there is
 * still much to publish. */
#define CHUNKS_AHEAD 4

#define FLUSH_LOOK_US       US_PER_MS /* between looks whether the log has reached the disk */
#define FLUSH_NUDGE_US      (50 * US_PER_MS)  /* then a commit of ours makes it */
#define STANDBY_LOOK_US     (100 * US_PER_MS) /* between looks when a standby is slow or away */
#define LATE_TEXT_BYTES_MAX (64u << 20)

enum poll_column { POLL_SNAPSHOT, POLL_INSERT_LSN, POLL_FLUSH_LSN, POLL_LAST_ID };
enum replicated_column { REPLICATED_FLUSH_LSN, REPLICATED_MISSING };

enum source_state {
    SOURCE_OFF,
    SOURCE_PRIMING, /* asks where the sequence and the log are, for a window that a predecessor
                       opened */
    SOURCE_IDLE,    /* between windows */
    SOURCE_POLLING, /* asked for a snapshot */
    SOURCE_READING, /* a window is open */
};

struct stream {
    struct source *source;
    struct chunk *chunk; /* NULL: none is being taken apart */
    int next;            /* row of it */
    int64_t last_id;     /* read; the next chunk begins after it */
    int32_t rows_asked;
    int64_t bytes_asked;
    bool busy;      /* a statement is on its way */
    bool exhausted; /* nothing is left after the chunk */
};

struct source {
    struct source_options options;
    enum source_state state;
    bool finishing;
    struct stream fresh, late;
    struct buffer late_xids; /* of the open window, as text */
    uint64_t window_start;   /* number of its first row */
    int64_t sequence;        /* last id given out at the last poll */
    size_t in_memory;        /* bytes of chunks */
    struct pg_params params;
    /* The bound's candidate: see source.h. */
    int64_t own_sequence;
    uint64_t own_xact;
    /* Waiting for the log to reach the disk. */
    struct loop_timer *flush_timer;
    bool flush_busy;
    int64_t flush_since_us; /* 0: nothing waits */
    bool nudged;            /* once is enough for standbys: they get what is in the log */
    struct standbys_wait standbys_wait;
};

/* Failures ------------------------------------------------------------------------------------- */

/* True when the answer is to be used. After source_stop, answers of before are of no use, and fail.
 */
static bool answered(struct source *source, const struct error *failure)
{
    if (!failure)
        return source->state != SOURCE_OFF;
    if (source->state != SOURCE_OFF && failure->retry != RETRY_RECONNECT)
        source->options.on_failure(source->options.data, failure);
    return false;
}

static bool send(struct source *source, const struct pg_statement *statement,
                 const struct pg_params *params, pg_callback *callback, void *data)
{
    struct error error = {0};

    if (pg_session_send(source->options.session, statement, params, callback, data, &error) < 0 ||
        pg_session_sync(source->options.session, NULL, NULL, &error) < 0) {
        if (error.retry != RETRY_RECONNECT && error.code != ERROR_STATE)
            source->options.on_failure(source->options.data, &error);
        return false;
    }
    return true;
}

/* The log of commits must be on disk ----------------------------------------------------------- */

static void permit(struct source *source)
{
    flow_permit(source->options.flow, windows_permitted(source->options.windows));
    if (!windows_wait_for_flush(source->options.windows)) {
        source->flush_since_us = 0;
        source->nudged = false;
        standbys_end_wait(&source->standbys_wait, source->options.stats);
    }
}

static bool needs_standbys(const struct source *source)
{
    return source->options.standbys->count > 0;
}

static void on_replicated(void *data, struct pg_result *result, const struct error *failure)
{
    struct source *source = data;
    int64_t waited_us;

    source->flush_busy = false;
    if (!answered(source, failure))
        return;
    windows_flushed(source->options.windows, pg_int(result, 0, REPLICATED_FLUSH_LSN));
    permit(source);
    if (!windows_wait_for_flush(source->options.windows))
        return;
    waited_us = standbys_still_wait(&source->standbys_wait, loop_now_us(source->options.loop),
                                    pg_text(result, 0, REPLICATED_MISSING), source->options.stats);
    loop_timer_arm_in(source->flush_timer,
                      waited_us < STANDBYS_PATIENCE_US ? FLUSH_LOOK_US : STANDBY_LOOK_US);
}

static void look_at_standbys(struct source *source)
{
    const struct standbys *standbys = source->options.standbys;

    if (source->flush_busy)
        return;
    pg_params_reset(&source->params);
    pg_params_array_begin(&source->params, PG_TYPE_TEXT);
    for (int i = 0; i < standbys->count; i++)
        pg_params_item_text(&source->params, standbys->names[i]);
    pg_params_array_end(&source->params);
    source->flush_busy =
        send(source, &sql_relay_replicated, &source->params, on_replicated, source);
}

static void on_flushed(void *data, struct pg_result *result, const struct error *failure)
{
    struct source *source = data;

    source->flush_busy = false;
    if (!answered(source, failure))
        return;
    windows_flushed(source->options.windows, pg_int(result, 0, 0));
    permit(source);
    if (source->flush_since_us)
        loop_timer_arm_in(source->flush_timer, FLUSH_LOOK_US);
}

/* The record's own place says nothing yet: the look that follows does. */
static void on_nudged(void *data, struct pg_result *result, const struct error *failure)
{
    struct source *source = data;

    (void)result;
    (void)answered(source, failure);
}

static void look_at_flush(struct source *source)
{
    int64_t now = loop_now_us(source->options.loop);

    if (source->flush_busy || source->state == SOURCE_OFF)
        return;
    if (!source->flush_since_us) {
        source->flush_since_us = now;
        metric_add(source->options.stats->flush_waits, 1);
    }
    if (now - source->flush_since_us > FLUSH_NUDGE_US &&
        !(needs_standbys(source) && source->nudged)) {
        metric_add(source->options.stats->flush_nudges, 1);
        source->flush_since_us = now;
        source->nudged = true;
        if (!send(source, &sql_relay_nudge, NULL, on_nudged, source))
            return;
    }
    if (needs_standbys(source))
        look_at_standbys(source);
    else
        source->flush_busy = send(source, &sql_relay_flushed, NULL, on_flushed, source);
}

static void on_flush_timer(void *data)
{
    look_at_flush(data);
}

/* Windows -------------------------------------------------------------------------------------- */

static void begin_stream(struct stream *stream, int64_t after_id, bool exhausted)
{
    assert(!stream->chunk && !stream->busy);
    stream->last_id = after_id;
    stream->exhausted = exhausted;
}

/* A sequence below the bound means that somebody set it back: ids say nothing about time then. */
static void check_bound(struct source *source)
{
    struct snapshot *t1 = windows_t1(source->options.windows);

    if (source->sequence >= t1->bound)
        return;
    log_warn("the sequence of message ids is behind what it has given out: reading without a bound",
             LOG_INT("sequence", source->sequence), LOG_INT("bound", t1->bound));
    metric_add(source->options.stats->bounds_dropped, 1);
    windows_drop_bounds(source->options.windows);
    source->own_sequence = 0;
    source->own_xact = 0;
}

/* The window is open in `windows`: its streams begin. */
static void begin_window(struct source *source)
{
    struct windows *windows = source->options.windows;
    struct snapshot *t1 = windows_t1(windows);
    int64_t last_id = windows_last_read_id(windows);
    int64_t after_id = last_id > t1->bound ? last_id : t1->bound;
    int late;

    buffer_clear(&source->late_xids);
    late = snapshot_ended_between(t1, windows_t2(windows), &source->late_xids);
    begin_stream(&source->fresh, after_id, after_id >= source->sequence);
    begin_stream(&source->late, last_id, late == 0);
    source->window_start = flow_pushed(source->options.flow);
    source->state = SOURCE_READING;
}

static void on_primed(void *data, struct pg_result *result, const struct error *failure)
{
    struct source *source = data;

    if (!answered(source, failure))
        return;
    source->sequence = pg_int(result, 0, POLL_LAST_ID);
    check_bound(source);
    if (windows_t2(source->options.windows))
        begin_window(source);
    else
        source->state = SOURCE_IDLE;
}

static void on_polled(void *data, struct pg_result *result, const struct error *failure)
{
    struct source *source = data;
    struct snapshot *t2, *t1;
    struct error error = {0};

    if (!answered(source, failure))
        return;
    if (snapshot_parse(&t2, pg_text(result, 0, POLL_SNAPSHOT), &error) < 0) {
        source->options.on_failure(source->options.data, &error);
        return;
    }
    source->sequence = pg_int(result, 0, POLL_LAST_ID);
    check_bound(source);
    t1 = windows_t1(source->options.windows);
    t2->bound = source->own_xact && source->own_xact < t2->xmax && source->own_sequence > t1->bound
                    ? source->own_sequence
                    : t1->bound;
    windows_open(source->options.windows, t2, pg_int(result, 0, POLL_INSERT_LSN));
    if (needs_standbys(source))
        look_at_standbys(source); /* empty windows wait for them too */
    else
        windows_flushed(source->options.windows, pg_int(result, 0, POLL_FLUSH_LSN));
    begin_window(source);
}

bool source_can_poll(const struct source *source)
{
    return source->state == SOURCE_IDLE && !source->finishing &&
           windows_count(source->options.windows) < WINDOWS_MAX - 1;
}

void source_poll(struct source *source)
{
    assert(source_can_poll(source));
    if (send(source, &sql_relay_poll, NULL, on_polled, source)) {
        source->state = SOURCE_POLLING;
        metric_add(source->options.stats->polls, 1);
    }
}

/* Streams -------------------------------------------------------------------------------------- */

static void on_chunk(void *data, struct pg_result *result, const struct error *failure)
{
    struct stream *stream = data;
    struct source *source = stream->source;
    struct chunk *chunk;
    int rows;

    stream->busy = false;
    if (!answered(source, failure))
        return;
    FAILPOINT("after-read");
    rows = pg_result_rows(result);
    if (rows == 0) {
        stream->exhausted = true;
        return;
    }
    chunk = chunk_create(result, &source->in_memory);
    if (!chunk) {
        struct error error = {0};

        error_set(&error, ERROR_NO_MEMORY, RETRY_LATER, "a chunk of %d rows", rows);
        source->options.on_failure(source->options.data, &error);
        return;
    }
    metric_add(source->options.stats->read, rows);
    stream->exhausted = rows < stream->rows_asked && chunk->row_bytes < stream->bytes_asked;
    stream->chunk = chunk;
    stream->next = 0;
    stream->last_id = pg_int(chunk->rows, rows - 1, ROW_ID);
}

static int rows_left(const struct stream *stream)
{
    return stream->chunk ? pg_result_rows(stream->chunk->rows) - stream->next : 0;
}

/* How much the next chunk of one stream may bring; false: too little to ask now. */
static bool has_room(const struct source *source, int streams, int32_t *ret_rows,
                     int64_t *ret_bytes)
{
    uint32_t left = (uint32_t)rows_left(&source->fresh) + (uint32_t)rows_left(&source->late);
    uint32_t room = flow_room(source->options.flow), want = source->options.rows_max / CHUNKS_AHEAD;
    int64_t bytes_want = source->options.bytes_max / CHUNKS_AHEAD;
    int64_t bytes_room = source->options.bytes_max - (int64_t)source->in_memory;

    room = room > left ? room - left : 0;
    /* With an empty flow nothing else gives bytes back: one stream's large row must not keep the
     * other from being read. */
    if (room < want || (bytes_room < bytes_want && flow_rows(source->options.flow) > 0))
        return false;
    *ret_rows = (int32_t)want / streams;
    *ret_bytes = bytes_want / streams;
    return true;
}

static void ask_fresh(struct source *source)
{
    const struct snapshot *t1 = windows_t1(source->options.windows);
    struct stream *stream = &source->fresh;
    char xmax[24];

    (void)snprintf(xmax, sizeof(xmax), "%" PRIu64, t1->xmax);
    pg_params_reset(&source->params);
    pg_params_int8(&source->params, stream->last_id);
    pg_params_int8(&source->params, source->sequence);
    pg_params_untyped(&source->params, xmax);
    pg_params_untyped(&source->params, windows_t2(source->options.windows)->text);
    pg_params_int4(&source->params, stream->rows_asked);
    pg_params_int8(&source->params, stream->bytes_asked);
    stream->busy = send(source, &sql_relay_read_fresh, &source->params, on_chunk, stream);
}

static void ask_late(struct source *source)
{
    struct stream *stream = &source->late;

    pg_params_reset(&source->params);
    pg_params_untyped(&source->params, buffer_text(&source->late_xids));
    pg_params_int8(&source->params, stream->last_id);
    pg_params_int4(&source->params, stream->rows_asked);
    pg_params_int8(&source->params, stream->bytes_asked);
    stream->busy = send(source, &sql_relay_read_late, &source->params, on_chunk, stream);
}

static bool wants_chunk(const struct stream *stream)
{
    return !stream->exhausted && !stream->busy && !stream->chunk;
}

static bool ask(struct source *source)
{
    bool fresh = wants_chunk(&source->fresh), late = wants_chunk(&source->late);
    int32_t rows;
    int64_t bytes;

    if (source->finishing || !(fresh || late) ||
        !has_room(source, source->late.exhausted ? 1 : 2, &rows, &bytes))
        return false;
    if (fresh) {
        source->fresh.rows_asked = rows;
        source->fresh.bytes_asked = bytes;
        ask_fresh(source);
    }
    if (late) {
        source->late.rows_asked = rows;
        source->late.bytes_asked = bytes;
        ask_late(source);
    }
    return true;
}

/* Into the flow -------------------------------------------------------------------------------- */

static void push(struct source *source, struct stream *stream)
{
    struct row row = {stream->chunk->rows, stream->next};
    struct broker_text key = row_text(row, ROW_KEY);
    struct route route = routes_policy(source->options.routes, row);
    struct flow_item item = {
        .id = pg_int(row.rows, row.row, ROW_ID),
        .key = key.text ? key_hash(key.text, key.bytes) : 0,
        .chunk = chunk_hold(stream->chunk),
        .row = (uint32_t)stream->next,
        .pipelined = route.pipelined,
        .holds = key.text && route.holds,
    };

    flow_push(source->options.flow, &item);
    windows_row(source->options.windows, item.id);
    if (++stream->next == pg_result_rows(stream->chunk->rows)) {
        chunk_release(stream->chunk);
        stream->chunk = NULL;
    }
}

/* The stream whose next row is the window's next; NULL: a chunk is missing, or there is none. */
static struct stream *next_stream(struct source *source)
{
    struct stream *fresh = &source->fresh, *late = &source->late;

    if ((!fresh->chunk && !fresh->exhausted) || (!late->chunk && !late->exhausted))
        return NULL;
    if (!fresh->chunk || !late->chunk)
        return fresh->chunk ? fresh : late->chunk ? late : NULL;
    return pg_int(fresh->chunk->rows, fresh->next, ROW_ID) <
                   pg_int(late->chunk->rows, late->next, ROW_ID)
               ? fresh
               : late;
}

static bool is_done(const struct stream *stream)
{
    return stream->exhausted && !stream->chunk;
}

static bool take_rows(struct source *source)
{
    bool took = false;
    struct stream *stream;

    while (flow_room(source->options.flow) > 0 && (stream = next_stream(source))) {
        push(source, stream);
        took = true;
    }
    return took;
}

static void end_window(struct source *source)
{
    uint64_t rows = flow_pushed(source->options.flow) - source->window_start;

    windows_close(source->options.windows);
    source->state = SOURCE_IDLE;
    source->options.on_window(source->options.data, rows);
}

bool source_turn(struct source *source)
{
    bool did = false;

    if (source->state == SOURCE_READING) {
        did = take_rows(source);
        if (is_done(&source->fresh) && is_done(&source->late)) {
            end_window(source);
            did = true;
        } else {
            did |= ask(source);
        }
    }
    if (source->state != SOURCE_OFF && source->state != SOURCE_PRIMING) {
        permit(source);
        if (windows_wait_for_flush(source->options.windows) && !source->flush_since_us)
            look_at_flush(source);
    }
    return did;
}

/* Life ----------------------------------------------------------------------------------------- */

int64_t source_sequence(const struct source *source)
{
    return source->sequence;
}

void source_own_transaction(struct source *source, int64_t sequence, uint64_t xact)
{
    source->own_sequence = sequence;
    source->own_xact = xact;
}

void source_start(struct source *source)
{
    assert(source->state == SOURCE_OFF && flow_rows(source->options.flow) == 0);
    if (send(source, &sql_relay_poll, NULL, on_primed, source))
        source->state = SOURCE_PRIMING;
}

void source_stop(struct source *source)
{
    source->state = SOURCE_OFF;
    chunk_release(source->fresh.chunk);
    chunk_release(source->late.chunk);
    source->fresh = (struct stream){.source = source, .busy = source->fresh.busy};
    source->late = (struct stream){.source = source, .busy = source->late.busy};
    source->own_sequence = 0;
    source->own_xact = 0;
    source->flush_since_us = 0;
    source->nudged = false;
    standbys_end_wait(&source->standbys_wait, source->options.stats);
    loop_timer_disarm(source->flush_timer);
}

void source_finish(struct source *source)
{
    source->finishing = true;
}

int source_create(struct source **ret_source, const struct source_options *options,
                  struct error *error)
{
    struct source *source = calloc(1, sizeof(*source));

    if (!source)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a source");
    source->options = *options;
    source->fresh.source = source->late.source = source;
    buffer_init(&source->late_xids, LATE_TEXT_BYTES_MAX);
    pg_params_init(&source->params);
    if (loop_timer_create(options->loop, on_flush_timer, source, &source->flush_timer, error) < 0) {
        source_destroy(source);
        return ERROR_SYSTEM;
    }
    *ret_source = source;
    return 0;
}

void source_destroy(struct source *source)
{
    if (!source)
        return;
    chunk_release(source->fresh.chunk);
    chunk_release(source->late.chunk);
    assert(source->in_memory == 0);
    loop_timer_destroy(source->flush_timer);
    buffer_free(&source->late_xids);
    pg_params_free(&source->params);
    free(source);
}
