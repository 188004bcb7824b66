/* buffer.h: bytes that grow at the end and are taken from the front, up to a limit.
 *
 * What was taken makes room again: bytes move to the front when that is cheap, and memory doubles
 * otherwise, up to the limit. A failure (the limit, no memory) is remembered in `failed` and makes
 * every later append do nothing, so that a writer checks once at the end and reports ERROR_LIMIT. A
 * pointer into the buffer is good until the next call that appends. */
#ifndef SAGAPOST_RUNTIME_BUFFER_H
#define SAGAPOST_RUNTIME_BUFFER_H

#include "outbox/runtime/error.h"
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *bytes;
    size_t start; /* taken up to here */
    size_t end;   /* filled up to here */
    size_t capacity;
    size_t bytes_max; /* 0: no limit */
    bool failed;
    bool no_memory; /* it failed for want of memory, not by the limit */
};

void buffer_init(struct buffer *buffer, size_t bytes_max);
void buffer_free(struct buffer *buffer);
void buffer_clear(struct buffer *buffer); /* keeps the memory, forgets the failure */
size_t buffer_length(const struct buffer *buffer);
const uint8_t *buffer_data(const struct buffer *buffer);
uint8_t *buffer_reserve(struct buffer *buffer,
                        size_t bytes); /* room at the end, or NULL and failed; then buffer_filled */
void buffer_filled(struct buffer *buffer, size_t bytes);
void buffer_take(struct buffer *buffer, size_t bytes);
void buffer_append(struct buffer *buffer, const void *bytes, size_t count);
void buffer_append_text(struct buffer *buffer, const char *text);
void buffer_append_format(struct buffer *buffer, const char *format, ...) PRINTF_LIKE(2, 3);
const char *buffer_text(struct buffer *buffer); /* NUL-terminated; "" when empty */

#endif
