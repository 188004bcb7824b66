/* runtime_test.h: what the tests of the ground floor share. */
#ifndef SAGAPOST_TESTS_RUNTIME_TEST_H
#define SAGAPOST_TESTS_RUNTIME_TEST_H

/* cmocka wants these before itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "faults.h"
#include "outbox/runtime/error.h"
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* `expected` is a part of the text. */
#define assert_contains(text, expected)                                                            \
    do {                                                                                           \
        const char *text_once = (text);                                                            \
        if (!strstr(text_once, (expected)))                                                        \
            fail_msg("'%s' does not contain '%s'", text_once, (expected));                         \
    } while (0)
#define assert_lacks(text, unwanted)                                                               \
    do {                                                                                           \
        const char *text_once = (text);                                                            \
        if (strstr(text_once, (unwanted)))                                                         \
            fail_msg("'%s' contains '%s'", text_once, (unwanted));                                 \
    } while (0)

/* A call that must succeed, its error shown if not. */
#define must(call)                                                                                 \
    do {                                                                                           \
        struct error error = {0};                                                                  \
        if (call)                                                                                  \
            fail_msg("%s: %s", #call, error.message);                                              \
    } while (0)

/* A call that must fail so; `call` uses &error. */
#define must_fail(call, expected_code, expected_retry, part)                                       \
    do {                                                                                           \
        struct error error = {0};                                                                  \
        assert_int_equal((call), (expected_code));                                                 \
        assert_int_equal(error.code, (expected_code));                                             \
        assert_int_equal(error.retry, (expected_retry));                                           \
        assert_contains(error.message, (part));                                                    \
    } while (0)

/* Runs `scenario` (an int function of no arguments: 0 or the error's code) with the 1st, 2nd, ...
 * allocation failing, until it needs no more. Every time it must say ERROR_NO_MEMORY, and under
 * AddressSanitizer lose nothing. Returns how many allocations there were. */
int each_allocation_fails(int (*scenario)(struct error *error));

/* Ends the test with a message when a wait for something takes longer than a minute. */
struct deadline {
    int64_t end_us;
};
struct deadline deadline_start(void);
void deadline_check(const struct deadline *deadline, const char *what);

/* Everything in a file, NUL-terminated, from its start; static memory. */
const char *read_back(int fd);

#endif
