#include "outbox/amqp/internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void close_attempt(struct broker *broker)
{
    loop_timer_disarm(broker->retry_timer);
    loop_fd_remove(broker->watch);
    broker->watch = NULL;
    if (broker->connect_fd >= 0)
        close(broker->connect_fd);
    broker->connect_fd = -1;
}

void connect_end(struct broker *broker)
{
    if (broker->state == BROKER_CONNECTING)
        close_attempt(broker);
    if (broker->addresses)
        freeaddrinfo(broker->addresses);
    broker->addresses = broker->address = NULL;
}

static void hand_over(struct broker *broker)
{
    int fd = broker->connect_fd;

    broker->connect_fd = -1;
    connect_end(broker);
    broker_connected(broker, fd);
}

static void on_connect_event(void *data, int fd, unsigned events)
{
    struct broker *broker = data;
    struct error error = {0};
    int failed = 0;
    socklen_t length = sizeof(failed);

    (void)events;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &length))
        failed = errno;
    if (failed) {
        error_set_errno(&error, failed, RETRY_RECONNECT, "cannot connect to %s", broker->peer);
        connect_next(broker, &error);
    } else {
        hand_over(broker);
    }
    broker_settle(broker);
}

/* Each address gets an equal share of what is left of the time, so that one that swallows packets
 * does not keep the others from being tried. */
static int64_t share_of_time_us(const struct broker *broker)
{
    int64_t left = broker->connect_deadline_us - clock_monotonic_us(loop_clock(broker->loop));
    int addresses = 0;

    for (const struct addrinfo *a = broker->address; a; a = a->ai_next)
        addresses++;
    return left > 0 ? left / addresses : 0;
}

/* 0 when connected or on its way. */
static int try_address(struct broker *broker, bool *ret_connected, struct error *error)
{
    const struct addrinfo *a = broker->address;
    int one = 1;

    broker->connect_fd =
        socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    if (broker->connect_fd < 0)
        return error_set_errno(error, errno, RETRY_RECONNECT, "cannot connect to %s", broker->peer);
    /* Frames go out in batches of our own making: waiting for more to fill a packet only delays. */
    if (setsockopt(broker->connect_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
        setsockopt(broker->connect_fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)))
        return error_set_errno(error, errno, RETRY_RECONNECT, "cannot set up the socket to %s",
                               broker->peer);
    *ret_connected = !connect(broker->connect_fd, a->ai_addr, a->ai_addrlen);
    if (!*ret_connected && errno != EINPROGRESS)
        return error_set_errno(error, errno, RETRY_RECONNECT, "cannot connect to %s", broker->peer);
    if (*ret_connected)
        return 0;
    loop_timer_arm_in(broker->retry_timer, share_of_time_us(broker));
    return loop_fd_add(broker->loop, broker->connect_fd, LOOP_WRITE, on_connect_event, broker,
                       &broker->watch, error);
}

static void try_addresses(struct broker *broker)
{
    struct error error = broker->connect_error;
    bool connected = false;

    for (; broker->address; broker->address = broker->address->ai_next) {
        if (!try_address(broker, &connected, &error)) {
            if (connected)
                hand_over(broker);
            return;
        }
        close_attempt(broker);
    }
    broker_fail(broker, &error, false);
}

void connect_next(struct broker *broker, const struct error *why)
{
    close_attempt(broker);
    broker->connect_error = *why;
    broker->address = broker->address->ai_next;
    try_addresses(broker);
}

void connect_begin(struct broker *broker)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct error error = {0};
    const struct uri *uri = broker->uri;
    char port[8];
    int r;

    if (!broker->untried)
        broker->untried = broker->uris.count;
    broker->untried--;
    snprintf(broker->peer, sizeof(broker->peer), strchr(uri->host, ':') ? "[%s]:%d" : "%s:%d",
             uri->host, uri->port);
    broker->state = BROKER_CONNECTING;
    broker->connect_fd = -1;
    broker->connect_deadline_us =
        clock_monotonic_us(loop_clock(broker->loop)) + broker_connect_timeout_us(broker);
    snprintf(port, sizeof(port), "%d", uri->port);
    /* The one call here that can block beyond our limit: resolvers have timeouts of their own. */
    r = getaddrinfo(uri->host, port, &hints, &broker->addresses);
    if (r) {
        error_set(&error, ERROR_SYSTEM, RETRY_RECONNECT, "cannot resolve the host '%s': %s",
                  uri->host, gai_strerror(r));
        broker->addresses = NULL;
        broker_fail(broker, &error, false);
        return;
    }
    broker->address = broker->addresses;
    try_addresses(broker);
}
