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
 * On trouble: "rollback", and all of it again. Giving up after a few times: "begin", reply with
 * SAGAPOST_OUTCOME_TRANSIENT without receiving, "commit", acknowledge. On every verdict but
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

#ifdef __cplusplus
}
#endif

#endif
