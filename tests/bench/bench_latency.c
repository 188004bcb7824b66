/* bench_latency: how long from COMMIT to the consumer.
 *
 *   bench_latency --queue NAME [--type classic|quorum] [--bytes N]
 *                 (--rate N --seconds N [--threads N] [--bare] | --idle N)
 *
 * --rate: threads commit transactions of one outbox row each at a fixed rate, whatever becomes of
 * the earlier ones (an open loop), and note when COMMIT returned; a consumer notes what arrives, by
 * the number in the message. The first second is left out. --idle: N messages one by one, each
 * committed once the relay sleeps. --bare: the writers commit to the table plain.message, which no
 * relay reads, and publish by themselves as soon as COMMIT has returned: what both servers take
 * without a relay in between, on a way that loses messages. The servers come from SAGAPOST_POSTGRES
 * and SAGAPOST_AMQP. Prints one line; `silence` is the longest time between two arrivals (what a
 * takeover takes). */
#include "outbox/runtime/clock.h"
#include "tests/bench/bare.h"

#include <getopt.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEYS        1000
#define BYTES_MIN   64
#define BYTES_MAX   8192
#define LIMIT_US    (60 * (int64_t)US_PER_S)
#define THREADS_MAX 64

struct bench {
    const char *postgres, *amqp, *queue, *type;
    size_t bytes;
    unsigned rate, seconds, threads, idle;
    bool bare;

    unsigned count;
    int64_t start_us;
    int64_t *committed_us;       /* by number; a writer's slot is its own */
    _Atomic int64_t *arrived_us; /* 0: not yet */
    atomic_uint arrived;
    atomic_llong late_us; /* a writer behind its rate, at most */
    atomic_llong silence_us;
    atomic_bool over;
};

struct writer {
    struct bench *bench;
    unsigned first;
    PGconn *connection;
    struct bare bare;
    pthread_t thread;
};

static int64_t now_us(void)
{
    return clock_monotonic_us(&clock_system);
}

static void pause_us(int64_t us)
{
    struct timespec pause = {.tv_sec = us / US_PER_S, .tv_nsec = us % US_PER_S * 1000};

    if (us > 0)
        nanosleep(&pause, NULL);
}

static void raise_to(atomic_llong *most, int64_t value)
{
    long long old = atomic_load(most);

    while (value > old && !atomic_compare_exchange_weak(most, &old, value))
        ;
}

/* ---- writing ---- */

static PGconn *connect_postgres(const struct bench *b)
{
    PGconn *connection = PQconnectdb(b->postgres);
    PGresult *result = PQprepare(
        connection, "write",
        b->bare ? "insert into plain.message (type, key, payload) values ($1, $2, $3::json)"
                : "insert into outbox.message (type, key, payload) values ($1, $2, $3::json)",
        0, NULL);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die("connect", PQerrorMessage(connection));
    PQclear(result);
    return connection;
}

/* A statement outside a transaction block: when its answer is here, it has committed. `payload` has
 * room for BYTES_MAX + 1. */
static void write_message(struct bench *b, PGconn *connection, unsigned number, char *payload)
{
    char key[16];
    const char *values[] = {b->queue, key, payload};
    PGresult *result;
    size_t used;

    snprintf(key, sizeof(key), "k%u", number % KEYS);
    memset(payload, 'x', b->bytes);
    used = (size_t)snprintf(payload, b->bytes, "{\"n\": %u, \"padding\": \"", number);
    payload[used] = 'x';
    snprintf(payload + b->bytes - 2, 3, "\"}");
    result = PQexecPrepared(connection, "write", 3, values, NULL, NULL, 0);
    b->committed_us[number] = now_us();
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die("write", PQerrorMessage(connection));
    PQclear(result);
}

static void *write_at_rate(void *data)
{
    struct writer *writer = data;
    struct bench *b = writer->bench;
    char payload[BYTES_MAX + 1];

    for (unsigned n = writer->first; n < b->count; n += b->threads) {
        int64_t due_us = b->start_us + (int64_t)n * US_PER_S / b->rate;

        pause_us(due_us - now_us());
        raise_to(&b->late_us, now_us() - due_us);
        write_message(b, writer->connection, n, payload);
        if (b->bare) {
            bare_publish(&writer->bare, payload, b->bytes);
            bare_confirms(&writer->bare, false);
        }
    }
    return NULL;
}

static void run_rate(struct bench *b)
{
    struct writer writers[THREADS_MAX];

    for (unsigned i = 0; i < b->threads; i++) {
        writers[i] = (struct writer){.bench = b, .first = i, .connection = connect_postgres(b)};
        if (b->bare)
            bare_start(&writers[i].bare, b->amqp, b->queue, b->count);
    }
    b->start_us = now_us();
    for (unsigned i = 0; i < b->threads; i++)
        if (pthread_create(&writers[i].thread, NULL, write_at_rate, &writers[i]))
            die("set-up", "no thread");
    for (unsigned i = 0; i < b->threads; i++) {
        pthread_join(writers[i].thread, NULL);
        PQfinish(writers[i].connection);
        if (b->bare)
            bare_stop(&writers[i].bare);
    }
}

static void wait_arrived(struct bench *b, unsigned count)
{
    int64_t limit_us = now_us() + LIMIT_US;

    while (atomic_load(&b->arrived) < count) {
        if (now_us() > limit_us)
            die("wait", "messages do not arrive");
        pause_us(100);
    }
}

/* A relay that sleeps holds this advisory lock (migrations/README.md). */
static void wait_asleep(PGconn *connection)
{
    int64_t limit_us = now_us() + LIMIT_US;

    for (;;) {
        PGresult *result = PQexec(
            connection, "select from pg_locks where locktype = 'advisory' and classid = 1397161985 "
                        "and mode = 'ExclusiveLock' and granted and database = "
                        "(select oid from pg_database where datname = current_database())");
        bool asleep = PQntuples(result) > 0;

        PQclear(result);
        if (asleep)
            return;
        if (now_us() > limit_us)
            die("wait", "the relay does not sleep");
        pause_us(5000);
    }
}

static void run_idle(struct bench *b)
{
    PGconn *connection = connect_postgres(b);
    char payload[BYTES_MAX + 1];

    for (unsigned n = 0; n < b->count; n++) {
        wait_asleep(connection);
        pause_us(50000); /* what the look at its sleep stirred up is over */
        write_message(b, connection, n, payload);
        wait_arrived(b, n + 1);
    }
    PQfinish(connection);
}

/* ---- consuming ---- */

static void note(struct bench *b, const amqp_bytes_t *body, int64_t *last_us)
{
    static const char start[] = "{\"n\": ";
    char copy[sizeof(start) + 16] = {0};
    unsigned number;

    memcpy(copy, body->bytes, body->len < sizeof(copy) - 1 ? body->len : sizeof(copy) - 1);
    if (strncmp(copy, start, sizeof(start) - 1) != 0)
        die("consume", "not a message of ours");
    number = (unsigned)strtoul(copy + sizeof(start) - 1, NULL, 10);
    if (number >= b->count || atomic_load(&b->arrived_us[number]))
        return;
    atomic_store(&b->arrived_us[number], now_us());
    if (*last_us)
        raise_to(&b->silence_us, atomic_load(&b->arrived_us[number]) - *last_us);
    *last_us = atomic_load(&b->arrived_us[number]);
    atomic_fetch_add(&b->arrived, 1);
}

static void *consume(void *data)
{
    struct bench *b = data;
    amqp_connection_state_t connection = bare_connect(b->amqp);
    int64_t last_us = 0;

    amqp_basic_qos(connection, 1, 0, 2000, false);
    bare_check(connection, "qos");
    amqp_basic_consume(connection, 1, amqp_cstring_bytes(b->queue), amqp_empty_bytes, false, false,
                       false, amqp_empty_table);
    bare_check(connection, "consume");
    while (!atomic_load(&b->over)) {
        struct timeval timeout = {.tv_usec = 100000};
        amqp_envelope_t envelope;
        amqp_rpc_reply_t reply = amqp_consume_message(connection, &envelope, &timeout, 0);

        if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
            note(b, &envelope.message.body, &last_us);
            amqp_basic_ack(connection, 1, envelope.delivery_tag, false);
            amqp_destroy_envelope(&envelope);
        } else if (reply.library_error != AMQP_STATUS_TIMEOUT) {
            die("consume", amqp_error_string2(reply.library_error));
        }
        amqp_maybe_release_buffers(connection);
    }
    bare_disconnect(connection);
    return NULL;
}

/* ---- */

static int by_value(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

    return (a > b) - (a < b);
}

static double in_ms(int64_t us)
{
    return (double)us / US_PER_MS;
}

static void report(const struct bench *b)
{
    unsigned skipped = b->idle ? 0 : b->rate, count = 0;
    int64_t *taken = calloc(b->count, sizeof(*taken));

    if (!taken)
        die("report", "out of memory");
    for (unsigned n = skipped; n < b->count; n++)
        taken[count++] = atomic_load(&b->arrived_us[n]) - b->committed_us[n];
    qsort(taken, count, sizeof(*taken), by_value);
    printf("%u messages: p50 %.3f ms, p99 %.3f ms, most %.3f ms, silence %.3f ms, writers late "
           "%.3f ms\n",
           count, in_ms(taken[count / 2]), in_ms(taken[count * 99 / 100]), in_ms(taken[count - 1]),
           in_ms(b->silence_us), in_ms(b->late_us));
    free(taken);
}

static _Noreturn void usage(void)
{
    fprintf(stderr,
            "usage: bench_latency --queue NAME [--type classic|quorum] [--bytes N]\n"
            "                     (--rate N --seconds N [--threads N] [--bare] | --idle N)\n");
    exit(2);
}

static unsigned number(const char *text, unsigned most)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (end == text || *end || value > most)
        usage();
    return (unsigned)value;
}

static void parse(struct bench *b, int argc, char **argv)
{
    static const struct option options[] = {{"queue", required_argument, NULL, 'q'},
                                            {"type", required_argument, NULL, 'y'},
                                            {"bytes", required_argument, NULL, 'b'},
                                            {"rate", required_argument, NULL, 'r'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"idle", required_argument, NULL, 'i'},
                                            {"bare", no_argument, NULL, 'B'},
                                            {0}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'q':
            b->queue = optarg;
            break;
        case 'y':
            b->type = optarg;
            break;
        case 'b':
            b->bytes = number(optarg, BYTES_MAX);
            break;
        case 'r':
            b->rate = number(optarg, 1000000);
            break;
        case 's':
            b->seconds = number(optarg, 3600);
            break;
        case 't':
            b->threads = number(optarg, THREADS_MAX);
            break;
        case 'i':
            b->idle = number(optarg, 100000);
            break;
        case 'B':
            b->bare = true;
            break;
        default:
            usage();
        }
    }
    b->count = b->idle ? b->idle : b->rate * b->seconds;
    if (optind != argc || !b->queue || !b->postgres || !b->amqp || !b->threads ||
        b->bytes < BYTES_MIN || (b->idle ? b->bare : b->seconds < 2 || !b->rate))
        usage();
}

int main(int argc, char **argv)
{
    struct bench b = {
        .postgres = getenv("SAGAPOST_POSTGRES"),
        .amqp = getenv("SAGAPOST_AMQP"),
        .type = "quorum",
        .bytes = 500,
        .threads = 8,
    };
    amqp_connection_state_t connection;
    pthread_t consumer;

    parse(&b, argc, argv);
    b.committed_us = calloc(b.count, sizeof(*b.committed_us));
    b.arrived_us = calloc(b.count, sizeof(*b.arrived_us));
    if (!b.committed_us || !b.arrived_us)
        die("set-up", "out of memory");
    connection = bare_connect(b.amqp);
    bare_declare(connection, b.queue, b.type);
    if (pthread_create(&consumer, NULL, consume, &b))
        die("set-up", "no thread");
    if (b.idle)
        run_idle(&b);
    else
        run_rate(&b);
    wait_arrived(&b, b.count);
    atomic_store(&b.over, true);
    pthread_join(consumer, NULL);
    report(&b);
    bare_disconnect(connection);
    bare_delete(b.amqp, b.queue);
    free(b.committed_us);
    free(b.arrived_us);
    return 0;
}
