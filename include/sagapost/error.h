/* sagapost/error.h: how a call of this library failed.
 *
 * Every function returns 0, or a negative enum sagapost_code, which then stands in the error too.
 * What goes out through ret_ parameters is untouched on failure. `error` may be NULL.
 *
 * After every failure but SAGAPOST_ERROR_USAGE the transaction is aborted or gone: roll back (to a
 * savepoint, where there is one). The library itself never begins, commits or rolls back, but for
 * the inbox's client (inbox.h) and, to a savepoint of its own, sagapost_saga_carry_out (saga.h),
 * which say so. */
#ifndef SAGAPOST_ERROR_H
#define SAGAPOST_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SAGAPOST_API __attribute__((visibility("default")))
#else
#define SAGAPOST_API
#endif

enum sagapost_code {
    /* An argument, or the connection's state, makes no sense; nothing was sent. */
    SAGAPOST_ERROR_USAGE = -1,
    /* Deadlock, serialization failure, lock not available, out of disk: roll back and run the whole
     * transaction again. */
    SAGAPOST_ERROR_AGAIN = -2,
    /* The connection is gone, or useless (read-only). If COMMIT was under way, whether it took
     * place is unknown: find out by what it wrote, or let the repeat be recognised. */
    SAGAPOST_ERROR_LOST = -3,
    /* A rule of Sagapost says no: SQLSTATE of class SG. */
    SAGAPOST_ERROR_REFUSED = -4,
    /* The data can never be taken: a limit, bad JSON (SQLSTATE of class 22, 23, 54). */
    SAGAPOST_ERROR_BAD_DATA = -5,
    /* Anything else: a missing schema, a missing privilege, a bug. */
    SAGAPOST_ERROR_NO_SERVICE = -6
};

/* UTF-8, NUL-terminated. The server's primary message and hint: no rows, no payloads. */
struct sagapost_error {
    int code;         /* enum sagapost_code */
    char sqlstate[6]; /* "" when it was not the server that spoke */
    char message[512];
};

/* A UUID's text and its NUL. */
#define SAGAPOST_UUID_BYTES 37

#ifdef __cplusplus
}
#endif

#endif
