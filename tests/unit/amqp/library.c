#include "tests/unit/amqp/library.h"
#include "tests/unit/amqp/cmocka_with.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void good(amqp_rpc_reply_t reply)
{
    assert_int_equal(reply.reply_type, AMQP_RESPONSE_NORMAL);
}

amqp_connection_state_t library_connect(const char *uri)
{
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    struct amqp_connection_info info;
    char *copy = strdup(uri); /* amqp_parse_url writes into it */

    assert_non_null(socket);
    assert_non_null(copy);
    assert_int_equal(amqp_parse_url(copy, &info), 0);
    assert_int_equal(amqp_socket_open(socket, info.host, info.port), 0);
    good(amqp_login(connection, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user,
                    info.password));
    free(copy);
    amqp_channel_open(connection, 1);
    good(amqp_get_rpc_reply(connection));
    return connection;
}

void library_disconnect(amqp_connection_state_t connection)
{
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
}

void library_delete_queue(const char *uri, const char *queue)
{
    amqp_connection_state_t connection = library_connect(uri);

    amqp_queue_delete(connection, 1, amqp_cstring_bytes(queue), false, false);
    good(amqp_get_rpc_reply(connection));
    library_disconnect(connection);
}

int library_queue_length(const char *uri, const char *queue)
{
    amqp_connection_state_t connection = library_connect(uri);
    amqp_queue_declare_ok_t *ok = amqp_queue_declare(connection, 1, amqp_cstring_bytes(queue), true,
                                                     false, false, false, amqp_empty_table);
    int length;

    good(amqp_get_rpc_reply(connection));
    length = (int)ok->message_count;
    library_disconnect(connection);
    return length;
}
