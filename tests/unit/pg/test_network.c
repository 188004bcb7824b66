/* Sessions over a network that misbehaves, and servers that die. Needs a server
 * (SAGAPOST_TEST_POSTGRES); the test of restarts starts one of its own with
 * SAGAPOST_TEST_SANDBOX, docker/sandbox.sh. */
#include "outbox/pg/client.h"
#include "tests/unit/pg/pg_test.h"
#include "tests/unit/pg/proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int server_port; /* of the server, on the loopback */

static struct pg_client *open_client(const char *conninfo)
{
    struct pg_client *client = NULL;
    struct error error;
    if (pg_client_connect(&client, conninfo, "aside", 60 * (int64_t)US_PER_S, &error) < 0)
        fail_msg("%s", error.message);
    return client;
}

static int64_t int_of(struct pg_client *client, const char *sql)
{
    struct pg_result *result = NULL;
    struct error error;
    if (pg_client_query(client, sql, NULL, &result, &error) < 0)
        fail_msg("%s: %s", sql, error.message);
    int64_t value = pg_int(result, 0, 0);
    pg_result_free(result);
    return value;
}

static void run(struct pg_client *client, const char *sql)
{
    struct error error;
    if (pg_client_script(client, sql, &error) < 0)
        fail_msg("%s: %s", sql, error.message);
}

static struct fixture *fixture_through(struct proxy *proxy)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    char conninfo[1024];
    assert_int_equal(loop_create(&fixture->loop, &clock_system, NULL), 0);
    proxy_open(proxy, fixture->loop, server_port);
    snprintf(conninfo, sizeof(conninfo), "%s host=127.0.0.1 port=%d sslmode=disable",
             test_conninfo(), proxy_port(proxy));
    fixture_start(fixture, conninfo);
    turn_until(fixture, fixture->ups == 1);
    return fixture;
}

static void end(struct fixture *fixture, struct proxy *proxy)
{
    if (proxy != NULL)
        proxy_close(proxy);
    fixture_stop(fixture);
    free(fixture);
}

/* The server committed, and nobody was told. */
static void a_commit_whose_answer_is_lost(void **state)
{
    (void)state;
    struct proxy proxy = {0};
    struct pg_client *aside = open_client(test_conninfo());
    run(aside, "drop table if exists public.sagapost_lost;"
               " create table public.sagapost_lost (x int)");
    struct fixture *fixture = fixture_through(&proxy);
    proxy.mode = PROXY_SWALLOW;
    ask_text(fixture, "begin");
    ask_text(fixture, "insert into public.sagapost_lost values (1)");
    ask_text(fixture, "commit");
    ask_sync(fixture);
    fixture->look_us = 5 * US_PER_MS;
    turn_until(fixture, int_of(aside, "select count(*) from public.sagapost_lost") == 1);
    turn_until(fixture, proxy.swallowed_bytes > 0);
    assert_int_equal(fixture->answered, 0);
    proxy.mode = PROXY_PASS;
    proxy_cut(&proxy);
    turn_until(fixture, fixture->ups == 2);
    assert_int_equal(fixture->answered, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(fixture->answers[i].failure.retry, RETRY_RECONNECT);
    assert_int_equal(fixture->downs, 1);
    run(aside, "drop table public.sagapost_lost");
    pg_client_close(aside);
    end(fixture, &proxy);
}

/* Every message arrives in as many pieces as it has bytes. */
static void byte_by_byte(void **state)
{
    (void)state;
    struct proxy proxy = {0};
    struct fixture *fixture = fixture_through(&proxy);
    static const struct pg_statement series = {"test_series", "select generate_series(1, 20)"};
    ask_and_wait(fixture, "listen sagapost_test");
    proxy.mode = PROXY_BYTES;
    ask(fixture, &series, NULL);
    ask_text(fixture, "select 1/0");
    ask(fixture, &series, NULL);
    ask_sync(fixture);
    ask_text(fixture, "notify sagapost_test, 'piecemeal'");
    int last = ask_sync(fixture);
    turn_until(fixture, fixture->answered > last && fixture->notifications == 1);
    assert_int_equal(pg_result_rows(fixture->answers[2].result), 20);
    assert_string_equal(fixture->answers[3].failure.sqlstate, "22012");
    assert_int_equal(fixture->answers[4].failure.code, ERROR_STATE);
    assert_string_equal(fixture->payload, "piecemeal");
    end(fixture, &proxy);
}

/* The answer to a COMMIT and the end of the connection arrive in one go: the answer counts. So it
 * does when the end is found out by writing, which makes libpq read on the side. */
static void answers_before_the_end_count(bool write_into_the_end)
{
    struct proxy proxy = {0};
    struct fixture *fixture = fixture_through(&proxy);
    proxy.mode = PROXY_HOLD;
    ask_text(fixture, "begin");
    ask_text(fixture, "select 7");
    ask_text(fixture, "commit");
    ask_sync(fixture);
    int rest = ask_text(fixture, "select pg_sleep(60)");
    ask_sync(fixture);
    /* The last message of the group's answer is ReadyForQuery, of six bytes. */
    turn_until(fixture,
               buffer_length(&proxy.client.out) > 6 &&
                   memcmp(proxy.client.out.bytes + proxy.client.out.end - 6, "Z\0\0\0\5I", 6) == 0);
    assert_int_equal(fixture->answered, 0);
    proxy_cut_after_answers(&proxy);
    for (int i = 0; write_into_the_end && i < 3; i++) {
        ask_text(fixture, "select 8");
        ask_sync(fixture);
    }
    turn_until(fixture, fixture->ups == 2);
    assert_int_equal(fixture->answered, fixture->asked);
    for (int i = 0; i < rest; i++)
        assert_int_equal(fixture->answers[i].failure.code, 0);
    assert_int_equal(pg_int(fixture->answers[1].result, 0, 0), 7);
    for (int i = rest; i < fixture->asked; i++)
        assert_int_equal(fixture->answers[i].failure.retry, RETRY_RECONNECT);
    assert_int_equal(fixture->downs, 1);
    end(fixture, &proxy);
}

static void answers_before_an_end_that_is_read(void **state)
{
    (void)state;
    answers_before_the_end_count(false);
}

static void answers_before_an_end_that_is_written_into(void **state)
{
    (void)state;
    answers_before_the_end_count(true);
}

/* The first host of the list takes connections and says nothing, as a frozen machine does. */
static void a_silent_host_is_passed_over(void **state)
{
    (void)state;
    struct proxy silent = {.mode = PROXY_SILENT};
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    char conninfo[1024];
    assert_int_equal(loop_create(&fixture->loop, &clock_system, NULL), 0);
    proxy_open(&silent, fixture->loop, server_port);
    snprintf(conninfo, sizeof(conninfo), "%s host=127.0.0.1,127.0.0.1,127.0.0.1 port=%d,%d,%d",
             test_conninfo(), proxy_port(&silent), proxy_port(&silent), server_port);
    fixture->options.connect_timeout_us = 150 * US_PER_MS;
    fixture->options.primary_only = true;
    fixture_start(fixture, conninfo);
    turn_until(fixture, fixture->ups == 1);
    assert_true(fixture->downs >= 1);
    assert_int_equal(fixture->why.code, ERROR_TIMEOUT);
    assert_int_equal(pg_session_attempts(fixture->session), 0);
    /* The blocking client does the same. */
    struct pg_client *client = NULL;
    struct error error;
    if (pg_client_connect(&client, conninfo, "test", US_PER_S, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(int_of(client, "select inet_server_port()"), server_port);
    pg_client_close(client);
    end(fixture, &silent);
}

static void a_silent_host_alone_times_out(void **state)
{
    (void)state;
    struct proxy silent = {.mode = PROXY_SILENT};
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct pg_client *client = NULL;
    struct error error;
    char conninfo[1024];
    assert_int_equal(loop_create(&fixture->loop, &clock_system, NULL), 0);
    proxy_open(&silent, fixture->loop, server_port);
    snprintf(conninfo, sizeof(conninfo), "%s host=127.0.0.1 port=%d", test_conninfo(),
             proxy_port(&silent));
    fixture->options.connect_timeout_us = 50 * US_PER_MS;
    fixture_start(fixture, conninfo);
    turn_until(fixture, fixture->downs == 3);
    assert_int_equal(fixture->why.code, ERROR_TIMEOUT);
    assert_int_equal(fixture->why.retry, RETRY_RECONNECT);
    assert_int_equal(pg_client_connect(&client, conninfo, "test", 50 * US_PER_MS, &error),
                     ERROR_TIMEOUT);
    end(fixture, &silent);
}

/* The connection is whole, and nothing comes: that is found out by the session's own clock, and
 * only while something is asked. */
static void a_silence_is_noticed(void **state)
{
    (void)state;
    struct proxy proxy = {0};
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    char conninfo[1024];
    assert_int_equal(loop_create(&fixture->loop, &clock_system, NULL), 0);
    proxy_open(&proxy, fixture->loop, server_port);
    snprintf(conninfo, sizeof(conninfo), "%s host=127.0.0.1 port=%d sslmode=disable",
             test_conninfo(), proxy_port(&proxy));
    fixture->options.silence_limit_us = 150 * US_PER_MS;
    fixture->look_us = 5 * US_PER_MS;
    fixture_start(fixture, conninfo);
    turn_until(fixture, fixture->ups == 1);
    /* Nothing is asked, and all is answered in time, again and again: no silence. */
    int64_t begin_us = clock_monotonic_us(&clock_system);
    turn_until(fixture, clock_monotonic_us(&clock_system) > begin_us + 200 * US_PER_MS);
    begin_us = clock_monotonic_us(&clock_system);
    while (clock_monotonic_us(&clock_system) < begin_us + 400 * US_PER_MS && fixture->asked < 500)
        ask_and_wait(fixture, "select pg_sleep(0.05)");
    assert_int_equal(fixture->downs, 0);
    proxy.mode = PROXY_SWALLOW;
    int last = ask_text(fixture, "select 1");
    ask_sync(fixture);
    turn_until(fixture, fixture->downs == 1);
    assert_int_equal(fixture->answers[last].failure.retry, RETRY_RECONNECT);
    assert_int_equal(fixture->why.code, ERROR_TIMEOUT);
    assert_non_null(strstr(fixture->why.message, "PostgreSQL has said nothing for"));
    proxy.mode = PROXY_PASS;
    turn_until(fixture, fixture->ups == 2);
    end(fixture, &proxy);
}

/* The server --------------------------------------------------------------------------------- */

static char folder[64];

/* NOLINTBEGIN(cert-env33-c): the commands are the test's own. */
static int shell(const char *command)
{
    return system(command);
}

static FILE *shell_output(const char *command)
{
    return popen(command, "r");
}
/* NOLINTEND(cert-env33-c) */

static void sandbox(const char *words)
{
    char command[1024];
    snprintf(command, sizeof(command), "sh %s %s %s >&2", getenv("SAGAPOST_TEST_SANDBOX"), words,
             folder);
    if (shell(command) != 0)
        fail_msg("%s", command);
}

/* A server with TLS, and with a certificate for localhost. */
static int start_server(void **state)
{
    char command[1024];
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/sagapost-pg-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof(command),
             "cd %s && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
             "-addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem 2>openssl.log && "
             "chmod 755 . && chmod 600 key.pem && { [ $(id -u) != 0 ] || chown postgres key.pem; } "
             "&& { echo ssl = on; echo \"ssl_cert_file = '$PWD/cert.pem'\"; "
             "echo \"ssl_key_file = '$PWD/key.pem'\"; } >postgresql.conf.extra",
             folder);
    if (shell(command) != 0)
        fail_msg("%s", command);
    sandbox("start-postgres");
    return 0;
}

static int stop_server(void **state)
{
    char command[128];
    (void)state;
    sandbox("stop");
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return shell(command);
}

/* What DIR/env says, with TLS. */
static void own_conninfo(char *out, size_t out_bytes, const char *more)
{
    char command[256], line[512] = "";
    snprintf(command, sizeof(command), ". %s/env && echo \"$SAGAPOST_POSTGRES\"", folder);
    FILE *pipe = shell_output(command);
    assert_non_null(pipe);
    assert_non_null(fgets(line, sizeof(line), pipe));
    pclose(pipe);
    line[strcspn(line, "\n")] = '\0';
    snprintf(out, out_bytes,
             "%s host=localhost hostaddr=127.0.0.1 sslmode=verify-full "
             "sslrootcert=%s/cert.pem %s",
             line, folder, more);
}

static void over_tls(void **state)
{
    (void)state;
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    static const struct pg_statement big = {
        "test_big", "select repeat('x', $1::int), pg_catalog.pg_backend_pid()"};
    char conninfo[1024];
    own_conninfo(conninfo, sizeof(conninfo), "");
    fixture_start(fixture, conninfo);
    turn_until(fixture, fixture->ups == 1);
    struct answer *answer = ask_and_wait(
        fixture, "select ssl from pg_catalog.pg_stat_ssl where pid = pg_backend_pid()");
    assert_true(pg_bool(answer->result, 0, 0));
    /* Sizes around those of a TLS record (16 kB) and of libpq's buffer: the rest of a record would
     * lie in OpenSSL, where no descriptor tells of it. (Servers before 17 write records of 8 kB.)
     */
    struct pg_params params;
    pg_params_init(&params);
    for (int size = 7000; size < 70000; size += 997) {
        pg_params_reset(&params);
        pg_params_int4(&params, size);
        int number = ask(fixture, &big, &params);
        int last = ask_sync(fixture);
        turn_until(fixture, fixture->answered > last);
        size_t bytes;
        pg_bytes(fixture->answers[number].result, 0, 0, &bytes);
        assert_int_equal(bytes, size);
    }
    pg_params_free(&params);
    end(fixture, NULL);

    /* A certificate for another name is refused. */
    fixture = calloc(1, sizeof(*fixture));
    own_conninfo(conninfo, sizeof(conninfo), "host=other");
    fixture_start(fixture, conninfo);
    turn_until(fixture, fixture->downs == 1);
    assert_int_equal(fixture->ups, 0);
    assert_non_null(strstr(fixture->why.message, "certificate"));
    end(fixture, NULL);
}

static void killed_and_restarted(void **state)
{
    (void)state;
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    char conninfo[1024];
    own_conninfo(conninfo, sizeof(conninfo), "");
    fixture_start(fixture, conninfo);
    turn_until(fixture, fixture->ups == 1);
    for (int round = 0; round < 2; round++) {
        ask_text(fixture, "begin");
        ask_text(fixture, "select pg_sleep(60)");
        int last = ask_sync(fixture);
        assert_int_equal(loop_turn(fixture->loop, 10000, NULL), 0);
        sandbox(round == 0 ? "postgres kill" : "postgres stop");
        turn_until(fixture, fixture->answered > last);
        assert_int_equal(fixture->answers[last].failure.retry, RETRY_RECONNECT);
        int downs = fixture->downs;
        turn_until(fixture, fixture->downs >= downs + 3); /* it keeps trying */
        assert_true(pg_session_attempts(fixture->session) >= 3);
        assert_int_equal(fixture->why.retry, RETRY_RECONNECT);
        sandbox("postgres start");
        turn_until(fixture, fixture->ups == round + 2);
        assert_int_equal(fixture->ups, round + 2);
    }
    struct answer *answer = ask_and_wait(fixture, "select 42");
    assert_int_equal(pg_int(answer->result, 0, 0), 42);
    end(fixture, NULL);
}

static void a_standby_is_passed_over(void **state)
{
    (void)state;
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct pg_client *client = NULL;
    struct error error;
    char conninfo[1024], command[1024];
    /* In recovery without end: what looks like a standby to a client. */
    sandbox("postgres stop");
    snprintf(command, sizeof(command), "touch %s/postgres/data/standby.signal", folder);
    assert_int_equal(shell(command), 0);
    sandbox("postgres start");
    own_conninfo(conninfo, sizeof(conninfo), "");
    fixture->options.primary_only = true;
    fixture_start(fixture, conninfo);
    turn_until(fixture, fixture->downs == 2);
    assert_int_equal(fixture->ups, 0);
    end(fixture, NULL);
    /* A command line may look at it. */
    client = open_client(conninfo);
    assert_int_equal(int_of(client, "select pg_is_in_recovery()::int"), 1);
    int standby_port = (int)int_of(client, "select inet_server_port()");
    assert_true(pg_client_script(client, "create table public.x (x int)", &error) < 0);
    assert_string_equal(error.sqlstate, "25006");
    assert_int_equal(error.retry, RETRY_RECONNECT);
    pg_client_close(client);

    /* Of a list with the other server, the primary is taken, also by the command line. */
    fixture = calloc(1, sizeof(*fixture));
    char more[256];
    snprintf(more, sizeof(more), "sslmode=prefer host=127.0.0.1,127.0.0.1 hostaddr='' port=%d,%d",
             standby_port, server_port);
    own_conninfo(conninfo, sizeof(conninfo), more);
    fixture->options.primary_only = true;
    fixture_start(fixture, conninfo);
    turn_until(fixture, fixture->ups == 1);
    struct answer *answer = ask_and_wait(fixture, "select inet_server_port()");
    assert_int_equal(pg_int(answer->result, 0, 0), server_port);
    client = open_client(conninfo);
    assert_int_equal(int_of(client, "select inet_server_port()"), server_port);
    pg_client_close(client);
    end(fixture, NULL);
}

int main(void)
{
    const struct CMUnitTest network[] = {
        cmocka_unit_test(a_commit_whose_answer_is_lost),
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(answers_before_an_end_that_is_read),
        cmocka_unit_test(answers_before_an_end_that_is_written_into),
        cmocka_unit_test(a_silent_host_is_passed_over),
        cmocka_unit_test(a_silence_is_noticed),
        cmocka_unit_test(a_silent_host_alone_times_out),
    };
    const struct CMUnitTest server[] = {
        cmocka_unit_test(over_tls),
        cmocka_unit_test(killed_and_restarted),
        cmocka_unit_test(a_standby_is_passed_over),
    };
    if (test_conninfo() == NULL || getenv("SAGAPOST_TEST_SANDBOX") == NULL)
        return TEST_SKIPPED;
    struct pg_client *client = open_client(test_conninfo());
    server_port = (int)int_of(client, "select inet_server_port()");
    pg_client_close(client);
    int failed = cmocka_run_group_tests(network, NULL, NULL);
    return failed + cmocka_run_group_tests(server, start_server, stop_server);
}
