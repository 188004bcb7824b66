/* stale.h: when a channel is to be replaced because it refuses all that goes to a destination.
 *
 * A basic.nack means that a queue is full, or that RabbitMQ cannot reach it. The second may last
 * longer than its cause: a channel of RabbitMQ 3.10 remembers for as long as it lives which node
 * led a quorum queue when it first published there. Where that node had just died it refuses
 * everything for that queue until the node is back, also when another leads the queue since long;
 * another channel knows better. From outside the two look the same. A new channel costs three
 * answers of the broker, so one is tried: soon after the first refusal, and then, as long as
 * nothing is taken, after pauses that grow to a minute.
 *
 * Destinations are known by their numbers (destinations.h). Pure: the time is given. */
#ifndef SAGAPOST_RELAY_STALE_H
#define SAGAPOST_RELAY_STALE_H

#include "outbox/relay/publishing/destinations.h"

/* For how long it refuses before the first attempt; and at the most, and at the least, between two
 * of one channel, whatever the number of destinations. */
#define STALE_AFTER_US    US_PER_S
#define STALE_CAP_US      (60 * (int64_t)US_PER_S)
#define STALE_INTERVAL_US (2 * (int64_t)US_PER_S)

struct stale {
    int64_t not_before_us;
    struct stale_place {
        int64_t refused_us; /* first, since the last attempt, on this channel; 0: not, or something
                               was taken since */
        unsigned tries;     /* attempts since something was taken */
    } places[DESTINATIONS_MAX];
};

/* Another channel: nothing has been refused on it. */
void stale_begin(struct stale *stale);
void stale_refused(struct stale *stale, uint16_t number, int64_t now_us);
/* True: it was tried to replace the channel before. */
bool stale_taken(struct stale *stale, uint16_t number);

/* The first for which the channel is to be replaced now; DESTINATION_OTHER: none. */
uint16_t stale_due(const struct stale *stale, uint16_t count, int64_t now_us);
/* It is replaced now, or cannot be: the next attempt is later, for all that refuse. */
void stale_tried(struct stale *stale, uint16_t count, int64_t now_us);

#endif
