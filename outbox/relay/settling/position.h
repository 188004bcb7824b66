/* position.h: writes how far the log is settled, and, in the same transaction, the rows that had to
 * be set aside.
 *
 * One write at a time. The rows that it covers leave the flow when it has committed; until then, a
 * crash publishes them again. A write that fails for a passing reason (disk full, out of
 * connections) is tried again; one that finds another epoch in the row, or no row, means that this
 * relay does not own the share any more.
 *
 * Limits: ROWS_ASIDE_MAX rows set aside in one write. */
#ifndef SAGAPOST_RELAY_POSITION_H
#define SAGAPOST_RELAY_POSITION_H

#include "outbox/pg/session.h"
#include "outbox/relay/reading/source.h"
#include "outbox/relay/reading/windows.h"
#include "outbox/relay/rows/flow.h"
#include "outbox/relay/rows/routes.h"
#include "outbox/relay/stats.h"

#define ROWS_ASIDE_MAX 1000

struct position_writer;

struct position_writer_options {
    struct loop *loop;
    struct pg_session *session;
    struct flow *flow;
    struct windows *windows;
    struct source *source; /* is told of our transactions */
    const struct routes *routes;
    struct stats *stats;
    int32_t share;
    int64_t retry_base_us, retry_cap_us;
    /* Committed; so many of its rows were set aside. */
    void (*on_written)(void *data, uint32_t rows_aside);
    /* The share is not ours any more, or something is wrong that trying again does not help. */
    void (*on_failure)(void *data, const struct error *failure);
    void *data;
};

int position_writer_create(struct position_writer **ret_writer,
                           const struct position_writer_options *options,
                           struct error *error) MUST_CHECK;
void position_writer_destroy(struct position_writer *writer); /* NULL is fine */

/* The row is at `place` (a ctid), with this epoch. */
void position_writer_start(struct position_writer *writer, const char *place, int64_t epoch);
void position_writer_stop(struct position_writer *writer);
bool position_writer_is_busy(const struct position_writer *writer);
/* Writes over as many settled rows as one transaction takes. With none, writes how far empty
 * windows have moved t1. */
void position_writer_write(struct position_writer *writer);

#endif
