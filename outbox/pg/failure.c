#include "outbox/pg/failure.h"

#include "outbox/pg/sqlstate.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum error_retry pg_classify_sqlstate(const char *sqlstate)
{
    return sqlstate_class(sqlstate);
}

/* A plan that was made before a table changed cannot be run any more; on a new connection it is
 * made anew. The SQLSTATE alone (feature not supported) does not tell. */
static bool is_stale_plan(const PGresult *result, const char *sqlstate)
{
    const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);
    return strcmp(sqlstate, "0A000") == 0 && function != NULL &&
           strcmp(function, "RevalidateCachedQuery") == 0;
}

int pg_failure_of_result(const PGresult *result, struct error *error)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

    /* Without a SQLSTATE it was libpq that spoke: the connection is gone, or its bytes make no
     * sense any more. */
    if (sqlstate == NULL || strlen(sqlstate) != 5) {
        char code[6], message[ERROR_MESSAGE_BYTES_MAX];
        pg_failure_split_verbose(PQresultErrorMessage(result), code, message, sizeof(message));
        return error_set(error, ERROR_POSTGRES, RETRY_RECONNECT, "%s",
                         message[0] != '\0' ? message : "the connection to the server was lost");
    }
    enum error_retry retry =
        is_stale_plan(result, sqlstate) ? RETRY_RECONNECT : pg_classify_sqlstate(sqlstate);
    int code =
        error_set(error, strncmp(sqlstate, "SG", 2) == 0 ? ERROR_REFUSED : ERROR_POSTGRES, retry,
                  "%s%s%s%s", primary != NULL ? primary : "error without a message",
                  hint != NULL ? " (" : "", hint != NULL ? hint : "", hint != NULL ? ")" : "");
    if (error != NULL)
        memcpy(error->sqlstate, sqlstate, sizeof(error->sqlstate));
    return code;
}

/* "28P01: " at `text`? */
static bool is_sqlstate(const char *text)
{
    for (int i = 0; i < 5; i++) {
        if (!isupper((unsigned char)text[i]) && !isdigit((unsigned char)text[i]))
            return false;
    }
    return text[5] == ':' && text[6] == ' ';
}

void pg_failure_split_verbose(const char *text, char sqlstate[6], char *message,
                              size_t message_bytes)
{
    size_t used = 0;
    bool at_line_start = true;

    /* With several hosts there are several; the last one tried decides. */
    memset(sqlstate, 0, 6);
    while (*text != '\0' && used + 1 < message_bytes) {
        if (at_line_start && strncmp(text, "LOCATION:", 9) == 0) {
            text += strcspn(text, "\n");
            text += *text == '\n';
            continue;
        }
        /* "FATAL:  28P01: password ...": the word is translated, the two spaces are not. */
        if (strncmp(text, ":  ", 3) == 0 && is_sqlstate(text + 3)) {
            memcpy(sqlstate, text + 3, 5);
            message[used++] = ':';
            text += 3 + 5 + 1;
            continue;
        }
        at_line_start = *text == '\n';
        if (at_line_start) {
            text++;
            text += strspn(text, " \t\n");
            if (used > 0 && message[used - 1] != ' ')
                message[used++] = ' ';
            continue;
        }
        message[used++] = *text++;
    }
    while (used > 0 && message[used - 1] == ' ')
        used--;
    message[used] = '\0';
}

/* Who has not asked for TLS does not know what libpq speaks of: conninfo.c asks for it. libpq gives
 * these failures no code, and where it speaks another language nothing is added. */
static const char *explanation(const char *message)
{
    bool is_tls =
        strstr(message, "SSL was required") != NULL || strstr(message, "certificate") != NULL;
    return is_tls
               ? " (beyond this machine the server must show a certificate that is valid for its "
                 "name, unless sslmode in the connection string, or PGSSLMODE, says otherwise)"
               : "";
}

int pg_failure_of_connection(PGconn *connection, struct error *error)
{
    char sqlstate[6], message[ERROR_MESSAGE_BYTES_MAX];
    enum error_retry retry = RETRY_RECONNECT;

    pg_failure_split_verbose(PQerrorMessage(connection), sqlstate, message, sizeof(message));
    if (sqlstate[0] != '\0')
        retry = pg_classify_sqlstate(sqlstate);
    else if (PQconnectionNeedsPassword(connection))
        retry = RETRY_NEVER;
    int code = error_set(error, ERROR_POSTGRES, retry, "%s%s",
                         message[0] != '\0' ? message : "the connection to the server was lost",
                         sqlstate[0] == '\0' ? explanation(message) : "");
    if (error != NULL)
        memcpy(error->sqlstate, sqlstate, sizeof(error->sqlstate));
    return code;
}
