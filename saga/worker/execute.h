/* execute.h: carries out commands with SQL handlers: takes them from the queues
 * saga.commands.<participant> and hands them to saga.execute_batch.
 *
 * Consumes for each participant that has handlers in this database (or that --actions names), looks
 * for new ones on a notification, on SIGHUP and from time to time. Commands are acknowledged after
 * their transaction is committed. A batch that fails is halved until the culprit is alone; that one
 * is tried again, answered `transient`, or, when it cannot be read, rejected to the dead-letter
 * queue. While PostgreSQL is away commands are held, up to the prefetch, unacknowledged. */
#ifndef SAGAPOST_WORKER_EXECUTE_H
#define SAGAPOST_WORKER_EXECUTE_H

#include "saga/worker/worker.h"

int execute_create(struct execute **ret_execute, struct worker *worker,
                   struct error *error) MUST_CHECK;
void execute_destroy(struct execute *execute); /* NULL is fine */
/* Takes no more; worker_role_drained when the batch in hand is done. */
void execute_drain(struct execute *execute);
void execute_reload(struct execute *execute);
bool execute_is_idle(const struct execute *execute);
bool execute_ready(const struct execute *execute, struct buffer *ret_reasons);

#endif
