/* states.h: what --state may name. A state that there is not would find nothing, and nothing found
 * reads like good news. */
#ifndef SAGAPOST_CLI_STATES_H
#define SAGAPOST_CLI_STATES_H

#include "saga/cli/cli.h"

/* Each of --state, separated by commas, is one of these, in small or capital letters. CLI_DONE,
 * also without --state; or CLI_USAGE with all of them in `error`. `names` ends with NULL. */
enum cli_exit states_check(struct cli *cli, const char *const *names,
                           struct error *error) MUST_CHECK;

/* The same of the states of sagas. */
enum cli_exit saga_states_check(struct cli *cli, struct error *error) MUST_CHECK;

#endif
