/* sqlstate.h: the class of a SQLSTATE. In a header, because libsagapost needs it too, and exports
 * no names but its own. */
#ifndef SAGAPOST_PG_SQLSTATE_H
#define SAGAPOST_PG_SQLSTATE_H

#include "outbox/runtime/error.h"

#include <string.h>

/* See pg_classify_sqlstate. */
static inline enum error_retry sqlstate_class(const char *sqlstate)
{
    /* Longer prefixes stand before shorter ones: the first that fits decides. Source of the codes:
     * PostgreSQL's manual, Appendix A. */
    static const struct {
        const char *prefix;
        enum error_retry retry;
    } classes[] = {
        {"25006", RETRY_RECONNECT}, /* read-only: a primary that no longer is */
        {"25P03", RETRY_RECONNECT}, /* idle in a transaction for too long; the server closes */
        {"25P04", RETRY_RECONNECT}, /* transaction timeout; the server closes */
        {"26000",
         RETRY_RECONNECT},    /* a prepared statement is gone: somebody reset the connection */
        {"40001", RETRY_NOW}, /* serialization failure */
        {"40P01", RETRY_NOW}, /* deadlock */
        {"40003", RETRY_RECONNECT}, /* whether the statement took effect is unknown */
        {"40002", RETRY_POISON},    /* a deferred constraint */
        {"42501", RETRY_NEVER},     /* a privilege is missing */
        {"55006", RETRY_LATER},     /* object in use */
        {"55P03", RETRY_LATER},     /* lock not available */
        {"57014", RETRY_LATER},     /* cancelled: statement_timeout, or a person */
        {"3D000", RETRY_NEVER},     /* no such database */
        {"57P", RETRY_RECONNECT},   /* shutdown, crash, starting up, terminated */
        {"08", RETRY_RECONNECT},    /* connection */
        {"22", RETRY_POISON},       /* data */
        {"23", RETRY_POISON},       /* integrity */
        {"28", RETRY_NEVER},        /* password, pg_hba.conf, role */
        {"53", RETRY_LATER},        /* disk, memory, connections */
        {"54", RETRY_POISON},       /* a limit of the server's, as the size of an index row */
        {"58", RETRY_LATER},        /* I/O errors of the server's machine */
        {"SG", RETRY_POISON},       /* a rule of ours says no */
    };

    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (strncmp(sqlstate, classes[i].prefix, strlen(classes[i].prefix)) == 0)
            return classes[i].retry;
    }
    return RETRY_BUG;
}

#endif
