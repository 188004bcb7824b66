/* relay_parts_test.h: what the tests of the relay's parts that talk to PostgreSQL share: a loop
 * whose clock stands still, the metrics, what was logged, and failures that were handed up. The
 * session is fake_session.h's. */
#ifndef SAGAPOST_TESTS_RELAY_PARTS_TEST_H
#define SAGAPOST_TESTS_RELAY_PARTS_TEST_H

#include "outbox/relay/stats.h"
#include "outbox/runtime/loop.h"
#include "tests/unit/pg/fake_session.h"
#include "tests/unit/runtime/runtime_test.h"

struct parts {
    struct clock_fake clock;
    struct loop *loop;
    struct metrics *metrics;
    struct stats stats;
    int log;            /* a file */
    int failures;       /* handed to parts_on_failure, ever */
    struct error error; /* the last */
};

extern struct parts parts;

/* For cmocka, around each test. */
int parts_setup(void **state);
int parts_teardown(void **state);

void parts_on_failure(void *data, const struct error *failure);
/* Time passes, and what is due happens. */
void parts_advance(int64_t by_us);
/* What was logged since the last call. */
const char *parts_logged(void);
int parts_lines(const char *logged, const char *text); /* how often it says that */

#define PARTS_TEST(name) cmocka_unit_test_setup_teardown(name, parts_setup, parts_teardown)

#endif
