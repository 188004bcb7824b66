/* Against a real RabbitMQ: SAGAPOST_TEST_AMQP is its URI. Everything it makes begins with "t." and
 * the process id, and goes with the connection or with the test. */
#include "tests/unit/amqp/recorder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *server_uri;

static const char *name_of(const char *what)
{
    static char names[8][64];
    static int next;

    next = (next + 1) % 8;
    snprintf(names[next], sizeof(names[next]), "t.%d.%s", (int)getpid(), what);
    return names[next];
}

static void must(int r, const struct error *error)
{
    if (r)
        fail_msg("%s", error->message);
}

static void declare_queue_on_up(struct recorder *r)
{
    struct error error = {0};

    must(broker_declare_queue(r->broker, name_of("q"), false, true, NULL, 0, &error), &error);
}

static void test_publishes_and_confirms(void **state)
{
    struct recorder r;
    int published = 0;

    (void)state;
    recorder_init(&r, server_uri);
    r.on_up = declare_queue_on_up;
    recorder_start(&r);
    recorder_wait(&r, r.ups == 1);
    while (published < 10000) {
        while (published < 10000 && published - r.acked < 500 && broker_can_publish(r.broker)) {
            published++;
            assert_int_equal(recorder_publish(&r, "", name_of("q"), "id"), published);
        }
        recorder_turn(&r, 10 * US_PER_MS);
    }
    recorder_wait(&r, r.acked == 10000);
    assert_int_equal(r.nacked, 0);
    assert_int_equal(r.returns, 0);
    assert_int_equal(r.downs, 0);
    recorder_free(&r);
}

static void consume_on_up(struct recorder *r)
{
    struct error error = {0};

    declare_queue_on_up(r);
    must(broker_consume(r->broker, name_of("q"), "consumer", false, 10, &error), &error);
}

static void test_consumes_and_acknowledges(void **state)
{
    struct recorder r;

    (void)state;
    recorder_init(&r, server_uri);
    r.on_up = consume_on_up;
    r.acknowledge = true;
    recorder_start(&r);
    recorder_wait(&r, r.ups == 1);
    for (int i = 0; i < 100; i++)
        recorder_publish(&r, "", name_of("q"), "the-id");
    recorder_wait(&r, r.deliveries == 100 && r.acked == 100);
    assert_string_equal(r.delivery_id, "the-id");
    assert_string_equal(r.delivery_type, "test.message");
    assert_int_equal(r.delivery_body_bytes, 5);
    assert_memory_equal(r.delivery_body, "hello", 5);
    assert_int_equal(r.delivery_tag, 100);
    assert_false(r.redelivered);
    recorder_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publishes_and_confirms),
        cmocka_unit_test(test_consumes_and_acknowledges),
    };

    server_uri = getenv("SAGAPOST_TEST_AMQP");
    if (!server_uri || !*server_uri) {
        puts("1..0 # SKIP SAGAPOST_TEST_AMQP is not set");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
