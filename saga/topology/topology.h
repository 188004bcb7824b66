/* topology.h: the exchanges and queues that sagas travel through.
 *
 *     exchange       type    routing key           queue                         bound to
 *     saga.commands  topic   the action            saga.commands.<participant>   <participant>.#
 *     saga.replies   topic   the orchestrator      saga.replies.<orchestrator>   <orchestrator>
 *     saga.events    topic   <definition>.<event>  the listener's own
 *     saga.dead      fanout                        saga.dead: what a worker could not read
 *
 * All durable; the queues are quorum queues. Declaring what exists as it is changes nothing;
 * another form of the same name is an error of the broker (406), which names it. Every queue has an
 * explicit large delivery limit: the default of RabbitMQ 4 is 20 and counts closed connections, and
 * -1 drops a message at its first redelivery on 3.10 (measured).
 *
 * Used by saga-worker for its own roles and by `sagapost topology declare` for all of them. What
 * declares is to be called from a broker's on_up only. */
#ifndef SAGAPOST_TOPOLOGY_TOPOLOGY_H
#define SAGAPOST_TOPOLOGY_TOPOLOGY_H

#include "outbox/amqp/broker.h"

#define TOPOLOGY_COMMANDS "saga.commands"
#define TOPOLOGY_REPLIES  "saga.replies"
#define TOPOLOGY_EVENTS   "saga.events"
#define TOPOLOGY_DEAD     "saga.dead"

#define TOPOLOGY_DELIVERY_LIMIT 1000000

#define TOPOLOGY_QUEUE_BYTES (BROKER_SHORT_STRING_BYTES_MAX + 1)

struct topology_exchange {
    const char *name, *type;
};
#define TOPOLOGY_EXCHANGE_COUNT 4
extern const struct topology_exchange topology_exchanges[TOPOLOGY_EXCHANGE_COUNT];

/* The names of queues. ERROR_LIMIT when the participant's or orchestrator's name is too long. */
int topology_command_queue(const char *participant, char ret_queue[TOPOLOGY_QUEUE_BYTES],
                           struct error *error) MUST_CHECK;
int topology_reply_queue(const char *orchestrator, char ret_queue[TOPOLOGY_QUEUE_BYTES],
                         struct error *error) MUST_CHECK;
/* What the participant's queue is bound by; of a participant whose queue has a name. */
void topology_command_binding(const char *participant, char ret_binding[TOPOLOGY_QUEUE_BYTES]);

/* The four exchanges and the dead-letter queue. */
int topology_declare_base(struct broker *broker, struct error *error) MUST_CHECK;
int topology_declare_orchestrator(struct broker *broker, const char *orchestrator,
                                  struct error *error) MUST_CHECK;
int topology_declare_participant(struct broker *broker, const char *participant,
                                 struct error *error) MUST_CHECK;

#endif
