/* mutants.h: bugs that can be put into the tables and rules of the machine, each by a function that
 * alters one row, rule or order. Whoever calls it puts the tables back. A mutant whose row is gone
 * fails the test that called it, by name. */
#ifndef TESTS_MACHINE_MUTANTS_H
#define TESTS_MACHINE_MUTANTS_H

#include <stddef.h>

struct mutant {
    const char *name;
    void (*mutate)(void);
};

const struct mutant *mutants(size_t *ret_count);

#endif
