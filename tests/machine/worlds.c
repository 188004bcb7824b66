/* worlds.c: see worlds.h. */
#include "tests/machine/worlds.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_FIRST  (1u << 12)
#define WORLDS_FIRST (1u << 11)

static void *must_have(void *memory)
{
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return memory;
}

static void take_slots(struct worlds *worlds, uint32_t slot_count)
{
    assert(slot_count > 0);
    if (slot_count > worlds->slot_capacity) {
        free(worlds->slots);
        worlds->slots = must_have(malloc(slot_count * sizeof(*worlds->slots)));
        worlds->slot_capacity = slot_count;
    }
    worlds->slot_count = slot_count;
    memset(worlds->slots, 0, slot_count * sizeof(*worlds->slots));
}

void worlds_clear(struct worlds *worlds)
{
    worlds->count = 0;
    take_slots(worlds, SLOTS_FIRST);
}

void worlds_free(struct worlds *worlds)
{
    free(worlds->keys);
    free(worlds->links);
    free(worlds->slots);
    memset(worlds, 0, sizeof(*worlds));
}

uint64_t worlds_hash(const struct world_key *key)
{
    uint64_t value = 0;
    for (int i = 0; i < KEY_WORDS; i++) {
        value = (value ^ key->words[i]) * UINT64_C(0x9e3779b97f4a7c15);
        value ^= value >> 29;
    }
    return value;
}

#define HASH_HALF UINT64_C(0xffffffff00000000)

static uint64_t *slot_of(const struct worlds *worlds, const struct world_key *key, uint64_t hash)
{
    uint32_t mask = worlds->slot_count - 1;
    for (uint32_t at = (uint32_t)hash & mask;; at = (at + 1) & mask) {
        uint64_t slot = worlds->slots[at];
        bool may_be_it = ((slot ^ hash) & HASH_HALF) == 0;
        if ((uint32_t)slot == 0 ||
            (may_be_it && world_key_same(&worlds->keys[(uint32_t)slot - 1], key)))
            return &worlds->slots[at];
    }
}

static void grow(struct worlds *worlds)
{
    if (worlds->count == worlds->capacity) {
        worlds->capacity = worlds->capacity ? 2 * worlds->capacity : WORLDS_FIRST;
        worlds->keys = must_have(realloc(worlds->keys, worlds->capacity * sizeof(*worlds->keys)));
        worlds->links =
            must_have(realloc(worlds->links, worlds->capacity * sizeof(*worlds->links)));
    }
    if (2 * (uint64_t)worlds->count < worlds->slot_count)
        return;
    take_slots(worlds, 2 * worlds->slot_count);
    for (uint32_t i = 0; i < worlds->count; i++) {
        uint64_t hash = worlds_hash(&worlds->keys[i]);
        *slot_of(worlds, &worlds->keys[i], hash) = (hash & HASH_HALF) | (i + 1);
    }
}

uint32_t worlds_add(struct worlds *worlds, const struct world_key *key, uint64_t hash,
                    uint32_t parent)
{
    uint64_t *slot = slot_of(worlds, key, hash);
    if ((uint32_t)*slot != 0)
        return (uint32_t)*slot - 1;
    assert(worlds->count < WORLDS_MAX);
    if (worlds->count == worlds->capacity || 2 * (uint64_t)worlds->count >= worlds->slot_count) {
        grow(worlds);
        slot = slot_of(worlds, key, hash);
    }
    worlds->keys[worlds->count] = *key;
    worlds->links[worlds->count] = (struct world_links){parent, PATH_NONE, PATH_NONE};
    *slot = (hash & HASH_HALF) | ++worlds->count;
    return worlds->count - 1;
}
