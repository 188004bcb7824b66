#include "outbox/runtime/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Here they are functions, also for the analyzer. */
#undef error_set
#undef error_set_errno
#undef error_context

static void set_class(struct error *error, enum error_code code, enum error_retry retry)
{
    assert(code < 0);
    assert(retry != RETRY_NONE);
    *error = (struct error){.code = code, .retry = retry};
}

int error_set(struct error *error, enum error_code code, enum error_retry retry, const char *format,
              ...)
{
    va_list arguments;

    if (error) {
        /* The arguments may point into the old message, so it is made elsewhere first. */
        char message[ERROR_MESSAGE_BYTES_MAX];
        va_start(arguments, format);
        vsnprintf(message, sizeof(message), format, arguments);
        va_end(arguments);
        set_class(error, code, retry);
        memcpy(error->message, message, sizeof(message));
    }
    return code;
}

int error_set_errno(struct error *error, int saved_errno, enum error_retry retry,
                    const char *format, ...)
{
    va_list arguments;

    if (error) {
        char message[ERROR_MESSAGE_BYTES_MAX];
        char reason[128];
        va_start(arguments, format);
        vsnprintf(message, sizeof(message), format, arguments);
        va_end(arguments);
        set_class(error, ERROR_SYSTEM, retry);
        snprintf(error->message, sizeof(error->message), "%.800s: %s", message,
                 strerror_r(saved_errno, reason, sizeof(reason)));
    }
    return ERROR_SYSTEM;
}

int error_context(struct error *error, const char *format, ...)
{
    char context[ERROR_MESSAGE_BYTES_MAX];
    char message[ERROR_MESSAGE_BYTES_MAX];
    va_list arguments;

    assert(error);
    assert(error->code < 0);
    va_start(arguments, format);
    vsnprintf(context, sizeof(context), format, arguments);
    va_end(arguments);
    memcpy(message, error->message, sizeof(message));
    /* A context that is too long must not push out the reason itself. */
    snprintf(error->message, sizeof(error->message), "%.500s: %.520s", context, message);
    return error->code;
}

void error_clear(struct error *error)
{
    if (error)
        *error = (struct error){0};
}

const char *error_retry_name(enum error_retry retry)
{
    switch (retry) {
    case RETRY_NONE:
        return "none";
    case RETRY_NOW:
        return "now";
    case RETRY_LATER:
        return "later";
    case RETRY_RECONNECT:
        return "reconnect";
    case RETRY_POISON:
        return "poison";
    case RETRY_NEVER:
        return "never";
    case RETRY_BUG:
        return "bug";
    }
    return "unknown";
}
