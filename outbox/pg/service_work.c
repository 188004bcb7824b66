/* service_work.c: sagapost_saga_carry_out of sagapost/saga.h: a command, from what it asks for to
 * its answer, in the transaction that is open. */
#include "outbox/pg/service.h"

#include <sagapost/saga.h>
#include <stdlib.h>

struct command {
    PGconn *connection;
    const void *body;
    size_t bytes;
};

int sagapost_result_error(PGconn *connection, const PGresult *result, struct sagapost_error *error)
{
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
        return 0;
    default:
        return sagapost_internal_fail_result(connection, result, error);
    }
}

static int run(PGconn *connection, const char *sql, struct sagapost_error *error)
{
    PGresult *result = PQexec(connection, sql);
    int code = sagapost_result_error(connection, result, error);
    PQclear(result);
    return code;
}

/* How the work went: its own word, and what the connection says to it. */
static int judge(PGconn *connection, int code, struct sagapost_error *error)
{
    if (PQstatus(connection) != CONNECTION_OK)
        return sagapost_internal_lost(error, "the connection was lost");
    switch (PQtransactionStatus(connection)) {
    case PQTRANS_INTRANS:
        break;
    case PQTRANS_INERROR:
        if (code == 0)
            return sagapost_internal_fail(
                error, "the work reported success, and its transaction had failed");
        break;
    default:
        return sagapost_internal_usage(error, "the work ended the transaction");
    }
    if (code > 0)
        return sagapost_internal_fail(error, "the work returned a number that means nothing");
    if (code < 0)
        error->code = code;
    return code;
}

/* Not now: the step's own policy decides when it is tried again. */
static int reply_trouble(const struct command *command, const struct sagapost_error *why,
                         struct sagapost_error *error)
{
    const char *code = why->sqlstate[0] != '\0' ? why->sqlstate : "trouble";
    return sagapost_saga_reply_failure(command->connection, command->body, command->bytes,
                                       SAGAPOST_OUTCOME_TRANSIENT, code, why->message, NULL, NULL,
                                       error);
}

static int reply_refusal(const struct command *command, const struct sagapost_answer *answer,
                         struct sagapost_error *error)
{
    int code = run(command->connection, "rollback to savepoint sagapost_work", error);
    if (code == 0)
        code = sagapost_saga_reply_failure(command->connection, command->body, command->bytes,
                                           SAGAPOST_OUTCOME_FAILED, answer->refusal,
                                           answer->message, answer->details, NULL, error);
    return code;
}

static int answer_command(const struct command *command, const struct sagapost_answer *answer,
                          struct sagapost_error *error)
{
    if (answer->refusal != NULL)
        return reply_refusal(command, answer, error);
    return sagapost_saga_reply(command->connection, command->body, command->bytes,
                               SAGAPOST_OUTCOME_OK, answer->output, NULL, error);
}

/* Whoever called us must roll all of it back: the same may go well when it is done again. */
static bool is_for_the_caller(int code)
{
    return code == SAGAPOST_ERROR_AGAIN || code == SAGAPOST_ERROR_LOST ||
           code == SAGAPOST_ERROR_USAGE;
}

static int execute(const struct command *command, const struct sagapost_received *received,
                   sagapost_saga_work *work, void *data, struct sagapost_error *error)
{
    struct sagapost_answer answer = {0};
    int code = run(command->connection, "savepoint sagapost_work", error);

    if (code < 0)
        return code;
    code = work(data, command->connection, received, &answer, error);
    code = judge(command->connection, code, error);
    if (code == 0)
        code = answer_command(command, &answer, error);
    free(answer.output);
    if (code == 0 || is_for_the_caller(code))
        return code;
    struct sagapost_error why = *error; /* an output that is no JSON among them */
    code = run(command->connection, "rollback to savepoint sagapost_work", error);
    return code < 0 ? code : reply_trouble(command, &why, error);
}

int sagapost_saga_carry_out(PGconn *connection, const void *body, size_t bytes,
                            sagapost_saga_work *work, void *data, struct sagapost_error *error)
{
    const struct command command = {connection, body, bytes};
    struct sagapost_error told = {0};
    struct sagapost_received received;

    if (work == NULL)
        return sagapost_internal_usage(error, "there is no work");
    int code = sagapost_saga_receive(connection, body, bytes, false, &received, &told);
    if (code == 0) {
        if (received.verdict == SAGAPOST_VERDICT_EXECUTE) {
            code = execute(&command, &received, work, data, &told);
        } else if (received.verdict == SAGAPOST_VERDICT_RESUME ||
                   received.verdict == SAGAPOST_VERDICT_IN_DOUBT) {
            const struct sagapost_error why = {.message = "it was begun outside the database: who "
                                                          "did so must find out what became of it"};
            code = reply_trouble(&command, &why, &told);
        } /* else it is answered already */
        sagapost_received_free(&received);
    }
    if (code < 0 && error != NULL)
        *error = told;
    return code;
}
