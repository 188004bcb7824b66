/* silence.h: which destination holds up the others by confirming nothing, or too slowly.
 *
 * A queue without a majority, or one whose process hangs, answers nothing. What is sent there stays
 * in the window, and RabbitMQ itself stops reading from a channel that waits for such a queue (for
 * a quorum queue after 32 messages), so that soon nothing is confirmed to anybody. A destination is
 * silent when it has messages open and has confirmed none for a while, though another destination
 * did since: where all are silent it is the broker, and giving one up would help nobody.
 *
 * A destination may also confirm, but slowly: the position cannot pass its messages, and the window
 * fills with others' behind them. Where the window waits for one that has been on its way long,
 * while another destination has answered since in less than a quarter of the time, half as many may
 * be open there as are (and the rest is set aside), again and again; with each confirm that was
 * quick, one more. After one that was slow all the same (what was set aside goes there, too, on
 * another channel) nothing is sent for SILENCE_PAUSES times as long: the others wait for a small
 * part of the time. Where it holds up nobody it may have as much of the window as it takes.
 *
 * Destinations are known by their numbers (destinations.h). Pure: the time is given. */
#ifndef SAGAPOST_RELAY_SILENCE_H
#define SAGAPOST_RELAY_SILENCE_H

#include "outbox/relay/publishing/destinations.h"

#define SILENCE_PAUSES       8
#define SILENCE_PAUSE_CAP_US (60 * (int64_t)US_PER_S)

struct silence {
    int64_t slow_us;  /* the caller's: a confirm that takes longer is slow */
    int64_t heard_us; /* when anybody was heard last */
    int64_t floor_us; /* what was silent before is not held against it */
    struct silence_place {
        uint32_t open;             /* messages without a confirm */
        int64_t quiet_us;          /* the last was heard then, or the first was sent */
        int64_t heard_us, took_us; /* the last confirm: when, and after how long */
        uint32_t most;             /* so many may be open; 0: any number */
        int64_t cut_us;            /* when that was set */
        int64_t not_before_us;     /* nothing is sent there */
    } places[DESTINATIONS_MAX];
};

/* Connected, or not blocked any more: nobody has been silent. */
void silence_begin(struct silence *silence, int64_t now_us);
void silence_sent(struct silence *silence, uint16_t number, int64_t now_us);
void silence_heard(struct silence *silence, uint16_t number, int64_t now_us, int64_t sent_us);
void silence_lost(struct silence *silence); /* nothing is open any more */

/* Whether it has had messages open for so long and confirmed none. */
bool silence_is_quiet(const struct silence *silence, uint16_t number, int64_t now_us,
                      int64_t limit_us);
/* Whether another was heard since it fell quiet. */
bool silence_is_its_own(const struct silence *silence, uint16_t number);

/* The window is full and waits for a message that was sent there at sent_us; `count`: of
 * destinations. True: from now on fewer may be open there. */
bool silence_hold_back(struct silence *silence, uint16_t number, uint16_t count, int64_t now_us,
                       int64_t sent_us);
/* Whether nothing more may be sent there now, since others, heard lately, would wait. */
bool silence_is_held_back(const struct silence *silence, uint16_t number, uint16_t count,
                          int64_t now_us);

#endif
