/* example.c: keeps a list of sales: a service that consumes what an order service publishes.
 *
 *     cc example.c $(pkg-config --cflags --libs sagapost-inbox) -o sales
 *
 * PGHOST, PGDATABASE, PGUSER ... say where the database is, AMQP_URI where RabbitMQ is; the queue
 * `sales` is there, and so is the table: create table sale (number bigint, body text). */
#include <sagapost/inbox.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static struct sagapost_inbox *inbox;

static void on_signal(int number)
{
    (void)number;
    sagapost_inbox_stop(inbox); /* NOLINT(bugprone-signal-handler,cert-sig30-c): made for it */
}

static int on_batch(void *data, PGconn *connection, const struct sagapost_inbox_message *messages,
                    int count)
{
    int code = 0;

    (void)data;
    for (int i = 0; i < count && code == 0; i++) {
        const char *const values[] = {messages[i].body};
        PGresult *result = PQexecParams(
            connection, "insert into sale select ($1::jsonb ->> 'n')::bigint, $1::jsonb::text", 1,
            NULL, values, NULL, NULL, 0);
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        if (PQresultStatus(result) != PGRES_COMMAND_OK) /* class 22, 23: it will never be taken */
            code =
                state != NULL && state[0] == '2' ? SAGAPOST_ERROR_BAD_DATA : SAGAPOST_ERROR_AGAIN;
        PQclear(result);
    }
    return code;
}

static void on_refused(void *data, PGconn *connection, const struct sagapost_inbox_message *message,
                       const struct sagapost_error *why)
{
    (void)data;
    (void)connection;
    fprintf(stderr, "refused: message %s: %s\n", message->message_id, why->message);
}

static void on_trouble(void *data, const char *server, const char *why)
{
    (void)data;
    fprintf(stderr, "%s: %s\n", server, why != NULL ? why : "connected again");
}

int main(void)
{
    struct sagapost_error error = {0};
    struct sagapost_inbox_options options = {.amqp = getenv("AMQP_URI"),
                                             .queue = "sales",
                                             .consumer = "sales",
                                             .on_batch = on_batch,
                                             .on_refused = on_refused,
                                             .on_trouble = on_trouble};
    PGconn *connection = PQconnectdb("");

    int code = sagapost_inbox_create(&inbox, connection, &options, &error);
    if (code == 0) {
        signal(SIGTERM, on_signal);
        code = sagapost_inbox_run(inbox, &error);
    }
    if (code < 0)
        fprintf(stderr, "%s\n", error.message);
    else
        printf("%llu sales\n", sagapost_inbox_count(inbox).taken);
    sagapost_inbox_destroy(inbox);
    PQfinish(connection);
    return code < 0;
}
