/* service_batch.h: what the inbox's client (outbox/inbox) asks of the service's connection.
 *
 * Blocking, as all of libsagapost. A failure that is SAGAPOST_ERROR_LOST leaves no usable
 * connection: sagapost_internal_reset makes a new one of it. */
#ifndef SAGAPOST_PG_SERVICE_BATCH_H
#define SAGAPOST_PG_SERVICE_BATCH_H

#include "outbox/runtime/error.h"

#include <libpq-fe.h>
#include <sagapost/error.h>

int sagapost_internal_begin(PGconn *connection, struct sagapost_error *error) MUST_CHECK;
/* Also fails when the transaction had failed before, and PostgreSQL rolls it back. */
int sagapost_internal_commit(PGconn *connection, struct sagapost_error *error) MUST_CHECK;
int sagapost_internal_rollback(PGconn *connection, struct sagapost_error *error) MUST_CHECK;
int sagapost_internal_reset(PGconn *connection, struct sagapost_error *error) MUST_CHECK;

bool sagapost_internal_is_lost(const PGconn *connection);
enum service_transaction { SERVICE_NONE, SERVICE_OPEN, SERVICE_FAILED };
enum service_transaction sagapost_internal_transaction(const PGconn *connection);

/* ids: UUIDs as text, as uuid_parse takes them. ret_first: for each, whether it is new. */
int sagapost_internal_accept_batch(PGconn *connection, const char *consumer, const char *const *ids,
                                   int count, bool *ret_first,
                                   struct sagapost_error *error) MUST_CHECK;

/* May the same work later, and if not, whose fault is it: enum error_retry of a sagapost_code. */
enum error_retry sagapost_internal_retry(int code);

#endif
