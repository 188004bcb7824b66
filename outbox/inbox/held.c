#include "outbox/inbox/held.h"

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Tags follow each other without a gap, so a ring of pointers indexed by tag holds them; the ring's
 * low end is the first tag that is not acknowledged. Messages themselves come from a free list, so
 * that one which a batch still holds when its channel is lost does not stand in the way of the new
 * channel's tags. */
struct held {
    struct held_message **ring;
    int capacity;
    uint64_t low;  /* the first tag not acknowledged */
    uint64_t next; /* the next tag to come */
    int waiting;
    size_t body_bytes_max, extra_bytes;
    struct held_message *free_list;
};

static struct held_message **held_at(const struct held *held, uint64_t tag)
{
    return &held->ring[tag % (uint64_t)held->capacity];
}

/* Bodies up to this size keep their memory for the next; a large one gives it back, or a prefetch
 * of large ones would be held for ever. */
#define BODY_KEPT_BYTES ((size_t)32 * 1024)

static void held_release(struct held *held, struct held_message *message)
{
    if (message->body.capacity > BODY_KEPT_BYTES) {
        buffer_free(&message->body);
        buffer_init(&message->body, held->body_bytes_max);
    }
    buffer_clear(&message->body);
    message->next_free = held->free_list;
    held->free_list = message;
}

int held_create(struct held **ret_held, int capacity, size_t body_bytes_max, size_t extra_bytes,
                struct error *error)
{
    assert(capacity > 0);
    struct held *held = calloc(1, sizeof *held);
    if (!held) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_NEVER, "no memory for held deliveries");
    }
    held->body_bytes_max = body_bytes_max;
    held->extra_bytes = extra_bytes;
    held->low = held->next = 1;
    int rc = held_resize(held, capacity, error);
    if (rc < 0) {
        free(held);
        return rc;
    }
    *ret_held = held;
    return 0;
}

void held_destroy(struct held *held)
{
    if (!held) {
        return;
    }
    held_void(held);
    struct held_message *next;
    for (struct held_message *message = held->free_list; message; message = next) {
        next = message->next_free;
        buffer_free(&message->body);
        free(message);
    }
    free((void *)held->ring);
    free(held);
}

int held_resize(struct held *held, int capacity, struct error *error)
{
    assert(held->low == held->next);
    assert(capacity > 0);
    if (capacity == held->capacity) {
        return 0;
    }
    struct held_message **ring =
        (struct held_message **)calloc((size_t)capacity, sizeof(struct held_message *));
    if (!ring) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for %d deliveries",
                         capacity);
    }
    free((void *)held->ring);
    held->ring = ring;
    held->capacity = capacity;
    return 0;
}

static struct held_message *held_allocate(struct held *held)
{
    size_t extra_at = (sizeof(struct held_message) + alignof(max_align_t) - 1) /
                      alignof(max_align_t) * alignof(max_align_t);
    struct held_message *message = calloc(1, extra_at + held->extra_bytes);
    if (message) {
        message->extra = held->extra_bytes > 0 ? (char *)message + extra_at : NULL;
        buffer_init(&message->body, held->body_bytes_max);
    }
    return message;
}

/* From the free list, or new; with room for its body. NULL: no memory. */
static struct held_message *held_find_room(struct held *held, size_t body_bytes)
{
    struct held_message *message = held->free_list;
    bool is_too_large = held->body_bytes_max > 0 && body_bytes > held->body_bytes_max;
    if (message) {
        held->free_list = message->next_free;
    } else {
        message = held_allocate(held);
    }
    if (message && !is_too_large && !buffer_reserve(&message->body, body_bytes)) {
        held_release(held, message);
        return NULL;
    }
    if (message) {
        message->body.failed = is_too_large;
    }
    return message;
}

int held_receive(struct held *held, uint64_t tag, size_t body_bytes,
                 struct held_message **ret_message, struct error *error)
{
    if (tag != held->next) {
        return error_set(error, ERROR_PROTOCOL, RETRY_RECONNECT,
                         "delivery tag %llu where %llu was expected", (unsigned long long)tag,
                         (unsigned long long)held->next);
    }
    if (held->next - held->low >= (uint64_t)held->capacity) {
        return error_set(error, ERROR_LIMIT, RETRY_RECONNECT,
                         "the broker delivered more than the %d messages asked for",
                         held->capacity);
    }
    struct held_message *message = held_find_room(held, body_bytes);
    if (!message) {
        return error_set(error, ERROR_NO_MEMORY, RETRY_RECONNECT, "no memory for a delivery");
    }
    struct buffer body = message->body;
    void *extra = message->extra;
    *message =
        (struct held_message){.tag = tag, .state = HELD_WAITING, .body = body, .extra = extra};
    if (extra) {
        memset(extra, 0, held->extra_bytes);
    }
    *held_at(held, tag) = message;
    held->next++;
    held->waiting++;
    *ret_message = message;
    return 0;
}

int held_take(struct held *held, int64_t now_us, int count_max, held_accept *accept, void *data,
              struct held_message **ret_messages)
{
    int count = 0;
    for (uint64_t tag = held->low; tag < held->next && count < count_max && held->waiting > 0;
         tag++) {
        struct held_message *message = *held_at(held, tag);
        if (message->state != HELD_WAITING || message->not_before_us > now_us ||
            (accept && !accept(data, message))) {
            continue;
        }
        message->state = HELD_TAKEN;
        held->waiting--;
        ret_messages[count++] = message;
    }
    return count;
}

static void held_end(struct held *held, struct held_message *message, enum held_state state)
{
    assert(message->state == HELD_TAKEN || message->state == HELD_WAITING);
    if (message->is_void) {
        held_release(held, message);
        return;
    }
    assert(*held_at(held, message->tag) == message);
    if (message->state == HELD_WAITING) {
        held->waiting--;
    }
    message->state = state;
}

void held_settle(struct held *held, struct held_message *message)
{
    held_end(held, message, HELD_SETTLED);
}

void held_refuse(struct held *held, struct held_message *message)
{
    held_end(held, message, HELD_REFUSED);
}

void held_put_back(struct held *held, struct held_message *message, int64_t not_before_us)
{
    assert(message->state == HELD_TAKEN);
    if (message->is_void) {
        held_release(held, message);
        return;
    }
    message->state = HELD_WAITING;
    message->not_before_us = not_before_us;
    held->waiting++;
}

bool held_ack(struct held *held, uint64_t *ret_tag)
{
    bool any = false;
    while (held->low < held->next) {
        struct held_message *message = *held_at(held, held->low);
        if (message->state == HELD_SETTLED) {
            *ret_tag = message->tag;
            any = true;
        } else if (message->state != HELD_REFUSED) {
            break;
        }
        held_release(held, message);
        *held_at(held, held->low) = NULL;
        held->low++;
    }
    return any;
}

void held_void(struct held *held)
{
    for (uint64_t tag = held->low; tag < held->next; tag++) {
        struct held_message *message = *held_at(held, tag);
        *held_at(held, tag) = NULL;
        message->is_void = true;
        if (message->state != HELD_TAKEN) {
            held_release(held, message);
        }
    }
    held->low = held->next = 1;
    held->waiting = 0;
}

int64_t held_next_us(const struct held *held)
{
    int64_t next_us = INT64_MAX;
    int left = held->waiting;
    for (uint64_t tag = held->low; tag < held->next && left > 0; tag++) {
        const struct held_message *message = *held_at(held, tag);
        if (message->state == HELD_WAITING) {
            left--;
            if (message->not_before_us < next_us) {
                next_us = message->not_before_us;
            }
        }
    }
    return next_us;
}

bool held_has_due(const struct held *held, int64_t now_us)
{
    return held->waiting > 0 && held_next_us(held) <= now_us;
}

int held_waiting(const struct held *held)
{
    return held->waiting;
}

int held_outstanding(const struct held *held)
{
    return (int)(held->next - held->low);
}
