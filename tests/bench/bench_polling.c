/* bench_polling: a relay as most systems have it, to measure ours against.
 *
 *   bench_polling QUEUE MESSAGES [BATCH]
 *
 * Takes batches from the table plain.outbox until it is empty: SELECT ... FOR UPDATE SKIP LOCKED,
 * amqp_basic_publish of each row, wait for the batch's confirms, DELETE, COMMIT. MESSAGES: how many
 * there are, at most. The servers come from SAGAPOST_POSTGRES and SAGAPOST_AMQP. Prints one line.
 */
#include "outbox/runtime/clock.h"
#include "tests/bench/bare.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

static PGresult *query(PGconn *connection, const char *statement, int count,
                       const char *const *values, ExecStatusType wanted)
{
    PGresult *result = PQexecPrepared(connection, statement, count, values, NULL, NULL, 0);

    if (PQresultStatus(result) != wanted)
        die(statement, PQerrorMessage(connection));
    return result;
}

static void prepare(PGconn *connection, const char *name, const char *sql)
{
    PGresult *result = PQprepare(connection, name, sql, 0, NULL);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die(name, PQerrorMessage(connection));
    PQclear(result);
}

/* One transaction; returns how many rows it published. `ids` has room for those of a batch. */
static int batch(PGconn *connection, struct bare *bare, const char *most, char *ids,
                 size_t ids_bytes)
{
    PGresult *rows;
    int count;
    size_t at = 0;

    PQclear(query(connection, "begin", 0, NULL, PGRES_COMMAND_OK));
    rows = query(connection, "take", 1, &most, PGRES_TUPLES_OK);
    count = PQntuples(rows);
    for (int i = 0; i < count; i++) {
        bare_publish(bare, PQgetvalue(rows, i, 1), (size_t)PQgetlength(rows, i, 1));
        at += (size_t)snprintf(ids + at, ids_bytes - at, "%c%s", i ? ',' : '{',
                               PQgetvalue(rows, i, 0));
    }
    PQclear(rows);
    while (bare->settled.confirmed < bare->sent)
        bare_confirms(bare, true);
    if (count) {
        snprintf(ids + at, ids_bytes - at, "}");
        PQclear(query(connection, "delete", 1, (const char *[]){ids}, PGRES_COMMAND_OK));
    }
    PQclear(query(connection, "commit", 0, NULL, PGRES_COMMAND_OK));
    return count;
}

int main(int argc, char **argv)
{
    const char *postgres = getenv("SAGAPOST_POSTGRES"), *amqp = getenv("SAGAPOST_AMQP");
    const char *most = argc > 3 ? argv[3] : "100";
    size_t ids_bytes = argc > 2 ? 24 * strtoul(most, NULL, 10) + 3 : 0;
    struct bare bare;
    PGconn *connection;
    int64_t start_us;
    double seconds;
    char *ids;

    if (argc < 3 || argc > 4 || !postgres || !amqp || ids_bytes < 24) {
        fprintf(stderr, "usage: bench_polling QUEUE MESSAGES [BATCH]\n");
        return 2;
    }
    ids = malloc(ids_bytes);
    connection = PQconnectdb(postgres);
    if (!ids || PQstatus(connection) != CONNECTION_OK)
        die("connect", PQerrorMessage(connection));
    prepare(connection, "begin", "begin");
    prepare(connection, "take",
            "select id, payload, message_id, type, key from plain.outbox order by id limit $1::int "
            "for update skip locked");
    prepare(connection, "delete", "delete from plain.outbox where id = any ($1::bigint[])");
    prepare(connection, "commit", "commit");
    bare_start(&bare, amqp, argv[1], strtoull(argv[2], NULL, 10));
    start_us = clock_monotonic_us(&clock_system);
    while (batch(connection, &bare, most, ids, ids_bytes))
        ;
    seconds = (double)(clock_monotonic_us(&clock_system) - start_us) / US_PER_S;
    printf("polling, batches of %s: %.0f messages/s, %llu messages\n", most,
           (double)bare.sent / seconds, (unsigned long long)bare.sent);
    bare_stop(&bare);
    PQfinish(connection);
    free(ids);
    return 0;
}
