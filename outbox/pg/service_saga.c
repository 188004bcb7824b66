/* service_saga.c: sagapost/saga.h. */
#include "outbox/pg/service.h"
#include "outbox/pg/service_sql.h"

#include <limits.h>
#include <sagapost/saga.h>
#include <stdlib.h>
#include <string.h>

/* Starting and steering ---------------------------------------------------------------------- */

int sagapost_saga_start(PGconn *connection, const char *definition, const char *input,
                        const char *key, char ret_saga[SAGAPOST_UUID_BYTES],
                        struct sagapost_error *error)
{
    struct service_params params = {0};
    PGresult *result;

    if (definition == NULL || input == NULL)
        return sagapost_internal_usage(error, "definition or input is NULL");
    sagapost_internal_text(&params, definition);
    sagapost_internal_text(&params, input);
    sagapost_internal_text(&params, key);
    int code = sagapost_internal_call(connection, SERVICE_ANYWHERE, &sql_service_start, &params,
                                      &result, error);
    if (code == 0)
        sagapost_internal_take_id(result, ret_saga);
    return code;
}

int sagapost_saga_cancel(PGconn *connection, const char *saga, const char *reason,
                         struct sagapost_error *error)
{
    struct service_params params = {0};
    PGresult *result;

    if (saga == NULL)
        return sagapost_internal_usage(error, "saga is NULL");
    sagapost_internal_text(&params, saga);
    sagapost_internal_text(&params, reason);
    int code = sagapost_internal_call(connection, SERVICE_ANYWHERE, &sql_service_cancel, &params,
                                      &result, error);
    if (code == 0)
        PQclear(result);
    return code;
}

int sagapost_saga_signal(PGconn *connection, const char *saga, const char *step,
                         const char *payload, const char *signal_id, struct sagapost_error *error)
{
    struct service_params params = {0};
    PGresult *result;

    if (saga == NULL || step == NULL)
        return sagapost_internal_usage(error, "saga or step is NULL");
    sagapost_internal_text(&params, saga);
    sagapost_internal_text(&params, step);
    sagapost_internal_text(&params, payload);
    sagapost_internal_text(&params, signal_id);
    int code = sagapost_internal_call(connection, SERVICE_ANYWHERE, &sql_service_signal, &params,
                                      &result, error);
    if (code == 0)
        PQclear(result);
    return code;
}

/* Taking part -------------------------------------------------------------------------------- */

/* Indexed by the enums; the names are those of saga.receive and saga.reply. */
static const char *const verdict_names[] = {"execute", "repeated", "fenced",
                                            "expired", "resume",   "in_doubt"};
static const char *const outcome_names[] = {"ok", "failed", "transient", "not_executed"};

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int check_command(const void *command, size_t command_bytes, struct sagapost_error *error)
{
    if (command == NULL || command_bytes == 0)
        return sagapost_internal_usage(error, "the command has no body");
    if (command_bytes >= INT_MAX)
        return sagapost_internal_usage(error, "the command is larger than a value can be");
    return 0;
}

static int find_verdict(const char *name)
{
    for (int i = 0; i < COUNT(verdict_names); i++) {
        if (strcmp(name, verdict_names[i]) == 0)
            return i;
    }
    return -1;
}

static int take_text(const PGresult *result, int column, char **ret_text)
{
    if (PQgetisnull(result, 0, column))
        return 0;
    *ret_text = strdup(PQgetvalue(result, 0, column));
    return *ret_text != NULL ? 0 : -1;
}

int sagapost_saga_receive(PGconn *connection, const void *command, size_t command_bytes,
                          bool external, struct sagapost_received *ret_received,
                          struct sagapost_error *error)
{
    struct service_params params = {0};
    struct sagapost_received received = {0};
    PGresult *result;

    if (ret_received == NULL)
        return sagapost_internal_usage(error, "ret_received is NULL");
    int code = check_command(command, command_bytes, error);
    if (code < 0)
        return code;
    sagapost_internal_jsonb(&params, command, command_bytes);
    sagapost_internal_bool(&params, external);
    code = sagapost_internal_call(connection, SERVICE_IN_TRANSACTION, &sql_service_receive, &params,
                                  &result, error);
    if (code < 0)
        return code;
    int verdict = find_verdict(PQgetvalue(result, 0, 0));
    if (verdict < 0)
        code = sagapost_internal_fail(error, "the database is newer: it gave an unknown verdict");
    else if (take_text(result, 1, &received.input) < 0 ||
             take_text(result, 2, &received.reply) < 0 ||
             take_text(result, 3, &received.saga) < 0 || take_text(result, 4, &received.step) < 0 ||
             take_text(result, 5, &received.operation) < 0)
        code = sagapost_internal_fail(error, "no memory for the command");
    int element = (int)strtol(PQgetvalue(result, 0, 6), NULL, 10);
    PQclear(result);
    if (code < 0) {
        sagapost_received_free(&received);
        return code;
    }
    received.verdict = (enum sagapost_verdict)verdict;
    received.element = element;
    *ret_received = received;
    return 0;
}

void sagapost_received_free(struct sagapost_received *received)
{
    if (received == NULL)
        return;
    free(received->input);
    free(received->reply);
    free(received->saga);
    free(received->step);
    free(received->operation);
    *received = (struct sagapost_received){.verdict = received->verdict};
}

static int send_reply(PGconn *connection, const struct pg_statement *statement,
                      struct service_params *params, bool *ret_recorded,
                      struct sagapost_error *error)
{
    PGresult *result;
    int code = sagapost_internal_call(connection, SERVICE_IN_TRANSACTION, statement, params,
                                      &result, error);
    if (code < 0)
        return code;
    if (ret_recorded != NULL)
        *ret_recorded = strcmp(PQgetvalue(result, 0, 0), "recorded") == 0;
    PQclear(result);
    return 0;
}

int sagapost_saga_reply(PGconn *connection, const void *command, size_t command_bytes,
                        enum sagapost_outcome outcome, const char *output, bool *ret_recorded,
                        struct sagapost_error *error)
{
    struct service_params params = {0};

    int code = check_command(command, command_bytes, error);
    if (code == 0 && (outcome < 0 || (int)outcome >= COUNT(outcome_names)))
        code = sagapost_internal_usage(error, "outcome is none of enum sagapost_outcome");
    if (code < 0)
        return code;
    sagapost_internal_jsonb(&params, command, command_bytes);
    sagapost_internal_text(&params, outcome_names[outcome]);
    sagapost_internal_text(&params, output);
    return send_reply(connection, &sql_service_reply, &params, ret_recorded, error);
}

int sagapost_saga_reply_failure(PGconn *connection, const void *command, size_t command_bytes,
                                enum sagapost_outcome outcome, const char *code,
                                const char *message, const char *details, bool *ret_recorded,
                                struct sagapost_error *error)
{
    struct service_params params = {0};

    int result = check_command(command, command_bytes, error);
    if (result == 0 && outcome != SAGAPOST_OUTCOME_FAILED && outcome != SAGAPOST_OUTCOME_TRANSIENT)
        result = sagapost_internal_usage(error, "a failure's outcome is FAILED or TRANSIENT");
    if (result == 0 && code == NULL)
        result = sagapost_internal_usage(error, "a failure needs a code");
    if (result < 0)
        return result;
    sagapost_internal_jsonb(&params, command, command_bytes);
    sagapost_internal_text(&params, outcome_names[outcome]);
    sagapost_internal_text(&params, code);
    sagapost_internal_text(&params, message);
    sagapost_internal_text(&params, details);
    return send_reply(connection, &sql_service_reply_failure, &params, ret_recorded, error);
}
