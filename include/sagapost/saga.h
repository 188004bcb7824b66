/* sagapost/saga.h: start sagas, and take part in them.
 *
 * Starting one, in the service's own transaction beside its business rows:
 *
 *     char saga[SAGAPOST_UUID_BYTES];
 *     sagapost_saga_start(connection, "order", "{\"sku\": \"A1\", \"qty\": 2}", "ORD-17",
 *                         saga, &error);
 *
 * Taking part: the program consumes commands from its participant's queue
 * (saga.commands.<participant>) and treats each in a transaction at READ COMMITTED on its own
 * database, which has Sagapost's part `participant`:
 *
 *     PQexec(connection, "begin");
 *     sagapost_saga_receive(connection, body, bytes, false, &received, &error);
 *     if (received.verdict == SAGAPOST_VERDICT_EXECUTE) {
 *         PQexec(connection, "savepoint work");
 *         if (the work is done) {
 *             sagapost_saga_reply(connection, body, bytes, SAGAPOST_OUTCOME_OK, output, ...);
 *         } else if (the answer is a business no) {
 *             PQexec(connection, "rollback to work");
 *             sagapost_saga_reply_failure(connection, body, bytes, SAGAPOST_OUTCOME_FAILED,
 *                                         "no_stock", "only 3 left", ...);
 *         }
 *     }
 *     PQexec(connection, "commit");
 *     acknowledge, only now
 *
 * sagapost_saga_carry_out does all of this between "begin" and "commit", given the work; and the
 * inbox's client (inbox.h) does the rest: consuming, transactions, acknowledging, both servers that
 * go and come back. So a participant in C is its work and a main of ten lines:
 *
 *     static int on_batch(void *data, PGconn *connection,
 *                         const struct sagapost_inbox_message *messages, int count)
 *     {
 *         int code = 0;
 *         for (int i = 0; i < count && code == 0; i++)
 *             code = sagapost_saga_carry_out(connection, messages[i].body, messages[i].body_bytes,
 *                                            work, data, NULL);
 *         return code;
 *     }
 *     ... .queue = "saga.commands.hotel", .recognises = true, .on_batch = on_batch ...
 *
 * By hand: on trouble, "rollback", and all of it again. Giving up after a few times: "begin", reply
 * with SAGAPOST_OUTCOME_TRANSIENT without receiving, "commit", acknowledge. On every verdict but
 * EXECUTE, RESUME and IN_DOUBT the answer is queued already: commit and acknowledge. If COMMIT's
 * answer is lost, do not acknowledge: the redelivery is recognised.
 *
 * Effects outside the database (a card provider): receive with `external`, and COMMIT before the
 * call, so that a crash cannot forget it; then do it with saga, step and operation as idempotency
 * key, and reply in a second transaction. Met again after a crash, the verdict is RESUME (of an
 * action) or IN_DOUBT (of an undo or a probe): ask the provider what became of it, then reply.
 *
 * The functions block for a round trip. The connection must be idle and not in pipeline mode.
 * Roles: sagapost_writer to start and signal, sagapost_operator to cancel, sagapost_participant. */
#ifndef SAGAPOST_SAGA_H
#define SAGAPOST_SAGA_H

#include <sagapost/error.h>

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Starting and steering --------------------------------------------------------------------- */

/* input: a JSON object. key (may be NULL): the same key and input again give the saga that there
 * is, another input is refused. ret_saga (may be NULL) gets the saga's id. */
SAGAPOST_API int sagapost_saga_start(PGconn *connection, const char *definition, const char *input,
                                     const char *key, char ret_saga[SAGAPOST_UUID_BYTES],
                                     struct sagapost_error *error);

/* Records that the saga is to be cancelled; a worker decides, and a saga past its pivot goes on.
 * reason may be NULL. */
SAGAPOST_API int sagapost_saga_cancel(PGconn *connection, const char *saga, const char *reason,
                                      struct sagapost_error *error);

/* Gives a waiting step its signal. step: the step's name. payload: JSON, NULL: {}. signal_id (may
 * be NULL): the same signal given again with the same id counts once. */
SAGAPOST_API int sagapost_saga_signal(PGconn *connection, const char *saga, const char *step,
                                      const char *payload, const char *signal_id,
                                      struct sagapost_error *error);

/* Taking part ------------------------------------------------------------------------------- */

enum sagapost_verdict {
    SAGAPOST_VERDICT_EXECUTE,  /* do it, and reply, in this transaction (external: commit first) */
    SAGAPOST_VERDICT_REPEATED, /* it was done before; the same answer is queued again */
    SAGAPOST_VERDICT_FENCED,   /* it must not be done any more */
    SAGAPOST_VERDICT_EXPIRED,  /* too old: what became of it is forgotten */
    SAGAPOST_VERDICT_RESUME,   /* it was begun outside the database: find out, or do it again under
                          the same   idempotency key, and reply */
    SAGAPOST_VERDICT_IN_DOUBT  /* the action that is asked about was begun outside: find out, and
                                  reply */
};

struct sagapost_received {
    enum sagapost_verdict verdict;
    char *input; /* JSON; what to do it with. NULL: the verdict has none */
    char *reply; /* JSON; what was queued as the answer. NULL: none, the program replies */
    /* Whose command it is; with the operation ("action", "undo", "probe") what its effect is known
     * by. element: of a step that is fanned out, else 0. */
    char *saga, *step, *operation;
    int element;
};

/* command: the message's body, as it came. SAGAPOST_ERROR_USAGE outside of a transaction. The
 * caller frees ret_received with sagapost_received_free. */
SAGAPOST_API int sagapost_saga_receive(PGconn *connection, const void *command,
                                       size_t command_bytes, bool external,
                                       struct sagapost_received *ret_received,
                                       struct sagapost_error *error);
SAGAPOST_API void sagapost_received_free(struct sagapost_received *received); /* NULL is fine */

enum sagapost_outcome {
    SAGAPOST_OUTCOME_OK,          /* done */
    SAGAPOST_OUTCOME_FAILED,      /* a business no; its work is rolled back */
    SAGAPOST_OUTCOME_TRANSIENT,   /* not now: try again by the step's policy. To in doubt: still not
                                     known */
    SAGAPOST_OUTCOME_NOT_EXECUTED /* to in doubt only: it was not done and never will be */
};

/* output: JSON, NULL: {}. ret_recorded (may be NULL): false when another outcome stands already,
 * which is then what was replied. */
SAGAPOST_API int sagapost_saga_reply(PGconn *connection, const void *command, size_t command_bytes,
                                     enum sagapost_outcome outcome, const char *output,
                                     bool *ret_recorded, struct sagapost_error *error);

/* The same for SAGAPOST_OUTCOME_FAILED and SAGAPOST_OUTCOME_TRANSIENT, with what a failure consists
 * of. code: a name that programs compare. message (may be NULL): for people. details: JSON, NULL:
 * {}. */
SAGAPOST_API int sagapost_saga_reply_failure(PGconn *connection, const void *command,
                                             size_t command_bytes, enum sagapost_outcome outcome,
                                             const char *code, const char *message,
                                             const char *details, bool *ret_recorded,
                                             struct sagapost_error *error);

/* What came of the work. Comes zero-initialised. */
struct sagapost_answer {
    char *output;        /* JSON, from malloc: it is freed; NULL: {} */
    const char *refusal; /* a business no: its code; the work is rolled back. NULL: it is done */
    const char *message; /* of a refusal, for people; may be NULL */
    const char *details; /* of a refusal, JSON; NULL: {} */
};

/* The work of a command that is to be executed: an action or an undo. Must neither begin, commit
 * nor roll back (savepoints are fine). Returns 0: done, or refused, as `answer` says; or
 *   SAGAPOST_ERROR_AGAIN, _LOST   goes back to the caller, who rolls back and does all of it again
 *   any other negative number     is rolled back and answered TRANSIENT with what `error` says: the
 *                                 step's own retry policy decides what comes next
 * sagapost_result_error makes such a number of a statement that failed. */
typedef int sagapost_saga_work(void *data, PGconn *connection,
                               const struct sagapost_received *command,
                               struct sagapost_answer *answer, struct sagapost_error *error);

/* Receives the command, does its work in a savepoint, if it is to be done, and answers, all in the
 * transaction that is open. 0: commit, and acknowledge after that. Negative: roll back. Then it is
 * AGAIN or LOST, to be done again; BAD_DATA or REFUSED: it is no command, reject it; or USAGE: the
 * work ended the transaction. A command that was begun `external` is answered TRANSIENT. */
SAGAPOST_API int sagapost_saga_carry_out(PGconn *connection, const void *command,
                                         size_t command_bytes, sagapost_saga_work *work, void *data,
                                         struct sagapost_error *error);

/* 0 when the statement went well; else what to make of its failure. */
SAGAPOST_API int sagapost_result_error(PGconn *connection, const PGresult *result,
                                       struct sagapost_error *error);

#ifdef __cplusplus
}
#endif

#endif
