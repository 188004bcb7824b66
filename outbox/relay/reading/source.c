/* source.c: windows and streams; source_flush.c: waiting until their rows may be published. */
#include "outbox/relay/reading/source_private.h"
#include "outbox/relay/rows/chunk.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/clock.h"
#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A chunk is this part of what may be read ahead, so that the next one is asked for in time. */
#define CHUNKS_AHEAD 4

#define LATE_TEXT_BYTES_MAX (64u << 20)
#define SPAN_IDS            200000 /* that one statement looks at, of several shares: 0.3 s of hashing */

enum begin_column { BEGIN_LAST_ID, BEGIN_HIGHEST_ID, BEGIN_CACHE };
enum poll_column { POLL_SNAPSHOT, POLL_INSERT_LSN, POLL_FLUSH_LSN, POLL_LAST_ID };

bool source_is_through(const struct source *source)
{
    return source->barred && source->state == SOURCE_IDLE;
}

/* Failures ------------------------------------------------------------------------------------- */

/* True when the answer is to be used: none is of use after source_stop. */
bool source_answered(struct source *source, const struct error *failure)
{
    if (!failure)
        return source->state != SOURCE_OFF;
    if (source->state != SOURCE_OFF && failure->retry != RETRY_RECONNECT)
        source->options.on_failure(source->options.data, failure);
    return false;
}

bool source_send(struct source *source, const struct pg_statement *statement,
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

/* Windows -------------------------------------------------------------------------------------- */

static void begin_stream(struct stream *stream, int64_t after_id, int64_t end_id, bool exhausted)
{
    assert(!stream->chunk && !stream->busy);
    stream->last_id = after_id;
    stream->end_id = end_id;
    stream->exhausted = exhausted;
}

/* A sequence that is behind an id means that somebody set it back, or restored it without the log:
 * ids say nothing about time then, nor does the sequence about where the ids of a window end. Until
 * the next connection each is read to its end, whatever its ids. */
static void learn_sequence(struct source *source, int64_t sequence, int64_t given_out)
{
    int64_t bound = windows_t1(source->options.windows)->bound;

    if (given_out < source->sequence)
        given_out = source->sequence;
    if (given_out < bound)
        given_out = bound;
    source->sequence = sequence;
    if (sequence >= given_out)
        return;
    log_warn("the sequence of message ids is behind what it has given out: reading without a bound",
             LOG_INT("sequence", sequence), LOG_INT("given_out", given_out));
    metric_add(source->options.stats->bounds_dropped, 1);
    windows_drop_bounds(source->options.windows);
    source->own_sequence = 0;
    source->own_xact = 0;
    source->sequence_fell = true;
}

/* The window is open in `windows`: its streams begin. */
static void begin_window(struct source *source)
{
    struct windows *windows = source->options.windows;
    struct snapshot *t1 = windows_t1(windows);
    int64_t last_id = windows_last_read_id(windows);
    int64_t after_id = last_id > t1->bound ? last_id : t1->bound;
    int64_t end_id = source->sequence_fell ? INT64_MAX : source->sequence;
    int late;

    buffer_clear(&source->late_xids);
    late = snapshot_ended_between(t1, windows_t2(windows), &source->late_xids);
    begin_stream(&source->fresh, after_id, end_id, after_id >= end_id);
    begin_stream(&source->late, last_id, INT64_MAX, late == 0);
    source->window_start = flow_pushed(source->options.flow);
    source->state = SOURCE_READING;
}

/* Ids that sessions took ahead are behind what the sequence has given out: unread rows would be
 * below the bound, and those of a key not in its order. */
static int check_cache(int64_t cache, struct error *error)
{
    if (cache == 1)
        return 0;
    return error_set(error, ERROR_STATE, RETRY_NEVER,
                     "the sequence outbox.message_id_seq has CACHE %" PRId64
                     ": ids would not rise, and messages would be lost. Run 'alter sequence "
                     "outbox.message_id_seq cache 1', and let the services connect anew",
                     cache);
}

static void on_primed(void *data, struct pg_result *result, const struct error *failure)
{
    struct source *source = data;
    struct error error = {0};

    if (!source_answered(source, failure))
        return;
    if (check_cache(pg_int(result, 0, BEGIN_CACHE), &error) < 0) {
        source->options.on_failure(source->options.data, &error);
        return;
    }
    learn_sequence(source, pg_int(result, 0, BEGIN_LAST_ID), pg_int(result, 0, BEGIN_HIGHEST_ID));
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

    if (!source_answered(source, failure))
        return;
    if (source->barrier) {
        t2 = source->barrier;
        source->barrier = NULL;
        source->barred = true;
    } else if (snapshot_parse(&t2, pg_text(result, 0, POLL_SNAPSHOT), &error) < 0) {
        source->options.on_failure(source->options.data, &error);
        return;
    }
    learn_sequence(source, pg_int(result, 0, POLL_LAST_ID), 0);
    t1 = windows_t1(source->options.windows);
    t2->bound = source->own_xact && source->own_xact < t2->xmax && source->own_sequence > t1->bound
                    ? source->own_sequence
                    : t1->bound;
    windows_open(source->options.windows, t2, pg_int(result, 0, POLL_INSERT_LSN));
    if (source_needs_standbys(source))
        source_look_at_standbys(source); /* empty windows wait for them too */
    else
        windows_flushed(source->options.windows, pg_int(result, 0, POLL_FLUSH_LSN));
    begin_window(source);
}

bool source_can_poll(const struct source *source)
{
    return source->state == SOURCE_IDLE && !source->finishing && !source->barred &&
           windows_count(source->options.windows) < WINDOWS_MAX - 1;
}

void source_poll(struct source *source)
{
    assert(source_can_poll(source));
    if (source_send(source, &sql_relay_poll, NULL, on_polled, source)) {
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
    int rows = failure ? 0 : pg_result_rows(result);
    bool more;

    stream->busy = false;
    if (failure)
        chunk_size_failed(&stream->size);
    if (!source_answered(source, failure))
        return;
    FAILPOINT("after-read");
    chunk = rows > 0 ? chunk_create(result, &source->in_memory) : NULL;
    if (rows > 0 && !chunk) {
        struct error error = {0};

        error_set(&error, ERROR_NO_MEMORY, RETRY_LATER, "a chunk of %d rows", rows);
        source->options.on_failure(source->options.data, &error);
        return;
    }
    metric_add(source->options.stats->read, rows);
    stream->chunk = chunk;
    stream->next = 0;
    more = chunk_size_learn(&stream->size, chunk);
    if (chunk && more) {
        stream->last_id = pg_int(chunk->rows, rows - 1, ROW_ID);
    } else {
        stream->last_id = stream->up_to;
        stream->exhausted = stream->up_to == stream->end_id;
    }
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

static void size_chunk(const struct source *source, struct stream *stream, int32_t rows,
                       int64_t bytes)
{
    (void)chunk_size_ask(&stream->size, rows, bytes);
    stream->up_to = stream->end_id;
    if (source->shares > 1 && source->sequence - stream->last_id > SPAN_IDS)
        stream->up_to = stream->last_id + SPAN_IDS;
}

static void send_chunk(struct stream *stream, const struct pg_statement *of_all,
                       const struct pg_statement *of_share)
{
    struct source *source = stream->source;

    if (source->shares > 1) {
        pg_params_int4(&source->params, source->shares);
        pg_params_int4(&source->params, source->share);
    }
    stream->busy = source_send(source, source->shares > 1 ? of_share : of_all, &source->params,
                               on_chunk, stream);
}

static void ask_fresh(struct source *source, int32_t rows, int64_t bytes)
{
    const struct snapshot *t1 = windows_t1(source->options.windows);
    struct stream *stream = &source->fresh;
    char xmax[24];

    size_chunk(source, stream, rows, bytes);
    (void)snprintf(xmax, sizeof(xmax), "%" PRIu64, t1->xmax);
    pg_params_reset(&source->params);
    pg_params_int8(&source->params, stream->last_id);
    pg_params_int8(&source->params, stream->up_to);
    pg_params_untyped(&source->params, xmax);
    pg_params_untyped(&source->params, windows_t2(source->options.windows)->text);
    pg_params_int4(&source->params, stream->size.rows_asked);
    pg_params_int8(&source->params, stream->size.bytes_asked);
    send_chunk(stream, &sql_relay_read_fresh, &sql_relay_read_fresh_share);
}

static void ask_late(struct source *source, int32_t rows, int64_t bytes)
{
    struct stream *stream = &source->late;

    size_chunk(source, stream, rows, bytes);
    pg_params_reset(&source->params);
    pg_params_untyped(&source->params, buffer_text(&source->late_xids));
    pg_params_int8(&source->params, stream->last_id);
    pg_params_int4(&source->params, stream->size.rows_asked);
    pg_params_int8(&source->params, stream->size.bytes_asked);
    if (source->shares > 1)
        pg_params_int8(&source->params, stream->up_to);
    send_chunk(stream, &sql_relay_read_late, &sql_relay_read_late_share);
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
    if (fresh)
        ask_fresh(source, rows, bytes);
    if (late)
        ask_late(source, rows, bytes);
    return true;
}

/* Into the flow -------------------------------------------------------------------------------- */

static void refuse_twin(struct source *source, int64_t id)
{
    struct error error = {0};

    source->state = SOURCE_OFF;
    error_set(&error, ERROR_STATE, RETRY_NEVER,
              "two rows of outbox.message have the id %" PRId64
              ": its sequence was set back. Give the "
              "later one a new id: update outbox.message set id = nextval('outbox.message_id_seq') "
              "where id = %" PRId64 " and xid = ...",
              id, id);
    source->options.on_failure(source->options.data, &error);
}

/* False: the log has an id twice. Neither the order of its rows nor a position between them means
 * anything then, and only a person can say what became of the one that was there first. */
static bool push(struct source *source, struct stream *stream)
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

    if (item.id <= windows_last_read_id(source->options.windows)) {
        chunk_release(item.chunk);
        refuse_twin(source, item.id);
        return false;
    }
    flow_push(source->options.flow, &item);
    windows_row(source->options.windows, item.id);
    if (++stream->next == pg_result_rows(stream->chunk->rows)) {
        chunk_release(stream->chunk);
        stream->chunk = NULL;
    }
    return true;
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
        if (!push(source, stream))
            return false;
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
        if (source->state == SOURCE_OFF)
            return false;
        if (is_done(&source->fresh) && is_done(&source->late)) {
            end_window(source);
            did = true;
        } else {
            did |= ask(source);
        }
    }
    if (source->state != SOURCE_OFF && source->state != SOURCE_PRIMING) {
        source_permit(source);
        if (source_waits_for_flush(source) && !source->flush_since_us)
            source_look_at_flush(source);
    }
    return did;
}

/* Life ----------------------------------------------------------------------------------------- */

void source_set_share(struct source *source, int32_t share, int32_t shares,
                      struct snapshot *barrier)
{
    source->share = share;
    source->shares = shares;
    snapshot_release(source->barrier);
    source->barrier = barrier ? snapshot_hold(barrier) : NULL;
    source->barred = false;
}

int64_t source_sequence(const struct source *source)
{
    return source->sequence;
}

void source_own_transaction(struct source *source, int64_t sequence, uint64_t xact)
{
    if (sequence > source->sequence)
        return; /* it fell while the transaction was under way */
    source->own_sequence = sequence;
    source->own_xact = xact;
}

void source_start(struct source *source)
{
    assert(source->state == SOURCE_OFF && flow_rows(source->options.flow) == 0);
    source->finishing = source->sequence_fell = false;
    source->sequence = 0;
    if (source_send(source, &sql_relay_begin, NULL, on_primed, source))
        source->state = SOURCE_PRIMING;
}

void source_stop(struct source *source)
{
    source->state = SOURCE_OFF;
    chunk_release(source->fresh.chunk);
    chunk_release(source->late.chunk);
    source->fresh =
        (struct stream){.source = source, .busy = source->fresh.busy, .size = source->fresh.size};
    source->late =
        (struct stream){.source = source, .busy = source->late.busy, .size = source->late.size};
    source->own_sequence = 0;
    source->own_xact = 0;
    source->flush_since_us = 0;
    source->nudged = false;
    publish_after_end_wait(&source->standbys_wait, source->options.stats);
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
    int failed;

    if (!source)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a source");
    source->options = *options;
    source->fresh.source = source->late.source = source;
    buffer_init(&source->late_xids, LATE_TEXT_BYTES_MAX);
    pg_params_init(&source->params);
    failed = loop_timer_create(options->loop, source_on_flush_timer, source, &source->flush_timer,
                               error);
    if (failed < 0) {
        source_destroy(source);
        return failed;
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
    snapshot_release(source->barrier);
    loop_timer_destroy(source->flush_timer);
    buffer_free(&source->late_xids);
    pg_params_free(&source->params);
    free(source);
}
