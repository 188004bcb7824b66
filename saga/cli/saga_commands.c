/* `sagapost saga list`, `timeline`, `locks`, `graph`: what sagas there are, and what happened to
 * one. saga_show.c shows one, saga_change.c changes them. */
#include "saga/cli/output.h"
#include "saga/cli/saga_find.h"
#include "saga/cli/sql.h"
#include "saga/cli/states.h"
#include <string.h>

#define ELEMENTS_TOLD 5 /* of each event of a fan-out */

enum cli_exit saga_list_command(struct cli *cli, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_text(&params, config_text(cli->config, "state"));
    pg_params_text(&params, config_text(cli->config, "definition"));
    pg_params_text(&params, config_text(cli->config, "key"));
    pg_params_int8(&params, config_count(cli->config, "limit"));
    enum cli_exit status = saga_states_check(cli, error);
    if (status == CLI_DONE)
        status = cli_connect(cli, error);
    if (status == CLI_DONE)
        status = cli_query(cli, &sql_cli_saga_list, &params, &rows, error);
    if (status == CLI_DONE)
        output_list(cli, rows, "no sagas");
    return status;
}

enum cli_exit saga_find(struct cli *cli, struct uuid *ret_id, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_text(&params, cli->words[0]);
    pg_params_text(&params, config_text(cli->config, "definition"));
    enum cli_exit status = cli_connect(cli, error);
    if (status == CLI_DONE)
        status = cli_query(cli, &sql_cli_saga_find, &params, &rows, error);
    if (status != CLI_DONE)
        return status;
    if (pg_result_rows(rows) == 0) {
        error_set(error, ERROR_NOT_FOUND, RETRY_POISON, "no saga has the id or the key \"%s\"",
                  cli->words[0]);
        return CLI_NOT_FOUND;
    }
    if (pg_result_rows(rows) > 1) {
        error_set(error, ERROR_USAGE, RETRY_POISON,
                  "%d definitions have a saga with the key \"%s\": say which with --definition",
                  pg_result_rows(rows), cli->words[0]);
        return CLI_USAGE;
    }
    *ret_id = pg_uuid(rows, 0, 0);
    return CLI_DONE;
}

enum cli_exit saga_query(struct cli *cli, const struct pg_statement *statement,
                         const struct uuid *id, struct pg_result **ret_rows, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_uuid(&params, id);
    return cli_query(cli, statement, &params, ret_rows, error);
}

/* Scripts get every row. */
static enum cli_exit timeline_read(struct cli *cli, const struct uuid *id,
                                   struct pg_result **ret_rows, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    if (cli->json)
        return saga_query(cli, &sql_cli_saga_timeline, id, ret_rows, error);
    pg_params_init(&params);
    pg_params_uuid(&params, id);
    pg_params_int8(&params, ELEMENTS_TOLD);
    return cli_query(cli, &sql_cli_saga_timeline_short, &params, ret_rows, error);
}

enum cli_exit saga_timeline_command(struct cli *cli, struct error *error)
{
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    struct uuid id;
    enum cli_exit status = saga_find(cli, &id, error);
    if (status == CLI_DONE)
        status = timeline_read(cli, &id, &rows, error);
    if (status == CLI_DONE)
        output_result(cli, rows, "nothing has happened yet");
    return status;
}

enum cli_exit saga_locks_command(struct cli *cli, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_text(&params, cli->word_count > 0 ? cli->words[0] : NULL);
    pg_params_int8(&params, config_count(cli->config, "limit"));
    enum cli_exit status = cli_connect(cli, error);
    if (status == CLI_DONE)
        status = cli_query(cli, &sql_cli_saga_locks, &params, &rows, error);
    if (status == CLI_DONE)
        output_result(cli, rows, "no locks");
    return status;
}

enum cli_exit saga_graph_command(struct cli *cli, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_text(&params, cli->words[0]);
    pg_params_int4(&params, (int32_t)config_count(cli->config, "definition-version"));
    enum cli_exit status = cli_connect(cli, error);
    if (status == CLI_DONE)
        status = cli_query(cli, &sql_cli_saga_graph, &params, &rows, error);
    if (status != CLI_DONE)
        return status;
    if (pg_result_rows(rows) == 0) {
        error_set(error, ERROR_NOT_FOUND, RETRY_POISON,
                  "no such version of a definition \"%s\" is published", cli->words[0]);
        return CLI_NOT_FOUND;
    }
    if (cli->json)
        output_result(cli, rows, NULL);
    else
        fprintf(cli->out, "%s\n", pg_text(rows, 0, 0));
    return CLI_DONE;
}
