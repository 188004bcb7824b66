/* `sagapost migrate`: brings a database's schema to what this program needs.
 *
 * One session at a time (an advisory lock), numbered migrations in order, each in a transaction of
 * its own together with its row in outbox.migration. A migration that fails leaves those before it
 * applied and itself undone; running it again goes on from there. */
#include "saga/cli/migrate.h"
#include "saga/cli/cli.h"
#include "saga/cli/output.h"
#include "saga/cli/sql.h"
#include <stdlib.h>
#include <string.h>

static void table_print_plan(struct cli *cli, const struct migrate_plan *plan)
{
    static const char *const headings[] = {"number", "name", "part", NULL};
    struct output *output = output_begin(cli, headings);
    for (int i = 0; i < plan->count; i++) {
        output_integer(output, plan->steps[i]->number);
        output_text(output, plan->steps[i]->name);
        output_text(output, plan->steps[i]->part);
    }
    output_end(output, "nothing to apply: the schema is up to date");
}

static enum cli_exit applied_read(struct cli *cli, struct pg_result **ret_rows, struct error *error)
{
    struct pg_result *present __attribute__((cleanup(pg_result_freep))) = NULL;
    enum cli_exit status = cli_query(cli, &sql_cli_migration_table, NULL, &present, error);
    if (status != CLI_DONE || !pg_bool(present, 0, 0))
        return status;
    return cli_query(cli, &sql_cli_migration_list, NULL, ret_rows, error);
}

/* --to as a number; 0: the newest. */
static int number_of_to(const struct cli *cli, int *ret_number, struct error *error)
{
    const char *text = config_text(cli->config, "to");
    char *end = NULL;
    long number = text != NULL ? strtol(text, &end, 10) : 0;
    if (text != NULL && (end == text || *end != '\0' || number < 0 || number > INT32_MAX))
        return error_set(error, ERROR_USAGE, RETRY_NEVER,
                         "--to is '%s': allowed is the number of a migration", text);
    *ret_number = (int)number;
    return 0;
}

static enum cli_exit plan_make(struct cli *cli, struct migrate_plan *ret_plan, struct error *error)
{
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    enum cli_exit status = applied_read(cli, &rows, error);
    if (status != CLI_DONE)
        return status;
    struct applied_migration applied[MIGRATE_MAX];
    int count = rows != NULL ? pg_result_rows(rows) : 0;
    if (count > MIGRATE_MAX)
        count = MIGRATE_MAX;
    for (int i = 0; i < count; i++)
        applied[i] = (struct applied_migration){.number = (int)pg_int(rows, i, 0),
                                                .name = pg_text(rows, i, 1),
                                                .checksum = pg_text(rows, i, 2)};
    int to = 0;
    int rc = number_of_to(cli, &to, error);
    if (rc == 0)
        rc = migrate_decide(config_text(cli->config, "parts"), to, applied, count, ret_plan, error);
    if (rc == ERROR_USAGE)
        return CLI_USAGE;
    return rc < 0 ? CLI_REFUSED : CLI_DONE;
}

/* Begin, the migration, its record, commit. On failure the transaction is rolled back, and the
 * failure reported is the first. */
static int step_apply(struct cli *cli, const struct migration *step, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_int4(&params, step->number);
    pg_params_text(&params, step->name);
    pg_params_text(&params, step->part);
    pg_params_text(&params, step->sha256);
    int rc = pg_client_script(cli->pg, "begin", error);
    if (rc == 0)
        rc = pg_client_script(cli->pg, step->text, error);
    if (rc == 0)
        rc = pg_client_query(cli->pg, sql_cli_migration_record.sql, &params, NULL, error);
    if (rc == 0)
        rc = pg_client_script(cli->pg, "commit", error);
    if (rc < 0) {
        struct error ignored;
        error_context(error, "migration %d (%s)", step->number, step->name);
        if (pg_client_script(cli->pg, "rollback", &ignored) < 0)
            return rc; /* the connection is gone, and the transaction with it */
    }
    return rc;
}

enum cli_exit migrate_command(struct cli *cli, struct error *error)
{
    enum cli_exit status = cli_connect(cli, error);
    if (status != CLI_DONE)
        return status;
    /* Released with the session, however this ends. */
    status = cli_query(cli, &sql_cli_migration_lock, NULL, NULL, error);
    if (status != CLI_DONE)
        return status;
    struct migrate_plan plan = {0};
    status = plan_make(cli, &plan, error);
    if (status != CLI_DONE)
        return status;
    for (int i = 0; i < plan.count; i++)
        if (step_apply(cli, plan.steps[i], error) < 0)
            return CLI_FAILED;
    table_print_plan(cli, &plan);
    return CLI_DONE;
}
