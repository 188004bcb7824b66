#include "outbox/relay/rows/routes.h"
#include "outbox/relay/rows/keys.h"

#include <stdlib.h>
#include <string.h>

struct routes {
    struct pg_result *table; /* NULL: no route is known */
    int *places;             /* hash table of rows + 1; 0: free */
    uint64_t mask;
    const char *default_exchange;
    bool default_pipelined;
};

int routes_create(struct routes **ret_routes, const char *default_exchange, bool default_pipelined,
                  struct error *error)
{
    struct routes *routes = calloc(1, sizeof(*routes));

    if (!routes)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "routes");
    routes->default_exchange = default_exchange;
    routes->default_pipelined = default_pipelined;
    *ret_routes = routes;
    return 0;
}

void routes_destroy(struct routes *routes)
{
    if (!routes)
        return;
    pg_result_free(routes->table);
    free(routes->places);
    free(routes);
}

int routes_load(struct routes *routes, struct pg_result *table, struct error *error)
{
    int rows = pg_result_rows(table);
    uint64_t size = 8;
    int *places;

    while (size < (uint64_t)rows * 2)
        size *= 2;
    if (rows > ROUTES_MAX) {
        pg_result_free(table);
        return error_set(error, ERROR_LIMIT, RETRY_LATER,
                         "outbox.route has %d rows, at most %d are read", rows, ROUTES_MAX);
    }
    places = calloc(size, sizeof(*places));
    if (!places) {
        pg_result_free(table);
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "the %d rows of outbox.route", rows);
    }
    for (int i = 0; i < rows; i++) {
        size_t bytes;
        const char *type = pg_bytes(table, i, ROUTE_TYPE, &bytes);
        uint64_t place = key_hash(type, bytes) & (size - 1);

        while (places[place])
            place = (place + 1) & (size - 1);
        places[place] = i + 1;
    }
    pg_result_free(routes->table);
    free(routes->places);
    routes->table = rows ? table : NULL;
    if (!rows)
        pg_result_free(table);
    routes->places = places;
    routes->mask = size - 1;
    return 0;
}

/* The row of the type in the table, or -1. */
static int find(const struct routes *routes, struct broker_text type)
{
    if (!routes->table || !type.text)
        return -1;
    for (uint64_t place = key_hash(type.text, type.bytes) & routes->mask; routes->places[place];
         place = (place + 1) & routes->mask) {
        int row = routes->places[place] - 1;
        size_t bytes;
        const char *known = pg_bytes(routes->table, row, ROUTE_TYPE, &bytes);

        if (bytes == type.bytes && memcmp(known, type.text, bytes) == 0)
            return row;
    }
    return -1;
}

static struct broker_text first_of(struct broker_text own, const struct pg_result *table, int row,
                                   int column, struct broker_text last)
{
    struct broker_text by_type = {0};

    if (own.text)
        return own;
    if (row >= 0)
        by_type.text = pg_bytes(table, row, column, &by_type.bytes);
    return by_type.text ? by_type : last;
}

static struct route policy_of(const struct routes *routes, int found)
{
    return (struct route){
        .pipelined =
            found >= 0 ? pg_bool(routes->table, found, ROUTE_PIPELINED) : routes->default_pipelined,
        .holds = found >= 0 ? pg_bool(routes->table, found, ROUTE_HOLDS) : true,
    };
}

/* Without a table the row is not looked at: it is cold in memory when this is asked. */
struct route routes_policy(const struct routes *routes, struct row row)
{
    return policy_of(routes, routes->table ? find(routes, row_text(row, ROW_TYPE)) : -1);
}

struct route routes_find(const struct routes *routes, struct row row)
{
    struct broker_text type = row_text(row, ROW_TYPE);
    struct broker_text exchange = {routes->default_exchange, strlen(routes->default_exchange)};
    int found = find(routes, type);
    struct route policy = policy_of(routes, found);

    return (struct route){
        .exchange =
            first_of(row_text(row, ROW_EXCHANGE), routes->table, found, ROUTE_EXCHANGE, exchange),
        .routing_key =
            first_of(row_text(row, ROW_ROUTING_KEY), routes->table, found, ROUTE_ROUTING_KEY, type),
        .pipelined = policy.pipelined,
        .holds = policy.holds,
    };
}
