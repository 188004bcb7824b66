#include "runtime_test.h"

#include "outbox/runtime/clock.h"
#include <unistd.h>

int each_allocation_fails(int (*scenario)(struct error *error))
{
    int nth = 0;
    bool fired;

    do {
        struct error error = {0};
        int result;
        fault_arm("alloc", ++nth, ENOMEM);
        result = scenario(&error);
        fired = fault_disarm();
        if (fired) {
            assert_int_equal(result, ERROR_NO_MEMORY);
            assert_int_equal(error.code, ERROR_NO_MEMORY);
            assert_int_equal(error.retry, RETRY_LATER);
        } else {
            assert_int_equal(result, 0);
        }
    } while (fired);
    return nth - 1;
}

struct deadline deadline_start(void)
{
    return (struct deadline){clock_monotonic_us(&clock_system) + 60 * (int64_t)US_PER_S};
}

void deadline_check(const struct deadline *deadline, const char *what)
{
    if (clock_monotonic_us(&clock_system) > deadline->end_us)
        fail_msg("waited a minute for %s", what);
}

const char *read_back(int fd)
{
    static char text[1 << 20];
    size_t used = 0;
    ssize_t got;

    while ((got = pread(fd, text + used, sizeof(text) - 1 - used, (off_t)used)) > 0)
        used += (size_t)got;
    text[used] = 0;
    return text;
}
