#include "outbox/pg/prepared.h"

#include <assert.h>
#include <string.h>

#define SLOTS (PREPARED_MAX * 2)
static_assert((SLOTS & (SLOTS - 1)) == 0, "slots are masked");

#define FNV_BASIS UINT64_C(14695981039346656037)
#define FNV_PRIME UINT64_C(1099511628211)

static uint64_t hash_name(const char *name)
{
    uint64_t hash = FNV_BASIS;
    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * FNV_PRIME;
    return hash;
}

static uint64_t hash_types(const struct pg_params *params)
{
    uint64_t hash = FNV_BASIS;
    for (int i = 0; params != NULL && i < params->count; i++)
        hash = (hash ^ params->types[i]) * FNV_PRIME;
    return hash;
}

/* The statement's slot, or the free one for it; -1: full. The name is the identity, not the
 * address: two source files that include the same header have a copy each. */
static int find_slot(struct prepared *prepared, const struct pg_statement *statement)
{
    unsigned slot = (unsigned)hash_name(statement->name) & (SLOTS - 1);

    for (;; slot = (slot + 1) & (SLOTS - 1)) {
        const struct pg_statement *there = prepared->entries[slot].statement;
        if (there == NULL)
            return prepared->count < PREPARED_MAX ? (int)slot : -1;
        if (there == statement)
            return (int)slot;
        if (strcmp(there->name, statement->name) == 0) {
            assert(strcmp(there->sql, statement->sql) == 0); /* a name stands for one statement */
            return (int)slot;
        }
    }
}

enum prepared_way prepared_choose(struct prepared *prepared, const struct pg_statement *statement,
                                  const struct pg_params *params, uint64_t group, int *ret_slot)
{
    int slot = find_slot(prepared, statement);
    uint64_t types_hash = hash_types(params);

    *ret_slot = slot;
    if (slot < 0)
        return PREPARED_WITHOUT;
    struct prepared_entry *entry = &prepared->entries[slot];
    if (entry->statement == NULL) {
        prepared->count++;
        entry->statement = statement;
    }
    if (entry->state == PREPARED_NOT) {
        entry->state = PREPARED_SENT;
        entry->group = group;
        entry->types_hash = types_hash;
        return PREPARED_PREPARE;
    }
    assert(entry->types_hash == types_hash); /* it is prepared with the types of its first use */
    if (entry->state == PREPARED_DONE || entry->group == group)
        return PREPARED_USE;
    return PREPARED_WITHOUT;
}

void prepared_answered(struct prepared *prepared, int slot, bool done)
{
    assert(slot >= 0 && slot < SLOTS);
    assert(prepared->entries[slot].state == PREPARED_SENT);
    prepared->entries[slot].state = done ? PREPARED_DONE : PREPARED_NOT;
}

void prepared_clear(struct prepared *prepared)
{
    memset(prepared, 0, sizeof(*prepared));
}
