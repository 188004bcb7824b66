/* bench_publish: a bare confirmed publisher, to measure others against.
 *
 *   bench_publish (--library | --frames) [--uri URI] [--queue NAME] [--type classic|quorum]
 *                 [--window N] [--messages N] [--bytes N]
 *
 * --library publishes as programs with rabbitmq-c do (bare.h), --frames through outbox/amqp. Both
 * keep `window` messages unconfirmed, with the same bytes on the wire, which are those of the relay
 * (sample.h). The queue is declared first and deleted afterwards. Prints one line:
 *
 *   frames, classic queue, window 2000, 100000 messages of 500 bytes: 43290 messages/s, 0.26 us ...
 */
#include "outbox/amqp/broker.h"
#include "tests/bench/bare.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

struct bench {
    bool library;
    const char *uri, *queue, *type;
    uint64_t window, messages;
    size_t bytes;
    char *body;
    int64_t start_us, start_cpu_us;

    /* --frames */
    struct loop *loop;
    struct broker *broker;
    struct settled settled;
    uint64_t sent;
};

static int64_t cpu_us(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * US_PER_S + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
}

static void start(struct bench *b)
{
    b->start_us = clock_monotonic_us(&clock_system);
    b->start_cpu_us = cpu_us();
}

static void report(const struct bench *b)
{
    double seconds = (double)(clock_monotonic_us(&clock_system) - b->start_us) / US_PER_S;
    double cpu = (double)(cpu_us() - b->start_cpu_us) / (double)b->messages;

    printf("%s, %s queue, window %llu, %llu messages of %zu bytes: %.0f messages/s, "
           "%.2f us of CPU per message",
           b->library ? "library" : "frames", b->type, (unsigned long long)b->window,
           (unsigned long long)b->messages, b->bytes, (double)b->messages / seconds, cpu);
}

/* ---- through outbox/amqp ---- */

static struct broker_text text_of(const char *text)
{
    return (struct broker_text){text, strlen(text)};
}

static bool fill(void *data)
{
    struct bench *b = data;
    struct broker_header headers[SAMPLE_HEADERS];
    struct broker_message message = {
        .routing_key = text_of(b->queue),
        .mandatory = true,
        .persistent = true,
        .message_id = text_of(SAMPLE_MESSAGE_ID),
        .type = text_of(b->queue),
        .content_type = text_of(SAMPLE_CONTENT_TYPE),
        .app_id = text_of(SAMPLE_APP_ID),
        .timestamp_s = SAMPLE_TIMESTAMP_S,
        .headers = headers,
        .header_count = SAMPLE_HEADERS,
        .body = b->body,
        .body_bytes = b->bytes,
    };
    bool did = false;

    for (int i = 0; i < SAMPLE_HEADERS; i++)
        headers[i] = (struct broker_header){
            .name = text_of(sample_headers[i].name),
            .kind = BROKER_TEXT,
            .text = text_of(i == SAMPLE_TYPE_HEADER ? b->queue : sample_headers[i].value)};
    while (b->sent < b->messages && b->sent - b->settled.confirmed < b->window &&
           broker_can_publish(b->broker)) {
        struct error error;
        uint64_t tag;

        if (broker_publish(b->broker, &message, &tag, &error))
            die("publish", error.message);
        b->sent++;
        did = true;
    }
    if (b->settled.confirmed == b->messages)
        loop_stop(b->loop);
    return did;
}

static void on_up(void *data, struct broker *broker)
{
    struct bench *b = data;
    const struct broker_argument type = {.name = "x-queue-type", .text = b->type};
    struct error error;

    if (broker_declare_queue(broker, b->queue, true, false, &type, 1, &error))
        die("declare", error.message);
    start(b);
}

static void on_down(void *data, struct broker *broker, const struct error *why, bool channel_only)
{
    (void)data;
    (void)broker;
    (void)channel_only;
    die("lost", why->message);
}

static void on_confirm(void *data, uint64_t tag, bool multiple, bool acked)
{
    struct bench *b = data;

    if (!acked)
        die("confirm", "the broker refused a message");
    settled_confirm(&b->settled, tag, multiple);
}

static void run_frames(struct bench *b)
{
    struct broker_options options = {
        .uri = b->uri,
        .connection_name = "bench_publish",
        .verify_peer = true,
        .heartbeat_s = 30,
        .connect_timeout_us = 10 * US_PER_S,
        .backoff_base_us = US_PER_S,
        .backoff_cap_us = US_PER_S,
        .out_bytes_max = 1 << 20,
        .confirms = true,
        .on_up = on_up,
        .on_down = on_down,
        .on_confirm = on_confirm,
        .data = b,
    };
    struct loop_hook *hook;
    struct error error;

    settled_init(&b->settled, b->messages);
    if (loop_create(&b->loop, &clock_system, &error) ||
        broker_create(&b->broker, b->loop, &options, &error) ||
        loop_hook_add(b->loop, fill, b, &hook, &error))
        die("set-up", error.message);
    broker_start(b->broker);
    if (loop_run(b->loop, &error))
        die("loop", error.message);
    report(b);
    printf("\n");
    broker_destroy(b->broker);
    loop_destroy(b->loop);
    free(b->settled.tags);
}

/* ---- with rabbitmq-c alone ---- */

static void run_library(struct bench *b)
{
    struct bare bare;
    uint64_t handshake;

    bare_start(&bare, b->uri, b->queue, b->messages);
    bare_declare(bare.connection, b->queue, b->type);
    handshake = bare_bytes_sent(&bare);
    start(b);
    while (bare.settled.confirmed < b->messages) {
        if (bare.sent == b->messages || bare.sent - bare.settled.confirmed >= b->window) {
            bare_confirms(&bare, true);
            continue;
        }
        bare_publish(&bare, b->body, b->bytes);
        /* Often enough that the broker never waits for us to read. */
        if (bare.sent % 64 == 0)
            bare_confirms(&bare, false);
    }
    report(b);
    printf(", %.1f bytes on the wire\n",
           (double)(bare_bytes_sent(&bare) - handshake) / (double)b->messages);
    bare_stop(&bare);
}

/* ---- */

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: bench_publish --library|--frames [--uri URI] [--queue NAME] "
                    "[--type classic|quorum]\n"
                    "                     [--window N] [--messages N] [--bytes N]\n");
    exit(2);
}

static uint64_t number(const char *text, uint64_t most)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    if (end == text || *end || value > most)
        usage();
    return value;
}

static void parse(struct bench *b, int argc, char **argv)
{
    static const struct option options[] = {{"library", no_argument, NULL, 'l'},
                                            {"frames", no_argument, NULL, 'f'},
                                            {"uri", required_argument, NULL, 'u'},
                                            {"queue", required_argument, NULL, 'q'},
                                            {"type", required_argument, NULL, 't'},
                                            {"window", required_argument, NULL, 'w'},
                                            {"messages", required_argument, NULL, 'm'},
                                            {"bytes", required_argument, NULL, 'b'},
                                            {0}};
    bool chosen = false;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'l':
        case 'f':
            b->library = option == 'l';
            chosen = true;
            break;
        case 'u':
            b->uri = optarg;
            break;
        case 'q':
            b->queue = optarg;
            break;
        case 't':
            b->type = optarg;
            break;
        case 'w':
            b->window = number(optarg, 1000000);
            break;
        case 'm':
            b->messages = number(optarg, 1000000000);
            break;
        case 'b':
            b->bytes = number(optarg, 100 << 20);
            break;
        default:
            usage();
        }
    }
    if (!chosen || optind != argc || !b->window || !b->messages)
        usage();
}

int main(int argc, char **argv)
{
    struct bench b = {
        .uri = getenv("SAGAPOST_AMQP"),
        .queue = "bench.publish",
        .type = "classic",
        .window = 2000,
        .messages = 100000,
        .bytes = 500,
    };

    parse(&b, argc, argv);
    if (!b.uri)
        b.uri = "amqp://localhost";
    b.body = malloc(b.bytes + 1);
    if (!b.body)
        die("set-up", "out of memory");
    memset(b.body, 'x', b.bytes);
    if (b.library)
        run_library(&b);
    else
        run_frames(&b);
    bare_delete(b.uri, b.queue);
    free(b.body);
    return 0;
}
