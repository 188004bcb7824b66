/* silence.h: which destination holds up the others by confirming nothing.
 *
 * A queue without a majority, or one whose process hangs, answers nothing. What is sent there stays
 * in the window, and RabbitMQ itself stops reading from a channel that waits for such a queue (for
 * a quorum queue after 32 messages), so that soon nothing is confirmed to anybody. A destination is
 * silent when it has messages open and has confirmed none for a while, though another destination
 * did since: where all are silent it is the broker, and giving one up would help nobody.
 *
 * Destinations are known by their numbers (destinations.h). Pure: the time is given. */
#ifndef SAGAPOST_RELAY_SILENCE_H
#define SAGAPOST_RELAY_SILENCE_H

#include "outbox/relay/destinations.h"

struct silence {
    int64_t heard_us; /* when anybody was heard last */
    int64_t floor_us; /* what was silent before is not held against it */
    struct silence_place {
        uint32_t open;    /* messages without a confirm */
        int64_t quiet_us; /* the last was heard then, or the first was sent */
    } places[DESTINATIONS_MAX];
};

/* Connected, or not blocked any more: nobody has been silent. */
void silence_begin(struct silence *silence, int64_t now_us);
void silence_sent(struct silence *silence, uint16_t number, int64_t now_us);
void silence_heard(struct silence *silence, uint16_t number, int64_t now_us);
void silence_lost(struct silence *silence); /* nothing is open any more */

/* Whether it has had messages open for so long and confirmed none. */
bool silence_is_quiet(const struct silence *silence, uint16_t number, int64_t now_us,
                      int64_t limit_us);
/* Whether another was heard since it fell quiet. */
bool silence_is_its_own(const struct silence *silence, uint16_t number);

#endif
