#include "outbox/relay/chunk.h"

#include <assert.h>
#include <stdlib.h>

/* What libpq keeps of a row beside its bytes: 16 bytes for each column and the small values. */
#define ROW_OVERHEAD_BYTES 400

int64_t chunk_row_bytes(const struct chunk *chunk)
{
    int64_t bytes = 0;

    for (int row = 0; row < pg_result_rows(chunk->rows); row++)
        bytes += pg_int(chunk->rows, row, ROW_BYTES);
    return bytes;
}

struct chunk *chunk_create(struct pg_result *borrowed, size_t *in_memory)
{
    struct chunk *chunk = calloc(1, sizeof(*chunk));

    if (!chunk)
        return NULL;
    chunk->rows = pg_result_keep(borrowed);
    chunk->references = 1;
    chunk->bytes =
        (size_t)chunk_row_bytes(chunk) + (size_t)pg_result_rows(chunk->rows) * ROW_OVERHEAD_BYTES;
    chunk->in_memory = in_memory;
    *in_memory += chunk->bytes;
    return chunk;
}

struct chunk *chunk_hold(struct chunk *chunk)
{
    chunk->references++;
    return chunk;
}

void chunk_release(struct chunk *chunk)
{
    if (!chunk)
        return;
    assert(chunk->references > 0);
    if (--chunk->references > 0)
        return;
    *chunk->in_memory -= chunk->bytes;
    pg_result_free(chunk->rows);
    free(chunk);
}

void chunk_release_row(void *data, struct flow_item *item)
{
    (void)data;
    chunk_release(item->chunk);
}
