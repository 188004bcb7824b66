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

#ifdef __cplusplus
extern "C" {
#endif

/* consumer: who remembers, 1 to 255 bytes; the same for all processes that do the same work.
 * message_id: the property message-id, a UUID. SAGAPOST_ERROR_USAGE outside of a transaction: the
 * message would be remembered whether or not the work is done. */
SAGAPOST_API int sagapost_inbox_accept(PGconn *connection, const char *consumer,
                                       const char *message_id, bool *ret_first,
                                       struct sagapost_error *error);

#ifdef __cplusplus
}
#endif

#endif
