/* `sagapost saga top`: sagas by definition, drawn anew every --interval; once where there is no
 * terminal, and with --json. */
#include "saga/cli/output.h"
#include "saga/cli/screen.h"
#include "saga/cli/sql.h"
#include <stdlib.h>
#include <unistd.h>

/* Rates and latencies are of the last minute. */
#define LATELY_US   (60 * US_PER_S)
#define STUCK_SHOWN 10

static enum cli_exit definitions_print(struct cli *cli, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_int8(&params, LATELY_US);
    pg_params_text(&params, config_text(cli->config, "definition"));
    enum cli_exit status = cli_query(cli, &sql_cli_saga_top, &params, &rows, error);
    if (status == CLI_DONE)
        output_result(cli, rows, "no saga runs, and none has ended within the last minute");
    return status;
}

static enum cli_exit stuck_print(struct cli *cli, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_text(&params, config_text(cli->config, "definition"));
    pg_params_int8(&params, STUCK_SHOWN);
    enum cli_exit status = cli_query(cli, &sql_cli_saga_top_stuck, &params, &rows, error);
    if (status == CLI_DONE)
        output_result(cli, rows, "nothing is stuck");
    return status;
}

static enum cli_exit sample_print(struct cli *cli, struct error *error)
{
    enum cli_exit status = cli_connect(cli, error);
    if (cli->json)
        fputs("{\"definitions\": ", cli->out);
    if (status == CLI_DONE)
        status = definitions_print(cli, error);
    fputs(cli->json ? ", \"stuck\": " : "\nstuck, the newest\n", cli->out);
    if (status == CLI_DONE)
        status = stuck_print(cli, error);
    if (cli->json)
        fputs("}\n", cli->out);
    return status;
}

/* A server that goes away is part of what one wants to see: the next sample connects again. */
static void sample_failed(struct cli *cli, const struct error *error)
{
    fprintf(cli->out, "\n%s\n", error->message);
    pg_client_close(cli->pg);
    cli->pg = NULL;
}

static void sample_draw(struct cli *cli)
{
    struct error error = {0};
    FILE *terminal = cli->out;
    char *text = NULL, stamp[OUTPUT_TIME_BYTES];
    size_t bytes;
    cli->out = open_memstream(&text, &bytes);
    if (cli->out == NULL) {
        cli->out = terminal;
        screen_draw("no memory");
        return;
    }
    output_time_text(clock_wall_us(&clock_system), stamp);
    fprintf(cli->out, "sagas by definition  %s  rates and latencies: the last minute  q: quit\n\n",
            stamp);
    if (sample_print(cli, &error) != CLI_DONE)
        sample_failed(cli, &error);
    fclose(cli->out);
    cli->out = terminal;
    screen_draw(text);
    free(text);
}

enum cli_exit saga_top_command(struct cli *cli, struct error *error)
{
    if (cli->json || !isatty(STDOUT_FILENO))
        return sample_print(cli, error);
    enum cli_exit status =
        cli_connect(cli, error); /* what is wrong from the start is said, not drawn */
    if (status != CLI_DONE)
        return status;
    if (screen_open(error) < 0)
        return CLI_USAGE;
    do {
        sample_draw(cli);
    } while (screen_wait(config_us(cli->config, "interval")));
    screen_close();
    return CLI_DONE;
}
