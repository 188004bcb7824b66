/* bench_publish: a bare confirmed publisher, to measure others against.
 *
 *   bench_publish (--library | --frames) [--uri URI] [--queue NAME] [--type classic|quorum]
 *                 [--window N] [--messages N] [--bytes N] [--headers N]
 *
 * --library publishes as programs with rabbitmq-c do: amqp_basic_publish, and a frame loop for the
 * confirms. --frames publishes through outbox/amqp. Both keep `window` messages unconfirmed, with
 * the same bytes on the wire. The queue is declared first and deleted afterwards. Prints one line:
 *
 *   frames, classic queue, window 2000, 100000 messages of 200 bytes: 43290 messages/s, 0.26 us ...
 */
#include "outbox/amqp/broker.h"
#include "outbox/amqp/compat.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define HEADERS_MAX 32

struct bench {
    bool library;
    const char *uri, *queue, *type;
    uint64_t window, messages;
    size_t bytes;
    int headers;

    char *body;
    char names[HEADERS_MAX][32];
    uint64_t sent, confirmed;
    bool *settled; /* by tag: confirms come out of order and may stand for many */
    uint64_t settled_up_to;
    bool refused;
    int64_t start_us, start_cpu_us;

    struct loop *loop;
    struct broker *broker;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_publish: %s: %s\n", what, why);
    exit(1);
}

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
           "%.2f us of CPU per message\n",
           b->library ? "library" : "frames", b->type, (unsigned long long)b->window,
           (unsigned long long)b->messages, b->bytes, (double)b->messages / seconds, cpu);
}

static void settle(struct bench *b, uint64_t tag, bool multiple, bool acked)
{
    if (!acked)
        b->refused = true;
    for (uint64_t t = multiple ? b->settled_up_to + 1 : tag; t <= tag; t++) {
        b->confirmed += !b->settled[t];
        b->settled[t] = true;
    }
    while (b->settled_up_to < b->messages && b->settled[b->settled_up_to + 1])
        b->settled_up_to++;
}

/* ---- through outbox/amqp ---- */

static struct broker_text text_of(const char *text)
{
    return (struct broker_text){text, strlen(text)};
}

static bool fill(void *data)
{
    struct bench *b = data;
    struct broker_header headers[HEADERS_MAX];
    struct broker_message message = {
        .routing_key = text_of(b->queue),
        .mandatory = true,
        .persistent = true,
        .message_id = text_of("0190a5b0-7c1e-7000-8000-000000000000"),
        .type = text_of("order.created"),
        .content_type = text_of("application/json"),
        .app_id = text_of("bench"),
        .timestamp_s = 1700000000,
        .headers = headers,
        .header_count = b->headers,
        .body = b->body,
        .body_bytes = b->bytes,
    };
    bool did = false;

    for (int i = 0; i < b->headers; i++)
        headers[i] = (struct broker_header){.name = text_of(b->names[i]),
                                            .kind = BROKER_TEXT,
                                            .text = text_of("some value of a header")};
    while (b->sent < b->messages && b->sent - b->confirmed < b->window &&
           broker_can_publish(b->broker)) {
        struct error error;
        uint64_t tag;

        if (broker_publish(b->broker, &message, &tag, &error))
            die("publish", error.message);
        b->sent++;
        did = true;
    }
    if (b->confirmed == b->messages)
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
    settle(data, tag, multiple, acked);
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

    if (loop_create(&b->loop, &clock_system, &error) ||
        broker_create(&b->broker, b->loop, &options, &error) ||
        loop_hook_add(b->loop, fill, b, &hook, &error))
        die("set-up", error.message);
    broker_start(b->broker);
    if (loop_run(b->loop, &error))
        die("loop", error.message);
    report(b);
    broker_destroy(b->broker);
    loop_destroy(b->loop);
}

/* ---- with rabbitmq-c alone ---- */

static void check(amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return;
    die(what, reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION
                  ? amqp_error_string2(reply.library_error)
                  : amqp_method_name(reply.reply.id));
}

static amqp_connection_state_t library_connect(const struct bench *b)
{
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    struct amqp_connection_info info;
    char *uri = strdup(b->uri); /* amqp_parse_url writes into it, and info points into it */

    if (!uri || !socket || amqp_parse_url(uri, &info) || info.ssl)
        die("URI", "not usable with --library (plain TCP only)");
    if (amqp_socket_open(socket, info.host, info.port))
        die("connect", info.host);
    check(amqp_login(connection, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user,
                     info.password),
          "login");
    free(uri);
    amqp_channel_open(connection, 1);
    check(amqp_get_rpc_reply(connection), "channel");
    return connection;
}

static void library_declare(const struct bench *b, amqp_connection_state_t connection)
{
    amqp_table_entry_t type = {
        .key = amqp_cstring_bytes("x-queue-type"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(b->type)}};
    amqp_table_t arguments = {.num_entries = 1, .entries = &type};

    amqp_queue_declare(connection, 1, amqp_cstring_bytes(b->queue), false, true, false, false,
                       arguments);
    check(amqp_get_rpc_reply(connection), "declare");
}

static void library_delete(const struct bench *b)
{
    amqp_connection_state_t connection = library_connect(b);

    amqp_queue_delete(connection, 1, amqp_cstring_bytes(b->queue), false, false);
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
}

/* Takes what confirms are there; waits for one if it must. */
static void library_confirms(struct bench *b, amqp_connection_state_t connection, bool wait)
{
    for (;;) {
        struct timeval timeout = {.tv_sec = wait ? 60 : 0};
        amqp_frame_t frame;
        int status = amqp_simple_wait_frame_noblock(connection, &frame, &timeout);

        if (status == AMQP_STATUS_TIMEOUT && !wait)
            return;
        if (status || frame.frame_type != AMQP_FRAME_METHOD)
            die("confirm", amqp_error_string2(status));
        if (frame.payload.method.id == AMQP_BASIC_ACK_METHOD) {
            const amqp_basic_ack_t *ack = frame.payload.method.decoded;

            settle(b, ack->delivery_tag, ack->multiple, true);
        } else {
            die("unexpected", amqp_method_name(frame.payload.method.id));
        }
        amqp_maybe_release_buffers_on_channel(connection, 1);
        wait = false;
    }
}

static void library_loop(struct bench *b, amqp_connection_state_t connection)
{
    amqp_table_entry_t headers[HEADERS_MAX];
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                  AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG |
                  AMQP_BASIC_APP_ID_FLAG | (b->headers ? AMQP_BASIC_HEADERS_FLAG : 0),
        .content_type = amqp_cstring_bytes("application/json"),
        .delivery_mode = 2,
        .message_id = amqp_cstring_bytes("0190a5b0-7c1e-7000-8000-000000000000"),
        .timestamp = 1700000000,
        .type = amqp_cstring_bytes("order.created"),
        .app_id = amqp_cstring_bytes("bench"),
        .headers = {.num_entries = b->headers, .entries = headers},
    };
    amqp_bytes_t body = {.len = b->bytes, .bytes = b->body};

    for (int i = 0; i < b->headers; i++)
        headers[i] = (amqp_table_entry_t){
            .key = amqp_cstring_bytes(b->names[i]),
            .value = {.kind = AMQP_FIELD_KIND_UTF8,
                      .value.bytes = amqp_cstring_bytes("some value of a header")}};
    while (b->confirmed < b->messages) {
        int status;

        if (b->sent == b->messages || b->sent - b->confirmed >= b->window) {
            library_confirms(b, connection, true);
            continue;
        }
        status = amqp_basic_publish(connection, 1, amqp_empty_bytes, amqp_cstring_bytes(b->queue),
                                    true, false, &properties, body);
        if (status)
            die("publish", amqp_error_string2(status));
        b->sent++;
        /* Often enough that the broker never waits for us to read. */
        if (b->sent % 64 == 0)
            library_confirms(b, connection, false);
    }
}

static void run_library(struct bench *b)
{
    amqp_connection_state_t connection = library_connect(b);

    library_declare(b, connection);
    amqp_confirm_select(connection, 1);
    check(amqp_get_rpc_reply(connection), "confirm.select");
    start(b);
    library_loop(b, connection);
    report(b);
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
}

/* ---- */

static void usage(void)
{
    fprintf(stderr, "usage: bench_publish --library|--frames [--uri URI] [--queue NAME] "
                    "[--type classic|quorum]\n"
                    "                     [--window N] [--messages N] [--bytes N] [--headers N]\n");
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
    static const struct option options[] = {
        {"library", no_argument, NULL, 'l'},        {"frames", no_argument, NULL, 'f'},
        {"uri", required_argument, NULL, 'u'},      {"queue", required_argument, NULL, 'q'},
        {"type", required_argument, NULL, 't'},     {"window", required_argument, NULL, 'w'},
        {"messages", required_argument, NULL, 'm'}, {"bytes", required_argument, NULL, 'b'},
        {"headers", required_argument, NULL, 'h'},  {0}};
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
        case 'h':
            b->headers = (int)number(optarg, HEADERS_MAX);
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
        .bytes = 200,
    };

    parse(&b, argc, argv);
    if (!b.uri)
        b.uri = "amqp://localhost";
    b.body = malloc(b.bytes + 1);
    b.settled = calloc(b.messages + 2, sizeof(*b.settled));
    if (!b.body || !b.settled)
        die("set-up", "out of memory");
    memset(b.body, 'x', b.bytes);
    for (int i = 0; i < b.headers; i++)
        snprintf(b.names[i], sizeof(b.names[i]), "cloudEvents_%02d", i);
    if (b.library)
        run_library(&b);
    else
        run_frames(&b);
    if (b.refused)
        die("confirm", "the broker refused messages");
    library_delete(&b);
    free(b.settled);
    free(b.body);
    return 0;
}
