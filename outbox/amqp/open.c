#include "outbox/amqp/internal.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define USER_TIMEOUT_WITHOUT_HEARTBEAT_US (60 * (int64_t)US_PER_S)

static struct timeval timeval_of(int64_t us)
{
    return (struct timeval){.tv_sec = us / US_PER_S, .tv_usec = us % US_PER_S};
}

static amqp_table_entry_t text_entry(const char *name, const char *value)
{
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(name),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)},
    };
}

static amqp_table_entry_t true_entry(const char *name)
{
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(name),
        .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1},
    };
}

static amqp_rpc_reply_t login(struct broker *broker, int heartbeat_s)
{
    amqp_table_entry_t capabilities[] = {
        true_entry("connection.blocked"),
        true_entry("consumer_cancel_notify"),
        true_entry("publisher_confirms"),
        true_entry("basic.nack"),
    };
    amqp_table_entry_t properties[] = {
        text_entry("product", "Sagapost"),
        text_entry("version", SAGAPOST_VERSION),
        text_entry("connection_name",
                   broker->options.connection_name ? broker->options.connection_name : "sagapost"),
        {.key = amqp_cstring_bytes("capabilities"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE,
                   .value.table = {.num_entries = 4, .entries = capabilities}}},
    };
    amqp_table_t table = {.num_entries = 4, .entries = properties};

    return amqp_login_with_properties(broker->connection, broker->uri->vhost, 0, FRAME_BYTES_MAX,
                                      heartbeat_s, &table, AMQP_SASL_METHOD_PLAIN,
                                      broker->uri->user, broker->uri->password);
}

/* Names host, user and vhost, never the password. */
static int login_error(const struct broker *broker, amqp_rpc_reply_t reply, struct error *error)
{
    bool channel_only;
    int r = reply_check(broker, reply, "login", &channel_only, error);

    if (!r)
        return 0;
    r = error_context(error, "user '%s', vhost '%s'", broker->uri->user, broker->uri->vhost);
    if (error && error->amqp_code && broker->uri->trailing_slash) {
        size_t used = strlen(error->message);

        snprintf(error->message + used, sizeof(error->message) - used,
                 " (the URI ends in '/', which names an empty vhost: '/%%2f' or nothing is the "
                 "default one)");
    }
    return r;
}

static int connect_tls(struct broker *broker, struct error *error)
{
    const struct broker_options *o = &broker->options;
    const struct uri *uri = broker->uri;
    const struct tls_options options = {
        .host = uri->host,
        .ca_file = uri->ca_file ? uri->ca_file : o->ca_file,
        .certificate_file = uri->certificate_file ? uri->certificate_file : o->certificate_file,
        .key_file = uri->key_file ? uri->key_file : o->key_file,
        .verify_peer = uri->verify_peer >= 0 ? uri->verify_peer : o->verify_peer,
    };
    struct timeval timeout = timeval_of(broker_connect_timeout_us(broker));
    amqp_socket_t *socket;
    int status, r = tls_prepare(&broker->tls, broker->connection, &options, &socket, error);

    if (r)
        return r;
    status = amqp_socket_open_noblock(socket, uri->host, uri->port, &timeout);
    if (status)
        return tls_handshake_error(&broker->tls, status, broker->peer, error);
    if (!broker->tls.ssl)
        return error_set(error, ERROR_SYSTEM, RETRY_BUG,
                         "this rabbitmq-c does not show its TLS connection");
    return 0;
}

static int connect_plain(struct broker *broker, int fd, struct error *error)
{
    amqp_socket_t *socket = amqp_tcp_socket_new(broker->connection);

    if (!socket) {
        close(fd);
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "out of memory");
    }
    amqp_tcp_socket_set_sockfd(socket, fd);
    return 0;
}

/* A peer that takes no byte for two intervals is gone. Not while the broker has blocked us: it
 * leaves our bytes in its window for as long as its alarm lasts, and the kernel (since 5.11) would
 * count that as a dead peer. */
void open_user_timeout(struct broker *broker, bool armed)
{
    int64_t us =
        broker->heartbeat_us ? 2 * broker->heartbeat_us : USER_TIMEOUT_WITHOUT_HEARTBEAT_US;
    unsigned milliseconds = armed ? (unsigned)(us / US_PER_MS) : 0;

    /* Only a finer net under the heartbeats: where it cannot be set they do. */
    (void)setsockopt(amqp_get_sockfd(broker->connection), IPPROTO_TCP, TCP_USER_TIMEOUT,
                     &milliseconds, sizeof(milliseconds));
}

int open_connection(struct broker *broker, int fd, struct error *error)
{
    struct timeval timeout = timeval_of(broker_connect_timeout_us(broker));
    int heartbeat_s =
        broker->uri->heartbeat_s >= 0 ? broker->uri->heartbeat_s : broker->options.heartbeat_s;
    int status, r;

    if (broker->options.heartbeat_max_s &&
        (!heartbeat_s || heartbeat_s > broker->options.heartbeat_max_s))
        heartbeat_s = broker->options.heartbeat_max_s;
    broker->connection = amqp_new_connection();
    if (!broker->connection || amqp_set_handshake_timeout(broker->connection, &timeout) ||
        amqp_set_rpc_timeout(broker->connection, &timeout)) {
        close(fd);
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "out of memory");
    }
    if (broker->uri->tls) {
        /* rabbitmq-c cannot do TLS over a socket that it did not open. This one has shown on the
         * loop, without blocking, that the peer is there. */
        close(fd);
        r = connect_tls(broker, error);
    } else {
        r = connect_plain(broker, fd, error);
    }
    if (!r)
        r = login_error(broker, login(broker, heartbeat_s), error);
    if (r)
        return r;
    broker->frame_max = (size_t)amqp_get_frame_max(broker->connection);
    /* rabbitmq-c 0.11 as released takes what the peer says; Debian's and later ones raise it. */
    if (broker->frame_max < FRAME_BYTES_MIN)
        return reply_status(broker, AMQP_STATUS_BAD_AMQP_DATA, "login", error);
    broker->heartbeat_us = (int64_t)amqp_get_heartbeat(broker->connection) * US_PER_S;
    /* From here on heartbeats are ours: the library would send one of its own at any moment, in the
     * middle of a frame of which we have sent the first half. */
    status = amqp_tune_connection(broker->connection, amqp_get_channel_max(broker->connection),
                                  amqp_get_frame_max(broker->connection), 0);
    if (status)
        return reply_status(broker, status, "login", error);
    open_user_timeout(broker, true);
    return 0;
}

int close_channel(struct broker *broker, struct error *error)
{
    bool channel_only;

    return reply_check(broker, amqp_channel_close(broker->connection, CHANNEL, AMQP_REPLY_SUCCESS),
                       "closing a channel", &channel_only, error);
}

int open_channel(struct broker *broker, struct error *error)
{
    bool channel_only;
    int r;

    amqp_channel_open(broker->connection, CHANNEL);
    r = reply_check(broker, amqp_get_rpc_reply(broker->connection), "opening a channel",
                    &channel_only, error);
    if (r || !broker->options.confirms)
        return r;
    amqp_confirm_select(broker->connection, CHANNEL);
    return reply_check(broker, amqp_get_rpc_reply(broker->connection), "asking for confirms",
                       &channel_only, error);
}
