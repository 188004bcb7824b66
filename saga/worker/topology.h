/* topology.h: the exchanges and queues that sagas travel through.
 *
 *     saga.commands  topic   routing key = action       queue saga.commands.<participant>, bound to
 * <participant>.# saga.replies   topic   routing key = orchestrator queue
 * saga.replies.<orchestrator> saga.events    topic   routing key = <definition>.<event>; whoever
 * listens binds a queue of its own saga.dead      fanout  queue saga.dead: what a worker could not
 * read
 *
 * All durable; the queues are quorum queues. Declaring what exists as it is changes nothing;
 * another form of the same name is an error of the broker (406), which names it. Every queue has an
 * explicit large delivery limit: the default of RabbitMQ 4 is 20 and counts closed connections, and
 * -1 drops a message at its first redelivery on 3.10 (measured).
 *
 * Used by saga-worker for its own roles and by `sagapost topology declare` for all of them. To be
 * called from a broker's on_up only. */
#ifndef SAGAPOST_WORKER_TOPOLOGY_H
#define SAGAPOST_WORKER_TOPOLOGY_H

#include "outbox/amqp/broker.h"

#define TOPOLOGY_COMMANDS "saga.commands"
#define TOPOLOGY_REPLIES  "saga.replies"
#define TOPOLOGY_EVENTS   "saga.events"
#define TOPOLOGY_DEAD     "saga.dead"

#define TOPOLOGY_DELIVERY_LIMIT 1000000

#define TOPOLOGY_QUEUE_BYTES (BROKER_SHORT_STRING_BYTES_MAX + 1)

/* The names of queues. ERROR_LIMIT when the participant's or orchestrator's name is too long. */
int topology_command_queue(const char *participant, char ret_queue[TOPOLOGY_QUEUE_BYTES],
                           struct error *error) MUST_CHECK;
int topology_reply_queue(const char *orchestrator, char ret_queue[TOPOLOGY_QUEUE_BYTES],
                         struct error *error) MUST_CHECK;

/* The four exchanges and the dead-letter queue. */
int topology_declare_base(struct broker *broker, struct error *error) MUST_CHECK;
int topology_declare_orchestrator(struct broker *broker, const char *orchestrator,
                                  struct error *error) MUST_CHECK;
int topology_declare_participant(struct broker *broker, const char *participant,
                                 struct error *error) MUST_CHECK;

#endif
