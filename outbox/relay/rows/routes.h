/* routes.h: which exchange and routing key a message goes to, and how its key is kept in order.
 *
 * The row's own columns, else outbox.route by the message's type, else the settings:
 * default-exchange, and the type as routing key. The table outbox.route is small and kept in
 * memory; the relay reads it again every few seconds. */
#ifndef SAGAPOST_RELAY_ROUTES_H
#define SAGAPOST_RELAY_ROUTES_H

#include "outbox/relay/rows/row.h"

#define ROUTES_MAX 65536

struct routes;

/* Columns of sql/routes.sql. */
enum route_column { ROUTE_TYPE, ROUTE_EXCHANGE, ROUTE_ROUTING_KEY, ROUTE_PIPELINED, ROUTE_HOLDS };

struct route {
    struct broker_text exchange,
        routing_key; /* never NULL; good as long as the row and until routes_load */
    bool pipelined;
    bool holds; /* a message that fails holds its key */
};

/* The text stays the caller's and must live as long. */
int routes_create(struct routes **ret_routes, const char *default_exchange, bool default_pipelined,
                  struct error *error) MUST_CHECK;
void routes_destroy(struct routes *routes); /* NULL is fine */
/* Takes over `table`, also on failure (too many rows); then the routes from before stay. */
int routes_load(struct routes *routes, struct pg_result *table, struct error *error) MUST_CHECK;
struct route routes_find(const struct routes *routes, struct row row);
/* Only how its key is kept in order; exchange and routing key are NULL. */
struct route routes_policy(const struct routes *routes, struct row row);

#endif
