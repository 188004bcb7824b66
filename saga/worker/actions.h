/* actions.h: the actions that this database has handlers for, and how many commands of each one
 * batch may hold. Pure.
 *
 * A batch runs in the order of its handlers' `lock`, so batches never wait for each other in a
 * circle. Without a lock they can; then the commands of that action come in smaller batches, down
 * to one, and the limit grows again slowly while all goes well. */
#ifndef SAGAPOST_WORKER_ACTIONS_H
#define SAGAPOST_WORKER_ACTIONS_H

#include "outbox/runtime/error.h"

#define ACTIONS_MAX 10000

struct action {
    char name[256];
    bool has_lock;
    int limit;  /* commands in one batch */
    int taken;  /* in the batch that is being gathered */
    int worked; /* batches since the limit changed */
};

struct actions {
    struct action *sorted; /* by name */
    int count, capacity;
};

void actions_free(struct actions *actions);

/* Fills a fresh set, in the order of the names; limits of actions that `before` knows are kept. */
int actions_add(struct actions *actions, const struct actions *before, const char *name,
                bool has_lock, int limit_max, struct error *error) MUST_CHECK;
struct action *actions_find(const struct actions *actions, const char *name); /* NULL: none */

/* Gathering a batch: begin, then ask for each command in turn. */
void actions_begin(struct actions *actions);
bool actions_take(struct actions *actions, const char *name);

/* A batch of `count` commands, this action among them, met a deadlock: true when its limit became
 * smaller. */
bool actions_deadlocked(struct action *action, int count);
void actions_worked(struct action *action, int limit_max);

/* The participants of the actions, one after the other: *at starts at 0; false at the end. */
bool actions_next_participant(const struct actions *actions, int *at, char *ret_participant,
                              int capacity);

#endif
