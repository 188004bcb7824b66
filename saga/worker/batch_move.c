/* batch_move.c: sagas of a batch that are to move to another version of their definition. */
#include "saga/worker/batch_private.h"

#include "saga/machine/migrate.h"
#include "saga/worker/sql.h"
#include <assert.h>

static bool is_migration(const struct work *work)
{
    return work->happening.event.type == EVENT_MIGRATE && work->happening.definition_id != 0 &&
           !work->refusal;
}

int batch_ask_for_targets(struct batch *batch)
{
    int unknown = 0;
    for (int i = 0; i < batch->work_count; i++) {
        const struct work *work = &batch->works[i];
        if (is_migration(work) && !plan_cache_find(batch->plans, work->happening.definition_id)) {
            pg_params_item_int4(&batch->params, work->happening.definition_id);
            unknown++;
        }
    }
    return unknown;
}

int batch_know_targets(struct batch *batch, struct error *error)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < batch->work_count; i++) {
        if (is_migration(&batch->works[i])) {
            rc = plan_cache_add(batch->plans, batch->works[i].happening.definition_id, NULL, 0,
                                error);
        }
    }
    return rc;
}

static void give_plan(struct batch *batch, struct work *work)
{
    const struct plan_entry *entry = plan_cache_find(batch->plans, work->happening.definition_id);
    assert(entry); /* it was asked for */
    work->happening.event.to = entry->plan;
    if (!entry->plan) {
        work->refusal = "that version cannot be read";
    }
}

bool batch_send_obstacles(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    int count = 0;
    for (int column = 0; column < 2; column++) {
        if (column == 0) {
            pg_params_reset(params);
        }
        pg_params_array_begin(params, column == 0 ? PG_TYPE_UUID : PG_TYPE_INT4);
        for (int i = 0; i < batch->work_count; i++) {
            struct work *work = &batch->works[i];
            if (!is_migration(work)) {
                continue;
            }
            count++;
            if (column == 0) {
                pg_params_item_uuid(params, &work->saga_id);
            } else {
                pg_params_item_int4(params, work->happening.definition_id);
            }
        }
        pg_params_array_end(params);
    }
    if (count > 0) {
        batch_send(batch, &sql_worker_find_obstacles, &batch->obstacles);
    }
    return count > 0;
}

/* The work that stands at this place among the migrations. */
static struct work *migration_at(struct batch *batch, int64_t ordinal)
{
    for (int i = 0; i < batch->work_count; i++) {
        if (is_migration(&batch->works[i]) && --ordinal == 0) {
            return &batch->works[i];
        }
    }
    return NULL;
}

int batch_read_obstacles(struct batch *batch, struct error *error)
{
    for (int row = 0; row < pg_result_rows(batch->obstacles); row++) {
        struct work *work = migration_at(batch, pg_int(batch->obstacles, row, 0));
        if (!work) {
            return error_set(error, ERROR_PROTOCOL, RETRY_BUG,
                             "saga.migration_obstacles spoke of a saga that it was not given");
        }
        work->obstacle = arena_format(batch->arena, "%s", pg_text(batch->obstacles, row, 1));
        if (!work->obstacle) {
            return error_set(error, ERROR_NO_MEMORY, RETRY_LATER,
                             "the batch is over its memory limit");
        }
        work->happening.event.unfit = true;
    }
    for (int i = 0; i < batch->work_count; i++) {
        if (is_migration(&batch->works[i])) {
            give_plan(batch, &batch->works[i]);
        }
    }
    return 0;
}

int batch_explain_refusal(struct batch *batch, struct work *work, struct error *error)
{
    char why[MIGRATE_TEXT_BYTES_MAX];
    const struct fact *fact = &batch->facts[work->happening.fact];
    enum saga_state state = fact->instance.state;
    if (work->happening.verdict != VERDICT_REFUSED ||
        (state != SAGA_RUNNING && state != SAGA_COMPLETING)) {
        return 0;
    }
    work->refusal = work->obstacle;
    if (migrate_differs(fact->plan, &fact->instance, work->happening.event.to, why)) {
        work->refusal = arena_format(batch->arena, "%s", why);
        if (!work->refusal) {
            return error_set(error, ERROR_NO_MEMORY, RETRY_LATER,
                             "the batch is over its memory limit");
        }
    }
    return 0;
}

void batch_send_moves(struct batch *batch)
{
    struct pg_params *params = &batch->params;
    int count = 0;
    for (int column = 0; column < 2; column++) {
        if (column == 0) {
            pg_params_reset(params);
        }
        pg_params_array_begin(params, column == 0 ? PG_TYPE_UUID : PG_TYPE_INT4);
        for (int i = 0; i < batch->fact_count; i++) {
            struct fact *fact = &batch->facts[i];
            if (fact->moved && column == 0) {
                pg_params_item_uuid(params, &fact->id);
                count++;
            } else if (fact->moved) {
                pg_params_item_int4(params, fact->definition_id);
                fact->moved = false;
            }
        }
        pg_params_array_end(params);
    }
    if (count > 0) {
        batch_send(batch, &sql_worker_move_instances, NULL);
    }
}
