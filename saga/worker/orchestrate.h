/* orchestrate.h: drives sagas: takes replies from the queue saga.replies.<orchestrator>, fires
 * timers, applies intents.
 *
 * One batch at a time (batch.h), of what has arrived, without waiting for more. A reply is
 * acknowledged after its transaction is committed; one whose COMMIT was not answered is taken
 * again, and the machine ignores what was applied. While PostgreSQL is away replies are held, up to
 * the prefetch, unacknowledged. Nothing is requeued. */
#ifndef SAGAPOST_WORKER_ORCHESTRATE_H
#define SAGAPOST_WORKER_ORCHESTRATE_H

#include "saga/worker/worker.h"

int orchestrate_create(struct orchestrate **ret_orchestrate, struct worker *worker,
                       struct error *error) MUST_CHECK;
void orchestrate_destroy(struct orchestrate *orchestrate); /* NULL is fine */
/* Takes no more; worker_role_drained when the batch in hand is done. */
void orchestrate_drain(struct orchestrate *orchestrate);
void orchestrate_reload(struct orchestrate *orchestrate);
bool orchestrate_is_idle(const struct orchestrate *orchestrate);
bool orchestrate_ready(const struct orchestrate *orchestrate, struct buffer *ret_reasons);

#endif
