#include "tests/unit/pg/migrated.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "migrations/migrations.h"
#include "outbox/pg/client.h"
#include "outbox/runtime/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct migrated {
    char name[64];
    char conninfo[1024];
};

static struct pg_client *open_client(const char *conninfo)
{
    struct pg_client *client = NULL;
    struct error error;
    if (pg_client_connect(&client, conninfo, "test", 60 * (int64_t)US_PER_S, &error) < 0)
        fail_msg("%s", error.message);
    return client;
}

static void run(struct pg_client *client, const char *what, const char *sql)
{
    struct error error;
    if (pg_client_script(client, sql, &error) < 0)
        fail_msg("%s: %s", what, error.message);
}

static void on_server(const char *verb, const char *what)
{
    char sql[256];
    struct pg_client *client = open_client(getenv("SAGAPOST_TEST_POSTGRES"));
    snprintf(sql, sizeof(sql), "%s %s", verb, what);
    run(client, sql, sql);
    pg_client_close(client);
}

int migrated_setup(void **state)
{
    struct migrated *migrated = calloc(1, sizeof(*migrated));

    assert_non_null(migrated);
    snprintf(migrated->name, sizeof(migrated->name), "sagapost_test_%ld", (long)getpid());
    snprintf(migrated->conninfo, sizeof(migrated->conninfo), "%s dbname=%s",
             getenv("SAGAPOST_TEST_POSTGRES"), migrated->name);
    on_server("create database", migrated->name);
    struct pg_client *client = open_client(migrated->conninfo);
    for (int i = 0; i < MIGRATION_NEWEST; i++)
        run(client, migrations[i].name, migrations[i].text);
    pg_client_close(client);
    *state = migrated;
    return 0;
}

int migrated_teardown(void **state)
{
    struct migrated *migrated = *state;
    char sql[128];

    snprintf(sql, sizeof(sql), "%s with (force)", migrated->name);
    on_server("drop database", sql);
    free(migrated);
    return 0;
}

const char *migrated_conninfo(const void *state)
{
    return ((const struct migrated *)state)->conninfo;
}
