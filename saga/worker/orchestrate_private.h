/* orchestrate_private.h: the inside of the orchestrating role, shared by orchestrate.c (connections
 * and what comes next) and finish.c (what becomes of works after their transaction). */
#ifndef SAGAPOST_WORKER_ORCHESTRATE_PRIVATE_H
#define SAGAPOST_WORKER_ORCHESTRATE_PRIVATE_H

#include "outbox/inbox/split.h"
#include "saga/worker/batch.h"
#include "saga/worker/intents.h"
#include "saga/worker/orchestrate.h"
#include "saga/worker/pace.h"
#include "saga/worker/sweep.h"
#include "saga/worker/timers.h"

enum job { JOB_NONE, JOB_LOOK, JOB_STALLED, JOB_INTENTS, JOB_TIMERS, JOB_REPLIES };

struct orchestrate {
    struct worker *worker;
    struct pg_session *session;
    struct broker *broker;
    struct link session_link, broker_link;
    struct loop_hook *hook;
    struct loop_timer *wake_up;

    char *name;           /* the orchestrator's; NULL until it is read */
    bool schema_is_right; /* on this connection */
    bool is_working;      /* the session is up, checked, and set up */
    bool broker_started;
    bool draining;

    enum job job; /* what the session is busy with */
    int turn;     /* whose turn it was last */
    struct batch *batch;
    struct split split;
    struct pace pace; /* of replies */
    struct work works[BATCH_WORKS_MAX];

    struct plan_cache *plans;
    struct held *held;
    struct timers *timers;
    struct sweep *sweep;
    struct uuid stalled[BATCH_WORKS_MAX];
    int stalled_count;
    struct intents intents;
    int64_t intents_due_us; /* monotonic */
    int intents_limit;      /* of the batch that runs */
};

/* orchestrate.c */
void orchestrate_refuse(struct orchestrate *orchestrate, struct held_message *message,
                        const char *why);
void orchestrate_wake(struct orchestrate *orchestrate, enum job job, const struct uuid *ids,
                      int count);

/* finish.c: the batch has finished, with or without a failure. */
void orchestrate_range_finished(struct orchestrate *orchestrate, const struct error *failure);
void orchestrate_intents_finished(struct orchestrate *orchestrate, const struct error *failure);

#endif
