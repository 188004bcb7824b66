/* daemon.h: what every daemon does the same way: settings, log, loop, signals, HTTP window,
 * sd_notify, exit status.
 *
 * TERM and INT call `drain` once and wait for daemon_finished; a second one stops at once. HUP
 * reads the file again and calls `reload`. READY=1 is sent when `start` returned 0,
 * RELOADING/STOPPING/WATCHDOG as systemd asks for them. Exit status: 0 after a clean stop, 1 where
 * a restart may help, 2 where it will not (RETRY_NEVER, ERROR_USAGE). */
#ifndef SAGAPOST_RUNTIME_DAEMON_H
#define SAGAPOST_RUNTIME_DAEMON_H

#include "outbox/runtime/admin.h"
#include "outbox/runtime/config.h"
#include "outbox/runtime/loop.h"
#include "outbox/runtime/metrics.h"

struct daemon_context {
    const char *program;
    struct config *config;
    struct loop *loop;
    struct metrics *metrics;
    void *state; /* the program's own */
};

struct daemon_program {
    const char *name;  /* "outbox-relay" */
    const char *usage; /* first lines of --help */
    const struct setting *settings;
    int (*start)(struct daemon_context *context, struct error *error); /* must set context->state */
    void (*drain)(struct daemon_context *context); /* then call daemon_finished */
    void (*reload)(struct daemon_context *context);
    void (*refresh)(void *context); /* before /metrics; gets the daemon_context */
    bool (*ready)(void *context,
                  struct buffer *ret_reasons);    /* for /readyz; gets the daemon_context */
    void (*stop)(struct daemon_context *context); /* free everything */
};

/* main() of a daemon. */
int daemon_main(const struct daemon_program *program, int argc, char **argv);

/* The program is done: leave the loop. `failure` NULL: exit 0; otherwise it is logged and decides
 * the status. */
void daemon_finished(struct daemon_context *context, const struct error *failure);

/* Settings that every daemon has: postgres, amqp, config's own keys, listen, log-level, log-format.
 */
extern const struct setting daemon_settings[];

#endif
