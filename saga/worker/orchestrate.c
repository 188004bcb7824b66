#include "saga/worker/orchestrate.h"

#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"
#include "saga/topology/topology.h"
#include "saga/worker/orchestrate_private.h"
#include "saga/worker/schema.h"
#include "saga/worker/sql.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* One session, one thing at a time on it: a look (sweep.h), or a batch of intents, timers or
 * replies. What comes next is chosen before the loop sleeps, in turn, so that no kind starves
 * another; by then the broker's hook has handed over everything that has arrived, and that is the
 * batch. */

#define MEMORY_OF_DEFINITIONS 4096

/* --- replies arrive --------------------------------------------------------------------------- */

static void acknowledge(struct orchestrate *orchestrate)
{
    uint64_t tag;
    if (held_ack(orchestrate->held, &tag)) {
        FAILPOINT("orchestrate-before-ack");
        broker_ack(orchestrate->broker, tag, true);
    }
}

/* To the dead-letter queue. Its channel may be gone already: then it comes again, and again here.
 */
void orchestrate_refuse(struct orchestrate *orchestrate, struct held_message *message,
                        const char *why)
{
    struct body *body = body_of(message);
    char id[UUID_TEXT_BYTES] = "-";
    if (body->has_id) {
        uuid_format(&body->saga_id, id);
    }
    log_warn("reply rejected to the dead-letter queue", LOG_STR("why", why), LOG_STR("saga", id),
             LOG_STR("step", body->step), LOG_INT("delivery_tag", message->tag));
    metric_add(orchestrate->worker->metrics.dead_lettered_replies, 1);
    if (!message->is_void) {
        broker_reject(orchestrate->broker, message->tag);
    }
    held_refuse(orchestrate->held, message);
}

static void on_delivery(void *data, const struct broker_delivery *delivery)
{
    struct orchestrate *orchestrate = data;
    struct error error;
    struct held_message *message;
    if (held_receive(orchestrate->held, delivery->tag, delivery->body.bytes, &message, &error) <
        0) {
        broker_reconnect(orchestrate->broker, error.message);
        return;
    }
    metric_add(orchestrate->worker->metrics.replies, 1);
    message->redelivered = delivery->redelivered;
    message->arrived_us = loop_now_us(orchestrate->worker->loop);
    buffer_append(&message->body, delivery->body.text, delivery->body.bytes);
    if (message->body.failed) {
        orchestrate_refuse(orchestrate, message, "its body is larger than body-bytes-max");
    } else if (body_read_reply((const char *)buffer_data(&message->body),
                               buffer_length(&message->body), &orchestrate->worker->settings.json,
                               body_of(message), &error) < 0) {
        orchestrate_refuse(orchestrate, message, error.message);
    }
    acknowledge(orchestrate);
}

static void on_broker_up(void *data, struct broker *broker)
{
    struct orchestrate *orchestrate = data;
    struct error error;
    char queue[TOPOLOGY_QUEUE_BYTES];
    assert(held_outstanding(orchestrate->held) == 0);
    if (topology_declare_base(broker, &error) < 0 ||
        topology_declare_orchestrator(broker, orchestrate->name, &error) < 0 ||
        topology_reply_queue(orchestrate->name, queue, &error) < 0 ||
        broker_consume(broker, queue, "orchestrate", false, orchestrate->worker->settings.prefetch,
                       &error) < 0) {
        broker_reconnect(broker, error.message);
        return;
    }
    link_up(&orchestrate->broker_link);
}

static void on_broker_down(void *data, struct broker *broker, const struct error *why,
                           bool channel_only)
{
    (void)broker;
    (void)channel_only;
    struct orchestrate *orchestrate = data;
    held_void(orchestrate->held);
    if (!orchestrate->worker->draining) {
        link_down(&orchestrate->broker_link, why);
    }
}

static void on_consumer_cancelled(void *data, const char *consumer_tag)
{
    (void)consumer_tag;
    struct orchestrate *orchestrate = data;
    broker_reconnect(orchestrate->broker, "the queue of replies was deleted or moved");
}

/* --- one batch after the other ---------------------------------------------------------------- */

static void run_next_range(struct orchestrate *orchestrate)
{
    int first;
    int count;
    if (!split_range(&orchestrate->split, &first, &count)) {
        if (orchestrate->job == JOB_REPLIES) {
            pace_finished(&orchestrate->pace, loop_now_us(orchestrate->worker->loop),
                          orchestrate->worker->settings.batch_pause_us);
        }
        orchestrate->job = JOB_NONE;
        if (orchestrate->draining) {
            worker_role_drained(orchestrate->worker);
        }
        return;
    }
    batch_run(orchestrate->batch, &orchestrate->works[first], count);
}

static void start_works(struct orchestrate *orchestrate, enum job job, int count)
{
    orchestrate->job = job;
    split_start(&orchestrate->split, count);
    run_next_range(orchestrate);
}

static bool start_replies(struct orchestrate *orchestrate)
{
    struct held_message *messages[BATCH_WORKS_MAX];
    int64_t now_us = loop_now_us(orchestrate->worker->loop);
    int count_max = orchestrate->worker->settings.reply_batch;
    if (pace_holds(&orchestrate->pace, now_us, held_waiting(orchestrate->held) >= count_max)) {
        return false;
    }
    int count = held_take(orchestrate->held, now_us, count_max, NULL, NULL, messages);
    if (count == 0) {
        return false;
    }
    metric_observe(orchestrate->worker->metrics.reply_batch, count);
    pace_started(&orchestrate->pace, count);
    for (int i = 0; i < count; i++) {
        const struct body *body = body_of(messages[i]);
        orchestrate->works[i] = (struct work){
            .saga_id = body->saga_id,
            .step = body->step,
            .message = messages[i],
            .happening = {.event = {.type = body->event,
                                    .element = body->element,
                                    .operation = body->operation,
                                    .round = body->round,
                                    .attempt = body->attempt,
                                    .empty = body->empty,
                                    .reason = body->reason[0] ? body->reason : NULL},
                          .output = body->output,
                          .error = body->error},
        };
    }
    start_works(orchestrate, JOB_REPLIES, count);
    return true;
}

static bool start_timers(struct orchestrate *orchestrate)
{
    struct uuid ids[BATCH_WORKS_MAX];
    int64_t database_us =
        timers_database_us(orchestrate->timers, loop_now_us(orchestrate->worker->loop));
    int count = timers_take(orchestrate->timers, database_us,
                            orchestrate->worker->settings.reply_batch, ids);
    if (count == 0) {
        return false;
    }
    orchestrate_wake(orchestrate, JOB_TIMERS, ids, count);
    return true;
}

void orchestrate_wake(struct orchestrate *orchestrate, enum job job, const struct uuid *ids,
                      int count)
{
    for (int i = 0; i < count; i++) {
        orchestrate->works[i] = (struct work){
            .saga_id = ids[i],
            .happening = {.event = {.type = EVENT_DUE, .step = -1}},
        };
    }
    start_works(orchestrate, job, count);
}

static bool start_intents(struct orchestrate *orchestrate)
{
    int64_t now_us = loop_now_us(orchestrate->worker->loop);
    if (orchestrate->intents_due_us > now_us) {
        return false;
    }
    int64_t skipped[INTENTS_SKIPPED_MAX];
    int skipped_count = intents_skipped(&orchestrate->intents, now_us, skipped);
    orchestrate->intents_due_us = now_us + orchestrate->worker->settings.intent_poll_us;
    orchestrate->intents_limit =
        intents_limit(&orchestrate->intents, orchestrate->worker->settings.reply_batch);
    orchestrate->job = JOB_INTENTS;
    batch_run_intents(orchestrate->batch, orchestrate->intents_limit, skipped, skipped_count);
    return true;
}

static bool start_stalled(struct orchestrate *orchestrate)
{
    int count = orchestrate->stalled_count;
    if (count == 0) {
        return false;
    }
    orchestrate->stalled_count = 0;
    orchestrate_wake(orchestrate, JOB_STALLED, orchestrate->stalled, count);
    return true;
}

static bool start_look(struct orchestrate *orchestrate)
{
    if (!sweep_start(orchestrate->sweep, loop_now_us(orchestrate->worker->loop))) {
        return false;
    }
    orchestrate->job = JOB_LOOK;
    return true;
}

static void arm_wake_up(struct orchestrate *orchestrate)
{
    int64_t next_us = sweep_next_us(orchestrate->sweep);
    int64_t replies_us = held_next_us(orchestrate->held);
    if (replies_us < orchestrate->pace.not_before_us) {
        replies_us = orchestrate->pace.not_before_us;
    }
    int64_t candidates[] = {timers_next_us(orchestrate->timers), replies_us,
                            orchestrate->intents_due_us};
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++) {
        if (candidates[i] < next_us) {
            next_us = candidates[i];
        }
    }
    loop_timer_arm_at(orchestrate->wake_up, next_us);
}

/* Before the loop sleeps. */
static bool choose_next(void *data)
{
    struct orchestrate *orchestrate = data;
    static bool (*const kinds[])(struct orchestrate * orchestrate) = {
        start_look, start_stalled, start_intents, start_timers, start_replies};
    enum { KINDS = sizeof kinds / sizeof kinds[0] };
    if (orchestrate->job != JOB_NONE || !orchestrate->is_working || orchestrate->draining ||
        !pg_session_is_up(orchestrate->session)) {
        return false;
    }
    for (int i = 0; i < KINDS; i++) {
        orchestrate->turn = (orchestrate->turn + 1) % KINDS;
        if (kinds[orchestrate->turn](orchestrate)) {
            return true;
        }
    }
    arm_wake_up(orchestrate);
    return false;
}

static void on_wake_up(void *data)
{
    (void)data; /* the loop has turned, and choose_next comes before it sleeps again */
}

/* The transaction of a range is over. */
static void on_batch_finished(void *data, const struct error *failure)
{
    struct orchestrate *orchestrate = data;
    if (orchestrate->job == JOB_INTENTS) {
        orchestrate_intents_finished(orchestrate, failure);
        split_start(&orchestrate->split, 0);
    } else {
        orchestrate_range_finished(orchestrate, failure);
        acknowledge(orchestrate);
    }
    run_next_range(orchestrate);
}

static void on_look_done(void *data)
{
    struct orchestrate *orchestrate = data;
    orchestrate->job = JOB_NONE;
    if (orchestrate->draining) {
        worker_role_drained(orchestrate->worker);
    }
}

static void on_stalled(void *data, const struct uuid *ids, int count)
{
    struct orchestrate *orchestrate = data;
    orchestrate->stalled_count = count < BATCH_WORKS_MAX ? count : BATCH_WORKS_MAX;
    memcpy(orchestrate->stalled, ids, (size_t)orchestrate->stalled_count * sizeof *ids);
}

/* --- the session ------------------------------------------------------------------------------ */

static void on_schema(void *data, struct pg_result *result, const struct error *failure)
{
    struct orchestrate *orchestrate = data;
    struct error error;
    if (failure && failure->retry == RETRY_RECONNECT) {
        return;
    }
    if (schema_check(result, failure, "saga", &error) < 0) {
        worker_cannot_begin(orchestrate->worker, orchestrate->session, &error);
        return;
    }
    orchestrate->schema_is_right = true;
}

static void on_setting(void *data, struct pg_result *result, const struct error *failure)
{
    struct orchestrate *orchestrate = data;
    struct error error;
    if (failure || !orchestrate->schema_is_right) {
        return; /* on_ready gets it too */
    }
    if (pg_result_rows(result) != 1) {
        error_set(&error, ERROR_NOT_FOUND, RETRY_NEVER,
                  "saga.setting has no row: insert the orchestrator's name");
        daemon_finished(orchestrate->worker->daemon, &error);
        return;
    }
    const char *name = pg_text(result, 0, 0);
    if (orchestrate->name && strcmp(orchestrate->name, name) != 0) {
        log_warn("the orchestrator has another name now", LOG_STR("name", name));
        broker_reconnect(orchestrate->broker, "the orchestrator has another name now");
    }
    if (!orchestrate->name || strcmp(orchestrate->name, name) != 0) {
        free(orchestrate->name);
        orchestrate->name = strdup(name);
    }
    if (!orchestrate->name) {
        pg_session_reconnect(orchestrate->session, "no memory for the orchestrator's name");
    }
}

static void on_ready(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct orchestrate *orchestrate = data;
    if (failure && failure->retry != RETRY_RECONNECT && orchestrate->schema_is_right) {
        pg_session_reconnect(orchestrate->session, failure->message);
    }
    if (failure || !orchestrate->schema_is_right || !orchestrate->name) {
        return;
    }
    link_up(&orchestrate->session_link);
    timers_clear(orchestrate->timers);
    sweep_reset(orchestrate->sweep);
    orchestrate->intents_due_us = 0;
    orchestrate->is_working = true;
    if (!orchestrate->broker_started) {
        orchestrate->broker_started = true;
        broker_start(orchestrate->broker);
    }
}

static void on_session_up(void *data, struct pg_session *session)
{
    struct orchestrate *orchestrate = data;
    struct error error;
    orchestrate->schema_is_right = false;
    /* Every statement here goes by ids, and is planned once: planning anew for each batch took as
     * long as running it. A plan that was made while the tables were empty must not read them
     * whole for ever after. */
    static const char plans[] =
        "SELECT pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', false), "
        "pg_catalog.set_config('enable_seqscan', 'off', false), "
        "pg_catalog.set_config('enable_hashjoin', 'off', false), "
        "pg_catalog.set_config('enable_mergejoin', 'off', false)";
    if (pg_session_send_text(session, plans, NULL, NULL, &error) < 0 ||
        pg_session_send(session, &sql_worker_schema_version, NULL, on_schema, orchestrate, &error) <
            0 ||
        pg_session_sync(session, NULL, NULL, &error) < 0 ||
        pg_session_send_text(session, "LISTEN saga_intent", NULL, NULL, &error) < 0 ||
        pg_session_send_text(session, "LISTEN saga_wake", NULL, NULL, &error) < 0 ||
        pg_session_send(session, &sql_worker_read_setting, NULL, on_setting, orchestrate, &error) <
            0 ||
        pg_session_sync(session, on_ready, orchestrate, &error) < 0) {
        pg_session_reconnect(session, error.message);
    }
}

static void on_session_down(void *data, struct pg_session *session, const struct error *why)
{
    (void)session;
    struct orchestrate *orchestrate = data;
    orchestrate->is_working = false;
    batch_connection_lost(orchestrate->batch, why);
    sweep_connection_lost(orchestrate->sweep);
    if (!orchestrate->worker->draining) {
        link_down(&orchestrate->session_link, why);
    }
}

static void on_notify(void *data, struct pg_session *session, const char *channel,
                      const char *payload)
{
    (void)session;
    (void)payload;
    struct orchestrate *orchestrate = data;
    if (strcmp(channel, "saga_wake") == 0) {
        sweep_look_soon(orchestrate->sweep);
    } else {
        orchestrate->intents_due_us = 0;
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static int open_connections(struct orchestrate *orchestrate, struct error *error)
{
    struct pg_session_options session = {
        .on_up = on_session_up,
        .on_down = on_session_down,
        .on_notify = on_notify,
        .data = orchestrate,
    };
    struct broker_options broker = {
        .on_up = on_broker_up,
        .on_down = on_broker_down,
        .on_delivery = on_delivery,
        .on_cancel = on_consumer_cancelled,
        .data = orchestrate,
    };
    int rc = worker_open_session(orchestrate->worker, "orchestrate", &session,
                                 &orchestrate->session, error);
    if (rc == 0) {
        rc = worker_open_broker(orchestrate->worker, "orchestrate", &broker, &orchestrate->broker,
                                error);
    }
    return rc;
}

static int make_parts(struct orchestrate *orchestrate, struct error *error)
{
    struct worker *worker = orchestrate->worker;
    const struct settings *settings = &worker->settings;
    struct sweep_options sweep = {
        .worker = worker,
        .session = orchestrate->session,
        .on_done = on_look_done,
        .on_stalled = on_stalled,
        .data = orchestrate,
    };
    int rc = held_create(&orchestrate->held, settings->prefetch, settings->json.bytes_max,
                         sizeof(struct body), error);
    if (rc == 0) {
        rc = timers_create(&orchestrate->timers, settings->timers_max, error);
        sweep.timers = orchestrate->timers;
    }
    if (rc == 0) {
        rc = plan_cache_create(&orchestrate->plans, worker->daemon->metrics, MEMORY_OF_DEFINITIONS,
                               error);
    }
    if (rc == 0) {
        rc = batch_create(&orchestrate->batch, worker->loop, orchestrate->session,
                          orchestrate->plans, settings->batch_bytes_max, on_batch_finished,
                          orchestrate, error);
    }
    if (rc == 0) {
        rc = sweep_create(&orchestrate->sweep, &sweep, error);
    }
    if (rc == 0) {
        rc = loop_timer_create(worker->loop, on_wake_up, NULL, &orchestrate->wake_up, error);
    }
    if (rc == 0) {
        rc = loop_hook_add(worker->loop, choose_next, orchestrate, &orchestrate->hook, error);
    }
    return rc;
}

int orchestrate_create(struct orchestrate **ret_orchestrate, struct worker *worker,
                       struct error *error)
{
    struct orchestrate *orchestrate = calloc(1, sizeof *orchestrate);
    if (!orchestrate) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_NEVER, "no memory");
    }
    orchestrate->worker = worker;
    link_init(&orchestrate->session_link, worker, "PostgreSQL", "orchestrate");
    link_init(&orchestrate->broker_link, worker, "RabbitMQ", "orchestrate");
    int rc = open_connections(orchestrate, error);
    if (rc == 0) {
        rc = make_parts(orchestrate, error);
    }
    if (rc < 0) {
        orchestrate_destroy(orchestrate);
        return rc;
    }
    pg_session_start(orchestrate->session);
    *ret_orchestrate = orchestrate;
    return 0;
}

void orchestrate_destroy(struct orchestrate *orchestrate)
{
    if (!orchestrate) {
        return;
    }
    struct error stopped;
    error_set(&stopped, ERROR_STATE, RETRY_RECONNECT, "the worker stops");
    orchestrate->draining = true;
    loop_hook_remove(orchestrate->hook);
    loop_timer_destroy(orchestrate->wake_up);
    pg_session_destroy(orchestrate->session);
    if (orchestrate->batch) {
        batch_connection_lost(orchestrate->batch, &stopped);
    }
    if (orchestrate->sweep) {
        sweep_connection_lost(orchestrate->sweep);
    }
    broker_destroy(orchestrate->broker);
    sweep_destroy(orchestrate->sweep);
    batch_destroy(orchestrate->batch);
    plan_cache_destroy(orchestrate->plans);
    timers_destroy(orchestrate->timers);
    held_destroy(orchestrate->held);
    free(orchestrate->name);
    free(orchestrate);
}

void orchestrate_drain(struct orchestrate *orchestrate)
{
    if (orchestrate) {
        orchestrate->draining = true;
    }
}

void orchestrate_reload(struct orchestrate *orchestrate)
{
    if (orchestrate) {
        sweep_reset(orchestrate->sweep);
        orchestrate->intents_due_us = 0;
    }
}

bool orchestrate_is_idle(const struct orchestrate *orchestrate)
{
    return !orchestrate || orchestrate->job == JOB_NONE;
}

bool orchestrate_ready(const struct orchestrate *orchestrate, struct buffer *ret_reasons)
{
    if (!orchestrate) {
        return true;
    }
    bool is_ready = true;
    if (!orchestrate->is_working) {
        buffer_append_text(ret_reasons, "orchestrate: no connection to PostgreSQL\n");
        is_ready = false;
    }
    if (!broker_is_up(orchestrate->broker)) {
        buffer_append_text(ret_reasons, "orchestrate: no connection to RabbitMQ\n");
        is_ready = false;
    }
    return is_ready;
}
