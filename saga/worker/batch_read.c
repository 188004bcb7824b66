#include "saga/worker/batch_private.h"

#include "saga/machine/state_json.h"
#include "saga/worker/sql.h"
#include <assert.h>
#include <string.h>

/* Columns of lock_instances.sql. */
enum {
    LOCKED_ID,
    LOCKED_DEFINITION,
    LOCKED_STATE,
    LOCKED_PHASE,
    LOCKED_REASON,
    LOCKED_PAUSED,
    LOCKED_CANCEL,
    LOCKED_REVISION,
    LOCKED_STEPS,
    LOCKED_DEADLINE,
    LOCKED_WAKE,
    LOCKED_NOW,
    LOCKED_FAILURES,
};

/* Columns of take_intents.sql. */
enum {
    INTENT_ID,
    INTENT_SAGA,
    INTENT_VERB,
    INTENT_STEP,
    INTENT_ARGUMENT,
    INTENT_ACTOR,
    INTENT_REASON,
    INTENT_REVISION,
    INTENT_ENDED_STATE,
    INTENT_TARGET,
};

void batch_send_lock(struct batch *batch)
{
    pg_params_reset(&batch->params);
    pg_params_array_begin(&batch->params, PG_TYPE_UUID);
    for (int i = 0; i < batch->work_count; i++) {
        bool is_first = true;
        for (int j = 0; j < i && is_first; j++) {
            is_first = uuid_compare(&batch->works[j].saga_id, &batch->works[i].saga_id) != 0;
        }
        if (is_first) {
            pg_params_item_uuid(&batch->params, &batch->works[i].saga_id);
        }
    }
    pg_params_array_end(&batch->params);
    batch_send(batch, &sql_worker_lock_instances, &batch->locked);
}

static bool is_locked(const struct batch *batch, const struct uuid *saga_id)
{
    for (int row = 0; row < pg_result_rows(batch->locked); row++) {
        struct uuid id = pg_uuid(batch->locked, row, LOCKED_ID);
        if (uuid_compare(&id, saga_id) == 0) {
            return true;
        }
    }
    return false;
}

bool batch_send_find(struct batch *batch)
{
    int missing = 0;
    pg_params_reset(&batch->params);
    pg_params_array_begin(&batch->params, PG_TYPE_UUID);
    for (int i = 0; i < batch->work_count; i++) {
        if (!is_locked(batch, &batch->works[i].saga_id)) {
            pg_params_item_uuid(&batch->params, &batch->works[i].saga_id);
            missing++;
        }
    }
    pg_params_array_end(&batch->params);
    if (missing > 0) {
        batch_send(batch, &sql_worker_find_instances, &batch->present);
    }
    return missing > 0;
}

static const char *plain_text(const struct pg_result *result, int row, int column)
{
    const char *text = pg_text(result, row, column);
    return text ? text : "";
}

/* Where there is no room for what its steps met, the saga goes on without. */
static int read_fact(struct fact *fact, struct arena *arena, const struct pg_result *result,
                     int row, struct error *error)
{
    struct instance *instance = &fact->instance;
    const char *state = plain_text(result, row, LOCKED_STATE);
    const char *phase = plain_text(result, row, LOCKED_PHASE);
    int state_value = saga_state_parse(state, strlen(state));
    int phase_value = saga_phase_parse(phase, strlen(phase));
    if (state_value < 0 || phase_value < 0) {
        return error_set(error, ERROR_PROTOCOL, RETRY_BUG,
                         "unknown state %s or phase %s: a newer version wrote it", state, phase);
    }
    instance->state = (enum saga_state)state_value;
    instance->phase = (enum saga_phase)phase_value;
    instance->paused = pg_bool(result, row, LOCKED_PAUSED);
    instance->cancel_requested = pg_bool(result, row, LOCKED_CANCEL);
    instance->deadline_us = pg_time_us(result, row, LOCKED_DEADLINE);
    if (pg_is_null(result, row, LOCKED_DEADLINE)) {
        instance->deadline_us = 0;
    }
    body_copy_text(instance->reason, sizeof instance->reason,
                   plain_text(result, row, LOCKED_REASON));
    fact->revision = pg_int(result, row, LOCKED_REVISION);
    fact->wake_us = pg_is_null(result, row, LOCKED_WAKE) ? 0 : pg_time_us(result, row, LOCKED_WAKE);
    size_t bytes;
    const char *steps = pg_bytes(result, row, LOCKED_STEPS, &bytes);
    int rc = state_json_read(steps, bytes, fact->plan, instance, error);
    if (rc == 0 && !pg_is_null(result, row, LOCKED_FAILURES)) {
        const char *failures = pg_bytes(result, row, LOCKED_FAILURES, &fact->failures_bytes);
        fact->failures = arena_strndup(arena, failures, fact->failures_bytes);
    }
    if (rc == 0) {
        fact->due_us = machine_wake_us(fact->plan, instance);
    }
    return rc;
}

static void mark_works(struct batch *batch, const struct uuid *saga_id, enum work_result result,
                       const char *detail, int fact)
{
    for (int i = 0; i < batch->work_count; i++) {
        struct work *work = &batch->works[i];
        if (uuid_compare(&work->saga_id, saga_id) == 0) {
            work->result = result;
            work->detail = detail;
            work->happening.fact = fact;
        }
    }
}

/* The plans that are wanted and not in the cache, each once. */
static int ask_for_plans(struct batch *batch)
{
    int unknown = 0;
    pg_params_reset(&batch->params);
    pg_params_array_begin(&batch->params, PG_TYPE_INT4);
    for (int row = 0; row < pg_result_rows(batch->locked); row++) {
        int64_t id = pg_int(batch->locked, row, LOCKED_DEFINITION);
        if (!plan_cache_find(batch->plans, (int)id)) {
            pg_params_item_int4(&batch->params, (int32_t)id);
            unknown++;
        }
    }
    unknown += batch_ask_for_targets(batch);
    pg_params_array_end(&batch->params);
    if (unknown > 0) {
        batch_send(batch, &sql_worker_load_definitions, &batch->loaded);
    }
    return unknown;
}

static int read_row(struct batch *batch, int row, struct error *error)
{
    struct uuid id = pg_uuid(batch->locked, row, LOCKED_ID);
    batch->decisions.now_us = pg_time_us(batch->locked, row, LOCKED_NOW);
    int definition_id = (int)pg_int(batch->locked, row, LOCKED_DEFINITION);
    const struct plan_entry *entry = plan_cache_find(batch->plans, definition_id);
    assert(entry); /* else ask_for_plans would have asked */
    if (!entry->plan) {
        mark_works(batch, &id, WORK_NONSENSE, entry->why ? entry->why : "unreadable definition",
                   -1);
        return 0;
    }
    struct fact *fact = &batch->facts[batch->fact_count];
    memset(fact, 0, offsetof(struct fact, instance.elements)); /* those come with the row */
    fact->id = id;
    fact->definition_id = definition_id;
    fact->plan = entry->plan;
    struct error unreadable;
    if (read_fact(fact, batch->arena, batch->locked, row, &unreadable) < 0) {
        const char *why =
            arena_format(batch->arena, "the saga's row is unreadable: %s", unreadable.message);
        if (!why) {
            return error_set(error, ERROR_NO_MEMORY, RETRY_LATER,
                             "the batch is over its memory limit");
        }
        mark_works(batch, &id, WORK_NONSENSE, why, -1);
        return 0;
    }
    mark_works(batch, &id, WORK_OPEN, NULL, batch->fact_count);
    batch->fact_count++;
    return 0;
}

int batch_read_facts(struct batch *batch, struct error *error)
{
    assert(batch->locked);
    int unknown = ask_for_plans(batch);
    if (unknown > 0) {
        return unknown;
    }
    int rows = pg_result_rows(batch->locked);
    if (rows > batch->work_count) {
        return error_set(error, ERROR_PROTOCOL, RETRY_BUG, "more sagas than were asked for");
    }
    for (int i = 0; i < batch->work_count; i++) {
        batch->works[i].result = WORK_GONE; /* until it is found to be here, or elsewhere */
    }
    for (int row = 0; batch->present && row < pg_result_rows(batch->present); row++) {
        struct uuid id = pg_uuid(batch->present, row, 0);
        mark_works(batch, &id, WORK_BUSY, NULL, -1);
    }
    for (int row = 0; row < rows; row++) {
        int rc = read_row(batch, row, error);
        if (rc < 0) {
            return rc;
        }
    }
    pg_result_free(batch->locked);
    batch->locked = NULL;
    /* A seed that no other worker has at this moment: the time, and where this batch lies. */
    batch->decisions.seed = (uint64_t)batch->decisions.now_us ^ ((uint64_t)(uintptr_t)batch << 17);
    return 0;
}

int batch_read_plans(struct batch *batch, struct error *error)
{
    int rc = 0;
    for (int row = 0; rc == 0 && row < pg_result_rows(batch->loaded); row++) {
        size_t bytes;
        const char *plan = pg_bytes(batch->loaded, row, 1, &bytes);
        rc = plan_cache_add(batch->plans, (int)pg_int(batch->loaded, row, 0), plan, bytes, error);
    }
    for (int row = 0; rc == 0 && row < pg_result_rows(batch->locked); row++) {
        rc = plan_cache_add(batch->plans, (int)pg_int(batch->locked, row, LOCKED_DEFINITION), NULL,
                            0, error);
    }
    rc = rc == 0 ? batch_know_targets(batch, error) : rc;
    pg_result_free(batch->loaded);
    batch->loaded = NULL;
    return rc;
}

/* The verbs of intents are names of the machine's events. */
static int read_intent(struct batch *batch, int row, struct work *work, struct error *error)
{
    const struct pg_result *rows = batch->intents;
    const char *verb = plain_text(rows, row, INTENT_VERB);
    int event = machine_event_parse(verb, strlen(verb));
    *work = (struct work){
        .saga_id = pg_uuid(rows, row, INTENT_SAGA),
        .step = pg_text(rows, row, INTENT_STEP),
        .intent_id = pg_int(rows, row, INTENT_ID),
        .expects_revision = !pg_is_null(rows, row, INTENT_REVISION),
        .expected_revision = pg_int(rows, row, INTENT_REVISION),
        .happening = {.event = {.reason = pg_text(rows, row, INTENT_REASON)},
                      .actor = pg_text(rows, row, INTENT_ACTOR),
                      .reason = pg_text(rows, row, INTENT_REASON)},
    };
    if (event < EVENT_CANCEL || event > EVENT_MIGRATE) {
        work->refusal = "this version knows no such verb";
    } else {
        work->happening.event.type = (enum machine_event_type)event;
    }
    if (event == EVENT_MIGRATE && pg_is_null(rows, row, INTENT_TARGET)) {
        work->refusal = "there is no such version of its definition";
    } else if (event == EVENT_MIGRATE) {
        work->happening.definition_id = (int)pg_int(rows, row, INTENT_TARGET);
    }
    if (event == EVENT_SIGNAL || event == EVENT_GRANT) {
        size_t bytes;
        const char *argument = pg_bytes(rows, row, INTENT_ARGUMENT, &bytes);
        struct json_span whole = {argument, bytes, JSON_OBJECT}; /* jsonb: checked */
        (void)json_member(&whole, "payload", &work->happening.output);
    }
    const char *ended_state = pg_text(rows, row, INTENT_ENDED_STATE);
    if (ended_state) {
        work->refusal = arena_format(batch->arena, "the saga has ended: %s", ended_state);
        if (!work->refusal) {
            return error_set(error, ERROR_NO_MEMORY, RETRY_LATER,
                             "the batch is over its memory limit");
        }
    }
    return 0;
}

int batch_read_intents(struct batch *batch, struct error *error)
{
    int rows = pg_result_rows(batch->intents);
    if (rows > BATCH_WORKS_MAX) {
        return error_set(error, ERROR_PROTOCOL, RETRY_BUG, "more intents than were asked for");
    }
    int rc = 0;
    for (int row = 0; rc == 0 && row < rows; row++) {
        rc = read_intent(batch, row, &batch->works[row], error);
    }
    batch->work_count = rows;
    return rc;
}
