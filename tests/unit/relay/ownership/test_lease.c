#include "outbox/relay/ownership/lease.h"
#include "tests/unit/relay/relay_test.h"

#include <string.h>

static const struct lease_server good = {
    .system_identifier = 77,
    .database_oid = 5,
    .newest_migration = LEASE_MIGRATION_NEEDED,
};

static void test_the_server(void **state)
{
    struct lease_server server = good;
    struct error error = {0};

    (void)state;
    assert_int_equal(lease_check_server(&server, &error), 0);
    server.newest_migration = LEASE_MIGRATION_NEEDED - 1;
    assert_true(lease_check_server(&server, &error) < 0);
    assert_int_equal(error.retry, RETRY_NEVER);
    assert_non_null(strstr(error.message, "sagapost migrate"));
    server.newest_migration = LEASE_MIGRATION_NEEDED + 10; /* a newer schema serves older relays */
    assert_int_equal(lease_check_server(&server, &error), 0);
    server.in_recovery = true;
    assert_true(lease_check_server(&server, &error) < 0);
    assert_int_equal(error.retry, RETRY_LATER); /* it may be promoted */
}

static void test_the_identity(void **state)
{
    struct error error = {0};

    (void)state;
    assert_int_equal(lease_check_identity(&good, 77, 5, &error), 0);
    assert_true(lease_check_identity(&good, 78, 5, &error) < 0);
    assert_int_equal(error.retry, RETRY_NEVER);
    assert_non_null(strstr(error.message, "sagapost outbox rebase"));
    assert_true(lease_check_identity(&good, 77, 6, &error) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_server),
        cmocka_unit_test(test_the_identity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
