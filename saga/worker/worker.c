/* saga-worker: drives sagas (orchestrate.c) and runs SQL handlers (execute.c). Run as many as you
 * like: row locks order them, there is no leader. This file: start, stop, and what both roles
 * share. */
#include "saga/worker/worker.h"

#include "outbox/runtime/log.h"
#include "saga/machine/machine.h"
#include "saga/worker/execute.h"
#include "saga/worker/orchestrate.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double batch_bounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000};
#define BATCH_BOUND_COUNT ((int)(sizeof batch_bounds / sizeof batch_bounds[0]))

static struct metric *counter(struct metrics *metrics, const char *name, const char *help,
                              const char *label, const char *value)
{
    const char *const labels[] = {label, value, NULL};
    return metrics_get(metrics, METRIC_COUNTER, name, help, label ? labels : NULL);
}

static void make_shared_metrics(struct worker_metrics *made, struct metrics *metrics)
{
    static const char dead[] = "sagapost_saga_dead_lettered_total";
    static const char dead_help[] = "deliveries that could not be read";
    static const char failures[] = "sagapost_saga_batch_failures_total";
    static const char failures_help[] = "transactions that failed; their batch was halved";
    static const char size[] = "sagapost_saga_batch_size";
    static const char size_help[] = "deliveries in one transaction";
    made->dead_lettered_replies = counter(metrics, dead, dead_help, "role", "orchestrate");
    made->dead_lettered_commands = counter(metrics, dead, dead_help, "role", "execute");
    made->batch_failures_replies = counter(metrics, failures, failures_help, "role", "orchestrate");
    made->batch_failures_commands = counter(metrics, failures, failures_help, "role", "execute");
    made->reply_batch = metrics_get_histogram(metrics, size, size_help,
                                              (const char *const[]){"role", "orchestrate", NULL},
                                              batch_bounds, BATCH_BOUND_COUNT);
    made->command_batch = metrics_get_histogram(metrics, size, size_help,
                                                (const char *const[]){"role", "execute", NULL},
                                                batch_bounds, BATCH_BOUND_COUNT);
}

static void make_metrics(struct worker_metrics *made, struct metrics *metrics)
{
    make_shared_metrics(made, metrics);
    made->replies = counter(metrics, "sagapost_saga_replies_total", "replies taken", NULL, NULL);
    made->replies_ignored = counter(metrics, "sagapost_saga_replies_ignored_total",
                                    "replies that were late or repeated", NULL, NULL);
    made->replies_unknown_saga =
        counter(metrics, "sagapost_saga_replies_unknown_saga_total",
                "replies for sagas that have ended or never were", NULL, NULL);
    made->sagas_busy = counter(metrics, "sagapost_saga_busy_total",
                               "works put back because another worker had the saga", NULL, NULL);
    for (int i = OPERATION_ACTION; i <= OPERATION_PROBE; i++) {
        made->commands_sent[i] =
            counter(metrics, "sagapost_saga_commands_sent_total", "commands sent, by operation",
                    "operation", saga_operation_name((enum saga_operation)i));
    }
    made->retries = counter(metrics, "sagapost_saga_retries_total",
                            "commands sent again, of actions and undos", NULL, NULL);
    made->undos = counter(metrics, "sagapost_saga_undos_total", "undos begun", NULL, NULL);
    made->unmappable = counter(metrics, "sagapost_saga_unmappable_total",
                               "commands whose input could not be built", NULL, NULL);
    made->intents_applied =
        counter(metrics, "sagapost_saga_intents_total", "intents, by answer", "answer", "applied");
    made->intents_refused =
        counter(metrics, "sagapost_saga_intents_total", "intents, by answer", "answer", "refused");
    made->timers =
        counter(metrics, "sagapost_saga_timers_total", "sagas that were woken", NULL, NULL);
    made->timers_late = counter(metrics, "sagapost_saga_timers_late_total",
                                "sagas woken more than 100 ms after their time", NULL, NULL);
    made->timer_lateness = metrics_get_histogram(
        metrics, "sagapost_saga_timer_lateness_seconds", "from a timer's time to its firing", NULL,
        metrics_latency_bounds, metrics_latency_bound_count);
    made->stalled = counter(metrics, "sagapost_saga_stalled_total",
                            "sagas found waiting for nothing; there should be none", NULL, NULL);
    made->stuck =
        metrics_get(metrics, METRIC_GAUGE, "sagapost_saga_stuck", "sagas that are stuck now", NULL);
    made->lock_waits = metrics_get(metrics, METRIC_GAUGE, "sagapost_saga_lock_waits",
                                   "sagas that wait for a lock now", NULL);
    made->lock_wait_oldest =
        metrics_get(metrics, METRIC_GAUGE, "sagapost_saga_lock_wait_oldest_seconds",
                    "how long the oldest of them has waited", NULL);
    made->deadlocks = counter(metrics, "sagapost_saga_deadlocks_total",
                              "batches of commands that met a deadlock", NULL, NULL);
    made->command_latency =
        metrics_get_histogram(metrics, "sagapost_saga_command_latency_seconds",
                              "from the arrival of a command to the commit of its transaction",
                              NULL, metrics_latency_bounds, metrics_latency_bound_count);
}

void link_init(struct link *link, struct worker *worker, const char *server, const char *role)
{
    struct metrics *metrics = worker->daemon->metrics;
    bool is_postgres = strcmp(server, "PostgreSQL") == 0;
    const char *const labels[] = {"server", is_postgres ? "postgres" : "rabbitmq", "role", role,
                                  NULL};
    *link = (struct link){
        .server = server,
        .role = role,
        .losses = metrics_get(metrics, METRIC_COUNTER, "sagapost_saga_connection_losses_total",
                              "connections lost, of those that were up", labels),
        .silences = metrics_get(metrics, METRIC_COUNTER, "sagapost_saga_silences_total",
                                "of those, given up because the server said nothing", labels),
    };
}

void link_up(struct link *link)
{
    if (link->is_down_said) {
        log_info("connected again", LOG_STR("server", link->server), LOG_STR("role", link->role));
    } else {
        log_info("connected", LOG_STR("server", link->server), LOG_STR("role", link->role));
    }
    link->is_down_said = false;
    link->was_up = true;
    link->said[0] = '\0';
}

void link_down(struct link *link, const struct error *why)
{
    if (link->was_up) {
        metric_add(link->losses, 1);
        metric_add(link->silences, why->code == ERROR_TIMEOUT ? 1 : 0);
    }
    link->was_up = false;
    if (strcmp(link->said, why->message) == 0) {
        return;
    }
    enum log_level level = why->retry == RETRY_NEVER ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN;
    log_failure(level, "no connection, trying again", why, LOG_STR("server", link->server),
                LOG_STR("role", link->role));
    link->is_down_said = true;
    memcpy(link->said, why->message, sizeof link->said);
}

int worker_open_session(struct worker *worker, const char *role, struct pg_session_options *options,
                        struct pg_session **ret_session, struct error *error)
{
    const struct config *config = worker->daemon->config;
    char name[64];
    (void)snprintf(name, sizeof name, "saga-worker %s", role);
    options->conninfo = config_text(config, "postgres");
    options->application_name = name;
    options->primary_only = true;
    options->connect_timeout_us = config_us(config, "connect-timeout");
    options->statement_timeout_us = worker->settings.statement_timeout_us;
    options->silence_limit_us =
        worker->settings.statement_timeout_us + worker->settings.silence_limit_us;
    options->idle_transaction_timeout_us = worker->settings.statement_timeout_us;
    options->backoff_base_us = config_us(config, "backoff-base");
    options->backoff_cap_us = config_us(config, "backoff-cap");
    return pg_session_create(ret_session, worker->loop, options, error);
}

int worker_open_broker(struct worker *worker, const char *role, struct broker_options *options,
                       struct broker **ret_broker, struct error *error)
{
    const struct config *config = worker->daemon->config;
    char name[64];
    (void)snprintf(name, sizeof name, "saga-worker %s", role);
    options->uri = config_text(config, "amqp");
    options->connection_name = name;
    options->ca_file = config_text(config, "amqp-ca-file");
    options->certificate_file = config_text(config, "amqp-certificate-file");
    options->key_file = config_text(config, "amqp-key-file");
    options->verify_peer = config_bool(config, "amqp-verify");
    options->heartbeat_s = (int)(config_us(config, "amqp-heartbeat") / US_PER_S);
    options->connect_timeout_us = config_us(config, "connect-timeout");
    options->backoff_base_us = config_us(config, "backoff-base");
    options->backoff_cap_us = config_us(config, "backoff-cap");
    options->out_bytes_max = (size_t)1024 * 1024; /* acknowledgements only */
    return broker_create(ret_broker, worker->loop, options, error);
}

void worker_cannot_begin(struct worker *worker, struct pg_session *session, const struct error *why)
{
    if (why->retry == RETRY_NEVER) {
        daemon_finished(worker->daemon, why);
    } else {
        pg_session_reconnect(session, why->message);
    }
}

static int worker_start(struct daemon_context *context, struct error *error)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_NEVER, "no memory");
    }
    context->state = worker;
    worker->daemon = context;
    worker->loop = context->loop;
    int rc = settings_read(context->config, &worker->settings, error);
    if (rc < 0) {
        return rc;
    }
    make_metrics(&worker->metrics, context->metrics);
    if (worker->settings.orchestrate) {
        rc = orchestrate_create(&worker->orchestrate, worker, error);
    }
    if (rc == 0 && worker->settings.execute) {
        rc = execute_create(&worker->execute, worker, error);
    }
    return rc;
}

void worker_role_drained(struct worker *worker)
{
    if (worker->draining && orchestrate_is_idle(worker->orchestrate) &&
        execute_is_idle(worker->execute)) {
        daemon_finished(worker->daemon, NULL);
    }
}

static void worker_drain(struct daemon_context *context)
{
    struct worker *worker = context->state;
    worker->draining = true;
    orchestrate_drain(worker->orchestrate);
    execute_drain(worker->execute);
    worker_role_drained(worker);
}

static void worker_reload(struct daemon_context *context)
{
    struct worker *worker = context->state;
    struct settings fresh;
    struct error error;
    if (settings_read(context->config, &fresh, &error) < 0) {
        log_failure(LOG_LEVEL_ERROR, "settings stay as they were", &error);
        return;
    }
    settings_reload(&worker->settings, &fresh);
    orchestrate_reload(worker->orchestrate);
    execute_reload(worker->execute);
}

static bool worker_ready(void *context, struct buffer *ret_reasons)
{
    const struct worker *worker = ((struct daemon_context *)context)->state;
    bool orchestrate = orchestrate_ready(worker->orchestrate, ret_reasons);
    bool execute = execute_ready(worker->execute, ret_reasons);
    return orchestrate && execute;
}

static void worker_stop(struct daemon_context *context)
{
    struct worker *worker = context->state;
    if (worker) {
        orchestrate_destroy(worker->orchestrate);
        execute_destroy(worker->execute);
        free(worker);
        context->state = NULL;
    }
}

const struct daemon_program worker_program = {
    .name = "saga-worker",
    .usage = "saga-worker [--roles orchestrate,execute] [--actions 'inventory.*'] [--listen "
             "ADDR:PORT]\n\nDrives sagas and runs the SQL handlers of their actions. Run as "
             "many as you like.\n",
    .settings = worker_settings,
    .start = worker_start,
    .drain = worker_drain,
    .reload = worker_reload,
    .ready = worker_ready,
    .stop = worker_stop,
};
