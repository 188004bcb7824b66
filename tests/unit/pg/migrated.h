/* migrated.h: a database of the test's own, with all migrations. */
#ifndef SAGAPOST_TEST_PG_MIGRATED_H
#define SAGAPOST_TEST_PG_MIGRATED_H

/* For cmocka: *state is then the database. */
int migrated_setup(void **state);
int migrated_teardown(void **state);

const char *migrated_conninfo(const void *state);

#endif
