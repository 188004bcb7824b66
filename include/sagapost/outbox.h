/* sagapost/outbox.h: publish messages in your own transaction.
 *
 *     PQexec(connection, "begin");
 *     ... business rows, under the row lock that orders the key ...
 *     struct sagapost_message message = {
 *         .type = "order.placed", .key = "ORD-17", .payload = "{\"total\": 19.90}"};
 *     struct sagapost_error error;
 *     if (sagapost_publish(connection, &message, NULL, &error) < 0)
 *         ... log error.message; PQexec(connection, "rollback"); ...
 *     PQexec(connection, "commit");
 *
 * The message is published once the transaction commits, and never if it does not. Outside of a
 * transaction the call is a transaction of its own.
 *
 * Order: messages with the same key arrive in the order in which their transactions took the lock
 * that orders the key, if they held it before the call and until the commit. Without such a lock
 * set `serialize`.
 *
 * The functions block for a round trip. The connection must be idle and not in pipeline mode.
 * Thread-safe as libpq is: one thread at a time for a connection. Role: sagapost_writer. */
#ifndef SAGAPOST_OUTBOX_H
#define SAGAPOST_OUTBOX_H

#include <sagapost/error.h>

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Text is UTF-8 and NUL-terminated; NULL: left out. Zero-initialise, and set what is needed. */
struct sagapost_message {
    const char *type;    /* needed; 1 to 255 bytes */
    const char *key;     /* order is kept among messages with the same key; up to 1024 bytes */
    const char *payload; /* JSON; exactly one of payload and body. A size the database limits */
    const void *body;    /* or bytes */
    size_t body_bytes;   /* of body; 0 is a message without a body when `body` is set */
    const char *content_type; /* of body; application/octet-stream when left out */
    const char *exchange;     /* left out: by type, else the relay's default */
    const char *routing_key;  /* left out: by type, else the type */
    const char *headers;      /* a flat JSON object; up to 16,384 bytes */
    const char *message_id;   /* a UUID that is new; left out: made, of version 7 */
    const char *correlation_id;
    const char *reply_to;
    bool optional;  /* no queue takes it: no error, and nobody is told (AMQP without `mandatory`) */
    bool serialize; /* first wait for other transactions that publish with this key and this flag */
};

/* ret_message_id (may be NULL) gets the message's id. */
SAGAPOST_API int sagapost_publish(PGconn *connection, const struct sagapost_message *message,
                                  char ret_message_id[SAGAPOST_UUID_BYTES],
                                  struct sagapost_error *error);

#ifdef __cplusplus
}
#endif

#endif
