/* migrate.h: which migrations are to be applied, decided without a database.
 *
 * A part is brought to the newest migration (or --to). Every part stands on base; participant and
 * saga stand on outbox. What is applied already must be what this program carries, by checksum. */
#ifndef SAGAPOST_CLI_MIGRATE_H
#define SAGAPOST_CLI_MIGRATE_H

#include "migrations/migrations.h"
#include "outbox/runtime/error.h"

#define MIGRATE_MAX 256

struct applied_migration {
    int number;
    const char *name, *checksum;
};

struct migrate_plan {
    int count;
    const struct migration *steps[MIGRATE_MAX];
};

/* `parts`: a list separated by commas; `to`: 0 for the newest. ERROR_USAGE: a part nobody knows, or
 * a `to` beyond the newest. ERROR_REFUSED: the database is newer than this program, or an applied
 * migration has another content. */
int migrate_decide(const char *parts, int to, const struct applied_migration *applied,
                   int applied_count, struct migrate_plan *ret_plan,
                   struct error *error) MUST_CHECK;

#endif
