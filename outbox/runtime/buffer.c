#include "outbox/runtime/buffer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 256

void buffer_init(struct buffer *buffer, size_t bytes_max)
{
    *buffer = (struct buffer){.bytes_max = bytes_max};
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->bytes);
    buffer_init(buffer, buffer->bytes_max);
}

void buffer_clear(struct buffer *buffer)
{
    buffer->start = buffer->end = 0;
    buffer->failed = buffer->no_memory = false;
}

size_t buffer_length(const struct buffer *buffer)
{
    assert(buffer->start <= buffer->end && buffer->end <= buffer->capacity);
    return buffer->end - buffer->start;
}

const uint8_t *buffer_data(const struct buffer *buffer)
{
    return buffer->bytes ? buffer->bytes + buffer->start : (const uint8_t *)"";
}

/* Moves what is there to the front, where that makes enough room and costs no more than what was
 * taken since the last time (so that moving stays linear over all). */
static bool compact(struct buffer *buffer, size_t need)
{
    size_t length = buffer_length(buffer);

    /* Nothing to make room in: even for no bytes there has to be a place to point to. */
    if (!buffer->bytes || need > buffer->capacity || buffer->start < length)
        return false;
    memmove(buffer->bytes, buffer->bytes + buffer->start, length);
    buffer->start = 0;
    buffer->end = length;
    return true;
}

static bool grow(struct buffer *buffer, size_t need)
{
    size_t limit = buffer->bytes_max ? buffer->bytes_max : SIZE_MAX / 2;
    size_t capacity = buffer->capacity < FIRST_CAPACITY / 2 ? FIRST_CAPACITY : buffer->capacity * 2;
    size_t length = buffer_length(buffer);
    uint8_t *bytes;

    if (capacity < need)
        capacity = need;
    if (capacity > limit)
        capacity = limit;
    /* One byte more than the capacity, for the NUL of buffer_text. */
    bytes = malloc(capacity + 1);
    if (!bytes)
        return false;
    if (length)
        memcpy(bytes, buffer_data(buffer), length);
    free(buffer->bytes);
    buffer->bytes = bytes;
    buffer->start = 0;
    buffer->end = length;
    buffer->capacity = capacity;
    return true;
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t bytes)
{
    size_t limit = buffer->bytes_max ? buffer->bytes_max : SIZE_MAX / 2;
    size_t length = buffer_length(buffer);

    if (buffer->failed)
        return NULL;
    if (bytes > limit || length > limit - bytes) {
        buffer->failed = true;
        return NULL;
    }
    if (!buffer->bytes || bytes > buffer->capacity - buffer->end) {
        if (!compact(buffer, length + bytes) && !grow(buffer, length + bytes)) {
            buffer->failed = buffer->no_memory = true;
            return NULL;
        }
    }
    return buffer->bytes + buffer->end;
}

void buffer_filled(struct buffer *buffer, size_t bytes)
{
    assert(bytes <= buffer->capacity - buffer->end);
    buffer->end += bytes;
}

void buffer_take(struct buffer *buffer, size_t bytes)
{
    assert(bytes <= buffer_length(buffer));
    buffer->start += bytes;
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t count)
{
    uint8_t *room = buffer_reserve(buffer, count);

    if (!room || !count)
        return;
    memcpy(room, bytes, count);
    buffer->end += count;
}

void buffer_append_text(struct buffer *buffer, const char *text)
{
    buffer_append(buffer, text, strlen(text));
}

void buffer_append_format(struct buffer *buffer, const char *format, ...)
{
    va_list arguments, again;
    size_t have;
    uint8_t *room;
    int bytes;

    if (buffer->failed)
        return;
    have = buffer->bytes ? buffer->capacity - buffer->end + 1 : 0;
    va_start(arguments, format);
    va_copy(again, arguments);
    bytes = vsnprintf(have ? (char *)buffer->bytes + buffer->end : NULL, have, format, arguments);
    va_end(arguments);
    if (bytes < 0) {
        buffer->failed = true;
    } else {
        /* The limit is asked even where the text happens to be in the buffer already. */
        room = buffer_reserve(buffer, (size_t)bytes);
        if (room && (size_t)bytes >= have)
            vsnprintf((char *)room, (size_t)bytes + 1, format, again);
        if (room)
            buffer->end += (size_t)bytes;
    }
    va_end(again);
}

const char *buffer_text(struct buffer *buffer)
{
    if (!buffer->bytes)
        return "";
    buffer->bytes[buffer->end] = 0;
    return (const char *)buffer->bytes + buffer->start;
}
