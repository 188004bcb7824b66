/* prepared.h: which statements one connection has prepared. Pure bookkeeping.
 *
 * A statement is sent to be prepared with its first use; whether the server did is known only when
 * it answers. Until then it can be relied on within the same group (if preparing fails, the rest
 * of the group is not run either) but not in a later one, which runs although the group before it
 * failed: there the statement goes unprepared once more.
 *
 * Limit: PREPARED_MAX statements; those beyond go unprepared. */
#ifndef SAGAPOST_PG_PREPARED_H
#define SAGAPOST_PG_PREPARED_H

#include "outbox/pg/params.h"
#include "outbox/pg/session.h"

#define PREPARED_MAX 256

enum prepared_state { PREPARED_NOT, PREPARED_SENT, PREPARED_DONE };

struct prepared_entry {
    const struct pg_statement *statement;
    enum prepared_state state;
    uint64_t group;      /* PREPARED_SENT: the group it was sent in */
    uint64_t types_hash; /* of the parameters' types */
};

struct prepared {
    int count;
    struct prepared_entry entries[PREPARED_MAX * 2]; /* open addressing, at most half full */
};

enum prepared_way {
    PREPARED_USE,     /* it is prepared, or will be by then */
    PREPARED_PREPARE, /* prepare it, then use it */
    PREPARED_WITHOUT, /* send its text */
};

/* How to send `statement` in `group`. *ret_slot is for prepared_answered; -1: none. */
enum prepared_way prepared_choose(struct prepared *prepared, const struct pg_statement *statement,
                                  const struct pg_params *params, uint64_t group, int *ret_slot);
/* The server's answer to PREPARED_PREPARE. */
void prepared_answered(struct prepared *prepared, int slot, bool done);
void prepared_clear(struct prepared *prepared); /* a new connection */

#endif
