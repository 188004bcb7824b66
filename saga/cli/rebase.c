/* `sagapost outbox rebase`: carries on with a log that came from another server. */
#include "saga/cli/cli.h"
#include "saga/cli/output.h"
#include "saga/cli/sql.h"
#include <inttypes.h>
#include <string.h>

enum rebase_column { REBASE_OUTCOME, REBASE_SETTLED_ROWS, REBASE_UNSETTLED_ROWS };

static void outcome_print(struct cli *cli, const struct pg_result *rows)
{
    const char *outcome = pg_text(rows, 0, REBASE_OUTCOME);
    if (strcmp(outcome, "nothing") == 0)
        fputs("nothing to do: the relay's position is of this server and database\n", cli->out);
    else if (strcmp(outcome, "renamed") == 0)
        fputs("the relay's position is of this server now; it may be started\n", cli->out);
    else
        fprintf(cli->out,
                "rebased: %" PRId64 " rows of the log are published, %" PRId64
                " are still to be; the relay may be started\n",
                pg_int(rows, 0, REBASE_SETTLED_ROWS), pg_int(rows, 0, REBASE_UNSETTLED_ROWS));
}

enum cli_exit rebase_command(struct cli *cli, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_bool(&params, config_bool(cli->config, "same-xids"));
    enum cli_exit status = cli_connect(cli, error);
    if (status == CLI_DONE)
        status = cli_query(cli, &sql_cli_outbox_rebase, &params, &rows, error);
    if (status != CLI_DONE)
        return status;
    if (cli->json)
        output_record(cli, rows);
    else
        outcome_print(cli, rows);
    return CLI_DONE;
}
