#include "outbox/relay/publishing/confirm.h"

#include <assert.h>
#include <stdlib.h>

struct confirm {
    struct confirm_entry *entries;
    uint64_t mask;
    uint64_t low;  /* the oldest open tag, or next */
    uint64_t next; /* the tag that is given out next */
    uint32_t open;
};

static struct confirm_entry *entry_of(const struct confirm *confirm, uint64_t tag)
{
    return &confirm->entries[tag & confirm->mask];
}

int confirm_create(struct confirm **ret_confirm, uint32_t capacity, struct error *error)
{
    struct confirm *confirm = calloc(1, sizeof(*confirm));
    uint64_t size = 1;

    while (size < capacity)
        size *= 2;
    if (confirm)
        confirm->entries = calloc(size, sizeof(*confirm->entries));
    if (!confirm || !confirm->entries) {
        free(confirm);
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a window of %u confirms", capacity);
    }
    confirm->mask = size - 1;
    confirm->low = confirm->next = 1;
    *ret_confirm = confirm;
    return 0;
}

void confirm_destroy(struct confirm *confirm)
{
    if (!confirm)
        return;
    free(confirm->entries);
    free(confirm);
}

bool confirm_has_room(const struct confirm *confirm)
{
    return confirm->next - confirm->low <= confirm->mask;
}

uint32_t confirm_open(const struct confirm *confirm)
{
    return confirm->open;
}

int64_t confirm_oldest_us(const struct confirm *confirm)
{
    return confirm->open ? entry_of(confirm, confirm->low)->sent_us : 0;
}

void confirm_add(struct confirm *confirm, uint64_t tag, uint32_t item, uint64_t fingerprint,
                 int64_t sent_us)
{
    assert(tag == confirm->next && confirm_has_room(confirm));
    *entry_of(confirm, tag) = (struct confirm_entry){
        .fingerprint = fingerprint,
        .sent_us = sent_us,
        .item = item,
        .outcome = CONFIRM_OPEN,
    };
    confirm->next++;
    confirm->open++;
}

/* The entry is copied and the ring is in order before `settled` is called: it may publish. */
static void settle_one(struct confirm *confirm, uint64_t tag, enum confirm_outcome outcome,
                       confirm_settled *settled, void *data)
{
    struct confirm_entry *entry = entry_of(confirm, tag);
    struct confirm_entry copy;

    assert(entry->outcome == CONFIRM_OPEN && confirm->open > 0);
    entry->outcome = outcome == CONFIRM_ACKED && entry->return_code ? CONFIRM_RETURNED : outcome;
    copy = *entry;
    confirm->open--;
    while (confirm->low < confirm->next && entry_of(confirm, confirm->low)->outcome != CONFIRM_OPEN)
        confirm->low++;
    settled(data, &copy);
}

bool confirm_settle(struct confirm *confirm, uint64_t tag, bool multiple, bool acked,
                    confirm_settled *settled, void *data)
{
    enum confirm_outcome outcome = acked ? CONFIRM_ACKED : CONFIRM_NACKED;
    uint64_t first = multiple ? confirm->low : tag;

    if (multiple && tag == 0)
        tag = confirm->next - 1;
    if (tag >= confirm->next || (!multiple && tag < confirm->low))
        return false;
    if (!multiple && entry_of(confirm, tag)->outcome != CONFIRM_OPEN)
        return false;
    for (uint64_t each = first; each <= tag; each++)
        if (each >= confirm->low && entry_of(confirm, each)->outcome == CONFIRM_OPEN)
            settle_one(confirm, each, outcome, settled, data);
    return true;
}

bool confirm_return(struct confirm *confirm, uint64_t fingerprint, int code)
{
    for (uint64_t tag = confirm->low; tag < confirm->next; tag++) {
        struct confirm_entry *entry = entry_of(confirm, tag);

        if (entry->outcome != CONFIRM_OPEN || entry->return_code ||
            entry->fingerprint != fingerprint)
            continue;
        entry->return_code = code;
        return true;
    }
    return false;
}

void confirm_lost(struct confirm *confirm, confirm_settled *settled, void *data)
{
    uint64_t next = confirm->next;

    for (uint64_t tag = confirm->low; tag < next; tag++)
        if (entry_of(confirm, tag)->outcome == CONFIRM_OPEN)
            settle_one(confirm, tag, CONFIRM_UNKNOWN, settled, data);
    assert(confirm->open == 0 && confirm->next == next);
    confirm->low = confirm->next = 1;
}

void confirm_each_open(struct confirm *confirm,
                       void (*visit)(void *data, struct confirm_entry *entry), void *data)
{
    for (uint64_t tag = confirm->low; tag < confirm->next; tag++)
        if (entry_of(confirm, tag)->outcome == CONFIRM_OPEN)
            visit(data, entry_of(confirm, tag));
}
