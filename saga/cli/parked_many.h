/* parked_many.h: `outbox parked requeue` and `discard` of all messages that a filter finds: --state
 * (those that wait for a person, without it), --type, --key, or --all; --limit, --dry-run.
 *
 * All are asked for in one transaction. The relay answers each; one that has gone meanwhile it
 * refuses. CLI_REFUSED: it refused some. CLI_FAILED: nothing more was answered for --wait. */
#ifndef SAGAPOST_CLI_PARKED_MANY_H
#define SAGAPOST_CLI_PARKED_MANY_H

#include "saga/cli/cli.h"

/* `verb`: "requeue" or "discard". Without a filter it is CLI_USAGE. */
enum cli_exit parked_change_many(struct cli *cli, const char *verb, struct error *error) MUST_CHECK;

/* --state of messages set aside; an unknown one is CLI_USAGE, and what there is is said. */
enum cli_exit parked_states_check(struct cli *cli, struct error *error) MUST_CHECK;

#endif
