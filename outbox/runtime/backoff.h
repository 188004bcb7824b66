/* backoff.h: how long to wait before the next try.
 *
 * Exponential with full jitter between half of the step and the whole: base, 2 base, 4 base ...
 * cap. Deterministic for a seed. */
#ifndef SAGAPOST_RUNTIME_BACKOFF_H
#define SAGAPOST_RUNTIME_BACKOFF_H

#include <stdint.h>

struct backoff {
    int64_t base_us;
    int64_t cap_us;
    unsigned tries; /* failures since the last success */
    uint64_t seed;
};

void backoff_init(struct backoff *backoff, int64_t base_us, int64_t cap_us, uint64_t seed);
int64_t backoff_next_us(
    struct backoff *backoff); /* the pause before the next try; counts one more failure */
void backoff_reset(struct backoff *backoff); /* it worked */

#endif
