/* daemon.h: what every daemon does the same way: settings, log, loop, signals, HTTP window,
 * sd_notify, exit status.
 *
 * TERM and INT call `drain` once and wait for daemon_finished; a second one stops at once (exit
 * status 1). HUP reads the file again and calls `reload`; where the file has a mistake nothing
 * changes and the log says so. READY=1 is sent when `start` returned 0, RELOADING/STOPPING/WATCHDOG
 * as systemd asks for them. SIGPIPE is ignored. Exit status: 0 after a clean stop, 1 where a
 * restart may help, 2 where it will not (RETRY_NEVER, ERROR_USAGE: wrong settings, an address that
 * cannot be listened on). Settings that somebody gave are logged at start, secrets without their
 * value. */
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
    /* Sets context->state; a failure is logged and ends the program. */
    int (*start)(struct daemon_context *context, struct error *error);
    void (*drain)(struct daemon_context *context);  /* then call daemon_finished */
    void (*reload)(struct daemon_context *context); /* may be NULL */
    void (*refresh)(void *context);                 /* before /metrics; gets the daemon_context */
    bool (*ready)(void *context,
                  struct buffer *ret_reasons); /* for /readyz; gets the daemon_context */
    /* Frees everything; called once whenever state was set, after a failed start too. The loop
     * still exists and does not turn any more. */
    void (*stop)(struct daemon_context *context);
};

/* main() of a daemon. */
int daemon_main(const struct daemon_program *program, int argc, char **argv);

/* The program is done: leave the loop. `failure` NULL: exit 0; otherwise it is logged and decides
 * the status. */
void daemon_finished(struct daemon_context *context, const struct error *failure);

/* postgres, amqp and what belongs to them: of every program, sagapost included. */
extern const struct setting connection_settings[];
/* listen, log-level, log-format: of daemons alone. */
extern const struct setting daemon_settings[];

#endif
