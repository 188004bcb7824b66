#include "saga/cli/running.h"

#include "saga/cli/sql.h"
#include "saga/machine/plan.h"
#include "saga/machine/state_json.h"
#include <stdlib.h>
#include <string.h>

/* Columns of saga_running.sql. */
enum {
    RUNNING_ID,
    RUNNING_DEFINITION,
    RUNNING_KEY,
    RUNNING_STATE,
    RUNNING_PHASE,
    RUNNING_REASON,
    RUNNING_PAUSED,
    RUNNING_CANCEL,
    RUNNING_REVISION,
    RUNNING_STEPS,
    RUNNING_DEADLINE,
    RUNNING_DEFINITION_ID,
    RUNNING_NOW,
};

void running_plans_free(struct running_plans *plans)
{
    for (int i = 0; i < plans->count; i++)
        plan_free(plans->plans[i].plan);
    free(plans->plans);
    *plans = (struct running_plans){0};
}

static enum cli_exit plan_load(struct cli *cli, struct running_plans *plans, int64_t definition_id,
                               struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_int4(&params, (int32_t)definition_id);
    enum cli_exit status = cli_query(cli, &sql_cli_saga_plan, &params, &rows, error);
    if (status != CLI_DONE)
        return status;
    struct running_plan *grown =
        reallocarray(plans->plans, (size_t)plans->count + 1, sizeof *plans->plans);
    if (grown == NULL) {
        error_set(error, ERROR_NO_MEMORY, RETRY_NEVER, "no memory for a definition");
        return CLI_FAILED;
    }
    plans->plans = grown;
    size_t bytes;
    const char *text = pg_bytes(rows, 0, 0, &bytes);
    struct plan *plan;
    if (plan_read(text, bytes, &plan, error) < 0)
        return CLI_FAILED;
    grown[plans->count++] = (struct running_plan){.definition_id = definition_id, .plan = plan};
    return CLI_DONE;
}

enum cli_exit running_plan(struct cli *cli, struct running_plans *plans, int64_t definition_id,
                           const struct plan **ret_plan, struct error *error)
{
    for (int i = 0; i < plans->count; i++)
        if (plans->plans[i].definition_id == definition_id) {
            *ret_plan = plans->plans[i].plan;
            return CLI_DONE;
        }
    enum cli_exit status = plan_load(cli, plans, definition_id, error);
    if (status == CLI_DONE)
        *ret_plan = plans->plans[plans->count - 1].plan;
    return status;
}

enum cli_exit running_read(struct cli *cli, struct running_plans *plans,
                           const struct pg_result *rows, int row, struct running *ret_running,
                           struct error *error)
{
    struct running running = {.id = pg_uuid(rows, row, RUNNING_ID),
                              .revision = pg_int(rows, row, RUNNING_REVISION),
                              .now_us = pg_time_us(rows, row, RUNNING_NOW)};
    struct instance *instance = &running.instance;
    const char *state = pg_text(rows, row, RUNNING_STATE);
    const char *phase = pg_text(rows, row, RUNNING_PHASE);
    const char *reason = pg_text(rows, row, RUNNING_REASON);
    int state_value = saga_state_parse(state, strlen(state));
    int phase_value = phase != NULL ? saga_phase_parse(phase, strlen(phase)) : PHASE_NONE;
    if (state_value < 0 || phase_value < 0) {
        error_set(error, ERROR_PROTOCOL, RETRY_BUG, "unknown state %s: a newer version wrote it",
                  state);
        return CLI_FAILED;
    }
    instance->state = (enum saga_state)state_value;
    instance->phase = (enum saga_phase)phase_value;
    instance->paused = pg_bool(rows, row, RUNNING_PAUSED);
    instance->cancel_requested = pg_bool(rows, row, RUNNING_CANCEL);
    instance->deadline_us =
        pg_is_null(rows, row, RUNNING_DEADLINE) ? 0 : pg_time_us(rows, row, RUNNING_DEADLINE);
    snprintf(instance->reason, sizeof instance->reason, "%s", reason != NULL ? reason : "");
    enum cli_exit status =
        running_plan(cli, plans, pg_int(rows, row, RUNNING_DEFINITION_ID), &running.plan, error);
    if (status != CLI_DONE)
        return status;
    size_t bytes;
    const char *steps = pg_bytes(rows, row, RUNNING_STEPS, &bytes);
    if (state_json_read(steps, bytes, running.plan, instance, error) < 0)
        return CLI_FAILED;
    *ret_running = running;
    return CLI_DONE;
}

enum machine_verdict running_try_element(const struct running *running,
                                         enum machine_event_type event, int step, int element,
                                         const char **ret_because)
{
    struct instance instance = running->instance;
    struct machine_decision decision;
    struct machine_event tried = {
        .type = event, .step = step, .element = element, .now_us = running->now_us};
    machine_apply(running->plan, &instance, &tried, &decision);
    *ret_because = decision.because;
    return decision.verdict;
}

enum machine_verdict running_try(const struct running *running, enum machine_event_type event,
                                 int step, const char **ret_because)
{
    bool fans_out = step >= 0 && step_fans_out(&running->plan->steps[step]);
    return running_try_element(running, event, step, fans_out ? ELEMENT_ALL : 0, ret_because);
}
