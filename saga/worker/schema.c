#include "saga/worker/schema.h"

#include "migrations/migrations.h"
#include <string.h>

static int newest_known(const char *part)
{
    int newest = 0;
    for (int i = 0; i < MIGRATION_NEWEST; i++) {
        if (strcmp(migrations[i].part, part) == 0) {
            newest = migrations[i].number;
        }
    }
    return newest;
}

/* The highest number of a part that was applied; 0: none. */
static int newest_applied(const struct pg_result *rows, const char *part)
{
    for (int row = 0; row < pg_result_rows(rows); row++) {
        if (strcmp(pg_text(rows, row, 0), part) == 0) {
            return (int)pg_int(rows, row, 1);
        }
    }
    return 0;
}

bool schema_has(const struct pg_result *rows, const char *part)
{
    return newest_applied(rows, part) > 0;
}

int schema_check(const struct pg_result *rows, const struct error *failure, const char *part,
                 struct error *error)
{
    if (failure) {
        /* 42P01 undefined_table, 3F000 invalid_schema_name */
        if (strcmp(failure->sqlstate, "42P01") == 0 || strcmp(failure->sqlstate, "3F000") == 0) {
            return error_set(error, ERROR_NOT_FOUND, RETRY_NEVER,
                             "the database has no Sagapost schema: run sagapost migrate");
        }
        *error = *failure;
        return error_context(error, "reading the schema's version");
    }
    const char *const parts[] = {"base", "outbox", part};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        int known = newest_known(parts[i]);
        int applied = newest_applied(rows, parts[i]);
        if (applied == 0) {
            return error_set(
                error, ERROR_NOT_FOUND, RETRY_NEVER,
                "the database lacks the part %s: run sagapost migrate --parts %s%s", parts[i],
                parts[i], strcmp(parts[i], "saga") == 0 ? ", or start with --roles execute" : "");
        }
        if (applied < known) {
            return error_set(error, ERROR_NOT_FOUND, RETRY_NEVER,
                             "the database is at migration %d of the part %s, this program needs "
                             "%d: run sagapost migrate",
                             applied, parts[i], known);
        }
    }
    return 0;
}
