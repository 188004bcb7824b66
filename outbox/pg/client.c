/* client.c: the blocking wire. */
#include "outbox/pg/client.h"

#include "outbox/pg/conninfo.h"
#include "outbox/pg/failure.h"
#include "outbox/pg/sql.h"
#include "outbox/runtime/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pg_client {
    PGconn *connection;
};

static void ignore_notice(void *data, const PGresult *result)
{
    (void)data;
    (void)result;
}

/* Waits for the socket until `deadline_us`. False: the time is over. */
static bool wait_socket(PGconn *connection, short events, int64_t deadline_us)
{
    for (;;) {
        int64_t left_us = deadline_us - clock_monotonic_us(&clock_system);
        struct pollfd watch = {.fd = PQsocket(connection), .events = events};
        if (watch.fd < 0)
            return true; /* closed: poll would not even look at it */
        if (left_us <= 0)
            return false;
        int64_t left_ms = left_us / US_PER_MS + 1;
        int ready = poll(&watch, 1, left_ms > INT32_MAX ? INT32_MAX : (int)left_ms);
        if (ready > 0 || (ready < 0 && errno != EINTR))
            return true; /* whatever is wrong with it, libpq finds out */
    }
}

static int64_t deadline_in(int64_t from_now_us)
{
    return clock_monotonic_us(&clock_system) + from_now_us;
}

/* Connecting --------------------------------------------------------------------------------- */

/* A list of hosts is a primary and its standbys, and a command line wants the primary. A single
 * host is taken as it is, so that a standby can be looked at. */
static bool has_several_hosts(const char *conninfo)
{
    const char *environment = getenv("PGHOST");
    return (conninfo != NULL && strchr(conninfo, ',') != NULL) ||
           (environment != NULL && strchr(environment, ',') != NULL);
}

static int start_connection(struct pg_client *client, const struct pg_conninfo *conninfo,
                            struct error *error)
{
    const char *const *keywords;
    const char *const *values;

    PQfinish(client->connection);
    pg_conninfo_keywords(conninfo, &keywords, &values);
    client->connection = PQconnectStartParams(keywords, values, 0);
    if (client->connection == NULL)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for a connection");
    if (PQstatus(client->connection) == CONNECTION_BAD)
        return pg_failure_of_connection(client->connection, error);
    PQsetErrorVerbosity(client->connection, PQERRORS_VERBOSE); /* failure.h says why */
    PQsetNoticeReceiver(client->connection, ignore_notice, NULL);
    return 0;
}

/* ERROR_TIMEOUT when the host that libpq was trying stayed silent. */
static int finish_connection(struct pg_client *client, int64_t timeout_us, struct error *error)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    int64_t deadline_us = deadline_in(timeout_us);
    char host[256] = "";

    while (status == PGRES_POLLING_READING || status == PGRES_POLLING_WRITING) {
        const char *now = PQhost(client->connection);
        if (now != NULL && strncmp(host, now, sizeof(host) - 1) != 0) {
            snprintf(host, sizeof(host), "%s", now);
            deadline_us = deadline_in(timeout_us); /* each host gets the whole time */
        }
        short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (!wait_socket(client->connection, events, deadline_us))
            return error_set(error, ERROR_TIMEOUT, RETRY_RECONNECT,
                             "no answer from %s port %s within %lld ms", host,
                             PQport(client->connection), (long long)(timeout_us / US_PER_MS));
        status = PQconnectPoll(client->connection);
    }
    if (status != PGRES_POLLING_OK)
        return pg_failure_of_connection(client->connection, error);
    PQsetErrorVerbosity(client->connection, PQERRORS_DEFAULT);
    return 0;
}

static int connect_hosts(struct pg_client *client, struct pg_conninfo *conninfo, int64_t timeout_us,
                         struct error *error)
{
    int code;
    do {
        code = start_connection(client, conninfo, error);
        if (code == 0)
            code = finish_connection(client, timeout_us, error);
    } while (code == ERROR_TIMEOUT && pg_conninfo_next_host(conninfo, client->connection));
    return code;
}

static int apply_settings(struct pg_client *client, struct error *error)
{
    struct pg_params params;

    pg_params_init(&params);
    for (int i = 0; i < 3; i++)
        pg_params_text(&params, NULL); /* no limits: a person waits for as long as a person likes */
    int code = pg_client_query(client, sql_pg_settings.sql, &params, NULL, error);
    pg_params_free(&params);
    return code;
}

int pg_client_connect(struct pg_client **ret_client, const char *conninfo,
                      const char *application_name, int64_t connect_timeout_us, struct error *error)
{
    struct pg_conninfo *parsed;
    int code = pg_conninfo_parse(&parsed, conninfo, application_name, false, error);
    if (code < 0)
        return code;
    struct pg_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        pg_conninfo_free(parsed);
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for a connection");
    }
    if (has_several_hosts(conninfo))
        code = pg_conninfo_default(parsed, "target_session_attrs", "primary", error);
    if (code == 0)
        code = connect_hosts(client, parsed, connect_timeout_us, error);
    if (code == 0)
        code = apply_settings(client, error);
    pg_conninfo_free(parsed);
    if (code < 0) {
        pg_client_close(client);
        return code;
    }
    *ret_client = client;
    return 0;
}

void pg_client_close(struct pg_client *client)
{
    if (client == NULL)
        return;
    PQfinish(client->connection);
    free(client);
}

/* Statements --------------------------------------------------------------------------------- */

/* 0 when the result is none of an error; the result stays the caller's. */
static int check_result(struct pg_client *client, const PGresult *result, struct error *error)
{
    if (result == NULL)
        return pg_failure_of_connection(client->connection, error);
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        return 0;
    case PGRES_FATAL_ERROR:
        return pg_failure_of_result(result, error);
    default: /* COPY; the next PQexec ends it */
        return error_set(error, ERROR_STATE, RETRY_BUG, "%s is not supported here",
                         PQresStatus(PQresultStatus(result)));
    }
}

int pg_client_query(struct pg_client *client, const char *sql, const struct pg_params *params,
                    struct pg_result **ret_result, struct error *error)
{
    const char *values[PG_PARAMS_MAX];
    int code = pg_params_values(params, values, error);
    if (code < 0)
        return code;
    PGresult *result = params == NULL
                           ? PQexecParams(client->connection, sql, 0, NULL, NULL, NULL, NULL, 1)
                           : PQexecParams(client->connection, sql, params->count, params->types,
                                          values, params->lengths, params->formats, 1);
    code = check_result(client, result, error);
    if (code < 0 || ret_result == NULL)
        PQclear(result);
    else
        *ret_result = result;
    return code;
}

/* The line of the character at `position`, which starts at 1 (PG_DIAG_STATEMENT_POSITION). */
static int line_of(const char *sql, long position)
{
    int line = 1;

    for (; *sql != '\0' && position > 1; sql++) {
        line += *sql == '\n';
        /* Bytes that go on with a UTF-8 character are none of their own. */
        position -= ((unsigned char)sql[1] & 0xC0) != 0x80;
    }
    return line;
}

int pg_client_script(struct pg_client *client, const char *sql, struct error *error)
{
    PGresult *result = PQexec(client->connection, sql);
    int code = check_result(client, result, error);

    if (code < 0 && result != NULL && error != NULL) {
        const char *position = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
        const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);
        if (position != NULL)
            error_context(error, "line %d", line_of(sql, strtol(position, NULL, 10)));
        else if (context != NULL)
            error_context(error, "%.200s", context);
    }
    PQclear(result);
    return code;
}

int pg_client_wait_notify(struct pg_client *client, int64_t timeout_us, bool *ret_came,
                          struct error *error)
{
    int64_t deadline_us = deadline_in(timeout_us);

    for (;;) {
        PGnotify *notify = PQnotifies(client->connection);
        bool came = notify != NULL;
        for (; notify != NULL; notify = PQnotifies(client->connection))
            PQfreemem(notify);
        if (came || !wait_socket(client->connection, POLLIN, deadline_us)) {
            *ret_came = came;
            return 0;
        }
        if (!PQconsumeInput(client->connection))
            return pg_failure_of_connection(client->connection, error);
    }
}
