/* chunk.h: a result with rows that are in a flow; it is freed when the last of them has left.
 *
 * Rows are published from libpq's own memory. `in_memory` of the owner counts what is held, so that
 * reading ahead has a limit.
 *
 * How many rows a statement asks for: it looks at the bytes of all rows that it may bring, and
 * where they are large it brings few of them: with 2,000 rows asked for, a backlog of messages of
 * 100 kB had each of them read from its TOAST table 50 times. So the first chunk is small, the next
 * ones ask for twice as many while the bytes have room for all, and for little more than they had
 * room for where they do not. A statement that failed may have been too much to ask for within its
 * time: the next one asks for half.
 *
 *     rows = chunk_size_ask(&size, room, bytes);      -- LIMIT rows, and less than so many bytes
 *     more = chunk_size_learn(&size, chunk);          -- it was answered; more: there may be
 *     chunk_size_failed(&size);                       -- or not */
#ifndef SAGAPOST_RELAY_CHUNK_H
#define SAGAPOST_RELAY_CHUNK_H

#include "outbox/relay/rows/flow.h"
#include "outbox/relay/rows/row.h"

struct chunk_size {
    int32_t rows_most; /* asked for at once; 0: nothing was learned yet */
    int32_t rows_asked;
    int64_t bytes_asked;
};

struct chunk {
    struct pg_result *rows;
    uint32_t references;
    int64_t row_bytes; /* the sum of column ROW_BYTES: what a statement's limit on bytes counts */
    size_t bytes;
    size_t *in_memory;
};

/* Keeps the borrowed result, adds its bytes to *in_memory, and gives one reference. NULL: out of
 * memory. */
struct chunk *chunk_create(struct pg_result *borrowed, size_t *in_memory);
struct chunk *chunk_hold(struct chunk *chunk);
void chunk_release(struct chunk *chunk); /* NULL is fine */
/* For flow_pop and flow_clear: gives back the reference of a row. */
void chunk_release_row(void *data, struct flow_item *item);

/* Where there is room for `rows` and `bytes`. */
int32_t chunk_size_ask(struct chunk_size *size, int32_t rows, int64_t bytes);
/* What it brought; NULL: nothing. True where a limit may have kept more from coming. */
bool chunk_size_learn(struct chunk_size *size, const struct chunk *chunk);
void chunk_size_failed(struct chunk_size *size);

#endif
