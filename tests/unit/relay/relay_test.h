/* relay_test.h: what the tests of the relay's pure parts share. */
#ifndef SAGAPOST_TESTS_RELAY_TEST_H
#define SAGAPOST_TESTS_RELAY_TEST_H

/* cmocka wants these before itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* xorshift64*: a run can be repeated from its seed, which each test that uses chance prints. */
struct chance {
    uint64_t state;
};

static inline struct chance chance_of(uint64_t seed)
{
    return (struct chance){seed * 0x9e3779b97f4a7c15u + 1};
}

static inline uint32_t chance_below(struct chance *chance, uint32_t limit)
{
    chance->state ^= chance->state >> 12;
    chance->state ^= chance->state << 25;
    chance->state ^= chance->state >> 27;
    return (uint32_t)((chance->state * 0x2545f4914f6cdd1du) >> 33) % limit;
}

#endif
