/* intent.h: waiting for the daemon that carries out what was asked for. SQL records an intent; the
 * relay or a worker applies it and answers. */
#ifndef SAGAPOST_CLI_INTENT_H
#define SAGAPOST_CLI_INTENT_H

#include "saga/cli/cli.h"

/* Looks until --wait is over. CLI_DONE: applied. CLI_REFUSED: with the rule in `error`. CLI_FAILED:
 * nobody answered; it stays recorded. `statement` gives (answer, detail) for $1 = intent, or no row
 * while it is open. `who` answers: "relay", "worker". */
enum cli_exit intent_await(struct cli *cli, const struct pg_statement *statement, int64_t intent,
                           const char *who, struct error *error) MUST_CHECK;

#endif
