#include "outbox/relay/publishing/silence.h"

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

static int64_t pause_us(int64_t took_us)
{
    return took_us < SILENCE_PAUSE_CAP_US / SILENCE_PAUSES ? SILENCE_PAUSES * took_us
                                                           : SILENCE_PAUSE_CAP_US;
}

void silence_heard(struct silence *silence, uint16_t number, int64_t now_us, int64_t sent_us)
{
    struct silence_place *place = &silence->places[number];

    assert(place->open > 0);
    place->open--;
    place->quiet_us = place->heard_us = silence->heard_us = now_us;
    place->took_us = now_us - sent_us;
    if (place->most == 0)
        return;
    if (place->took_us > silence->slow_us)
        place->not_before_us = now_us + pause_us(place->took_us);
    else if (place->most < UINT32_MAX)
        place->most++;
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

/* Whether another destination has answered since, and in less than that. */
static bool another_is_quick(const struct silence *silence, uint16_t number, uint16_t count,
                             int64_t since_us, int64_t limit_us)
{
    for (uint16_t other = 0; other < count; other++) {
        const struct silence_place *place = &silence->places[other];

        if (other != number && place->heard_us && place->heard_us > since_us &&
            place->took_us < limit_us)
            return true;
    }
    return false;
}

bool silence_hold_back(struct silence *silence, uint16_t number, uint16_t count, int64_t now_us,
                       int64_t sent_us)
{
    struct silence_place *place = &silence->places[number];
    int64_t waits_us = now_us - later(sent_us, silence->floor_us);

    if (waits_us <= silence->slow_us || now_us - place->cut_us <= silence->slow_us ||
        !another_is_quick(silence, number, count, sent_us, waits_us / 4))
        return false;
    place->most = place->open > 1 ? place->open / 2 : 1;
    place->cut_us = now_us;
    return true;
}

bool silence_is_held_back(const struct silence *silence, uint16_t number, uint16_t count,
                          int64_t now_us)
{
    const struct silence_place *place = &silence->places[number];

    return place->most > 0 && (place->open >= place->most || now_us < place->not_before_us) &&
           another_is_quick(silence, number, count, now_us - SILENCE_PAUSE_CAP_US, INT64_MAX);
}
