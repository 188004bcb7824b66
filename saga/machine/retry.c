/* retry.c: how long to wait before something is tried again. */
#include "saga/machine/table.h"

#include <math.h>

static uint64_t mix(uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

int64_t retry_pause_us(const struct retry_policy *policy, int attempt, uint64_t seed, uint64_t who)
{
    double grown = (double)policy->base_us * pow(policy->factor, attempt > 1 ? attempt - 1 : 0);
    int64_t pause_us = grown < (double)policy->cap_us ? (int64_t)grown : policy->cap_us;
    if (policy->jitter && pause_us > 1) {
        uint64_t random = mix(seed ^ mix(who | (uint64_t)attempt));
        pause_us -= (int64_t)(random % ((uint64_t)pause_us / 2 + 1));
    }
    return pause_us;
}
