/* batch.h: one transaction that drives the sagas of a batch.
 *
 *     BEGIN; lock and read the sagas      facts
 *     decide in memory                    decide.h
 *     write rows, history, answers; send commands
 *     a command that was not sent (its input cannot be built, its condition does not hold) is told
 *     to the machine, and what follows is written too; again, until all are sent
 *     look again at signals that were kept; move out what has ended; COMMIT
 *
 * A work is one happening for one saga: an answer that arrived, a time that came, an intent. Works
 * of the same saga are taken in their order. After `finished` without a failure each work has a
 * result; with one, the transaction did not take place, or, after the loss of the connection,
 * nobody knows (what is done twice is ignored by the machine). One batch runs at a time. */
#ifndef SAGAPOST_WORKER_BATCH_H
#define SAGAPOST_WORKER_BATCH_H

#include "outbox/inbox/held.h"
#include "outbox/pg/session.h"
#include "saga/worker/body.h"
#include "saga/worker/decide.h"
#include "saga/worker/plan_cache.h"

#define BATCH_WORKS_MAX 1000

enum work_result {
    WORK_OPEN, /* not finished */
    WORK_DONE, /* decided and written; happening.verdict says what */
    WORK_BUSY, /* another worker has the saga in hand, or it must be asked for a condition first */
    WORK_GONE, /* the saga has ended, or never was */
    WORK_NONSENSE, /* names a step that the definition has not, or the definition is unreadable */
};

struct work {
    struct uuid saga_id;
    const char *step; /* name; NULL: the saga itself */
    struct happening happening;
    struct held_message *message; /* of an answer */

    /* of an intent */
    int64_t intent_id;
    bool expects_revision;
    int64_t expected_revision;
    const char *refusal;  /* known before deciding: no such verb, the saga has ended */
    const char *obstacle; /* to a migration, in the data; NULL: none */

    enum work_result result;
    const char *detail; /* of NONSENSE */
};

struct batch;

typedef void batch_finished(void *data, const struct error *failure);

int batch_create(struct batch **ret_batch, struct loop *loop, struct pg_session *session,
                 struct plan_cache *plans, size_t memory_bytes_max, batch_finished *finished,
                 void *data, struct error *error) MUST_CHECK;
void batch_destroy(struct batch *batch); /* after the session */

bool batch_is_running(const struct batch *batch);

/* `works` stay the caller's and must live until `finished`, which comes from the loop, never from
 * inside this call. */
void batch_run(struct batch *batch, struct work *works, int count);
/* Takes up to count_max open intents, without those listed. Works are the batch's own. */
void batch_run_intents(struct batch *batch, int count_max, const int64_t *skipped,
                       int skipped_count);

/* From the session's on_down (and after its destruction): a batch that is still running ends. */
void batch_connection_lost(struct batch *batch, const struct error *why);

/* What was decided; good inside `finished`. */
struct work *batch_works(struct batch *batch, int *ret_count);
const struct fact *batch_facts(const struct batch *batch, int *ret_count);
const struct decisions *batch_decisions(const struct batch *batch);
int batch_unmappable(const struct batch *batch); /* commands that could not be built */
/* Signals that had been kept can be looked at again. */
bool batch_has_reopened(const struct batch *batch);
/* The loop's time when decisions->now_us, the database's, had come. */
int64_t batch_locked_at_us(const struct batch *batch);

/* Of an intent that was decided: false when it stays open, because its saga was busy, or is kept, a
 * signal that came before its step waits for it. */
bool batch_is_answered(const struct work *work);
void batch_answer(const struct work *work, const char **ret_answer, const char **ret_detail);

#endif
