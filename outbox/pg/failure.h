/* failure.h: what libpq and the server say when something fails, as a `struct error`.
 *
 * Messages hold the server's primary message and its hint, never its detail: details show rows
 * ("Failing row contains ..."), and payloads stay out of logs. Errors of connecting never hold a
 * password (conninfo.h refuses the strings that would make libpq print one). */
#ifndef SAGAPOST_PG_FAILURE_H
#define SAGAPOST_PG_FAILURE_H

#include "outbox/pg/result.h"

#include <libpq-fe.h>

/* Of a result that is an error. Returns error->code. */
int pg_failure_of_result(const PGresult *result, struct error *error);

/* Of a connection that could not be made or was lost. While connecting, the caller has set
 * PQsetErrorVerbosity(connection, PQERRORS_VERBOSE): that is the only way to learn the SQLSTATE
 * with which a server refuses a connection. Returns error->code. */
int pg_failure_of_connection(PGconn *connection, struct error *error);

/* Splits what libpq prints in verbose mode: the SQLSTATE goes to `sqlstate` ("" when there is
 * none), the first lines, without it and without LOCATION, to `message`. */
void pg_failure_split_verbose(const char *text, char sqlstate[6], char *message,
                              size_t message_bytes);

#endif
