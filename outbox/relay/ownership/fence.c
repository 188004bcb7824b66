#include "outbox/relay/ownership/fence.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/backoff.h"
#include "outbox/runtime/clock.h"
#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LANES                2
#define CODE_RESOURCE_LOCKED 405
#define CODE_ACCESS_REFUSED  403
#define OTHERS_PAUSE_US      US_PER_S /* between looks for other relays that fail; it doubles */

/* One lane, and where it stands. */
struct guard {
    struct fence *fence;
    enum fence_lane which;
    char queue[FENCE_QUEUE_BYTES];
    struct lane *lane; /* NULL: there is none now */
    unsigned asked;    /* proofs of the lock that are on their way: the last one counts */
    int refused_code;  /* what the log has said; 0: nothing */
};

struct fence {
    struct fence_options options;
    struct guard guards[LANES];
    bool raised;
    int64_t away_us; /* since when the log's lane has no connection; 0: it has */
    /* Whether another relay waits. */
    bool asked_others, said_blind;
    int64_t blind_us; /* since when that cannot be known; 0: it can, or was not asked */
    int64_t look_us;  /* no look before */
    struct backoff backoff;
    struct pg_params params;
};

/* Names ---------------------------------------------------------------------------------------- */

void fence_queue_name(char ret_name[FENCE_QUEUE_BYTES], const struct lease_server *server,
                      int32_t share, enum fence_lane which)
{
    int bytes = snprintf(ret_name, FENCE_QUEUE_BYTES, "outbox.relay.%" PRId64 ".%" PRId64 ".%d%s",
                         server->system_identifier, server->database_oid, share,
                         which == FENCE_PARKED ? ".parked" : "");

    assert(bytes < FENCE_QUEUE_BYTES);
}

int fence_heartbeat_max_s(int64_t term_us)
{
    int64_t half_s = term_us / 2 / US_PER_S;

    return half_s > 0 ? (int)half_s : 1;
}

int64_t fence_connect_max_us(int64_t term_us)
{
    return term_us / 4;
}

/* Taking --------------------------------------------------------------------------------------- */

static void take(struct guard *guard)
{
    struct fence *fence = guard->fence;

    lane_fence(guard->lane, guard->queue,
               guard->which == FENCE_LOG ? fence->guards[FENCE_PARKED].queue : NULL);
}

/* The parked lane stands behind the log's. */
static void take_parked(struct fence *fence)
{
    struct guard *parked = &fence->guards[FENCE_PARKED];

    if (fence->raised && parked->lane && lane_is_open(fence->guards[FENCE_LOG].lane))
        take(parked);
}

enum proof_column { PROOF_HELD };

static void on_proof(void *data, struct pg_result *result, const struct error *failure)
{
    struct guard *guard = data;
    struct fence *fence = guard->fence;
    struct error error = {0};

    guard->asked--;
    if (guard->asked > 0 || !fence->raised || !guard->lane || !lane_is_fenced(guard->lane))
        return;
    if (failure) {
        if (failure->retry != RETRY_RECONNECT)
            fence->options.on_failure(fence->options.data, failure);
        return;
    }
    if (!pg_bool(result, 0, PROOF_HELD)) {
        error_set(&error, ERROR_STATE, RETRY_LATER,
                  "the lock of share %d is not this connection's: a pooler between must not "
                  "share connections",
                  fence->options.share);
        fence->options.on_failure(fence->options.data, &error);
        return;
    }
    FAILPOINT("fence-proven");
    lane_open(guard->lane);
    if (guard->which == FENCE_LOG) {
        metric_set(fence->options.stats->fenced, 1);
        log_info("publishing", LOG_STR("fence", guard->queue));
        take_parked(fence);
    }
}

static void ask_for_proof(struct guard *guard)
{
    struct fence *fence = guard->fence;
    struct error error = {0};

    pg_params_reset(&fence->params);
    pg_params_int4(&fence->params, fence->options.share);
    if (pg_session_send(fence->options.session, &sql_relay_proof, &fence->params, on_proof, guard,
                        &error) < 0) {
        if (error.retry != RETRY_RECONNECT) /* else the connection, and with it the lock, is gone */
            fence->options.on_failure(fence->options.data, &error);
        return;
    }
    guard->asked++;
    (void)!pg_session_sync(fence->options.session, NULL, NULL, &error);
}

static void say_refused(struct guard *guard, const struct error *why)
{
    if (guard->refused_code == why->amqp_code)
        return;
    guard->refused_code = why->amqp_code;
    if (why->amqp_code == CODE_RESOURCE_LOCKED)
        log_info("waiting until the former owner's connection to RabbitMQ has ended",
                 LOG_STR("fence", guard->queue));
    else if (why->amqp_code == CODE_ACCESS_REFUSED)
        log_failure(LOG_LEVEL_ERROR,
                    "publishing nothing: the user of RabbitMQ needs the permissions configure and "
                    "read on outbox\\.relay\\..*",
                    why, LOG_STR("fence", guard->queue));
    else
        log_failure(LOG_LEVEL_ERROR, "publishing nothing: RabbitMQ refuses the fence", why,
                    LOG_STR("fence", guard->queue));
}

/* The log's lane has lost its connection. */
static void close_both(struct fence *fence)
{
    struct guard *parked = &fence->guards[FENCE_PARKED];

    metric_set(fence->options.stats->fenced, 0);
    if (parked->lane)
        lane_unfence(parked->lane, "the log's lane lost its fence");
}

static void on_fence(void *data, enum lane_fence_event event, const struct error *why)
{
    struct guard *guard = data;

    switch (event) {
    case LANE_FENCE_HELD:
        FAILPOINT("fence-held");
        guard->refused_code = 0;
        ask_for_proof(guard);
        break;
    case LANE_FENCE_REFUSED:
        say_refused(guard, why);
        break;
    case LANE_FENCE_LOST:
        if (guard->which == FENCE_LOG)
            close_both(guard->fence);
        break;
    }
}

/* Raising and lowering ------------------------------------------------------------------------- */

void fence_hook(struct fence *fence, enum fence_lane which, struct lane_options *lane)
{
    lane->on_fence = on_fence;
    lane->fence_data = &fence->guards[which];
}

void fence_attach(struct fence *fence, enum fence_lane which, struct lane *lane)
{
    fence->guards[which].lane = lane;
    if (which == FENCE_PARKED)
        take_parked(fence);
}

void fence_detach(struct fence *fence, enum fence_lane which)
{
    fence->guards[which].lane = NULL;
}

/* An outage of RabbitMQ has ended, or the share is another's or taken anew. */
static void forget_outage(struct fence *fence)
{
    fence->away_us = fence->blind_us = fence->look_us = 0;
    backoff_reset(&fence->backoff);
}

void fence_raise(struct fence *fence, const struct lease_server *server)
{
    assert(!fence->raised && fence->guards[FENCE_LOG].lane);
    for (int which = 0; which < LANES; which++) {
        fence_queue_name(fence->guards[which].queue, server, fence->options.share,
                         (enum fence_lane)which);
        fence->guards[which].refused_code = 0;
    }
    fence->raised = true;
    forget_outage(fence);
    take(&fence->guards[FENCE_LOG]);
}

void fence_lower(struct fence *fence, const char *why)
{
    if (!fence->raised)
        return;
    fence->raised = false;
    metric_set(fence->options.stats->fenced, 0);
    for (int which = 0; which < LANES; which++)
        if (fence->guards[which].lane)
            lane_unfence(fence->guards[which].lane, why);
}

/* Resigning ------------------------------------------------------------------------------------ */

static void resign(struct fence *fence, const char *why)
{
    struct error error = {0};

    FAILPOINT("resigning");
    metric_add(fence->options.stats->resignations, 1);
    error_set(&error, ERROR_STATE, RETRY_LATER, "%s", why);
    fence->options.on_failure(fence->options.data, &error);
}

/* The share stands still here, and perhaps another relay would publish it. To resign for nothing
 * costs a connection and an epoch: the lock is ours again at once where nobody waits for it. To
 * stay where somebody does costs the share, for as long as RabbitMQ is away from here. */
static void cannot_see_others(struct fence *fence, const struct error *failure)
{
    int64_t now_us = loop_now_us(fence->options.loop);

    if (!fence->said_blind)
        log_failure(LOG_LEVEL_WARN,
                    "RabbitMQ stays away, and whether another relay waits for the share cannot be "
                    "known; trying on",
                    failure, LOG_INT("share", fence->options.share));
    fence->said_blind = true;
    if (!fence->blind_us)
        fence->blind_us = now_us;
    fence->look_us = now_us + backoff_next_us(&fence->backoff);
    if (now_us - fence->blind_us > fence->options.term_us)
        resign(fence, "RabbitMQ stays away, and for longer than lease-term it cannot be known "
                      "whether another relay waits: resigning, in case one does");
}

static void sees_others(struct fence *fence)
{
    if (fence->said_blind)
        log_info("whether another relay waits for the share is known again",
                 LOG_INT("share", fence->options.share));
    fence->said_blind = false;
    fence->blind_us = fence->look_us = 0;
    backoff_reset(&fence->backoff);
}

static void on_others(void *data, struct pg_result *result, const struct error *failure)
{
    struct fence *fence = data;

    fence->asked_others = false;
    if (!fence->raised || !fence->away_us || (failure && failure->retry == RETRY_RECONNECT))
        return;
    if (failure) {
        cannot_see_others(fence, failure);
        return;
    }
    sees_others(fence);
    if (pg_bool(result, 0, 0))
        resign(fence, "RabbitMQ stays away for longer than lease-term, and another relay waits: "
                      "resigning");
}

static void ask_for_others(struct fence *fence)
{
    struct error error = {0};

    pg_params_reset(&fence->params);
    pg_params_int4(&fence->params, fence->options.share);
    if (pg_session_send(fence->options.session, &sql_relay_others, &fence->params, on_others, fence,
                        &error) < 0) {
        if (error.retry != RETRY_RECONNECT) /* else the connection, and with it the lock, is gone */
            cannot_see_others(fence, &error);
        return;
    }
    fence->asked_others = true;
    (void)!pg_session_sync(fence->options.session, NULL, NULL, &error);
}

void fence_tick(struct fence *fence)
{
    int64_t now_us = loop_now_us(fence->options.loop);

    if (lane_is_up(fence->guards[FENCE_LOG].lane)) {
        forget_outage(fence);
        fence->said_blind = false; /* the next one is told again */
    } else if (!fence->raised) {
        forget_outage(fence);
    } else if (!fence->away_us) {
        fence->away_us = now_us;
    } else if (now_us - fence->away_us > fence->options.term_us && now_us >= fence->look_us &&
               !fence->asked_others) {
        ask_for_others(fence);
    }
}

/* Life ----------------------------------------------------------------------------------------- */

int fence_create(struct fence **ret_fence, const struct fence_options *options, struct error *error)
{
    struct fence *fence = calloc(1, sizeof(*fence));

    if (!fence)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a fence");
    fence->options = *options;
    for (int which = 0; which < LANES; which++) {
        fence->guards[which].fence = fence;
        fence->guards[which].which = (enum fence_lane)which;
    }
    pg_params_init(&fence->params);
    backoff_init(&fence->backoff, OTHERS_PAUSE_US, options->term_us,
                 (uint64_t)clock_wall_us(loop_clock(options->loop)));
    *ret_fence = fence;
    return 0;
}

void fence_destroy(struct fence *fence)
{
    if (!fence)
        return;
    pg_params_free(&fence->params);
    free(fence);
}
