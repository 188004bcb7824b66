/* chunk.h: a result with rows that are in a flow; it is freed when the last of them has left.
 *
 * Rows are published from libpq's own memory. `in_memory` of the owner counts what is held, so that
 * reading ahead has a limit. */
#ifndef SAGAPOST_RELAY_CHUNK_H
#define SAGAPOST_RELAY_CHUNK_H

#include "outbox/relay/rows/flow.h"
#include "outbox/relay/rows/row.h"

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

#endif
