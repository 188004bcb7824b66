/* sagapost/inbox.h: consume each message once.
 *
 *     consume a delivery from RabbitMQ;
 *     PQexec(connection, "begin");
 *     bool first;
 *     if (sagapost_inbox_accept(connection, "billing", message_id, &first, &error) < 0)
 *         ... "rollback"; error.code says whether to try again ...
 *     if (first)
 *         ... the work, on this connection ...
 *     PQexec(connection, "commit");
 *     acknowledge the delivery, only now: if COMMIT's answer is lost, do not; the redelivery then
 *     finds `first` false, or does the work.
 *
 * A message is remembered for the inbox's retention (14 days unless set otherwise). One that is
 * older is refused, SAGAPOST_ERROR_REFUSED with SQLSTATE SG111: it is never accepted twice.
 *
 * The function blocks for a round trip, and for a transaction that is accepting the same message.
 * Role: sagapost_participant. */
#ifndef SAGAPOST_INBOX_H
#define SAGAPOST_INBOX_H

#include <sagapost/error.h>

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* consumer: who remembers, 1 to 255 bytes; the same for all processes that do the same work.
 * message_id: the property message-id, a UUID. SAGAPOST_ERROR_USAGE outside of a transaction: the
 * message would be remembered whether or not the work is done. */
SAGAPOST_API int sagapost_inbox_accept(PGconn *connection, const char *consumer,
                                       const char *message_id, bool *ret_first,
                                       struct sagapost_error *error);

/* The client: all of the above, in batches --------------------------------------------------------
 *
 * In the library sagapost-inbox (pkg-config sagapost-inbox), which needs librabbitmq as well.
 *
 *     static int on_batch(void *data, PGconn *connection,
 *                         const struct sagapost_inbox_message *messages, int count)
 *     {
 *         ... the work for all of them, on this connection, in the transaction that is open ...
 *         return 0;
 *     }
 *
 *     struct sagapost_inbox *inbox;
 *     struct sagapost_inbox_options options = {
 *         .amqp = "amqp://billing@mq/%2f", .queue = "billing", .consumer = "billing",
 *         .on_batch = on_batch};
 *     if (sagapost_inbox_create(&inbox, connection, &options, &error) < 0 ||
 *         sagapost_inbox_run(inbox, &error) < 0)
 *         ... log error.message ...
 *     sagapost_inbox_destroy(inbox);
 *
 * What has arrived, up to batch_max messages, is one transaction: the messages that this consumer
 * has not accepted before go to on_batch, in the order in which they came, and after COMMIT one
 * acknowledgement covers all. An idle consumer takes a message alone, at once.
 *
 * A batch that fails is rolled back and halved until the culprit is alone; the others go through,
 * and may so overtake it. What becomes of the culprit is up to what on_batch returned; one that is
 * given up goes to on_refused and is rejected, which brings it to the queue's dead-letter exchange.
 * Given up as well: a message whose message-id is no UUID (BAD_DATA), that is too large
 * (BAD_DATA), that is older than the inbox remembers (REFUSED, SG111), and one during whose work
 * the connection to PostgreSQL was lost five times (LOST).
 *
 * Both servers may go and come back. RabbitMQ is connected to again with growing pauses, and so is
 * PostgreSQL, with PQreset; nothing is acknowledged meanwhile. A COMMIT whose answer was lost is
 * found out by doing the same again. Nothing is ever requeued by the client; a quorum queue should
 * have an explicit, large x-delivery-limit, since a closed connection counts as a delivery.
 *
 * A message that waits to be tried again holds up the acknowledgement, not the work, of those after
 * it, until prefetch of them are done. PQreset blocks for as long as the connection's
 * connect_timeout says: set one.
 *
 * The queue must be there; it is not declared. Headers are not handed over.
 *
 * Threads: an inbox and its connection belong to one thread at a time; several inboxes may run in
 * several threads. SIGPIPE should be ignored when TLS is used. RabbitMQ ends a connection that is
 * silent for two heartbeats (60 s each, unless the URI or the broker say otherwise), so a batch
 * should be done within one; it would come again, and be recognised. */

struct sagapost_inbox;

/* Text is NUL-terminated, and "" where the property is missing. Good until on_batch returns. */
struct sagapost_inbox_message {
    const char *message_id;
    const char *type, *exchange, *routing_key;
    const char *content_type, *correlation_id, *reply_to;
    const void *body; /* followed by a NUL that body_bytes does not count */
    size_t body_bytes;
    bool redelivered;
};

/* Zero-initialise, and set what is needed: the first four and on_batch. Copied, but for `data`. */
struct sagapost_inbox_options {
    const char *amqp; /* amqp:// or amqps:// */
    const char *queue;
    const char *consumer; /* as for sagapost_inbox_accept */
    /* on_batch recognises by itself what comes again, as sagapost_saga_carry_out does: it gets
     * every message, nothing is written for the inbox, and a message-id need not be there. */
    bool recognises;
    const char *connection_name; /* what RabbitMQ shows; NULL: the consumer's name */
    int prefetch;                /* 1 to 65535; 0: 200 */
    int batch_max;               /* 1 to prefetch; 0: 100, or the prefetch if that is less */
    size_t body_bytes_max;       /* 0: 16 MiB */

    /* The work. Must neither begin, commit nor roll back (savepoints are fine). Returns 0, or
     *   SAGAPOST_ERROR_AGAIN, _LOST, _NO_SERVICE  not the messages' fault: again, after growing
     *                                             pauses of up to 10 s, for as long as it takes
     *   SAGAPOST_ERROR_BAD_DATA, _REFUSED         one of them can never be taken: found, given up
     *   any other negative number                 the culprit is found, tried again for some 15
     *                                             seconds, then given up */
    int (*on_batch)(void *data, PGconn *connection, const struct sagapost_inbox_message *messages,
                    int count);
    /* The message is given up and will be rejected when this returns. No transaction is open; the
     * connection may be used, and may be broken. May be NULL. */
    void (*on_refused)(void *data, PGconn *connection, const struct sagapost_inbox_message *message,
                       const struct sagapost_error *why);
    /* The connection was made anew (PQreset): what was set or prepared in the session is gone. May
     * be NULL. */
    void (*on_reset)(void *data, PGconn *connection);
    /* For a log: once when a server ("RabbitMQ", "PostgreSQL") is lost or cannot be reached, and
     * with `why` NULL when it is back. May be NULL. */
    void (*on_trouble)(void *data, const char *server, const char *why);
    void *data;
};

/* Since it was created. `taken` counts messages that were new and whose transaction is committed;
 * `repeated` those that had been accepted before. */
struct sagapost_inbox_counts {
    unsigned long long received, taken, repeated, refused, batches, failures;
};

/* The connection is open and idle; it stays the caller's, who must not use it but in the callbacks
 * until the inbox is destroyed. Connects to nothing yet. */
SAGAPOST_API int sagapost_inbox_create(struct sagapost_inbox **ret_inbox, PGconn *connection,
                                       const struct sagapost_inbox_options *options,
                                       struct sagapost_error *error);
/* Consumes until sagapost_inbox_stop. Fails only where no retry can help: on_batch ended the
 * transaction (SAGAPOST_ERROR_USAGE), or the system has no more memory or descriptors. What is not
 * acknowledged then comes again. */
SAGAPOST_API int sagapost_inbox_run(struct sagapost_inbox *inbox, struct sagapost_error *error);
/* One turn, for a program with a loop of its own: waits up to wait_ms for something to happen, and
 * does it. Call it again soon, or heartbeats are late. */
SAGAPOST_API int sagapost_inbox_turn(struct sagapost_inbox *inbox, int wait_ms,
                                     struct sagapost_error *error);
/* From any thread, a callback, or a signal handler: sagapost_inbox_run returns after the batch at
 * hand. */
SAGAPOST_API void sagapost_inbox_stop(struct sagapost_inbox *inbox);
SAGAPOST_API struct sagapost_inbox_counts sagapost_inbox_count(const struct sagapost_inbox *inbox);
/* Sends the last acknowledgement and closes the connection to RabbitMQ. NULL is fine. */
SAGAPOST_API void sagapost_inbox_destroy(struct sagapost_inbox *inbox);

#ifdef __cplusplus
}
#endif

#endif
