/* pg_test.h: what the tests of outbox/pg share: a loop with a limit, a session that notes what
 * happens to it. */
#ifndef SAGAPOST_TEST_PG_H
#define SAGAPOST_TEST_PG_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "outbox/pg/session.h"

#define TEST_SKIPPED 77 /* meson's exit status for a test that was skipped */
/* For what hangs, not for machines that are slow. */
#define TEST_LIMIT_US ((int64_t)120 * US_PER_S)

/* "ok", or how it failed. */
struct answer {
    int number; /* of the request */
    bool is_sync;
    struct error failure;     /* code 0: none */
    struct pg_result *result; /* kept */
    struct fixture *fixture;
    void (*then)(struct fixture *fixture); /* called within the callback */
};

struct fixture {
    struct loop *loop;
    struct pg_session *session;
    struct pg_session_options options;
    int ups, downs, notifications, notices;
    struct error why; /* of the last on_down */
    char payload[9000];
    char notice[256];
    struct answer answers[512]; /* by request */
    int order[512];             /* the numbers, as they came */
    int answered, asked;
    bool destroyed;
    int64_t look_us; /* see turn_until */
    bool tolerant;   /* asking may fail: then it returns -1 */
    void (*then_up)(struct fixture *fixture);
    void (*then_down)(struct fixture *fixture);
};

const char *test_conninfo(void); /* SAGAPOST_TEST_POSTGRES; NULL: skip */

void fixture_start(struct fixture *fixture, const char *conninfo);
void fixture_stop(struct fixture *fixture);
/* For cmocka: *state is a fixture with a session that is up. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Turns the loop until `done` holds; fails the test after TEST_LIMIT_US. The loop sleeps until
 * something happens to it, so a wake-up that is lost fails the test too; what the loop cannot know
 * of is looked at every look_us. */
#define turn_until(fixture, done)                                                                  \
    do {                                                                                           \
        int64_t limit_us = clock_monotonic_us(&clock_system) + TEST_LIMIT_US;                      \
        while (!(done)) {                                                                          \
            assert_true(clock_monotonic_us(&clock_system) < limit_us);                             \
            assert_int_equal(loop_turn((fixture)->loop,                                            \
                                       (fixture)->look_us ? (fixture)->look_us : TEST_LIMIT_US,    \
                                       NULL),                                                      \
                             0);                                                                   \
        }                                                                                          \
    } while (0)

/* Each asks for one thing and returns its number. */
int ask(struct fixture *fixture, const struct pg_statement *statement,
        const struct pg_params *params);
int ask_text(struct fixture *fixture, const char *sql);
int ask_sync(struct fixture *fixture);
int ask_int(struct fixture *fixture, const struct pg_statement *statement, int64_t value,
            bool wide); /* its one parameter: a bigint, or an integer */
/* A group of one text, and its answer. */
struct answer *ask_and_wait(struct fixture *fixture, const char *sql);

extern const struct pg_statement test_add_one; /* to a bigint */

/* Runs `sql` from outside. */
void aside(const char *sql);

#endif
