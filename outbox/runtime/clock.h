/* clock.h: time in int64_t microseconds, from a clock that a test can turn.
 *
 * clock_monotonic_us is for timers, deadlines and intervals. clock_wall_us (since 1970, UTC) is for
 * what people read and for the time inside a UUIDv7. Time that two processes share is the
 * database's, never this. */
#ifndef SAGAPOST_RUNTIME_CLOCK_H
#define SAGAPOST_RUNTIME_CLOCK_H

#include <stdint.h>

#define US_PER_MS 1000
#define US_PER_S  1000000

struct clock_source {
    int64_t (*monotonic_us)(void *data);
    int64_t (*wall_us)(void *data);
    void *data;
};

/* The machine's clocks. */
extern const struct clock_source clock_system;

/* A clock that stands still until it is turned. Zero-initialise, set the fields, hand on `source`
 * after clock_fake_init. */
struct clock_fake {
    struct clock_source source;
    int64_t monotonic_us;
    int64_t wall_us;
};
void clock_fake_init(struct clock_fake *fake, int64_t monotonic_us, int64_t wall_us);
void clock_fake_advance(struct clock_fake *fake, int64_t by_us);

static inline int64_t clock_monotonic_us(const struct clock_source *clock)
{
    return clock->monotonic_us(clock->data);
}
static inline int64_t clock_wall_us(const struct clock_source *clock)
{
    return clock->wall_us(clock->data);
}

#endif
