/* world_private.h: shared by world.c (what is checked after a move) and world_moves.c (which moves
 * there are). */
#ifndef TESTS_MACHINE_WORLD_PRIVATE_H
#define TESTS_MACHINE_WORLD_PRIVATE_H

#include "saga/machine/table.h"
#include "tests/machine/world.h"

/* A unit of the machine, and what is true of it. */
struct matter {
    struct unit unit;
    const struct truth *truth;
    int next_step, next_unit;
};

#define NO_MATTER                                                                                  \
    {                                                                                              \
        .next_step = 0                                                                             \
    }

/* One after the other, from NO_MATTER on; false: there are no more. */
bool next_matter(const struct plan *plan, const struct world *world, struct matter *matter);

/* A round that was sent and has not failed yet may take effect. */
static inline bool may_be_done(const struct truth *truth)
{
    return truth->action == OUTCOME_OPEN && truth->sent_round > truth->failed_round;
}

static inline bool was_done(const struct truth *truth)
{
    return truth->action == OUTCOME_OK;
}

#endif
