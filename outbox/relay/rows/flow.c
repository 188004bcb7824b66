#include "outbox/relay/rows/flow.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct flow {
    struct flow_item *items;
    uint64_t mask;
    uint32_t rows_max, window;
    /* Numbers of rows; the place of a row is its number modulo the ring. popped <= settled <=
     * cursor <= permitted <= pushed. */
    uint64_t popped, settled, cursor, permitted, pushed;
    uint64_t end; /* rows from here on are not sent; UINT64_MAX: all are */
    uint32_t unpersisted;
    uint64_t overtaken;
    uint64_t *ready; /* a bit for each place that is FLOW_READY */
    uint32_t ready_count;
    struct keys *keys; /* with rows released or queued */
    struct keys *held;
};

int flow_create(struct flow **ret_flow, uint32_t rows_max, struct keys *held, struct error *error)
{
    struct flow *flow = calloc(1, sizeof(*flow));
    uint64_t size = 64; /* whole words of bits */

    assert(rows_max > 0 && held);
    while (size < rows_max)
        size *= 2;
    if (flow) {
        flow->items = calloc(size, sizeof(*flow->items));
        flow->ready = calloc(size / 64, sizeof(*flow->ready));
    }
    if (!flow || !flow->items || !flow->ready) {
        flow_destroy(flow);
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a flow of %u rows", rows_max);
    }
    flow->mask = size - 1;
    flow->rows_max = flow->window = rows_max;
    flow->held = held;
    flow->end = UINT64_MAX;
    if (keys_create(&flow->keys, rows_max, error) < 0) {
        flow_destroy(flow);
        return ERROR_NO_MEMORY;
    }
    *ret_flow = flow;
    return 0;
}

void flow_destroy(struct flow *flow)
{
    if (!flow)
        return;
    assert(!flow->items || flow_rows(flow) == 0);
    keys_destroy(flow->keys);
    free(flow->ready);
    free(flow->items);
    free(flow);
}

static void let_go(struct flow_item *item, flow_release *release, void *data)
{
    if (release)
        release(data, item);
    free(item->detail);
    item->detail = NULL;
}

void flow_clear(struct flow *flow, flow_release *release, void *data)
{
    for (uint64_t number = flow->popped; number < flow->pushed; number++)
        let_go(&flow->items[number & flow->mask], release, data);
    flow->popped = flow->settled = flow->cursor = flow->permitted = flow->pushed = 0;
    flow->end = UINT64_MAX;
    flow->unpersisted = 0;
    memset(flow->ready, 0, (flow->mask / 64 + 1) * sizeof(*flow->ready));
    flow->ready_count = 0;
    keys_clear(flow->keys);
}

void flow_set_window(struct flow *flow, uint32_t window)
{
    assert(window > 0);
    flow->window = window;
}

uint32_t flow_rows(const struct flow *flow)
{
    return (uint32_t)(flow->pushed - flow->popped);
}

uint32_t flow_room(const struct flow *flow)
{
    return flow->rows_max - flow_rows(flow);
}

uint32_t flow_unpersisted(const struct flow *flow)
{
    return flow->unpersisted;
}

uint64_t flow_pushed(const struct flow *flow)
{
    return flow->pushed;
}

uint64_t flow_popped(const struct flow *flow)
{
    return flow->popped;
}

uint32_t flow_place(const struct flow *flow, uint64_t number)
{
    assert(number >= flow->popped && number < flow->pushed);
    return (uint32_t)(number & flow->mask);
}

struct flow_item *flow_item(const struct flow *flow, uint32_t place)
{
    assert(place <= flow->mask);
    return &flow->items[place];
}

void flow_push(struct flow *flow, const struct flow_item *item)
{
    struct flow_item *place = &flow->items[flow->pushed & flow->mask];

    assert(flow_room(flow) > 0);
    *place = *item;
    place->state = FLOW_READ;
    place->sent = place->refused = false;
    place->after = FLOW_NONE;
    place->detail = NULL;
    flow->pushed++;
}

void flow_permit(struct flow *flow, uint64_t number)
{
    assert(number >= flow->permitted && number <= flow->pushed);
    flow->permitted = number;
}

/* Rows that are ready -------------------------------------------------------------------------- */

static void set_ready(struct flow *flow, uint32_t place)
{
    flow->items[place].state = FLOW_READY;
    flow->ready[place / 64] |= UINT64_C(1) << place % 64;
    flow->ready_count++;
}

static void unset_ready(struct flow *flow, uint32_t place)
{
    assert(flow->items[place].state == FLOW_READY && flow->ready_count > 0);
    flow->ready[place / 64] &= ~(UINT64_C(1) << place % 64);
    flow->ready_count--;
}

/* The oldest of them: looks from the oldest unsettled row on, around the ring. */
static uint32_t oldest_ready(const struct flow *flow)
{
    uint32_t start = (uint32_t)(flow->settled & flow->mask);
    uint32_t words = (uint32_t)(flow->mask / 64) + 1, word = start / 64;
    uint64_t bits = flow->ready[word] & (UINT64_MAX << start % 64);

    if (flow->ready_count == 0)
        return FLOW_NONE;
    while (!bits) {
        word = (word + 1) % words; /* back in the first word its lower bits count too */
        bits = flow->ready[word];
    }
    return word * 64 + (uint32_t)__builtin_ctzll(bits);
}

/* Keys ----------------------------------------------------------------------------------------- */

static bool is_held(const struct flow *flow, const struct flow_item *item)
{
    return item->key && keys_count(flow->held) > 0 && keys_find(flow->held, item->key);
}

static void hold(struct flow *flow, uint64_t hash)
{
    struct key_state *held = keys_get(flow->held, hash);

    assert(held); /* its owner made it large enough for all rows that can be set aside */
    held->held++;
}

static void release(struct key_state *key, const struct flow_item *item)
{
    key->released++;
    if (!item->pipelined)
        key->released_strict++;
}

/* Whether nothing of the key stands in the way of this row of it. */
static bool may_release(const struct key_state *key, const struct flow_item *item)
{
    return item->pipelined ? key->released_strict == 0 : key->released == 0;
}

static void queue_append(struct flow *flow, uint32_t place)
{
    struct flow_item *item = &flow->items[place];
    struct key_state *key = keys_find(flow->keys, item->key);

    assert(key && key->released > 0);
    item->state = FLOW_QUEUED;
    item->after = FLOW_NONE;
    if (key->queued)
        flow->items[key->queue_last].after = place;
    else
        key->queue_first = place;
    key->queue_last = place;
    key->queued++;
}

static uint32_t queue_take(struct flow *flow, struct key_state *key)
{
    uint32_t place = key->queue_first;

    assert(key->queued > 0);
    key->queue_first = flow->items[place].after;
    key->queued--;
    flow->items[place].after = FLOW_NONE;
    return place;
}

static void settle(struct flow *flow, struct flow_item *item, enum flow_state state)
{
    item->state = (uint8_t)state;
    while (flow->settled < flow->cursor &&
           flow->items[flow->settled & flow->mask].state >= FLOW_DONE)
        flow->settled++;
}

static void settle_behind(struct flow *flow, struct flow_item *item)
{
    item->aside = FLOW_BEHIND;
    hold(flow, item->key);
    settle(flow, item, FLOW_ASIDE);
}

/* After a row of the key was settled: its queue goes on, or is set aside with a key that is held
 * now. */
static void key_go_on(struct flow *flow, struct key_state *key)
{
    uint64_t hash = key->hash;
    bool held = keys_count(flow->held) > 0 && keys_find(flow->held, hash);

    while (key->queued && held)
        settle_behind(flow, &flow->items[queue_take(flow, key)]);
    while (key->queued && may_release(key, &flow->items[key->queue_first])) {
        uint32_t place = queue_take(flow, key);

        release(key, &flow->items[place]);
        set_ready(flow, place);
    }
    if (key->released == 0) {
        assert(key->queued == 0);
        keys_drop(flow->keys, hash);
    }
}

/* The row is no longer in the way of its key. */
static void key_settled(struct flow *flow, const struct flow_item *item)
{
    struct key_state *key;

    if (!item->key)
        return;
    key = keys_find(flow->keys, item->key);
    assert(key && key->released > 0);
    key->released--;
    if (!item->pipelined) {
        assert(key->released_strict > 0);
        key->released_strict--;
    }
    key_go_on(flow, key);
}

/* Sending -------------------------------------------------------------------------------------- */

/* Rows sent and not popped, at most, for a row that is to be sent for the first time. */
static uint32_t share_of_window(const struct flow *flow, bool waited)
{
    uint32_t kept = flow->window >= 4 && !waited ? flow->window / 4 : 1;

    return flow->window - kept;
}

/* The first ready row that is still to be sent; those whose key came to be held meanwhile are set
 * aside. */
static uint32_t first_ready(struct flow *flow)
{
    uint32_t place;

    while ((place = oldest_ready(flow)) != FLOW_NONE) {
        struct flow_item *item = &flow->items[place];

        if (!is_held(flow, item))
            return place;
        unset_ready(flow, place);
        settle_behind(flow, item);
        key_settled(flow, item);
    }
    return FLOW_NONE;
}

/* The row at the cursor, after those that have to wait for their key. */
static uint32_t first_read(struct flow *flow)
{
    while (flow->cursor < flow->permitted) {
        uint32_t place = (uint32_t)(flow->cursor & flow->mask);
        struct flow_item *item = &flow->items[place];
        struct key_state *key = item->key ? keys_find(flow->keys, item->key) : NULL;

        assert(item->state == FLOW_READ);
        if (is_held(flow, item)) {
            flow->cursor++;
            settle_behind(flow, item);
        } else if (key && (key->queued || !may_release(key, item))) {
            flow->cursor++;
            queue_append(flow, place);
        } else {
            return place;
        }
    }
    return FLOW_NONE;
}

/* The oldest unsettled row may take the last place of the window: once it is settled, the position
 * moves and gives places back. */
static bool may_send(const struct flow *flow, uint32_t place, bool waited)
{
    bool head = place == (flow->settled & flow->mask);

    return flow->items[place].sent ||
           flow->unpersisted < (head ? flow->window : share_of_window(flow, waited));
}

static uint64_t number_of(const struct flow *flow, uint32_t place)
{
    return flow->popped + ((place - flow->popped) & flow->mask);
}

uint32_t flow_next(struct flow *flow)
{
    uint32_t place = first_ready(flow);

    if (place != FLOW_NONE)
        return number_of(flow, place) < flow->end && may_send(flow, place, true) ? place
                                                                                 : FLOW_NONE;
    if (flow->unpersisted >= flow->window || flow->end != UINT64_MAX)
        return FLOW_NONE;
    place = first_read(flow);
    return place != FLOW_NONE && may_send(flow, place, false) ? place : FLOW_NONE;
}

void flow_sent(struct flow *flow, uint32_t place)
{
    struct flow_item *item = &flow->items[place];

    if (item->state == FLOW_READY) {
        unset_ready(flow, place);
    } else {
        assert(item->state == FLOW_READ && place == (flow->cursor & flow->mask));
        flow->cursor++;
        if (item->key) {
            struct key_state *key = keys_get(flow->keys, item->key);

            assert(key); /* as many keys as rows */
            release(key, item);
        }
    }
    if (!item->sent) {
        item->sent = true;
        flow->unpersisted++;
    }
    item->state = FLOW_IN_FLIGHT;
}

/* A row's number, cut: two rows of a key are never so far apart that their order is lost. */
static uint32_t short_number(const struct flow *flow, uint32_t place)
{
    return (uint32_t)number_of(flow, place);
}

static bool is_after(uint32_t number, uint32_t other)
{
    return (int32_t)(number - other) > 0;
}

/* Rows of the key after `number` that were refused and that nobody has overtaken. */
static uint32_t refused_after(const struct flow *flow, const struct key_state *key, uint32_t number)
{
    uint32_t found = 0;

    for (uint32_t n = number + 1; !is_after(n, key->refused_last); n++) {
        const struct flow_item *item = &flow->items[n & flow->mask];

        found += item->refused && item->key == key->hash;
    }
    return found;
}

/* A pipelined row was confirmed: earlier ones of its key that were refused come after it. The
 * broker may have told of later refusals before. */
static void count_passed(struct flow *flow, uint32_t place)
{
    uint32_t number = short_number(flow, place);
    struct key_state *key = keys_find(flow->keys, flow->items[place].key);

    if (key->done_last && !is_after(number + 1, key->done_last))
        return; /* what this one overtook, a later one overtook before */
    key->done_last = number + 1;
    if (key->refused) {
        uint32_t left = refused_after(flow, key, number);

        flow->overtaken += key->refused - left;
        key->refused = left;
    }
}

/* One was refused: later ones may have been confirmed already, or may still be. */
static void count_refused(struct flow *flow, uint32_t place)
{
    uint32_t number = short_number(flow, place);
    struct key_state *key = keys_find(flow->keys, flow->items[place].key);

    if (key->done_last && is_after(key->done_last - 1, number)) {
        flow->overtaken++;
        return;
    }
    if (key->refused == 0 || is_after(number, key->refused_last))
        key->refused_last = number;
    key->refused++;
    flow->items[place].refused = true;
}

uint64_t flow_overtaken(const struct flow *flow)
{
    return flow->overtaken;
}

void flow_done(struct flow *flow, uint32_t place)
{
    struct flow_item *item = &flow->items[place];

    assert(item->state == FLOW_IN_FLIGHT);
    if (item->pipelined && item->key)
        count_passed(flow, place);
    settle(flow, item, FLOW_DONE);
    key_settled(flow, item);
}

void flow_set_aside(struct flow *flow, uint32_t place, enum flow_aside aside)
{
    struct flow_item *item = &flow->items[place];
    bool released = true;

    assert(aside != FLOW_BEHIND);
    if (item->state == FLOW_READY) {
        unset_ready(flow, place);
    } else if (item->state == FLOW_READ) {
        assert(place == (flow->cursor & flow->mask));
        flow->cursor++;
        released = false;
    } else {
        assert(item->state == FLOW_IN_FLIGHT);
        if (item->pipelined && item->key)
            count_refused(flow, place);
    }
    item->aside = (uint8_t)(item->holds && is_held(flow, item) ? FLOW_BEHIND : aside);
    if (item->key && item->holds)
        hold(flow, item->key);
    settle(flow, item, FLOW_ASIDE);
    if (released)
        key_settled(flow, item);
}

void flow_lost(struct flow *flow)
{
    for (uint64_t number = flow->settled; number < flow->cursor; number++) {
        uint32_t place = (uint32_t)(number & flow->mask);

        if (flow->items[place].state == FLOW_IN_FLIGHT)
            set_ready(flow, place);
    }
}

/* Leaving -------------------------------------------------------------------------------------- */

void flow_finish(struct flow *flow, uint32_t most)
{
    uint32_t unsent = 0;

    flow->end = flow->settled;
    for (uint64_t number = flow->settled; number < flow->cursor && unsent <= most; number++) {
        const struct flow_item *item = &flow->items[number & flow->mask];

        if (item->sent)
            flow->end = number + 1;
        else if (item->state < FLOW_DONE)
            unsent++;
    }
}

bool flow_is_finished(const struct flow *flow)
{
    return flow->popped >= flow->end;
}

uint32_t flow_settled(const struct flow *flow)
{
    return (uint32_t)(flow->settled - flow->popped);
}

void flow_pop(struct flow *flow, uint32_t count, flow_release *release_row, void *data)
{
    assert(count <= flow_settled(flow));
    for (uint32_t i = 0; i < count; i++) {
        struct flow_item *item = &flow->items[flow->popped & flow->mask];

        if (item->sent) {
            assert(flow->unpersisted > 0);
            flow->unpersisted--;
        }
        let_go(item, release_row, data);
        flow->popped++;
    }
}
