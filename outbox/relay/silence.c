#include "outbox/relay/silence.h"

#include <assert.h>

static int64_t later(int64_t one_us, int64_t other_us)
{
    return one_us > other_us ? one_us : other_us;
}

void silence_begin(struct silence *silence, int64_t now_us)
{
    silence->floor_us = now_us;
}

void silence_sent(struct silence *silence, uint16_t number, int64_t now_us)
{
    struct silence_place *place = &silence->places[number];

    if (place->open++ == 0)
        place->quiet_us = now_us;
}

void silence_heard(struct silence *silence, uint16_t number, int64_t now_us)
{
    struct silence_place *place = &silence->places[number];

    assert(place->open > 0);
    place->open--;
    place->quiet_us = silence->heard_us = now_us;
}

void silence_lost(struct silence *silence)
{
    for (int i = 0; i < DESTINATIONS_MAX; i++)
        silence->places[i].open = 0;
}

bool silence_is_quiet(const struct silence *silence, uint16_t number, int64_t now_us,
                      int64_t limit_us)
{
    const struct silence_place *place = &silence->places[number];

    return place->open > 0 && now_us - later(place->quiet_us, silence->floor_us) > limit_us;
}

bool silence_is_its_own(const struct silence *silence, uint16_t number)
{
    return silence->heard_us > later(silence->places[number].quiet_us, silence->floor_us);
}
