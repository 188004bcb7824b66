/* Every embedded statement of every program is one that PostgreSQL understands, against a database
 * with all migrations (SAGAPOST_TEST_POSTGRES). What it does is tested with its program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "outbox/pg/client.h"
#include "outbox/pg/service_sql.h"
#include "outbox/pg/sql.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/clock.h"
#include "saga/cli/sql.h"
#include "saga/worker/sql.h"
#include "tests/unit/pg/migrated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void prepare(struct pg_client *client, const struct pg_statement *statement)
{
    struct buffer sql;
    struct error error;

    buffer_init(&sql, 0);
    buffer_append_format(&sql, "prepare %s as %s", statement->name, statement->sql);
    /* 42725: a parameter without a cast, whose type the program gives when it prepares. */
    if (pg_client_script(client, buffer_text(&sql), &error) < 0 &&
        strcmp(error.sqlstate, "42725") != 0)
        fail_msg("%s: %s", statement->name, error.message);
    buffer_free(&sql);
}

#define prepare_all(client, list)                                                                  \
    for (size_t i = 0; i < sizeof(list) / sizeof((list)[0]); i++)                                  \
    prepare(client, (list)[i])

static void every_statement_is_understood(void **state)
{
    struct pg_client *client = NULL;
    struct error error;

    if (pg_client_connect(&client, migrated_conninfo(*state), "test", 60 * (int64_t)US_PER_S,
                          &error) < 0)
        fail_msg("%s", error.message);
    prepare_all(client, sql_pg_all);
    prepare_all(client, sql_service_all);
    prepare_all(client, sql_relay_all);
    prepare_all(client, sql_worker_all);
    prepare_all(client, sql_cli_all);
    pg_client_close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_statement_is_understood, migrated_setup,
                                        migrated_teardown),
    };
    if (getenv("SAGAPOST_TEST_POSTGRES") == NULL)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
