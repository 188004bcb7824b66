#include "saga/cli/move.h"

#include "saga/cli/sql.h"
#include <stdlib.h>
#include <string.h>

enum cli_exit move_read_version(struct cli *cli, struct move *ret_move, struct error *error)
{
    const char *text = config_text(cli->config, "to");
    char *end = NULL;
    long version = text != NULL ? strtol(text, &end, 10) : 0;
    if (text == NULL || end == text || *end != '\0' || version < 1 || version > INT32_MAX) {
        error_set(error, ERROR_USAGE, RETRY_NEVER,
                  text == NULL ? "--to is missing: the version that sagas are to go on by"
                               : "--to: no version of a definition; allowed is a whole number from "
                                 "1 on");
        return CLI_USAGE;
    }
    *ret_move = (struct move){.version = version};
    return CLI_DONE;
}

static enum cli_exit find_version(struct cli *cli, struct running_plans *plans, struct move *move,
                                  const char *definition, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    if (move->to != NULL && strcmp(move->definition, definition) == 0)
        return CLI_DONE;
    pg_params_init(&params);
    pg_params_text(&params, definition);
    pg_params_int8(&params, move->version);
    enum cli_exit status = cli_query(cli, &sql_cli_saga_version, &params, &rows, error);
    if (status != CLI_DONE)
        return status;
    if (pg_result_rows(rows) == 0) {
        error_set(error, ERROR_NOT_FOUND, RETRY_POISON, "there is no version %lld of \"%s\"",
                  (long long)move->version, definition);
        return CLI_NOT_FOUND;
    }
    move->definition_id = pg_int(rows, 0, 0);
    snprintf(move->definition, sizeof move->definition, "%s", definition);
    return running_plan(cli, plans, move->definition_id, &move->to, error);
}

/* Says in move->why what in its data forbids it; *ret_unfit: something does. */
static enum cli_exit find_obstacle(struct cli *cli, struct move *move, const struct uuid *saga,
                                   bool *ret_unfit, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_uuid(&params, saga);
    pg_params_int4(&params, (int32_t)move->definition_id);
    enum cli_exit status = cli_query(cli, &sql_cli_saga_obstacles, &params, &rows, error);
    if (status != CLI_DONE)
        return status;
    *ret_unfit = pg_result_rows(rows) > 0;
    if (*ret_unfit)
        snprintf(move->why, sizeof move->why, "%s", pg_text(rows, 0, 0));
    return CLI_DONE;
}

enum cli_exit move_try(struct cli *cli, struct running_plans *plans, struct move *move,
                       const struct running *running, enum machine_verdict *ret_verdict,
                       const char **ret_because, struct error *error)
{
    struct instance instance = running->instance;
    struct machine_decision decision;
    bool unfit = false;
    enum cli_exit status = find_version(cli, plans, move, running->plan->definition, error);
    if (status == CLI_DONE)
        status = find_obstacle(cli, move, &running->id, &unfit, error);
    if (status != CLI_DONE)
        return status;
    struct machine_event tried = {.type = EVENT_MIGRATE,
                                  .step = -1,
                                  .to = move->to,
                                  .unfit = unfit,
                                  .now_us = running->now_us};
    machine_apply(running->plan, &instance, &tried, &decision);
    *ret_verdict = decision.verdict;
    *ret_because = decision.because;
    char why[MIGRATE_TEXT_BYTES_MAX];
    if (decision.verdict == VERDICT_REFUSED && instance.phase != PHASE_PROTOCOL) {
        if (migrate_differs(running->plan, &instance, move->to, why))
            memcpy(move->why, why, sizeof why);
        *ret_because = move->why;
    }
    return CLI_DONE;
}
