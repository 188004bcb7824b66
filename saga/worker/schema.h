/* schema.h: whether the database is one that this program can work in. */
#ifndef SAGAPOST_WORKER_SCHEMA_H
#define SAGAPOST_WORKER_SCHEMA_H

#include "outbox/pg/result.h"

/* `rows` is the answer of schema_version.sql, NULL when there was `failure` (no such table). `part`
 * is "saga" or "participant". Fails with RETRY_NEVER and the command to run when the part is
 * missing or older than this program needs; a connection's failure is handed through. A database
 * that is newer is fine: migrations only add to what programs use. */
int schema_check(const struct pg_result *rows, const struct error *failure, const char *part,
                 struct error *error) MUST_CHECK;

/* Whether the part is there at all; `rows` as above. */
bool schema_has(const struct pg_result *rows, const char *part);

#endif
