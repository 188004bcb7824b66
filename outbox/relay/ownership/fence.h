/* fence.h: that nothing of a former owner of the share comes after our first message, and nothing
 * of ours after a later owner's.
 *
 * The advisory lock (lease.h) says whose the share is, but a process that was frozen, or cut off
 * from PostgreSQL, does not know that it lost it. RabbitMQ is asked too: each lane holds an
 * exclusive queue, outbox.relay.<system identifier>.<database oid>.<share>[.parked], on the
 * connection on which it publishes, and RabbitMQ gives that to one connection at a time. A lane
 * publishes only after these, in this order:
 *
 *   1. the lock is ours;
 *   2. its connection has the queue: whoever had it has no connection any more, and what it sent
 *      is dealt with;
 *   3. the lock is still ours, asked after 2: whoever takes it from now on has to wait for our
 *      connection to end.
 *
 * 3 makes 2 good also for a process that stood still between 1 and 2, each time a connection is
 * made again.
 *
 * Why the lane of outbox.parked, which has a connection only while there is something to try, is
 * fenced as well: the log's lane takes its queue only when nobody else holds `.parked`. A former
 * owner's parked lane that had it is waited for; one that takes it later fails 3. Our own has it
 * only while the log's lane is open, and loses it with that one, so that the two cannot stand in
 * each other's way.
 *
 * An owner whose connection to RabbitMQ stays away for longer than the term resigns where another
 * relay waits; and where PostgreSQL refuses, for one more term, to say whether one does. */
#ifndef SAGAPOST_RELAY_FENCE_H
#define SAGAPOST_RELAY_FENCE_H

#include "outbox/pg/session.h"
#include "outbox/relay/ownership/lease.h"
#include "outbox/relay/publishing/lane.h"

struct fence;

enum fence_lane { FENCE_LOG, FENCE_PARKED };

#define FENCE_QUEUE_BYTES 96

struct fence_options {
    struct loop *loop;
    struct pg_session *session; /* that holds the lock */
    struct stats *stats;
    int32_t share;
    int64_t term_us;
    /* The share must be given up: from the persisted position, on new connections. */
    void (*on_failure)(void *data, const struct error *failure);
    void *data;
};

int fence_create(struct fence **ret_fence, const struct fence_options *options,
                 struct error *error) MUST_CHECK;
void fence_destroy(struct fence *fence); /* NULL is fine */

/* For the lane's options: it tells the fence. */
void fence_hook(struct fence *fence, enum fence_lane which, struct lane_options *lane);
/* The lane exists from here on, and until detach. */
void fence_attach(struct fence *fence, enum fence_lane which, struct lane *lane);
void fence_detach(struct fence *fence, enum fence_lane which);

/* The lock is ours, on this server. */
void fence_raise(struct fence *fence, const struct lease_server *server);
/* It is not, or we do not know: the connections end. Nothing when it was not raised. */
void fence_lower(struct fence *fence, const char *why);
void fence_tick(struct fence *fence); /* every second or so */

/* Pure. */
void fence_queue_name(char ret_name[FENCE_QUEUE_BYTES], const struct lease_server *server,
                      int32_t share, enum fence_lane which);
/* AMQP heartbeat of a relay, at most: a connection that is silent for two is taken for gone, on
 * both sides, and that is to be within the term. */
int fence_heartbeat_max_s(int64_t term_us);
/* Opening a connection to RabbitMQ waits up to three times for an answer, and nothing else is done
 * meanwhile: an owner must not seem silent over it. */
int64_t fence_connect_max_us(int64_t term_us);

#endif
