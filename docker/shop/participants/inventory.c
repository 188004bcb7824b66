/* inventory.c: keeps the stock for the order saga: the actions inventory.reserve and its undo
 * inventory.release, in C with libsagapost and rabbitmq-c.
 *
 *     cc inventory.c $(pkg-config --cflags --libs sagapost librabbitmq) -o inventory
 *
 * PGHOST, PGDATABASE, PGUSER ... say where the database is, AMQP_URI where RabbitMQ is. A
 * connection that is lost ends the program, with its commands unacknowledged: whoever keeps it
 * running starts it again, and RabbitMQ delivers them again. */
#include <sagapost/saga.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif

#define TRIES 5

/* Bodies are not NUL-terminated; PostgreSQL reads what is in them. */
static const char reserve[] =
    "with taken as (update shop.stock set on_hand = on_hand - ($1::jsonb ->> 'qty')::integer"
    "  where sku = $1::jsonb ->> 'sku' and on_hand >= ($1::jsonb ->> 'qty')::integer returning sku)"
    " insert into shop.reservation (saga, sku, qty)"
    " select ($2::jsonb #>> '{saga,id}')::uuid, sku, ($1::jsonb ->> 'qty')::integer from taken"
    " returning jsonb_build_object('reservation', id)";
static const char release[] =
    "with gone as (delete from shop.reservation where id = ($1::jsonb #>> '{output,reservation}')"
    "::bigint and $2::jsonb is not null returning sku, qty)"
    " update shop.stock s set on_hand = on_hand + gone.qty from gone where s.sku = gone.sku"
    " returning '{}'::jsonb";

static void end(const char *why)
{
    fprintf(stderr, "inventory: %s\n", why);
    exit(1);
}

static int run(PGconn *database, const char *sql)
{
    PGresult *result = PQexec(database, sql);
    int code = PQresultStatus(result) == PGRES_COMMAND_OK ? 0 : -1;
    PQclear(result);
    return code;
}

/* Inside the transaction. Negative: roll it back, and all of it again. */
static int carry_out(PGconn *database, const char *command, bool is_undo)
{
    struct sagapost_error error = {0};
    struct sagapost_received received = {0};
    size_t bytes = strlen(command);
    int code = sagapost_saga_receive(database, command, bytes, false, &received, &error);

    if (code == 0 && received.verdict == SAGAPOST_VERDICT_EXECUTE) {
        const char *const values[] = {received.input, command};
        code = run(database, "savepoint work");
        PGresult *done =
            PQexecParams(database, is_undo ? release : reserve, 2, NULL, values, NULL, NULL, 0);
        if (PQresultStatus(done) == PGRES_TUPLES_OK && PQntuples(done) == 1)
            code = sagapost_saga_reply(database, command, bytes, SAGAPOST_OUTCOME_OK,
                                       PQgetvalue(done, 0, 0), NULL, &error);
        else if (PQresultStatus(done) == PGRES_TUPLES_OK && !is_undo &&
                 run(database, "rollback to work") == 0) /* a business no */
            code = sagapost_saga_reply_failure(database, command, bytes, SAGAPOST_OUTCOME_FAILED,
                                               "out_of_stock", "not enough in stock", NULL, NULL,
                                               &error);
        else
            code = -1;
        PQclear(done);
    } /* on every other verdict it is answered already */
    if (code < 0)
        fprintf(stderr, "inventory: %s %s", error.message, PQerrorMessage(database));
    sagapost_received_free(&received);
    return code;
}

static bool treat(PGconn *database, const char *command, bool is_undo)
{
    for (int attempt = 0; attempt <= TRIES; attempt++) {
        int code = run(database, "begin");
        if (code == 0 && attempt < TRIES)
            code = carry_out(database, command, is_undo);
        else if (code == 0) /* giving up: the saga goes on by the step's own policy */
            code = sagapost_saga_reply_failure(database, command, strlen(command),
                                               SAGAPOST_OUTCOME_TRANSIENT, "given_up",
                                               "it failed again and again", NULL, NULL, NULL);
        if (code == 0)
            code = run(database, "commit");
        if (PQstatus(database) != CONNECTION_OK) /* COMMIT may have taken place: unacknowledged */
            end("the database is away");
        if (code == 0)
            return true;
        run(database, "rollback");
        usleep(100000 * (unsigned)attempt);
    }
    return false;
}

static void expect(amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type != AMQP_RESPONSE_NORMAL)
        end(what);
}

static bool is_action(amqp_bytes_t routing_key, const char *action)
{
    return routing_key.len == strlen(action) &&
           memcmp(routing_key.bytes, action, routing_key.len) == 0;
}

static amqp_connection_state_t connect_broker(char *uri)
{
    struct amqp_connection_info info;
    amqp_connection_state_t broker = amqp_new_connection();

    if (uri == NULL || amqp_parse_url(uri, &info) != AMQP_STATUS_OK)
        end("AMQP_URI is no URI");
    if (amqp_socket_open(amqp_tcp_socket_new(broker), info.host, info.port) != AMQP_STATUS_OK)
        end("RabbitMQ is away");
    expect(amqp_login(broker, info.vhost, 0, AMQP_DEFAULT_FRAME_SIZE, 30, AMQP_SASL_METHOD_PLAIN,
                      info.user, info.password),
           "login refused");
    amqp_channel_open(broker, 1);
    expect(amqp_get_rpc_reply(broker), "no channel");
    amqp_basic_qos(broker, 1, 0, 10, 0);
    amqp_basic_consume(broker, 1, amqp_cstring_bytes("saga.commands.inventory"), amqp_empty_bytes,
                       0, 0, 0, amqp_empty_table);
    expect(amqp_get_rpc_reply(broker), "cannot consume");
    return broker;
}

int main(void)
{
    PGconn *database = PQconnectdb("");
    if (PQstatus(database) != CONNECTION_OK)
        end(PQerrorMessage(database));
    amqp_connection_state_t broker = connect_broker(getenv("AMQP_URI"));
    for (;;) {
        amqp_envelope_t envelope;
        amqp_maybe_release_buffers(broker);
        expect(amqp_consume_message(broker, &envelope, NULL, 0), "RabbitMQ is away");
        char *command = strndup(envelope.message.body.bytes, envelope.message.body.len);
        if (command == NULL)
            end("no memory");
        bool is_undo = is_action(envelope.routing_key, "inventory.release");
        int sent = treat(database, command, is_undo)
                       ? amqp_basic_ack(broker, 1, envelope.delivery_tag, 0) /* only now */
                       : amqp_basic_reject(broker, 1, envelope.delivery_tag, 0);
        if (sent != AMQP_STATUS_OK)
            end("RabbitMQ is away");
        free(command);
        amqp_destroy_envelope(&envelope);
    }
}
