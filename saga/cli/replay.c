/* `sagapost outbox replay`: published messages that are still in the log, sent again.
 *
 * The log is walked by id, in short statements: none holds a snapshot or a lock for long, and the
 * relay goes on beside it. A stride of ids is taken first, then the rows of it that are asked for,
 * batch by batch; each batch is confirmed before the next is read. So the last id is always known
 * up to which all is done, and --after carries on there. */
#include "saga/cli/replay.h"
#include "saga/cli/cli.h"
#include "saga/cli/output.h"
#include "saga/cli/replay_send.h"
#include "saga/cli/sql.h"
#include <inttypes.h>
#include <string.h>

#define PROGRESS_US (2 * US_PER_S)

enum begin_column { BEGIN_FROM, BEGIN_TO, BEGIN_LAST_ID, BEGIN_IS_FOREIGN };
enum stride_column { STRIDE_LAST_ID, STRIDE_ROWS };

struct replay {
    struct cli *cli;
    struct sender *sender;     /* NULL: --dry-run */
    struct pg_result *begin;   /* the times, as the server reads them */
    int64_t after_id, last_id; /* done up to; to be done up to */
    int64_t messages, rows;    /* sent; of the log looked at */
    int64_t told_us;
};

static void tell_progress(struct replay *replay)
{
    int64_t now_us = clock_monotonic_us(&clock_system);

    if (replay->cli->json || now_us - replay->told_us < PROGRESS_US)
        return;
    if (replay->told_us)
        fprintf(stderr, "sagapost: %" PRId64 " messages, at id %" PRId64 " of %" PRId64 "\n",
                replay->messages, replay->after_id, replay->last_id);
    replay->told_us = now_us;
}

static enum cli_exit read_rows(struct replay *replay, int64_t stride_end,
                               struct pg_result **ret_rows, struct error *error)
{
    struct config *config = replay->cli->config;
    struct pg_params params __attribute__((cleanup(pg_params_free)));

    pg_params_init(&params);
    pg_params_int8(&params, replay->after_id);
    pg_params_int8(&params, stride_end);
    pg_params_text(&params, pg_text(replay->begin, 0, BEGIN_FROM));
    pg_params_text(&params, pg_text(replay->begin, 0, BEGIN_TO));
    pg_params_text(&params, config_text(config, "type"));
    pg_params_text(&params, config_text(config, "key"));
    pg_params_int4(&params, REPLAY_ROWS_MAX);
    pg_params_int8(&params, REPLAY_BYTES_MAX);
    return cli_query(replay->cli, &sql_cli_replay_rows, &params, ret_rows, error);
}

static bool was_cut(const struct pg_result *rows)
{
    int64_t bytes = 0;

    for (int i = 0; i < pg_result_rows(rows); i++)
        bytes += pg_int(rows, i, ROW_BYTES);
    return pg_result_rows(rows) == REPLAY_ROWS_MAX || bytes >= REPLAY_BYTES_MAX;
}

/* All of the log up to `stride_end`. */
static enum cli_exit replay_stride(struct replay *replay, int64_t stride_end, struct error *error)
{
    while (replay->after_id < stride_end) {
        struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
        enum cli_exit status = read_rows(replay, stride_end, &rows, error);
        if (status != CLI_DONE)
            return status;
        int count = pg_result_rows(rows), done = count;
        int failed = replay->sender ? sender_send(replay->sender, rows, &done, error) : 0;
        replay->messages += done;
        if (done > 0)
            replay->after_id = pg_int(rows, done - 1, ROW_ID);
        if (failed < 0)
            return CLI_FAILED;
        if (!was_cut(rows))
            replay->after_id = stride_end;
        tell_progress(replay);
    }
    return CLI_DONE;
}

static enum cli_exit replay_log(struct replay *replay, struct error *error)
{
    while (replay->after_id < replay->last_id) {
        struct pg_params params __attribute__((cleanup(pg_params_free)));
        struct pg_result *stride __attribute__((cleanup(pg_result_freep))) = NULL;
        pg_params_init(&params);
        pg_params_int8(&params, replay->after_id);
        pg_params_int8(&params, replay->last_id);
        pg_params_int4(&params, REPLAY_STRIDE_IDS);
        enum cli_exit status =
            cli_query(replay->cli, &sql_cli_replay_stride, &params, &stride, error);
        if (status != CLI_DONE)
            return status;
        if (pg_is_null(stride, 0, STRIDE_LAST_ID)) {
            replay->after_id = replay->last_id;
            break;
        }
        status = replay_stride(replay, pg_int(stride, 0, STRIDE_LAST_ID), error);
        if (status != CLI_DONE)
            return status;
        replay->rows += pg_int(stride, 0, STRIDE_ROWS);
    }
    return CLI_DONE;
}

/* Beginning and ending ------------------------------------------------------------------------- */

static enum cli_exit replay_begin(struct replay *replay, struct error *error)
{
    struct config *config = replay->cli->config;
    struct pg_params params __attribute__((cleanup(pg_params_free)));

    pg_params_init(&params);
    if (!config_is_set(config, "from")) {
        error_set(error, ERROR_USAGE, RETRY_NEVER,
                  "outbox replay: --from TIME says since when; all that is still in the log: "
                  "--from=-infinity");
        return CLI_USAGE;
    }
    enum cli_exit status = cli_connect(replay->cli, error);
    if (status != CLI_DONE)
        return status;
    pg_params_text(&params, config_text(config, "from"));
    pg_params_text(&params, config_text(config, "to"));
    status = cli_query(replay->cli, &sql_cli_replay_begin, &params, &replay->begin, error);
    if (status == CLI_FAILED && strncmp(error->sqlstate, "22", 2) == 0)
        return CLI_USAGE; /* no time */
    if (status != CLI_DONE)
        return status;
    if (pg_bool(replay->begin, 0, BEGIN_IS_FOREIGN)) {
        error_set(
            error, ERROR_STATE, RETRY_NEVER,
            "outbox replay: the relay's position is of another server or database and does not "
            "say here what is published; run 'sagapost outbox rebase' first");
        return CLI_REFUSED;
    }
    replay->last_id = pg_int(replay->begin, 0, BEGIN_LAST_ID);
    replay->after_id = config_count(config, "after");
    return CLI_DONE;
}

static enum cli_exit read_routes(struct replay *replay, struct routes *routes, struct error *error)
{
    struct pg_result *table = NULL;
    enum cli_exit status = cli_query(replay->cli, &sql_cli_routes, NULL, &table, error);

    if (status == CLI_DONE && routes_load(routes, table, error) < 0)
        status = CLI_FAILED;
    return status;
}

static void tell_end(const struct replay *replay, bool complete)
{
    static const char *const headings[] = {"messages", "rows",    "last_id",
                                           "complete", "dry_run", NULL};
    bool dry_run = replay->sender == NULL;

    if (replay->cli->json) {
        struct output *output = output_begin(replay->cli, headings);
        output_integer(output, replay->messages);
        output_integer(output, replay->rows);
        output_integer(output, replay->after_id);
        output_bool(output, complete);
        output_bool(output, dry_run);
        output_end(output, "");
    } else if (complete) {
        fprintf(replay->cli->out,
                dry_run ? "%" PRId64 " messages would be sent again, of %" PRId64
                          " rows of the log\n"
                        : "%" PRId64 " messages sent again, of %" PRId64 " rows of the log\n",
                replay->messages, replay->rows);
    } else {
        fprintf(replay->cli->out,
                "%" PRId64
                " messages sent again and confirmed; to go on after them: --after %" PRId64 "\n",
                replay->messages, replay->after_id);
    }
}

static enum cli_exit replay_send(struct replay *replay, const struct routes *routes,
                                 struct error *error)
{
    enum cli_exit status = CLI_DONE;

    if (!config_bool(replay->cli->config, "dry-run") &&
        sender_create(&replay->sender, replay->cli, routes, error) < 0)
        return CLI_FAILED;
    status = replay_log(replay, error);
    tell_end(replay, status == CLI_DONE);
    sender_destroy(replay->sender);
    return status;
}

enum cli_exit replay_command(struct cli *cli, struct error *error)
{
    struct replay replay = {.cli = cli};
    struct routes *routes = NULL;
    enum cli_exit status = replay_begin(&replay, error);

    if (status == CLI_DONE &&
        routes_create(&routes, config_text(cli->config, "default-exchange"), false, error) < 0)
        status = CLI_FAILED;
    if (status == CLI_DONE)
        status = read_routes(&replay, routes, error);
    if (status == CLI_DONE)
        status = replay_send(&replay, routes, error);
    routes_destroy(routes);
    pg_result_free(replay.begin);
    return status;
}
