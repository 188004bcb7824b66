/* replay_send.h: sends rows of the log once more, over a confirmed connection of its own.
 *
 * One batch at a time: sender_send gives the rows to the broker in their order, within a window and
 * a rate, and returns when all are confirmed. Each message is as the relay sends it, with the same
 * message id, and two headers more: sagapost-replayed (true) and sagapost-replayed-at (when this
 * replay began). Nothing is tried again: a message that is returned or refused, a connection that
 * is lost, an interrupt end it, and *ret_done says how many of the first rows are confirmed, so
 * that whoever continues after them leaves nothing out. Those sent beyond may then come twice.
 *
 *     sender_create(&sender, cli, routes, &error);
 *     failed = sender_send(sender, rows, &done, &error); */
#ifndef SAGAPOST_CLI_REPLAY_SEND_H
#define SAGAPOST_CLI_REPLAY_SEND_H

#include "outbox/relay/rows/routes.h"
#include "saga/cli/cli.h"

struct sender;

/* Takes --to-exchange, --rate and what the relay too is told of messages from the settings. */
int sender_create(struct sender **ret_sender, struct cli *cli, const struct routes *routes,
                  struct error *error) MUST_CHECK;
void sender_destroy(struct sender *sender); /* NULL is fine */
/* `rows`: columns as in outbox/relay/rows/row.h. ERROR_STATE: interrupted. */
int sender_send(struct sender *sender, const struct pg_result *rows, int *ret_done,
                struct error *error) MUST_CHECK;

#endif
