/* execute_batch.c: one batch of commands: run, commit, acknowledge; and what becomes of one that
 * fails. */
#include "saga/worker/execute_private.h"

#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"
#include "saga/worker/roll_back.h"
#include "saga/worker/sql.h"
#include <assert.h>
#include <string.h>

/* A command that keeps failing alone is answered `transient`, so that the saga's own policy goes on
 * with it: after some three seconds of trying, when the trouble is not over by then. */
#define TRIES_MAX 8

/* What saga.execute_batch says of a command that is none. */
static const char verdict_unreadable[] = "unreadable";

static void run_next_range(struct execute *execute);
static void give_up(struct execute *execute, struct held_message *message);

static int64_t now_us(const struct execute *execute)
{
    return loop_now_us(execute->worker->loop);
}

static void note_failure(struct execute *execute, const struct error *failure)
{
    if (failure && execute->failure.code == 0) {
        execute->failure = *failure;
    }
}

static bool accept_command(void *data, const struct held_message *message)
{
    struct execute *execute = data;
    bool is_suspected = message->losses >= HELD_LOSSES_SUSPECT;
    if (execute->is_suspected || (is_suspected && execute->taken > 0) ||
        !actions_take(&execute->actions, body_of(message)->action)) {
        return false;
    }
    execute->is_suspected = is_suspected;
    execute->taken++;
    return true;
}

bool execute_start_batch(struct execute *execute)
{
    int count_max = execute->worker->settings.command_batch;
    if (pace_holds(&execute->pace, now_us(execute), held_waiting(execute->held) >= count_max)) {
        return false;
    }
    actions_begin(&execute->actions);
    execute->taken = 0;
    execute->is_suspected = false;
    int count = held_take(execute->held, now_us(execute), count_max, accept_command, execute,
                          execute->messages);
    if (count == 0) {
        return false;
    }
    metric_observe(execute->worker->metrics.command_batch, count);
    pace_started(&execute->pace, count);
    execute->is_busy = true;
    split_start(&execute->split, count);
    run_next_range(execute);
    return true;
}

/* --- the transaction -------------------------------------------------------------------------- */

static void send_text(struct execute *execute, const char *sql)
{
    struct error error;
    if (pg_session_send_text(execute->session, sql, NULL, NULL, &error) < 0) {
        note_failure(execute, &error);
    }
}

/* Where this fails the connection is gone, and on_down comes after the callbacks of what was sent.
 */
static void sync_then(struct execute *execute, pg_callback *next)
{
    struct error error;
    if (pg_session_sync(execute->session, next, execute, &error) < 0) {
        note_failure(execute, &error);
        pg_session_reconnect(execute->session, error.message);
    }
}

static void on_rolled_back(void *data, struct pg_result *result, const struct error *failure);
static void on_executed(void *data, struct pg_result *result, const struct error *failure);
static void on_committed(void *data, struct pg_result *result, const struct error *failure);
static void settle_range(struct execute *execute);

static void on_answer(void *data, struct pg_result *result, const struct error *failure)
{
    struct execute *execute = data;
    note_failure(execute, failure);
    if (result) {
        execute->answer = pg_result_keep(result);
    }
}

static void begin(struct execute *execute, const struct pg_statement *statement)
{
    struct error error;
    assert(!execute->answer);
    error_clear(&execute->failure);
    send_text(execute, "BEGIN");
    if (execute->failure.code == 0 && /* else it would commit by itself */
        pg_session_send(execute->session, statement, &execute->params, on_answer, execute, &error) <
            0) {
        note_failure(execute, &error);
    }
    sync_then(execute, on_executed);
}

static void item_body(struct execute *execute, const struct held_message *message)
{
    pg_params_item_bytes(&execute->params, buffer_data(&message->body),
                         buffer_length(&message->body));
}

static void run_next_range(struct execute *execute)
{
    int first;
    int count;
    if (!split_range(&execute->split, &first, &count)) {
        pace_finished(&execute->pace, now_us(execute), execute->worker->settings.batch_pause_us);
        execute_job_done(execute);
        return;
    }
    const struct held_message *only = execute->messages[first];
    if (count == 1 && (only->tries >= TRIES_MAX || only->losses >= HELD_LOSSES_MAX)) {
        give_up(execute, execute->messages[first]);
        return;
    }
    execute->giving_up = false;
    pg_params_reset(&execute->params);
    pg_params_array_begin(&execute->params, PG_TYPE_JSONB);
    for (int i = first; i < first + count; i++) {
        item_body(execute, execute->messages[i]);
    }
    pg_params_array_end(&execute->params);
    pg_params_array_begin(&execute->params, PG_TYPE_TEXT);
    for (int i = first; i < first + count; i++) {
        pg_params_item_text(&execute->params, body_of(execute->messages[i])->action);
    }
    pg_params_array_end(&execute->params);
    begin(execute, &sql_worker_execute_batch);
}

/* Answers for a command that cannot be carried out here and now. */
static void give_up(struct execute *execute, struct held_message *message)
{
    execute->giving_up = true;
    pg_params_reset(&execute->params);
    pg_params_bytes(&execute->params, PG_TYPE_JSONB, buffer_data(&message->body),
                    buffer_length(&message->body));
    pg_params_text(&execute->params, message->last_sqlstate[0] ? message->last_sqlstate : "failed");
    pg_params_text(&execute->params, message->last_failure);
    begin(execute, &sql_worker_reply_transient);
}

static bool group_failed(struct execute *execute, const struct error *failure)
{
    note_failure(execute, failure);
    if (execute->failure.code == 0) {
        return false;
    }
    pg_result_free(execute->answer);
    execute->answer = NULL;
    roll_back(execute->session, on_rolled_back, execute); /* or on_down comes */
    return true;
}

/* An answer for each command, or nothing of this may be committed. */
static bool is_complete(const struct execute *execute, struct error *error)
{
    int first;
    int count;
    bool asked[COMMANDS_MAX] = {false};
    if (execute->giving_up) {
        return true;
    }
    (void)split_range(&execute->split, &first, &count);
    int rows = pg_result_rows(execute->answer);
    for (int row = 0; row < rows; row++) {
        int64_t ordinal = pg_int(execute->answer, row, 0);
        if (ordinal < 1 || ordinal > count || asked[ordinal - 1]) {
            rows = -1;
            break;
        }
        asked[ordinal - 1] = true;
    }
    if (rows != count) {
        error_set(error, ERROR_PROTOCOL, RETRY_BUG,
                  "saga.execute_batch did not answer each of %d commands once", count);
        return false;
    }
    return true;
}

static void on_executed(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct execute *execute = data;
    struct error error;
    if (group_failed(execute, failure)) {
        return;
    }
    if (!is_complete(execute, &error)) {
        (void)group_failed(execute, &error);
        return;
    }
    FAILPOINT("execute-between-write-and-commit");
    FAILPOINT("execute-before-commit");
    send_text(execute, "COMMIT");
    sync_then(execute, on_committed);
}

static void on_committed(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct execute *execute = data;
    if (group_failed(execute, failure)) {
        return;
    }
    FAILPOINT("execute-after-commit");
    settle_range(execute);
    pg_result_free(execute->answer);
    execute->answer = NULL;
    run_next_range(execute);
}

/* --- it worked -------------------------------------------------------------------------------- */

/* What a handler says of its failure may hold what it was given, so it stands in the saga's errors
 * and not here; its code does not. */
static void tell_trouble(struct execute *execute, const struct held_message *message,
                         const char *outcome, const char *code)
{
    char id[UUID_TEXT_BYTES];
    uuid_format(&body_of(message)->saga_id, id);
    const char *what = actions_find(&execute->actions, body_of(message)->action)
                           ? "a command was not carried out"
                           : "no handler is registered for the action";
    log_warn(what, LOG_STR("saga", id), LOG_STR("step", body_of(message)->step),
             LOG_STR("action", body_of(message)->action),
             LOG_INT("attempt", body_of(message)->attempt), LOG_STR("outcome", outcome),
             LOG_STR("code", code));
}

static void count_outcome(struct execute *execute, const struct held_message *message, int row)
{
    const char *verdict = pg_text(execute->answer, row, 1);
    const char *outcome = pg_text(execute->answer, row, 2);
    const char *trouble = pg_text(execute->answer, row, 3);
    const char *const labels[] = {"verdict", verdict, "outcome", outcome ? outcome : "none", NULL};
    metric_add(metrics_get(execute->worker->daemon->metrics, METRIC_COUNTER,
                           "sagapost_saga_commands_total",
                           "commands carried out, by verdict and outcome", labels),
               1);
    if (trouble && outcome && strcmp(outcome, "failed") != 0) {
        const char *code = pg_text(execute->answer, row, 4);
        tell_trouble(execute, message, outcome, code ? code : "none");
    }
}

static void settle_range(struct execute *execute)
{
    int first = 0;
    int count = 0;
    bool found = split_range(&execute->split, &first, &count);
    assert(found);
    int rows = execute->giving_up ? 0 : pg_result_rows(execute->answer);
    for (int i = first; i < first + count; i++) {
        struct action *action =
            actions_find(&execute->actions, body_of(execute->messages[i])->action);
        if (action) {
            actions_worked(action, execute->worker->settings.command_batch);
        }
    }
    for (int row = 0; row < rows; row++) {
        struct held_message *message =
            execute->messages[first + (int)pg_int(execute->answer, row, 0) - 1];
        if (strcmp(pg_text(execute->answer, row, 1), verdict_unreadable) == 0) {
            execute_refuse(execute, message, pg_text(execute->answer, row, 3));
            continue;
        }
        count_outcome(execute, message, row);
        metric_observe(execute->worker->metrics.command_latency,
                       (double)(now_us(execute) - message->arrived_us) / US_PER_S);
        held_settle(execute->held, message);
    }
    if (execute->giving_up) {
        held_settle(execute->held, execute->messages[first]);
    }
    split_done(&execute->split);
}

/* --- it failed -------------------------------------------------------------------------------- */

/* 40P01: two batches that lock the same rows in different orders. */
static void slow_down(struct execute *execute, int first, int count)
{
    metric_add(execute->worker->metrics.deadlocks, 1);
    for (int i = first; i < first + count; i++) {
        struct action *action =
            actions_find(&execute->actions, body_of(execute->messages[i])->action);
        if (action && action->taken > 0 && actions_deadlocked(action, count)) {
            log_warn("a deadlock: this action is run in smaller batches; register its handler with "
                     "a lock",
                     LOG_STR("action", action->name), LOG_INT("batch", action->limit));
        }
        if (action) {
            action->taken = 0; /* once per batch */
        }
    }
}

static void culprit_found(struct execute *execute, struct held_message *message)
{
    const struct error *failure = &execute->failure;
    int64_t pause_us;
    enum culprit what = split_culprit(failure, ++message->tries, &pause_us);
    if (!execute->giving_up) {
        memcpy(message->last_sqlstate, failure->sqlstate, sizeof message->last_sqlstate);
        body_copy_text(message->last_failure, sizeof message->last_failure, failure->message);
    }
    if (execute->giving_up && failure->retry != RETRY_NOW && failure->retry != RETRY_LATER &&
        failure->retry != RETRY_NEVER) {
        log_failure(LOG_LEVEL_ERROR, "a command can be neither carried out nor answered", failure);
        execute_refuse(execute, message, "it can be neither carried out nor answered");
        return;
    }
    if (what == CULPRIT_GIVE_UP) {
        message->tries = TRIES_MAX; /* the next try answers for it */
        pause_us = 0;
    }
    log_failure(LOG_LEVEL_WARN, "a command failed alone, it is tried again", failure,
                LOG_STR("action", body_of(message)->action), LOG_INT("tries", message->tries));
    held_put_back(execute->held, message, now_us(execute) + pause_us);
}

static void on_rolled_back(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct execute *execute = data;
    if (failure) {
        pg_session_reconnect(execute->session, failure->message);
        return; /* on_down comes */
    }
    int first = 0;
    int count = 0;
    bool found = split_range(&execute->split, &first, &count);
    assert(found);
    metric_add(execute->worker->metrics.batch_failures_commands, 1);
    log_failure(LOG_LEVEL_DEBUG, "a batch failed", &execute->failure, LOG_INT("commands", count));
    if (strcmp(execute->failure.sqlstate, "40P01") == 0) {
        slow_down(execute, first, count);
    }
    if (!split_failed(&execute->split)) {
        culprit_found(execute, execute->messages[first]);
    }
    run_next_range(execute);
}

/* Whether the last COMMIT took place is unknown: what is carried out twice gets its outcome
 * repeated. */
void execute_connection_lost(struct execute *execute, const struct error *why)
{
    int first;
    int count;
    if (split_range(&execute->split, &first, &count)) { /* the one that was running */
        for (int i = first; i < first + count; i++) {
            struct held_message *message = execute->messages[i];
            message->losses++;
            memcpy(message->last_sqlstate, why->sqlstate, sizeof message->last_sqlstate);
            body_copy_text(message->last_failure, sizeof message->last_failure, why->message);
        }
    }
    while (split_range(&execute->split, &first, &count)) {
        for (int i = first; i < first + count; i++) {
            held_put_back(execute->held, execute->messages[i], 0);
        }
        split_done(&execute->split);
    }
    pg_result_free(execute->answer);
    execute->answer = NULL;
    execute_job_done(execute);
}
