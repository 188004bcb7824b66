#include "tests/unit/amqp/fake.h"
#include "tests/unit/amqp/cmocka_with.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_S 10

/* ---- for the test ---- */

void fake_init(struct fake *fake)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int one = 1;

    memset(fake, 0, sizeof(*fake));
    fake->fd = -1;
    fake->frame_max = 131072;
    fake->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fake->listen_fd >= 0);
    assert_int_equal(setsockopt(fake->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    assert_int_equal(bind(fake->listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(fake->listen_fd, (struct sockaddr *)&address, &length), 0);
    fake->port = ntohs(address.sin_port);
    snprintf(fake->uri, sizeof(fake->uri), "amqp://user:secret@127.0.0.1:%d/vh", fake->port);
    snprintf(fake->tls_uri, sizeof(fake->tls_uri), "amqps://user:secret@127.0.0.1:%d/vh",
             fake->port);
    assert_int_equal(sem_init(&fake->to_script, 0, 0), 0);
    assert_int_equal(sem_init(&fake->to_test, 0, 0), 0);
}

static void *run(void *data)
{
    struct fake *fake = data;

    fake->script(fake);
    return NULL;
}

void fake_start(struct fake *fake, void (*script)(struct fake *fake))
{
    assert_int_equal(listen(fake->listen_fd, 16), 0);
    fake->script = script;
    assert_int_equal(pthread_create(&fake->thread, NULL, run, fake), 0);
}

void fake_finish(struct fake *fake)
{
    assert_int_equal(pthread_join(fake->thread, NULL), 0);
    fake_close(fake);
    close(fake->listen_fd);
    sem_destroy(&fake->to_script);
    sem_destroy(&fake->to_test);
    if (fake->failure[0])
        fail_msg("the fake broker: %s", fake->failure);
}

void fake_go(struct fake *fake)
{
    sem_post(&fake->to_script);
}

bool fake_said(struct fake *fake)
{
    return !sem_trywait(&fake->to_test);
}

static bool wait_for(sem_t *semaphore)
{
    struct timespec limit;

    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += LIMIT_S;
    while (sem_timedwait(semaphore, &limit))
        if (errno != EINTR)
            return false;
    return true;
}

void fake_hear(struct fake *fake)
{
    if (!wait_for(&fake->to_test))
        fail_msg("the fake broker did not get that far: %s", fake->failure);
}

/* ---- for the script ---- */

void fake_fail(struct fake *fake, const char *why)
{
    snprintf(fake->failure, sizeof(fake->failure), "%s (last read: frame of type %d, method %s)",
             why, fake->frame.type,
             fake->frame.method ? amqp_method_name(fake->frame.method) : "none");
    fake_close(fake);
    pthread_exit(NULL);
}

void fake_wait(struct fake *fake)
{
    if (!wait_for(&fake->to_script))
        fake_fail(fake, "the test did not call fake_go");
}

void fake_say(struct fake *fake)
{
    sem_post(&fake->to_test);
}

/* False when the listener was shut, or nobody came. */
static bool try_accept(struct fake *fake)
{
    struct timeval limit = {.tv_sec = LIMIT_S};
    int one = 1;

    fake_close(fake);
    setsockopt(fake->listen_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    fake->fd = accept(fake->listen_fd, NULL, NULL);
    if (fake->fd < 0)
        return false;
    setsockopt(fake->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fake->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    setsockopt(fake->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return true;
}

void fake_accept(struct fake *fake)
{
    if (!try_accept(fake))
        fake_fail(fake, "nobody connected");
    if (!fake->tls)
        return;
    fake->ssl = SSL_new(fake->tls);
    if (!fake->ssl || SSL_set_fd(fake->ssl, fake->fd) != 1)
        fake_fail(fake, "SSL_new");
    SSL_accept(fake->ssl); /* a refusal by the session shows with the first read */
}

static ssize_t take(struct fake *fake, void *bytes, size_t count)
{
    if (fake->ssl)
        return SSL_read(fake->ssl, bytes, (int)count);
    return recv(fake->fd, bytes, count, 0);
}

static bool try_read_all(struct fake *fake, void *bytes, size_t count)
{
    uint8_t *at = bytes;

    while (count) {
        ssize_t got = take(fake, at, count);

        if (got <= 0)
            return false;
        at += got;
        count -= (size_t)got;
    }
    return true;
}

static void read_all(struct fake *fake, void *bytes, size_t count)
{
    if (!try_read_all(fake, bytes, count))
        fake_fail(fake, "the session hung up or waited too long");
}

bool fake_try_read(struct fake *fake)
{
    struct fake_frame *frame = &fake->frame;
    uint8_t start[7], end;
    uint32_t method, bytes;
    uint16_t channel;

    if (!try_read_all(fake, start, sizeof(start)))
        return false;
    memcpy(&channel, start + 1, sizeof(channel));
    memcpy(&bytes, start + 3, sizeof(bytes));
    frame->type = start[0];
    frame->channel = be16toh(channel);
    frame->bytes = be32toh(bytes);
    frame->method = 0;
    if (frame->bytes > sizeof(frame->payload))
        fake_fail(fake, "a frame larger than agreed: the stream is out of step");
    if (!try_read_all(fake, frame->payload, frame->bytes) || !try_read_all(fake, &end, 1))
        return false;
    if (end != AMQP_FRAME_END)
        fake_fail(fake, "a frame without its end: the stream is out of step");
    if (frame->type == AMQP_FRAME_METHOD) {
        memcpy(&method, frame->payload, sizeof(method));
        frame->method = be32toh(method);
    }
    return true;
}

void fake_read(struct fake *fake)
{
    if (!fake_try_read(fake))
        fake_fail(fake, "the session hung up or waited too long");
}

void fake_expect(struct fake *fake, int channel, uint32_t method)
{
    char why[128];

    do
        fake_read(fake);
    while (fake->frame.type == AMQP_FRAME_HEARTBEAT);
    snprintf(why, sizeof(why), "expected %s on channel %d", amqp_method_name(method), channel);
    if (fake->frame.method != method || fake->frame.channel != channel)
        fake_fail(fake, why);
}

int fake_read_until(struct fake *fake, int channel, uint32_t method)
{
    int publishes = 0;

    for (;;) {
        fake_read(fake);
        if (fake->frame.method == method && fake->frame.channel == channel)
            return publishes;
        if (fake->frame.method == AMQP_BASIC_PUBLISH_METHOD)
            publishes++;
        else if (fake->frame.type == AMQP_FRAME_METHOD)
            fake_fail(fake, "an unexpected method");
    }
}

void fake_read_publishes(struct fake *fake, int count)
{
    for (int i = 0; i < count; i++) {
        fake_read_until(fake, 1, AMQP_BASIC_PUBLISH_METHOD);
        fake_read(fake); /* header */
        fake_read(fake); /* body */
    }
}

void fake_expect_eof(struct fake *fake)
{
    uint8_t byte;
    ssize_t got;

    do
        got = take(fake, &byte, 1);
    while (got > 0);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        fake_fail(fake, "the session did not hang up");
}

/* Errors show with the next read: the session may have hung up rightly. */
void fake_send_bytes(struct fake *fake, const void *bytes, size_t count)
{
    const uint8_t *at = bytes;
    size_t step = fake->dribble ? 1 : count;

    while (count) {
        ssize_t sent = fake->ssl ? SSL_write(fake->ssl, at, (int)step)
                                 : send(fake->fd, at, step, MSG_NOSIGNAL);

        if (sent <= 0)
            return;
        at += sent;
        count -= (size_t)sent;
        if (step > count)
            step = count;
    }
}

static void send_frame(struct fake *fake, int type, int channel, const void *payload, size_t bytes)
{
    uint8_t frame[7 + 4096 + 1];
    uint16_t big_channel = htobe16((uint16_t)channel);
    uint32_t big_bytes = htobe32((uint32_t)bytes);

    if (bytes > 4096)
        fake_fail(fake, "the fake sends small frames only");
    frame[0] = (uint8_t)type;
    memcpy(frame + 1, &big_channel, sizeof(big_channel));
    memcpy(frame + 3, &big_bytes, sizeof(big_bytes));
    if (bytes)
        memcpy(frame + 7, payload, bytes);
    frame[7 + bytes] = AMQP_FRAME_END;
    fake_send_bytes(fake, frame, 7 + bytes + 1);
}

void fake_send(struct fake *fake, int channel, uint32_t method, void *decoded)
{
    uint8_t payload[4096];
    uint32_t big = htobe32(method);
    amqp_bytes_t arguments = {sizeof(payload) - 4, payload + 4};
    int bytes = amqp_encode_method(method, decoded, arguments);

    if (bytes < 0)
        fake_fail(fake, "cannot encode");
    memcpy(payload, &big, sizeof(big));
    send_frame(fake, AMQP_FRAME_METHOD, channel, payload, 4 + (size_t)bytes);
}

void fake_send_header(struct fake *fake, int channel, uint64_t body_bytes, const char *message_id)
{
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_MESSAGE_ID_FLAG,
                                          .message_id = amqp_cstring_bytes(message_id)};
    uint8_t payload[1024] = {0, AMQP_BASIC_CLASS};
    uint64_t big = htobe64(body_bytes);
    amqp_bytes_t rest = {sizeof(payload) - 12, payload + 12};
    int bytes = amqp_encode_properties(AMQP_BASIC_CLASS, &properties, rest);

    if (bytes < 0)
        fake_fail(fake, "cannot encode");
    memcpy(payload + 4, &big, sizeof(big));
    send_frame(fake, AMQP_FRAME_HEADER, channel, payload, 12 + (size_t)bytes);
}

void fake_send_return(struct fake *fake, const char *message_id, uint64_t body_bytes)
{
    amqp_basic_return_t returned = {.reply_code = 312,
                                    .reply_text = amqp_cstring_bytes("NO_ROUTE"),
                                    .exchange = amqp_cstring_bytes("x"),
                                    .routing_key = amqp_cstring_bytes("k")};

    fake_send(fake, 1, AMQP_BASIC_RETURN_METHOD, &returned);
    fake_send_header(fake, 1, body_bytes, message_id);
}

void fake_send_body(struct fake *fake, int channel, const char *text)
{
    send_frame(fake, AMQP_FRAME_BODY, channel, text, strlen(text));
}

void fake_send_heartbeat(struct fake *fake)
{
    send_frame(fake, AMQP_FRAME_HEARTBEAT, 0, NULL, 0);
}

void fake_send_ack(struct fake *fake, uint64_t tag, bool multiple)
{
    amqp_basic_ack_t ack = {.delivery_tag = tag, .multiple = multiple};

    fake_send(fake, 1, AMQP_BASIC_ACK_METHOD, &ack);
}

/* channel 0: the connection */
void fake_send_close(struct fake *fake, int channel, int code, const char *text)
{
    amqp_channel_close_t close = {.reply_code = (uint16_t)code,
                                  .reply_text = amqp_cstring_bytes(text)};

    /* connection.close has the same arguments */
    fake_send(fake, channel, channel ? AMQP_CHANNEL_CLOSE_METHOD : AMQP_CONNECTION_CLOSE_METHOD,
              &close);
}

void fake_deliver(struct fake *fake, uint64_t tag, const char *body)
{
    amqp_basic_deliver_t deliver = {.consumer_tag = amqp_cstring_bytes("c"),
                                    .delivery_tag = tag,
                                    .exchange = amqp_cstring_bytes("x"),
                                    .routing_key = amqp_cstring_bytes("k")};

    fake_send(fake, 1, AMQP_BASIC_DELIVER_METHOD, &deliver);
    fake_send_header(fake, 1, strlen(body), "delivered");
    if (*body)
        fake_send_body(fake, 1, body);
}

void fake_close(struct fake *fake)
{
    SSL_free(fake->ssl);
    fake->ssl = NULL;
    if (fake->fd >= 0)
        close(fake->fd);
    fake->fd = -1;
}

void fake_reset(struct fake *fake)
{
    struct linger at_once = {.l_onoff = 1};

    setsockopt(fake->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    fake_close(fake);
}

/* ---- the usual beginning and end ---- */

void fake_login_start(struct fake *fake)
{
    amqp_connection_start_t start = {.version_major = 0,
                                     .version_minor = 9,
                                     .mechanisms = amqp_cstring_bytes("AMQPLAIN PLAIN"),
                                     .locales = amqp_cstring_bytes("en_US")};
    uint8_t header[8];

    read_all(fake, header, sizeof(header));
    if (memcmp(header, "AMQP\0\0\x09\x01", sizeof(header)) != 0)
        fake_fail(fake, "no protocol header");
    fake_send(fake, 0, AMQP_CONNECTION_START_METHOD, &start);
    fake_expect(fake, 0, AMQP_CONNECTION_START_OK_METHOD);
}

void fake_tune(struct fake *fake)
{
    amqp_connection_tune_t tune = {
        .channel_max = 2047, .frame_max = fake->frame_max, .heartbeat = fake->heartbeat_s};

    fake_send(fake, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
    fake_expect(fake, 0, AMQP_CONNECTION_TUNE_OK_METHOD);
    fake_expect(fake, 0, AMQP_CONNECTION_OPEN_METHOD);
}

void fake_login(struct fake *fake)
{
    amqp_connection_open_ok_t ok = {.known_hosts = amqp_empty_bytes};

    fake_login_start(fake);
    fake_tune(fake);
    fake_send(fake, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &ok);
}

void fake_channel(struct fake *fake)
{
    amqp_channel_open_ok_t open_ok = {.channel_id = amqp_empty_bytes};
    amqp_confirm_select_ok_t select_ok = {0};

    fake_expect(fake, 1, AMQP_CHANNEL_OPEN_METHOD);
    fake_send(fake, 1, AMQP_CHANNEL_OPEN_OK_METHOD, &open_ok);
    fake_expect(fake, 1, AMQP_CONFIRM_SELECT_METHOD);
    fake_send(fake, 1, AMQP_CONFIRM_SELECT_OK_METHOD, &select_ok);
}

void fake_up(struct fake *fake)
{
    fake_accept(fake);
    fake_login(fake);
    fake_channel(fake);
}

void fake_goodbye(struct fake *fake)
{
    amqp_connection_close_ok_t ok = {0};

    fake_expect(fake, 0, AMQP_CONNECTION_CLOSE_METHOD);
    fake_send(fake, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    fake_expect_eof(fake);
}

/* ---- a broker that does everything it is asked ---- */

/* Of the basic.publish that was read last: method, ticket, exchange, routing key. */
static bool is_for(const struct fake *fake, const char *routing_key)
{
    const uint8_t *exchange = fake->frame.payload + 6, *key = exchange + 1 + exchange[0];

    return key[0] == strlen(routing_key) && memcmp(key + 1, routing_key, key[0]) == 0;
}

static void settle(struct fake *fake, uint64_t tag)
{
    amqp_basic_nack_t nack = {.delivery_tag = tag};

    if (is_for(fake, FAKE_REFUSED))
        fake_send(fake, 1, AMQP_BASIC_NACK_METHOD, &nack);
    else
        fake_send_ack(fake, tag, false);
}

/* Answers the method that was read last; false after connection.close. */
static bool answer(struct fake *f, uint64_t *published)
{
    amqp_connection_open_ok_t open_ok = {.known_hosts = amqp_empty_bytes};
    amqp_channel_open_ok_t channel_ok = {.channel_id = amqp_empty_bytes};
    amqp_queue_declare_ok_t queue_ok = {.queue = amqp_cstring_bytes("q")};
    amqp_basic_consume_ok_t consume_ok = {.consumer_tag = amqp_cstring_bytes("c")};
    amqp_connection_tune_t tune = {
        .channel_max = 10, .frame_max = f->frame_max, .heartbeat = f->heartbeat_s};
    char nothing[64] = {0}; /* the arguments of a method that has none */

    switch (f->frame.method) {
    case AMQP_CONNECTION_START_OK_METHOD:
        fake_send(f, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
        break;
    case AMQP_CONNECTION_OPEN_METHOD:
        fake_send(f, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &open_ok);
        break;
    case AMQP_CONNECTION_CLOSE_METHOD:
        fake_send(f, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, nothing);
        return false;
    case AMQP_CHANNEL_OPEN_METHOD:
        if (f->frame.channel == 1)
            *published = 0;
        fake_send(f, f->frame.channel, AMQP_CHANNEL_OPEN_OK_METHOD, &channel_ok);
        break;
    case AMQP_QUEUE_DECLARE_METHOD:
        fake_send(f, f->frame.channel, AMQP_QUEUE_DECLARE_OK_METHOD, &queue_ok);
        break;
    case AMQP_BASIC_CONSUME_METHOD:
        fake_send(f, f->frame.channel, AMQP_BASIC_CONSUME_OK_METHOD, &consume_ok);
        if (f->frame.channel == 1)
            fake_deliver(f, 1, "hello");
        break;
    case AMQP_CHANNEL_CLOSE_METHOD:
    case AMQP_CONFIRM_SELECT_METHOD:
    case AMQP_EXCHANGE_DECLARE_METHOD:
    case AMQP_QUEUE_BIND_METHOD:
    case AMQP_QUEUE_DELETE_METHOD:
    case AMQP_BASIC_QOS_METHOD:
        fake_send(f, f->frame.channel, f->frame.method + 1, nothing); /* its -ok */
        break;
    case AMQP_BASIC_PUBLISH_METHOD:
        settle(f, ++*published);
        break;
    default: /* tune-ok, acknowledgements, content, heartbeats */
        break;
    }
    return true;
}

static void serve_connection(struct fake *fake)
{
    amqp_connection_start_t start = {.version_minor = 9,
                                     .mechanisms = amqp_cstring_bytes("PLAIN"),
                                     .locales = amqp_cstring_bytes("en_US")};
    uint64_t published = 0;
    uint8_t header[8];

    if (!try_read_all(fake, header, sizeof(header)))
        return;
    fake_send(fake, 0, AMQP_CONNECTION_START_METHOD, &start);
    while (fake_try_read(fake) && answer(fake, &published))
        ;
}

void fake_serve(struct fake *fake)
{
    while (try_accept(fake))
        serve_connection(fake);
}

static void *serve_beside(void *data)
{
    struct fake *fake = data;

    do
        fake_serve(fake);
    while (errno == EAGAIN); /* nobody came for a while */
    fake_close(fake);
    return NULL;
}

void fake_serve_some(struct fake *fake)
{
    static struct fake all[FAKE_SERVED_AT_ONCE];

    for (int i = 0; i < FAKE_SERVED_AT_ONCE; i++) {
        all[i] = *fake;
        if (pthread_create(&all[i].thread, NULL, serve_beside, &all[i]))
            abort();
    }
    fake_say(fake);
    for (int i = 0; i < FAKE_SERVED_AT_ONCE; i++) {
        pthread_join(all[i].thread, NULL);
        if (all[i].failure[0])
            memcpy(fake->failure, all[i].failure, sizeof(fake->failure));
    }
}

void fake_end(struct fake *fake)
{
    shutdown(fake->listen_fd, SHUT_RDWR);
}
