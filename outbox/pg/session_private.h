/* session_private.h: what session.c (connecting, losing) and pipeline.c (requests, answers) share.
 *
 * State of a session:
 *
 *     IDLE --start--> CONNECTING --PQconnectPoll--> SETTING --settings answered--> UP
 *                        ^  |                          |                            |
 *                        |  +----- failed, timed out --+--- lost, reconnect asked --+
 *                        |                             v
 *                        +------ backoff over ------ RESTING
 *
 * A connection may break anywhere: in a send, in a callback, by pg_session_reconnect. Whoever
 * notices calls session_break, which closes it and notes why, and calls nobody. The owner's
 * callbacks for it come from session_settle_break alone, at the top of the stack. So a function
 * of the owner's never finds itself called from within its own call of a function here, but for
 * pg_session_destroy. */
#ifndef SAGAPOST_PG_SESSION_PRIVATE_H
#define SAGAPOST_PG_SESSION_PRIVATE_H

#include "outbox/pg/conninfo.h"
#include "outbox/pg/prepared.h"
#include "outbox/pg/session.h"
#include "outbox/runtime/backoff.h"

enum session_state {
    SESSION_IDLE,
    SESSION_CONNECTING,
    SESSION_SETTING,
    SESSION_UP,
    SESSION_RESTING, /* between attempts */
};

enum request_kind { REQUEST_STATEMENT, REQUEST_SYNC };

struct request {
    pg_callback *callback;
    void *data;
    enum request_kind kind;
    int preparing;      /* slot in `prepared`: the answer to its Parse comes first; -1: none */
    bool parse_refused; /* its own Parse failed: its error is the group's first */
};

/* Requests sent and not answered, a ring. */
struct request_ring {
    struct request *items;
    unsigned first, count; /* capacity PG_SESSION_PENDING_MAX, a power of two */
};

struct pg_session {
    struct loop *loop;
    struct pg_session_options options;
    struct pg_conninfo *conninfo;
    enum session_state state;
    PGconn *connection;
    struct loop_fd *watch;
    /* CONNECTING, SETTING: the limit; RESTING: the next attempt; UP: the limit of a silence */
    struct loop_timer *timer;
    bool is_listening; /* UP: requests wait for an answer, and the timer is armed */
    int64_t heard_us;  /* while is_listening: when something came last, or they began to wait */
    struct loop_hook *hook;
    struct backoff backoff;
    unsigned attempts;
    int64_t up_since_us;
    char host[128]; /* that libpq is trying, to give each its own time */

    struct request_ring pending;
    struct prepared prepared;
    uint64_t group;             /* being sent */
    bool null_due;              /* libpq ends the results of each command with NULL, */
    bool null_possible;         /* but after a failure only when nothing was sent before it */
    int nulls;                  /* unexpected ones in a row */
    struct error group_failure; /* the first failure of the group being answered; code 0: none */

    bool broken; /* the connection is gone, and its owner has not been told */
    struct error broken_why;
    struct error last_words; /* FATAL that came without a request; code 0: none */

    bool next_at_once; /* the next attempt is for another host: no pause */

    int depth; /* of the loop's callbacks on the stack */
    bool destroyed;
    bool noticing; /* within on_notice, which libpq calls in the middle of reading */
    struct pg_params setting_params;
};

/* session.c */
void session_break(struct pg_session *session, const struct error *why);

/* pipeline.c */
int pipeline_create(struct pg_session *session, struct error *error) MUST_CHECK;
void pipeline_free(struct pg_session *session);
void pipeline_reset(struct pg_session *session); /* a new connection; nothing is pending */
/* Sends whatever the session's state is. */
int pipeline_send(struct pg_session *session, const struct pg_statement *statement,
                  const char *text, const struct pg_params *params, pg_callback *callback,
                  void *data, struct error *error) MUST_CHECK;
int pipeline_sync(struct pg_session *session, pg_callback *callback, void *data,
                  struct error *error) MUST_CHECK;
/* Takes the answers libpq holds, without reading the socket. Returns how many there were. Stops
 * when the connection breaks or the session is destroyed. */
int pipeline_drain(struct pg_session *session);
void pipeline_fail_all(struct pg_session *session, const struct error *why);

#endif
