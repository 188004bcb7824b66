/* Opening a connection: everything that can go wrong before it is up, and that it is tried again.
 */
#include "tests/unit/amqp/scene.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct fake other;

static void good_end(struct fake *f)
{
    fake_up(f);
    fake_goodbye(f);
}

static void test_logs_in(void **state)
{
    (void)state;
    begin(good_end);
    recorder_start(&recorder);
    assert_false(broker_is_up(recorder.broker));
    assert_false(broker_can_publish(recorder.broker));
    recorder_wait(&recorder, recorder.ups == 1);
    assert_true(broker_can_publish(recorder.broker));
    assert_false(broker_is_blocked(recorder.broker));
    assert_int_equal(broker_attempts(recorder.broker), 0);
    assert_int_equal(recorder.downs, 0);
    finish();
}

static void test_waits_for_a_listener(void **state)
{
    (void)state;
    fake_init(&fake);
    recorder_init(&recorder, fake.uri);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs >= 2);
    assert_true(broker_attempts(recorder.broker) >= 2);
    assert_non_null(strstr(recorder.why.message, "cannot connect to 127.0.0.1"));
    assert_non_null(strstr(recorder.why.message, "refused"));
    assert_int_equal(recorder.why.retry, RETRY_RECONNECT);
    assert_int_equal(recorder.ups, 0);
    fake_start(&fake, good_end);
    recorder_wait(&recorder, recorder.ups == 1);
    finish();
}

static void test_unknown_host(void **state)
{
    /* A label of 64 bytes is no name, so that no server is asked for it. */
    static const char uri[] =
        "amqp://xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

    (void)state;
    recorder_init(&recorder, uri);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_non_null(strstr(recorder.why.message, "cannot resolve the host 'xxxx"));
    recorder_free(&recorder);
}

static void access_refused(struct fake *f)
{
    fake_accept(f);
    fake_login_start(f);
    fake_send_close(f, 0, 403, "ACCESS_REFUSED - Login was refused");
    good_end(f);
}

static void test_access_refused(void **state)
{
    (void)state;
    begin(access_refused);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_int_equal(recorder.why.amqp_code, 403);
    assert_int_equal(recorder.why.retry, RETRY_NEVER);
    assert_non_null(strstr(recorder.why.message, "user 'user'"));
    assert_non_null(strstr(recorder.why.message, "vhost 'vh'"));
    assert_non_null(strstr(recorder.why.message, "127.0.0.1:"));
    assert_non_null(strstr(recorder.why.message, "Login was refused"));
    assert_null(strstr(recorder.why.message, "secret"));
    /* The password may be set right on the broker's side: it is tried again. */
    recorder_wait(&recorder, recorder.ups == 1);
    finish();
}

static void no_such_vhost(struct fake *f)
{
    fake_accept(f);
    fake_login_start(f);
    fake_tune(f);
    fake_send_close(f, 0, 530, "NOT_ALLOWED - vhost  not found");
    good_end(f);
}

static void test_no_such_vhost(void **state)
{
    (void)state;
    begin(no_such_vhost);
    *strrchr(fake.uri, 'v') = 0; /* .../vh becomes .../ */
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs == 1);
    assert_int_equal(recorder.why.amqp_code, 530);
    assert_int_equal(recorder.why.retry, RETRY_NEVER);
    assert_non_null(strstr(recorder.why.message, "vhost ''"));
    assert_non_null(strstr(recorder.why.message, "'/%2f'"));
    recorder_wait(&recorder, recorder.ups == 1);
    finish();
}

static void bad_beginnings(struct fake *f)
{
    static const char http[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    amqp_connection_tune_ok_t wrong = {0};

    fake_accept(f);
    fake_send_bytes(f, http, sizeof(http) - 1);
    fake_expect_eof(f);

    fake_accept(f); /* the answer of another version of the protocol */
    fake_send_bytes(f, "AMQP\0\0\0\1", 8);
    fake_expect_eof(f);

    fake_accept(f);
    fake_login_start(f);
    fake_send(f, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &wrong);
    fake_expect_eof(f);

    fake_accept(f);
    fake_login_start(f);
    fake_reset(f);

    fake_accept(f);
    fake_login_start(f);
    fake_tune(f);
    fake_close(f);

    fake_accept(f);
    fake_login(f);
    fake_expect(f, 1, AMQP_CHANNEL_OPEN_METHOD);
    fake_reset(f);

    f->frame_max = 4096;
    good_end(f);
}

static void test_tries_again_after_any_bad_beginning(void **state)
{
    (void)state;
    begin(bad_beginnings);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    assert_int_equal(recorder.downs, 6);
    assert_int_equal(recorder.channel_downs, 0);
    finish();
}

static void silent_beginnings(struct fake *f)
{
    fake_accept(f);
    fake_expect_eof(f); /* not a word */
    fake_accept(f);
    fake_login_start(f);
    fake_expect_eof(f);
    fake_accept(f);
    fake_login(f);
    fake_expect(f, 1, AMQP_CHANNEL_OPEN_METHOD);
    fake_expect_eof(f);
    good_end(f);
}

static void wait_through_silence(int64_t timeout_us, int64_t timeout_max_us)
{
    begin(silent_beginnings);
    recorder.options.connect_timeout_us = timeout_us;
    recorder.options.connect_timeout_max_us = timeout_max_us;
    recorder_start(&recorder);
    for (int i = 1; i <= 3; i++) {
        recorder_wait(&recorder, recorder.downs == i);
        assert_int_equal(recorder.why.code, ERROR_TIMEOUT);
        assert_int_equal(recorder.why.retry, RETRY_RECONNECT);
    }
    recorder_wait(&recorder, recorder.ups == 1);
    finish();
}

static void test_a_silent_peer_costs_no_more_than_the_timeout(void **state)
{
    (void)state;
    wait_through_silence(US_PER_S, 0); /* the last login has to be done in it */
    wait_through_silence(60 * (int64_t)US_PER_S, US_PER_S);
}

/* Nobody takes the connection: the listener's queue is full, and the kernel answers no more of
 * them. So does a host that is gone. */
static void test_a_connection_that_nobody_takes(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int filling[4];
    char uri[64];

    (void)state;
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 0), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &bytes), 0);
    for (int i = 0; i < 4; i++) {
        filling[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(filling[i], (struct sockaddr *)&address, sizeof(address));
    }
    snprintf(uri, sizeof(uri), "amqp://127.0.0.1:%d/vh", ntohs(address.sin_port));
    recorder_init(&recorder, uri);
    recorder.options.connect_timeout_us = 50 * US_PER_MS;
    recorder_start(&recorder);
    for (int i = 1; i <= 3; i++) {
        recorder_wait(&recorder, recorder.downs == i);
        assert_int_equal(recorder.why.code, ERROR_TIMEOUT);
        assert_int_equal(recorder.why.retry, RETRY_RECONNECT);
        assert_non_null(strstr(recorder.why.message, "no answer"));
    }
    assert_int_equal(broker_attempts(recorder.broker), 3);
    recorder_free(&recorder);
    for (int i = 0; i < 4; i++)
        close(filling[i]);
    close(listener);
}

/* The nodes of a cluster: `fake` and `other`. */
static void begin_cluster(void)
{
    static char uris[300];

    fake_init(&fake);
    fake_init(&other);
    snprintf(uris, sizeof(uris), "%s,%s", fake.uri, other.uri);
    recorder_init(&recorder, uris);
}

static void finish_cluster(void)
{
    finish();
    fake_finish(&other);
}

static void nothing(struct fake *f)
{
    (void)f;
}

static void test_a_node_that_is_down_costs_no_pause(void **state)
{
    (void)state;
    begin_cluster();
    recorder.options.backoff_base_us = recorder.options.backoff_cap_us = 60 * US_PER_S;
    fake_start(&other, good_end);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    assert_int_equal(recorder.downs, 0); /* the attempt was one, and it worked */
    assert_int_equal(broker_attempts(recorder.broker), 0);
    recorder_free(&recorder);
    fake_start(&fake, nothing);
    fake_finish(&fake);
    fake_finish(&other);
}

static void test_all_nodes_are_down(void **state)
{
    (void)state;
    begin_cluster();
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.downs == 2);
    assert_int_equal(broker_attempts(recorder.broker), 2); /* two attempts at two nodes */
    assert_non_null(strstr(recorder.why.message, "none of 2 nodes, at last: cannot connect to"));
    fake_start(&other, good_end);
    recorder_wait(&recorder, recorder.ups == 1);
    recorder_free(&recorder);
    fake_start(&fake, nothing);
    fake_finish(&fake);
    fake_finish(&other);
}

/* Logins are refused there: it is another node that is tried, not this one again. */
static void refused_and_gone(struct fake *f)
{
    fake_accept(f);
    fake_login_start(f);
    fake_send_close(f, 0, 403, "ACCESS_REFUSED - Login was refused");
    fake_expect_eof(f);
}

static void up_and_gone(struct fake *f)
{
    fake_up(f);
    fake_wait(f);
    fake_reset(f);
}

static void test_the_next_node_after_a_loss(void **state)
{
    (void)state;
    begin_cluster();
    fake_start(&fake, up_and_gone);
    fake_start(&other, good_end);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    fake_go(&fake);
    recorder_wait(&recorder, recorder.ups == 2);
    assert_int_equal(recorder.downs, 1);
    finish_cluster();
}

static void test_a_node_that_refuses_the_login(void **state)
{
    (void)state;
    begin_cluster();
    fake_start(&fake, refused_and_gone);
    fake_start(&other, good_end);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    assert_int_equal(recorder.downs, 0);
    finish_cluster();
}

static void dribbled_login(struct fake *f)
{
    f->dribble = true;
    good_end(f);
}

static void test_a_login_byte_by_byte(void **state)
{
    (void)state;
    begin(dribbled_login);
    recorder_start(&recorder);
    recorder_wait(&recorder, recorder.ups == 1);
    assert_int_equal(recorder.downs, 0);
    finish();
}

static void test_what_cannot_be_created(void **state)
{
    struct broker *broker = NULL;
    struct error error;

    (void)state;
    recorder_init(&recorder, "amqp://host:port");
    error_clear(&error);
    assert_int_equal(broker_create(&broker, recorder.loop, &recorder.options, &error), ERROR_USAGE);
    assert_int_equal(error.retry, RETRY_NEVER);
    recorder.options.uri = NULL;
    assert_int_equal(broker_create(&broker, recorder.loop, &recorder.options, &error), ERROR_USAGE);
    recorder.options.uri = "amqp://host";
    recorder.options.heartbeat_s = -1;
    assert_int_equal(broker_create(&broker, recorder.loop, &recorder.options, &error), ERROR_USAGE);
    recorder.options.heartbeat_s = 0;
    recorder.options.out_bytes_max = 0;
    assert_int_equal(broker_create(&broker, recorder.loop, &recorder.options, &error), ERROR_USAGE);
    assert_null(broker);
    /* One that was never started goes as well, and so does none. */
    recorder.options.out_bytes_max = 1;
    assert_int_equal(broker_create(&broker, recorder.loop, &recorder.options, &error), 0);
    broker_reconnect(broker, "nothing to do");
    recorder_turn(&recorder, 0);
    broker_destroy(broker);
    broker_destroy(NULL);
    assert_int_equal(recorder.downs, 0);
    recorder_free(&recorder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logs_in),
        cmocka_unit_test(test_waits_for_a_listener),
        cmocka_unit_test(test_unknown_host),
        cmocka_unit_test(test_access_refused),
        cmocka_unit_test(test_no_such_vhost),
        cmocka_unit_test(test_tries_again_after_any_bad_beginning),
        cmocka_unit_test(test_a_silent_peer_costs_no_more_than_the_timeout),
        cmocka_unit_test(test_a_connection_that_nobody_takes),
        cmocka_unit_test(test_a_node_that_is_down_costs_no_pause),
        cmocka_unit_test(test_all_nodes_are_down),
        cmocka_unit_test(test_the_next_node_after_a_loss),
        cmocka_unit_test(test_a_node_that_refuses_the_login),
        cmocka_unit_test(test_a_login_byte_by_byte),
        cmocka_unit_test(test_what_cannot_be_created),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
