/* explore.h: walks through every world that a saga can come to.
 *
 * Breadth first, so that the trace of a violation is as short as can be. Beside what world_apply
 * and world_check find, two paths must lead from every world to an end (or to a saga that says that
 * it is stuck): the good one, where every participant answers and no new trouble comes, and the
 * silent one, where nobody ever answers again and timers alone fire.
 *
 * A saga that has more than `worlds_max` worlds is walked that far and no farther: all worlds that
 * are less moves away than the farthest, and some of those. ret_exploration says so. */
#ifndef TESTS_MACHINE_EXPLORE_H
#define TESTS_MACHINE_EXPLORE_H

#include "tests/machine/world.h"

struct explorer;

struct explorer *explorer_create(void);
void explorer_destroy(struct explorer *explorer);

struct exploration {
    uint64_t states, moves;
    uint64_t stand_for;               /* worlds that these are, without `folded` */
    uint64_t ended[SAGA_STATE_COUNT]; /* worlds in which the saga ended, or is stuck, by state */
    const char *broken;               /* NULL: nothing is */
    uint64_t unexplored; /* worlds beyond the bound: found, checked, not gone on from */
};

/* Walks one saga. With `trace`, a violation is printed as the list of moves that lead to it. */
void explore(struct explorer *explorer, const struct plan *plan,
             const struct world_options *options, bool trace, struct exploration *ret_exploration);

#endif
