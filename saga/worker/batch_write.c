#include "saga/worker/batch_private.h"

#include "saga/worker/sql.h"
#include <string.h>

void batch_answer(const struct work *work, const char **ret_answer, const char **ret_detail)
{
    *ret_answer = "refused";
    if (work->refusal) {
        *ret_detail = work->refusal;
    } else if (work->result == WORK_GONE) {
        *ret_detail = "the saga has ended"; /* since it was asked for */
    } else if (work->result == WORK_NONSENSE) {
        *ret_detail = work->detail;
    } else if (work->happening.verdict == VERDICT_REFUSED) {
        *ret_detail = work->happening.because;
    } else {
        *ret_answer = "applied";
        *ret_detail = work->happening.because;
    }
}

static bool is_early(const struct work *work)
{
    return work->result == WORK_DONE && !work->refusal && work->happening.verdict == VERDICT_EARLY;
}

bool batch_is_answered(const struct work *work)
{
    if (work->refusal) {
        return true;
    }
    return work->result != WORK_BUSY && !is_early(work);
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

void batch_send_kept(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    int count = 0;
    pg_params_reset(params);
    pg_params_array_begin(params, PG_TYPE_INT8);
    for (int i = 0; i < batch->work_count; i++) {
        if (batch->works == batch->own_works && is_early(&batch->works[i])) {
            pg_params_item_int8(params, batch->works[i].intent_id);
            count++;
        }
    }
    pg_params_array_end(params);
    if (count > 0) {
        batch_send(batch, &sql_worker_keep_signals, NULL);
    }
}

void batch_send_reopened(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    int count = 0;
    pg_params_reset(params);
    pg_params_array_begin(params, PG_TYPE_UUID);
    for (int i = 0; i < batch->fact_count; i++) {
        if (batch->facts[i].wants_signals) {
            pg_params_item_uuid(params, &batch->facts[i].id);
            count++;
        }
    }
    pg_params_array_end(params);
    if (count > 0) {
        batch_send(batch, &sql_worker_reopen_signals, &batch->reopened);
    }
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

static void item_elements(struct batch *batch, const struct fact *fact)
{
    if (!fact->element_outputs) {
        pg_params_item_null(&batch->params);
        return;
    }
    char *array = arena_alloc(batch->arena, fact->element_output_bytes + 3);
    if (!array) {
        batch->params.bytes.failed = true; /* told when it is sent */
        pg_params_item_text(&batch->params, "[]");
        return;
    }
    char *at = stpcpy(array, "[");
    for (const struct element_output *output = fact->element_outputs; output;
         output = output->next) {
        at = stpcpy(stpcpy(at, output == fact->element_outputs ? "" : ", "), output->text);
    }
    stpcpy(at, "]");
    pg_params_item_text(&batch->params, array);
}

/* The twelve columns of update_instances.sql and end_instances.sql, by number from 0. */
static const enum pg_type instance_columns[] = {
    PG_TYPE_UUID,  PG_TYPE_TEXT,        PG_TYPE_TEXT,        PG_TYPE_TEXT,
    PG_TYPE_BOOL,  PG_TYPE_BOOL,        PG_TYPE_JSONB,       PG_TYPE_JSONB,
    PG_TYPE_JSONB, PG_TYPE_TIMESTAMPTZ, PG_TYPE_TIMESTAMPTZ, PG_TYPE_JSONB,
};

static void item_of_fact(struct batch *batch, const struct fact *fact, int column)
{
    struct pg_params *params = &batch->params;
    const struct instance *instance = &fact->instance;
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
        pg_params_item_bytes(params, batch->steps_json,
                             state_json_write(instance, fact->plan, batch->steps_json));
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
    case 10:
        item_time(params, fact->wake_us);
        break;
    default:
        item_elements(batch, fact);
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
            fact->element_outputs = NULL;
            fact->element_output_bytes = 0;
        }
    }
}

static void send_history(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    const struct decisions *decisions = &batch->decisions;
    static const enum pg_type types[] = {PG_TYPE_UUID,  PG_TYPE_TEXT, PG_TYPE_TEXT, PG_TYPE_TEXT,
                                         PG_TYPE_JSONB, PG_TYPE_TEXT, PG_TYPE_TEXT, PG_TYPE_INT4};
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
            } else if (column == 4 || (column == 7 && note->note.element == ELEMENT_ALL)) {
                pg_params_item_null(params);
            } else if (column == 7) {
                pg_params_item_int4(params, note->note.element);
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
    for (int column = 0; column < 6; column++) {
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
                const int numbers[] = {
                    0, command->step, 0, command->round, command->attempt, command->element};
                pg_params_item_int4(params, numbers[column]);
            }
        }
        pg_params_array_end(params);
    }
    batch_send(batch, &sql_worker_send_commands, &batch->unsent);
}

/* Those of them that are about child sagas; their ordinals are those of send_commands. */
static void send_children(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    const struct decisions *decisions = &batch->decisions;
    int count = 0;
    pg_params_reset(params);
    for (int column = 0; column < 6; column++) {
        pg_params_array_begin(params, column == 1   ? PG_TYPE_UUID
                                      : column == 3 ? PG_TYPE_TEXT
                                                    : PG_TYPE_INT4);
        for (int i = decisions->commands_from; i < decisions->command_count; i++) {
            const struct machine_command *command = &decisions->commands[i].command;
            const struct fact *fact = &batch->facts[decisions->commands[i].fact];
            if (fact->plan->steps[command->step].via != VIA_SAGA) {
                continue;
            }
            count++;
            if (column == 1) {
                pg_params_item_uuid(params, &fact->id);
            } else if (column == 3) {
                pg_params_item_text(params, saga_operation_name(command->operation));
            } else {
                const int numbers[] = {i - decisions->commands_from + 1,
                                       0,
                                       command->step,
                                       0,
                                       command->round,
                                       command->attempt};
                pg_params_item_int4(params, numbers[column]);
            }
        }
        pg_params_array_end(params);
    }
    if (count > 0) {
        batch_send(batch, &sql_worker_send_children, &batch->unsent_children);
    }
}

/* Outputs are written before the commands that are built from them. A saga that has ended stays in
 * the table until batch_send_ended, so that a last fence can be sent for it. */
void batch_send_writes(struct batch *batch)
{
    struct decisions *decisions = &batch->decisions;
    batch_send_moves(batch);
    send_instances(batch, &sql_worker_update_instances, has_to_be_updated);
    if (decisions->note_count > decisions->notes_from) {
        send_history(batch);
        send_events(batch);
        decisions->notes_from = decisions->note_count;
    }
    batch->sent_from = decisions->commands_from;
    if (decisions->command_count > decisions->commands_from) {
        send_commands(batch);
        send_children(batch);
        batch_send_lock_requests(batch);
        decisions->commands_from = decisions->command_count;
    }
}

void batch_send_ended(struct batch *batch)
{
    send_instances(batch, &sql_worker_end_instances, has_to_be_moved_out);
}
