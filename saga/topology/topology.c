#include "saga/topology/topology.h"

#include <stdio.h>

const struct topology_exchange topology_exchanges[TOPOLOGY_EXCHANGE_COUNT] = {
    {TOPOLOGY_COMMANDS, "topic"},
    {TOPOLOGY_REPLIES, "topic"},
    {TOPOLOGY_EVENTS, "topic"},
    {TOPOLOGY_DEAD, "fanout"},
};

static int queue_name(const char *exchange, const char *owner, char ret_queue[TOPOLOGY_QUEUE_BYTES],
                      struct error *error)
{
    int length = snprintf(ret_queue, TOPOLOGY_QUEUE_BYTES, "%s.%s", exchange, owner);
    if (length < 0 || length >= TOPOLOGY_QUEUE_BYTES) {
        return error_set(error, ERROR_LIMIT, RETRY_NEVER,
                         "the name of queue %s.%.40s... is over %d bytes", exchange, owner,
                         BROKER_SHORT_STRING_BYTES_MAX);
    }
    return 0;
}

int topology_command_queue(const char *participant, char ret_queue[TOPOLOGY_QUEUE_BYTES],
                           struct error *error)
{
    return queue_name(TOPOLOGY_COMMANDS, participant, ret_queue, error);
}

void topology_command_binding(const char *participant, char ret_binding[TOPOLOGY_QUEUE_BYTES])
{
    (void)snprintf(ret_binding, TOPOLOGY_QUEUE_BYTES, "%s.#", participant);
}

int topology_reply_queue(const char *orchestrator, char ret_queue[TOPOLOGY_QUEUE_BYTES],
                         struct error *error)
{
    return queue_name(TOPOLOGY_REPLIES, orchestrator, ret_queue, error);
}

/* What a worker rejects goes from its queue to saga.dead, with the reason in x-death. */
static int declare_work_queue(struct broker *broker, const char *queue, const char *exchange,
                              const char *binding, struct error *error)
{
    static const struct broker_argument arguments[] = {
        {"x-queue-type", "quorum", 0},
        {"x-delivery-limit", NULL, TOPOLOGY_DELIVERY_LIMIT},
        {"x-dead-letter-exchange", TOPOLOGY_DEAD, 0},
    };
    int rc = broker_declare_queue(broker, queue, true, false, arguments, 3, error);
    if (rc < 0) {
        return rc;
    }
    return broker_bind_queue(broker, queue, exchange, binding, error);
}

int topology_declare_base(struct broker *broker, struct error *error)
{
    static const struct broker_argument arguments[] = {
        {"x-queue-type", "quorum", 0},
        {"x-delivery-limit", NULL, TOPOLOGY_DELIVERY_LIMIT},
    };
    for (int i = 0; i < TOPOLOGY_EXCHANGE_COUNT; i++) {
        int rc = broker_declare_exchange(broker, topology_exchanges[i].name,
                                         topology_exchanges[i].type, true, error);
        if (rc < 0) {
            return rc;
        }
    }
    int rc = broker_declare_queue(broker, TOPOLOGY_DEAD, true, false, arguments, 2, error);
    if (rc < 0) {
        return rc;
    }
    return broker_bind_queue(broker, TOPOLOGY_DEAD, TOPOLOGY_DEAD, "", error);
}

int topology_declare_orchestrator(struct broker *broker, const char *orchestrator,
                                  struct error *error)
{
    char queue[TOPOLOGY_QUEUE_BYTES];
    int rc = topology_reply_queue(orchestrator, queue, error);
    if (rc < 0) {
        return rc;
    }
    return declare_work_queue(broker, queue, TOPOLOGY_REPLIES, orchestrator, error);
}

int topology_declare_participant(struct broker *broker, const char *participant,
                                 struct error *error)
{
    char queue[TOPOLOGY_QUEUE_BYTES];
    int rc = topology_command_queue(participant, queue, error);
    if (rc < 0) {
        return rc;
    }
    char binding[TOPOLOGY_QUEUE_BYTES];
    topology_command_binding(participant, binding);
    return declare_work_queue(broker, queue, TOPOLOGY_COMMANDS, binding, error);
}
