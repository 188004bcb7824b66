/* arena.h: memory for one batch, given back all at once.
 *
 * Blocks are kept by arena_reset, so that a steady batch size allocates nothing. Past bytes_max
 * allocation fails (NULL). Zeroed memory, aligned for any type. Not thread-safe. */
#ifndef SAGAPOST_RUNTIME_ARENA_H
#define SAGAPOST_RUNTIME_ARENA_H

#include "outbox/runtime/error.h"
#include <stddef.h>

struct arena;

int arena_create(struct arena **ret_arena, size_t block_bytes, size_t bytes_max,
                 struct error *error) MUST_CHECK;
void arena_destroy(struct arena *arena);
void arena_reset(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t bytes);
char *arena_strndup(struct arena *arena, const char *text, size_t bytes); /* NUL added */
char *arena_format(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);
size_t arena_used_bytes(const struct arena *arena);

#endif
