/* held.h: deliveries that have arrived and are not acknowledged yet. Pure: knows no broker.
 *
 * A delivery comes in with its tag (1, 2, 3 ... on a channel), is taken into a batch, and ends in
 * one of three ways: settled (its transaction is committed), refused (the caller has rejected it to
 * the dead-letter queue), or put back to be tried again later. One `multiple` acknowledgement
 * covers all that is settled up to the first that is not: held_ack says which tag, if any. The
 * broker closes the channel on an acknowledgement of a tag that was rejected before, so the tag
 * named is always one that was settled, never one that was refused.
 *
 * When the channel is lost every tag is void: held_void forgets all of them. Messages that are in a
 * batch at that moment stay readable until the batch gives them back; they never reach held_ack.
 *
 * Limits: `capacity` messages (the sum of the prefetches); memory of the bodies is kept and used
 * again. Owner: one consuming session. */
#ifndef SAGAPOST_INBOX_HELD_H
#define SAGAPOST_INBOX_HELD_H

#include "outbox/runtime/buffer.h"
#include "outbox/runtime/error.h"
#include <stdbool.h>
#include <stdint.h>

enum held_state {
    HELD_WAITING, /* to be taken */
    HELD_TAKEN,   /* in a batch */
    HELD_SETTLED,
    HELD_REFUSED,
};

struct held_message {
    uint64_t tag;
    enum held_state state;
    bool is_void;          /* its channel is gone; only a batch still holds it */
    bool redelivered;      /* the broker's flag */
    unsigned tries;        /* how often it failed alone */
    unsigned losses;       /* how often the connection was lost while it was being run */
    int64_t not_before_us; /* monotonic; WAITING: not taken earlier */
    int64_t arrived_us;    /* monotonic */
    struct buffer body;
    void *extra;            /* the user's own words about it: zeroes when it is received */
    char last_sqlstate[6];  /* of its last failure alone */
    char last_failure[256]; /* what was said then */
    struct held_message *next_free;
};

struct held;

/* A user whose connection is lost while a message is worked on cannot know whether that message did
 * it. One that was there twice is taken alone from then on, and after three more times given up. */
#define HELD_LOSSES_SUSPECT 2
#define HELD_LOSSES_MAX     5

/* body_bytes_max bounds one body; extra_bytes is what each message has room for in `extra`. */
int held_create(struct held **ret_held, int capacity, size_t body_bytes_max, size_t extra_bytes,
                struct error *error) MUST_CHECK;
void held_destroy(struct held *held);

/* Another capacity; only while nothing is held with a valid tag (after held_void). */
int held_resize(struct held *held, int capacity, struct error *error) MUST_CHECK;

/* The message for the next delivery, WAITING, its body empty, with room for body_bytes; one over
 * the limit gets none and says so: body.failed. Fails with ERROR_PROTOCOL when the tag is not the
 * one after the last, ERROR_LIMIT when the broker sends more than was asked for, ERROR_NO_MEMORY.
 * Then nothing was received, and the channel has to be made anew for it to come again: a message is
 * never refused for what is not its fault. */
int held_receive(struct held *held, uint64_t tag, size_t body_bytes,
                 struct held_message **ret_message, struct error *error) MUST_CHECK;

/* Takes up to count_max of the waiting ones, in the order they came, that are due at now_us and
 * that `accept` (may be NULL: all) agrees to. Returns how many. */
typedef bool held_accept(void *data, const struct held_message *message);
int held_take(struct held *held, int64_t now_us, int count_max, held_accept *accept, void *data,
              struct held_message **ret_messages);

/* How a message that was received or taken ends. After settle and refuse it must not be used. */
void held_settle(struct held *held, struct held_message *message);
void held_refuse(struct held *held, struct held_message *message);
void held_put_back(struct held *held, struct held_message *message, int64_t not_before_us);

/* True: acknowledge up to *ret_tag, multiple. */
bool held_ack(struct held *held, uint64_t *ret_tag);

void held_void(struct held *held);

bool held_has_due(const struct held *held, int64_t now_us);
int64_t held_next_us(
    const struct held *held); /* when the next waiting one is due; INT64_MAX: none */
int held_waiting(const struct held *held);
int held_outstanding(const struct held *held); /* valid tags without an acknowledgement */

#endif
