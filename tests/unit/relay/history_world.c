#include "tests/unit/relay/history_world.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define OPEN_MAX       6
#define IDS_SKIPPED    150000 /* of several shares a statement looks at 200,000 */
#define SEQUENCE_AHEAD 32     /* as PostgreSQL's SEQ_LOG_VALS */

static struct snapshot *parsed(const char *text)
{
    struct snapshot *snapshot;

    assert_int_equal(snapshot_parse(&snapshot, text, NULL), 0);
    return snapshot;
}

/* Transactions --------------------------------------------------------------------------------- */

uint64_t world_take_xid(struct world *world)
{
    return world->next_xid++;
}

static void log_of(struct world *world, uint64_t xid)
{
    world->lsn++;
    if (xid > world->logged_xid)
        world->logged_xid = xid;
}

void world_completed(struct world *world, uint64_t xid)
{
    log_of(world, xid);
    if (xid > world->latest_completed)
        world->latest_completed = xid;
}

const char *world_snapshot(const struct world *world)
{
    static char text[4096];
    uint64_t xmax = world->latest_completed + 1, xmin = xmax;
    size_t used;
    bool first = true;

    for (int i = 0; i < world->tx_count; i++)
        if (world->txs[i].state == TX_RUNNING && world->txs[i].xid < xmin)
            xmin = world->txs[i].xid;
    used = (size_t)snprintf(text, sizeof(text), "%" PRIu64 ":%" PRIu64 ":", xmin, xmax);
    for (uint64_t xid = xmin; xid < xmax; xid++)
        for (int i = world->tx_count - 1; i >= 0; i--)
            if (world->txs[i].state == TX_RUNNING && world->txs[i].xid == xid) {
                used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%" PRIu64,
                                         first ? "" : ",", xid);
                first = false;
                break;
            }
    assert(used < sizeof(text));
    return text;
}

bool world_visible(const struct snapshot *snapshot, uint64_t xid)
{
    return xid < snapshot->xmax && !snapshot_in_progress(snapshot, xid);
}

static int open_count(const struct world *world)
{
    int count = 0;

    for (int i = 0; i < world->tx_count; i++)
        count += world->txs[i].state == TX_RUNNING;
    return count;
}

static int pick_open(struct world *world)
{
    int nth = open_count(world);

    if (nth == 0)
        return -1;
    nth = (int)chance_below(&world->chance, (uint32_t)nth);
    for (int i = 0; i < world->tx_count; i++)
        if (world->txs[i].state == TX_RUNNING && nth-- == 0)
            return i;
    return -1;
}

/* It has its xid, and no row yet: an INSERT takes its id in a moment of its own. */
static void begin(struct world *world)
{
    if (world->tx_count == WORLD_TXS || open_count(world) == OPEN_MAX)
        return;
    world->txs[world->tx_count++] =
        (struct world_tx){.xid = world_take_xid(world), .savepoint = world->row_count};
}

static void log_sequence(struct world *world, int64_t ahead)
{
    assert(world->sequence_record_count < WORLD_RECORDS);
    world->sequence_ahead = ahead;
    world->sequence_records[world->sequence_record_count].lsn = ++world->lsn;
    world->sequence_records[world->sequence_record_count++].value = ahead;
}

/* To where it began, as a restore without it does; and somebody sees it before ids are given out
 * twice. Not beside a transaction with rows, and not while the relay, connected, has seen none
 * given out: nobody could tell then. */
static void set_sequence_back(struct world *world)
{
    if (world->sequence_seen == 0)
        return;
    for (int i = 0; i < world->tx_count; i++)
        if (world->txs[i].state == TX_RUNNING && world->txs[i].wrote)
            return;
    if (!world->set_back_from)
        world->set_back_from = world->sequence;
    world->sequence = 0;
}

static void repair_sequence(struct world *world)
{
    if (world->set_back_from)
        world->sequence = world->set_back_from;
    world->set_back_from = 0;
}

/* Of INSERTs that failed. */
static void skip_ids(struct world *world)
{
    repair_sequence(world);
    log_sequence(world, world->sequence += IDS_SKIPPED);
}

static int64_t next_id(struct world *world)
{
    repair_sequence(world);
    if (world->sequence == world->sequence_ahead)
        log_sequence(world, world->sequence + SEQUENCE_AHEAD);
    return ++world->sequence;
}

static void insert(struct world *world, int tx)
{
    int key = (int)chance_below(&world->chance, WORLD_KEYS + 1);

    if (world->row_count == WORLD_ROWS ||
        (key && world->key_owner[key] >= 0 && world->key_owner[key] != tx))
        return;
    if (key)
        world->key_owner[key] = tx;
    world->rows[world->row_count++] =
        (struct world_row){.id = next_id(world), .xid = world->txs[tx].xid, .tx = tx, .key = key};
    world->txs[tx].wrote = true;
    log_of(world, world->txs[tx].xid);
}

static void end(struct world *world, int tx, bool commits)
{
    struct world_tx *ended = &world->txs[tx];

    ended->state = commits ? TX_COMMITTED : TX_ABORTED;
    world_completed(world, ended->xid);
    ended->commit_lsn = world->lsn;
    for (int key = 1; key <= WORLD_KEYS; key++)
        if (world->key_owner[key] == tx)
            world->key_owner[key] = -1;
    if (!commits || chance_below(&world->chance, 3) > 0) /* else synchronous_commit = off */
        world_flush(world);
}

static void roll_back_to_savepoint(struct world *world, int tx)
{
    for (int i = world->txs[tx].savepoint; i < world->row_count; i++)
        if (world->rows[i].tx == tx)
            world->rows[i].undone = true;
}

/* On disk, and still in progress after a crash. */
static void prepare(struct world *world, int tx)
{
    world->txs[tx].prepared = true;
    log_of(world, world->txs[tx].xid);
    world_flush(world);
}

void world_write(struct world *world)
{
    uint32_t what = chance_below(&world->chance, 100);
    int tx = pick_open(world);

    if (what < 25)
        begin(world);
    else if (what < 30)
        world_completed(world, world_take_xid(world)); /* somebody else's */
    else if (what < 32)
        world_flush(world);
    else if (what < 33)
        skip_ids(world);
    else if (what < 34 && world->sets_back)
        set_sequence_back(world);
    else if (tx < 0)
        return;
    else if (what >= 80 || world->txs[tx].prepared)
        end(world, tx, what < 96);
    else if (what < 70)
        insert(world, tx);
    else if (what < 74)
        world->txs[tx].savepoint = world->row_count;
    else if (what < 78)
        roll_back_to_savepoint(world, tx);
    else
        prepare(world, tx);
}

void world_end_all(struct world *world, bool only_that_wrote)
{
    for (int i = 0; i < world->tx_count; i++)
        if (world->txs[i].state == TX_RUNNING && (world->txs[i].wrote || !only_that_wrote))
            end(world, i, chance_below(&world->chance, 4) > 0);
    world_flush(world);
}

/* The disk ------------------------------------------------------------------------------------- */

void world_flush(struct world *world)
{
    world->flushed = world->lsn;
    world->flushed_xid = world->logged_xid;
}

void world_crash(struct world *world)
{
    for (int i = 0; i < world->tx_count; i++) {
        struct world_tx *tx = &world->txs[i];

        if (tx->state == TX_COMMITTED ? tx->commit_lsn <= world->flushed
                                      : tx->state == TX_RUNNING && tx->prepared)
            continue;
        tx->state = TX_ABORTED;
        for (int row = 0; row < world->row_count; row++)
            if (world->rows[row].tx == i)
                world->rows[row].undone = true;
    }
    world->next_xid = world->flushed_xid + 1;
    world->latest_completed = world->logged_xid = world->flushed_xid;
    world->set_back_from = 0;
    world->sequence = world->sequence_ahead = 0;
    for (int i = 0; i < world->sequence_record_count; i++)
        if (world->sequence_records[i].lsn <= world->flushed)
            world->sequence = world->sequence_ahead = world->sequence_records[i].value;
    world->lsn = world->flushed;
    for (int key = 1; key <= WORLD_KEYS; key++)
        if (world->key_owner[key] >= 0 && world->txs[world->key_owner[key]].state != TX_RUNNING)
            world->key_owner[key] = -1;
}

/* Rows and positions --------------------------------------------------------------------------- */

bool world_committed(const struct world *world, const struct world_row *row)
{
    return !row->undone && (row->tx < 0 || world->txs[row->tx].state == TX_COMMITTED);
}

int world_share_of(const struct world_row *row, int shares)
{
    return (int)((row->key ? row->key * 7919 : row->id) % shares);
}

static bool says_settled(const struct world_position *position, const struct world_row *row)
{
    return world_visible(position->t1, row->xid) ||
           (position->t2 && row->id <= position->last_id && world_visible(position->t2, row->xid));
}

static void set_snapshots(struct world_position *position, const char *t1, const char *t2)
{
    snapshot_release(position->t1);
    snapshot_release(position->t2);
    position->t1 = parsed(t1);
    position->t2 = t2 ? parsed(t2) : NULL;
}

void world_position_set(struct world *world, int share, const char *t1, const char *t2,
                        int64_t last_id, int64_t highest_id, int64_t bound)
{
    struct world_position *position = &world->positions[share];

    set_snapshots(position, t1, t2);
    position->last_id = last_id;
    position->bound = bound;
    if (highest_id > position->last_id_ever)
        position->last_id_ever = highest_id;
    world_check_positions(world);
}

void world_check_positions(struct world *world)
{
    for (int i = 0; i < world->row_count; i++) {
        struct world_row *row = &world->rows[i];
        const struct world_position *position =
            &world->positions[world_share_of(row, world->shares)];
        int64_t highest = 0;
        bool settled;

        if (row->undone || (row->tx >= 0 && world->txs[row->tx].state == TX_ABORTED))
            continue;
        settled = says_settled(position, row);
        assert_true(settled || !row->settled);                /* it stays settled */
        assert_true(!settled || row->confirmed);              /* and is not, before it was sent: */
        assert_true(!settled || world_committed(world, row)); /* also when it only comes to be */
        row->settled = settled;
        if (!settled && row->xid >= position->t1->xmax)
            assert_true(row->id > position->bound);
        for (int share = 0; share < world->shares; share++)
            if (world->positions[share].last_id_ever > highest)
                highest = world->positions[share].last_id_ever;
        assert_true(!settled || row->id <= highest);
    }
}

static void copy_position(struct world *world, int to, int from)
{
    const struct world_position *source = &world->positions[from];
    struct world_position copy = *source;

    if (to == from)
        return;
    copy.t1 = parsed(source->t1->text);
    copy.t2 = source->t2 ? parsed(source->t2->text) : NULL;
    snapshot_release(world->positions[to].t1);
    snapshot_release(world->positions[to].t2);
    world->positions[to] = copy;
}

bool world_is_at(const struct world *world, const char *barrier)
{
    for (int share = 0; share < world->shares; share++)
        if (world->positions[share].t2 || strcmp(world->positions[share].t1->text, barrier) != 0)
            return false;
    return true;
}

void world_set_shares(struct world *world, int shares)
{
    int64_t bound = 0, last_id_ever = 0;
    int before = world->shares;

    if (shares % before != 0) {
        for (int share = 0; share < before; share++) {
            const struct world_position *position = &world->positions[share];

            bound = position->bound > bound ? position->bound : bound;
            last_id_ever =
                position->last_id_ever > last_id_ever ? position->last_id_ever : last_id_ever;
        }
        for (int share = 0; share < before; share++) {
            world->positions[share].last_id = 0;
            world->positions[share].bound = bound;
            world->positions[share].last_id_ever = last_id_ever;
        }
    }
    for (int share = before; share < shares; share++)
        copy_position(world, share, share % before);
    world->shares = shares;
    world_check_positions(world);
}

/* Another server ------------------------------------------------------------------------------- */

void world_move(struct world *world)
{
    int kept = 0;

    for (int i = 0; i < world->row_count; i++)
        if (world_committed(world, &world->rows[i])) {
            world->rows[kept] = world->rows[i];
            world->rows[kept++].tx = -1;
        }
    world->row_count = kept;
    world->tx_count = 0;
    for (int key = 1; key <= WORLD_KEYS; key++)
        world->key_owner[key] = -1;
    world->next_xid = 4 + chance_below(&world->chance, 400);
    world->latest_completed = world->logged_xid = world->next_xid - 1;
    repair_sequence(world);
    world->sequence_record_count = 0;
    log_sequence(world, world->sequence);
    world_flush(world);
}

void world_rebase(struct world *world)
{
    const char *here;
    uint64_t own;
    int64_t settled_to = 0, first_row = 0;

    world_end_all(world, true); /* its lock waits for those */
    repair_sequence(world);     /* it refuses one that is behind */
    here = world_snapshot(world);
    own = world_take_xid(world);
    for (int share = 0; share < world->shares; share++)
        if (world->positions[share].last_id_ever > settled_to)
            settled_to = world->positions[share].last_id_ever;
    for (int i = 0; i < world->row_count; i++) {
        struct world_row *row = &world->rows[i];
        const struct world_position *position =
            &world->positions[world_share_of(row, world->shares)];

        if (!world_committed(world, row))
            continue;
        row->xid = row->id <= settled_to && says_settled(position, row) ? 3 : own;
        assert_int_equal(row->xid == 3, row->settled);
        if (row->xid != 3 && (!first_row || row->id < first_row))
            first_row = row->id;
    }
    for (int share = 0; share < world->shares; share++) {
        struct world_position *position = &world->positions[share];

        set_snapshots(position, here, NULL);
        position->last_id = 0;
        position->bound = first_row ? first_row - 1 : world->sequence;
    }
    world_completed(world, own);
    world_flush(world);
    world_check_positions(world);
}

/* Life ----------------------------------------------------------------------------------------- */

void world_create(struct world *world, uint64_t seed)
{
    memset(world, 0, sizeof(*world));
    world->chance = chance_of(seed);
    world->next_xid = 700 + chance_below(&world->chance, 300);
    world->latest_completed = world->logged_xid = world->flushed_xid = world->next_xid - 1;
    world->shares = 1;
    world->sets_back = seed % 4 == 0;
    for (int key = 0; key <= WORLD_KEYS; key++)
        world->key_owner[key] = -1;
    set_snapshots(&world->positions[0], world_snapshot(world), NULL);
}

void world_destroy(struct world *world)
{
    for (int share = 0; share < WORLD_SHARES; share++) {
        snapshot_release(world->positions[share].t1);
        snapshot_release(world->positions[share].t2);
    }
}
