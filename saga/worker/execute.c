#include "saga/worker/execute.h"

#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"
#include "saga/topology/topology.h"
#include "saga/worker/execute_private.h"
#include "saga/worker/schema.h"
#include "saga/worker/sql.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INBOX_PAUSE_US       (60 * (int64_t)US_PER_S) /* as inbox.maintain wants to be called */
#define MAINTENANCE_AGAIN_US (60 * (int64_t)US_PER_S)

/* --- commands arrive -------------------------------------------------------------------------- */

static void acknowledge(struct execute *execute)
{
    uint64_t tag;
    if (held_ack(execute->held, &tag)) {
        FAILPOINT("execute-before-ack");
        broker_ack(execute->broker, tag, true);
    }
}

void execute_refuse(struct execute *execute, struct held_message *message, const char *why)
{
    struct body *body = body_of(message);
    char id[UUID_TEXT_BYTES] = "-";
    if (body->has_id) {
        uuid_format(&body->saga_id, id);
    }
    log_warn("command rejected to the dead-letter queue", LOG_STR("why", why), LOG_STR("saga", id),
             LOG_STR("step", body->step), LOG_STR("action", body->action),
             LOG_INT("delivery_tag", message->tag));
    metric_add(execute->worker->metrics.dead_lettered_commands, 1);
    if (!message->is_void) {
        broker_reject(execute->broker, message->tag);
    }
    held_refuse(execute->held, message);
}

static void on_delivery(void *data, const struct broker_delivery *delivery)
{
    struct execute *execute = data;
    struct error error;
    struct held_message *message;
    if (held_receive(execute->held, delivery->tag, delivery->body.bytes, &message, &error) < 0) {
        broker_reconnect(execute->broker, error.message);
        return;
    }
    message->redelivered = delivery->redelivered;
    message->arrived_us = loop_now_us(execute->worker->loop);
    buffer_append(&message->body, delivery->body.text, delivery->body.bytes);
    if (message->body.failed) {
        execute_refuse(execute, message, "its body is larger than body-bytes-max");
    } else if (body_read_command((const char *)buffer_data(&message->body),
                                 buffer_length(&message->body), &execute->worker->settings.json,
                                 delivery->routing_key.text, delivery->routing_key.bytes,
                                 body_of(message), &error) < 0) {
        execute_refuse(execute, message, error.message);
    }
    acknowledge(execute);
}

/* --- which queues ----------------------------------------------------------------------------- */

static bool has_participant(const struct execute *execute, const char *name)
{
    for (int i = 0; i < execute->participant_count; i++) {
        if (strcmp(execute->participants[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void add_participant(struct execute *execute, const char *name)
{
    if (has_participant(execute, name)) {
        return;
    }
    if (execute->participant_count == PARTICIPANTS_MAX) {
        log_error("too many participants, this one is not served", LOG_STR("participant", name),
                  LOG_INT("allowed", PARTICIPANTS_MAX));
        return;
    }
    char *kept = execute->participants[execute->participant_count++];
    (void)snprintf(kept, PARTICIPANT_BYTES, "%s", name);
}

/* Those that the settings name, and those that have handlers and match. True when they have
 * changed. A participant whose last handler went stays until the next connection: what is in its
 * queue is answered unknown_action. */
static bool find_participants(struct execute *execute)
{
    const struct settings *settings = &execute->worker->settings;
    int before = execute->participant_count;
    for (int i = 0; i < settings->pattern_count; i++) {
        const char *name = settings_named_participant(settings, i);
        if (name) {
            add_participant(execute, name);
        }
    }
    char name[PARTICIPANT_BYTES];
    for (int at = 0; actions_next_participant(&execute->actions, &at, name, sizeof name);) {
        if (settings_serve(settings, name)) {
            add_participant(execute, name);
        }
    }
    return execute->participant_count != before;
}

static int consume_participant(struct execute *execute, const char *participant,
                               struct error *error)
{
    char queue[TOPOLOGY_QUEUE_BYTES];
    int rc = topology_declare_participant(execute->broker, participant, error);
    if (rc == 0) {
        rc = topology_command_queue(participant, queue, error);
    }
    if (rc == 0) {
        rc = broker_consume(execute->broker, queue, participant, false,
                            execute->worker->settings.prefetch, error);
    }
    return rc;
}

static void on_broker_up(void *data, struct broker *broker)
{
    struct execute *execute = data;
    struct error error;
    assert(held_outstanding(execute->held) == 0);
    int capacity = execute->participant_count * execute->worker->settings.prefetch;
    if (held_resize(execute->held, capacity, &error) < 0 ||
        topology_declare_base(broker, &error) < 0) {
        broker_reconnect(broker, error.message);
        return;
    }
    for (int i = 0; i < execute->participant_count; i++) {
        if (consume_participant(execute, execute->participants[i], &error) < 0) {
            broker_reconnect(broker, error.message);
            return;
        }
    }
    link_up(&execute->broker_link);
}

static void on_broker_down(void *data, struct broker *broker, const struct error *why,
                           bool channel_only)
{
    (void)broker;
    (void)channel_only;
    struct execute *execute = data;
    held_void(execute->held);
    if (!execute->worker->draining && !execute->reconnecting) {
        link_down(&execute->broker_link, why);
    }
    execute->reconnecting = false;
}

static void on_consumer_cancelled(void *data, const char *consumer_tag)
{
    struct execute *execute = data;
    char why[TOPOLOGY_QUEUE_BYTES + 64];
    (void)snprintf(why, sizeof why, "the queue of %s was deleted or moved", consumer_tag);
    broker_reconnect(execute->broker, why);
}

/* --- handlers --------------------------------------------------------------------------------- */

static int read_handlers(struct execute *execute, const struct pg_result *rows, struct error *error)
{
    struct actions fresh = {0};
    for (int row = 0; row < pg_result_rows(rows); row++) {
        int rc = actions_add(&fresh, &execute->actions, pg_text(rows, row, 0),
                             pg_bool(rows, row, 1), execute->worker->settings.command_batch, error);
        if (rc < 0) {
            actions_free(&fresh);
            return rc;
        }
    }
    actions_free(&execute->actions);
    execute->actions = fresh;
    return 0;
}

static void consume_what_there_is(struct execute *execute)
{
    if (!find_participants(execute)) {
        if (execute->participant_count == 0 && !execute->said_no_handlers) {
            execute->said_no_handlers = true;
            log_info("no handlers are registered yet: nothing to execute", );
        }
        return;
    }
    for (int i = 0; i < execute->participant_count; i++) {
        log_info("executing", LOG_STR("participant", execute->participants[i]));
    }
    if (!execute->broker_started) {
        execute->broker_started = true;
        broker_start(execute->broker);
    } else {
        /* Queues are declared while connecting only. What is held comes again, and its outcome is
         * repeated; new participants are rare. */
        execute->reconnecting = broker_is_up(execute->broker);
        broker_reconnect(execute->broker, "a participant was added");
    }
}

static void on_handlers(void *data, struct pg_result *result, const struct error *failure)
{
    struct execute *execute = data;
    struct error error;
    if (failure || !execute->schema_is_right) {
        return; /* the sync's callback gets it too */
    }
    if (read_handlers(execute, result, &error) < 0) {
        log_failure(LOG_LEVEL_ERROR, "handlers stay as they were", &error);
        return;
    }
    consume_what_there_is(execute);
}

static void on_handlers_loaded(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct execute *execute = data;
    if (failure && failure->retry != RETRY_RECONNECT) {
        log_failure(LOG_LEVEL_ERROR, "handlers could not be read", failure);
    }
    execute_job_done(execute);
}

static void on_maintained(void *data, struct pg_result *result, const struct error *failure)
{
    (void)data;
    if (!failure && (pg_int(result, 0, 0) > 0 || pg_int(result, 0, 1) > 0)) {
        log_info("partitions of outcomes", LOG_INT("created", pg_int(result, 0, 0)),
                 LOG_INT("dropped", pg_int(result, 0, 1)));
    }
}

/* Soon again, and not as late as after one that worked. 55P03: somebody uses a partition that is to
 * be dropped, or another worker is at it. */
static void on_maintenance_over(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct execute *execute = data;
    if (failure && failure->retry != RETRY_RECONNECT) {
        execute->maintenance_due_us = loop_now_us(execute->worker->loop) + MAINTENANCE_AGAIN_US;
        if (strcmp(failure->sqlstate, "55P03") != 0) {
            log_failure(LOG_LEVEL_ERROR, "partitions of outcomes could not be made", failure);
        }
    }
    execute_job_done(execute);
}

static void on_inbox_maintained(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct execute *execute = data;
    if (failure && failure->retry != RETRY_RECONNECT) {
        log_failure(LOG_LEVEL_WARN, "the inbox's partitions could not be kept", failure);
    }
    execute_job_done(execute);
}

static bool start_statement(struct execute *execute, const struct pg_statement *statement,
                            const struct pg_params *params, pg_callback *callback,
                            pg_callback *over)
{
    struct error error;
    execute->is_busy = true;
    if (pg_session_send(execute->session, statement, params, callback, execute, &error) < 0 ||
        pg_session_sync(execute->session, over, execute, &error) < 0) {
        pg_session_reconnect(execute->session, error.message);
    }
    return true;
}

static bool start_look(struct execute *execute)
{
    const struct settings *settings = &execute->worker->settings;
    int64_t now_us = loop_now_us(execute->worker->loop);
    if (execute->handlers_due_us <= now_us) {
        execute->handlers_due_us = now_us + settings->handler_poll_us;
        return start_statement(execute, &sql_worker_load_handlers, NULL, on_handlers,
                               on_handlers_loaded);
    }
    if (execute->maintenance_due_us <= now_us) {
        execute->maintenance_due_us = now_us + settings->maintenance_us;
        pg_params_reset(&execute->params);
        pg_params_int8(&execute->params, settings->outcome_keep_us);
        return start_statement(execute, &sql_worker_maintain_outcomes, &execute->params,
                               on_maintained, on_maintenance_over);
    }
    if (execute->inbox_due_us <= now_us) {
        execute->inbox_due_us = now_us + INBOX_PAUSE_US;
        return start_statement(execute, &sql_worker_maintain_inbox, NULL, NULL,
                               on_inbox_maintained);
    }
    return false;
}

/* --- what comes next -------------------------------------------------------------------------- */

void execute_job_done(struct execute *execute)
{
    execute->is_busy = false;
    acknowledge(execute);
    if (execute->draining) {
        worker_role_drained(execute->worker);
    }
}

/* Before the loop sleeps: all that has arrived is here. */
static bool choose_next(void *data)
{
    struct execute *execute = data;
    if (execute->is_busy || !execute->is_working || execute->draining ||
        !pg_session_is_up(execute->session)) {
        return false;
    }
    if (start_look(execute) || execute_start_batch(execute)) {
        return true;
    }
    int64_t next_us = held_next_us(execute->held);
    if (next_us < execute->pace.not_before_us) {
        next_us = execute->pace.not_before_us;
    }
    if (execute->handlers_due_us < next_us) {
        next_us = execute->handlers_due_us;
    }
    if (execute->maintenance_due_us < next_us) {
        next_us = execute->maintenance_due_us;
    }
    if (execute->inbox_due_us < next_us) {
        next_us = execute->inbox_due_us;
    }
    loop_timer_arm_at(execute->wake_up, next_us);
    return false;
}

static void on_wake_up(void *data)
{
    (void)data; /* the loop has turned, and choose_next comes before it sleeps again */
}

/* --- the session ------------------------------------------------------------------------------ */

static void on_schema(void *data, struct pg_result *result, const struct error *failure)
{
    struct execute *execute = data;
    struct error error;
    if (failure && failure->retry == RETRY_RECONNECT) {
        return;
    }
    if (schema_check(result, failure, "participant", &error) < 0) {
        worker_cannot_begin(execute->worker, execute->session, &error);
        return;
    }
    execute->schema_is_right = true;
    execute->inbox_due_us = schema_has(result, "inbox") ? 0 : INT64_MAX;
}

static void on_ready(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct execute *execute = data;
    if (failure && failure->retry != RETRY_RECONNECT && execute->schema_is_right) {
        pg_session_reconnect(execute->session, failure->message); /* LISTEN was refused */
    }
    if (failure || !execute->schema_is_right) {
        return; /* on_schema or on_session_down deal with it */
    }
    link_up(&execute->session_link);
    execute->is_working = true;
    execute->handlers_due_us = 0;
}

static void on_session_up(void *data, struct pg_session *session)
{
    struct execute *execute = data;
    struct error error;
    execute->schema_is_right = false;
    if (pg_session_send(session, &sql_worker_schema_version, NULL, on_schema, execute, &error) <
            0 ||
        pg_session_send_text(session, "LISTEN saga_handler", NULL, NULL, &error) < 0 ||
        pg_session_sync(session, on_ready, execute, &error) < 0) {
        pg_session_reconnect(session, error.message);
    }
}

static void on_session_down(void *data, struct pg_session *session, const struct error *why)
{
    (void)session;
    struct execute *execute = data;
    execute->is_working = false;
    if (execute->is_busy) {
        execute_connection_lost(execute, why);
    }
    if (!execute->worker->draining) {
        link_down(&execute->session_link, why);
    }
}

static void on_notify(void *data, struct pg_session *session, const char *channel,
                      const char *payload)
{
    (void)session;
    (void)channel;
    (void)payload;
    struct execute *execute = data;
    execute->handlers_due_us = 0;
}

/* --- life ------------------------------------------------------------------------------------- */

static int open_all(struct execute *execute, struct error *error)
{
    struct worker *worker = execute->worker;
    struct pg_session_options session = {
        .on_up = on_session_up,
        .on_down = on_session_down,
        .on_notify = on_notify,
        .data = execute,
    };
    struct broker_options broker = {
        .on_up = on_broker_up,
        .on_down = on_broker_down,
        .on_delivery = on_delivery,
        .on_cancel = on_consumer_cancelled,
        .data = execute,
    };
    int rc = worker_open_session(worker, "execute", &session, &execute->session, error);
    if (rc == 0) {
        rc = worker_open_broker(worker, "execute", &broker, &execute->broker, error);
    }
    if (rc == 0) {
        rc = held_create(&execute->held, worker->settings.prefetch, worker->settings.json.bytes_max,
                         sizeof(struct body), error);
    }
    if (rc == 0) {
        rc = loop_timer_create(worker->loop, on_wake_up, NULL, &execute->wake_up, error);
    }
    if (rc == 0) {
        rc = loop_hook_add(worker->loop, choose_next, execute, &execute->hook, error);
    }
    return rc;
}

int execute_create(struct execute **ret_execute, struct worker *worker, struct error *error)
{
    struct execute *execute = calloc(1, sizeof *execute);
    if (!execute) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_NEVER, "no memory");
    }
    execute->worker = worker;
    link_init(&execute->session_link, worker, "PostgreSQL", "execute");
    link_init(&execute->broker_link, worker, "RabbitMQ", "execute");
    pg_params_init(&execute->params);
    int rc = open_all(execute, error);
    if (rc < 0) {
        execute_destroy(execute);
        return rc;
    }
    pg_session_start(execute->session);
    *ret_execute = execute;
    return 0;
}

void execute_destroy(struct execute *execute)
{
    if (!execute) {
        return;
    }
    struct error stopped;
    error_set(&stopped, ERROR_STATE, RETRY_RECONNECT, "the worker stops");
    execute->draining = true;
    loop_hook_remove(execute->hook);
    loop_timer_destroy(execute->wake_up);
    pg_session_destroy(execute->session);
    if (execute->is_busy) {
        execute_connection_lost(execute, &stopped);
    }
    broker_destroy(execute->broker);
    actions_free(&execute->actions);
    held_destroy(execute->held);
    pg_params_free(&execute->params);
    free(execute);
}

void execute_drain(struct execute *execute)
{
    if (execute) {
        execute->draining = true;
    }
}

void execute_reload(struct execute *execute)
{
    if (execute) {
        execute->handlers_due_us = 0;
    }
}

bool execute_is_idle(const struct execute *execute)
{
    return !execute || !execute->is_busy;
}

bool execute_ready(const struct execute *execute, struct buffer *ret_reasons)
{
    if (!execute) {
        return true;
    }
    bool is_ready = true;
    if (!execute->is_working) {
        buffer_append_text(ret_reasons, "execute: no connection to PostgreSQL\n");
        is_ready = false;
    }
    if (execute->broker_started && !broker_is_up(execute->broker)) {
        buffer_append_text(ret_reasons, "execute: no connection to RabbitMQ\n");
        is_ready = false;
    }
    return is_ready;
}
