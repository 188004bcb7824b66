/* service.h: what the files of libsagapost (service_*.c) share.
 *
 * They call libpq and one another, nothing else of this folder: a program that links the static
 * library gets no names into its own but sagapost_*. */
#ifndef SAGAPOST_PG_SERVICE_H
#define SAGAPOST_PG_SERVICE_H

#include "outbox/pg/session.h"

#include <libpq-fe.h>
#include <sagapost/error.h>

#define SERVICE_PARAMS_MAX 12

struct service_params {
    int count;
    const char *values[SERVICE_PARAMS_MAX];
    int lengths[SERVICE_PARAMS_MAX];
    int formats[SERVICE_PARAMS_MAX];
    char *owned; /* a value that was made for the call; freed by it */
};

void sagapost_internal_text(struct service_params *params, const char *text); /* NULL: SQL NULL */
void sagapost_internal_bool(struct service_params *params, bool value);
void sagapost_internal_bytes(struct service_params *params, const void *bytes, size_t count);
/* JSON with its length, since the body of a message has no NUL. One per call. */
void sagapost_internal_jsonb(struct service_params *params, const void *json, size_t count);

enum service_scope { SERVICE_ANYWHERE, SERVICE_IN_TRANSACTION };

/* What a statement that failed means. */
int sagapost_internal_fail_result(PGconn *connection, const PGresult *result,
                                  struct sagapost_error *error) MUST_CHECK;

/* Runs the statement, which gives one row, in text. Frees what `params` owns. */
int sagapost_internal_call(PGconn *connection, enum service_scope scope,
                           const struct pg_statement *statement, struct service_params *params,
                           PGresult **ret_result, struct sagapost_error *error) MUST_CHECK;

/* A statement without parameters and rows. Fails as well when it does something else than its first
 * word says: COMMIT of a failed transaction rolls back. */
int sagapost_internal_command(PGconn *connection, const char *sql,
                              struct sagapost_error *error) MUST_CHECK;

int sagapost_internal_usage(struct sagapost_error *error, const char *message);
int sagapost_internal_fail(struct sagapost_error *error, const char *message); /* NO_SERVICE */
int sagapost_internal_lost(struct sagapost_error *error, const char *message); /* LOST */

/* The UUID in the first column goes to `ret_id`, which may be NULL. Frees the result. */
void sagapost_internal_take_id(PGresult *result, char ret_id[SAGAPOST_UUID_BYTES]);

#endif
