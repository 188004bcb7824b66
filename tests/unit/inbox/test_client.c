/* The inbox's client against both servers (SAGAPOST_TEST_POSTGRES, SAGAPOST_TEST_AMQP), through its
 * shared library. What needs a process to be killed or a connection to be cut is in
 * tests/integration/test_inbox.py. */
#include <sagapost/inbox.h>

#include "tests/unit/amqp/recorder.h"
#include "tests/unit/pg/migrated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static PGconn *connection;
static struct recorder sender;
static struct sagapost_inbox *inbox;
static struct sagapost_error error;
static char queue[64];

/* What the callbacks saw, and what on_batch is to do. */
static struct {
    char refused[256];
    struct sagapost_error why;
    int calls, resets, largest;
    int (*act)(const struct sagapost_inbox_message *messages, int count);
} seen;

static const char *value_of(const char *sql)
{
    static PGresult *result;
    PQclear(result);
    result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    return PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "";
}

static void run(const char *sql)
{
    PQclear(PQexec(connection, sql));
}

/* The sender ----------------------------------------------------------------------------------- */

static void declare_queue(struct recorder *recorder)
{
    static const struct broker_argument short_lived = {"x-expires", NULL, 600000};
    struct error why = {0};
    if (broker_declare_queue(recorder->broker, queue, false, false, &short_lived, 1, &why) < 0)
        fail_msg("%s", why.message);
}

static void send_with(const char *body, const char *message_id)
{
    struct broker_message message = {.routing_key = {queue, strlen(queue)},
                                     .message_id = {message_id, strlen(message_id)},
                                     .body = body,
                                     .body_bytes = strlen(body)};
    struct error why;
    uint64_t tag;
    if (broker_publish(sender.broker, &message, &tag, &why) < 0)
        fail_msg("%s", why.message);
    recorder_wait(&sender, sender.settled_up_to >= tag);
}

static void send_one(const char *body)
{
    char id[SAGAPOST_UUID_BYTES];
    (void)snprintf(id, sizeof(id), "%s", value_of("select outbox.uuid_v7()"));
    send_with(body, id);
}

/* The consumer --------------------------------------------------------------------------------- */

static int on_batch(void *data, PGconn *given, const struct sagapost_inbox_message *messages,
                    int count)
{
    assert_ptr_equal(data, &seen);
    assert_ptr_equal(given, connection);
    seen.calls++;
    seen.largest = count > seen.largest ? count : seen.largest;
    for (int i = 0; i < count; i++) {
        const char *const values[] = {messages[i].body};
        PQclear(PQexecParams(connection, "insert into done (body) values ($1)", 1, NULL, values,
                             NULL, NULL, 0));
    }
    return seen.act != NULL ? seen.act(messages, count) : 0;
}

static void on_refused(void *data, PGconn *given, const struct sagapost_inbox_message *message,
                       const struct sagapost_error *why)
{
    (void)data;
    (void)given;
    (void)snprintf(seen.refused + strlen(seen.refused), sizeof(seen.refused) - strlen(seen.refused),
                   "%.*s,", (int)message->body_bytes, (const char *)message->body);
    seen.why = *why;
}

static void on_reset(void *data, PGconn *given)
{
    (void)data;
    (void)given;
    seen.resets++;
}

static struct sagapost_inbox_options options_of_test(void)
{
    return (struct sagapost_inbox_options){.amqp = getenv("SAGAPOST_TEST_AMQP"),
                                           .queue = queue,
                                           .consumer = "test",
                                           .on_batch = on_batch,
                                           .on_refused = on_refused,
                                           .on_reset = on_reset,
                                           .data = &seen};
}

static void create_with(const struct sagapost_inbox_options *options)
{
    if (sagapost_inbox_create(&inbox, connection, options, &error) < 0)
        fail_msg("%s", error.message);
}

static void create(void)
{
    struct sagapost_inbox_options options = options_of_test();
    create_with(&options);
}

/* Turns until as many are taken, repeated and refused. */
static void wait_for(unsigned long long taken, unsigned long long repeated,
                     unsigned long long refused)
{
    int64_t end = clock_monotonic_us(&clock_system) + 120 * (int64_t)US_PER_S;
    struct sagapost_inbox_counts counts = sagapost_inbox_count(inbox);
    while (counts.taken != taken || counts.repeated != repeated || counts.refused != refused) {
        if (sagapost_inbox_turn(inbox, 20, &error) < 0)
            fail_msg("%s", error.message);
        counts = sagapost_inbox_count(inbox);
        if (clock_monotonic_us(&clock_system) > end)
            fail_msg("taken %llu, repeated %llu, refused %llu after 120 s; %s", counts.taken,
                     counts.repeated, counts.refused, seen.why.message);
    }
}

static void assert_done(const char *bodies)
{
    assert_string_equal(
        value_of("select coalesce(string_agg(body, ',' order by number), '') from done"), bodies);
}

/* One database for all: their messages have ids of their own. */
static int setup_all(void **state)
{
    migrated_setup(state);
    connection = PQconnectdb(migrated_conninfo(*state));
    return PQstatus(connection) == CONNECTION_OK ? 0 : -1;
}

static int teardown_all(void **state)
{
    PQfinish(connection);
    return migrated_teardown(state);
}

static int setup(void **state)
{
    static int number;
    (void)state;
    value_of("create table done (number bigint generated always as identity, body text)");
    (void)snprintf(queue, sizeof(queue), "t.%d.inbox%d", (int)getpid(), number++);
    memset(&seen, 0, sizeof(seen));
    recorder_init(&sender, getenv("SAGAPOST_TEST_AMQP"));
    sender.on_up = declare_queue;
    recorder_start(&sender);
    recorder_wait(&sender, sender.ups == 1);
    return 0;
}

static int teardown(void **state)
{
    sagapost_inbox_destroy(inbox);
    inbox = NULL;
    recorder_free(&sender);
    value_of("drop table done");
    (void)state;
    return 0;
}

/* What it promises ----------------------------------------------------------------------------- */

static void one_batch_of_what_has_arrived(void **state)
{
    (void)state;
    for (int i = 0; i < 30; i++)
        send_one("m");
    struct sagapost_inbox_options options = options_of_test();
    options.prefetch = 30;
    options.batch_max = 8;
    create_with(&options);
    wait_for(30, 0, 0);
    assert_int_equal(seen.largest, 8);
    assert_true(sagapost_inbox_count(inbox).batches <= 30);
    assert_string_equal(value_of("select count(*) from done"), "30");
}

static void twice_in_a_batch(void **state)
{
    (void)state;
    char id[SAGAPOST_UUID_BYTES];
    (void)snprintf(id, sizeof(id), "%s", value_of("select outbox.uuid_v7()"));
    send_with("a", id);
    send_with("a", id);
    send_with("b", "018f0000-0000-4000-8000-0123456789ab"); /* of version 4 */
    send_with("b", "018f0000-0000-4000-8000-0123456789ab");
    create();
    wait_for(2, 2, 0);
    assert_done("a,b");
    send_with("a", id);
    wait_for(2, 3, 0);
    assert_int_equal(seen.calls, sagapost_inbox_count(inbox).batches - 1);
}

static int fail_twice(const struct sagapost_inbox_message *messages, int count)
{
    (void)messages;
    (void)count;
    return seen.calls <= 2 ? SAGAPOST_ERROR_AGAIN : 0;
}

static void not_now_is_tried_again(void **state)
{
    (void)state;
    seen.act = fail_twice;
    send_one("a");
    create();
    wait_for(1, 0, 0);
    assert_done("a");
    assert_int_equal(sagapost_inbox_count(inbox).failures, 2);
}

static int lose_another_connection(const struct sagapost_inbox_message *messages, int count)
{
    (void)messages;
    (void)count;
    return seen.calls <= 6 ? SAGAPOST_ERROR_LOST : 0;
}

static void what_the_work_lost_is_not_the_messages_fault(void **state)
{
    (void)state;
    seen.act = lose_another_connection;
    send_one("a");
    create();
    wait_for(1, 0, 0);
    assert_done("a");
    assert_int_equal(seen.resets, 0);
}

static int refuse_x(const struct sagapost_inbox_message *messages, int count)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(messages[i].body, "x") == 0)
            return SAGAPOST_ERROR_REFUSED;
    }
    return 0;
}

static void culprits_are_found_among_the_others(void **state)
{
    (void)state;
    seen.act = refuse_x;
    static const char *const bodies[] = {"a", "x", "b", "c", "d", "x", "e"};
    for (int i = 0; i < 7; i++)
        send_one(bodies[i]);
    create();
    wait_for(5, 0, 2);
    assert_done("a,b,c,d,e");
    assert_string_equal(seen.refused, "x,x,");
    assert_int_equal(seen.why.code, SAGAPOST_ERROR_REFUSED);
    assert_string_equal(seen.why.message, "on_batch returned -4");
}

/* What a constraint says only at COMMIT. */
static void commit_can_refuse(void **state)
{
    (void)state;
    value_of("alter table done add unique (body) deferrable initially deferred");
    send_one("a");
    send_one("b");
    send_one("a");
    create();
    wait_for(2, 0, 1);
    assert_done("a,b");
    assert_int_equal(seen.why.code, SAGAPOST_ERROR_BAD_DATA);
    assert_string_equal(seen.why.sqlstate, "23505");
}

static void too_large_or_without_an_id(void **state)
{
    (void)state;
    struct sagapost_inbox_options options = options_of_test();
    options.body_bytes_max = 5;
    create_with(&options);
    send_one("12345");
    send_one("123456");
    send_with("12", "");
    wait_for(1, 0, 2);
    assert_done("12345");
    assert_string_equal(seen.refused, ",12,"); /* the body of the first is not kept */
    assert_string_equal(seen.why.message, "it has no message-id");
}

static int end_connection_at_x(const struct sagapost_inbox_message *messages, int count)
{
    int code = refuse_x(messages, count);
    if (code < 0)
        run("select pg_terminate_backend(pg_backend_pid())");
    return code;
}

static void one_that_ends_its_connection_is_given_up(void **state)
{
    (void)state;
    seen.act = end_connection_at_x;
    send_one("a");
    send_one("x");
    send_one("b");
    create();
    wait_for(2, 0, 1);
    assert_string_equal(seen.refused, "x,");
    assert_int_equal(seen.why.code, SAGAPOST_ERROR_LOST);
    assert_int_equal(seen.resets, 5);
    assert_string_equal(value_of("select count(*) from done where body in ('a', 'b')"), "2");
}

/* The error is swallowed, and COMMIT would have rolled back without a word. */
static int fail_in_silence(const struct sagapost_inbox_message *messages, int count)
{
    (void)messages;
    (void)count;
    if (seen.calls <= 2)
        run("select 1 / 0");
    return 0;
}

static void failed_transaction_is_no_success(void **state)
{
    (void)state;
    seen.act = fail_in_silence;
    send_one("a");
    create();
    wait_for(1, 0, 0);
    assert_done("a");
    assert_int_equal(sagapost_inbox_count(inbox).failures, 2);
}

static int commit_itself(const struct sagapost_inbox_message *messages, int count)
{
    (void)messages;
    (void)count;
    run("commit");
    return 0;
}

static void work_must_not_end_the_transaction(void **state)
{
    (void)state;
    seen.act = commit_itself;
    send_one("a");
    create();
    assert_int_equal(sagapost_inbox_run(inbox, &error), SAGAPOST_ERROR_USAGE);
    assert_string_equal(error.message, "on_batch ended the transaction");
    sagapost_inbox_destroy(inbox);
    seen.act = NULL;
    create();
    wait_for(0, 1, 0); /* not acknowledged: it came again */
}

static int stop(const struct sagapost_inbox_message *messages, int count)
{
    (void)messages;
    (void)count;
    sagapost_inbox_stop(inbox);
    return 0;
}

static void stops_and_runs_again(void **state)
{
    (void)state;
    seen.act = stop;
    create();
    send_one("a");
    assert_int_equal(sagapost_inbox_run(inbox, &error), 0);
    send_one("b");
    assert_int_equal(sagapost_inbox_run(inbox, &error), 0);
    assert_done("a,b");
    sagapost_inbox_stop(inbox);
    assert_int_equal(sagapost_inbox_run(inbox, &error), 0);
}

/* All of it is on_batch's: also what comes again, and what has no message-id. */
static void nothing_is_remembered_for_one_that_recognises(void **state)
{
    (void)state;
    struct sagapost_inbox_options options = options_of_test();
    options.recognises = true;
    create_with(&options);
    send_with("a", "");
    send_with("b", "018f0000-0000-7000-8000-000000000001");
    send_with("b", "018f0000-0000-7000-8000-000000000001");
    wait_for(3, 0, 0);
    assert_done("a,b,b");
    assert_string_equal(value_of("select count(*) from inbox.seen where message_id = "
                                 "'018f0000-0000-7000-8000-000000000001'"),
                        "0");
}

static void mistakes_are_named(void **state)
{
    (void)state;
    struct sagapost_inbox_options good = options_of_test(), bad[6];
    static const char *const said[6] = {
        "the connection, amqp, queue, consumer or on_batch is NULL",
        "consumer: 1 to 255 bytes are allowed",
        "queue: 1 to 255 bytes are allowed",
        "prefetch: 1 to 65535 is allowed, 0 for 200",
        "batch_max: 1 to prefetch is allowed, 0 for 100",
        "amqp",
    };
    for (int i = 0; i < 6; i++)
        bad[i] = good;
    bad[0].on_batch = NULL;
    bad[1].consumer = "";
    bad[2].queue = "";
    bad[3].prefetch = 65536;
    bad[4].batch_max = 201;
    bad[5].amqp = "http://example";
    for (int i = 0; i < 6; i++) {
        assert_int_equal(sagapost_inbox_create(&inbox, connection, &bad[i], &error),
                         SAGAPOST_ERROR_USAGE);
        if (strstr(error.message, said[i]) == NULL)
            fail_msg("\"%s\" where \"%s\" was expected", error.message, said[i]);
        assert_null(inbox);
    }
    value_of("begin");
    assert_int_equal(sagapost_inbox_create(&inbox, connection, &good, &error),
                     SAGAPOST_ERROR_USAGE);
    assert_string_equal(error.message, "the connection has a transaction open");
    value_of("rollback");
    run("select pg_terminate_backend(pg_backend_pid())");
    assert_int_equal(sagapost_inbox_create(&inbox, connection, &good, NULL), SAGAPOST_ERROR_LOST);
    PQreset(connection);
}

#define inbox_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        inbox_test(one_batch_of_what_has_arrived),
        inbox_test(twice_in_a_batch),
        inbox_test(not_now_is_tried_again),
        inbox_test(what_the_work_lost_is_not_the_messages_fault),
        inbox_test(culprits_are_found_among_the_others),
        inbox_test(commit_can_refuse),
        inbox_test(too_large_or_without_an_id),
        inbox_test(one_that_ends_its_connection_is_given_up),
        inbox_test(failed_transaction_is_no_success),
        inbox_test(work_must_not_end_the_transaction),
        inbox_test(stops_and_runs_again),
        inbox_test(nothing_is_remembered_for_one_that_recognises),
        inbox_test(mistakes_are_named),
    };
    if (getenv("SAGAPOST_TEST_POSTGRES") == NULL || getenv("SAGAPOST_TEST_AMQP") == NULL)
        return 77;
    return cmocka_run_group_tests_name("inbox", tests, setup_all, teardown_all);
}
