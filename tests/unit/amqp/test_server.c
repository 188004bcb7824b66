/* Against a real RabbitMQ: SAGAPOST_TEST_AMQP is its URI. The names it uses begin with "t." and the
 * process id; what it declares goes with its connection or at the end of the test. */
#include "tests/unit/amqp/library.h"
#include "tests/unit/amqp/recorder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *server_uri;
static struct recorder recorder;

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

static void begin(void (*on_up)(struct recorder *recorder))
{
    recorder_init(&recorder, server_uri);
    recorder.on_up = on_up;
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
}

static void declare_queue(struct recorder *r)
{
    struct error error = {0};

    must(broker_declare_queue(r->broker, name_of("q"), false, true, NULL, 0, &error), &error);
}

static void consume(struct recorder *r)
{
    struct error error = {0};

    declare_queue(r);
    must(broker_consume(r->broker, name_of("q"), "consumer", false, 10, &error), &error);
}

static void test_publishes_and_confirms(void **state)
{
    int published = 0;

    (void)state;
    begin(declare_queue);
    while (published < 10000) {
        while (published < 10000 && published - recorder.acked < 500 &&
               broker_can_publish(recorder.broker)) {
            published++;
            assert_int_equal(recorder_publish(&recorder, "", name_of("q"), "id"), published);
        }
        recorder_turn(&recorder, 10 * US_PER_MS);
    }
    recorder_wait(&recorder, recorder.acked == 10000);
    assert_int_equal(recorder.nacked + recorder.returns + recorder.downs, 0);
    recorder_free(&recorder);
}

static void test_consumes_and_acknowledges(void **state)
{
    (void)state;
    begin(consume);
    recorder.acknowledge = true;
    for (int i = 0; i < 100; i++)
        recorder_publish(&recorder, "", name_of("q"), "the-id");
    recorder_wait(&recorder, recorder.deliveries == 100 && recorder.acked == 100);
    assert_string_equal(recorder.delivery_id, "the-id");
    assert_string_equal(recorder.delivery_type, "test.message");
    assert_int_equal(recorder.delivery_body_bytes, 5);
    assert_memory_equal(recorder.delivery_body, "hello", 5);
    assert_int_equal(recorder.delivery_tag, 100);
    assert_false(recorder.redelivered);
    recorder_free(&recorder);
}

/* Prefetch is a promise of the broker's that batches rest on. */
static void test_prefetch(void **state)
{
    (void)state;
    begin(consume);
    for (int i = 0; i < 30; i++)
        recorder_publish(&recorder, "", name_of("q"), "id");
    recorder_wait(&recorder, recorder.acked == 30 && recorder.deliveries == 10);
    broker_ack(recorder.broker, 10, true);
    recorder_wait(&recorder, recorder.deliveries == 20);
    broker_ack(recorder.broker, 20, true);
    recorder_wait(&recorder, recorder.deliveries == 30);
    recorder_free(&recorder);
}

static void test_a_large_message_there_and_back(void **state)
{
    static uint8_t body[5 << 20];
    const char *queue = name_of("q");
    const struct broker_header header = {
        .name = text_of("h"), .kind = BROKER_TEXT, .text = text_of("v")};
    const struct broker_message message = {.routing_key = text_of(queue),
                                           .message_id = text_of("large"),
                                           .reply_to = text_of("there"),
                                           .headers = &header,
                                           .header_count = 1,
                                           .body = body,
                                           .body_bytes = sizeof(body)};
    struct error error = {0};
    uint64_t tag;

    (void)state;
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (uint8_t)(i * 17 + i / 4099);
    begin(consume);
    must(broker_publish(recorder.broker, &message, &tag, &error), &error);
    recorder_wait(&recorder, recorder.deliveries == 1 && recorder.acked == 1);
    assert_int_equal(recorder.delivery_body_bytes, sizeof(body));
    assert_memory_equal(recorder.delivery_body, body, sizeof(body));
    assert_string_equal(recorder.delivery_id, "large");
    assert_string_equal(recorder.delivery_reply_to, "there");
    recorder_free(&recorder);
}

static void test_unroutable(void **state)
{
    (void)state;
    begin(NULL);
    recorder_publish(&recorder, "", name_of("nobody"), "lost");
    recorder_wait(&recorder, recorder.acked == 1);
    assert_int_equal(recorder.returns, 1);
    assert_true(recorder.return_before_confirm);
    assert_int_equal(recorder.return_code, 312);
    assert_string_equal(recorder.returned_id, "lost");
    recorder_free(&recorder);
}

static void declare_full_queue(struct recorder *r)
{
    const struct broker_argument arguments[] = {{.name = "x-max-length", .integer = 1},
                                                {.name = "x-overflow", .text = "reject-publish"}};
    struct error error = {0};

    must(broker_declare_queue(r->broker, name_of("q"), false, true, arguments, 2, &error), &error);
}

static void test_nacked_by_a_full_queue(void **state)
{
    (void)state;
    begin(declare_full_queue);
    for (int i = 0; i < 20; i++) {
        recorder_publish(&recorder, "", name_of("q"), "id");
        recorder_wait(&recorder, recorder.acked + recorder.nacked == i + 1);
    }
    assert_true(recorder.acked >= 1);
    assert_true(recorder.nacked >= 1);
    assert_int_equal(recorder.downs, 0);
    recorder_free(&recorder);
}

static void look_for_the_exchange(struct recorder *r)
{
    struct error error = {0};
    bool exists = true;

    if (r->ups == 2) {
        must(broker_exchange_exists(r->broker, name_of("nowhere"), &exists, &error), &error);
        assert_false(exists);
        must(broker_exchange_exists(r->broker, "amq.topic", &exists, &error), &error);
        assert_true(exists);
    }
    declare_queue(r);
}

static void test_a_missing_exchange(void **state)
{
    (void)state;
    begin(look_for_the_exchange);
    recorder_publish(&recorder, "", name_of("q"), "1");
    recorder_publish(&recorder, name_of("nowhere"), "k", "2");
    for (int i = 0; i < 1000; i++)
        recorder_publish(&recorder, "", name_of("q"), "3");
    recorder_wait(&recorder, recorder.ups == 2);
    assert_int_equal(recorder.downs, 1);
    assert_int_equal(recorder.channel_downs, 1);
    assert_int_equal(recorder.why.amqp_code, 404);
    /* The queue is exclusive: that it is still ours shows that the connection is the same one. */
    recorder.acked = 0;
    assert_int_equal(recorder_publish(&recorder, "", name_of("q"), "1"), 1);
    recorder_wait(&recorder, recorder.acked == 1);
    recorder_free(&recorder);
}

static void test_many_channels_one_after_the_other(void **state)
{
    (void)state;
    begin(NULL);
    for (int i = 1; i <= 10; i++) {
        recorder_publish(&recorder, name_of("nowhere"), "k", "id");
        recorder_wait(&recorder, recorder.ups == i + 1);
    }
    assert_int_equal(recorder.channel_downs, 10);
    assert_int_equal(recorder.downs, 10);
    recorder_free(&recorder);
}

static void consume_with_a_dead_letter_queue(struct recorder *r)
{
    const struct broker_argument arguments[] = {
        {.name = "x-dead-letter-exchange", .text = ""},
        {.name = "x-dead-letter-routing-key", .text = name_of("dead")}};
    struct error error = {0};

    must(broker_declare_queue(r->broker, name_of("dead"), false, true, NULL, 0, &error), &error);
    must(broker_declare_queue(r->broker, name_of("q"), false, true, arguments, 2, &error), &error);
    must(broker_consume(r->broker, name_of("q"), "live", false, 10, &error), &error);
    must(broker_consume(r->broker, name_of("dead"), "dead", false, 10, &error), &error);
}

static void reject_the_living(struct recorder *r)
{
    if (!strcmp(r->delivery_key, name_of("q")))
        broker_reject(r->broker, r->delivery_tag);
    else
        broker_ack(r->broker, r->delivery_tag, false);
}

static void test_rejected_to_the_dead_letters(void **state)
{
    (void)state;
    recorder_init(&recorder, server_uri);
    recorder.on_up = consume_with_a_dead_letter_queue;
    recorder.on_delivery = reject_the_living;
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    recorder_publish(&recorder, "", name_of("q"), "bad");
    recorder_wait(&recorder, recorder.deliveries == 2);
    assert_string_equal(recorder.delivery_key, name_of("dead"));
    assert_string_equal(recorder.delivery_id, "bad");
    recorder_free(&recorder);
}

static void consume_from_a_shared_queue(struct recorder *r)
{
    const struct broker_argument expires = {.name = "x-expires", .integer = 60000};
    struct error error = {0};

    must(broker_declare_queue(r->broker, name_of("shared"), false, false, &expires, 1, &error),
         &error);
    must(broker_bind_queue(r->broker, name_of("shared"), "amq.topic", name_of("#"), &error),
         &error);
    must(broker_consume(r->broker, name_of("shared"), "the consumer", false, 10, &error), &error);
}

static void test_a_queue_that_is_deleted(void **state)
{
    (void)state;
    begin(consume_from_a_shared_queue);
    recorder_publish(&recorder, "amq.topic", name_of("anything"), "id");
    recorder_wait(&recorder, recorder.deliveries == 1);
    library_delete_queue(server_uri, name_of("shared"));
    recorder_wait(&recorder, recorder.cancels == 1);
    assert_string_equal(recorder.cancelled, "the consumer");
    assert_true(broker_is_up(recorder.broker));
    recorder_free(&recorder);
}

/* What was not acknowledged comes again, and says so. */
static void test_redelivered_after_a_reconnect(void **state)
{
    (void)state;
    begin(consume_from_a_shared_queue);
    recorder_publish(&recorder, "", name_of("shared"), "once more");
    recorder_wait(&recorder, recorder.deliveries == 1);
    assert_false(recorder.redelivered);
    broker_reconnect(recorder.broker, "the test wants it");
    recorder_wait(&recorder, recorder.ups == 2 && recorder.deliveries == 2);
    assert_true(recorder.redelivered);
    assert_string_equal(recorder.delivery_id, "once more");
    broker_ack(recorder.broker, recorder.delivery_tag, false);
    recorder_free(&recorder); /* the acknowledgement goes out before the end */
    assert_int_equal(library_queue_length(server_uri, name_of("shared")), 0);
    library_delete_queue(server_uri, name_of("shared"));
}

static void ask_for_anothers_queue(struct recorder *r)
{
    int64_t messages = -1, consumers = -1;
    struct error error = {0};
    bool exists = false;

    if (r->ups > 1)
        return;
    must(broker_queue_exists(r->broker, name_of("q"), &exists, NULL, NULL, &error), &error);
    assert_true(exists);
    must(broker_queue_exists(r->broker, name_of("none"), &exists, &messages, &consumers, &error),
         &error);
    assert_false(exists);
    assert_int_equal(broker_declare_queue(r->broker, name_of("q"), false, true, NULL, 0, &error),
                     ERROR_AMQP);
    assert_int_equal(error.amqp_code, 405);
}

static void test_a_queue_that_is_anothers(void **state)
{
    struct recorder other;

    (void)state;
    begin(declare_queue);
    recorder_init(&other, server_uri);
    other.on_up = ask_for_anothers_queue;
    recorder_start(&other);
    recorder_wait(&other, other.ups == 2);
    assert_int_equal(other.channel_downs, 1);
    assert_int_equal(other.why.amqp_code, 405);
    recorder_free(&other);
    recorder_free(&recorder);
}

static void test_heartbeats_keep_an_idle_connection(void **state)
{
    int64_t end_us;

    (void)state;
    recorder_init(&recorder, server_uri);
    recorder.options.heartbeat_s = 2;
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    /* The broker hangs up after four to six silent seconds, and so would we. */
    end_us = clock_monotonic_us(&clock_system) + 8 * US_PER_S;
    recorder_wait(&recorder, clock_monotonic_us(&clock_system) > end_us);
    assert_int_equal(recorder.downs, 0);
    recorder_publish(&recorder, "", name_of("nobody"), "id");
    recorder_wait(&recorder, recorder.acked == 1);
    recorder_free(&recorder);
}

static void expect_no_login(const char *uri, int code, const char *says)
{
    recorder_init(&recorder, uri);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs >= 1);
    assert_int_equal(recorder.why.amqp_code, code);
    assert_int_equal(recorder.why.retry, RETRY_NEVER);
    if (!strstr(recorder.why.message, says))
        fail_msg("'%s' does not say '%s'", recorder.why.message, says);
    assert_null(strstr(recorder.why.message, "wrong-secret"));
    recorder_free(&recorder);
}

static void test_no_login(void **state)
{
    const char *host = strchr(server_uri, '@');
    char authority[256], uri[512];

    (void)state;
    assert_non_null(host);
    snprintf(authority, sizeof(authority), "%.*s", (int)strcspn(host + 1, "/"), host + 1);
    snprintf(uri, sizeof(uri), "amqp://guest:wrong-secret@%s/%%2f", authority);
    expect_no_login(uri, 403, "user 'guest', vhost '/'");
    snprintf(uri, sizeof(uri), "%.*s@%s/no-such-vhost", (int)(host - server_uri), server_uri,
             authority);
    expect_no_login(uri, 530, "vhost 'no-such-vhost'");
    snprintf(uri, sizeof(uri), "%.*s@%s/", (int)(host - server_uri), server_uri, authority);
    expect_no_login(uri, 530, "the URI ends in '/'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publishes_and_confirms),
        cmocka_unit_test(test_consumes_and_acknowledges),
        cmocka_unit_test(test_prefetch),
        cmocka_unit_test(test_a_large_message_there_and_back),
        cmocka_unit_test(test_unroutable),
        cmocka_unit_test(test_nacked_by_a_full_queue),
        cmocka_unit_test(test_a_missing_exchange),
        cmocka_unit_test(test_many_channels_one_after_the_other),
        cmocka_unit_test(test_rejected_to_the_dead_letters),
        cmocka_unit_test(test_a_queue_that_is_deleted),
        cmocka_unit_test(test_redelivered_after_a_reconnect),
        cmocka_unit_test(test_a_queue_that_is_anothers),
        cmocka_unit_test(test_heartbeats_keep_an_idle_connection),
        cmocka_unit_test(test_no_login),
    };

    server_uri = getenv("SAGAPOST_TEST_AMQP");
    if (!server_uri || !*server_uri) {
        puts("1..0 # SKIP SAGAPOST_TEST_AMQP is not set");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
