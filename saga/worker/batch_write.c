#include "saga/worker/batch_private.h"

#include "saga/machine/state_json.h"
#include "saga/worker/sql.h"
#include <assert.h>
#include <string.h>

/* Columns of lock_instances.sql. */
enum {
    LOCKED_ID,
    LOCKED_IS_LOCKED,
    LOCKED_IS_BUSY,
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

static const char *plain_text(const struct pg_result *result, int row, int column)
{
    const char *text = pg_text(result, row, column);
    return text ? text : "";
}

static int read_fact(struct fact *fact, const struct pg_result *result, int row,
                     struct error *error)
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
    int rc = state_json_read(steps, bytes, fact->plan->step_count, instance, error);
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
        if (!pg_bool(batch->locked, row, LOCKED_IS_LOCKED)) {
            continue;
        }
        int64_t id = pg_int(batch->locked, row, LOCKED_DEFINITION);
        if (!plan_cache_find(batch->plans, (int)id)) {
            pg_params_item_int4(&batch->params, (int32_t)id);
            unknown++;
        }
    }
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
    if (!pg_bool(batch->locked, row, LOCKED_IS_LOCKED)) {
        bool is_busy = pg_bool(batch->locked, row, LOCKED_IS_BUSY);
        mark_works(batch, &id, is_busy ? WORK_BUSY : WORK_GONE, NULL, -1);
        return 0;
    }
    int definition_id = (int)pg_int(batch->locked, row, LOCKED_DEFINITION);
    const struct plan_entry *entry = plan_cache_find(batch->plans, definition_id);
    assert(entry); /* else ask_for_plans would have asked */
    if (!entry->plan) {
        mark_works(batch, &id, WORK_NONSENSE, entry->why ? entry->why : "unreadable definition",
                   -1);
        return 0;
    }
    struct fact *fact = &batch->facts[batch->fact_count];
    memset(fact, 0, sizeof *fact);
    fact->id = id;
    fact->definition_id = definition_id;
    fact->plan = entry->plan;
    struct error unreadable;
    if (read_fact(fact, batch->locked, row, &unreadable) < 0) {
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
        if (pg_bool(batch->locked, row, LOCKED_IS_LOCKED)) {
            rc = plan_cache_add(batch->plans, (int)pg_int(batch->locked, row, LOCKED_DEFINITION),
                                NULL, 0, error);
        }
    }
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
    if (event < EVENT_CANCEL || event > EVENT_SIGNAL) {
        work->refusal = "this version knows no such verb";
    } else {
        work->happening.event.type = (enum machine_event_type)event;
    }
    if (event == EVENT_SIGNAL) {
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

void batch_answer(const struct work *work, const char **ret_answer, const char **ret_detail)
{
    *ret_answer = "refused";
    if (work->refusal) {
        *ret_detail = work->refusal;
    } else if (work->result == WORK_GONE) {
        *ret_detail = "there is no such saga";
    } else if (work->result == WORK_NONSENSE) {
        *ret_detail = work->detail;
    } else if (work->happening.verdict == VERDICT_REFUSED) {
        *ret_detail = work->happening.because;
    } else {
        *ret_answer = "applied";
        *ret_detail = work->happening.because;
    }
}

bool batch_is_answered(const struct work *work)
{
    if (work->refusal) {
        return true;
    }
    return work->result != WORK_BUSY &&
           !(work->result == WORK_DONE && work->happening.verdict == VERDICT_EARLY);
}

void batch_send_answers(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    if (batch->works != batch->own_works) {
        return;
    }
    for (int column = 0; column < 3; column++) {
        if (column == 0) {
            pg_params_reset(params);
        }
        pg_params_array_begin(params, column == 0 ? PG_TYPE_INT8 : PG_TYPE_TEXT);
        for (int i = 0; i < batch->work_count; i++) {
            const struct work *work = &batch->works[i];
            if (!batch_is_answered(work)) {
                continue;
            }
            const char *answer;
            const char *detail;
            batch_answer(work, &answer, &detail);
            if (column == 0) {
                pg_params_item_int8(params, work->intent_id);
            } else {
                pg_params_item_text(params, column == 1 ? answer : detail);
            }
        }
        pg_params_array_end(params);
    }
    batch_send(batch, &sql_worker_answer_intents, NULL);
}

static bool has_to_be_updated(const struct fact *fact)
{
    return fact->changed && !fact->ended;
}

static bool has_to_be_moved_out(const struct fact *fact)
{
    return fact->changed && fact->ended;
}

static void item_time(struct pg_params *params, int64_t time_us)
{
    if (time_us == 0) {
        pg_params_item_null(params);
    } else {
        pg_params_item_time_us(params, time_us);
    }
}

static void item_members(struct batch *batch, const char *members)
{
    if (!members) {
        pg_params_item_null(&batch->params);
        return;
    }
    const char *object = arena_format(batch->arena, "{%s}", members);
    if (!object) {
        batch->params.bytes.failed = true; /* told when it is sent */
        object = "{}";
    }
    pg_params_item_text(&batch->params, object);
}

/* The eleven columns of update_instances.sql and end_instances.sql, by number from 0. */
static const enum pg_type instance_columns[] = {
    PG_TYPE_UUID,  PG_TYPE_TEXT,        PG_TYPE_TEXT,        PG_TYPE_TEXT,
    PG_TYPE_BOOL,  PG_TYPE_BOOL,        PG_TYPE_JSONB,       PG_TYPE_JSONB,
    PG_TYPE_JSONB, PG_TYPE_TIMESTAMPTZ, PG_TYPE_TIMESTAMPTZ,
};

static void item_of_fact(struct batch *batch, const struct fact *fact, int column)
{
    struct pg_params *params = &batch->params;
    const struct instance *instance = &fact->instance;
    char steps[STATE_JSON_BYTES_MAX];
    switch (column) {
    case 0:
        pg_params_item_uuid(params, &fact->id);
        break;
    case 1:
        pg_params_item_text(params, saga_state_name(instance->state));
        break;
    case 2:
        pg_params_item_text(params, saga_phase_name(instance->phase));
        break;
    case 3:
        pg_params_item_text(params, instance->reason[0] ? instance->reason : NULL);
        break;
    case 4:
        pg_params_item_bool(params, instance->paused);
        break;
    case 5:
        pg_params_item_bool(params, instance->cancel_requested);
        break;
    case 6:
        pg_params_item_bytes(params, steps,
                             state_json_write(instance, fact->plan->step_count, steps));
        break;
    case 7:
        item_members(batch, fact->outputs);
        break;
    case 8:
        item_members(batch, fact->errors);
        break;
    case 9:
        item_time(params, instance->deadline_us);
        break;
    default:
        item_time(params, fact->wake_us);
        break;
    }
}

static void send_instances(struct batch *batch, const struct pg_statement *statement,
                           bool (*wanted)(const struct fact *fact))
{
    int count = 0;
    for (int i = 0; i < batch->fact_count; i++) {
        count += wanted(&batch->facts[i]) ? 1 : 0;
    }
    if (count == 0) {
        return;
    }
    pg_params_reset(&batch->params);
    for (int column = 0; column < (int)(sizeof instance_columns / sizeof instance_columns[0]);
         column++) {
        pg_params_array_begin(&batch->params, instance_columns[column]);
        for (int i = 0; i < batch->fact_count; i++) {
            if (wanted(&batch->facts[i])) {
                item_of_fact(batch, &batch->facts[i], column);
            }
        }
        pg_params_array_end(&batch->params);
    }
    batch_send(batch, statement, NULL);
    for (int i = 0; i < batch->fact_count; i++) {
        struct fact *fact = &batch->facts[i];
        if (wanted(fact)) {
            fact->changed = false;
            fact->outputs = fact->errors = NULL;
        }
    }
}

static void send_history(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    const struct decisions *decisions = &batch->decisions;
    static const enum pg_type types[] = {PG_TYPE_UUID,  PG_TYPE_TEXT, PG_TYPE_TEXT, PG_TYPE_TEXT,
                                         PG_TYPE_JSONB, PG_TYPE_TEXT, PG_TYPE_TEXT};
    pg_params_reset(params);
    for (int column = 0; column < (int)(sizeof types / sizeof types[0]); column++) {
        pg_params_array_begin(params, types[column]);
        for (int i = decisions->notes_from; i < decisions->note_count; i++) {
            const struct decided_note *note = &decisions->notes[i];
            const struct fact *fact = &batch->facts[note->fact];
            if (column == 0) {
                pg_params_item_uuid(params, &fact->id);
            } else if (column == 4 && note->error.text) {
                pg_params_item_bytes(params, note->error.text, note->error.bytes);
            } else if (column == 4) {
                pg_params_item_null(params);
            } else {
                int step = note->note.step;
                const char *const texts[] = {NULL,
                                             note->note.event,
                                             step >= 0 ? fact->plan->steps[step].name : NULL,
                                             note->note.because,
                                             NULL,
                                             note->actor,
                                             note->reason};
                pg_params_item_text(params, texts[column]);
            }
        }
        pg_params_array_end(params);
    }
    batch_send(batch, &sql_worker_insert_history, NULL);
}

/* What happens to a saga as a whole is published where its definition asks for events; what happens
 * to its steps is in its history. */
static bool is_published(const struct batch *batch, const struct decided_note *note)
{
    return note->note.step < 0 && batch->facts[note->fact].plan->events;
}

static void send_events(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    const struct decisions *decisions = &batch->decisions;
    int count = 0;
    for (int i = decisions->notes_from; i < decisions->note_count; i++) {
        count += is_published(batch, &decisions->notes[i]) ? 1 : 0;
    }
    if (count == 0) {
        return;
    }
    pg_params_reset(params);
    for (int column = 0; column < 5; column++) {
        pg_params_array_begin(params, column == 0   ? PG_TYPE_UUID
                                      : column == 2 ? PG_TYPE_INT4
                                                    : PG_TYPE_TEXT);
        for (int i = decisions->notes_from; i < decisions->note_count; i++) {
            const struct decided_note *note = &decisions->notes[i];
            const struct fact *fact = &batch->facts[note->fact];
            if (!is_published(batch, note)) {
                continue;
            }
            switch (column) {
            case 0:
                pg_params_item_uuid(params, &fact->id);
                break;
            case 1:
                pg_params_item_text(params, fact->plan->definition);
                break;
            case 2:
                pg_params_item_int4(params, fact->plan->version);
                break;
            case 3:
                pg_params_item_text(params, note->note.event);
                break;
            default:
                pg_params_item_text(params,
                                    fact->instance.reason[0] ? fact->instance.reason : NULL);
                break;
            }
        }
        pg_params_array_end(params);
    }
    batch_send(batch, &sql_worker_publish_events, NULL);
}

static void send_commands(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    const struct decisions *decisions = &batch->decisions;
    pg_params_reset(params);
    for (int column = 0; column < 5; column++) {
        pg_params_array_begin(params, column == 0   ? PG_TYPE_UUID
                                      : column == 2 ? PG_TYPE_TEXT
                                                    : PG_TYPE_INT4);
        for (int i = decisions->commands_from; i < decisions->command_count; i++) {
            const struct machine_command *command = &decisions->commands[i].command;
            const struct fact *fact = &batch->facts[decisions->commands[i].fact];
            if (column == 0) {
                pg_params_item_uuid(params, &fact->id);
            } else if (column == 2) {
                pg_params_item_text(params, saga_operation_name(command->operation));
            } else {
                const int numbers[] = {0, command->step, 0, command->round, command->attempt};
                pg_params_item_int4(params, numbers[column]);
            }
        }
        pg_params_array_end(params);
    }
    batch_send(batch, &sql_worker_send_commands, &batch->unsent);
}

/* Outputs are written before the commands that are built from them. A saga that has ended stays in
 * the table until batch_send_ended, so that a last fence can be sent for it. */
void batch_send_writes(struct batch *batch)
{
    struct decisions *decisions = &batch->decisions;
    send_instances(batch, &sql_worker_update_instances, has_to_be_updated);
    if (decisions->note_count > decisions->notes_from) {
        send_history(batch);
        send_events(batch);
        decisions->notes_from = decisions->note_count;
    }
    batch->sent_from = decisions->commands_from;
    if (decisions->command_count > decisions->commands_from) {
        send_commands(batch);
        decisions->commands_from = decisions->command_count;
    }
}

void batch_send_ended(struct batch *batch)
{
    send_instances(batch, &sql_worker_end_instances, has_to_be_moved_out);
}
