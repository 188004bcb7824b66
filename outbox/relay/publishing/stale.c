#include "outbox/relay/publishing/stale.h"

void stale_begin(struct stale *stale)
{
    for (int i = 0; i < DESTINATIONS_MAX; i++)
        stale->places[i].refused_us = 0;
}

void stale_refused(struct stale *stale, uint16_t number, int64_t now_us)
{
    struct stale_place *place = &stale->places[number];

    if (!place->refused_us)
        place->refused_us = now_us;
}

bool stale_taken(struct stale *stale, uint16_t number)
{
    struct stale_place *place = &stale->places[number];
    bool helped = place->tries > 0;

    *place = (struct stale_place){0};
    return helped;
}

static int64_t pause_us(unsigned tries)
{
    int64_t us = STALE_AFTER_US;

    while (tries-- > 0 && us < STALE_CAP_US)
        us *= 2;
    return us < STALE_CAP_US ? us : STALE_CAP_US;
}

uint16_t stale_due(const struct stale *stale, uint16_t count, int64_t now_us)
{
    if (now_us < stale->not_before_us)
        return DESTINATION_OTHER;
    for (uint16_t number = 1; number < count; number++) {
        const struct stale_place *place = &stale->places[number];

        if (place->refused_us && now_us - place->refused_us >= pause_us(place->tries))
            return number;
    }
    return DESTINATION_OTHER;
}

void stale_tried(struct stale *stale, uint16_t count, int64_t now_us)
{
    for (uint16_t number = 0; number < count; number++) {
        struct stale_place *place = &stale->places[number];

        if (!place->refused_us)
            continue;
        place->tries++;
        place->refused_us = now_us;
    }
    stale->not_before_us = now_us + STALE_INTERVAL_US;
}
