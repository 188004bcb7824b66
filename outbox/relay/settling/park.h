/* park.h: what was set aside: tried again when its time has come, and moved by operators' intents.
 *
 * Rows of outbox.parked are waiting (tried again at a time), parked (a person must decide) or
 * behind (wait for an earlier row of their key). A batch of rows that are due, each followed by
 * those behind it, is published in order per key on a lane of its own, which connects when there is
 * something to try and leaves again after a while. Its results are one transaction: confirmed rows
 * are deleted, refused ones wait longer or are parked, and where a key's first row is gone, the
 * next one is due at once.
 *
 * A key is held while it has rows here that hold it: the log's rows of it follow as behind. Only
 * the relay changes that set: in `held`, which position.c's rows enter when they are set aside and
 * leave here, when the transaction that takes them away has committed.
 *
 * Intents are applied while no batch is in memory, so that no row is taken away while it is being
 * sent. */
#ifndef SAGAPOST_RELAY_PARK_H
#define SAGAPOST_RELAY_PARK_H

#include "outbox/pg/session.h"
#include "outbox/relay/ownership/fence.h"
#include "outbox/relay/publishing/lane.h"

struct park;

struct park_options {
    struct loop *loop;
    struct pg_session *session;
    struct lane_options lane; /* flow and on_settled are ours */
    struct fence *fence;      /* of the lane */
    const struct routes *routes;
    struct keys *held;
    struct stats *stats;
    int32_t share;
    uint32_t rows_max; /* of a batch */
    int64_t bytes_max;
    int64_t retry_base_us, retry_cap_us; /* of a transaction that fails for a passing reason */
    void (*on_loaded)(void *data);
    void (*on_failure)(void *data, const struct error *failure);
    void *data;
};

int park_create(struct park **ret_park, const struct park_options *options,
                struct error *error) MUST_CHECK;
void park_destroy(struct park *park); /* NULL is fine */

/* At takeover: repairs what a crash left, fills `held`, counts; then on_loaded. */
void park_start(struct park *park);
void park_stop(struct park *park);
void park_finish(
    struct park *park); /* tries nothing more; the batch in memory is brought to its end */
bool park_turn(struct park *park); /* before each sleep; true: did something */
void park_tick(struct park *park); /* every second or so */

void park_look_for_intents(struct park *park);
void park_count(struct park *park); /* brings the metrics up to date */
/* The log has set so many rows aside. */
void park_added(struct park *park, uint32_t rows);
uint64_t park_rows(const struct park *park); /* in outbox.parked, as far as is known */
bool park_is_idle(const struct park *park);  /* no batch is in memory */
uint32_t park_in_memory(const struct park *park);

#endif
