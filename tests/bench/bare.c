#include "tests/bench/bare.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, why);
    exit(1);
}

void settled_init(struct settled *settled, uint64_t messages)
{
    *settled = (struct settled){.most = messages, .tags = calloc(messages + 2, sizeof(bool))};
    if (!settled->tags)
        die("set-up", "out of memory");
}

void settled_confirm(struct settled *settled, uint64_t tag, bool multiple)
{
    if (tag > settled->most)
        die("confirm", "of a message that was not sent");
    for (uint64_t t = multiple ? settled->up_to + 1 : tag; t <= tag; t++) {
        settled->confirmed += !settled->tags[t];
        settled->tags[t] = true;
    }
    while (settled->up_to < settled->most && settled->tags[settled->up_to + 1])
        settled->up_to++;
}

static void check(amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type != AMQP_RESPONSE_NORMAL)
        die(what, reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION
                      ? amqp_error_string2(reply.library_error)
                      : amqp_method_name(reply.reply.id));
}

void bare_check(amqp_connection_state_t connection, const char *what)
{
    check(amqp_get_rpc_reply(connection), what);
}

amqp_connection_state_t bare_connect(const char *uri)
{
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    struct amqp_connection_info info;
    char *copy = strdup(uri); /* amqp_parse_url writes into it, and info points into it */

    if (!copy || !socket || amqp_parse_url(copy, &info) || info.ssl)
        die("URI", "plain amqp:// only");
    if (amqp_socket_open(socket, info.host, info.port))
        die("connect", info.host);
    check(amqp_login(connection, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user,
                     info.password),
          "login");
    free(copy);
    amqp_channel_open(connection, 1);
    bare_check(connection, "channel");
    return connection;
}

void bare_disconnect(amqp_connection_state_t connection)
{
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
}

void bare_declare(amqp_connection_state_t connection, const char *queue, const char *type)
{
    amqp_table_entry_t argument = {
        .key = amqp_cstring_bytes("x-queue-type"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(type)}};
    amqp_table_t arguments = {.num_entries = 1, .entries = &argument};

    amqp_queue_declare(connection, 1, amqp_cstring_bytes(queue), false, true, false, false,
                       arguments);
    bare_check(connection, "declare");
}

void bare_delete(const char *uri, const char *queue)
{
    amqp_connection_state_t connection = bare_connect(uri);

    amqp_queue_delete(connection, 1, amqp_cstring_bytes(queue), false, false);
    bare_check(connection, "delete");
    bare_disconnect(connection);
}

void bare_start(struct bare *bare, const char *uri, const char *queue, uint64_t messages)
{
    *bare = (struct bare){.connection = bare_connect(uri), .queue = queue};
    settled_init(&bare->settled, messages);
    for (int i = 0; i < SAMPLE_HEADERS; i++)
        bare->headers[i] = (amqp_table_entry_t){
            .key = amqp_cstring_bytes(sample_headers[i].name),
            .value = {.kind = AMQP_FIELD_KIND_UTF8,
                      .value.bytes = amqp_cstring_bytes(
                          i == SAMPLE_TYPE_HEADER ? queue : sample_headers[i].value)}};
    bare->properties = (amqp_basic_properties_t){
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                  AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG |
                  AMQP_BASIC_APP_ID_FLAG | AMQP_BASIC_HEADERS_FLAG,
        .content_type = amqp_cstring_bytes(SAMPLE_CONTENT_TYPE),
        .delivery_mode = 2,
        .message_id = amqp_cstring_bytes(SAMPLE_MESSAGE_ID),
        .timestamp = SAMPLE_TIMESTAMP_S,
        .type = amqp_cstring_bytes(queue),
        .app_id = amqp_cstring_bytes(SAMPLE_APP_ID),
        .headers = {.num_entries = SAMPLE_HEADERS, .entries = bare->headers},
    };
    amqp_confirm_select(bare->connection, 1);
    bare_check(bare->connection, "confirm.select");
}

void bare_publish(struct bare *bare, void *body, size_t bytes)
{
    int status =
        amqp_basic_publish(bare->connection, 1, amqp_empty_bytes, amqp_cstring_bytes(bare->queue),
                           true, false, &bare->properties, (amqp_bytes_t){bytes, body});

    if (status)
        die("publish", amqp_error_string2(status));
    bare->sent++;
}

void bare_confirms(struct bare *bare, bool wait)
{
    for (;;) {
        struct timeval timeout = {.tv_sec = wait ? 60 : 0};
        amqp_frame_t frame;
        int status = amqp_simple_wait_frame_noblock(bare->connection, &frame, &timeout);
        const amqp_basic_ack_t *ack;

        if (status == AMQP_STATUS_TIMEOUT && !wait)
            return;
        if (status)
            die("confirm", amqp_error_string2(status));
        if (frame.frame_type != AMQP_FRAME_METHOD ||
            frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
            die("confirm", "something else came");
        ack = frame.payload.method.decoded;
        settled_confirm(&bare->settled, ack->delivery_tag, ack->multiple);
        amqp_maybe_release_buffers_on_channel(bare->connection, 1);
        wait = false;
    }
}

void bare_stop(struct bare *bare)
{
    bare_disconnect(bare->connection);
    free(bare->settled.tags);
}

uint64_t bare_bytes_sent(const struct bare *bare)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);

    if (getsockopt(amqp_get_sockfd(bare->connection), IPPROTO_TCP, TCP_INFO, &info, &size))
        die("TCP_INFO", "not to be had");
    return info.tcpi_bytes_acked;
}
