#include "outbox/runtime/arena.h"

#include <assert.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Under AddressSanitizer memory given back by arena_reset is poisoned, so that a pointer kept from
 * the last batch is caught as if it had been freed. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ARENA_POISON 1
#endif
#ifdef ARENA_POISON
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size)   ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

struct block {
    struct block *next;
    size_t capacity;
    size_t used;
    alignas(max_align_t) uint8_t bytes[];
};

struct arena {
    struct block *first;
    struct block *current; /* NULL after a reset; blocks after it are empty and wait */
    size_t block_bytes;
    size_t bytes_max;
    size_t held_bytes; /* capacity of all blocks */
    size_t used_bytes; /* given out since the last reset */
};

int arena_create(struct arena **ret_arena, size_t block_bytes, size_t bytes_max,
                 struct error *error)
{
    struct arena *arena;

    assert(block_bytes > 0 && bytes_max >= block_bytes && bytes_max <= SIZE_MAX / 2);
    arena = calloc(1, sizeof(*arena));
    if (!arena)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for an arena");
    arena->block_bytes = block_bytes;
    arena->bytes_max = bytes_max;
    *ret_arena = arena;
    return 0;
}

static void free_blocks(struct arena *arena, struct block *block)
{
    while (block) {
        struct block *next = block->next;
        arena->held_bytes -= block->capacity;
        free(block);
        block = next;
    }
}

void arena_destroy(struct arena *arena)
{
    if (!arena)
        return;
    free_blocks(arena, arena->first);
    assert(arena->held_bytes == 0);
    free(arena);
}

void arena_reset(struct arena *arena)
{
    struct block *block;

    for (block = arena->first; block; block = block->next) {
        block->used = 0;
        ASAN_POISON_MEMORY_REGION(block->bytes, block->capacity);
    }
    arena->current = NULL;
    arena->used_bytes = 0;
}

/* An empty block with room for `bytes`, put in as the current one. Those kept from before are
 * preferred; where they are too small and the limit is near they are given up for a larger one. */
static struct block *take_block(struct arena *arena, size_t bytes)
{
    struct block **link = arena->current ? &arena->current->next : &arena->first;
    struct block **candidate;
    struct block *block;
    size_t capacity = bytes > arena->block_bytes ? bytes : arena->block_bytes;

    for (candidate = link; *candidate && (*candidate)->capacity < bytes;)
        candidate = &(*candidate)->next;
    block = *candidate;
    if (block) {
        *candidate = block->next;
    } else {
        if (capacity > arena->bytes_max - arena->held_bytes) {
            free_blocks(arena, *link);
            *link = NULL;
        }
        if (capacity > arena->bytes_max - arena->held_bytes)
            capacity = bytes;
        if (capacity > arena->bytes_max - arena->held_bytes)
            return NULL;
        block = malloc(sizeof(*block) + capacity);
        if (!block)
            return NULL;
        block->capacity = capacity;
        block->used = 0;
        arena->held_bytes += capacity;
        ASAN_POISON_MEMORY_REGION(block->bytes, block->capacity);
    }
    block->next = *link;
    *link = block;
    arena->current = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    const size_t alignment = alignof(max_align_t);
    struct block *block = arena->current;
    size_t rounded;
    void *memory;

    if (bytes > arena->bytes_max)
        return NULL;
    rounded = (bytes + alignment - 1) / alignment * alignment;
    if (!rounded)
        rounded = alignment;
    if (!block || rounded > block->capacity - block->used) {
        block = take_block(arena, rounded);
        if (!block)
            return NULL;
    }
    memory = block->bytes + block->used;
    block->used += rounded;
    arena->used_bytes += rounded;
    ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
    memset(memory, 0, bytes);
    return memory;
}

char *arena_strndup(struct arena *arena, const char *text, size_t bytes)
{
    char *copy = bytes < SIZE_MAX ? arena_alloc(arena, bytes + 1) : NULL;

    if (copy && bytes)
        memcpy(copy, text, bytes);
    return copy;
}

char *arena_format(struct arena *arena, const char *format, ...)
{
    va_list arguments, again;
    char *text = NULL;
    int bytes;

    va_start(arguments, format);
    va_copy(again, arguments);
    bytes = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (bytes >= 0)
        text = arena_alloc(arena, (size_t)bytes + 1);
    if (text)
        vsnprintf(text, (size_t)bytes + 1, format, again);
    va_end(again);
    return text;
}

size_t arena_used_bytes(const struct arena *arena)
{
    return arena->used_bytes;
}
