#include "tests/unit/relay/relay_parts_test.h"
#include "outbox/runtime/log.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define START_US (1000 * (int64_t)US_PER_S)

struct parts parts;

int parts_setup(void **state)
{
    struct error error;

    (void)state;
    memset(&parts, 0, sizeof(parts));
    clock_fake_init(&parts.clock, START_US, START_US);
    parts.log = memfd_create("log", MFD_CLOEXEC);
    assert_true(parts.log >= 0);
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT, parts.log);
    fake_session_start();
    if (loop_create(&parts.loop, &parts.clock.source, &error) < 0 ||
        metrics_create(&parts.metrics, &error) < 0)
        fail_msg("%s", error.message);
    stats_create(&parts.stats, parts.metrics);
    return 0;
}

int parts_teardown(void **state)
{
    (void)state;
    fake_session_stop();
    loop_destroy(parts.loop);
    metrics_destroy(parts.metrics);
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT, STDERR_FILENO);
    close(parts.log);
    return 0;
}

void parts_on_failure(void *data, const struct error *failure)
{
    (void)data;
    parts.failures++;
    parts.error = *failure;
}

void parts_advance(int64_t by_us)
{
    struct error error;

    clock_fake_advance(&parts.clock, by_us);
    for (int turns = 0; turns < 2; turns++) /* a timer armed for now is due in the next one */
        if (loop_turn(parts.loop, 0, &error) < 0)
            fail_msg("%s", error.message);
}

const char *parts_logged(void)
{
    const char *text = read_back(parts.log);

    assert_int_equal(ftruncate(parts.log, 0), 0);
    assert_int_equal(lseek(parts.log, 0, SEEK_SET), 0);
    return text;
}

int parts_lines(const char *logged, const char *text)
{
    int count = 0;

    for (const char *at = logged; (at = strstr(at, text)); at++)
        count++;
    return count;
}
