/* lane_private.h: shared by lane.c (sending and settling) and lane_loss.c (losses, whom they are
 * blamed on, and what confirms nothing). */
#ifndef SAGAPOST_RELAY_LANE_PRIVATE_H
#define SAGAPOST_RELAY_LANE_PRIVATE_H

#include "outbox/relay/publishing/lane.h"
#include "outbox/relay/publishing/silence.h"
#include "outbox/relay/publishing/stale.h"

#define SLOW_FRACTION 4 /* of silent_after: a confirm that takes longer is slow */

struct lane {
    struct lane_options options;
    struct broker *broker;
    struct confirm *confirm;
    struct envelope envelope;
    struct silence silence;
    struct stale stale;
    bool replace_wanted;   /* once nothing is in flight; nothing is sent meanwhile, */
    int64_t replace_by_us; /* but no longer than this */
    bool replacing;
    bool fence_wanted;
    bool open;            /* may publish on this connection */
    bool was_up;          /* an on_down that follows is a loss, not another failed attempt */
    bool progress;        /* a confirm came on this connection */
    unsigned barren;      /* losses in a row without one */
    unsigned mute;        /* those because none came in time */
    uint32_t alone_left;  /* rows still to be sent one at a time */
    int64_t blocked_us;   /* since; 0: it is not */
    int64_t unblocked_us; /* timers of confirms start here at the earliest */
    uint64_t overtaken;   /* of the flow, as far as it is in the metric */
    uint64_t chance;
    /* While confirm_lost runs. */
    bool alone_is_guilty;
    const struct error *loss;
};

static inline int64_t lane_now_us(const struct lane *lane)
{
    return loop_now_us(lane->options.loop);
}

/* lane.c */
/* The row is settled by what became of it. `detail` says it for people; NULL when there is nothing
 * to say. */
void lane_settle(struct lane *lane, uint32_t place, enum outcome outcome, const char *detail);
void lane_settle_too_large(struct lane *lane, uint32_t place);
size_t lane_body_bytes(const struct flow_item *item);
void lane_on_entry_settled(void *data, const struct confirm_entry *entry);

/* lane_loss.c */
void lane_on_down(void *data, struct broker *broker, const struct error *why, bool channel_only);
/* A row whose confirm was lost. */
void lane_settle_lost(struct lane *lane, const struct confirm_entry *entry);
/* Whether a destination has so much open, and answers so slowly, that others come first. */
bool lane_is_crowded(const struct lane *lane, uint16_t number);
void lane_check_confirms(struct lane *lane);
/* Rows are there, and none may be sent: who is it that the window waits for? */
void lane_check_window(struct lane *lane);
/* The broker took a message for it, or refused one. */
void lane_note_taken(struct lane *lane, uint16_t number);
void lane_check_refusals(struct lane *lane);
void lane_replace_when_drained(struct lane *lane); /* the channel, where it is wanted */

#endif
