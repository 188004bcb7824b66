/* `sagapost status`: the state of everything on one screen. */
#include "saga/cli/cli.h"
#include "saga/cli/output.h"
#include "saga/cli/sql.h"

/* One block of the screen, or one member of the JSON object. */
static enum cli_exit block_print(struct cli *cli, const char *title,
                                 const struct pg_statement *statement,
                                 const struct pg_params *params, const char *when_empty,
                                 struct error *error)
{
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    enum cli_exit status = cli_query(cli, statement, params, &rows, error);
    if (status != CLI_DONE)
        return status;
    fprintf(cli->out, cli->json ? ", \"%s\": " : "\n%s\n", title);
    output_result(cli, rows, when_empty);
    return CLI_DONE;
}

enum cli_exit status_command(struct cli *cli, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *parts __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_int8(&params, 1000000);
    enum cli_exit status = cli_connect(cli, error);
    if (status == CLI_DONE)
        status = cli_query(cli, &sql_cli_parts, NULL, &parts, error);
    if (status != CLI_DONE)
        return status;
    fputs(cli->json ? "{\"schema\": " : "schema\n", cli->out);
    output_result(cli, parts, "nothing: run sagapost migrate");
    if (cli_part_present(parts, "outbox"))
        status = block_print(cli, "outbox", &sql_cli_outbox_status, &params, "no share", error);
    if (status == CLI_DONE && cli_part_present(parts, "saga"))
        status = block_print(cli, "sagas", &sql_cli_status_saga, NULL, "no sagas", error);
    if (cli->json)
        fputs("}\n", cli->out);
    return status;
}
