/* confirm.h: what became of each published message.
 *
 * A confirm window is a ring indexed by delivery tag. Publishing adds an entry; acks and nacks
 * settle entries in any order, one at a time or all up to a tag; a return is remembered until the
 * ack that follows it; when the channel is lost, every open entry is settled as CONFIRM_UNKNOWN.
 *
 *     confirm_add(confirm, tag, item, fingerprint, now);
 *     confirm_settle(confirm, tag, multiple, acked, on_settled, lane);      -- on basic.ack,
 * basic.nack confirm_return(confirm, fingerprint, code);                           -- on
 * basic.return confirm_lost(confirm, on_settled, lane);                              -- on a lost
 * channel
 *
 * Guarantees: an entry is settled exactly once, in the order of the tags where several are settled
 * at once. Tags start at 1 after creation and after confirm_lost. A basic.return carries no tag,
 * and comes before the ack of its message (RabbitMQ, publisher confirms). It is matched with the
 * oldest open entry of the same fingerprint: a hash of message id, exchange and routing key that
 * the caller makes the same way on both occasions. Limits: the capacity is fixed at creation;
 * nothing is allocated after it. Tags that settle out of order hold their place until all before
 * them have settled, so confirm_has_room can say no while few are open. */
#ifndef SAGAPOST_RELAY_CONFIRM_H
#define SAGAPOST_RELAY_CONFIRM_H

#include "outbox/runtime/error.h"
#include <stdint.h>

struct confirm;

enum confirm_outcome {
    CONFIRM_OPEN,
    CONFIRM_ACKED,    /* the broker has it */
    CONFIRM_RETURNED, /* no queue took it */
    CONFIRM_NACKED,   /* the broker refused it */
    CONFIRM_UNKNOWN,  /* the channel was lost first */
};

struct confirm_entry {
    uint64_t fingerprint;
    int64_t sent_us;
    uint32_t item; /* the caller's */
    enum confirm_outcome outcome;
    int return_code; /* 0: not returned */
};

/* The entry is good until the function returns; the function may add new entries. */
typedef void confirm_settled(void *data, const struct confirm_entry *entry);

/* `capacity` is rounded up to a power of two. */
int confirm_create(struct confirm **ret_confirm, uint32_t capacity, struct error *error) MUST_CHECK;
void confirm_destroy(struct confirm *confirm); /* NULL is fine */
bool confirm_has_room(const struct confirm *confirm);
uint32_t confirm_open(const struct confirm *confirm); /* entries not settled */
/* When the oldest open entry was sent; 0: none is open. */
int64_t confirm_oldest_us(const struct confirm *confirm);

/* `tag` must be the one after the last. */
void confirm_add(struct confirm *confirm, uint64_t tag, uint32_t item, uint64_t fingerprint,
                 int64_t sent_us);
/* False when the tag was never given out on this channel, or is settled already: the broker makes
 * no sense. With `multiple`, tag 0 means all. */
bool confirm_settle(struct confirm *confirm, uint64_t tag, bool multiple, bool acked,
                    confirm_settled *settled, void *data) MUST_CHECK;
/* False when no open entry has this fingerprint. */
bool confirm_return(struct confirm *confirm, uint64_t fingerprint, int code) MUST_CHECK;
void confirm_lost(struct confirm *confirm, confirm_settled *settled, void *data);
/* For the open entries, which may be changed but for their outcome. */
void confirm_each_open(struct confirm *confirm,
                       void (*visit)(void *data, struct confirm_entry *entry), void *data);

#endif
