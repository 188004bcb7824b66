#include "outbox/relay/rows/chunk.h"

#include <assert.h>
#include <stdlib.h>

/* What libpq keeps of a row beside its bytes: 16 bytes for each column and the small values. */
#define ROW_OVERHEAD_BYTES 400

#define ROWS_AT_FIRST 16

static int64_t sum_of_bytes(const struct pg_result *rows)
{
    int64_t bytes = 0;

    for (int row = 0; row < pg_result_rows(rows); row++)
        bytes += pg_int(rows, row, ROW_BYTES);
    return bytes;
}

struct chunk *chunk_create(struct pg_result *borrowed, size_t *in_memory)
{
    struct chunk *chunk = calloc(1, sizeof(*chunk));

    if (!chunk)
        return NULL;
    chunk->rows = pg_result_keep(borrowed);
    chunk->references = 1;
    chunk->row_bytes = sum_of_bytes(chunk->rows);
    chunk->bytes =
        (size_t)chunk->row_bytes + (size_t)pg_result_rows(chunk->rows) * ROW_OVERHEAD_BYTES;
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

int32_t chunk_size_ask(struct chunk_size *size, int32_t rows, int64_t bytes)
{
    if (size->rows_most == 0)
        size->rows_most = ROWS_AT_FIRST;
    size->rows_asked = rows < size->rows_most ? rows : size->rows_most;
    size->bytes_asked = bytes;
    return size->rows_asked;
}

bool chunk_size_learn(struct chunk_size *size, const struct chunk *chunk)
{
    int32_t rows = chunk ? pg_result_rows(chunk->rows) : 0;
    bool cut_by_bytes = chunk && chunk->row_bytes >= size->bytes_asked;

    if (cut_by_bytes)
        size->rows_most = rows + rows / 4 + 1;
    else if (rows == size->rows_asked && size->rows_most / 2 < rows)
        size->rows_most = rows * 2;
    return cut_by_bytes || rows == size->rows_asked;
}

void chunk_size_failed(struct chunk_size *size)
{
    size->rows_most = size->rows_asked > 1 ? size->rows_asked / 2 : 1;
}
