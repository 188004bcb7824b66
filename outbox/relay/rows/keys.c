/* Open addressing with linear probing, at most half full; a removal moves later entries of the run
 * back, so that there are no tombstones and a long life costs nothing. */
#include "outbox/relay/rows/keys.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CLEAR_BY_HAND_MAX 65536 /* entries */

struct keys {
    struct key_state *entries; /* hash 0: free */
    uint64_t mask;
    uint32_t count, count_max;
};

uint64_t key_hash(const void *bytes, size_t count)
{
    const uint8_t *byte = bytes;
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < count; i++)
        hash = (hash ^ byte[i]) * 0x100000001b3u;
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu;
    hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53u;
    hash ^= hash >> 33;
    return hash ? hash : 1;
}

int keys_create(struct keys **ret_keys, uint32_t keys_max, struct error *error)
{
    struct keys *keys = calloc(1, sizeof(*keys));
    uint64_t size = 8;

    while (size < (uint64_t)keys_max * 2)
        size *= 2;
    if (keys)
        keys->entries = calloc(size, sizeof(*keys->entries));
    if (!keys || !keys->entries) {
        free(keys);
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a table of %u keys", keys_max);
    }
    keys->mask = size - 1;
    keys->count_max = keys_max;
    *ret_keys = keys;
    return 0;
}

void keys_destroy(struct keys *keys)
{
    if (!keys)
        return;
    free(keys->entries);
    free(keys);
}

/* A large table gets new memory, which costs none before it is used. */
void keys_clear(struct keys *keys)
{
    size_t size = (size_t)keys->mask + 1;
    struct key_state *fresh =
        keys->count && size >= CLEAR_BY_HAND_MAX ? calloc(size, sizeof(*keys->entries)) : NULL;

    if (fresh) {
        free(keys->entries);
        keys->entries = fresh;
    } else if (keys->count) {
        memset(keys->entries, 0, size * sizeof(*keys->entries));
    }
    keys->count = 0;
}

uint32_t keys_count(const struct keys *keys)
{
    return keys->count;
}

/* Where the key is, or would be put. */
static uint64_t place_of(const struct keys *keys, uint64_t hash)
{
    uint64_t place = hash & keys->mask;

    while (keys->entries[place].hash && keys->entries[place].hash != hash)
        place = (place + 1) & keys->mask;
    return place;
}

struct key_state *keys_find(const struct keys *keys, uint64_t hash)
{
    struct key_state *entry;

    assert(hash != 0);
    entry = &keys->entries[place_of(keys, hash)];
    return entry->hash ? entry : NULL;
}

struct key_state *keys_get(struct keys *keys, uint64_t hash)
{
    struct key_state *entry;

    assert(hash != 0);
    entry = &keys->entries[place_of(keys, hash)];
    if (entry->hash)
        return entry;
    if (keys->count == keys->count_max)
        return NULL;
    keys->count++;
    *entry = (struct key_state){.hash = hash};
    return entry;
}

void keys_drop(struct keys *keys, uint64_t hash)
{
    uint64_t hole = place_of(keys, hash);

    assert(keys->entries[hole].hash == hash);
    keys->count--;
    for (uint64_t place = (hole + 1) & keys->mask; keys->entries[place].hash;
         place = (place + 1) & keys->mask) {
        uint64_t wanted = keys->entries[place].hash & keys->mask;

        /* It may move into the hole unless it wants a place after it. */
        if (((place - wanted) & keys->mask) >= ((place - hole) & keys->mask)) {
            keys->entries[hole] = keys->entries[place];
            hole = place;
        }
    }
    keys->entries[hole] = (struct key_state){0};
}

void keys_release(struct keys *held, uint64_t hash)
{
    struct key_state *key = keys_find(held, hash);

    if (key && --key->held == 0)
        keys_drop(held, hash);
}
