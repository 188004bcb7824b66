/* inventory.c: keeps the stock for the order saga: the actions inventory.reserve and its undo
 * inventory.release, in C with libsagapost and the inbox's client.
 *
 *     cc inventory.c $(pkg-config --cflags --libs sagapost sagapost-inbox) -o inventory
 *
 * PGHOST, PGDATABASE, PGUSER ... say where the database is, AMQP_URI where RabbitMQ is. Either may
 * go and come back: nothing is acknowledged meanwhile. */
#include <sagapost/inbox.h>
#include <sagapost/saga.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char reserve[] =
    "with taken as (update shop.stock set on_hand = on_hand - ($1::jsonb ->> 'qty')::integer"
    "  where sku = $1::jsonb ->> 'sku' and on_hand >= ($1::jsonb ->> 'qty')::integer returning sku)"
    " insert into shop.reservation (saga, sku, qty)"
    " select $2::uuid, sku, ($1::jsonb ->> 'qty')::integer from taken"
    " returning jsonb_build_object('reservation', id)";
static const char release[] =
    "with gone as (delete from shop.reservation where saga = $2::uuid"
    "  and id = ($1::jsonb #>> '{output,reservation}')::bigint returning sku, qty)"
    " update shop.stock s set on_hand = on_hand + gone.qty from gone where s.sku = gone.sku"
    " returning '{}'::jsonb";

static int work(void *data, PGconn *database, const struct sagapost_received *command,
                struct sagapost_answer *answer, struct sagapost_error *error)
{
    const char *const values[] = {command->input, command->saga};
    bool is_undo = strcmp(command->operation, "undo") == 0;
    PGresult *done =
        PQexecParams(database, is_undo ? release : reserve, 2, NULL, values, NULL, NULL, 0);
    int code = sagapost_result_error(database, done, error);

    (void)data;
    if (code == 0 && PQntuples(done) == 1) {
        answer->output = strdup(PQgetvalue(done, 0, 0));
    } else if (code == 0 && is_undo) { /* what was reserved is there: not a case of business */
        code = SAGAPOST_ERROR_NO_SERVICE;
    } else if (code == 0) { /* a business no */
        answer->refusal = "out_of_stock";
        answer->message = "not enough in stock";
    }
    if (code < 0)
        fprintf(stderr, "inventory: %s: %s\n", command->operation, PQerrorMessage(database));
    PQclear(done);
    return code;
}

static int on_batch(void *data, PGconn *database, const struct sagapost_inbox_message *messages,
                    int count)
{
    int code = 0;
    for (int i = 0; i < count && code == 0; i++)
        code = sagapost_saga_carry_out(database, messages[i].body, messages[i].body_bytes, work,
                                       data, NULL);
    return code;
}

int main(void)
{
    struct sagapost_error error;
    struct sagapost_inbox *inbox;
    PGconn *database = PQconnectdb("connect_timeout=5");
    const struct sagapost_inbox_options options = {.amqp = getenv("AMQP_URI"),
                                                   .queue = "saga.commands.inventory",
                                                   .consumer = "inventory",
                                                   .recognises = true,
                                                   .on_batch = on_batch};

    if (sagapost_inbox_create(&inbox, database, &options, &error) < 0 ||
        sagapost_inbox_run(inbox, &error) < 0)
        fprintf(stderr, "inventory: %s\n", error.message);
    return 1;
}
