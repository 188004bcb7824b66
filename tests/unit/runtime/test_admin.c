/* admin: the HTTP window, asked over real sockets on the same loop. */
#include "runtime_test.h"

#include "outbox/runtime/admin.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static struct metrics *metrics;
static struct admin *admin;
static struct metric *refreshed;
static bool is_ready;
static const char *reasons;

static void refresh(void *data)
{
    assert_string_equal(data, "data");
    metric_add(refreshed, 1);
}

static bool ready(void *data, struct buffer *ret_reasons)
{
    assert_string_equal(data, "data");
    buffer_append_text(ret_reasons, reasons);
    return is_ready;
}

static int open_admin(const char *listen, bool with_callbacks, struct error *error)
{
    const struct admin_options options = {
        .listen = listen,
        .metrics = metrics,
        .refresh = with_callbacks ? refresh : NULL,
        .ready = with_callbacks ? ready : NULL,
        .data = (void *)(uintptr_t) "data",
    };

    return admin_create(&admin, loop, &options, error);
}

static int create(void **state)
{
    struct error error;

    (void)state;
    reasons = "";
    is_ready = true;
    if (loop_create(&loop, &clock_system, &error) || metrics_create(&metrics, &error))
        return -1;
    refreshed = metrics_get(metrics, METRIC_GAUGE, "sagapost_outbox_refreshed", "r", NULL);
    return 0;
}

static int destroy(void **state)
{
    (void)state;
    admin_destroy(admin);
    admin = NULL;
    metrics_destroy(metrics);
    loop_destroy(loop);
    return 0;
}

/* --- a client ------------------------------------------------------------------------------- */

static int connect_to(int family)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    v4.sin_port = v6.sin6_port = htons((uint16_t)admin_port(admin));
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (family == AF_INET)
        assert_int_equal(connect(fd, (struct sockaddr *)&v4, sizeof(v4)), 0);
    else
        assert_int_equal(connect(fd, (struct sockaddr *)&v6, sizeof(v6)), 0);
    return fd;
}

/* Turns the loop until the other side closes or, unless `part` is NULL, has sent it. */
static const char *receive(int fd, const char *part)
{
    static char answer[1 << 16];
    struct deadline deadline = deadline_start();
    size_t used = 0;
    ssize_t got = -1;

    do {
        must(loop_turn(loop, 1000, &error));
        deadline_check(&deadline, "an HTTP answer");
        got = recv(fd, answer + used, sizeof(answer) - 1 - used, MSG_DONTWAIT);
        if (got > 0)
            used += (size_t)got;
        answer[used] = 0;
    } while (got != 0 && !(part && strstr(answer, part)));
    return answer;
}

static const char *ask(const char *request)
{
    static char answer[1 << 16];
    int fd = connect_to(AF_INET);

    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    snprintf(answer, sizeof(answer), "%s", receive(fd, NULL));
    close(fd);
    return answer;
}

#define CLOSE " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

/* --- answers -------------------------------------------------------------------------------- */

static void metrics_are_fresh(void **state)
{
    const char *answer;

    (void)state;
    must(open_admin("127.0.0.1:0", true, &error));
    assert_true(admin_port(admin) > 0);
    answer = ask("GET /metrics" CLOSE);
    assert_memory_equal(answer, "HTTP/1.1 200 OK\r\n", 17);
    assert_contains(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n");
    assert_contains(answer, "Cache-Control: no-store\r\n");
    assert_contains(answer, "\r\n\r\n# HELP sagapost_outbox_refreshed r\n");
    assert_contains(answer, "sagapost_outbox_refreshed 1\n");
    assert_contains(ask("GET /metrics?x=y" CLOSE), "sagapost_outbox_refreshed 2\n");
}

static void alive_and_ready(void **state)
{
    (void)state;
    must(open_admin(":0", true, &error));
    assert_contains(ask("GET /livez" CLOSE), "\r\n\r\nalive\n");
    assert_contains(ask("GET /readyz" CLOSE), "HTTP/1.1 200 OK\r\n");
    assert_contains(ask("GET /readyz" CLOSE), "\r\n\r\nready\n");
    reasons = "standby\n";
    assert_contains(ask("GET /readyz" CLOSE), "\r\n\r\nstandby\n");
    is_ready = false;
    reasons = "amqp: no connection\npostgres: no connection\n";
    assert_contains(ask("GET /readyz" CLOSE), "HTTP/1.1 503 Service Unavailable\r\n");
    assert_contains(ask("GET /readyz" CLOSE),
                    "\r\n\r\namqp: no connection\npostgres: no connection\n");
    reasons = "";
    assert_contains(ask("GET /readyz" CLOSE), "\r\n\r\nnot ready\n");
}

static void without_callbacks(void **state)
{
    (void)state;
    must(open_admin("localhost:0", false, &error));
    assert_contains(ask("GET /readyz" CLOSE), "HTTP/1.1 200 OK\r\n");
    assert_contains(ask("GET /metrics" CLOSE), "sagapost_outbox_refreshed 0\n");
}

static void other_requests(void **state)
{
    const char *answer;

    (void)state;
    must(open_admin(":0", true, &error));
    answer = ask("GET /" CLOSE);
    assert_contains(answer, "HTTP/1.1 404 Not Found\r\n");
    assert_contains(answer, "try /metrics, /livez or /readyz");
    answer = ask("HEAD /livez" CLOSE);
    assert_contains(answer, "HTTP/1.1 200 OK\r\n");
    assert_contains(answer, "Content-Length: 6\r\n");
    assert_lacks(answer, "alive");
    answer = ask("POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_contains(answer, "HTTP/1.1 405 Method Not Allowed\r\n");
    assert_contains(answer, "Allow: GET, HEAD\r\n");
    assert_contains(ask("DELETE /metrics" CLOSE), "HTTP/1.1 405 ");
    /* A body nobody asked for. */
    assert_string_equal(ask("GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"), "");
    assert_lacks(ask("nonsense\r\n\r\n"), "200 OK");
    assert_contains(ask("GET /livez" CLOSE), "alive");
}

static void headers_are_limited(void **state)
{
    char *request = malloc(40001);

    (void)state;
    must(open_admin(":0", true, &error));
    memset(request, 'x', 40000);
    memcpy(request, "GET /livez HTTP/1.1\r\nHost: ", 27);
    memcpy(request + 39996, "\r\n\r\n", 5);
    assert_contains(ask(request), "431 Request Header Fields Too Large");
    free(request);
    assert_contains(ask("GET /livez" CLOSE), "alive");
}

/* Two requests on one connection, byte by byte, while another one is silent. */
static void connections_are_kept(void **state)
{
    static const char request[] = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    int silent, fd, round;
    size_t i;

    (void)state;
    must(open_admin(":0", true, &error));
    silent = connect_to(AF_INET);
    fd = connect_to(AF_INET);
    for (round = 0; round < 2; round++) {
        for (i = 0; i < sizeof(request) - 1; i++) {
            assert_int_equal(write(fd, request + i, 1), 1);
            must(loop_turn(loop, 0, &error));
        }
        assert_contains(receive(fd, "alive\n"), "200 OK");
    }
    close(fd);
    close(silent);
    assert_contains(ask("GET /livez" CLOSE), "alive");
}

static void answers_are_limited(void **state)
{
    char *text = malloc(17 << 20);

    (void)state;
    must(open_admin(":0", true, &error));
    memset(text, 'x', 17 << 20);
    text[(17 << 20) - 1] = 0;
    reasons = text;
    assert_contains(ask("GET /readyz" CLOSE), "HTTP/1.1 500 Internal Server Error\r\n");
    reasons = "back\n";
    assert_contains(ask("GET /readyz" CLOSE), "back");
    free(text);
    fault_arm("MHD_create_response_from_buffer", 1, ENOMEM);
    assert_string_equal(ask("GET /livez" CLOSE), "");
    assert_true(fault_disarm());
}

/* --- binding -------------------------------------------------------------------------------- */

static void every_interface(void **state)
{
    int fd;

    (void)state;
    must(open_admin("*:0", true, &error));
    assert_contains(ask("GET /livez" CLOSE), "alive");
    fd = connect_to(AF_INET6);
    assert_int_equal(write(fd, "GET /livez" CLOSE, sizeof("GET /livez" CLOSE) - 1),
                     sizeof("GET /livez" CLOSE) - 1);
    assert_contains(receive(fd, NULL), "alive");
    close(fd);
}

static void every_interface_without_ipv6(void **state)
{
    (void)state;
    fault_arm("socket", 1, EAFNOSUPPORT);
    must(open_admin("*:0", true, &error));
    assert_true(fault_disarm());
    assert_contains(ask("GET /livez" CLOSE), "alive");
}

static void addresses_that_cannot_be_had(void **state)
{
    char taken[32];
    struct admin *first;

    (void)state;
    must(open_admin(":0", true, &error));
    first = admin;
    admin = NULL;
    snprintf(taken, sizeof(taken), "127.0.0.1:%d", admin_port(first));
    must_fail(open_admin(taken, true, &error), ERROR_SYSTEM, RETRY_NEVER, "Address already in use");
    admin = first;
    (void)ask("GET /livez" CLOSE); /* closed from here: its port rests in TIME_WAIT */
    admin_destroy(first);
    must(open_admin(taken, true, &error)); /* free again at once */
    admin_destroy(admin);
    admin = NULL;
    must_fail(open_admin("192.0.2.1:0", true, &error), ERROR_SYSTEM, RETRY_NEVER,
              "cannot listen on 192.0.2.1:0: Cannot assign requested address");
    must_fail(open_admin("[::1", true, &error), ERROR_USAGE, RETRY_NEVER, "HOST:PORT");
    must_fail(open_admin("no.such.host.invalid:0", true, &error), ERROR_USAGE, RETRY_NEVER,
              "cannot listen on no.such.host.invalid:0");
    fault_arm("socket", 1, EMFILE);
    must_fail(open_admin("127.0.0.1:0", true, &error), ERROR_SYSTEM, RETRY_NEVER,
              "Too many open files");
    fault_disarm();
    fault_arm("MHD_start_daemon", 1, EMFILE);
    must_fail(open_admin(":0", true, &error), ERROR_SYSTEM, RETRY_LATER, "the HTTP window");
    fault_disarm();
    fault_arm("epoll_ctl", 1, ENOSPC);
    must_fail(open_admin(":0", true, &error), ERROR_SYSTEM, RETRY_LATER, "watching descriptor");
    fault_disarm();
    assert_null(admin);
    fault_arm("getsockname", 1, EBADF);
    must(open_admin(":0", true, &error));
    assert_true(fault_disarm());
    assert_int_equal(admin_port(admin), 0); /* not known */
}

static int scenario(struct error *error)
{
    int result = open_admin("127.0.0.1:0", true, error);

    admin_destroy(admin);
    admin = NULL;
    return result;
}

static void without_memory(void **state)
{
    (void)state;
    assert_true(each_allocation_fails(scenario) >= 3);
    admin_destroy(NULL);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(metrics_are_fresh),
        TEST(alive_and_ready),
        TEST(without_callbacks),
        TEST(other_requests),
        TEST(headers_are_limited),
        TEST(connections_are_kept),
        TEST(answers_are_limited),
        TEST(every_interface),
        TEST(every_interface_without_ipv6),
        TEST(addresses_that_cannot_be_had),
        TEST(without_memory),
    };

    return cmocka_run_group_tests_name("runtime admin", tests, NULL, NULL);
}
