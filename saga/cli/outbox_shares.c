/* `sagapost outbox shares`: the shares of the log, and another number of them.
 *
 * The relays change it (migrations/0018_shares.sql); this asks for it, and watches. So it may be
 * interrupted at any moment, and run again. */
#include "outbox/runtime/buffer.h"
#include "outbox/runtime/failpoint.h"
#include "saga/cli/cli.h"
#include "saga/cli/output.h"
#include "saga/cli/sql.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BACKLOG_ROWS_COUNTED 100000 /* per share, at most: it hashes each */
#define LOOK_EVERY_US        (200 * US_PER_MS)
#define SHARES_MAX           64
#define WAITING_BYTES_MAX    65536
#define LOCK_NOT_AVAILABLE   "55P03"

enum shares_column {
    SHARES_SHARE,
    SHARES_OWNER,
    SHARES_EPOCH,
    SHARES_BACKLOG,
    SHARES_OLDEST,
    SHARES_STATE
};
enum wanted_column { WANTED_SHARES, WANTED_WANTED, WANTED_BY, WANTED_AT, WANTED_MOVING };

static enum cli_exit read_shares(struct cli *cli, struct pg_result **ret_shares,
                                 struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_int8(&params, BACKLOG_ROWS_COUNTED);
    return cli_query(cli, &sql_cli_outbox_shares, &params, ret_shares, error);
}

static enum cli_exit list(struct cli *cli, struct error *error)
{
    struct pg_result *shares __attribute__((cleanup(pg_result_freep))) = NULL;
    struct pg_result *wanted __attribute__((cleanup(pg_result_freep))) = NULL;
    enum cli_exit status = read_shares(cli, &shares, error);
    if (status == CLI_DONE)
        status = cli_query(cli, &sql_cli_outbox_shares_wanted, NULL, &wanted, error);
    if (status != CLI_DONE)
        return status;
    output_result(cli, shares, "no share of the log: sagapost migrate has not run here");
    if (!cli->json && !pg_is_null(wanted, 0, WANTED_WANTED))
        fprintf(cli->out, "\n%" PRId64 " shares are wanted; asked for by %s at %s\n",
                pg_int(wanted, 0, WANTED_WANTED), pg_text(wanted, 0, WANTED_BY),
                pg_text(wanted, 0, WANTED_AT));
    return CLI_DONE;
}

/* What the change waits for, each time that is something else. */
static enum cli_exit say_waiting(struct cli *cli, struct buffer *said, struct error *error)
{
    struct pg_result *shares __attribute__((cleanup(pg_result_freep))) = NULL;
    struct buffer text;
    enum cli_exit status = read_shares(cli, &shares, error);
    if (status != CLI_DONE)
        return status;
    buffer_init(&text, WAITING_BYTES_MAX);
    for (int i = 0; i < pg_result_rows(shares); i++) {
        if (strcmp(pg_text(shares, i, SHARES_STATE), "at rest") != 0)
            buffer_append_format(&text, "sagapost: waiting for share %" PRId64 ": %s\n",
                                 pg_int(shares, i, SHARES_SHARE), pg_text(shares, i, SHARES_STATE));
    }
    if (strcmp(buffer_text(&text), buffer_text(said)) != 0) {
        buffer_clear(said);
        buffer_append_text(said, buffer_text(&text));
        fputs(buffer_text(said), stderr);
    }
    buffer_free(&text);
    return CLI_DONE;
}

static void look_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = LOOK_EVERY_US * 1000}, NULL);
}

/* The log's lock is asked for briefly, so that writers do not queue behind us: again and again. */
static enum cli_exit ask(struct cli *cli, const struct pg_statement *statement,
                         const struct pg_params *params, int64_t end_us,
                         struct pg_result **ret_outcome, struct error *error)
{
    bool said = false;
    for (;;) {
        enum cli_exit status = cli_query(cli, statement, params, ret_outcome, error);
        if (status == CLI_DONE || strcmp(error->sqlstate, LOCK_NOT_AVAILABLE) != 0 ||
            clock_monotonic_us(&clock_system) >= end_us)
            return status;
        if (!said)
            fputs("sagapost: waiting for transactions that have written messages and are open\n",
                  stderr);
        said = true;
        for (int i = 0; i < 5; i++)
            look_pause();
    }
}

/* Parked messages go to their new shares, some thousands each time: also where no relay runs that
 * would do it. */
static enum cli_exit help(struct cli *cli, struct error *error)
{
    struct pg_result *nothing __attribute__((cleanup(pg_result_freep))) = NULL;
    return cli_query(cli, &sql_cli_outbox_shares_step, NULL, &nothing, error);
}

/* Until there are so many, or somebody wants something else. */
static enum cli_exit watch(struct cli *cli, int64_t wanted, int64_t end_us, struct error *error)
{
    struct buffer said __attribute__((cleanup(buffer_free)));
    buffer_init(&said, WAITING_BYTES_MAX);
    bool moving = false;
    for (;;) {
        struct pg_result *now __attribute__((cleanup(pg_result_freep))) = NULL;
        enum cli_exit status = cli_query(cli, &sql_cli_outbox_shares_wanted, NULL, &now, error);
        if (status != CLI_DONE)
            return status;
        if (pg_is_null(now, 0, WANTED_WANTED) && pg_int(now, 0, WANTED_SHARES) == wanted)
            return CLI_DONE;
        if (pg_is_null(now, 0, WANTED_WANTED) || pg_int(now, 0, WANTED_WANTED) != wanted) {
            error_set(error, ERROR_REFUSED, RETRY_POISON,
                      "somebody else has taken the change back, or wants another number");
            return CLI_REFUSED;
        }
        if (clock_monotonic_us(&clock_system) >= end_us) {
            error_set(error, ERROR_TIMEOUT, RETRY_LATER,
                      pg_bool(now, 0, WANTED_MOVING)
                          ? "parked messages are being moved to their shares, and that goes on "
                            "without this command; sagapost outbox shares %" PRId64 " waits for it"
                          : "the change is under way and goes on without this command; sagapost "
                            "outbox shares %" PRId64 " takes it back",
                      pg_int(now, 0, WANTED_SHARES));
            return CLI_FAILED;
        }
        if (pg_bool(now, 0, WANTED_MOVING)) {
            if (!moving)
                fputs("sagapost: moving parked messages to their shares\n", stderr);
            moving = true;
            status = help(cli, error);
            FAILPOINT("shares-helped");
        } else {
            status = say_waiting(cli, &said, error);
            look_pause();
        }
        if (status != CLI_DONE)
            return status;
    }
}

static enum cli_exit change(struct cli *cli, int32_t wanted, struct error *error)
{
    struct pg_result *outcome __attribute__((cleanup(pg_result_freep))) = NULL;
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_int4(&params, wanted);
    int64_t end_us = config_is_set(cli->config, "wait")
                         ? clock_monotonic_us(&clock_system) + config_us(cli->config, "wait")
                         : INT64_MAX;
    enum cli_exit status =
        ask(cli, &sql_cli_outbox_shares_change, &params, end_us, &outcome, error);
    if (status != CLI_DONE)
        return status;
    FAILPOINT("shares-wanted");
    if (strcmp(pg_text(outcome, 0, 0), "asked") == 0) {
        fputs("sagapost: the relays change it; this command may be interrupted and run again\n",
              stderr);
        status = watch(cli, wanted, end_us, error);
    }
    FAILPOINT("shares-changed");
    if (status == CLI_DONE) /* where there are fewer now, writers try the locks of those alone */
        status = ask(cli, &sql_cli_outbox_shares_trim, NULL, end_us, NULL, error);
    FAILPOINT("shares-trimmed");
    if (status == CLI_DONE && strcmp(pg_text(outcome, 0, 0), "taken_back") == 0)
        fputs("sagapost: the change that was under way is taken back\n", stderr);
    return status == CLI_DONE ? list(cli, error) : status;
}

enum cli_exit outbox_shares_command(struct cli *cli, struct error *error)
{
    char *end = NULL;
    long wanted = 0;
    if (cli->word_count > 0) {
        wanted = strtol(cli->words[0], &end, 10);
        if (end == cli->words[0] || *end != '\0' || wanted < 1 || wanted > SHARES_MAX) {
            error_set(error, ERROR_USAGE, RETRY_NEVER,
                      "\"%s\" is no number of shares: it is from 1 to %d", cli->words[0],
                      SHARES_MAX);
            return CLI_USAGE;
        }
    }
    enum cli_exit status = cli_connect(cli, error);
    if (status != CLI_DONE)
        return status;
    return wanted > 0 ? change(cli, (int32_t)wanted, error) : list(cli, error);
}
