/* What outbox/pg decides without a server: classes, what libpq prints, connection strings, which
 * statements are prepared, what embed.py made of a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "outbox/pg/conninfo.h"
#include "outbox/pg/failure.h"
#include "outbox/pg/prepared.h"
#include "tests/unit/pg/embed_sql.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Failures ----------------------------------------------------------------------------------- */

static void every_class(void **state)
{
    (void)state;
    static const struct {
        const char *sqlstate;
        enum error_retry retry;
    } rows[] = {
        {"40001", RETRY_NOW},       {"40P01", RETRY_NOW},       {"55P03", RETRY_LATER},
        {"53100", RETRY_LATER},     {"53300", RETRY_LATER},     {"57014", RETRY_LATER},
        {"58030", RETRY_LATER},     {"08006", RETRY_RECONNECT}, {"57P01", RETRY_RECONNECT},
        {"57P03", RETRY_RECONNECT}, {"57P05", RETRY_RECONNECT}, {"25006", RETRY_RECONNECT},
        {"25P03", RETRY_RECONNECT}, {"40003", RETRY_RECONNECT}, {"26000", RETRY_RECONNECT},
        {"28P01", RETRY_NEVER},     {"28000", RETRY_NEVER},     {"3D000", RETRY_NEVER},
        {"42501", RETRY_NEVER},     {"22P02", RETRY_POISON},    {"23505", RETRY_POISON},
        {"54000", RETRY_POISON},    {"SG001", RETRY_POISON},    {"SG323", RETRY_POISON},
        {"42P01", RETRY_BUG},       {"XX000", RETRY_BUG},       {"P0001", RETRY_BUG},
        {"0A000", RETRY_BUG},       {"25P02", RETRY_BUG},       {"", RETRY_BUG},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (pg_classify_sqlstate(rows[i].sqlstate) != rows[i].retry)
            fail_msg("%s is %s", rows[i].sqlstate,
                     error_retry_name(pg_classify_sqlstate(rows[i].sqlstate)));
    }
}

static void check_split(const char *text, const char *sqlstate, const char *message)
{
    char its_state[6], its_message[200];
    pg_failure_split_verbose(text, its_state, its_message, sizeof(its_message));
    assert_string_equal(its_state, sqlstate);
    assert_string_equal(its_message, message);
}

static void verbose_messages_are_split(void **state)
{
    (void)state;
    check_split("connection to server at \"h\", port 1 failed: FATAL:  28P01: password "
                "authentication failed for user \"x\"\nLOCATION:  auth_failed, auth.c:335\n",
                "28P01",
                "connection to server at \"h\", port 1 failed: FATAL: password authentication "
                "failed for user \"x\"");
    /* Translated, and two hosts: the last one decides. */
    check_split(
        "a failed: FATAL:  57P03: le syst\xc3\xa8me\nLOCATION: x\nb failed: SCHWERWIEGEND:  "
        "3D000: Datenbank\nLOCATION: y",
        "3D000", "a failed: FATAL: le syst\xc3\xa8me b failed: SCHWERWIEGEND: Datenbank");
    check_split("connection refused\n\tIs the server running?\n", "",
                "connection refused Is the server running?");
    check_split("", "", "");
    check_split("x:  lower: y", "", "x:  lower: y");
    check_split("x:  28P01", "", "x:  28P01");
    char tiny[8], its_state[6];
    pg_failure_split_verbose("FATAL:  28P01: password", its_state, tiny, sizeof(tiny));
    assert_string_equal(tiny, "FATAL:");
}

/* Connection strings ------------------------------------------------------------------------- */

static const char *keyword(const struct pg_conninfo *conninfo, const char *name)
{
    const char *const *keywords;
    const char *const *values;
    pg_conninfo_keywords(conninfo, &keywords, &values);
    for (int i = 0; keywords[i] != NULL; i++) {
        if (strcmp(keywords[i], name) == 0)
            return values[i];
    }
    return NULL;
}

static struct pg_conninfo *parsed(const char *text, bool primary_only)
{
    struct pg_conninfo *conninfo;
    struct error error;
    if (pg_conninfo_parse(&conninfo, text, "ours", primary_only, &error) < 0)
        fail_msg("%s", error.message);
    return conninfo;
}

static void the_user_wins_where_it_is_sensible(void **state)
{
    (void)state;
    struct pg_conninfo *conninfo = parsed(
        "host=h password=pw application_name=mine keepalives_idle=99 client_encoding=LATIN1", true);
    assert_string_equal(keyword(conninfo, "application_name"), "mine");
    assert_string_equal(keyword(conninfo, "fallback_application_name"), "ours");
    assert_string_equal(keyword(conninfo, "keepalives_idle"), "99");
    assert_string_equal(keyword(conninfo, "keepalives_interval"), "5");
    assert_string_equal(keyword(conninfo, "client_encoding"), "UTF8");
    assert_string_equal(keyword(conninfo, "target_session_attrs"), "primary");
    assert_string_equal(keyword(conninfo, "password"), "pw");
    pg_conninfo_free(conninfo);

    conninfo = parsed("postgresql://u@h/d?target_session_attrs=read-write", true);
    assert_string_equal(keyword(conninfo, "target_session_attrs"), "read-write"); /* stricter */
    pg_conninfo_free(conninfo);
    conninfo = parsed("host=h target_session_attrs=any", true);
    assert_string_equal(keyword(conninfo, "target_session_attrs"), "primary");
    pg_conninfo_free(conninfo);
    conninfo = parsed("", false);
    assert_null(keyword(conninfo, "target_session_attrs"));
    pg_conninfo_free(conninfo);
    conninfo = parsed(NULL, false); /* all from PG* variables */
    pg_conninfo_free(conninfo);

    setenv("PGGSSENCMODE", "require", 1);
    conninfo = parsed("host=h", false);
    assert_null(keyword(conninfo, "gssencmode")); /* libpq takes the variable */
    pg_conninfo_free(conninfo);
    unsetenv("PGGSSENCMODE");
}

static void check_refused(const char *text, const char *secret)
{
    struct pg_conninfo *conninfo;
    struct error error;
    assert_int_equal(pg_conninfo_parse(&conninfo, text, "ours", false, &error), ERROR_USAGE);
    assert_int_equal(error.retry, RETRY_NEVER);
    if (strstr(error.message, secret) != NULL)
        fail_msg("the message shows the password: %s", error.message);
}

static void bad_strings_are_refused_without_the_password(void **state)
{
    (void)state;
    check_refused("host=h password s3cret", "s3cret");
    check_refused("host=h no_such_key=s3cret", "s3cret");
    check_refused("password=s3cret host", "s3cret");
    check_refused("password='s3cret", "s3cret");
    check_refused("postgresql://u:p@s3cret@h/d", "s3cret");
    check_refused("postgresql://u:p/s3cret@h/d", "s3cret");
    check_refused("postgres://u:12/s3cret@h/d", "s3cret");
    check_refused("postgresql://u:s3cret", "s3cret"); /* taken for a port */
    check_refused("postgresql://u:p@h/d?s3cret", "s3cret");
    check_refused("postgresql://u:p%zzs3cret@h/d", "s3cret");
}

static void good_strings_are_not(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "postgresql://u:p%40ss%2f@h:5432,i:5433/d?sslmode=require",
        "postgresql:///d?host=/var/run/postgresql&user=a@b",
        "postgresql://h/d%40e",
        "postgresql://",
        "host=a,b port=1,2 password=p@/:ss dbname=x@y",
        "service=nowhere",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        pg_conninfo_free(parsed(texts[i], false));
}

/* A connection that has tried the first host of its list, and nothing more. */
static void hosts_beyond_this_machine_are_verified(void **state)
{
    static const struct {
        const char *text, *sslmode;
    } cases[] = {
        {"host=db.example", "verify-full"},
        {"postgresql://u@db.example/d", "verify-full"},
        {"host=localhost,db.example", "verify-full"},
        {"host=127.example.com", "verify-full"},
        {"hostaddr=192.0.2.7 host=localhost", "verify-full"},
        {"host=db.example sslmode=require", "require"},
        {"host=db.example sslmode=disable", "disable"},
        {"", NULL},
        {"host=/run/postgresql", NULL},
        {"host=localhost,127.0.0.1,::1", NULL},
        {"hostaddr=127.0.0.2", NULL},
    };
    (void)state;
    assert_int_equal(unsetenv("PGSSLMODE"), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pg_conninfo *conninfo = parsed(cases[i].text, false);
        const char *sslmode = keyword(conninfo, "sslmode");
        if (cases[i].sslmode == NULL)
            assert_null(sslmode);
        else
            assert_string_equal(sslmode, cases[i].sslmode);
        pg_conninfo_free(conninfo);
    }
    assert_int_equal(setenv("PGSSLMODE", "prefer", 1), 0); /* libpq's own default, but said */
    struct pg_conninfo *conninfo = parsed("host=db.example", false);
    assert_null(keyword(conninfo, "sslmode"));
    pg_conninfo_free(conninfo);
    assert_int_equal(unsetenv("PGSSLMODE"), 0);
}

static PGconn *attempt(const struct pg_conninfo *conninfo)
{
    const char *const *keywords;
    const char *const *values;
    pg_conninfo_keywords(conninfo, &keywords, &values);
    return PQconnectStartParams(keywords, values, 0);
}

static void a_silent_host_goes_to_the_end(void **state)
{
    (void)state;
    static const char *const expected[] = {"127.0.0.2,127.0.0.3,127.0.0.1",
                                           "127.0.0.3,127.0.0.1,127.0.0.2",
                                           "127.0.0.1,127.0.0.2,127.0.0.3"};
    struct pg_conninfo *conninfo =
        parsed("host=127.0.0.1,127.0.0.2,127.0.0.3 port=1,2,3 user=x dbname=x", false);
    for (int i = 0; i < 3; i++) {
        PGconn *connection = attempt(conninfo);
        assert_int_equal(pg_conninfo_next_host(conninfo, connection), i < 2);
        assert_string_equal(keyword(conninfo, "host"), expected[i]);
        PQfinish(connection);
    }
    assert_string_equal(keyword(conninfo, "port"), "1,2,3");
    /* After an answer all hosts have their turn again. */
    PGconn *connection = attempt(conninfo);
    assert_true(pg_conninfo_next_host(conninfo, connection));
    pg_conninfo_answered(conninfo);
    assert_true(pg_conninfo_next_host(conninfo, connection));
    assert_true(pg_conninfo_next_host(conninfo, connection));
    assert_false(pg_conninfo_next_host(conninfo, connection));
    PQfinish(connection);
    pg_conninfo_free(conninfo);

    conninfo = parsed("host=127.0.0.1 port=1 user=x dbname=x", false);
    connection = attempt(conninfo);
    assert_false(pg_conninfo_next_host(conninfo, connection));
    PQfinish(connection);
    pg_conninfo_free(conninfo);

    /* One port for all; the hosts from a variable. */
    setenv("PGHOST", "127.0.0.1,127.0.0.2", 1);
    conninfo = parsed("port=1 user=x dbname=x", false);
    connection = attempt(conninfo);
    assert_true(pg_conninfo_next_host(conninfo, connection));
    assert_string_equal(keyword(conninfo, "host"), "127.0.0.2,127.0.0.1");
    assert_string_equal(keyword(conninfo, "port"), "1");
    PQfinish(connection);
    pg_conninfo_free(conninfo);
    unsetenv("PGHOST");
}

/* Preparing ---------------------------------------------------------------------------------- */

static struct prepared prepared;

static int clear(void **state)
{
    (void)state;
    prepared_clear(&prepared);
    return 0;
}

static const struct pg_statement first = {"first", "select 1"};
static const struct pg_statement first_again = {"first", "select 1"}; /* of another source file */
static const struct pg_statement second = {"second", "select 2"};

static void prepared_once_it_is_answered(void **state)
{
    (void)state;
    int slot, other;
    assert_int_equal(prepared_choose(&prepared, &first, NULL, 0, &slot), PREPARED_PREPARE);
    /* The same group stands or falls with it; a later one does not. */
    assert_int_equal(prepared_choose(&prepared, &first_again, NULL, 0, &other), PREPARED_USE);
    assert_int_equal(slot, other);
    assert_int_equal(prepared_choose(&prepared, &first, NULL, 1, &other), PREPARED_WITHOUT);
    assert_int_equal(prepared_choose(&prepared, &second, NULL, 1, &other), PREPARED_PREPARE);
    assert_true(slot != other);
    prepared_answered(&prepared, slot, true);
    prepared_answered(&prepared, other, false);
    assert_int_equal(prepared_choose(&prepared, &first, NULL, 2, &other), PREPARED_USE);
    assert_int_equal(prepared_choose(&prepared, &second, NULL, 2, &other), PREPARED_PREPARE);
    prepared_clear(&prepared);
    assert_int_equal(prepared_choose(&prepared, &first, NULL, 0, &other), PREPARED_PREPARE);
}

static void past_the_limit_statements_go_unprepared(void **state)
{
    (void)state;
    static struct pg_statement statements[PREPARED_MAX + 10];
    static char names[PREPARED_MAX + 10][16];
    int slot;
    for (int i = 0; i < PREPARED_MAX + 10; i++) {
        snprintf(names[i], sizeof(names[i]), "s%d", i);
        statements[i] = (struct pg_statement){names[i], "select 1"};
        enum prepared_way way = prepared_choose(&prepared, &statements[i], NULL, 0, &slot);
        assert_int_equal(way, i < PREPARED_MAX ? PREPARED_PREPARE : PREPARED_WITHOUT);
        if (way == PREPARED_PREPARE)
            prepared_answered(&prepared, slot, true);
    }
    for (int i = 0; i < PREPARED_MAX; i++)
        assert_int_equal(prepared_choose(&prepared, &statements[i], NULL, 1, &slot), PREPARED_USE);
}

/* Embedding ---------------------------------------------------------------------------------- */

static void embed_keeps_the_statement(void **state)
{
    (void)state;
    assert_string_equal(sql_test_tricky.name, "test_tricky");
    assert_string_equal(
        sql_test_tricky.sql,
        "select E'a\\'--;b', 'x;''-- y\t', $1::int   + 1, \"q;\"\"\", $q$ ; -- $$ ' "
        "/* \n\n $q$ as \"\xc3\xbc??\?/9\"\n,\n       $$it's$$ || '\\'\n  from t");
    assert_ptr_equal(sql_test_all[0], &sql_test_tricky);
    assert_int_equal(sizeof(sql_test_all) / sizeof(sql_test_all[0]), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_class),
        cmocka_unit_test(verbose_messages_are_split),
        cmocka_unit_test(the_user_wins_where_it_is_sensible),
        cmocka_unit_test(bad_strings_are_refused_without_the_password),
        cmocka_unit_test(good_strings_are_not),
        cmocka_unit_test(hosts_beyond_this_machine_are_verified),
        cmocka_unit_test(a_silent_host_goes_to_the_end),
        cmocka_unit_test_setup(prepared_once_it_is_answered, clear),
        cmocka_unit_test_setup(past_the_limit_statements_go_unprepared, clear),
        cmocka_unit_test(embed_keeps_the_statement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
