/* sharing.h: what the owner of a share may read, and when it must come to rest because the number
 * of shares changes.
 *
 * The database decides (migrations/0018_shares.sql, which tells the whole course); this asks it.
 * A relay asks for its turn when it takes a share over, when it is told that a change is wanted,
 * and when it has come to rest:
 *
 *     sharing_start(sharing, epoch);     -- the share is ours: asks; on_turn comes
 *     sharing_look(sharing);             -- cheap, writes nothing: asks only if a change is wanted
 *     sharing_ask(sharing, true);        -- nothing is in flight, all is persisted, the fence holds
 *     sharing_leave(sharing);            -- the same, and the share is given back
 *     sharing_stop(sharing);             -- the connection is gone
 *
 * An answer of before sharing_stop is dropped. */
#ifndef SAGAPOST_RELAY_SHARING_H
#define SAGAPOST_RELAY_SHARING_H

#include "outbox/pg/session.h"
#include "outbox/relay/reading/snapshot.h"

struct sharing;

enum sharing_verdict {
    SHARING_UNKNOWN, /* not answered yet */
    SHARING_RUN,     /* read and publish: up to the barrier, if there is one */
    SHARING_STOP,    /* bring what is in flight to its end, then ask with at_rest */
    SHARING_REST,    /* send nothing */
    SHARING_LOST,    /* begin again: the share is another's, or of another number of shares */
};

struct sharing_turn {
    enum sharing_verdict verdict;
    int32_t shares;           /* of so many, ours is one */
    struct snapshot *barrier; /* the callee's to hold; NULL: none */
};

struct sharing_options {
    struct pg_session *session;
    int32_t share;
    void (*on_turn)(void *data, const struct sharing_turn *turn);
    void (*on_failure)(void *data, const struct error *failure);
    void *data;
};

int sharing_create(struct sharing **ret_sharing, const struct sharing_options *options,
                   struct error *error) MUST_CHECK;
void sharing_destroy(struct sharing *sharing); /* NULL is fine */

void sharing_start(struct sharing *sharing, int64_t epoch);
void sharing_stop(struct sharing *sharing);
void sharing_look(struct sharing *sharing);
void sharing_ask(struct sharing *sharing, bool at_rest);
void sharing_leave(struct sharing *sharing);

/* Pure: what the database says, as a verdict; UNKNOWN: it says something else. */
enum sharing_verdict sharing_verdict_of(const char *text);

#endif
