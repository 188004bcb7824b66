/* service_call.c: one statement on the user's connection. */
#include "outbox/pg/service.h"
#include "outbox/pg/sqlstate.h"
#include "outbox/pg/wire.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

/* Parameters --------------------------------------------------------------------------------- */

static void add(struct service_params *params, const char *value, int length, int format)
{
    assert(params->count < SERVICE_PARAMS_MAX);
    params->values[params->count] = value;
    params->lengths[params->count] = length;
    params->formats[params->count++] = format;
}

void sagapost_internal_text(struct service_params *params, const char *text)
{
    add(params, text, 0, 0);
}

void sagapost_internal_bool(struct service_params *params, bool value)
{
    add(params, value ? "t" : "f", 0, 0);
}

void sagapost_internal_bytes(struct service_params *params, const void *bytes, size_t count)
{
    assert(count <= INT_MAX);
    add(params, count > 0 ? bytes : "", (int)count, 1);
}

void sagapost_internal_jsonb(struct service_params *params, const void *json, size_t count)
{
    assert(count < INT_MAX && params->owned == NULL);
    params->owned = malloc(count + 1);
    if (params->owned != NULL) {
        params->owned[0] = WIRE_JSONB_VERSION;
        if (count > 0)
            memcpy(params->owned + 1, json, count);
    }
    add(params, params->owned, (int)count + 1, 1);
}

/* Errors ------------------------------------------------------------------------------------- */

static int fail(struct sagapost_error *error, enum sagapost_code code, const char *sqlstate,
                const char *message, const char *hint)
{
    if (error != NULL) {
        *error = (struct sagapost_error){.code = code};
        snprintf(error->sqlstate, sizeof(error->sqlstate), "%s", sqlstate);
        snprintf(error->message, sizeof(error->message), "%s%s%s%s", message,
                 hint != NULL ? " (" : "", hint != NULL ? hint : "", hint != NULL ? ")" : "");
    }
    return code;
}

int sagapost_internal_usage(struct sagapost_error *error, const char *message)
{
    return fail(error, SAGAPOST_ERROR_USAGE, "", message, NULL);
}

int sagapost_internal_fail(struct sagapost_error *error, const char *message)
{
    return fail(error, SAGAPOST_ERROR_NO_SERVICE, "", message, NULL);
}

int sagapost_internal_lost(struct sagapost_error *error, const char *message)
{
    return fail(error, SAGAPOST_ERROR_LOST, "", message, NULL);
}

static enum sagapost_code code_of(const char *sqlstate)
{
    switch (sqlstate_class(sqlstate)) {
    case RETRY_NOW:
    case RETRY_LATER:
        return SAGAPOST_ERROR_AGAIN;
    case RETRY_RECONNECT:
        return SAGAPOST_ERROR_LOST;
    case RETRY_POISON:
        return strncmp(sqlstate, "SG", 2) == 0 ? SAGAPOST_ERROR_REFUSED : SAGAPOST_ERROR_BAD_DATA;
    case RETRY_NONE:
    case RETRY_NEVER:
    case RETRY_BUG:
        break;
    }
    return SAGAPOST_ERROR_NO_SERVICE;
}

int sagapost_internal_fail_result(PGconn *connection, const PGresult *result,
                                  struct sagapost_error *error)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (sqlstate == NULL) /* libpq's own word */
        return fail(error,
                    PQstatus(connection) == CONNECTION_OK ? SAGAPOST_ERROR_NO_SERVICE
                                                          : SAGAPOST_ERROR_LOST,
                    "", PQerrorMessage(connection), NULL);
    return fail(error, code_of(sqlstate), sqlstate, message != NULL ? message : "",
                PQresultErrorField(result, PG_DIAG_MESSAGE_HINT));
}

static int check_connection(PGconn *connection, enum service_scope scope,
                            struct sagapost_error *error)
{
    if (connection == NULL)
        return sagapost_internal_usage(error, "the connection is NULL");
    if (PQstatus(connection) != CONNECTION_OK)
        return fail(error, SAGAPOST_ERROR_LOST, "", "the connection is not open", NULL);
    if (PQpipelineStatus(connection) != PQ_PIPELINE_OFF)
        return sagapost_internal_usage(error, "the connection is in pipeline mode");
    switch (PQtransactionStatus(connection)) {
    case PQTRANS_ACTIVE:
        return sagapost_internal_usage(error, "the connection is busy with another command");
    case PQTRANS_INERROR:
        return sagapost_internal_usage(error, "the transaction has failed: roll it back first");
    case PQTRANS_IDLE:
        return scope == SERVICE_IN_TRANSACTION
                   ? sagapost_internal_usage(error, "no transaction is open: BEGIN first")
                   : 0;
    case PQTRANS_INTRANS:
    case PQTRANS_UNKNOWN:
        break;
    }
    return 0;
}

/* The call ----------------------------------------------------------------------------------- */

int sagapost_internal_call(PGconn *connection, enum service_scope scope,
                           const struct pg_statement *statement, struct service_params *params,
                           PGresult **ret_result, struct sagapost_error *error)
{
    PGresult *result = NULL;
    int code = check_connection(connection, scope, error);

    for (int i = 0; code == 0 && i < params->count; i++) {
        if (params->formats[i] == 1 && params->values[i] == NULL)
            code = sagapost_internal_fail(error, "no memory for the parameters");
    }
    if (code == 0) {
        result = PQexecParams(connection, statement->sql, params->count, NULL, params->values,
                              params->lengths, params->formats, 0);
        if (PQresultStatus(result) != PGRES_TUPLES_OK)
            code = sagapost_internal_fail_result(connection, result, error);
        else if (PQntuples(result) != 1)
            code = sagapost_internal_fail(error, "the server gave no row");
    }
    free(params->owned);
    params->owned = NULL;
    if (code < 0)
        PQclear(result);
    else
        *ret_result = result;
    return code;
}

int sagapost_internal_command(PGconn *connection, const char *sql, struct sagapost_error *error)
{
    int code = 0;

    PGresult *result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        code = sagapost_internal_fail_result(connection, result, error);
    else if (strcmp(PQcmdStatus(result), sql) != 0)
        code = sagapost_internal_fail(error, "the transaction had failed, and was rolled back");
    PQclear(result);
    return code;
}

void sagapost_internal_take_id(PGresult *result, char ret_id[SAGAPOST_UUID_BYTES])
{
    if (ret_id != NULL)
        snprintf(ret_id, SAGAPOST_UUID_BYTES, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
}
