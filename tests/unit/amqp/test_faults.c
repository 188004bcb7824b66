/* Every call of the system and of rabbitmq-c that can fail does so once, at every place where a
 * session makes it: the linker sends the calls here (--wrap, see meson.build). Whatever fails,
 * either the session is not created, with an error that says why, or it does its work in the end.
 */
#include "tests/unit/amqp/fake.h"
#include "tests/unit/amqp/recorder.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

static struct {
    const char *function;
    int countdown;
    int error_number;
    bool fired;
} fault;

static _Thread_local bool under_test; /* the fake broker's thread is spared */

static bool fails(const char *function)
{
    if (!under_test || !fault.function || strcmp(fault.function, function) != 0 ||
        --fault.countdown != 0)
        return false;
    fault.fired = true;
    errno = fault.error_number;
    return true;
}

/* `bad` is what the function returns when it fails. */
#define WRAP(type, bad, name, parameters, arguments)                                               \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fails(#name) ? (bad) : __real_##name arguments;                                     \
    }

WRAP(void *, NULL, malloc, (size_t bytes), (bytes))
WRAP(void *, NULL, calloc, (size_t count, size_t bytes), (count, bytes))
WRAP(char *, NULL, strdup, (const char *text), (text))
WRAP(int, EAI_MEMORY, getaddrinfo,
     (const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **list),
     (host, port, hints, list))
WRAP(int, -1, socket, (int family, int type, int protocol), (family, type, protocol))
WRAP(int, -1, setsockopt, (int fd, int level, int name, const void *value, socklen_t bytes),
     (fd, level, name, value, bytes))
WRAP(int, -1, getsockopt, (int fd, int level, int name, void *value, socklen_t *bytes),
     (fd, level, name, value, bytes))
WRAP(int, -1, connect, (int fd, const struct sockaddr *address, socklen_t bytes),
     (fd, address, bytes))
WRAP(ssize_t, -1, send, (int fd, const void *bytes, size_t count, int flags),
     (fd, bytes, count, flags))
WRAP(ssize_t, -1, getrandom, (void *bytes, size_t count, unsigned flags), (bytes, count, flags))
WRAP(int, -1, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event),
     (epfd, op, fd, event))
WRAP(amqp_connection_state_t, NULL, amqp_new_connection, (void), ())
WRAP(amqp_socket_t *, NULL, amqp_tcp_socket_new, (amqp_connection_state_t connection), (connection))
WRAP(int, AMQP_STATUS_INVALID_PARAMETER, amqp_set_rpc_timeout,
     (amqp_connection_state_t connection, const struct timeval *timeout), (connection, timeout))
WRAP(int, AMQP_STATUS_NO_MEMORY, amqp_tune_connection,
     (amqp_connection_state_t connection, int channel_max, int frame_max, int heartbeat),
     (connection, channel_max, frame_max, heartbeat))
WRAP(int, AMQP_STATUS_NO_MEMORY, amqp_simple_wait_frame_noblock,
     (amqp_connection_state_t connection, amqp_frame_t *frame, const struct timeval *timeout),
     (connection, frame, timeout))

/* ---- the work ---- */

#define MESSAGES 3

static struct fake fake;
static struct recorder recorder;
static int published, acked_before;

static void asks(struct recorder *r)
{
    struct error error = {0};
    int64_t messages;
    bool exists;

    published = 0;
    acked_before = r->acked;
    if (broker_declare_exchange(r->broker, "x", "topic", true, &error) ||
        broker_declare_queue(r->broker, "q", true, false, NULL, 0, &error) ||
        broker_bind_queue(r->broker, "q", "x", "#", &error) ||
        broker_queue_exists(r->broker, "q", &exists, &messages, NULL, &error) ||
        broker_exchange_exists(r->broker, "x", &exists, &error) ||
        broker_consume(r->broker, "q", "c", false, 10, &error)) {
        assert_false(broker_is_up(r->broker)); /* or the work would stand still */
        assert_true(error.message[0]);
    }
}

static void on_delivery(void *data, const struct broker_delivery *delivery)
{
    struct recorder *r = data;

    r->deliveries++;
    broker_ack(r->broker, delivery->tag, false);
}

static void publish_some(void)
{
    const struct broker_message message = {
        .exchange = text_of("x"), .routing_key = text_of("k"), .body = "hello", .body_bytes = 5};
    struct error error = {0};
    uint64_t tag = 0;

    if (published == MESSAGES || !broker_can_publish(recorder.broker))
        return;
    if (!broker_publish(recorder.broker, &message, &tag, &error))
        assert_int_equal(tag, ++published);
    else
        assert_int_equal(error.retry, RETRY_LATER);
}

static bool worked(void)
{
    publish_some();
    return published == MESSAGES && recorder.acked - acked_before == MESSAGES &&
           recorder.deliveries > 0 && broker_is_fenced(recorder.broker);
}

/* The work with the nth call of `function` failing; false when there were fewer calls. */
static bool work(const char *function, int nth, int error_number)
{
    struct error error = {0};
    int r;

    fake_init(&fake);
    recorder_init(&recorder, fake.uri);
    recorder.on_up = asks;
    recorder.options.on_delivery = on_delivery;
    published = 0;
    fake_start(&fake, fake_serve);

    fault.function = function;
    fault.countdown = nth;
    fault.error_number = error_number;
    fault.fired = false;
    under_test = true;
    r = broker_create(&recorder.broker, recorder.loop, &recorder.options, &error);
    if (r) {
        assert_true(fault.fired);
        assert_int_equal(r, error.code);
        assert_true(error.message[0]);
        recorder.broker = NULL;
    } else {
        broker_fence(recorder.broker, "fence", "beside");
        broker_start(recorder.broker);
        recorder_wait(&recorder, worked());
    }
    recorder_free(&recorder);
    under_test = false;
    fake_end(&fake);
    fake_finish(&fake);
    return fault.fired;
}

static void test_every_call_fails_once(void **state)
{
    static const struct {
        const char *function;
        int error_number;
    } faults[] = {
        {"malloc", ENOMEM},
        {"calloc", ENOMEM},
        {"strdup", ENOMEM},
        {"getaddrinfo", 0},
        {"socket", EMFILE},
        {"setsockopt", ENOPROTOOPT},
        {"getsockopt", ENOBUFS},
        {"connect", ENETUNREACH},
        {"send", EPIPE},
        {"send", EINTR},
        {"send", EAGAIN},
        {"getrandom", ENOSYS},
        {"epoll_ctl", ENOMEM},
        {"amqp_new_connection", 0},
        {"amqp_tcp_socket_new", 0},
        {"amqp_set_rpc_timeout", 0},
        {"amqp_tune_connection", 0},
        {"amqp_simple_wait_frame_noblock", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        int nth = 1;

        while (work(faults[i].function, nth, faults[i].error_number))
            assert_true(++nth < 100);
        if (nth == 1)
            fail_msg("%s is never called", faults[i].function);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_fails_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
