/* libsagapost, as a service uses it: over its own PGconn, against a migrated database
 * (SAGAPOST_TEST_POSTGRES). The header files come first, to show that each stands alone. */
#include <sagapost/outbox.h>

#include <sagapost/inbox.h>

#include <sagapost/saga.h>

#include "tests/unit/pg/migrated.h"
#include "tests/unit/pg/pg_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PGconn *connection;
static struct sagapost_error error;

static int setup(void **state)
{
    migrated_setup(state);
    connection = PQconnectdb(migrated_conninfo(*state));
    assert_int_equal(PQstatus(connection), CONNECTION_OK);
    return 0;
}

static int teardown(void **state)
{
    PQfinish(connection);
    return migrated_teardown(state);
}

/* The first value of a query's only row, good until the next call. */
static const char *value_of(const char *sql)
{
    static PGresult *result;
    PQclear(result);
    result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    return PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "";
}

#define must(call)                                                                                 \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s %s", #call, error.sqlstate, error.message);                           \
    } while (0)

/* Outbox ------------------------------------------------------------------------------------- */

static void publish_is_part_of_the_transaction(void **state)
{
    (void)state;
    char id[SAGAPOST_UUID_BYTES];
    struct sagapost_message message = {.type = "order.placed",
                                       .key = "ORD-17",
                                       .payload = "{\"total\": 19.90}",
                                       .headers = "{\"tenant\": \"t1\"}",
                                       .correlation_id = "c1",
                                       .reply_to = "answers",
                                       .serialize = true};
    value_of("begin");
    must(sagapost_publish(connection, &message, id, &error));
    assert_int_equal(strlen(id), 36);
    assert_string_equal(value_of("select message_id from outbox.message"), id);
    assert_string_equal(value_of("select payload from outbox.message"), "{\"total\": 19.90}");
    assert_string_equal(
        value_of("select concat_ws(' ', type, key, headers, correlation_id, reply_to, mandatory,"
                 " exchange is null, routing_key is null) from outbox.message"),
        "order.placed ORD-17 {\"tenant\": \"t1\"} c1 answers t t t");
    value_of("rollback");
    assert_string_equal(value_of("select count(*) from outbox.message"), "0");
}

static void publish_bytes_as_they_are(void **state)
{
    (void)state;
    char id[SAGAPOST_UUID_BYTES];
    const char given[] = "018f0000-0000-7000-8000-0123456789ab";
    struct sagapost_message message = {.type = "blob",
                                       .body = "\0\x5c\xff"
                                               "x",
                                       .body_bytes = 4,
                                       .content_type = "application/x-test",
                                       .exchange = "shop",
                                       .routing_key = "blobs",
                                       .message_id = given,
                                       .optional = true};
    must(sagapost_publish(connection, &message, id, &error)); /* a transaction of its own */
    assert_string_equal(id, given);
    assert_string_equal(
        value_of("select concat_ws(' ', encode(payload_bytes, 'hex'), content_type, exchange,"
                 " routing_key, mandatory) from outbox.message where type = 'blob'"),
        "005cff78 application/x-test shop blobs f");
    message = (struct sagapost_message){.type = "empty", .body = "", .body_bytes = 0};
    must(sagapost_publish(connection, &message, NULL, NULL));
    assert_string_equal(value_of("select octet_length(payload_bytes) from outbox.message"
                                 " where type = 'empty'"),
                        "0");
}

static void bad_messages_say_why(void **state)
{
    (void)state;
    char long_type[300];
    memset(long_type, 'x', sizeof(long_type));
    long_type[sizeof(long_type) - 1] = '\0';

    struct sagapost_message message = {.payload = "{}"};
    assert_int_equal(sagapost_publish(connection, &message, NULL, &error), SAGAPOST_ERROR_USAGE);
    message = (struct sagapost_message){.type = "t"};
    assert_int_equal(sagapost_publish(connection, &message, NULL, &error), SAGAPOST_ERROR_USAGE);
    message = (struct sagapost_message){.type = "t", .payload = "{}", .body = ""};
    assert_int_equal(sagapost_publish(connection, &message, NULL, &error), SAGAPOST_ERROR_USAGE);
    assert_int_equal(sagapost_publish(NULL, &message, NULL, &error), SAGAPOST_ERROR_USAGE);

    message = (struct sagapost_message){.type = "t", .payload = "{"};
    assert_int_equal(sagapost_publish(connection, &message, NULL, &error), SAGAPOST_ERROR_BAD_DATA);
    assert_string_equal(error.sqlstate, "22P02");
    message = (struct sagapost_message){.type = long_type, .payload = "{\"card\": \"4111\"}"};
    assert_int_equal(sagapost_publish(connection, &message, NULL, &error), SAGAPOST_ERROR_BAD_DATA);
    assert_int_equal(error.code, SAGAPOST_ERROR_BAD_DATA);
    assert_non_null(strstr(error.message, "type has 299 bytes")); /* column and limit */
    assert_non_null(strstr(error.message, "255"));
    assert_null(strstr(error.message, "4111")); /* no payload in a message */
    message = (struct sagapost_message){.type = "t", .payload = "{}", .serialize = true};
    assert_int_equal(sagapost_publish(connection, &message, NULL, &error), SAGAPOST_ERROR_REFUSED);
    assert_string_equal(error.sqlstate, "SG101");
}

static void the_connections_state_is_looked_at(void **state)
{
    (void)state;
    bool first;
    struct sagapost_message message = {.type = "t", .payload = "{}"};

    assert_int_equal(sagapost_inbox_accept(connection, "c", "018f0000-0000-7000-8000-000000000001",
                                           &first, &error),
                     SAGAPOST_ERROR_USAGE);
    assert_non_null(strstr(error.message, "BEGIN"));
    value_of("begin");
    PQclear(PQexec(connection, "select 1/0"));
    assert_int_equal(sagapost_publish(connection, &message, NULL, &error), SAGAPOST_ERROR_USAGE);
    assert_non_null(strstr(error.message, "roll it back"));
    value_of("rollback");
    assert_int_equal(PQenterPipelineMode(connection), 1);
    assert_int_equal(sagapost_publish(connection, &message, NULL, &error), SAGAPOST_ERROR_USAGE);
    assert_int_equal(PQexitPipelineMode(connection), 1);
    assert_int_equal(PQsendQuery(connection, "select 1"), 1);
    assert_int_equal(sagapost_publish(connection, &message, NULL, &error), SAGAPOST_ERROR_USAGE);
    PGresult *result;
    while ((result = PQgetResult(connection)) != NULL)
        PQclear(result);

    PGconn *nobody = PQconnectdb("host=127.0.0.1 port=1");
    assert_int_equal(sagapost_publish(nobody, &message, NULL, &error), SAGAPOST_ERROR_LOST);
    PQfinish(nobody);

    /* Lost in the middle. */
    PGconn *dying = PQconnectdb(test_conninfo());
    char sql[100];
    snprintf(sql, sizeof(sql), "select pg_terminate_backend(%d)", PQbackendPID(dying));
    value_of(sql);
    assert_int_equal(sagapost_publish(dying, &message, NULL, &error), SAGAPOST_ERROR_LOST);
    PQfinish(dying);

    /* No such schema. */
    PGconn *bare = PQconnectdb(test_conninfo());
    assert_int_equal(sagapost_publish(bare, &message, NULL, &error), SAGAPOST_ERROR_NO_SERVICE);
    PQfinish(bare);
}

/* Inbox -------------------------------------------------------------------------------------- */

static void accept_once(void **state)
{
    (void)state;
    char id[SAGAPOST_UUID_BYTES];
    bool first = false;

    snprintf(id, sizeof(id), "%s", value_of("select outbox.uuid_v7()"));
    value_of("begin");
    must(sagapost_inbox_accept(connection, "billing", id, &first, &error));
    assert_true(first);
    value_of("rollback"); /* the work failed: it was not accepted */
    for (int i = 0; i < 3; i++) {
        value_of("begin");
        must(sagapost_inbox_accept(connection, "billing", id, &first, &error));
        assert_int_equal(first, i == 0);
        value_of("commit");
    }
    value_of("begin");
    must(sagapost_inbox_accept(connection, "shipping", id, &first, &error));
    assert_true(first);
    value_of("commit");
    value_of("begin");
    assert_int_equal(sagapost_inbox_accept(connection, "billing",
                                           "01000000-0000-7000-8000-000000000000", &first, &error),
                     SAGAPOST_ERROR_REFUSED);
    assert_string_equal(error.sqlstate, "SG111");
    value_of("rollback");
}

/* Sagas -------------------------------------------------------------------------------------- */

static char saga[SAGAPOST_UUID_BYTES];

static void start_a_saga(void **state)
{
    (void)state;
    char again[SAGAPOST_UUID_BYTES];

    value_of("select saga.define('trip')");
    value_of("select saga.step('trip', 'book', action => 'hotel.book', undo => 'hotel.cancel')");
    value_of("select saga.step('trip', 'approve', via => 'signal', timeout => '1 day')");
    value_of("select version from saga.publish('trip')");
    must(sagapost_saga_start(connection, "trip", "{\"nights\": 2}", "T-1", saga, &error));
    must(sagapost_saga_start(connection, "trip", "{\"nights\": 2}", "T-1", again, &error));
    assert_string_equal(again, saga);
    assert_int_equal(
        sagapost_saga_start(connection, "trip", "{\"nights\": 3}", "T-1", again, &error),
        SAGAPOST_ERROR_REFUSED);
    assert_int_equal(sagapost_saga_start(connection, "nowhere", "{}", NULL, NULL, &error),
                     SAGAPOST_ERROR_REFUSED);
    assert_memory_equal(error.sqlstate, "SG", 2);
}

static void signal_and_cancel(void **state)
{
    (void)state;
    must(sagapost_saga_signal(connection, saga, "approve", "{\"by\": \"me\"}", "s1", &error));
    must(sagapost_saga_signal(connection, saga, "approve", NULL, "s1", &error));
    assert_string_equal(value_of("select count(*) from saga.intent where verb = 'signal'"), "1");
    must(sagapost_saga_cancel(connection, saga, "changed my mind", &error));
    assert_string_equal(value_of("select reason from saga.intent where verb = 'cancel'"),
                        "changed my mind");
    assert_int_equal(
        sagapost_saga_cancel(connection, "018f0000-0000-7000-8000-000000000000", NULL, &error),
        SAGAPOST_ERROR_REFUSED);
}

/* The command that `saga` sent, as its bytes; `round` and `operation` may be changed. */
static size_t command_of(char *out, size_t out_bytes, const char *operation, int round)
{
    char sql[1000];
    snprintf(sql, sizeof(sql),
             "select jsonb_set(jsonb_set(payload::jsonb, '{saga,operation}', '\"%s\"'),"
             " '{saga,round}', '%d') from outbox.message where routing_key = 'hotel.book'"
             " and payload #>> '{saga,id}' = '%s'",
             operation, round, saga);
    snprintf(out, out_bytes, "%s", value_of(sql));
    return strlen(out);
}

static const char *last_outcome(void)
{
    return value_of("select payload ->> 'outcome' from outbox.message"
                    " where payload -> 'outcome' is not null order by id desc limit 1");
}

static void take_part(void **state)
{
    (void)state;
    char command[2000];
    size_t bytes = command_of(command, sizeof(command), "action", 1);
    struct sagapost_received received = {0};
    bool recorded;

    assert_int_equal(sagapost_saga_receive(connection, command, bytes, false, &received, &error),
                     SAGAPOST_ERROR_USAGE); /* no transaction */
    /* A business no, its work rolled back. */
    value_of("begin");
    must(sagapost_saga_receive(connection, command, bytes, false, &received, &error));
    assert_int_equal(received.verdict, SAGAPOST_VERDICT_EXECUTE);
    assert_non_null(strstr(received.input, "nights"));
    assert_null(received.reply);
    sagapost_received_free(&received);
    value_of("savepoint work");
    value_of("rollback to work");
    must(sagapost_saga_reply_failure(connection, command, bytes, SAGAPOST_OUTCOME_FAILED, "no_room",
                                     "full \"house\"", NULL, &recorded, &error));
    assert_true(recorded);
    value_of("commit");
    assert_string_equal(last_outcome(), "failed");
    assert_string_equal(value_of("select payload #>> '{error,message}' from outbox.message"
                                 " where payload ->> 'outcome' = 'failed'"),
                        "full \"house\"");
    /* The next round works; what comes after it is a repeat. */
    bytes = command_of(command, sizeof(command), "action", 2);
    value_of("begin");
    must(sagapost_saga_receive(connection, command, bytes, false, &received, &error));
    assert_int_equal(received.verdict, SAGAPOST_VERDICT_EXECUTE);
    sagapost_received_free(&received);
    must(sagapost_saga_reply(connection, command, bytes, SAGAPOST_OUTCOME_OK, "{\"room\": 7}",
                             &recorded, &error));
    assert_true(recorded);
    value_of("commit");
    value_of("begin");
    must(sagapost_saga_receive(connection, command, bytes, false, &received, &error));
    assert_int_equal(received.verdict, SAGAPOST_VERDICT_REPEATED);
    assert_non_null(strstr(received.reply, "room"));
    sagapost_received_free(&received);
    sagapost_received_free(NULL);
    value_of("commit");
    assert_string_equal(last_outcome(), "ok");
}

static void begin_outside_and_come_back(void **state)
{
    (void)state;
    char command[2000];
    struct sagapost_received received = {0};

    must(sagapost_saga_start(connection, "trip", "{}", NULL, saga, &error));
    size_t bytes = command_of(command, sizeof(command), "action", 1);
    for (int i = 0; i < 2; i++) {
        value_of("begin");
        must(sagapost_saga_receive(connection, command, bytes, true, &received, &error));
        assert_int_equal(received.verdict,
                         i == 0 ? SAGAPOST_VERDICT_EXECUTE : SAGAPOST_VERDICT_RESUME);
        sagapost_received_free(&received);
        value_of("commit");
    }
    char probe[2000];
    size_t probe_bytes = command_of(probe, sizeof(probe), "probe", 1);
    value_of("begin");
    must(sagapost_saga_receive(connection, probe, probe_bytes, true, &received, &error));
    assert_int_equal(received.verdict, SAGAPOST_VERDICT_IN_DOUBT);
    sagapost_received_free(&received);
    must(sagapost_saga_reply(connection, probe, probe_bytes, SAGAPOST_OUTCOME_NOT_EXECUTED, NULL,
                             NULL, &error));
    value_of("commit");
    value_of("begin");
    must(sagapost_saga_receive(connection, command, bytes, true, &received, &error));
    assert_int_equal(received.verdict, SAGAPOST_VERDICT_FENCED);
    sagapost_received_free(&received);
    value_of("commit");
}

/* What the work is told to do. */
static int how_it_goes(void *data, PGconn *given, const struct sagapost_received *command,
                       struct sagapost_answer *answer, struct sagapost_error *why)
{
    const char *how = data;
    assert_ptr_equal(given, connection);
    assert_string_equal(command->saga, saga);
    assert_string_equal(command->step, "book");
    assert_string_equal(command->operation, "action");
    assert_int_equal(command->element, 0);
    assert_non_null(strstr(command->input, "nights"));
    value_of("insert into done values (1)");
    if (strcmp(how, "done") == 0)
        answer->output = strdup("{\"room\": 8}");
    if (strcmp(how, "no JSON") == 0)
        answer->output = strdup("room 8");
    if (strcmp(how, "refused") == 0)
        answer->refusal = "no_room";
    if (strcmp(how, "ends") == 0)
        value_of("commit");
    if (strcmp(how, "lies") == 0)
        PQclear(PQexec(connection, "select 1 / 0"));
    if (strcmp(how, "again") == 0)
        return SAGAPOST_ERROR_AGAIN;
    if (strcmp(how, "lost") == 0) {
        PQclear(PQexec(connection, "select pg_terminate_backend(pg_backend_pid())"));
        return SAGAPOST_ERROR_NO_SERVICE;
    }
    if (strcmp(how, "broken") != 0)
        return 0;
    PGresult *result = PQexec(connection, "select nothing from nowhere");
    int code = sagapost_result_error(connection, result, why);
    PQclear(result);
    return code;
}

static void start_another(void)
{
    must(sagapost_saga_start(connection, "trip", "{\"nights\": 2}", NULL, saga, &error));
}

static const char *carry_out(const char *how, int round, int wanted)
{
    char command[2000];
    size_t bytes = command_of(command, sizeof(command), "action", round);
    value_of("begin");
    int code = sagapost_saga_carry_out(connection, command, bytes, how_it_goes,
                                       (void *)(uintptr_t)how, &error);
    assert_int_equal(code, wanted);
    if (code < 0)
        assert_int_equal(error.code, code);
    value_of(code == 0 ? "commit" : "rollback");
    return last_outcome();
}

static void a_command_is_carried_out(void **state)
{
    (void)state;
    value_of("create table done (n int)");
    start_another();
    const char *nothing = "0";
    assert_string_equal(carry_out("broken", 1, 0), "transient");
    assert_non_null(strstr(
        value_of("select payload::text from outbox.message order by id desc limit 1"), "42P01"));
    carry_out("lies", 1, 0);
    assert_non_null(
        strstr(value_of("select payload::text from outbox.message order by id desc limit 1"),
               "had failed"));
    assert_string_equal(carry_out("no JSON", 1, 0), "transient");
    const char *before = strdup(value_of("select count(*) from outbox.message"));
    carry_out("again", 1, SAGAPOST_ERROR_AGAIN);
    assert_string_equal(value_of("select count(*) from outbox.message"), before);
    free((char *)(uintptr_t)before);
    assert_string_equal(carry_out("refused", 1, 0), "failed");
    assert_string_equal(value_of("select count(*) from done"), nothing);
    assert_string_equal(carry_out("done", 2, 0), "ok");
    assert_string_equal(carry_out("broken", 2, 0), "ok"); /* it was done, and is answered again */
    assert_string_equal(value_of("select count(*) from done"), "1");

    start_another();
    char command[2000];
    size_t bytes = command_of(command, sizeof(command), "action", 1);
    value_of("begin");
    assert_int_equal(
        sagapost_saga_carry_out(connection, command, bytes, how_it_goes, (char[]){"lost"}, &error),
        SAGAPOST_ERROR_LOST);
    PQreset(connection);
    value_of("begin");
    assert_int_equal(
        sagapost_saga_carry_out(connection, "none", 4, how_it_goes, (char[]){"done"}, &error),
        SAGAPOST_ERROR_BAD_DATA);
    value_of("rollback");
    assert_int_equal(sagapost_saga_carry_out(connection, command, bytes, NULL, NULL, &error),
                     SAGAPOST_ERROR_USAGE);
    value_of("begin");
    struct sagapost_received received;
    must(sagapost_saga_receive(connection, command, bytes, true, &received, &error));
    sagapost_received_free(&received);
    value_of("commit");
    assert_string_equal(carry_out("done", 1, 0), "transient"); /* begun outside: not known */
}

static void bad_commands_say_why(void **state)
{
    (void)state;
    struct sagapost_received received = {0};

    value_of("begin");
    assert_int_equal(sagapost_saga_receive(connection, "x", 0, false, &received, &error),
                     SAGAPOST_ERROR_USAGE);
    assert_int_equal(sagapost_saga_reply_failure(connection, "{}", 2, SAGAPOST_OUTCOME_OK, "c",
                                                 NULL, NULL, NULL, &error),
                     SAGAPOST_ERROR_USAGE);
    assert_int_equal(
        sagapost_saga_reply(connection, "{}", 2, (enum sagapost_outcome)9, NULL, NULL, &error),
        SAGAPOST_ERROR_USAGE);
    assert_int_equal(
        sagapost_saga_receive(connection, "{\"saga\": {}}", 12, false, &received, &error),
        SAGAPOST_ERROR_REFUSED);
    value_of("rollback");
    value_of("begin"); /* the length counts, not a NUL */
    assert_int_equal(sagapost_saga_receive(connection, "{}garbage", 9, false, &received, &error),
                     SAGAPOST_ERROR_BAD_DATA);
    value_of("rollback");
    assert_null(received.input);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publish_is_part_of_the_transaction),
        cmocka_unit_test(publish_bytes_as_they_are),
        cmocka_unit_test(bad_messages_say_why),
        cmocka_unit_test(the_connections_state_is_looked_at),
        cmocka_unit_test(accept_once),
        cmocka_unit_test(start_a_saga),
        cmocka_unit_test(signal_and_cancel),
        cmocka_unit_test(take_part),
        cmocka_unit_test(begin_outside_and_come_back),
        cmocka_unit_test(a_command_is_carried_out),
        cmocka_unit_test(bad_commands_say_why),
    };
    if (test_conninfo() == NULL)
        return TEST_SKIPPED;
    return cmocka_run_group_tests(tests, setup, teardown);
}
