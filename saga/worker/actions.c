#include "saga/worker/actions.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Batches that must work before a limit grows by one. */
#define WORKED_TO_GROW 100

void actions_free(struct actions *actions)
{
    free(actions->sorted);
    *actions = (struct actions){0};
}

int actions_add(struct actions *actions, const struct actions *before, const char *name,
                bool has_lock, int limit_max, struct error *error)
{
    if (actions->count == ACTIONS_MAX) {
        return error_set(error, ERROR_LIMIT, RETRY_NEVER, "more than %d handlers", ACTIONS_MAX);
    }
    if (strlen(name) >= sizeof actions->sorted->name) {
        return error_set(error, ERROR_LIMIT, RETRY_NEVER, "the action %.40s... is too long", name);
    }
    if (actions->count == actions->capacity) {
        int capacity = actions->capacity > 0 ? 2 * actions->capacity : 32;
        struct action *grown = realloc(actions->sorted, (size_t)capacity * sizeof *grown);
        if (!grown) {
            return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for handlers");
        }
        actions->sorted = grown;
        actions->capacity = capacity;
    }
    assert(actions->count == 0 || strcmp(actions->sorted[actions->count - 1].name, name) < 0);
    struct action *action = &actions->sorted[actions->count++];
    *action = (struct action){.has_lock = has_lock, .limit = limit_max};
    memcpy(action->name, name, strlen(name) + 1);
    const struct action *known = actions_find(before, name);
    if (known && !has_lock && known->limit < limit_max) {
        action->limit = known->limit;
    }
    return 0;
}

struct action *actions_find(const struct actions *actions, const char *name)
{
    int low = 0;
    int high = actions->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(actions->sorted[middle].name, name);
        if (order == 0) {
            return &actions->sorted[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

void actions_begin(struct actions *actions)
{
    for (int i = 0; i < actions->count; i++) {
        actions->sorted[i].taken = 0;
    }
}

bool actions_take(struct actions *actions, const char *name)
{
    struct action *action = actions_find(actions, name);
    if (!action) {
        return true; /* answered unknown_action, or a probe: nothing that locks */
    }
    if (action->taken >= action->limit) {
        return false;
    }
    action->taken++;
    return true;
}

bool actions_deadlocked(struct action *action, int count)
{
    action->worked = 0;
    if (action->has_lock || action->limit == 1) {
        return false;
    }
    int from = action->limit < count ? action->limit : count;
    action->limit = from > 1 ? from / 2 : 1;
    return true;
}

void actions_worked(struct action *action, int limit_max)
{
    if (action->limit < limit_max && ++action->worked >= WORKED_TO_GROW) {
        action->worked = 0;
        action->limit++;
    }
}

bool actions_next_participant(const struct actions *actions, int *at, char *ret_participant,
                              int capacity)
{
    while (*at < actions->count) {
        const char *name = actions->sorted[*at].name;
        int length = (int)strcspn(name, ".");
        /* Sorted by name, so those of one participant follow each other: '.' sorts before all that
         * a name may hold. */
        bool is_first =
            *at == 0 || strncmp(actions->sorted[*at - 1].name, name, (size_t)length + 1) != 0;
        (*at)++;
        if (is_first && length < capacity) {
            memcpy(ret_participant, name, (size_t)length);
            ret_participant[length] = '\0';
            return true;
        }
    }
    return false;
}
