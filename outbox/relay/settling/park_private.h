/* park_private.h: shared by park.c (starting, intents, time) and park_batch.c (a batch and its
 * results). */
#ifndef SAGAPOST_RELAY_PARK_PRIVATE_H
#define SAGAPOST_RELAY_PARK_PRIVATE_H

#include "outbox/relay/rows/chunk.h"
#include "outbox/relay/settling/park.h"
#include "outbox/runtime/backoff.h"

#define PARK_NEVER INT64_MAX

enum park_state {
    PARK_OFF,
    PARK_STARTING,
    PARK_IDLE,
    PARK_LOADING,  /* asked for a batch */
    PARK_TRYING,   /* the batch is in the flow */
    PARK_WRITING,  /* its results are on their way */
    PARK_APPLYING, /* intents are */
};

struct park {
    struct park_options options;
    enum park_state state;
    struct flow *flow;
    struct keys *batch_held; /* keys whose first row was refused again, in this batch */
    struct lane *lane;       /* NULL: not needed now */
    struct pg_params params;
    size_t in_memory;
    struct chunk_size size; /* of a batch */
    bool finishing;
    bool intents_wanted;
    struct pg_result *intents; /* answered; their commit is awaited. NULL: none are */
    int64_t due_us;  /* when the first waiting row is due, by our clock; PARK_NEVER: none */
    int64_t used_us; /* when the lane had something to do */
    uint64_t rows;
    struct loop_timer *due_timer, *retry_timer;
    struct backoff backoff;
};

static inline int64_t park_now_us(const struct park *park)
{
    return loop_now_us(park->options.loop);
}

/* park.c */
void park_fail(struct park *park, const struct error *failure);
bool park_answered(struct park *park, const struct error *failure); /* the answer is of use */
void park_begin_params(struct park *park);                          /* with the share as $1 */
void park_send(struct park *park, const struct pg_statement *statement, pg_callback *callback);
void park_sync(struct park *park, pg_callback *callback);
void park_set_due(struct park *park, int64_t due_us);
void park_ask_next(struct park *park);

/* park_batch.c */
bool park_load(struct park *park); /* asks for a batch, when the lane is up; true: it did */
void park_write_results(struct park *park);
void park_on_retry_timer(void *data);
void park_on_settled(void *data, const struct flow_item *item);

#endif
