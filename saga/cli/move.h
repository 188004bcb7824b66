/* move.h: what would become of a migration of running sagas to another version (`saga migrate`).
 *
 *     struct move move = {.version = 3};
 *     status = move_try(cli, &plans, &move, &running, &verdict, &because, error);
 *
 * By the same rule that the worker goes by (saga/machine/migrate.h), with what the database says of
 * the saga's data (saga.migration_obstacles). */
#ifndef SAGAPOST_CLI_MOVE_H
#define SAGAPOST_CLI_MOVE_H

#include "saga/cli/running.h"
#include "saga/machine/migrate.h"

struct move {
    int64_t version; /* as it was typed */

    /* own: the version that was looked up last */
    char definition[128];
    int64_t definition_id;
    const struct plan *to;
    char why[MIGRATE_TEXT_BYTES_MAX];
};

/* Reads --to; CLI_USAGE when it is no version. */
enum cli_exit move_read_version(struct cli *cli, struct move *ret_move,
                                struct error *error) MUST_CHECK;

/* *ret_because is constant or lies in `move` until the next call. CLI_NOT_FOUND: the saga's
 * definition has no such version. */
enum cli_exit move_try(struct cli *cli, struct running_plans *plans, struct move *move,
                       const struct running *running, enum machine_verdict *ret_verdict,
                       const char **ret_because, struct error *error) MUST_CHECK;

#endif
