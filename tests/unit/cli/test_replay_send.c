/* `sagapost outbox replay` against a broker that confirms, returns, refuses, dies, blocks and says
 * nothing: how many rows are done, why it ended, and what the messages look like. The clock can be
 * turned (clock_gettime and timerfd_settime are wrapped, see meson.build). */
#include "outbox/relay/rows/row.h"
#include "outbox/relay/settings.h"
#include "outbox/runtime/daemon.h"
#include "saga/cli/replay.h"
#include "saga/cli/replay_send.h"
#include "tests/unit/amqp/fake.h"
#include "tests/unit/pg/fake_session.h"
#include "tests/unit/runtime/runtime_test.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* Time ------------------------------------------------------------------------------------------
 */

static _Atomic time_t skipped_s; /* how far the clock is ahead of the machine's */
static _Atomic int timers_armed;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    int failed = __real_clock_gettime(clock, ret_time);
    ret_time->tv_sec += skipped_s;
    return failed;
}

int __real_timerfd_settime(int fd, int flags, const struct itimerspec *spec,
                           struct itimerspec *old);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *spec,
                           struct itimerspec *old);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *spec, struct itimerspec *old)
{
    struct itimerspec moved = *spec;
    timers_armed++;
    if (moved.it_value.tv_sec > skipped_s)
        moved.it_value.tv_sec -= skipped_s;
    return __real_timerfd_settime(fd, flags, &moved, old);
}

/* Set-up ----------------------------------------------------------------------------------------
 */

static const struct setting settings[] = {{"rate", SETTING_COUNT, "0", 0, 1000000, 0, "", NULL},
                                          {"to-exchange", SETTING_TEXT, NULL, 0, 0, 0, "", NULL},
                                          SETTINGS_OF_MESSAGES,
                                          {0}};

static struct fake fake;
static struct cli cli;
static struct routes *routes;
static struct sender *sender;
static struct error error;
static int done;
static int standard_error; /* a file that the sender's messages for people go to */

/* `flag`: of the command line, or NULL. */
static int begin(void (*script)(struct fake *fake), const char *flag)
{
    static const struct setting *const tables[] = {settings, connection_settings, NULL};
    char program[] = "sagapost", given[64], amqp[256],
         heartbeat[] = "SAGAPOST_AMQP_HEARTBEAT=10min";
    char *words[] = {program, given, NULL}, *variables[] = {amqp, heartbeat, NULL};

    skipped_s = 0;
    error_clear(&error);
    fake_init(&fake);
    fake_start(&fake, script);
    snprintf(given, sizeof(given), "%s", flag ? flag : "--rate=0");
    snprintf(amqp, sizeof(amqp), "SAGAPOST_AMQP=%s", fake.uri);
    memset(&cli, 0, sizeof(cli));
    if (config_create(&cli.config, &tables[0], &error) < 0 ||
        config_load(cli.config, 2, words, variables, &error) < 0 ||
        routes_create(&routes, "", false, &error) < 0)
        fail_msg("%s", error.message);
    return sender_create(&sender, &cli, routes, &error);
}

static void end(void)
{
    sender_destroy(sender);
    sender = NULL;
    fake_finish(&fake);
    routes_destroy(routes);
    config_destroy(cli.config);
}

/* Rows with the ids 1, 2, ... to the exchange "x"; the one with the number `bad` has headers that
 * cannot be carried. */
static struct pg_result *rows_of(int count, int bad)
{
    struct pg_result *rows = fake_result("IuTttttttttttbi");

    for (int i = 1; i <= count; i++) {
        struct uuid id = {.bytes = {[15] = (uint8_t)i}};
        fake_row(rows, (int64_t)i, &id, (int64_t)0, "type", "key", "x", "k",
                 i == bad ? "{\"a\": {\"deep\": 1}}" : NULL, "{}", NULL, NULL, NULL, NULL, 1, 2);
    }
    return rows;
}

static int send_rows(int count, int bad)
{
    struct pg_result *rows = rows_of(count, bad);
    int failed = sender_send(sender, rows, &done, &error);

    pg_result_free(rows);
    return failed;
}

/* What the broker does ----------------------------------------------------------------------------
 */

/* Reads one message; its header frame is in f->frame until the next is read. */
static void expect_publish(struct fake *f, const char *exchange)
{
    fake_expect(f, 1, AMQP_BASIC_PUBLISH_METHOD);
    if (!memmem(f->frame.payload, f->frame.bytes, exchange, strlen(exchange)))
        fake_fail(f, "the message goes elsewhere");
    fake_read(f);
    struct fake_frame header = f->frame;
    fake_read(f);
    f->frame = header;
}

static void expect_publishes(struct fake *f, int count)
{
    for (int i = 0; i < count; i++)
        expect_publish(f, "x");
}

static void expect_in_header(struct fake *f, const char *text)
{
    if (!memmem(f->frame.payload, f->frame.bytes, text, strlen(text)))
        fake_fail(f, "a header is missing");
}

static void send_return(struct fake *f, const char *id)
{
    fake_send_return(f, id, 2);
    fake_send_body(f, 1, "{}");
}

static void confirms_two_batches(struct fake *f)
{
    fake_up(f);
    for (int i = 0; i < 3; i++) {
        expect_publish(f, "audit");
        expect_in_header(f, "sagapost-replayed");
        expect_in_header(f, "sagapost-replayed-at");
    }
    fake_send_ack(f, 2, false);
    fake_send_ack(f, 3, true);
    expect_publish(f, "audit");
    fake_send_ack(f, 4, false);
    fake_goodbye(f);
}

static void test_batches_are_confirmed(void **state)
{
    (void)state;
    assert_int_equal(begin(confirms_two_batches, "--to-exchange=audit"), 0);
    assert_int_equal(send_rows(0, 0), 0); /* nothing to do is done */
    assert_int_equal(done, 0);
    assert_int_equal(send_rows(3, 0), 0);
    assert_int_equal(done, 3);
    assert_int_equal(send_rows(1, 0), 0);
    assert_int_equal(done, 1);
    end();
}

static void returns_the_second(struct fake *f)
{
    fake_up(f);
    expect_publishes(f, 3);
    fake_send_ack(f, 1, false);
    fake_send_ack(f, 3, false);
    send_return(f, "00000000-0000-0000-0000-000000000002");
    fake_send_ack(f, 2, false);
    fake_goodbye(f);
}

/* The third is confirmed, but whoever goes on after what is done must not leave the second out. */
static void test_a_returned_message_ends_it(void **state)
{
    (void)state;
    assert_int_equal(begin(returns_the_second, NULL), 0);
    assert_int_equal(send_rows(3, 0), ERROR_AMQP);
    assert_int_equal(done, 1);
    assert_contains(error.message, "message 00000000-0000-0000-0000-000000000002 was "
                                   "returned");
    assert_int_equal(send_rows(1, 0), ERROR_AMQP); /* it is over */
    assert_int_equal(done, 0);
    end();
}

static void nacks_the_first(struct fake *f)
{
    amqp_basic_nack_t nack = {.delivery_tag = 1};

    fake_up(f);
    expect_publishes(f, 1);
    fake_send(f, 1, AMQP_BASIC_NACK_METHOD, &nack);
    fake_goodbye(f);
}

static void test_a_refused_message_ends_it(void **state)
{
    (void)state;
    assert_int_equal(begin(nacks_the_first, NULL), 0);
    assert_int_equal(send_rows(1, 0), ERROR_AMQP);
    assert_int_equal(done, 0);
    assert_int_equal(error.retry, RETRY_POISON);
    assert_contains(error.message, "000000000001 was refused by the broker");
    end();
}

static void dies_after_one_confirm(struct fake *f)
{
    fake_up(f);
    expect_publishes(f, 3);
    fake_send_ack(f, 1, false);
    fake_close(f);
}

static void test_a_lost_connection_ends_it(void **state)
{
    (void)state;
    assert_int_equal(begin(dies_after_one_confirm, NULL), 0);
    assert_true(send_rows(3, 0) < 0);
    assert_int_equal(done, 1);
    assert_int_equal(error.retry, RETRY_RECONNECT);
    end();
}

static void closes_the_channel(struct fake *f)
{
    fake_up(f);
    expect_publishes(f, 1);
    fake_send_close(f, 1, 404, "NOT_FOUND - no exchange 'x' in vhost '/'");
    fake_expect_eof(f);
}

static void test_an_exchange_that_is_not_there_is_named(void **state)
{
    (void)state;
    assert_int_equal(begin(closes_the_channel, NULL), 0);
    assert_true(send_rows(1, 0) < 0);
    assert_int_equal(done, 0);
    assert_int_equal(error.amqp_code, 404);
    assert_contains(error.message, "no exchange 'x'");
    end();
}

static void refuses_the_login(struct fake *f)
{
    fake_accept(f);
    fake_close(f);
}

static void test_no_broker_is_said(void **state)
{
    (void)state;
    assert_int_equal(begin(refuses_the_login, NULL), 0);
    assert_true(send_rows(1, 0) < 0);
    assert_int_equal(done, 0);
    assert_true(strlen(error.message) > 0);
    end();
}

static void confirms_twice(struct fake *f)
{
    fake_up(f);
    expect_publishes(f, 2);
    fake_send_ack(f, 1, false);
    fake_send_ack(f, 1, false);
    fake_expect_eof(f);
}

static void test_a_confirm_too_many_ends_it(void **state)
{
    (void)state;
    assert_int_equal(begin(confirms_twice, NULL), 0);
    assert_true(send_rows(2, 0) < 0);
    assert_int_equal(done, 1);
    assert_contains(error.message, "a confirm for a message that was not sent");
    end();
}

static void returns_what_was_not_sent(struct fake *f)
{
    fake_up(f);
    expect_publishes(f, 1);
    send_return(f, "another");
    fake_expect_eof(f);
}

static void test_a_return_of_nothing_ends_it(void **state)
{
    (void)state;
    assert_int_equal(begin(returns_what_was_not_sent, NULL), 0);
    assert_true(send_rows(1, 0) < 0);
    assert_int_equal(done, 0);
    assert_contains(error.message, "a message came back that was not sent");
    end();
}

static int signal_to_send;

static void interrupts(struct fake *f)
{
    fake_up(f);
    expect_publishes(f, 2);
    kill(getpid(), signal_to_send); /* blocked in every thread: the loop reads it */
    fake_goodbye(f);
}

static void test_an_interrupt_ends_it(void **state)
{
    static const int signals[] = {SIGINT, SIGTERM};
    sigset_t blocked;

    (void)state;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &blocked, NULL), 0); /* the broker's thread too */
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        signal_to_send = signals[i];
        assert_int_equal(begin(interrupts, NULL), 0);
        assert_int_equal(send_rows(2, 0), ERROR_STATE);
        assert_int_equal(done, 0);
        assert_contains(error.message, strsignal(signals[i]));
        end();
    }
}

static void says_nothing(struct fake *f)
{
    fake_up(f);
    expect_publishes(f, 1);
    skipped_s = 61;
    fake_goodbye(f);
}

static void test_silence_has_a_limit(void **state)
{
    (void)state;
    assert_int_equal(begin(says_nothing, NULL), 0);
    assert_int_equal(send_rows(1, 0), ERROR_TIMEOUT);
    assert_int_equal(done, 0);
    assert_contains(error.message, "confirmed nothing for 60 s");
    end();
}

/* Until the sender's timer has been armed a few times more: it has looked at the time. */
static void wait_for_looks(struct fake *f)
{
    int seen = timers_armed;

    for (int i = 0; timers_armed < seen + 3; i++) {
        if (i == 10000)
            fake_fail(f, "the sender does not look at the time");
        usleep(1000);
    }
}

static void blocks(struct fake *f)
{
    amqp_connection_blocked_t blocked = {.reason = amqp_cstring_bytes("low on memory")};
    amqp_connection_unblocked_t unblocked = {0};

    fake_up(f);
    expect_publishes(f, 1);
    fake_send(f, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
    for (int i = 0; !strstr(read_back(standard_error), "blocks publishers (low on memory)"); i++) {
        if (i == 10000)
            fake_fail(f, "the sender does not say that it is blocked");
        usleep(1000);
    }
    skipped_s = 61;
    wait_for_looks(f);
    fake_send(f, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, &unblocked);
    fake_send_ack(f, 1, false);
    fake_goodbye(f);
}

/* A broker that is low on memory says so: that is no silence. */
static void test_a_blocked_broker_is_waited_for(void **state)
{
    int before = dup(STDERR_FILENO), failed;

    (void)state;
    standard_error = memfd_create("stderr", MFD_CLOEXEC);
    assert_true(before >= 0 && standard_error >= 0);
    assert_int_equal(begin(blocks, NULL), 0);
    assert_int_equal(dup2(standard_error, STDERR_FILENO), STDERR_FILENO);
    failed = send_rows(1, 0);
    assert_int_equal(dup2(before, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(failed, 0);
    assert_int_equal(done, 1);
    end();
    close(standard_error);
    close(before);
}

static void hears_nothing(struct fake *f)
{
    fake_up(f);
    fake_goodbye(f);
}

static void test_a_row_that_cannot_be_carried_is_named(void **state)
{
    (void)state;
    assert_int_equal(begin(hears_nothing, NULL), 0);
    assert_true(send_rows(2, 1) < 0);
    assert_int_equal(done, 0);
    assert_memory_equal(error.message, "row 1 of the log: ", 18);
    end();
}

static void counts_time(struct fake *f)
{
    int64_t began_us;

    fake_accept(f);
    began_us = clock_monotonic_us(&clock_system);
    fake_login(f);
    fake_channel(f);
    expect_publishes(f, 1);
    wait_for_looks(f);
    struct pollfd more = {.fd = f->fd, .events = POLLIN};
    if (poll(&more, 1, 0) > 0 && clock_monotonic_us(&clock_system) - began_us < US_PER_S / 2)
        fake_fail(f, "faster than the rate");
    skipped_s = 1;
    expect_publishes(f, 1);
    fake_send_ack(f, 2, true);
    fake_goodbye(f);
}

static void test_the_rate_holds(void **state)
{
    (void)state;
    assert_int_equal(begin(counts_time, "--rate=1"), 0);
    if (send_rows(2, 0) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(done, 2);
    end();
}

static int create_and_destroy(struct error *ret_error)
{
    int failed = sender_create(&sender, &cli, routes, ret_error);

    if (failed == 0)
        sender_destroy(sender);
    sender = NULL;
    return failed;
}

static void does_nothing(struct fake *f)
{
    (void)f;
}

static void test_no_memory(void **state)
{
    (void)state;
    assert_int_equal(begin(does_nothing, NULL), 0);
    sender_destroy(sender);
    sender = NULL;
    assert_true(each_allocation_fails(create_and_destroy) > 5);
    sender_destroy(NULL);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_are_confirmed),
        cmocka_unit_test(test_a_returned_message_ends_it),
        cmocka_unit_test(test_a_refused_message_ends_it),
        cmocka_unit_test(test_a_lost_connection_ends_it),
        cmocka_unit_test(test_an_exchange_that_is_not_there_is_named),
        cmocka_unit_test(test_no_broker_is_said),
        cmocka_unit_test(test_a_confirm_too_many_ends_it),
        cmocka_unit_test(test_a_return_of_nothing_ends_it),
        cmocka_unit_test(test_silence_has_a_limit),
        cmocka_unit_test(test_a_blocked_broker_is_waited_for),
        cmocka_unit_test(test_a_row_that_cannot_be_carried_is_named),
        cmocka_unit_test(test_the_rate_holds),
        cmocka_unit_test(test_an_interrupt_ends_it),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
