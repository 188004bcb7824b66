/* What the tests of the loop share: a loop with either clock, and a trace of what ran. */
#ifndef SAGAPOST_TESTS_LOOP_TEST_H
#define SAGAPOST_TESTS_LOOP_TEST_H

#include "runtime_test.h"

#include "outbox/runtime/loop.h"

extern struct clock_fake fake;
extern struct loop *loop;

int with_fake_clock(void **state);
int with_system_clock(void **state);
int without_loop(void **state);

/* A callback ran. */
void note(char letter);
/* What ran since the last time. */
const char *traced(void);

/* Callbacks of timers: one notes the letter that `data` points to, one ends the loop `data`. */
void on_letter(void *data);
void on_stop(void *data);

/* One turn that does not sleep. */
void turn(void);

#define FAKE(test)   cmocka_unit_test_setup_teardown(test, with_fake_clock, without_loop)
#define SYSTEM(test) cmocka_unit_test_setup_teardown(test, with_system_clock, without_loop)

#endif
