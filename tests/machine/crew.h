/* crew.h: shares a list of work among processes.
 *
 *     void walk_all(struct crew *crew, void *tally, void *context)
 *     {
 *         for each saga: if (crew_takes(crew)) ...          counts into tally
 *     }
 *     crew_run(jobs, walk_all, context, tallies, sizeof(tallies[0]));      tallies[jobs]
 *
 * Each process goes through the whole list and takes what no other has taken, one after the other,
 * so that none is idle while the list lasts. With one job nothing is forked. What a process counts
 * comes back by its tally, which must hold no pointers; its memory is gone with it.
 *
 * crew_run returns how many processes ended otherwise than they should (killed, out of memory):
 * what those were at is not known to be right. */
#ifndef TESTS_MACHINE_CREW_H
#define TESTS_MACHINE_CREW_H

#include <stdbool.h>
#include <stddef.h>

#define CREW_MAX 64

struct crew;

typedef void crew_work(struct crew *crew, void *tally, void *context);

int crew_run(int jobs, crew_work *work, void *context, void *tallies, size_t tally_bytes);

/* To be asked of each piece of the list, in its order: true if it is this process's. */
bool crew_takes(struct crew *crew);

#endif
