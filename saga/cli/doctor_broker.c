/* The doctor's look at RabbitMQ: one visit. */
#include "saga/cli/doctor.h"
#include "saga/cli/visit.h"
#include "saga/topology/topology.h"
#include <string.h>

struct look {
    struct doctor *doctor;
    const struct pg_result *owned;
    const char *orchestrator;
    const struct doctor_participant *participants;
    int count;
};

static void exchange_look(struct look *look, struct broker *broker, const char *name)
{
    struct error error = {0};
    bool exists = false;
    char subject[BROKER_SHORT_STRING_BYTES_MAX + 16];
    snprintf(subject, sizeof subject, "exchange %s", name);
    if (broker_exchange_exists(broker, name, &exists, &error) < 0)
        doctor_add(look->doctor, subject, VERDICT_FAIL, "the user needs permission to look at it",
                   "%s", error.message);
    else if (exists)
        doctor_add(look->doctor, subject, VERDICT_OK, NULL, "is there");
    else
        doctor_add(look->doctor, subject, VERDICT_FAIL,
                   "start saga-worker, which declares it, or run: sagapost topology declare",
                   "is missing");
}

/* `missing`: what a queue that is not there means; `idle`: what one without consumers means. */
static void queue_look(struct look *look, struct broker *broker, const char *name,
                       const char *missing, const char *idle)
{
    struct error error = {0};
    bool exists = false;
    int64_t messages = 0, consumers = 0;
    char subject[BROKER_SHORT_STRING_BYTES_MAX + 16];
    snprintf(subject, sizeof subject, "queue %s", name);
    if (broker_queue_exists(broker, name, &exists, &messages, &consumers, &error) < 0)
        doctor_add(look->doctor, subject, VERDICT_FAIL, "the user needs permission to look at it",
                   "%s", error.message);
    else if (!exists)
        doctor_add(look->doctor, subject, VERDICT_FAIL, missing, "is missing");
    else if (consumers == 0)
        doctor_add(look->doctor, subject, VERDICT_FAIL, idle,
                   "holds %lld messages, and nobody consumes it", (long long)messages);
    else
        doctor_add(look->doctor, subject, VERDICT_OK, NULL, "%lld messages ready, %lld consumers",
                   (long long)messages, (long long)consumers);
}

/* Nobody consumes what a worker could not read: it is for a person. */
static void dead_look(struct look *look, struct broker *broker)
{
    static const char subject[] = "queue " TOPOLOGY_DEAD;
    struct error error = {0};
    bool exists = false;
    int64_t messages = 0;
    if (broker_queue_exists(broker, TOPOLOGY_DEAD, &exists, &messages, NULL, &error) < 0)
        doctor_add(look->doctor, subject, VERDICT_FAIL, "the user needs permission to look at it",
                   "%s", error.message);
    else if (!exists)
        doctor_add(look->doctor, subject, VERDICT_FAIL,
                   "start saga-worker, which declares it, or run: sagapost topology declare",
                   "is missing");
    else
        doctor_add(look->doctor, subject, messages > 0 ? VERDICT_WARN : VERDICT_OK,
                   "the workers' logs say why (\"rejected to the dead-letter queue\"): mend who "
                   "sends them, look at them with RabbitMQ's tools, and purge it",
                   "%lld messages that no worker could read", (long long)messages);
}

enum fence_column { FENCE_SHARE, FENCE_QUEUE };

/* An owner publishes only while it holds its queue: one that owns the share in PostgreSQL and does
 * not hold it here publishes nothing, or somewhere else. */
static void fence_look(struct look *look, struct broker *broker, int row)
{
    const char *queue = pg_text(look->owned, row, FENCE_QUEUE);
    struct error error = {0};
    bool exists = false;
    char subject[64];
    snprintf(subject, sizeof subject, "fence of share %s", pg_text(look->owned, row, FENCE_SHARE));
    if (broker_queue_exists(broker, queue, &exists, NULL, NULL, &error) < 0)
        doctor_add(look->doctor, subject, VERDICT_FAIL, "the user needs permission to look at it",
                   "%s", error.message);
    else if (exists)
        doctor_add(look->doctor, subject, VERDICT_OK, NULL, "holds %s in RabbitMQ", queue);
    else
        doctor_add(look->doctor, subject, VERDICT_FAIL,
                   "its log says why: no connection, another virtual host than this, or a user "
                   "without configure and read on outbox\\.relay\\..*; where it says nothing any "
                   "more, the process stands still: end it, and a standby takes over",
                   "owns the share, and does not hold %s in RabbitMQ: it publishes nothing", queue);
}

static void participant_look(struct look *look, struct broker *broker,
                             const struct doctor_participant *participant)
{
    char queue[TOPOLOGY_QUEUE_BYTES], advice[512];
    struct error error = {0};
    if (topology_command_queue(participant->name, queue, &error) < 0) {
        doctor_add(look->doctor, participant->name, VERDICT_FAIL, "give it a shorter name", "%s",
                   error.message);
        return;
    }
    snprintf(advice, sizeof advice,
             "start the participant of %s: a saga-worker with handlers for them, or a program of "
             "your own",
             participant->actions);
    queue_look(look, broker, queue, advice, advice);
    /* With some handlers here, an action without one is a mistake; with none, the participant lives
     * elsewhere. */
    if (participant->unhandled != NULL && strcmp(participant->unhandled, participant->actions) != 0)
        doctor_add(
            look->doctor, queue, VERDICT_WARN,
            "register it with saga.handle: until then it is answered transient, unknown_action",
            "no SQL handler for %s", participant->unhandled);
}

static void look_around(void *data, struct broker *broker)
{
    static const char orchestrate[] = "start saga-worker with the role orchestrate";
    struct look *look = data;
    struct error error = {0};
    char queue[TOPOLOGY_QUEUE_BYTES];
    doctor_add(look->doctor, "RabbitMQ", VERDICT_OK, NULL, "can be reached");
    for (int i = 0; look->owned != NULL && i < pg_result_rows(look->owned); i++)
        fence_look(look, broker, i);
    if (look->orchestrator == NULL)
        return;
    for (int i = 0; i < TOPOLOGY_EXCHANGE_COUNT; i++)
        exchange_look(look, broker, topology_exchanges[i].name);
    if (topology_reply_queue(look->orchestrator, queue, &error) < 0)
        doctor_add(look->doctor, look->orchestrator, VERDICT_FAIL, "give it a shorter name", "%s",
                   error.message);
    else
        queue_look(look, broker, queue, orchestrate, orchestrate);
    dead_look(look, broker);
    for (int i = 0; i < look->count; i++)
        participant_look(look, broker, &look->participants[i]);
}

void doctor_look_at_broker(struct doctor *doctor, const struct pg_result *owned,
                           const char *orchestrator, const struct doctor_participant *participants,
                           int count)
{
    struct error error = {0};
    struct look look = {.doctor = doctor,
                        .owned = owned,
                        .orchestrator = orchestrator,
                        .participants = participants,
                        .count = count};
    if (visit_broker(doctor->cli, look_around, &look, &error) < 0)
        doctor_add(doctor, "RabbitMQ", VERDICT_FAIL,
                   "check --amqp (user, password, host, virtual host), and whether the server runs",
                   "%s", error.message);
}
