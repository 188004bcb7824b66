#include "faults.h"

#include "outbox/runtime/error.h"

#include <errno.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/types.h>

static struct {
    const char *function;
    int countdown;
    int error_number;
    bool fired;
} fault;

void fault_arm(const char *function, int nth, int error_number)
{
    fault.function = function;
    fault.countdown = nth;
    fault.error_number = error_number;
    fault.fired = false;
}

bool fault_disarm(void)
{
    fault.function = NULL;
    return fault.fired;
}

static bool fails(const char *function)
{
    if (!fault.function || strcmp(fault.function, function) != 0 || --fault.countdown != 0)
        return false;
    fault.fired = true;
    errno = fault.error_number;
    return true;
}

/* A function that is wrapped as it is: `type` it returns, `bad` where it fails. */
#define WRAP(group, type, bad, name, parameters, arguments)                                        \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fails(group) ? (bad) : __real_##name arguments;                                     \
    }

WRAP("alloc", void *, NULL, malloc, (size_t bytes), (bytes))
WRAP("alloc", void *, NULL, calloc, (size_t count, size_t bytes), (count, bytes))
WRAP("alloc", void *, NULL, reallocarray, (void *old, size_t count, size_t bytes),
     (old, count, bytes))
WRAP("alloc", char *, NULL, strdup, (const char *text), (text))
WRAP("epoll_create1", int, -1, epoll_create1, (int flags), (flags))
WRAP("epoll_ctl", int, -1, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event),
     (epfd, op, fd, event))
WRAP("timerfd_create", int, -1, timerfd_create, (int clock, int flags), (clock, flags))
WRAP("signalfd", int, -1, signalfd, (int fd, const sigset_t *mask, int flags), (fd, mask, flags))
WRAP("sigprocmask", int, -1, sigprocmask, (int how, const sigset_t *set, sigset_t *old),
     (how, set, old))
WRAP("read", ssize_t, -1, read, (int fd, void *bytes, size_t count), (fd, bytes, count))
WRAP("read", ssize_t, -1, __read_chk, (int fd, void *bytes, size_t count, size_t room),
     (fd, bytes, count, room))
WRAP("socket", int, -1, socket, (int family, int type, int protocol), (family, type, protocol))
WRAP("getsockname", int, -1, getsockname, (int fd, struct sockaddr *address, socklen_t *bytes),
     (fd, address, bytes))
WRAP("getrandom", ssize_t, -1, getrandom, (void *bytes, size_t count, unsigned flags),
     (bytes, count, flags))
WRAP("fflush", int, EOF, fflush, (FILE * file), (file))
WRAP("MHD_create_response_from_buffer", struct MHD_Response *, NULL,
     MHD_create_response_from_buffer,
     (size_t bytes, void *buffer, enum MHD_ResponseMemoryMode mode), (bytes, buffer, mode))

int fault_epoll_timeout_ms;

int __real_epoll_wait(int epfd, struct epoll_event *events, int events_max, int timeout_ms);
int __wrap_epoll_wait(int epfd, struct epoll_event *events, int events_max, int timeout_ms);
int __wrap_epoll_wait(int epfd, struct epoll_event *events, int events_max, int timeout_ms)
{
    fault_epoll_timeout_ms = timeout_ms;
    return fails("epoll_wait") ? -1 : __real_epoll_wait(epfd, events, events_max, timeout_ms);
}

ssize_t __real_write(int fd, const void *bytes, size_t count);
ssize_t __wrap_write(int fd, const void *bytes, size_t count);
ssize_t __wrap_write(int fd, const void *bytes, size_t count)
{
    if (!fails("write"))
        return __real_write(fd, bytes, count);
    return fault.error_number == FAULT_SHORT ? __real_write(fd, bytes, 1) : -1;
}

/* These two take variable arguments, so they are answered here. */
int __wrap_asprintf(char **ret_text, const char *format, ...) PRINTF_LIKE(2, 3);
int __wrap_asprintf(char **ret_text, const char *format, ...)
{
    va_list arguments;
    int bytes = -1;

    if (!fails("alloc")) {
        va_start(arguments, format);
        bytes = vasprintf(ret_text, format, arguments);
        va_end(arguments);
    }
    return bytes;
}

int __wrap___asprintf_chk(char **ret_text, int flag, const char *format, ...) PRINTF_LIKE(3, 4);
int __wrap___asprintf_chk(char **ret_text, int flag, const char *format, ...)
{
    va_list arguments;
    int bytes = -1;

    (void)flag;
    if (!fails("alloc")) {
        va_start(arguments, format);
        bytes = vasprintf(ret_text, format, arguments);
        va_end(arguments);
    }
    return bytes;
}

/* The one call of it in the code under test has these options (admin.c). */
struct MHD_Daemon *__wrap_MHD_start_daemon(unsigned flags, uint16_t port,
                                           MHD_AcceptPolicyCallback accept, void *accept_data,
                                           MHD_AccessHandlerCallback handler, void *handler_data,
                                           ...);
struct MHD_Daemon *__real_MHD_start_daemon(unsigned flags, uint16_t port,
                                           MHD_AcceptPolicyCallback accept, void *accept_data,
                                           MHD_AccessHandlerCallback handler, void *handler_data,
                                           ...);
struct MHD_Daemon *__wrap_MHD_start_daemon(unsigned flags, uint16_t port,
                                           MHD_AcceptPolicyCallback accept, void *accept_data,
                                           MHD_AccessHandlerCallback handler, void *handler_data,
                                           ...)
{
    va_list arguments;
    int listen_option, fd, limit_option;
    unsigned limit;

    if (fails("MHD_start_daemon"))
        return NULL;
    va_start(arguments, handler_data);
    listen_option = va_arg(arguments, int);
    fd = va_arg(arguments, int);
    limit_option = va_arg(arguments, int);
    limit = va_arg(arguments, unsigned);
    va_end(arguments);
    return __real_MHD_start_daemon(flags, port, accept, accept_data, handler, handler_data,
                                   listen_option, fd, limit_option, limit, MHD_OPTION_END);
}
