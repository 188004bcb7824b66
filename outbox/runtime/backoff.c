#include "outbox/runtime/backoff.h"

#include <assert.h>
#include <limits.h>

/* splitmix64 (Steele, Lea, Flood 2014): each call advances the seed, and any seed will do. */
static uint64_t next_random(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void backoff_init(struct backoff *backoff, int64_t base_us, int64_t cap_us, uint64_t seed)
{
    assert(base_us > 0);
    *backoff = (struct backoff){
        .base_us = base_us, .cap_us = cap_us < base_us ? base_us : cap_us, .seed = seed};
}

int64_t backoff_next_us(struct backoff *backoff)
{
    int64_t step_us = backoff->base_us;
    unsigned doubling;
    int64_t half_us;

    for (doubling = 0; doubling < backoff->tries && step_us < backoff->cap_us; doubling++)
        step_us = step_us > backoff->cap_us / 2 ? backoff->cap_us : step_us * 2;
    if (backoff->tries < UINT_MAX)
        backoff->tries++;
    half_us = step_us / 2;
    return step_us - half_us + (int64_t)(next_random(&backoff->seed) % ((uint64_t)half_us + 1));
}

void backoff_reset(struct backoff *backoff)
{
    backoff->tries = 0;
}
