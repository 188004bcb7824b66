#include "saga/cli/scrape.h"
#include "outbox/runtime/address.h"
#include "outbox/runtime/clock.h"
#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Fetching ------------------------------------------------------------------------------------- */

#define READ_BYTES 16384

struct exchange {
    int fd; /* -1: none */
    int64_t end_us;
};

static void exchange_close(struct exchange *exchange)
{
    if (exchange->fd >= 0)
        close(exchange->fd);
}

/* Until the descriptor is ready; ERROR_TIMEOUT when the time is over. */
static int await(const struct exchange *exchange, short events, struct error *error)
{
    for (;;) {
        struct pollfd ready = {.fd = exchange->fd, .events = events};
        int64_t left_us = exchange->end_us - clock_monotonic_us(&clock_system);
        if (left_us <= 0)
            return error_set(error, ERROR_TIMEOUT, RETRY_LATER, "no answer in time");
        int count = poll(&ready, 1, (int)(left_us / US_PER_MS) + 1);
        if (count > 0)
            return 0;
        if (count < 0 && errno != EINTR)
            return error_set_errno(error, errno, RETRY_LATER, "waiting");
    }
}

static int connect_to(struct exchange *exchange, const struct addrinfo *where, struct error *error)
{
    int status = 0;
    socklen_t bytes = sizeof status;
    exchange->fd = socket(where->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (exchange->fd < 0)
        return error_set_errno(error, errno, RETRY_LATER, "a socket");
    if (connect(exchange->fd, where->ai_addr, where->ai_addrlen) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return error_set_errno(error, errno, RETRY_LATER, "connecting");
    int rc = await(exchange, POLLOUT, error);
    if (rc < 0)
        return rc;
    if (getsockopt(exchange->fd, SOL_SOCKET, SO_ERROR, &status, &bytes) < 0)
        status = errno;
    return status == 0 ? 0 : error_set_errno(error, status, RETRY_LATER, "connecting");
}

static int look_up_and_connect(struct exchange *exchange, const char *text, struct error *error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    struct address address;
    char port[8];
    int rc = address_parse(text, &address, error);
    if (rc < 0)
        return rc;
    snprintf(port, sizeof port, "%u", (unsigned)address.port);
    /* Every interface, of a daemon that listens, is this machine for one who asks. */
    int status =
        getaddrinfo(address.host[0] != '\0' ? address.host : "localhost", port, &hints, &found);
    if (status != 0)
        return error_set(error, ERROR_NOT_FOUND, RETRY_LATER, "%s", gai_strerror(status));
    rc = ERROR_NOT_FOUND;
    for (const struct addrinfo *one = found; one != NULL && rc < 0; one = one->ai_next) {
        exchange_close(exchange);
        rc = connect_to(exchange, one, error);
    }
    freeaddrinfo(found);
    return rc;
}

/* One small write: a fresh socket's buffer has room for it. HTTP/1.0: the end of the body is the
 * end of the connection. */
static int ask(const struct exchange *exchange, struct error *error)
{
    static const char request[] = "GET /metrics HTTP/1.0\r\n\r\n";
    ssize_t sent = send(exchange->fd, request, sizeof request - 1, MSG_NOSIGNAL);
    if (sent == (ssize_t)(sizeof request - 1))
        return 0;
    return error_set_errno(error, sent < 0 ? errno : EIO, RETRY_LATER, "asking");
}

static int read_all(const struct exchange *exchange, struct buffer *answer, struct error *error)
{
    for (;;) {
        int rc = await(exchange, POLLIN, error);
        if (rc < 0)
            return rc;
        uint8_t *room = buffer_reserve(answer, READ_BYTES);
        if (room == NULL)
            return error_set(error, ERROR_LIMIT, RETRY_LATER, "its answer has over %d bytes",
                             SCRAPE_BYTES_MAX);
        ssize_t bytes = recv(exchange->fd, room, READ_BYTES, 0);
        if (bytes == 0)
            return 0;
        if (bytes < 0 && errno != EINTR && errno != EAGAIN)
            return error_set_errno(error, errno, RETRY_LATER, "reading");
        buffer_filled(answer, bytes > 0 ? (size_t)bytes : 0);
    }
}

/* Leaves the body. */
static int strip_head(struct buffer *answer, struct error *error)
{
    static const char ok[] = "HTTP/1.";
    const char *text = buffer_text(answer);
    const char *end = strstr(text, "\r\n\r\n");
    if (strncmp(text, ok, sizeof ok - 1) != 0 || end == NULL)
        return error_set(error, ERROR_PROTOCOL, RETRY_LATER, "it does not speak HTTP");
    if (strncmp(text + strcspn(text, " \r"), " 200 ", 5) != 0)
        return error_set(error, ERROR_PROTOCOL, RETRY_LATER, "it answered \"%.*s\"",
                         (int)strcspn(text, "\r\n"), text);
    buffer_take(answer, (size_t)(end + 4 - text));
    return 0;
}

int scrape_fetch(const char *address, int64_t timeout_us, struct buffer *ret_body,
                 struct error *error)
{
    struct exchange exchange __attribute__((cleanup(exchange_close))) = {
        .fd = -1, .end_us = clock_monotonic_us(&clock_system) + timeout_us};
    buffer_clear(ret_body);
    int rc = look_up_and_connect(&exchange, address, error);
    if (rc == 0)
        rc = ask(&exchange, error);
    if (rc == 0)
        rc = read_all(&exchange, ret_body, error);
    if (rc == 0)
        rc = strip_head(ret_body, error);
    return rc < 0 ? error_context(error, "%s", address) : 0;
}

/* Reading -------------------------------------------------------------------------------------- */

/* The line after this one; NULL: there is none. */
static const char *next_line(const char *line)
{
    const char *end = strchr(line, '\n');
    return end != NULL && end[1] != '\0' ? end + 1 : NULL;
}

static bool read_number(const char *text, double *ret_number)
{
    char *end;
    *ret_number = strtod(text, &end);
    return end != text && (*end == '\n' || *end == '\0') && !isnan(*ret_number);
}

double scrape_value(const char *text, const char *series)
{
    size_t bytes = strlen(series);
    double value;
    for (const char *line = text; line != NULL; line = next_line(line))
        if (strncmp(line, series, bytes) == 0 && line[bytes] == ' ')
            return read_number(line + bytes + 1, &value) ? value : NAN;
    return NAN;
}

void scrape_read_histogram(const char *text, const char *name,
                           struct scrape_histogram *ret_histogram)
{
    char start[128];
    struct scrape_histogram found = {0};
    int bytes = snprintf(start, sizeof start, "%s_bucket{le=\"", name);
    double last = -1;
    ret_histogram->count = 0;
    if (bytes < 0 || bytes >= (int)sizeof start)
        return;
    for (const char *line = text; line != NULL; line = next_line(line)) {
        if (strncmp(line, start, (size_t)bytes) != 0)
            continue;
        char *end;
        double bound = strtod(line + bytes, &end), below;
        if (found.count == SCRAPE_BUCKETS_MAX || strncmp(end, "\"} ", 3) != 0 ||
            !read_number(end + 3, &below) || below < last ||
            (found.count > 0 && !(bound > found.bounds[found.count - 1])))
            return; /* not what a histogram looks like */
        found.bounds[found.count] = bound;
        found.below[found.count++] = last = below;
    }
    if (found.count > 0 && isinf(found.bounds[found.count - 1]))
        *ret_histogram = found;
}

static double below_between(const struct scrape_histogram *from, const struct scrape_histogram *to,
                            int bucket)
{
    return to->below[bucket] - (from != NULL ? from->below[bucket] : 0);
}

double scrape_quantile(const struct scrape_histogram *from, const struct scrape_histogram *to,
                       double quantile)
{
    if (to->count == 0 || (from != NULL && from->count != to->count))
        return NAN;
    double all = below_between(from, to, to->count - 1), rank = quantile * all;
    if (!(all > 0))
        return NAN;
    int i = 0;
    while (i < to->count - 1 && below_between(from, to, i) < rank)
        i++;
    if (i == to->count - 1)
        return (double)INFINITY;
    double least = i > 0 ? to->bounds[i - 1] : 0,
           before = i > 0 ? below_between(from, to, i - 1) : 0;
    double within = below_between(from, to, i) - before;
    return within > 0 ? least + (to->bounds[i] - least) * (rank - before) / within : to->bounds[i];
}
