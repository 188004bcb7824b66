/* keys.h: what the relay knows of each key, in a hash table of fixed size.
 *
 * A key is known by its 64-bit hash alone: two keys with the same hash are kept in order as if they
 * were one, which costs a little speed once in a universe and never correctness. The hash is part
 * of the database's contents (outbox.parked.key_hash): it must not change.
 *
 * Limits: the capacity is fixed at creation; keys_get says no when it is reached. Pointers to an
 * entry are good until the next keys_get or keys_drop. */
#ifndef SAGAPOST_RELAY_KEYS_H
#define SAGAPOST_RELAY_KEYS_H

#include "outbox/runtime/error.h"
#include <stddef.h>
#include <stdint.h>

struct keys;

struct key_state {
    uint64_t hash; /* never 0 */
    union {
        struct {                              /* of a key with rows in flight or queued: flow.c */
            uint32_t queue_first, queue_last; /* valid while queued > 0 */
            uint32_t queued;                  /* wait for an earlier row of the key */
            uint32_t released;                /* sent or ready to be sent, and not settled */
            uint32_t released_strict;
            /* Of pipelined rows; numbers are of the flow's, cut to 32 bits. */
            uint32_t refused;      /* set aside, and no later one is confirmed yet */
            uint32_t refused_last; /* the last of them */
            uint32_t done_last;    /* the last that was confirmed, and 1; 0: none */
        };
        uint64_t held; /* of a key that is held: its rows that are, or are about to be, in
                          outbox.parked */
    };
};

/* 64-bit FNV-1a, then the finalizer of MurmurHash3; 0 becomes 1. */
uint64_t key_hash(const void *bytes, size_t count);

int keys_create(struct keys **ret_keys, uint32_t keys_max, struct error *error) MUST_CHECK;
void keys_destroy(struct keys *keys); /* NULL is fine */
void keys_clear(struct keys *keys);
uint32_t keys_count(const struct keys *keys);
struct key_state *keys_find(const struct keys *keys, uint64_t hash); /* NULL: unknown */
struct key_state *keys_get(struct keys *keys,
                           uint64_t hash);        /* found, or added with zeroes; NULL: full */
void keys_drop(struct keys *keys, uint64_t hash); /* it must be there */
/* Of a table of held keys: one row less; with the last one the key is free. A key that is not held
 * stays so. */
void keys_release(struct keys *held, uint64_t hash);

#endif
