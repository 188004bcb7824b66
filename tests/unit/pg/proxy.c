#include "tests/unit/pg/proxy.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void close_side(struct proxy_side *side)
{
    if (side->fd < 0)
        return;
    loop_fd_remove(side->watch);
    side->watch = NULL;
    close(side->fd);
    side->fd = -1;
    buffer_clear(&side->out);
}

void proxy_cut(struct proxy *proxy)
{
    close_side(&proxy->client);
    close_side(&proxy->server);
}

static void write_out(struct proxy *proxy, struct proxy_side *side)
{
    size_t bytes = buffer_length(&side->out);
    if (side->fd < 0 || bytes == 0 || (proxy->mode == PROXY_HOLD && side == &proxy->client))
        return;
    /* One byte a turn of the loop, so that it arrives alone. */
    if (proxy->mode == PROXY_BYTES && side == &proxy->client)
        bytes = 1;
    ssize_t written = send(side->fd, buffer_data(&side->out), bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written > 0)
        buffer_take(&side->out, (size_t)written);
    loop_fd_want(side->watch,
                 buffer_length(&side->out) > 0 ? LOOP_READ | LOOP_WRITE : (unsigned)LOOP_READ);
}

void proxy_cut_after_answers(struct proxy *proxy)
{
    proxy->mode = PROXY_PASS;
    write_out(proxy, &proxy->client);
    assert(buffer_length(&proxy->client.out) == 0);
    proxy_cut(proxy);
}

static void on_side(void *data, int fd, unsigned events)
{
    struct proxy *proxy = data;
    struct proxy_side *from = fd == proxy->client.fd ? &proxy->client : &proxy->server;
    struct proxy_side *to = from == &proxy->client ? &proxy->server : &proxy->client;
    char bytes[65536];

    if (events & LOOP_WRITE)
        write_out(proxy, from);
    if (!(events & (LOOP_READ | LOOP_HANGUP)))
        return;
    ssize_t count = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (count == 0 || (count < 0 && errno != EAGAIN)) {
        proxy_cut(proxy);
    } else if (count > 0 && proxy->mode == PROXY_SWALLOW && from == &proxy->server) {
        proxy->swallowed_bytes += (size_t)count;
    } else if (count > 0) {
        buffer_append(&to->out, bytes, (size_t)count);
        write_out(proxy, to);
    }
}

static void add_side(struct proxy *proxy, struct proxy_side *side, int fd)
{
    int failed = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    assert(!failed);
    side->fd = fd;
    failed = loop_fd_add(proxy->loop, fd, LOOP_READ, on_side, proxy, &side->watch, NULL);
    assert(!failed);
}

static void on_listener(void *data, int fd, unsigned events)
{
    struct proxy *proxy = data;
    struct sockaddr_in address = loopback(proxy->server_port);
    (void)events;

    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert(client >= 0);
    proxy_cut(proxy);
    proxy->connections++;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(server >= 0);
    if (connect(server, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(server);
        close(client);
        return;
    }
    add_side(proxy, &proxy->client, client);
    add_side(proxy, &proxy->server, server);
}

void proxy_open(struct proxy *proxy, struct loop *loop, int server_port)
{
    struct sockaddr_in address = loopback(0);

    proxy->loop = loop;
    proxy->server_port = server_port;
    proxy->client.fd = proxy->server.fd = -1;
    buffer_init(&proxy->client.out, 0);
    buffer_init(&proxy->server.out, 0);
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert(proxy->listener >= 0);
    int failed = bind(proxy->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
                 listen(proxy->listener, 16) < 0;
    assert(!failed);
    if (proxy->mode == PROXY_SILENT)
        return;
    failed = loop_fd_add(loop, proxy->listener, LOOP_READ, on_listener, proxy, &proxy->watch, NULL);
    assert(!failed);
}

int proxy_port(const struct proxy *proxy)
{
    struct sockaddr_in address = {0};
    socklen_t bytes = sizeof(address);
    int failed = getsockname(proxy->listener, (struct sockaddr *)&address, &bytes);
    assert(!failed);
    return ntohs(address.sin_port);
}

void proxy_close(struct proxy *proxy)
{
    proxy_cut(proxy);
    loop_fd_remove(proxy->watch);
    close(proxy->listener);
    buffer_free(&proxy->client.out);
    buffer_free(&proxy->server.out);
}
