/* body.h: reads the body of a command or a reply, strictly, before PostgreSQL sees it.
 *
 * A command:  {"saga": {"id", "definition", "version", "step", "element", "operation", "round",
 *              "attempt", "reply_to"}, "input": ...}
 * A reply:    {"saga": {the same}, "outcome": ..., "output": ... | "error": {"code", "message",
 * ...}}
 *
 * One body that PostgreSQL refuses would fail the whole batch it is in, so everything jsonb would
 * refuse is refused here (outbox/runtime/json_scan.h), with a reason that names no content. Spans
 * point into the text given. Unknown members are let through: a later version may send more. */
#ifndef SAGAPOST_WORKER_BODY_H
#define SAGAPOST_WORKER_BODY_H

#include "outbox/inbox/held.h"
#include "outbox/runtime/json_scan.h"
#include "outbox/runtime/uuid.h"
#include "saga/machine/machine.h"

#define BODY_NAME_BYTES_MAX 64  /* a definition's or step's name, and the NUL */
#define BODY_ACTION_BYTES   256 /* an AMQP short string, and the NUL */

struct body {
    /* who: both have it */
    bool has_id; /* saga_id was read, whatever came after it */
    struct uuid saga_id;
    char step[BODY_NAME_BYTES_MAX];
    enum saga_operation operation;
    int element;
    int round;
    int attempt;
    struct json_span root;

    /* of a command: which action the broker routed it by */
    char action[BODY_ACTION_BYTES];

    /* of a reply */
    enum machine_event_type event;
    bool empty;              /* ok of an undo that found nothing to undo */
    struct json_span output; /* text NULL: none */
    struct json_span error;  /* text NULL: none */
    char reason[256];        /* code and message of the error, for the saga's own reason */
};

/* What was read from a delivery, kept beside it: held_create is given sizeof(struct body). */
static inline struct body *body_of(const struct held_message *message)
{
    return message->extra;
}

/* Both fail with ERROR_PROTOCOL or ERROR_LIMIT and RETRY_POISON. */
int body_read_command(const char *text, size_t bytes, const struct json_limits *limits,
                      const char *action, size_t action_bytes, struct body *ret_body,
                      struct error *error) MUST_CHECK;
int body_read_reply(const char *text, size_t bytes, const struct json_limits *limits,
                    struct body *ret_body, struct error *error) MUST_CHECK;

/* Copies text that is to become a saga's reason: as much as fits, cut between characters, never in
 * one, since PostgreSQL would refuse it. */
void body_copy_text(char *out, size_t capacity, const char *text);

#endif
