/* visit.h: one visit of the command line to RabbitMQ.
 *
 * Connects once, calls `at_broker` while the connection has just come up, which is the only time at
 * which a broker answers questions and takes declarations, and leaves. No second attempt: whoever
 * typed the command wants to read what is wrong. */
#ifndef SAGAPOST_CLI_VISIT_H
#define SAGAPOST_CLI_VISIT_H

#include "outbox/amqp/broker.h"
#include "saga/cli/cli.h"

/* How the command line connects; the callbacks are yet to be set. */
struct broker_options visit_broker_options(const struct cli *cli);
/* Fails with the reason when RabbitMQ cannot be reached; what `at_broker` finds is its own affair.
 */
int visit_broker(struct cli *cli, void (*at_broker)(void *data, struct broker *broker), void *data,
                 struct error *error) MUST_CHECK;

#endif
