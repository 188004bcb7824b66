/* batch_lock.c: the locks that sagas hold (migrations/0019_isolation.sql): what a batch asks for,
 * gives up and releases. */
#include "saga/worker/batch_private.h"

#include "saga/machine/plan.h"
#include "saga/worker/sql.h"
#include <string.h>

void batch_send_lock_requests(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    const struct decisions *decisions = &batch->decisions;
    int count = 0;
    pg_params_reset(params);
    for (int column = 0; column < 3; column++) {
        pg_params_array_begin(params, column == 1 ? PG_TYPE_UUID : PG_TYPE_INT4);
        for (int i = decisions->commands_from; i < decisions->command_count; i++) {
            const struct machine_command *command = &decisions->commands[i].command;
            const struct fact *fact = &batch->facts[decisions->commands[i].fact];
            if (fact->plan->steps[command->step].via != VIA_LOCK) {
                continue;
            }
            count++;
            if (column == 1) {
                pg_params_item_uuid(params, &fact->id);
            } else {
                pg_params_item_int4(params,
                                    column == 0 ? i - decisions->commands_from + 1 : command->step);
            }
        }
        pg_params_array_end(params);
    }
    if (count > 0) {
        batch_send(batch, &sql_worker_take_locks, &batch->decided_locks);
    }
}

int batch_read_brought(struct batch *batch, const struct pg_result *rows, int row,
                       struct happening *happening, struct error *error)
{
    size_t bytes;
    const char *text = pg_bytes(rows, row, 3, &bytes);
    /* A copy: what is noted of it is written when the rows are gone. */
    const char *kept = arena_format(batch->arena, "%.*s", (int)bytes, text ? text : "");
    if (!kept) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "the batch is over its memory limit");
    }
    struct json_span brought = {kept, bytes, JSON_OBJECT}; /* jsonb: checked */
    if (happening->event.type == EVENT_GRANT) {
        happening->output = brought;
    } else {
        happening->error = brought;
    }
    return 0;
}

/* It was left, and has been asked for again since: its place is wanted. */
static bool is_wanted(const struct fact *fact, const struct left_lock *left)
{
    int step = plan_find_step(fact->plan, left->step, strlen(left->step));
    enum step_state state = step < 0 ? STEP_CANCELLED : fact->instance.steps[step].state;
    return step >= 0 && fact->plan->steps[step].via == VIA_LOCK &&
           (state == STEP_PARKED || state == STEP_SUCCEEDED);
}

/* By the names of the steps: neither the plan that the saga has by now nor its row, which is not
 * written any more once it has ended, need know them. */
void batch_send_left_locks(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    int count = 0;
    pg_params_reset(params);
    for (int column = 0; column < 2; column++) {
        pg_params_array_begin(params, column == 0 ? PG_TYPE_UUID : PG_TYPE_TEXT);
        for (int i = 0; i < batch->fact_count; i++) {
            const struct fact *fact = &batch->facts[i];
            for (const struct left_lock *left = fact->left_locks; left; left = left->next) {
                if (is_wanted(fact, left)) {
                    continue;
                }
                count++;
                if (column == 0) {
                    pg_params_item_uuid(params, &fact->id);
                } else {
                    pg_params_item_text(params, left->step);
                }
            }
        }
        pg_params_array_end(params);
    }
    if (count > 0) {
        batch_send(batch, &sql_worker_leave_locks, NULL);
    }
}

/* Of every saga that has ended: its handlers may have taken some, whatever its plan says. */
void batch_send_released_locks(struct batch *batch)
{
    int count = 0;
    pg_params_reset(&batch->params);
    pg_params_array_begin(&batch->params, PG_TYPE_UUID);
    for (int i = 0; i < batch->fact_count; i++) {
        if (batch->facts[i].ended) {
            pg_params_item_uuid(&batch->params, &batch->facts[i].id);
            count++;
        }
    }
    pg_params_array_end(&batch->params);
    if (count > 0) {
        batch_send(batch, &sql_worker_release_locks, NULL);
    }
}
