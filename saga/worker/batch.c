#include "saga/worker/batch_private.h"

#include "outbox/runtime/failpoint.h"
#include "saga/worker/roll_back.h"
#include "saga/worker/sql.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A batch is a chain of groups of statements. Each group ends with a sync whose callback, one of
 * the on_* below, decides the next: the road from top to bottom of this file. A failure of any
 * statement ends in batch_fail, the loss of the connection in its callbacks. */

/* A saga of SAGA_STEPS_MAX steps cannot decide more often than that about commands that were not
 * sent: each such answer settles a step or an element, or tells a list. */
#define PASSES_MAX (3 * SAGA_STEPS_MAX + SAGA_ELEMENTS_MAX)

static void on_locked(void *data, struct pg_result *result, const struct error *failure);
static void on_found(void *data, struct pg_result *result, const struct error *failure);
static void read_and_decide(struct batch *batch);
static void look_for_obstacles(struct batch *batch);
static void on_obstacles(void *data, struct pg_result *result, const struct error *failure);
static void on_plans(void *data, struct pg_result *result, const struct error *failure);
static void on_written(void *data, struct pg_result *result, const struct error *failure);
static void on_committed(void *data, struct pg_result *result, const struct error *failure);

int batch_create(struct batch **ret_batch, struct loop *loop, struct pg_session *session,
                 struct plan_cache *plans, size_t memory_bytes_max, batch_finished *finished,
                 void *data, struct error *error)
{
    struct batch *batch = calloc(1, sizeof *batch);
    if (!batch) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_NEVER, "no memory for batches");
    }
    pg_params_init(&batch->params);
    batch->loop = loop;
    batch->session = session;
    batch->plans = plans;
    batch->finished = finished;
    batch->data = data;
    batch->own_works = calloc(BATCH_WORKS_MAX, sizeof *batch->own_works);
    batch->facts = calloc(BATCH_WORKS_MAX, sizeof *batch->facts);
    if (!batch->own_works || !batch->facts ||
        arena_create(&batch->arena, (size_t)64 * 1024, memory_bytes_max, error) < 0) {
        batch_destroy(batch);
        return error_set(error, ERROR_NO_MEMORY, RETRY_NEVER, "no memory for batches");
    }
    *ret_batch = batch;
    return 0;
}

static void release_results(struct batch *batch)
{
    pg_result_free(batch->locked);
    pg_result_free(batch->present);
    pg_result_free(batch->intents);
    pg_result_free(batch->loaded);
    pg_result_free(batch->unsent);
    pg_result_free(batch->unsent_children);
    pg_result_free(batch->reopened);
    pg_result_free(batch->obstacles);
    pg_result_free(batch->decided_locks);
    batch->locked = batch->present = batch->intents = batch->loaded = batch->unsent = NULL;
    batch->reopened = batch->unsent_children = batch->obstacles = NULL;
    batch->decided_locks = NULL;
}

void batch_destroy(struct batch *batch)
{
    if (!batch) {
        return;
    }
    assert(!batch->running);
    release_results(batch);
    decide_free(&batch->decisions);
    pg_params_free(&batch->params);
    if (batch->arena) {
        arena_destroy(batch->arena);
    }
    free(batch->own_works);
    free(batch->facts);
    free(batch);
}

bool batch_is_running(const struct batch *batch)
{
    return batch->running;
}

struct work *batch_works(struct batch *batch, int *ret_count)
{
    *ret_count = batch->work_count;
    return batch->works;
}

const struct fact *batch_facts(const struct batch *batch, int *ret_count)
{
    *ret_count = batch->fact_count;
    return batch->facts;
}

const struct decisions *batch_decisions(const struct batch *batch)
{
    return &batch->decisions;
}

int batch_unmappable(const struct batch *batch)
{
    return batch->unmappable;
}

bool batch_has_reopened(const struct batch *batch)
{
    return batch->reopened && pg_result_rows(batch->reopened) > 0;
}

int64_t batch_locked_at_us(const struct batch *batch)
{
    return batch->locked_at_us;
}

static void note_failure(struct batch *batch, const struct error *failure)
{
    if (failure && batch->failure.code == 0) {
        batch->failure = *failure;
    }
}

static void finish(struct batch *batch)
{
    batch->running = false;
    batch->finished(batch->data, batch->failure.code != 0 ? &batch->failure : NULL);
    if (!batch->running) { /* else `finished` has started the next one already */
        release_results(batch);
    }
}

struct kept_result {
    struct batch *batch;
    struct pg_result **slot;
};

static void on_statement(void *data, struct pg_result *result, const struct error *failure)
{
    struct kept_result *kept = data;
    note_failure(kept->batch, failure);
    if (result && kept->slot) {
        *kept->slot = pg_result_keep(result);
    }
}

void batch_send(struct batch *batch, const struct pg_statement *statement,
                struct pg_result **keep_result)
{
    struct error error;
    struct kept_result *kept = arena_alloc(batch->arena, sizeof *kept);
    if (!kept) {
        error_set(&error, ERROR_NO_MEMORY, RETRY_LATER, "the batch is over its memory limit");
        note_failure(batch, &error);
        return;
    }
    *kept = (struct kept_result){.batch = batch, .slot = keep_result};
    if (pg_session_send(batch->session, statement, &batch->params, on_statement, kept, &error) <
        0) {
        note_failure(batch, &error);
    }
}

static void send_text(struct batch *batch, const char *sql)
{
    struct error error;
    if (pg_session_send_text(batch->session, sql, NULL, NULL, &error) < 0) {
        note_failure(batch, &error);
    }
}

/* Ends a group. Where that fails the connection is gone; the callbacks of what was sent before are
 * still to come, and after them batch_connection_lost. */
static void sync_then(struct batch *batch, pg_callback *next)
{
    struct error error;
    if (pg_session_sync(batch->session, next, batch, &error) < 0) {
        note_failure(batch, &error);
        pg_session_reconnect(batch->session, error.message);
    }
}

/* Whatever had failed before: without a connection there is nothing to try again at once, and what
 * would be tried now would wait for an answer for ever. */
void batch_connection_lost(struct batch *batch, const struct error *why)
{
    if (batch->running) {
        note_failure(batch, why);
        batch->failure.retry = RETRY_RECONNECT;
        finish(batch);
    }
}

static void on_rolled_back(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct batch *batch = data;
    if (failure) {
        pg_session_reconnect(batch->session, failure->message);
        return; /* batch_connection_lost comes */
    }
    finish(batch);
}

/* At the head of each on_*: true when the group before has failed, and that is being dealt with. */
static bool group_failed(struct batch *batch, const struct error *failure)
{
    note_failure(batch, failure);
    if (batch->failure.code == 0) {
        return false;
    }
    roll_back(batch->session, on_rolled_back, batch);
    return true;
}

static void batch_start(struct batch *batch, struct work *works, int count)
{
    assert(!batch->running);
    assert(count >= 0 && count <= BATCH_WORKS_MAX);
    release_results(batch);
    arena_reset(batch->arena);
    plan_cache_trim(batch->plans);
    error_clear(&batch->failure);
    batch->running = true;
    batch->works = works;
    batch->work_count = count;
    batch->fact_count = 0;
    batch->passes = 0;
    batch->unmappable = 0;
    decide_begin(&batch->decisions, batch->arena, 0, 0);
    for (int i = 0; i < count; i++) {
        works[i].result = WORK_OPEN;
        works[i].detail = NULL;
    }
    send_text(batch, "BEGIN");
}

void batch_run(struct batch *batch, struct work *works, int count)
{
    assert(count > 0);
    batch_start(batch, works, count);
    batch_send_lock(batch);
    sync_then(batch, on_locked);
}

/* Intents: their rows are locked first, and say which sagas to lock. */
static void on_intents(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct batch *batch = data;
    if (group_failed(batch, failure)) {
        return;
    }
    struct error error;
    if (batch_read_intents(batch, &error) < 0) {
        group_failed(batch, &error);
        return;
    }
    if (batch->work_count == 0) {
        send_text(batch, "COMMIT");
        sync_then(batch, on_committed);
        return;
    }
    batch_send_lock(batch);
    sync_then(batch, on_locked);
}

void batch_run_intents(struct batch *batch, int count_max, const int64_t *skipped,
                       int skipped_count)
{
    assert(count_max > 0 && count_max <= BATCH_WORKS_MAX);
    batch_start(batch, batch->own_works, 0);
    pg_params_reset(&batch->params);
    pg_params_int8(&batch->params, count_max);
    pg_params_array_begin(&batch->params, PG_TYPE_INT8);
    for (int i = 0; i < skipped_count; i++) {
        pg_params_item_int8(&batch->params, skipped[i]);
    }
    pg_params_array_end(&batch->params);
    batch_send(batch, &sql_worker_take_intents, &batch->intents);
    sync_then(batch, on_intents);
}

/* The step that a work names. An answer says of which element it is; an intent names one as
 * pick[2], or means them all. */
static int find_step(const struct plan *plan, const struct work *work, int *ret_element)
{
    if (work->message) {
        return plan_find_step(plan, work->step, strlen(work->step));
    }
    return plan_find_element(plan, work->step, ret_element);
}

/* What the machine says to one work. */
static int decide_work(struct batch *batch, struct work *work, struct error *error)
{
    struct happening *happening = &work->happening;
    if (work->result != WORK_OPEN) {
        return 0;
    }
    work->result = WORK_DONE;
    if (work->refusal) {
        return 0;
    }
    struct fact *fact = &batch->facts[happening->fact];
    bool is_migration = happening->event.type == EVENT_MIGRATE;
    /* What may forbid a migration was looked for in the row as it was written. */
    if (fact->asks_condition || (is_migration && fact->changed)) {
        work->result = WORK_BUSY;
        return 0;
    }
    happening->event.step = -1;
    if (work->step) {
        happening->event.step = find_step(fact->plan, work, &happening->event.element);
        if (happening->event.step < 0) {
            work->result = WORK_NONSENSE;
            work->detail = "the definition has no such step";
            return 0;
        }
    }
    if (work->expects_revision && work->expected_revision != fact->revision) {
        work->refusal = "the saga has changed since it was looked at";
        return 0;
    }
    int rc = decide_apply(&batch->decisions, batch->facts, happening, error);
    return rc == 0 && is_migration ? batch_explain_refusal(batch, work, error) : rc;
}

static void decide_and_write(struct batch *batch)
{
    struct error error;
    for (int i = 0; i < batch->work_count; i++) {
        if (decide_work(batch, &batch->works[i], &error) < 0) {
            group_failed(batch, &error);
            return;
        }
    }
    for (int i = 0; i < batch->fact_count; i++) {
        decide_finish(&batch->decisions, &batch->facts[i]);
    }
    batch_send_answers(batch);
    batch_send_kept(batch);
    batch_send_writes(batch);
    sync_then(batch, on_written);
}

static void on_locked(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct batch *batch = data;
    if (group_failed(batch, failure)) {
        return;
    }
    batch->locked_at_us = loop_now_us(batch->loop);
    if (batch_send_find(batch)) {
        sync_then(batch, on_found);
    } else {
        read_and_decide(batch);
    }
}

static void on_found(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct batch *batch = data;
    if (!group_failed(batch, failure)) {
        read_and_decide(batch);
    }
}

static void read_and_decide(struct batch *batch)
{
    struct error error;
    int unknown_plans = batch_read_facts(batch, &error);
    if (unknown_plans < 0) {
        group_failed(batch, &error);
    } else if (unknown_plans > 0) {
        sync_then(batch, on_plans);
    } else {
        look_for_obstacles(batch);
    }
}

/* The definitions that were unknown have been read into the cache: from the top. */
static void on_plans(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct batch *batch = data;
    if (group_failed(batch, failure)) {
        return;
    }
    struct error error;
    int unknown_plans = batch_read_plans(batch, &error);
    if (unknown_plans == 0) {
        unknown_plans = batch_read_facts(batch, &error);
    }
    assert(unknown_plans <= 0); /* one that the database has not is known as such now */
    if (unknown_plans < 0) {
        group_failed(batch, &error);
        return;
    }
    look_for_obstacles(batch);
}

static void look_for_obstacles(struct batch *batch)
{
    if (batch_send_obstacles(batch)) {
        sync_then(batch, on_obstacles);
    } else {
        decide_and_write(batch);
    }
}

static void on_obstacles(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct batch *batch = data;
    struct error error;
    if (group_failed(batch, failure)) {
        return;
    }
    if (batch_read_obstacles(batch, &error) < 0) {
        group_failed(batch, &error);
        return;
    }
    decide_and_write(batch);
}

/* Tells the machine about commands that were decided and not sent. */
static int decide_about_unsent(struct batch *batch, const struct pg_result *unsent,
                               struct error *error)
{
    struct decisions *decisions = &batch->decisions;
    for (int row = 0; row < pg_result_rows(unsent); row++) {
        int64_t at = batch->sent_from + pg_int(unsent, row, 0) - 1;
        if (at < batch->sent_from || at >= decisions->commands_from) {
            return error_set(error, ERROR_PROTOCOL, RETRY_BUG,
                             "saga.send_commands spoke of a command that it was not given");
        }
        const char *event = pg_text(unsent, row, 1);
        int type = event ? machine_event_parse(event, strlen(event)) : -1;
        bool is_of_lock = type == EVENT_GRANT || type == EVENT_DENIED;
        if (!is_of_lock && type != EVENT_CONDITION_FALSE && type != EVENT_SPREAD) {
            type = EVENT_UNMAPPABLE;
            batch->unmappable++;
        }
        char reason[SAGA_REASON_BYTES_MAX / 2];
        const char *why = pg_text(unsent, row, 2);
        body_copy_text(reason, sizeof reason, why ? why : "");
        const struct machine_command *command = &decisions->commands[at].command;
        decisions->commands[at].unsent = true;
        struct happening happening = {
            .fact = decisions->commands[at].fact,
            .event = {.type = (enum machine_event_type)type,
                      .step = command->step,
                      .element = command->element,
                      .count = type == EVENT_SPREAD ? (int)pg_int(unsent, row, 3) : 0,
                      .operation = command->operation,
                      .round = command->round,
                      .attempt = command->attempt,
                      .reason = why ? reason : NULL},
        };
        int rc = is_of_lock ? batch_read_brought(batch, unsent, row, &happening, error) : 0;
        if (rc == 0) {
            rc = decide_apply(decisions, batch->facts, &happening, error);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static bool is_unsent(const struct pg_result *unsent)
{
    return unsent && pg_result_rows(unsent) > 0;
}

static int decide_about_all_unsent(struct batch *batch, struct error *error)
{
    struct pg_result **slots[] = {&batch->unsent, &batch->unsent_children, &batch->decided_locks};
    int rc = ++batch->passes > PASSES_MAX
                 ? error_set(error, ERROR_LIMIT, RETRY_BUG,
                             "commands that are not sent follow each other without end")
                 : 0;
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        if (rc == 0 && is_unsent(*slots[i])) {
            rc = decide_about_unsent(batch, *slots[i], error);
        }
        pg_result_free(*slots[i]);
        *slots[i] = NULL;
    }
    return rc;
}

static void on_written(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct batch *batch = data;
    if (group_failed(batch, failure)) {
        return;
    }
    struct error error;
    if (is_unsent(batch->unsent) || is_unsent(batch->unsent_children) ||
        is_unsent(batch->decided_locks)) {
        int rc = decide_about_all_unsent(batch, &error);
        if (rc < 0) {
            group_failed(batch, &error);
            return;
        }
        for (int i = 0; i < batch->fact_count; i++) {
            decide_finish(&batch->decisions, &batch->facts[i]);
        }
        batch_send_writes(batch);
        sync_then(batch, on_written);
        return;
    }
    FAILPOINT("orchestrate-between-write-and-commit");
    batch_send_reopened(batch);
    batch_send_left_locks(batch);
    batch_send_ended(batch);
    batch_send_released_locks(batch);
    FAILPOINT("orchestrate-before-commit");
    if (batch->failure.code == 0) { /* else some of it was not sent, and on_committed rolls back */
        send_text(batch, "COMMIT");
    }
    sync_then(batch, on_committed);
}

static void on_committed(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    struct batch *batch = data;
    if (group_failed(batch, failure)) {
        return;
    }
    FAILPOINT("orchestrate-after-commit");
    finish(batch);
}
