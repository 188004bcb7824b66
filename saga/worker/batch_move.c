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

/* The saga at this place, if it is to move or has moved, and to which version. */
typedef bool move_at(const struct batch *batch, int at, struct uuid *ret_saga,
                     int32_t *ret_definition);

static bool asked_move(const struct batch *batch, int at, struct uuid *ret_saga,
                       int32_t *ret_definition)
{
    const struct work *work = &batch->works[at];
    *ret_saga = work->saga_id;
    *ret_definition = work->happening.definition_id;
    return is_migration(work);
}

static bool decided_move(const struct batch *batch, int at, struct uuid *ret_saga,
                         int32_t *ret_definition)
{
    const struct fact *fact = &batch->facts[at];
    *ret_saga = fact->id;
    *ret_definition = fact->definition_id;
    return fact->moved;
}

/* $1 sagas, $2 definitions. False: there is none, and nothing was sent. */
static bool send_moves(struct batch *batch, int places, move_at *find,
                       const struct pg_statement *statement, struct pg_result **keep_result)
{
    struct pg_params *params = &batch->params;
    struct uuid saga;
    int32_t definition;
    int count = 0;
    pg_params_reset(params);
    pg_params_array_begin(params, PG_TYPE_UUID);
    for (int i = 0; i < places; i++) {
        if (find(batch, i, &saga, &definition)) {
            pg_params_item_uuid(params, &saga);
            count++;
        }
    }
    pg_params_array_end(params);
    pg_params_array_begin(params, PG_TYPE_INT4);
    for (int i = 0; i < places; i++) {
        if (find(batch, i, &saga, &definition)) {
            pg_params_item_int4(params, definition);
        }
    }
    pg_params_array_end(params);
    if (count > 0) {
        batch_send(batch, statement, keep_result);
    }
    return count > 0;
}

bool batch_send_obstacles(struct batch *batch)
{
    return send_moves(batch, batch->work_count, asked_move, &sql_worker_find_obstacles,
                      &batch->obstacles);
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
    if (work->happening.verdict != VERDICT_REFUSED || fact->instance.phase == PHASE_PROTOCOL) {
        return 0; /* what the machine said is all there is to say */
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
    send_moves(batch, batch->fact_count, decided_move, &sql_worker_move_instances, NULL);
    for (int i = 0; i < batch->fact_count; i++) {
        batch->facts[i].moved = false;
    }
}
