#include "saga/worker/sweep.h"

#include "outbox/runtime/log.h"
#include "saga/worker/sql.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The index of wake_at begins with dead entries of sagas that have ended, and while somebody holds
 * an old snapshot they cannot be marked as dead: with a million of them a look cost 104 ms, and
 * 0.08 ms from a bound on. So a look starts at the earliest time that the look before has found,
 * less a margin for transactions that were open meanwhile and commit a saga that was due before;
 * one from the very beginning comes with each stall check. The bound is not persisted: what that
 * would save is one such look when a worker starts, and each stall check has one anyway. */
#define BOUND_MARGIN_US (INT64_C(10) * 60 * US_PER_S)
#define ROWS_MAX        1000
#define STALLED_MAX     100
/* saga.maintain(): as it wants to be called, and when it has more to do. */
#define MAINTAIN_PAUSE_US (60 * US_PER_S)
#define MORE_PAUSE_US     (1 * US_PER_S)

enum look { LOOK_NONE, LOOK_TIMERS, LOOK_STALLED, LOOK_COUNTS, LOOK_MAINTAIN };

/* Series of the gauge that was set last time: what has become zero must be set to zero. */
struct gauge {
    struct metric *metric;
    bool seen;
};
#define GAUGES_MAX 1024

struct sweep {
    struct sweep_options options;
    struct pg_params params;
    enum look running;
    int64_t timers_due_us, stalled_due_us, counts_due_us, maintain_due_us;
    int64_t bound_us;    /* the database's clock; 0: from the beginning */
    int64_t continue_us; /* there are more from here on; 0: there are not */
    struct gauge gauges[GAUGES_MAX];
    int gauge_count;
};

int sweep_create(struct sweep **ret_sweep, const struct sweep_options *options, struct error *error)
{
    struct sweep *sweep = calloc(1, sizeof *sweep);
    if (!sweep) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_NEVER, "no memory for sweeps");
    }
    sweep->options = *options;
    pg_params_init(&sweep->params);
    *ret_sweep = sweep;
    return 0;
}

void sweep_destroy(struct sweep *sweep)
{
    if (sweep) {
        assert(sweep->running == LOOK_NONE);
        pg_params_free(&sweep->params);
        free(sweep);
    }
}

void sweep_reset(struct sweep *sweep)
{
    sweep->timers_due_us = sweep->stalled_due_us = sweep->counts_due_us = 0;
    sweep->maintain_due_us = 0;
    sweep->bound_us = sweep->continue_us = 0;
}

void sweep_look_soon(struct sweep *sweep)
{
    sweep->timers_due_us = 0;
}

bool sweep_is_running(const struct sweep *sweep)
{
    return sweep->running != LOOK_NONE;
}

int64_t sweep_next_us(const struct sweep *sweep)
{
    int64_t next_us = sweep->timers_due_us;
    if (sweep->stalled_due_us < next_us) {
        next_us = sweep->stalled_due_us;
    }
    if (sweep->maintain_due_us < next_us) {
        next_us = sweep->maintain_due_us;
    }
    if (sweep->options.worker->settings.gauges_us > 0 && sweep->counts_due_us < next_us) {
        next_us = sweep->counts_due_us;
    }
    return next_us;
}

/* Workers that were started together should not look together. */
static int64_t spread_us(const struct sweep *sweep, int64_t interval_us)
{
    struct uuid random;
    uint32_t bits;
    uuid_v7(&random, clock_wall_us(loop_clock(sweep->options.worker->loop)));
    memcpy(&bits, &random.bytes[12], sizeof bits);
    return interval_us - (int64_t)(bits % 256) * (interval_us / 4) / 256;
}

static void look_over(struct sweep *sweep)
{
    sweep->running = LOOK_NONE;
    sweep->options.on_done(sweep->options.data);
}

static void on_timers(void *data, struct pg_result *result, const struct error *failure)
{
    struct sweep *sweep = data;
    if (failure) {
        return;
    }
    struct timers *timers = sweep->options.timers;
    int rows = pg_result_rows(result);
    timers_sample_clock(timers, pg_time_us(result, 0, 0), loop_now_us(sweep->options.worker->loop));
    int64_t first_us = pg_time_us(result, 0, 0);
    int64_t last_us = 0;
    bool is_full = false;
    for (int row = 0; row < rows && !pg_is_null(result, row, 1) && !is_full; row++) {
        struct uuid id = pg_uuid(result, row, 1);
        last_us = pg_time_us(result, row, 2);
        first_us = last_us < first_us ? last_us : first_us;
        is_full = !timers_arm(timers, &id, last_us);
    }
    if (sweep->continue_us == 0 && first_us - BOUND_MARGIN_US > sweep->bound_us) {
        sweep->bound_us = first_us - BOUND_MARGIN_US;
    }
    /* More of them, and not all at the same microsecond: go on from the last. */
    bool has_more = rows == ROWS_MAX && !is_full && last_us > sweep->continue_us;
    sweep->continue_us = has_more ? last_us : 0;
    if (has_more) {
        sweep->timers_due_us = 0;
    }
}

static void on_stalled(void *data, struct pg_result *result, const struct error *failure)
{
    struct sweep *sweep = data;
    struct uuid ids[STALLED_MAX];
    if (failure || pg_result_rows(result) == 0) {
        return;
    }
    int count = pg_result_rows(result);
    count = count < STALLED_MAX ? count : STALLED_MAX;
    for (int row = 0; row < count; row++) {
        ids[row] = pg_uuid(result, row, 0);
    }
    sweep->options.on_stalled(sweep->options.data, ids, count);
}

static void set_gauge(struct sweep *sweep, struct metric *metric, double value)
{
    metric_set(metric, value);
    for (int i = 0; i < sweep->gauge_count; i++) {
        if (sweep->gauges[i].metric == metric) {
            sweep->gauges[i].seen = true;
            return;
        }
    }
    if (sweep->gauge_count < GAUGES_MAX) {
        sweep->gauges[sweep->gauge_count++] = (struct gauge){.metric = metric, .seen = true};
    }
}

static void on_counts(void *data, struct pg_result *result, const struct error *failure)
{
    struct sweep *sweep = data;
    struct worker *worker = sweep->options.worker;
    if (failure) {
        return;
    }
    for (int i = 0; i < sweep->gauge_count; i++) {
        sweep->gauges[i].seen = false;
    }
    double stuck = 0;
    bool any = pg_result_rows(result) > 0;
    metric_set(worker->metrics.lock_waits, any ? (double)pg_int(result, 0, 3) : 0);
    metric_set(worker->metrics.lock_wait_oldest, any ? (double)pg_int(result, 0, 4) / US_PER_S : 0);
    for (int row = 0; row < pg_result_rows(result); row++) {
        const char *const labels[] = {"definition", pg_text(result, row, 0), "state",
                                      pg_text(result, row, 1), NULL};
        double sagas = (double)pg_int(result, row, 2);
        set_gauge(sweep,
                  metrics_get(worker->daemon->metrics, METRIC_GAUGE, "sagapost_saga_sagas",
                              "sagas that have not ended, by definition and state", labels),
                  sagas);
        stuck += strcmp(pg_text(result, row, 1), "STUCK") == 0 ? sagas : 0;
    }
    metric_set(worker->metrics.stuck, stuck);
    for (int i = 0; i < sweep->gauge_count; i++) {
        if (!sweep->gauges[i].seen) {
            metric_set(sweep->gauges[i].metric, 0);
        }
    }
}

static void on_maintained(void *data, struct pg_result *result, const struct error *failure)
{
    struct sweep *sweep = data;
    if (failure) {
        return;
    }
    if (!pg_is_null(result, 0, 0)) {
        log_info("partitions of ended sagas", LOG_STR("did", pg_text(result, 0, 0)));
    }
    if (pg_bool(result, 0, 1)) {
        sweep->maintain_due_us = loop_now_us(sweep->options.worker->loop) + MORE_PAUSE_US;
    }
}

static void on_synced(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct sweep *sweep = data;
    if (sweep->running == LOOK_NONE) {
        return;
    }
    if (failure && failure->retry != RETRY_RECONNECT) {
        log_failure(LOG_LEVEL_ERROR,
                    sweep->running == LOOK_MAINTAIN ? "partitions of ended sagas could not be kept"
                                                    : "looking for timers failed",
                    failure);
    }
    look_over(sweep);
}

static bool look(struct sweep *sweep, enum look what, const struct pg_statement *statement,
                 pg_callback *callback)
{
    struct error error;
    sweep->running = what;
    if (pg_session_send(sweep->options.session, statement, &sweep->params, callback, sweep,
                        &error) < 0 ||
        pg_session_sync(sweep->options.session, on_synced, sweep, &error) < 0) {
        pg_session_reconnect(sweep->options.session, error.message);
    }
    return true;
}

bool sweep_start(struct sweep *sweep, int64_t now_us)
{
    const struct settings *settings = &sweep->options.worker->settings;
    assert(sweep->running == LOOK_NONE);
    pg_params_reset(&sweep->params);
    if (sweep->stalled_due_us <= now_us) {
        sweep->stalled_due_us = now_us + spread_us(sweep, settings->stall_check_us);
        sweep->bound_us = 0;
        pg_params_int8(&sweep->params, STALLED_MAX);
        return look(sweep, LOOK_STALLED, &sql_worker_stalled, on_stalled);
    }
    if (sweep->timers_due_us <= now_us) {
        sweep->timers_due_us = now_us + spread_us(sweep, settings->sweep_us);
        /* Half an interval more than the pause, so that nothing is due between two looks. */
        pg_params_int8(&sweep->params, settings->sweep_us + settings->sweep_us / 2);
        pg_params_time_us(&sweep->params,
                          sweep->continue_us > 0 ? sweep->continue_us : sweep->bound_us);
        pg_params_int8(&sweep->params, ROWS_MAX);
        return look(sweep, LOOK_TIMERS, &sql_worker_sweep, on_timers);
    }
    if (sweep->maintain_due_us <= now_us) {
        sweep->maintain_due_us = now_us + spread_us(sweep, MAINTAIN_PAUSE_US);
        return look(sweep, LOOK_MAINTAIN, &sql_worker_maintain_sagas, on_maintained);
    }
    if (settings->gauges_us > 0 && sweep->counts_due_us <= now_us) {
        sweep->counts_due_us = now_us + spread_us(sweep, settings->gauges_us);
        return look(sweep, LOOK_COUNTS, &sql_worker_count_sagas, on_counts);
    }
    return false;
}

void sweep_connection_lost(struct sweep *sweep)
{
    if (sweep->running != LOOK_NONE) {
        look_over(sweep);
    }
}
