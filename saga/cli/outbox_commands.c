/* `sagapost outbox ...`: how far the relay is, and what it had to set aside. */
#include "saga/cli/cli.h"
#include "saga/cli/intent.h"
#include "saga/cli/output.h"
#include "saga/cli/parked_many.h"
#include "saga/cli/sql.h"
#include "saga/cli/watch.h"
#include <string.h>

/* A backlog of millions is a number nobody reads to the last digit; counting it all would read it
 * all. */
#define BACKLOG_ROWS_COUNTED 1000000

enum cli_exit outbox_status_command(struct cli *cli, struct error *error)
{
    if (config_bool(cli->config, "watch"))
        return watch_outbox(cli, error);
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *shares __attribute__((cleanup(pg_result_freep))) = NULL;
    struct pg_result *leaves __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_int8(&params, BACKLOG_ROWS_COUNTED);
    enum cli_exit status = cli_connect(cli, error);
    if (status == CLI_DONE)
        status = cli_query(cli, &sql_cli_outbox_status, &params, &shares, error);
    if (status == CLI_DONE && !cli->json)
        status = cli_query(cli, &sql_cli_outbox_leaves, NULL, &leaves, error);
    if (status != CLI_DONE)
        return status;
    output_result(cli, shares, "no share of the log: sagapost migrate has not run here");
    if (!cli->json) {
        fputs("\nring\n", cli->out);
        output_result(cli, leaves, "no leaves");
    }
    return CLI_DONE;
}

enum cli_exit ghosts_command(struct cli *cli, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_int8(&params, config_count(cli->config, "limit"));
    enum cli_exit status = cli_connect(cli, error);
    if (status == CLI_DONE)
        status = cli_query(cli, &sql_cli_outbox_ghosts, &params, &rows, error);
    if (status == CLI_DONE)
        output_result(cli, rows, "no ghosts are known");
    return status;
}

enum cli_exit parked_list_command(struct cli *cli, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_text(&params, config_text(cli->config, "state"));
    pg_params_text(&params, config_text(cli->config, "type"));
    pg_params_text(&params, config_text(cli->config, "key"));
    pg_params_int8(&params, config_count(cli->config, "limit"));
    enum cli_exit status = parked_states_check(cli, error);
    if (status == CLI_DONE)
        status = cli_connect(cli, error);
    if (status == CLI_DONE)
        status = cli_query(cli, &sql_cli_parked_list, &params, &rows, error);
    if (status == CLI_DONE)
        output_list(cli, rows, "nothing is parked");
    return status;
}

static enum cli_exit message_id_parse(const char *word, struct uuid *ret_id, struct error *error)
{
    if (uuid_parse(word, strlen(word), ret_id, error) == 0)
        return CLI_DONE;
    error_set(error, ERROR_USAGE, RETRY_NEVER, "\"%s\" is no message id: it has the form of a UUID",
              word);
    return CLI_USAGE;
}

static enum cli_exit parked_read(struct cli *cli, const char *word, struct pg_result **ret_row,
                                 struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct uuid id;
    pg_params_init(&params);
    enum cli_exit status = message_id_parse(word, &id, error);
    if (status == CLI_DONE)
        status = cli_connect(cli, error);
    if (status != CLI_DONE)
        return status;
    pg_params_uuid(&params, &id);
    status = cli_query(cli, &sql_cli_parked_show, &params, ret_row, error);
    if (status == CLI_DONE && pg_result_rows(*ret_row) == 0) {
        error_set(error, ERROR_NOT_FOUND, RETRY_POISON, "no message %s is parked", word);
        return CLI_NOT_FOUND;
    }
    return status;
}

enum cli_exit parked_show_command(struct cli *cli, struct error *error)
{
    struct pg_result *row __attribute__((cleanup(pg_result_freep))) = NULL;
    enum cli_exit status = parked_read(cli, cli->words[0], &row, error);
    if (status == CLI_DONE)
        output_record(cli, row);
    return status;
}

/* --dry-run of messages that are named: whether each is there. What a rule forbids is found when it
 * is asked for. */
static enum cli_exit parked_look(struct cli *cli, struct error *error)
{
    enum cli_exit status = CLI_DONE;
    for (int i = 0; i < cli->word_count && status == CLI_DONE; i++) {
        struct pg_result *row __attribute__((cleanup(pg_result_freep))) = NULL;
        status = parked_read(cli, cli->words[i], &row, error);
        if (status == CLI_DONE)
            fprintf(cli->out, "%s: would be asked for\n", cli->words[i]);
    }
    return status;
}

/* The same for requeue and discard: each message named is asked for, then the relay's answer is
 * waited for. */
static enum cli_exit parked_change(struct cli *cli, const struct pg_statement *statement,
                                   struct error *error)
{
    if (config_bool(cli->config, "dry-run"))
        return parked_look(cli, error);
    enum cli_exit status = cli_connect(cli, error);
    for (int i = 0; i < cli->word_count && status == CLI_DONE; i++) {
        struct pg_params params __attribute__((cleanup(pg_params_free)));
        struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
        struct uuid id;
        pg_params_init(&params);
        status = message_id_parse(cli->words[i], &id, error);
        if (status != CLI_DONE)
            break;
        pg_params_uuid(&params, &id);
        pg_params_text(&params, config_text(cli->config, "reason"));
        status = cli_query(cli, statement, &params, &rows, error);
        if (status == CLI_DONE)
            status =
                intent_await(cli, &sql_cli_outbox_intent_wait, pg_int(rows, 0, 0), "relay", error);
        if (status == CLI_DONE)
            fprintf(cli->out, "%s: done\n", cli->words[i]);
    }
    return status;
}

enum cli_exit parked_requeue_command(struct cli *cli, struct error *error)
{
    return cli->word_count > 0 ? parked_change(cli, &sql_cli_parked_requeue, error)
                               : parked_change_many(cli, "requeue", error);
}

enum cli_exit parked_discard_command(struct cli *cli, struct error *error)
{
    return cli->word_count > 0 ? parked_change(cli, &sql_cli_parked_discard, error)
                               : parked_change_many(cli, "discard", error);
}
