/* inbox_private.h: the inside of the inbox's client, shared by inbox.c (its life, what arrives) and
 * inbox_batch.c (the transactions). */
#ifndef SAGAPOST_INBOX_INBOX_PRIVATE_H
#define SAGAPOST_INBOX_INBOX_PRIVATE_H

#include "outbox/amqp/broker.h"
#include "outbox/inbox/held.h"
#include "outbox/inbox/split.h"
#include "outbox/pg/service_batch.h"
#include "outbox/runtime/backoff.h"

#include <sagapost/inbox.h>

#define SHORT_STRING_BYTES (BROKER_SHORT_STRING_BYTES_MAX + 1)

/* What is kept of a delivery beside its body. */
struct arrived {
    char message_id[SHORT_STRING_BYTES], type[SHORT_STRING_BYTES], exchange[SHORT_STRING_BYTES],
        routing_key[SHORT_STRING_BYTES], content_type[SHORT_STRING_BYTES],
        correlation_id[SHORT_STRING_BYTES], reply_to[SHORT_STRING_BYTES];
};

struct sagapost_inbox {
    PGconn *connection;
    struct sagapost_inbox_options options; /* strings are ours */
    struct loop *loop;
    struct broker *broker;
    struct held *held;
    struct loop_timer *timer; /* the next batch, or the next attempt at PostgreSQL */
    int stop_fd;              /* an eventfd: what a signal handler may write to */
    struct loop_fd *stop_watch;
    bool is_stopping;
    bool broker_said, database_said; /* that the server is away */
    struct sagapost_inbox_counts counts;
    struct sagapost_error fatal; /* code 0: none */

    bool is_database_lost;
    int64_t database_due_us; /* when to try again */
    struct backoff database_backoff;

    /* The batch at hand; each array has room for batch_max. */
    struct held_message **messages;
    const char **ids;
    bool *firsts;
    struct sagapost_inbox_message *fresh;
    struct split split;
    int taken;
    bool is_suspected;
};

/* inbox.c */
void inbox_describe(const struct held_message *message, struct sagapost_inbox_message *ret_told);
/* Tells on_refused and rejects. */
void inbox_refuse(struct sagapost_inbox *inbox, struct held_message *message,
                  const struct sagapost_error *why);
void inbox_database_lost(struct sagapost_inbox *inbox, const char *why);

/* inbox_batch.c: takes what is due, and does it; false: nothing was due. */
bool inbox_run_batch(struct sagapost_inbox *inbox);

#endif
