/* client.h: one blocking connection, for command-line programs. Daemons use session.h. */
#ifndef SAGAPOST_PG_CLIENT_H
#define SAGAPOST_PG_CLIENT_H

#include "outbox/pg/params.h"
#include "outbox/pg/result.h"
#include "outbox/pg/session.h"

struct pg_client;

int pg_client_connect(struct pg_client **ret_client, const char *conninfo,
                      const char *application_name, int64_t connect_timeout_us,
                      struct error *error) MUST_CHECK;
void pg_client_close(struct pg_client *client); /* NULL is fine */
static inline void pg_client_closep(struct pg_client **client)
{
    pg_client_close(*client);
}
/* One statement, binary results; ret_result may be NULL. */
int pg_client_query(struct pg_client *client, const char *sql, const struct pg_params *params,
                    struct pg_result **ret_result, struct error *error) MUST_CHECK;
/* Many statements in one string (a migration); the error names the line of `sql` it happened at,
 * where the server tells. */
int pg_client_script(struct pg_client *client, const char *sql, struct error *error) MUST_CHECK;
/* Waits for a notification on any channel listened to; 0 with *ret_came false when the time ran
 * out. */
int pg_client_wait_notify(struct pg_client *client, int64_t timeout_us, bool *ret_came,
                          struct error *error) MUST_CHECK;

#endif
