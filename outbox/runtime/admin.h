/* admin.h: the daemon's HTTP window: GET /metrics, /livez, /readyz. Off unless `listen` is set;
 * loopback unless told otherwise.
 *
 * libmicrohttpd in external epoll mode on our own loop: no thread. A callback refreshes gauges just
 * before they are printed. /livez answers 200 because the loop turned to answer it; /readyz 200 or
 * 503 with one line of text per failing check. */
#ifndef SAGAPOST_RUNTIME_ADMIN_H
#define SAGAPOST_RUNTIME_ADMIN_H

#include "outbox/runtime/loop.h"
#include "outbox/runtime/metrics.h"

struct admin;

struct admin_options {
    const char *listen; /* as in SETTING_ADDRESS */
    struct metrics *metrics;
    void (*refresh)(void *data);                           /* before /metrics; may be NULL */
    bool (*ready)(void *data, struct buffer *ret_reasons); /* for /readyz */
    void *data;
};

int admin_create(struct admin **ret_admin, struct loop *loop, const struct admin_options *options,
                 struct error *error) MUST_CHECK;
int admin_port(const struct admin *admin); /* the port that was bound, for port 0 */
void admin_destroy(struct admin *admin);

#endif
