/* history_world.h: a PostgreSQL in little, for test_history.c: transactions that take ids and
 * commit in whatever order, its snapshots, its log of commits and the crash that takes back what of
 * that was not on disk, the rows of the log, and the positions of the shares with what
 * migrations/0015_failover.sql and 0018_shares.sql do to them.
 *
 * It knows of each row what became of it, and checks at every position that is written that the
 * position says neither more nor less (world_check_positions). */
#ifndef SAGAPOST_TESTS_RELAY_HISTORY_WORLD_H
#define SAGAPOST_TESTS_RELAY_HISTORY_WORLD_H

#include "outbox/relay/reading/snapshot.h"
#include "tests/unit/relay/relay_test.h"

#define WORLD_ROWS    700
#define WORLD_TXS     900
#define WORLD_KEYS    5
#define WORLD_SHARES  4
#define WORLD_RECORDS 4096

enum world_tx_state { TX_RUNNING, TX_COMMITTED, TX_ABORTED };

struct world_tx {
    enum world_tx_state state;
    uint64_t xid;
    int64_t commit_lsn;
    int savepoint; /* rows from this one on go when it is rolled back */
    bool wrote, prepared;
};

struct world_row {
    int64_t id;
    uint64_t xid; /* the column */
    int tx;       /* -1: it came with a dump */
    int key;      /* 0: none */
    bool undone;
    bool confirmed; /* by the broker, or set aside with the position */
    bool settled;   /* a position that was persisted says so */
};

struct world_position {
    struct snapshot *t1, *t2;
    int64_t last_id, last_id_ever, bound;
};

struct world {
    struct chance chance;
    struct world_tx txs[WORLD_TXS];
    struct world_row rows[WORLD_ROWS];
    int tx_count, row_count;
    int key_owner[WORLD_KEYS + 1]; /* transaction, or -1 */
    uint64_t next_xid, latest_completed;
    uint64_t logged_xid, flushed_xid; /* the highest in the log of commits, and on disk */
    int64_t lsn, flushed;
    int64_t sequence, sequence_ahead; /* last given out; the log of commits knows up to here */
    int64_t set_back_from;            /* 0: it is where it has to be */
    int64_t sequence_seen;            /* by the relay that is connected; -1: none is */
    bool sets_back;                   /* somebody does so now and then */
    struct {
        int64_t lsn, value;
    } sequence_records[WORLD_RECORDS];
    int sequence_record_count;
    struct world_position positions[WORLD_SHARES];
    int shares;
};

void world_create(struct world *world, uint64_t seed);
void world_destroy(struct world *world);

/* Some writer does something. */
void world_write(struct world *world);
void world_end_all(struct world *world, bool only_that_wrote);
void world_flush(struct world *world);
/* What was not on disk did not happen; transaction ids are given out again. */
void world_crash(struct world *world);
uint64_t world_take_xid(struct world *world);
void world_completed(struct world *world, uint64_t xid);

/* As pg_current_snapshot() gives it. */
const char *world_snapshot(const struct world *world);
bool world_visible(const struct snapshot *snapshot, uint64_t xid);
bool world_committed(const struct world *world, const struct world_row *row);
int world_share_of(const struct world_row *row, int shares);

/* position_write.sql, committed. */
void world_position_set(struct world *world, int share, const char *t1, const char *t2,
                        int64_t last_id, int64_t highest_id, int64_t bound);
void world_check_positions(struct world *world);
/* With every relay at rest, and at the barrier where there is one (0018_shares.sql, step 4). */
void world_set_shares(struct world *world, int shares);
bool world_is_at(const struct world *world, const char *barrier);
/* Dump and restore: the rows and positions on a server with transaction ids of its own. */
void world_move(struct world *world);
/* outbox.rebase(false). */
void world_rebase(struct world *world);

#endif
