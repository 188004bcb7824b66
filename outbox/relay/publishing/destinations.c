#include "outbox/relay/publishing/destinations.h"
#include "outbox/relay/publishing/envelope.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_SIZE (DESTINATIONS_MAX * 4) /* a power of two; entries are never removed */

struct destinations {
    struct destination *list[DESTINATIONS_MAX];
    uint16_t index[INDEX_SIZE]; /* numbers by hash, probed one after the other; 0: free */
    uint16_t count, keyed;
    uint16_t last; /* the one asked for last: most messages go where the one before went */
    uint64_t body_bytes_max;
};

int destinations_create(struct destinations **ret_destinations, struct error *error)
{
    struct destinations *destinations = calloc(1, sizeof(*destinations));

    if (destinations)
        destinations->list[DESTINATION_OTHER] = calloc(1, sizeof(struct destination));
    if (!destinations || !destinations->list[DESTINATION_OTHER]) {
        free(destinations);
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "destinations");
    }
    destinations->count = 1;
    *ret_destinations = destinations;
    return 0;
}

void destinations_destroy(struct destinations *destinations)
{
    if (!destinations)
        return;
    for (int i = 0; i < destinations->count; i++)
        free(destinations->list[i]);
    free(destinations);
}

static bool is_text(const char *text, size_t bytes, struct broker_text wanted)
{
    return bytes == wanted.bytes && (bytes == 0 || memcmp(text, wanted.text, bytes) == 0);
}

/* routing_key NULL: the whole exchange. */
static bool is_for(const struct destination *destination, struct broker_text exchange,
                   const struct broker_text *routing_key)
{
    return (destination->whole == 0) == !routing_key &&
           is_text(destination->exchange, destination->exchange_bytes, exchange) &&
           (!routing_key ||
            is_text(destination->routing_key, destination->routing_key_bytes, *routing_key));
}

/* Where the entry is in the index, or would be. */
static uint16_t *find(struct destinations *destinations, struct broker_text exchange,
                      const struct broker_text *routing_key)
{
    static const struct broker_text none = {"", 0};
    uint64_t hash = envelope_fingerprint(none, exchange, routing_key ? *routing_key : none);

    for (size_t i = hash % INDEX_SIZE;; i = (i + 1) % INDEX_SIZE)
        if (!destinations->index[i] ||
            is_for(destinations->list[destinations->index[i]], exchange, routing_key))
            return &destinations->index[i];
}

/* DESTINATION_OTHER: there is no room. */
static uint16_t add(struct destinations *destinations, uint16_t *place, struct broker_text exchange,
                    const struct broker_text *routing_key, uint16_t whole)
{
    struct destination *added;

    if (destinations->count == DESTINATIONS_MAX || exchange.bytes > BROKER_SHORT_STRING_BYTES_MAX)
        return DESTINATION_OTHER;
    added = calloc(1, sizeof(*added));
    if (!added)
        return DESTINATION_OTHER;
    if (exchange.bytes)
        memcpy(added->exchange, exchange.text, exchange.bytes);
    added->exchange_bytes = exchange.bytes;
    if (routing_key && routing_key->bytes) {
        memcpy(added->routing_key, routing_key->text, routing_key->bytes);
        added->routing_key_bytes = routing_key->bytes;
    }
    added->whole = whole;
    if (whole)
        destinations->keyed++;
    destinations->list[destinations->count] = added;
    return *place = destinations->count++;
}

static uint16_t number_of_exchange(struct destinations *destinations, struct broker_text exchange)
{
    uint16_t *place = find(destinations, exchange, NULL);

    return *place ? *place : add(destinations, place, exchange, NULL, 0);
}

uint16_t destinations_number(struct destinations *destinations, struct broker_text exchange,
                             struct broker_text routing_key)
{
    uint16_t *place, whole;

    if (destinations->last != DESTINATION_OTHER &&
        is_for(destinations->list[destinations->last], exchange, &routing_key))
        return destinations->last;
    place = find(destinations, exchange, &routing_key);
    if (*place)
        return destinations->last = *place;
    whole = number_of_exchange(destinations, exchange);
    if (whole == DESTINATION_OTHER || destinations->keyed == DESTINATIONS_KEYED_MAX ||
        routing_key.bytes > BROKER_SHORT_STRING_BYTES_MAX)
        return whole;
    place = find(destinations, exchange, &routing_key); /* the whole may have taken the place */
    return add(destinations, place, exchange, &routing_key, whole);
}

uint16_t destinations_count(const struct destinations *destinations)
{
    return destinations->count;
}

struct destination *destinations_get(const struct destinations *destinations, uint16_t number)
{
    assert(number < destinations->count);
    return destinations->list[number];
}

bool destination_is_for(const struct destination *destination, struct broker_text exchange,
                        struct broker_text routing_key)
{
    return is_for(destination, exchange, destination->whole ? &routing_key : NULL);
}

/* Closed and open ------------------------------------------------------------------------------ */

struct destination *destinations_closed(const struct destinations *destinations, uint16_t number)
{
    struct destination *destination = destinations_get(destinations, number);

    if (destination->closed)
        return destination;
    destination = destinations->list[destination->whole];
    return destination->closed ? destination : NULL;
}

bool destinations_close(struct destinations *destinations, uint16_t number, enum outcome outcome,
                        const char *detail)
{
    struct destination *destination = destinations_get(destinations, number);
    bool was_closed = destination->closed;

    if (number == DESTINATION_OTHER)
        return false;
    destination->closed = true;
    destination->outcome = outcome;
    (void)snprintf(destination->detail, sizeof(destination->detail), "%.*s",
                   DESTINATION_DETAIL_BYTES - 1, detail);
    if (!was_closed) {
        destination->probes = 0;
        destination->probe_us = 0;
    }
    return !was_closed;
}

void destination_probed(struct destination *destination, int64_t now_us, int64_t base_us,
                        int64_t cap_us)
{
    int64_t pause_us = base_us;

    for (unsigned i = 0; i < destination->probes && pause_us < cap_us; i++)
        pause_us *= 2;
    destination->probe_us = now_us + (pause_us < cap_us ? pause_us : cap_us);
    destination->probes++;
}

uint64_t destinations_body_bytes_max(const struct destinations *destinations)
{
    return destinations->body_bytes_max;
}

void destinations_set_body_bytes_max(struct destinations *destinations, uint64_t bytes)
{
    destinations->body_bytes_max = bytes;
}
