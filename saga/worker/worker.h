/* worker.h: what the two roles of a worker share: settings, metrics, and how they speak of their
 * connections. */
#ifndef SAGAPOST_WORKER_WORKER_H
#define SAGAPOST_WORKER_WORKER_H

#include "outbox/amqp/broker.h"
#include "outbox/pg/session.h"
#include "outbox/runtime/daemon.h"
#include "saga/worker/settings.h"

/* Counted by whoever does it; made once at start. */
struct worker_metrics {
    /* both roles */
    struct metric *dead_lettered_replies, *dead_lettered_commands;
    struct metric *reply_batch, *command_batch; /* histograms of sizes */
    struct metric *batch_failures_replies, *batch_failures_commands;
    /* orchestrate */
    struct metric *replies, *replies_ignored, *replies_unknown_saga, *sagas_busy;
    struct metric *commands_sent[3]; /* by operation */
    struct metric *retries, *undos, *unmappable;
    struct metric *intents_applied, *intents_refused;
    struct metric *timers, *timers_late, *stalled;
    struct metric *timer_lateness;
    struct metric *stuck, *lock_waits, *lock_wait_oldest;
    /* execute */
    struct metric *deadlocks;
    struct metric *command_latency; /* from arrival to commit */
};

struct orchestrate;
struct execute;

struct worker {
    struct daemon_context *daemon;
    struct loop *loop;
    struct settings settings;
    struct worker_metrics metrics;
    struct orchestrate *orchestrate; /* NULL: not its role */
    struct execute *execute;
    bool draining;
};

/* What daemon_main runs. */
extern const struct daemon_program worker_program;

/* A role is idle and may stop. */
void worker_role_drained(struct worker *worker);

/* One of the four connections, and what was said about it: a line when it is lost or refused, a
 * line for each new reason, a line when it is back. */
struct link {
    const char *server; /* "PostgreSQL", "RabbitMQ" */
    const char *role;
    struct metric *losses, *silences;
    bool was_up; /* since it was lost last */
    bool is_down_said;
    char said[ERROR_MESSAGE_BYTES_MAX];
};
void link_init(struct link *link, struct worker *worker, const char *server, const char *role);
void link_up(struct link *link);
void link_down(struct link *link, const struct error *why);

/* What a session begins with has failed: the program ends where no retry can help, else a new
 * connection tries again. */
void worker_cannot_begin(struct worker *worker, struct pg_session *session,
                         const struct error *why);

/* Sessions with the worker's settings; callbacks and data are filled in by the caller. */
int worker_open_session(struct worker *worker, const char *role, struct pg_session_options *options,
                        struct pg_session **ret_session, struct error *error) MUST_CHECK;
int worker_open_broker(struct worker *worker, const char *role, struct broker_options *options,
                       struct broker **ret_broker, struct error *error) MUST_CHECK;

#endif
