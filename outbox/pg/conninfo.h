/* conninfo.h: the user's connection string, checked, and what we add to it.
 *
 * Everything psql understands works: key=value pairs, URIs, several hosts, PG* variables, service
 * files, password files. What the user says wins, except client_encoding (UTF8 always) and a
 * target_session_attrs that would let a standby in where a primary is needed. Without an sslmode, a
 * host beyond this machine has to show a certificate that is valid for its name (verify-full).
 *
 * A password that was not percent-encoded can end up in a URI's host, port or database name, and
 * libpq would print it in an error. Such strings are refused, without quoting them. */
#ifndef SAGAPOST_PG_CONNINFO_H
#define SAGAPOST_PG_CONNINFO_H

#include "outbox/runtime/error.h"

#include <libpq-fe.h>
#include <stdint.h>

#define PG_CONNINFO_KEYWORDS_MAX 64

struct pg_conninfo;

/* `fallback_name` is the application_name where the user gives none. */
int pg_conninfo_parse(struct pg_conninfo **ret_conninfo, const char *text,
                      const char *fallback_name, bool primary_only, struct error *error) MUST_CHECK;
void pg_conninfo_free(struct pg_conninfo *conninfo); /* NULL is fine */

/* Sets a keyword unless the user has set it, also by a PG* variable. */
int pg_conninfo_default(struct pg_conninfo *conninfo, const char *keyword, const char *value,
                        struct error *error) MUST_CHECK;

/* For PQconnectStartParams and PQconnectdbParams with expand_dbname = 0: NULL-terminated, good
 * until the next call on `conninfo`. */
void pg_conninfo_keywords(const struct pg_conninfo *conninfo, const char *const **ret_keywords,
                          const char *const **ret_values);

/* One of several hosts did not answer in time. libpq would start with the first again at the next
 * attempt and never get past a silent one, so the list is turned: the host after the one
 * `connection` was trying comes first. Returns false when there is only one host, or when all
 * have been tried since the last pg_conninfo_answered. */
bool pg_conninfo_next_host(struct pg_conninfo *conninfo, PGconn *connection);
void pg_conninfo_answered(struct pg_conninfo *conninfo);

#endif
