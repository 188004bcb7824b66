/* A real RabbitMQ that is killed, stopped and short of memory. SAGAPOST_TEST_SANDBOX is the folder
 * of docker/sandbox.sh that SAGAPOST_TEST_AMQP points to, SANDBOX_SH the script. */
#include "tests/unit/amqp/library.h"
#include "tests/unit/amqp/recorder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *server_uri, *sandbox, *script;
static bool away, short_of_memory;
static struct recorder recorder;

/* Runs sandbox.sh with these arguments while the loop turns. */
static void sandbox_do(const char *const arguments[])
{
    pid_t child = fork();
    int status = 0;

    assert_true(child >= 0);
    if (!child) {
        union {
            const char *given[10];
            char *const taken[10];
        } list = {.given = {"sh", script}};

        for (int i = 0; arguments[i]; i++)
            list.given[2 + i] = arguments[i];
        execv("/bin/sh", list.taken);
        _exit(127);
    }
    recorder_wait_s(&recorder, 300, waitpid(child, &status, WNOHANG) == child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void rabbitmq(const char *what)
{
    away = true;
    sandbox_do((const char *const[]){"rabbitmq", what, sandbox, NULL});
    away = strcmp(what, "start") != 0;
}

static void watermark(const char *fraction)
{
    short_of_memory = true;
    sandbox_do(
        (const char *const[]){"ctl", sandbox, "set_vm_memory_high_watermark", fraction, NULL});
    short_of_memory = strcmp(fraction, "0.4") != 0;
}

/* NOLINTBEGIN(cert-env33-c): the words are ours */

/* What a test that failed in the middle has left so would fail those of all files after this. */
static int bring_back(void **state)
{
    char command[1000];
    int failed = 0;

    (void)state;
    if (away) {
        snprintf(command, sizeof(command), "sh %s rabbitmq start %s >&2", script, sandbox);
        failed |= system(command);
    }
    if (short_of_memory) {
        snprintf(command, sizeof(command), "sh %s ctl %s set_vm_memory_high_watermark 0.4 >&2",
                 script, sandbox);
        failed |= system(command);
    }
    away = short_of_memory = false;
    return failed;
}
/* NOLINTEND(cert-env33-c) */

static void declare_queue(struct recorder *r)
{
    const struct broker_argument expires = {.name = "x-expires", .integer = 600000};
    struct error error = {0};

    if (broker_declare_queue(r->broker, "t.outage", true, false, &expires, 1, &error))
        fail_msg("%s", error.message);
}

static void begin(void)
{
    recorder_init(&recorder, server_uri);
    recorder.options.heartbeat_s = 3; /* of a machine that may be short of time */
    recorder.on_up = declare_queue;
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
}

static void publish_one(void)
{
    int before = recorder.acked;

    recorder_publish(&recorder, "", "t.outage", "id");
    recorder_wait(&recorder, recorder.acked == before + 1);
}

static void test_killed_and_back(void **state)
{
    (void)state;
    begin();
    publish_one();
    rabbitmq("kill");
    recorder_wait(&recorder, recorder.downs >= 1);
    assert_false(broker_is_up(recorder.broker));
    assert_int_equal(recorder.channel_downs, 0);
    rabbitmq("start");
    recorder_wait(&recorder, recorder.ups == 2);
    publish_one();
    recorder_free(&recorder);
}

static void test_stopped_and_back(void **state)
{
    bool forced = false;

    (void)state;
    begin();
    publish_one();
    rabbitmq("stop");
    recorder_wait(&recorder, recorder.downs >= 1);
    forced = recorder.first_why.amqp_code == 320;
    rabbitmq("start");
    recorder_wait(&recorder, recorder.ups == 2);
    assert_true(forced);
    publish_one();
    recorder_free(&recorder);
}

/* For longer than any heartbeat or timeout of the socket, with more waiting to be sent than the
 * kernel takes. */
static void test_short_of_memory(void **state)
{
    static char body[1 << 20];
    const struct broker_message message = {
        .routing_key = text_of("t.outage"), .body = body, .body_bytes = sizeof(body)};
    struct error error = {0};
    uint64_t tag = 0;
    int64_t end_us;

    (void)state;
    begin();
    watermark("0.00001");
    while (tag < 12) {
        if (broker_can_publish(recorder.broker))
            assert_int_equal(broker_publish(recorder.broker, &message, &tag, &error), 0);
        else
            break;
    }
    recorder_wait(&recorder, recorder.blocks == 1);
    assert_string_equal(recorder.blocked_reason, "low on memory");
    end_us = clock_monotonic_us(&clock_system) + 10 * US_PER_S;
    recorder_wait(&recorder, clock_monotonic_us(&clock_system) > end_us);
    assert_true(broker_is_blocked(recorder.broker));
    assert_int_equal(recorder.downs, 0);
    watermark("0.4");
    recorder_wait(&recorder, recorder.unblocks == 1 && recorder.acked == (int)tag);
    assert_int_equal(recorder.downs, 0);
    publish_one();
    recorder_free(&recorder);
    library_delete_queue(server_uri, "t.outage");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_killed_and_back, bring_back),
        cmocka_unit_test_teardown(test_stopped_and_back, bring_back),
        cmocka_unit_test_teardown(test_short_of_memory, bring_back),
    };

    server_uri = getenv("SAGAPOST_TEST_AMQP");
    sandbox = getenv("SAGAPOST_TEST_SANDBOX");
    script = getenv("SANDBOX_SH");
    if (!server_uri || !*server_uri || !sandbox || !*sandbox || !script) {
        puts("1..0 # SKIP SAGAPOST_TEST_AMQP and SAGAPOST_TEST_SANDBOX are not set");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
