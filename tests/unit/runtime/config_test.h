/* What the tests of config share: tables of settings, and a configuration read from words,
 * variables and a file in memory. */
#ifndef SAGAPOST_TESTS_CONFIG_TEST_H
#define SAGAPOST_TESTS_CONFIG_TEST_H

#include "runtime_test.h"

#include "outbox/runtime/config.h"

extern const struct setting *const config_tables[];
/* One setting, which is required. */
extern const struct setting *const required_tables[];

extern struct config *config; /* of the test that runs */
extern int file;              /* its file, in memory */
extern char path[];           /* of the file */

int config_test_create(void **state);
int config_test_destroy(void **state);

void write_file_bytes(const char *text, size_t bytes);
void write_file(const char *text);
/* Words are separated by spaces; FILE stands for the file's path. */
int load(const char *line, const char *const *variables, struct error *error);

#define TEST(test) cmocka_unit_test_setup_teardown(test, config_test_create, config_test_destroy)

#endif
