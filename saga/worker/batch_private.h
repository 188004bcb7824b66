/* batch_private.h: the inside of a batch, shared by batch.c (its course), batch_read.c and
 * batch_write.c (what it reads and writes). */
#ifndef SAGAPOST_WORKER_BATCH_PRIVATE_H
#define SAGAPOST_WORKER_BATCH_PRIVATE_H

#include "saga/machine/state_json.h"
#include "saga/worker/batch.h"

struct batch {
    struct loop *loop;
    struct pg_session *session;
    struct plan_cache *plans;
    batch_finished *finished;
    void *data;

    bool running;
    struct error failure; /* the first of the transaction */
    struct arena *arena;
    struct pg_params params;
    struct work *works; /* the caller's, or own_works */
    int work_count;
    struct work *own_works;
    struct fact *facts;
    int fact_count;
    struct decisions decisions;
    int passes;
    int unmappable;
    int64_t locked_at_us;

    struct pg_result *locked;          /* kept from lock to decide */
    struct pg_result *present;         /* of those not locked: in the hands of another worker */
    struct pg_result *intents;         /* kept to the end: works point into it */
    struct pg_result *loaded;          /* definitions */
    struct pg_result *unsent;          /* commands that were not sent, as events */
    struct pg_result *reopened;        /* signals that had been kept */
    struct pg_result *obstacles;       /* to migrations, in the data of the sagas */
    struct pg_result *unsent_children; /* the same of child sagas */
    struct pg_result *decided_locks;   /* locks that need not be waited for, as events */
    char steps_json[STATE_JSON_BYTES_MAX];
    int sent_from; /* the first command of the pass that `unsent` counts from */
};

/* Queues a statement with the batch's parameters. A failure is remembered in batch->failure. */
void batch_send(struct batch *batch, const struct pg_statement *statement,
                struct pg_result **keep_result);

/* batch_read.c */
void batch_send_lock(struct batch *batch);
/* The sagas that were not locked; false: all were. */
bool batch_send_find(struct batch *batch);
/* Reads what was locked into facts. Returns how many definitions are still unknown, and asks for
 * them; or a negative code. */
int batch_read_facts(struct batch *batch, struct error *error) MUST_CHECK;
int batch_read_plans(struct batch *batch, struct error *error) MUST_CHECK;
int batch_read_intents(struct batch *batch, struct error *error) MUST_CHECK;
/* batch_move.c: sagas that are to move to another version of their definition. */
/* The definitions of the versions they are to move to, asked for with those of the sagas. */
int batch_ask_for_targets(struct batch *batch);
int batch_know_targets(struct batch *batch, struct error *error) MUST_CHECK;
/* Asks what in their data forbids it; false: none is to move. */
bool batch_send_obstacles(struct batch *batch);
int batch_read_obstacles(struct batch *batch, struct error *error) MUST_CHECK;
/* Of one that the machine has refused: says why. */
int batch_explain_refusal(struct batch *batch, struct work *work, struct error *error) MUST_CHECK;
void batch_send_moves(struct batch *batch);
/* batch_write.c: rows, history, events, commands that were not written yet. */
void batch_send_writes(struct batch *batch);
void batch_send_answers(struct batch *batch);
/* Signals that came too early; and those that were kept and do not any more. */
void batch_send_kept(struct batch *batch);
void batch_send_reopened(struct batch *batch);
void batch_send_ended(struct batch *batch);
/* batch_lock.c: locks. Asked for with the commands of a pass; left by steps that no longer wait;
 * released, after batch_send_ended, by sagas that have ended. */
void batch_send_lock_requests(struct batch *batch);
void batch_send_left_locks(struct batch *batch);
void batch_send_released_locks(struct batch *batch);
/* What a lock that need not be waited for brought its step: an output, or an error. */
int batch_read_brought(struct batch *batch, const struct pg_result *rows, int row,
                       struct happening *happening, struct error *error) MUST_CHECK;

#endif
