/* flow.h: the rows that the relay has read and not yet persisted as settled, and which of them may
 * go next.
 *
 * A ring in the order of the log. Rows enter at the tail (flow_push), are published in an order
 * that keeps each key's, are settled in any order, and leave at the head once they are settled and
 * the position that says so is committed (flow_pop).
 *
 *     head                cursor               tail
 *      | settled, in flight,  | permitted, not yet  |
 *      | queued behind a key  | looked at           |
 *
 * Guarantees:
 * - `strict` rows: at most one row of a key is unsettled at the broker. `pipelined` rows of a key
 * are sent in order without waiting, but never beside a strict one of their key. Rows without a key
 * are sent as they come.
 * - A row of a held key is never sent: it is set aside as FLOW_BEHIND.
 * - Rows sent and not yet popped are never more than the window: that is the bound on duplicates.
 * The last place of the window belongs to the row at the head, so that the position can always move
 * on; a quarter belongs to rows that waited for their key.
 *   Of the rows that may be sent, the oldest goes first: what holds the position up is what is
 * sent.
 * - flow_next does not look past the permitted rows (those whose commit is known to be on disk).
 *
 * Pure: no I/O, no clock. Owner: a lane; not shared. Limits: capacity fixed at creation; nothing is
 * allocated per row. Rows are named by their place in the ring, which is stable until they are
 * popped. */
#ifndef SAGAPOST_RELAY_FLOW_H
#define SAGAPOST_RELAY_FLOW_H

#include "outbox/relay/rows/keys.h"

struct flow;
struct chunk;

enum flow_state {
    FLOW_READ,      /* nobody looked at it yet */
    FLOW_QUEUED,    /* waits for an earlier row of its key */
    FLOW_READY,     /* may be sent now, or again */
    FLOW_IN_FLIGHT, /* sent, not settled */
    FLOW_DONE,      /* confirmed */
    FLOW_ASIDE,     /* goes to outbox.parked with the position that passes it */
};

enum flow_aside {
    FLOW_WAITING, /* to be tried again */
    FLOW_PARKED,  /* a person must decide */
    FLOW_BEHIND,  /* waits for an earlier row of its key */
};

struct flow_item {
    /* Set by whoever pushes. */
    int64_t id;
    uint64_t key;        /* key_hash; 0: none */
    struct chunk *chunk; /* the result that it is a row of */
    uint32_t row;
    uint32_t attempts;  /* earlier ones */
    int64_t failing_us; /* since it was first refused; 0: it never was */
    bool pipelined;
    bool holds; /* later rows of the key wait behind it when it is set aside */
    /* Set by the flow. */
    uint8_t state;
    uint8_t aside;
    bool sent;      /* at least once */
    bool refused;   /* sent pipelined, and set aside before a later row of its key was confirmed */
    uint32_t after; /* of the key's queue */
    /* Of a row that was sent or set aside; the caller's. */
    int64_t created_us;
    int64_t sent_us; /* last */
    uint16_t destination;
    const char *reason; /* static */
    int64_t pause_us;
    char *detail; /* malloc; NULL: none */
};

#define FLOW_NONE UINT32_MAX

typedef void flow_release(void *data, struct flow_item *item);

/* `held` (the caller's) knows the keys of which rows are set aside; the flow adds those that it
 * sets aside itself. */
int flow_create(struct flow **ret_flow, uint32_t rows_max, struct keys *held,
                struct error *error) MUST_CHECK;
void flow_destroy(struct flow *flow); /* NULL is fine; it must have been cleared */
/* Empties it. `release` (may be NULL) gets each row. */
void flow_clear(struct flow *flow, flow_release *release, void *data);
void flow_set_window(struct flow *flow, uint32_t window); /* at least 1 */

uint32_t flow_room(const struct flow *flow);
uint32_t flow_rows(const struct flow *flow);
uint32_t flow_unpersisted(const struct flow *flow); /* sent and not popped */
uint64_t flow_pushed(const struct flow *flow); /* rows ever pushed: the number of the next one */
uint64_t flow_popped(const struct flow *flow); /* rows ever popped: the number of the head */
uint32_t flow_place(const struct flow *flow, uint64_t number); /* of a row between them */
struct flow_item *flow_item(const struct flow *flow, uint32_t place);

void flow_push(struct flow *flow, const struct flow_item *item); /* there must be room */
/* Rows with a number below `number` may be sent; never less than before. */
void flow_permit(struct flow *flow, uint64_t number);

/* The row to send next, or FLOW_NONE. Asking again gives the same one. */
uint32_t flow_next(struct flow *flow);
void flow_sent(struct flow *flow, uint32_t place); /* what flow_next gave */
/* Settles a row in flight. */
void flow_done(struct flow *flow, uint32_t place);
/* Settles a row in flight, or what flow_next gave and cannot be sent at all: `aside` is waiting or
 * parked, and becomes behind when an earlier row holds the key. */
void flow_set_aside(struct flow *flow, uint32_t place, enum flow_aside aside);
/* How many pipelined rows were ever set aside and overtaken by a later one of their key, which the
 * broker took. */
uint64_t flow_overtaken(const struct flow *flow);
/* The channel is gone: what is in flight is to be sent again, in the order of the log. */
void flow_lost(struct flow *flow);

/* From now on nothing is sent but rows that lie before one that was sent, so that the position can
 * pass what is confirmed; and at most `most` of them: where more would be needed, what is confirmed
 * beyond them will be sent again. */
void flow_finish(struct flow *flow, uint32_t most);
/* Whether all that is to be sent after flow_finish has been settled and popped. */
bool flow_is_finished(const struct flow *flow);

/* Settled rows in one piece at the head. */
uint32_t flow_settled(const struct flow *flow);
/* Lets go of `count` settled rows at the head. `release` gets each of them. */
void flow_pop(struct flow *flow, uint32_t count, flow_release *release, void *data);

#endif
