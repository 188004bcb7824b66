/* windows.h: the windows between two snapshots whose rows are in the flow, and the position that
 * says how far they are settled.
 *
 * The position of a relay is (t1, t2, last id): everything visible in t1 is settled, and, while t2
 * is set, what of (t1, t2] has an id up to the last. Windows follow each other, t2 of one being t1
 * of the next; rows of a later one are read while earlier ones wait for their confirms, so several
 * are open.
 *
 *     windows_open(windows, t2, lsn);                  -- a poll took the snapshot t2
 *     windows_row(windows, id);                        -- a row of it entered the flow; ids rise
 * within a window windows_close(windows);                          -- all rows of it did
 *     windows_flushed(windows, lsn);                   -- the log of commits is on disk up to here
 *     windows_permitted(windows)                       -- rows that may be published for that
 *     windows_position(windows, number, id, &position) -- the position once all rows below `number`
 * are settled windows_advance(windows, number);                -- and it is persisted
 *
 * An empty window is folded into the end of the one before it, or moves t1 when there is none; but
 * not before the log is on disk up to where it was taken: its xids could be used again after a
 * crash, and a persisted position that names them would then skip rows for ever.
 *
 * Pure. Rows are numbered as flow.h numbers them. Limits: WINDOWS_MAX open at once; the caller does
 * not poll at that. */
#ifndef SAGAPOST_RELAY_WINDOWS_H
#define SAGAPOST_RELAY_WINDOWS_H

#include "outbox/relay/reading/snapshot.h"

#define WINDOWS_MAX 1024

struct windows;

struct position {
    struct snapshot *t1;
    struct snapshot *t2; /* NULL: no window is open */
    int64_t last_id;     /* 0 without t2 */
};

int windows_create(struct windows **ret_windows, struct error *error) MUST_CHECK;
void windows_destroy(struct windows *windows); /* NULL is fine */
/* Forgets everything and begins at a persisted position: t1 and t2 are held, row numbers begin at
 * 0. With t2, its window is open for reading (after last_id) and permitted. */
void windows_start(struct windows *windows, const struct position *position);

int windows_count(const struct windows *windows);
/* Of the window that is open for reading; NULL: none is. */
const struct snapshot *windows_t2(const struct windows *windows);
/* What the window open for reading, or else the next one, begins at. */
struct snapshot *windows_t1(const struct windows *windows);
/* The bounds of all snapshots have turned out to be wrong: they are 0 from now on. */
void windows_drop_bounds(struct windows *windows);
int64_t windows_last_read_id(const struct windows *windows); /* of the window open for reading */

/* Takes over the caller's reference. `flush_lsn`: the log must be on disk up to here. */
void windows_open(struct windows *windows, struct snapshot *t2, int64_t flush_lsn);
void windows_row(struct windows *windows, int64_t id);
void windows_close(struct windows *windows);

/* The log is on disk up to `lsn`; a smaller one than before changes nothing. */
void windows_flushed(struct windows *windows, int64_t lsn);
/* The number below which rows may be published. */
uint64_t windows_permitted(const struct windows *windows);
/* Whether rows wait for the log to reach the disk. */
bool windows_wait_for_flush(const struct windows *windows);

/* The position once all rows below `number` are settled; the last of them has the id `last_id`.
 * With `number` as advanced to, and no row in memory, it is how far empty windows have moved t1.
 * The references stay the windows'. */
void windows_position(const struct windows *windows, uint64_t number, int64_t last_id,
                      struct position *ret_position);
void windows_advance(struct windows *windows, uint64_t number);

#endif
