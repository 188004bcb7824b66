/* error.h: what went wrong, for whom, and whether trying again can help.
 *
 * A `struct error` belongs to the caller. A function that can fail returns 0, or the negative code
 * that it stored there; results go out through `ret_` parameters, untouched on failure. The place
 * where a failure enters (a SQLSTATE, an AMQP reply code, an errno) classifies it once; above that,
 * code looks at `retry` alone. Each layer may add its context once, in front.
 *
 * Library code never logs an error; the daemon that gives up on it does, once. */
#ifndef SAGAPOST_RUNTIME_ERROR_H
#define SAGAPOST_RUNTIME_ERROR_H

#include <stdbool.h>

#define ERROR_MESSAGE_BYTES_MAX 1024

/* What may be done about it. */
enum error_retry {
    RETRY_NONE = 0,  /* no error */
    RETRY_NOW,       /* the same again, at once (serialization failure, deadlock) */
    RETRY_LATER,     /* the same again, after a pause (out of disk, out of connections, lock not
                        available) */
    RETRY_RECONNECT, /* the connection is gone or useless; a new one, then again */
    RETRY_POISON,    /* this one input can never work; set it apart, go on with the others */
    RETRY_NEVER,     /* a mistake of configuration: no retry can help, a person must (exit status
                        2) */
    RETRY_BUG,       /* should not be possible */
};

/* Codes are negative, so that `return code` reads as failure everywhere. */
enum error_code {
    ERROR_SYSTEM = -1, /* errno says more */
    ERROR_NO_MEMORY = -2,
    ERROR_USAGE = -3,    /* bad flag, variable, key or value */
    ERROR_LIMIT = -4,    /* a configured or protocol limit */
    ERROR_POSTGRES = -5, /* sqlstate is set where the server spoke */
    ERROR_AMQP = -6,     /* amqp_code is set where the broker spoke */
    ERROR_PROTOCOL = -7, /* bytes that make no sense */
    ERROR_NOT_FOUND = -8,
    ERROR_REFUSED = -9, /* a rule says no */
    ERROR_TIMEOUT = -10,
    ERROR_STATE = -11, /* the object cannot do this now */
};

struct error {
    int code; /* 0: no error */
    enum error_retry retry;
    char sqlstate[6];
    int amqp_code; /* reply code of channel.close, connection.close or basic.return; 0: none */
    char message[ERROR_MESSAGE_BYTES_MAX];
};

#define MUST_CHECK                  __attribute__((warn_unused_result))
#define PRINTF_LIKE(text_at, first) __attribute__((format(printf, text_at, first)))

/* Stores the failure and returns `code`, so that a caller writes `return error_set(error, ...)`.
 * `error` may be NULL. */
int error_set(struct error *error, enum error_code code, enum error_retry retry, const char *format,
              ...) PRINTF_LIKE(4, 5);

/* The same from errno: the message is `format`, then ": " and strerror. */
int error_set_errno(struct error *error, int saved_errno, enum error_retry retry,
                    const char *format, ...) PRINTF_LIKE(4, 5);

/* Puts `format` and ": " in front of the message. Keeps everything else. Returns error->code. */
int error_context(struct error *error, const char *format, ...) PRINTF_LIKE(2, 3);

#ifdef __clang_analyzer__
/* The analyzer sees one file at a time and would follow paths on which a failure is reported as 0;
 * this tells it what is returned. */
#define error_set(error, code, ...) (error_set(error, code, __VA_ARGS__), (int)(code))
#define error_set_errno(error, ...) (error_set_errno(error, __VA_ARGS__), (int)ERROR_SYSTEM)
#define error_context(error, ...)   (error_context(error, __VA_ARGS__), (int)ERROR_STATE)
#endif

void error_clear(struct error *error);

const char *error_retry_name(enum error_retry retry);

#endif
