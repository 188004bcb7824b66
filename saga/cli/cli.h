/* cli.h: what every command of `sagapost` is given and gives back.
 *
 * A command is a function in the table of main.c. It gets its words and settings, prints its result
 * on cli->out as a table for people, or as JSON with --json, and returns an exit status. A failure
 * goes into `error`; main prints it on standard error. */
#ifndef SAGAPOST_CLI_H
#define SAGAPOST_CLI_H

#include "outbox/pg/client.h"
#include "outbox/runtime/config.h"
#include <stdio.h>

/* Exit statuses: a promise to scripts. */
enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1, /* and why is on standard error */
    CLI_USAGE = 2,  /* wrong usage or configuration */
    CLI_NOT_FOUND = 3,
    CLI_REFUSED = 4, /* by a rule */
};

struct cli {
    struct config *config;
    FILE *out;
    bool json;
    const char *const *words; /* after the command's own */
    int word_count;
    struct pg_client *pg;
};

/* Connects to PostgreSQL at the first call. CLI_DONE or the exit status. */
enum cli_exit cli_connect(struct cli *cli, struct error *error) MUST_CHECK;

/* One statement; its failure as an exit status: class SG is CLI_REFUSED, but those that
 * say "no such thing" are CLI_NOT_FOUND. */
enum cli_exit cli_query(struct cli *cli, const struct pg_statement *statement,
                        const struct pg_params *params, struct pg_result **ret_result,
                        struct error *error) MUST_CHECK;

/* Whether this part is in the database; `parts` is what sql/parts.sql gave. */
bool cli_part_present(const struct pg_result *parts, const char *wanted) MUST_CHECK;

/* commands; each returns an exit status */
enum cli_exit migrate_command(struct cli *cli, struct error *error);
enum cli_exit status_command(struct cli *cli, struct error *error);
enum cli_exit doctor_command(struct cli *cli, struct error *error);
enum cli_exit outbox_status_command(struct cli *cli, struct error *error);
enum cli_exit outbox_shares_command(struct cli *cli, struct error *error);
enum cli_exit ghosts_command(struct cli *cli, struct error *error);
enum cli_exit replay_command(struct cli *cli, struct error *error);
enum cli_exit rebase_command(struct cli *cli, struct error *error);
enum cli_exit parked_list_command(struct cli *cli, struct error *error);
enum cli_exit parked_show_command(struct cli *cli, struct error *error);
enum cli_exit parked_requeue_command(struct cli *cli, struct error *error);
enum cli_exit parked_discard_command(struct cli *cli, struct error *error);
enum cli_exit topology_declare_command(struct cli *cli, struct error *error);
enum cli_exit saga_list_command(struct cli *cli, struct error *error);
enum cli_exit saga_show_command(struct cli *cli, struct error *error);
enum cli_exit saga_top_command(struct cli *cli, struct error *error);
enum cli_exit saga_timeline_command(struct cli *cli, struct error *error);
enum cli_exit saga_locks_command(struct cli *cli, struct error *error);
enum cli_exit saga_graph_command(struct cli *cli, struct error *error);
enum cli_exit saga_retry_command(struct cli *cli, struct error *error);
enum cli_exit saga_cancel_command(struct cli *cli, struct error *error);
enum cli_exit saga_pause_command(struct cli *cli, struct error *error);
enum cli_exit saga_resume_command(struct cli *cli, struct error *error);
enum cli_exit saga_skip_command(struct cli *cli, struct error *error);
enum cli_exit saga_mark_undone_command(struct cli *cli, struct error *error);
enum cli_exit saga_abandon_command(struct cli *cli, struct error *error);
enum cli_exit saga_signal_command(struct cli *cli, struct error *error);
enum cli_exit saga_migrate_command(struct cli *cli, struct error *error);

#endif
