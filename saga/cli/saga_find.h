/* saga_find.h: the saga that a command names. */
#ifndef SAGAPOST_CLI_SAGA_FIND_H
#define SAGAPOST_CLI_SAGA_FIND_H

#include "saga/cli/cli.h"

/* The command's first word is a saga's id, or the key it was started with (--definition where two
 * definitions have that key). Connects. */
enum cli_exit saga_find(struct cli *cli, struct uuid *ret_id, struct error *error) MUST_CHECK;

/* A statement whose only parameter is a saga's id. */
enum cli_exit saga_query(struct cli *cli, const struct pg_statement *statement,
                         const struct uuid *id, struct pg_result **ret_rows,
                         struct error *error) MUST_CHECK;

#endif
