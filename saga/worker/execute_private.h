/* execute_private.h: the inside of the executing role, shared by execute.c (connections, queues and
 * handlers) and execute_batch.c (the transactions). */
#ifndef SAGAPOST_WORKER_EXECUTE_PRIVATE_H
#define SAGAPOST_WORKER_EXECUTE_PRIVATE_H

#include "outbox/inbox/held.h"
#include "outbox/inbox/split.h"
#include "saga/worker/actions.h"
#include "saga/worker/body.h"
#include "saga/worker/execute.h"
#include "saga/worker/pace.h"

#define COMMANDS_MAX      64
#define PARTICIPANTS_MAX  256
#define PARTICIPANT_BYTES 128

struct execute {
    struct worker *worker;
    struct pg_session *session;
    struct broker *broker;
    struct link session_link, broker_link;
    struct loop_hook *hook;
    struct loop_timer *wake_up;

    bool schema_is_right; /* on this connection */
    bool is_working;      /* the session is up, checked, and set up */
    bool broker_started;
    bool reconnecting; /* on purpose: nothing to tell */
    bool draining;
    bool said_no_handlers;
    int64_t handlers_due_us, maintenance_due_us; /* monotonic */
    int64_t inbox_due_us;                        /* INT64_MAX: the database has no inbox */

    struct actions actions;
    char participants[PARTICIPANTS_MAX][PARTICIPANT_BYTES];
    int participant_count;

    /* The session does one thing at a time: a look at the handlers, or a batch. */
    bool is_busy;
    struct held *held;
    struct split split;
    struct pace pace;
    struct held_message *messages[COMMANDS_MAX];
    int taken;         /* into the batch that is being gathered */
    bool is_suspected; /* the one that was taken may be what ends the connection: it runs alone */
    struct pg_params params;
    struct pg_result *answer; /* of execute_batch, until its COMMIT */
    struct error failure;     /* the first of the transaction */
    bool giving_up;           /* the transaction answers one command `transient` */
};

/* execute.c */
void execute_refuse(struct execute *execute, struct held_message *message, const char *why);
void execute_job_done(struct execute *execute);

/* execute_batch.c */
bool execute_start_batch(struct execute *execute);
void execute_connection_lost(struct execute *execute, const struct error *why);

#endif
