/* worlds.h: the worlds that a walk has found, each once, in the order in which they were found.
 *
 *     worlds_clear(&worlds);
 *     uint32_t index = worlds_add(&worlds, &key, worlds_hash(&key), parent);
 *
 * A set of exact keys, open addressing: of each world 32 bytes of key, 12 of links, and 16 to 32 of
 * slots, which hold half a hash beside the index, so that a key is looked at only if it is the one.
 * What was allocated stays for the next walk; clearing costs what the last walk took, not what the
 * largest did. Limits: WORLDS_MAX, which take under 8 GB; where memory ends, the program does. */
#ifndef TESTS_MACHINE_WORLDS_H
#define TESTS_MACHINE_WORLDS_H

#include "tests/machine/world.h"

#define WORLDS_MAX (UINT32_C(100) * 1000 * 1000)

/* Instead of a world's index, on a path to an end. */
#define PATH_NONE UINT32_MAX       /* nothing leads on */
#define PATH_END  (UINT32_MAX - 1) /* it is one, or is known to lead to one */

struct world_links {
    uint32_t parent;       /* it was found from; its own index: a first world */
    uint32_t good, silent; /* next on the path of this kind; see explore.h */
};

struct worlds {
    struct world_key *keys;
    struct world_links *links;
    uint32_t count, capacity;
    uint64_t *slots; /* low half: index + 1, 0: free; high half: of the hash */
    uint32_t slot_count, slot_capacity;
};

void worlds_clear(struct worlds *worlds);
void worlds_free(struct worlds *worlds);

uint64_t worlds_hash(const struct world_key *key);

static inline bool world_key_same(const struct world_key *one, const struct world_key *other)
{
    uint64_t differs = 0;
    for (int i = 0; i < KEY_WORDS; i++)
        differs |= one->words[i] ^ other->words[i];
    return differs == 0;
}

/* Asks the memory for what worlds_add will look at. */
static inline void worlds_expect(const struct worlds *worlds, uint64_t hash)
{
    __builtin_prefetch(&worlds->slots[(uint32_t)hash & (worlds->slot_count - 1)]);
}

/* The index of a world, new or known. One that is new has no way on yet. */
uint32_t worlds_add(struct worlds *worlds, const struct world_key *key, uint64_t hash,
                    uint32_t parent);

#endif
