/* libmicrohttpd on our loop: its epoll descriptor is one of ours, and a timer stands for the
 * timeouts it asks for. All of its work happens inside MHD_run, called from those two. */
#include "outbox/runtime/admin.h"

#include "outbox/runtime/address.h"
#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX      32u
#define CONNECTION_BYTES_MAX ((size_t)16 * 1024) /* request line and headers */
#define CONNECTION_TIMEOUT_S 10u
#define ANSWER_BYTES_MAX     ((size_t)16 * 1024 * 1024)
#define BACKLOG              32

struct admin {
    struct loop *loop;
    struct admin_options options;
    struct MHD_Daemon *http;
    struct loop_fd *watch;
    struct loop_timer *timer;
    struct buffer answer;
    int port;
};

/* --- answers -------------------------------------------------------------------------------- */

static enum MHD_Result send_answer(struct admin *admin, struct MHD_Connection *connection,
                                   unsigned status, const char *content_type)
{
    struct MHD_Response *response;
    enum MHD_Result result;
    const char *text;

    if (admin->answer.failed) {
        buffer_clear(&admin->answer);
        buffer_append_text(&admin->answer, "the answer is too large\n");
        status = MHD_HTTP_INTERNAL_SERVER_ERROR;
        content_type = "text/plain; charset=utf-8";
    }
    text = buffer_text(&admin->answer);
    response = MHD_create_response_from_buffer(buffer_length(&admin->answer),
                                               (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO; /* closes the connection */
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_text(struct admin *admin, struct MHD_Connection *connection,
                                   unsigned status, const char *text)
{
    buffer_clear(&admin->answer);
    buffer_append_text(&admin->answer, text);
    return send_answer(admin, connection, status, "text/plain; charset=utf-8");
}

static enum MHD_Result answer_metrics(struct admin *admin, struct MHD_Connection *connection)
{
    if (admin->options.refresh)
        admin->options.refresh(admin->options.data);
    buffer_clear(&admin->answer);
    metrics_print(admin->options.metrics, &admin->answer);
    return send_answer(admin, connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8");
}

static enum MHD_Result answer_ready(struct admin *admin, struct MHD_Connection *connection)
{
    bool ready = true;

    buffer_clear(&admin->answer);
    if (admin->options.ready)
        ready = admin->options.ready(admin->options.data, &admin->answer);
    if (!buffer_length(&admin->answer))
        buffer_append_text(&admin->answer, ready ? "ready\n" : "not ready\n");
    return send_answer(admin, connection, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                       "text/plain; charset=utf-8");
}

static enum MHD_Result answer_path(struct admin *admin, struct MHD_Connection *connection,
                                   const char *path)
{
    if (strcmp(path, "/metrics") == 0)
        return answer_metrics(admin, connection);
    if (strcmp(path, "/livez") == 0)
        return answer_text(admin, connection, MHD_HTTP_OK, "alive\n");
    if (strcmp(path, "/readyz") == 0)
        return answer_ready(admin, connection);
    return answer_text(admin, connection, MHD_HTTP_NOT_FOUND, "try /metrics, /livez or /readyz\n");
}

/* Called once when the headers are read, and again for a body and when the request is complete.
 * What is answered the first time is answered without reading a body; a GET with one is cut off. */
static enum MHD_Result handle(void *data, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_bytes, void **request_state)
{
    static char seen;
    struct admin *admin = data;

    (void)version;
    (void)upload;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_text(admin, connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or HEAD\n");
    if (!*request_state) {
        *request_state = &seen;
        return MHD_YES;
    }
    if (*upload_bytes)
        return MHD_NO;
    return answer_path(admin, connection, path);
}

/* --- on the loop ---------------------------------------------------------------------------- */

static void run(struct admin *admin)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;

    (void)MHD_run(admin->http);
    if (MHD_get_timeout(admin->http, &timeout_ms) != MHD_YES)
        loop_timer_disarm(admin->timer);
    else
        loop_timer_arm_in(admin->timer, timeout_ms > INT32_MAX ? (int64_t)INT32_MAX * US_PER_MS
                                                               : (int64_t)timeout_ms * US_PER_MS);
}

static void on_event(void *data, int fd, unsigned events)
{
    (void)fd;
    (void)events;
    run(data);
}

static void on_timer(void *data)
{
    run(data);
}

/* --- binding -------------------------------------------------------------------------------- */

static int listen_on(const struct addrinfo *address, int *ret_fd)
{
    const int on = 1, off = 0;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int saved_errno;

    if (fd < 0)
        return -errno;
    /* The port of a daemon that was just stopped is free for its successor. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        saved_errno = errno;
        close(fd);
        return -saved_errno;
    }
    *ret_fd = fd;
    return 0;
}

/* The first address of that family that can be bound. */
static int open_family(const struct address *address, int family, const char *listen, int *ret_fd,
                       struct error *error)
{
    struct addrinfo hints = {
        .ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL, *next;
    char port[8];
    int failure = -EADDRNOTAVAIL;
    int result;

    snprintf(port, sizeof(port), "%u", address->port);
    result = getaddrinfo(address->host[0] ? address->host : NULL, port, &hints, &found);
    if (result)
        return error_set(error, ERROR_USAGE, RETRY_NEVER, "cannot listen on %s: %s", listen,
                         gai_strerror(result));
    for (next = found; next && failure; next = next->ai_next)
        failure = listen_on(next, ret_fd);
    freeaddrinfo(found);
    if (failure)
        return error_set_errno(error, -failure, RETRY_NEVER, "cannot listen on %s", listen);
    return 0;
}

static int open_listener(const char *listen, int *ret_fd, struct error *error)
{
    struct address address;
    int result = address_parse(listen, &address, error);

    if (result)
        return result;
    if (address.host[0])
        return open_family(&address, AF_UNSPEC, listen, ret_fd, error);
    /* Every interface: one IPv6 socket takes both, where the machine has IPv6 at all. */
    if (!open_family(&address, AF_INET6, listen, ret_fd, NULL))
        return 0;
    return open_family(&address, AF_INET, listen, ret_fd, error);
}

static int bound_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {0};
    socklen_t bytes = sizeof(address);

    if (getsockname(fd, &address.any, &bytes) < 0)
        return 0;
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

static int start_http(struct admin *admin, int fd, struct error *error)
{
    const union MHD_DaemonInfo *info;

    admin->port = bound_port(fd);
    admin->http =
        MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, handle, admin, MHD_OPTION_LISTEN_SOCKET, fd,
                         MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
                         MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_TIMEOUT_S,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES_MAX, MHD_OPTION_END);
    if (!admin->http) {
        close(fd);
        return error_set(error, ERROR_SYSTEM, RETRY_LATER, "starting the HTTP window");
    }
    /* From here on MHD_stop_daemon closes the socket. */
    info = MHD_get_daemon_info(admin->http, MHD_DAEMON_INFO_EPOLL_FD);
    assert(info);
    return loop_fd_add(admin->loop, info->epoll_fd, LOOP_READ, on_event, admin, &admin->watch,
                       error);
}

int admin_create(struct admin **ret_admin, struct loop *loop, const struct admin_options *options,
                 struct error *error)
{
    struct admin *admin = calloc(1, sizeof(*admin));
    int fd = -1;
    int result;

    if (!admin)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for the HTTP window");
    admin->loop = loop;
    admin->options = *options;
    admin->options.listen = NULL; /* only borrowed */
    buffer_init(&admin->answer, ANSWER_BYTES_MAX);
    result = loop_timer_create(loop, on_timer, admin, &admin->timer, error);
    if (!result)
        result = open_listener(options->listen, &fd, error);
    if (!result)
        result = start_http(admin, fd, error);
    if (result) {
        admin_destroy(admin);
        return result;
    }
    *ret_admin = admin;
    return 0;
}

int admin_port(const struct admin *admin)
{
    return admin->port;
}

void admin_destroy(struct admin *admin)
{
    if (!admin)
        return;
    loop_fd_remove(admin->watch);
    loop_timer_destroy(admin->timer);
    if (admin->http)
        MHD_stop_daemon(admin->http);
    buffer_free(&admin->answer);
    free(admin);
}
