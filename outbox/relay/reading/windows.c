#include "outbox/relay/reading/windows.h"

#include <assert.h>
#include <stdlib.h>

struct window {
    struct snapshot *t2;
    int64_t flush_lsn;
    uint64_t first, end; /* row numbers */
    int64_t last_id;     /* of the last row read */
    bool closed;
};

struct windows {
    struct snapshot *t1;    /* of the first window, or of the next */
    struct window *entries; /* a ring of WINDOWS_MAX */
    int start, count;
    uint64_t advanced, rows;
    int64_t flushed_lsn;
};

int windows_create(struct windows **ret_windows, struct error *error)
{
    struct windows *windows = calloc(1, sizeof(*windows));

    if (windows)
        windows->entries = calloc(WINDOWS_MAX, sizeof(*windows->entries));
    if (windows && !windows->entries) {
        free(windows);
        windows = NULL;
    }
    if (!windows)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "windows");
    *ret_windows = windows;
    return 0;
}

static struct window *entry(const struct windows *windows, int index)
{
    assert(index >= 0 && index < windows->count);
    return &windows->entries[(windows->start + index) % WINDOWS_MAX];
}

static struct window *open_window(const struct windows *windows)
{
    struct window *last = windows->count ? entry(windows, windows->count - 1) : NULL;

    return last && !last->closed ? last : NULL;
}

static void forget(struct windows *windows)
{
    for (int i = 0; i < windows->count; i++)
        snapshot_release(entry(windows, i)->t2);
    snapshot_release(windows->t1);
    *windows = (struct windows){.entries = windows->entries};
}

void windows_destroy(struct windows *windows)
{
    if (!windows)
        return;
    forget(windows);
    free(windows->entries);
    free(windows);
}

static struct window *push(struct windows *windows, struct snapshot *t2, int64_t flush_lsn)
{
    struct window *window;

    assert(windows->count < WINDOWS_MAX && !open_window(windows));
    windows->count++;
    window = entry(windows, windows->count - 1);
    *window = (struct window){
        .t2 = t2,
        .flush_lsn = flush_lsn,
        .first = windows->rows,
        .end = windows->rows,
    };
    return window;
}

void windows_start(struct windows *windows, const struct position *position)
{
    struct snapshot *t1 = snapshot_hold(position->t1);
    struct snapshot *t2 = position->t2 ? snapshot_hold(position->t2) : NULL;

    forget(windows);
    windows->t1 = t1;
    if (t2)
        push(windows, t2, 0)->last_id = position->last_id;
}

int windows_count(const struct windows *windows)
{
    return windows->count;
}

const struct snapshot *windows_t2(const struct windows *windows)
{
    const struct window *window = open_window(windows);

    return window ? window->t2 : NULL;
}

/* What the window at `index` begins at. */
static struct snapshot *begin_of(const struct windows *windows, int index)
{
    return index == 0 ? windows->t1 : entry(windows, index - 1)->t2;
}

struct snapshot *windows_t1(const struct windows *windows)
{
    return begin_of(windows, open_window(windows) ? windows->count - 1 : windows->count);
}

void windows_drop_bounds(struct windows *windows)
{
    windows->t1->bound = 0;
    for (int i = 0; i < windows->count; i++)
        entry(windows, i)->t2->bound = 0;
}

int64_t windows_last_read_id(const struct windows *windows)
{
    const struct window *window = open_window(windows);

    assert(window);
    return window->last_id;
}

void windows_open(struct windows *windows, struct snapshot *t2, int64_t flush_lsn)
{
    assert(windows->t1);
    push(windows, t2, flush_lsn);
}

void windows_row(struct windows *windows, int64_t id)
{
    struct window *window = open_window(windows);

    assert(window && id > window->last_id);
    window->last_id = id;
    window->end = ++windows->rows;
}

/* Takes out the window at `index`, which is empty: what is before it now reaches up to its end. */
static void fold(struct windows *windows, int index)
{
    struct window *window = entry(windows, index);
    struct snapshot **before = index == 0 ? &windows->t1 : &entry(windows, index - 1)->t2;

    assert(window->closed && window->first == window->end);
    snapshot_release(*before);
    *before = window->t2;
    for (int i = index; i + 1 < windows->count; i++)
        *entry(windows, i) = *entry(windows, i + 1);
    windows->count--;
}

/* Folds every empty window that can be folded. Two empty ones in a row become one, which then waits
 * for the later place in the log; an empty one never makes rows before it wait. */
static void fold_empty(struct windows *windows)
{
    for (int i = windows->count - 1; i >= 0; i--) {
        const struct window *window = entry(windows, i);
        const struct window *before = i > 0 ? entry(windows, i - 1) : NULL;

        if (!window->closed || window->first != window->end)
            continue;
        if (window->flush_lsn <= windows->flushed_lsn) {
            fold(windows, i);
        } else if (before && before->first == before->end) {
            entry(windows, i - 1)->flush_lsn = window->flush_lsn;
            fold(windows, i);
        }
    }
}

void windows_close(struct windows *windows)
{
    struct window *window = open_window(windows);

    assert(window);
    window->closed = true;
    if (window->first == window->end)
        fold_empty(windows);
}

void windows_flushed(struct windows *windows, int64_t lsn)
{
    if (lsn <= windows->flushed_lsn)
        return;
    windows->flushed_lsn = lsn;
    fold_empty(windows);
}

uint64_t windows_permitted(const struct windows *windows)
{
    /* Each was taken where the log was written at least as far as for the one before: the last that
     * is on disk is mostly the last of all. */
    for (int i = windows->count - 1; i >= 0; i--)
        if (entry(windows, i)->flush_lsn <= windows->flushed_lsn)
            return entry(windows, i)->end;
    return windows->advanced;
}

bool windows_wait_for_flush(const struct windows *windows)
{
    return windows_permitted(windows) < windows->rows;
}

void windows_position(const struct windows *windows, uint64_t number, int64_t last_id,
                      struct position *ret_position)
{
    *ret_position = (struct position){.t1 = windows->t1};
    assert(number >= windows->advanced && number <= windows_permitted(windows));
    for (int i = 0; i < windows->count; i++) {
        const struct window *window = entry(windows, i);

        if (window->first >= number)
            break;
        if (number >= window->end && window->closed) {
            *ret_position = (struct position){.t1 = window->t2};
        } else {
            *ret_position =
                (struct position){.t1 = begin_of(windows, i), .t2 = window->t2, .last_id = last_id};
            break;
        }
    }
}

void windows_advance(struct windows *windows, uint64_t number)
{
    assert(number >= windows->advanced && number <= windows->rows);
    windows->advanced = number;
    while (windows->count > 0) {
        struct window *window = entry(windows, 0);

        if (!window->closed || window->end > number || window->flush_lsn > windows->flushed_lsn)
            break;
        snapshot_release(windows->t1);
        windows->t1 = window->t2;
        windows->start = (windows->start + 1) % WINDOWS_MAX;
        windows->count--;
    }
}
