#include "outbox/relay/destinations.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct destinations {
    struct destination *list[DESTINATIONS_MAX];
    uint16_t count;
    uint16_t last; /* the one asked for last: most messages go where the one before went */
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

static bool is_for(const struct destination *destination, struct broker_text exchange)
{
    return destination->exchange_bytes == exchange.bytes &&
           memcmp(destination->exchange, exchange.text, exchange.bytes) == 0;
}

uint16_t destinations_number(struct destinations *destinations, struct broker_text exchange)
{
    struct destination *added;

    if (destinations->last != DESTINATION_OTHER &&
        is_for(destinations->list[destinations->last], exchange))
        return destinations->last;
    for (uint16_t i = 1; i < destinations->count; i++)
        if (is_for(destinations->list[i], exchange))
            return destinations->last = i;
    if (destinations->count == DESTINATIONS_MAX || exchange.bytes > BROKER_SHORT_STRING_BYTES_MAX)
        return DESTINATION_OTHER;
    added = calloc(1, sizeof(*added));
    if (!added)
        return DESTINATION_OTHER;
    memcpy(added->exchange, exchange.text, exchange.bytes);
    added->exchange_bytes = exchange.bytes;
    destinations->list[destinations->count] = added;
    destinations->last = destinations->count;
    return destinations->count++;
}

uint16_t destinations_count(const struct destinations *destinations)
{
    return destinations->count;
}

struct destination *destinations_get(struct destinations *destinations, uint16_t number)
{
    assert(number < destinations->count);
    return destinations->list[number];
}

bool destination_is_named(const struct destination *destination, const char *text)
{
    char named[BROKER_SHORT_STRING_BYTES_MAX + 32];

    if (destination->exchange_bytes == 0)
        return false; /* the default exchange always exists */
    snprintf(named, sizeof(named), "exchange '%s' in vhost", destination->exchange);
    return strstr(text, named) != NULL;
}
