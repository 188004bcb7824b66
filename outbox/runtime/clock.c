#include "outbox/runtime/clock.h"

#include <assert.h>
#include <stddef.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec now;
    int failed = clock_gettime(id, &now);

    assert(!failed);
    (void)failed;
    return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / 1000;
}

static int64_t system_monotonic_us(void *data)
{
    (void)data;
    return read_us(CLOCK_MONOTONIC);
}

static int64_t system_wall_us(void *data)
{
    (void)data;
    return read_us(CLOCK_REALTIME);
}

const struct clock_source clock_system = {system_monotonic_us, system_wall_us, NULL};

static int64_t fake_monotonic_us(void *data)
{
    return ((const struct clock_fake *)data)->monotonic_us;
}

static int64_t fake_wall_us(void *data)
{
    return ((const struct clock_fake *)data)->wall_us;
}

void clock_fake_init(struct clock_fake *fake, int64_t monotonic_us, int64_t wall_us)
{
    fake->source = (struct clock_source){fake_monotonic_us, fake_wall_us, fake};
    fake->monotonic_us = monotonic_us;
    fake->wall_us = wall_us;
}

void clock_fake_advance(struct clock_fake *fake, int64_t by_us)
{
    assert(by_us >= 0);
    fake->monotonic_us += by_us;
    fake->wall_us += by_us;
}
