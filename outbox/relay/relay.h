/* relay.h: the relay: the committed rows of an outbox, published to RabbitMQ with confirms.
 *
 *     source (pg) -> route -> publish (amqp) -> settle (confirms) -> position (pg)
 *
 * relay.c is read first: it is the main road, and what it calls is the rest of this folder.
 * Start-up is recovery: whatever ended before, the relay begins at the persisted position, on every
 * new connection to PostgreSQL. */
#ifndef SAGAPOST_RELAY_RELAY_H
#define SAGAPOST_RELAY_RELAY_H

#include "outbox/relay/settings.h"
#include "outbox/runtime/loop.h"
#include "outbox/runtime/metrics.h"

struct relay;

struct relay_options {
    struct settings settings;
    struct loop *loop;
    struct metrics *metrics;
    /* The relay is done: `failure` NULL after relay_drain. */
    void (*on_finished)(void *data, const struct error *failure);
    void *data;
};

int relay_create(struct relay **ret_relay, const struct relay_options *options,
                 struct error *error) MUST_CHECK;
void relay_destroy(struct relay *relay); /* NULL is fine */
void relay_start(struct relay *relay);
/* Reads and sends nothing more, waits for the confirms of what is in flight, writes the position,
 * gives the share back. */
void relay_drain(struct relay *relay);
void relay_refresh(struct relay *relay); /* gauges */
/* Whether both servers are reachable; else says which is not. */
bool relay_is_ready(const struct relay *relay, struct buffer *ret_reasons);

#endif
