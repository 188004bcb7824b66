/* lane.h: a road to RabbitMQ: the rows of a flow, published in confirm mode and settled, on a
 * connection of their own.
 *
 * The relay has two: one for the log, and one for what is set aside and tried again, whose channel
 * may be closed by each attempt without harm to the other.
 *
 *     lane_publish(lane);        -- sends what the flow gives, into the window
 *     (confirms, returns, losses arrive from the loop and settle rows in the flow; on_settled tells
 * of each)
 *
 * Guarantees: a row leaves the lane settled exactly once. When a channel or the connection is lost,
 * rows in flight go back to the flow to be sent again in the order of the log; except, where the
 * broker named an exchange or a topic (404, 403) or a size (406), the rows that are meant, and,
 * where it closed the channel over a message that it did not name, that message: the rows in flight
 * are then sent one at a time, and the one that is alone when the channel closes is the one.
 *
 * A destination that confirms nothing while others do (silence.h) may hold a quarter of the window;
 * then, after silent_after_us, its rows are set aside, and the others' go on over a new connection.
 * Without any confirm at all the connection is given up after confirm_timeout_us.
 *
 * Nothing is sent before lane_open, and nothing after the connection is lost until it is called
 * again: what has to come first is told by on_fence, and decided in fence.h.
 *
 * connection.blocked is a state: nothing is sent, and the confirms' timers stand still. */
#ifndef SAGAPOST_RELAY_LANE_H
#define SAGAPOST_RELAY_LANE_H

#include "outbox/amqp/broker.h"
#include "outbox/relay/publishing/confirm.h"
#include "outbox/relay/publishing/destinations.h"
#include "outbox/relay/publishing/envelope.h"
#include "outbox/relay/publishing/outcome.h"
#include "outbox/relay/rows/flow.h"
#include "outbox/relay/stats.h"

struct lane;

enum lane_fence_event {
    LANE_FENCE_HELD,    /* the queue that lane_fence named is this connection's */
    LANE_FENCE_REFUSED, /* not yet; it is asked for again */
    LANE_FENCE_LOST,    /* with the connection; it is asked for again on the next one */
};

struct lane_options {
    const char *name; /* in the log */
    struct loop *loop;
    struct broker_options broker; /* callbacks are the lane's */
    struct flow *flow;
    const struct routes *routes;
    struct destinations *destinations; /* shared by the lanes */
    bool tries_closed;                 /* also sends to a destination that is closed, now and then:
                                          to find out */
    uint32_t window;
    int64_t confirm_timeout_us;
    int64_t silent_after_us; /* a destination that confirms nothing for so long, while others do, is
                                given up */
    const struct outcome_limits *limits;
    const char *app_id, *source;
    bool cloud_events;
    struct stats *stats;
    void (*on_fence)(void *data, enum lane_fence_event event,
                     const struct error *why); /* HELD: no reason */
    void *fence_data;
    /* After a row was settled in the flow, as done or set aside. */
    void (*on_settled)(void *data, const struct flow_item *item);
    void *data;
};

int lane_create(struct lane **ret_lane, const struct lane_options *options,
                struct error *error) MUST_CHECK;
void lane_start(struct lane *lane);
void lane_destroy(struct lane *lane); /* NULL is fine */

/* Sends at most `most` messages. True when it sent or settled anything. */
bool lane_publish(struct lane *lane, uint32_t most);
/* Forgets the rows in flight, whose flow was cleared: their confirms are awaited for the window's
 * sake alone. */
void lane_forget(struct lane *lane);
/* Wants the exclusive queue, on this connection or the next (broker.h, the fence). */
void lane_fence(struct lane *lane, const char *queue, const char *beside);
/* Wants it no longer, and drops the connection, and with it what is still in its buffer. */
void lane_unfence(struct lane *lane, const char *why);
bool lane_is_fenced(const struct lane *lane); /* the queue is this connection's */
/* May publish, until the connection is lost. */
void lane_open(struct lane *lane);
bool lane_is_open(const struct lane *lane);
/* To be called every second or so: a confirm that does not come, metrics of states. */
void lane_tick(struct lane *lane);

bool lane_is_up(const struct lane *lane);
bool lane_is_blocked(const struct lane *lane);
uint32_t lane_in_flight(const struct lane *lane);

#endif
