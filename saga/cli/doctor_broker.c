/* The doctor's look at RabbitMQ: one connection, one visit. Questions may be asked only while the
 * connection has just come up, so all of them are asked in on_up, and the loop is left right after.
 */
#include "outbox/amqp/broker.h"
#include "saga/cli/doctor.h"
#include <string.h>

struct visit {
    struct doctor *doctor;
    struct loop *loop;
    const char *orchestrator;
    const struct doctor_participant *participants;
    int count;
    bool over;
};

static void exchange_look(struct visit *visit, struct broker *broker, const char *name)
{
    struct error error = {0};
    bool exists = false;
    char subject[BROKER_SHORT_STRING_BYTES_MAX + 16];
    snprintf(subject, sizeof subject, "exchange %s", name);
    if (broker_exchange_exists(broker, name, &exists, &error) < 0)
        doctor_add(visit->doctor, subject, VERDICT_FAIL, "the user needs permission to look at it",
                   "%s", error.message);
    else if (exists)
        doctor_add(visit->doctor, subject, VERDICT_OK, NULL, "is there");
    else
        doctor_add(visit->doctor, subject, VERDICT_FAIL, "start saga-worker, which declares it",
                   "is missing");
}

/* `missing`: what a queue that is not there means; `idle`: what one without consumers means. */
static void queue_look(struct visit *visit, struct broker *broker, const char *name,
                       const char *missing, const char *idle)
{
    struct error error = {0};
    bool exists = false;
    int64_t messages = 0, consumers = 0;
    char subject[BROKER_SHORT_STRING_BYTES_MAX + 16];
    snprintf(subject, sizeof subject, "queue %s", name);
    if (broker_queue_exists(broker, name, &exists, &messages, &consumers, &error) < 0)
        doctor_add(visit->doctor, subject, VERDICT_FAIL, "the user needs permission to look at it",
                   "%s", error.message);
    else if (!exists)
        doctor_add(visit->doctor, subject, VERDICT_FAIL, missing, "is missing");
    else if (consumers == 0)
        doctor_add(visit->doctor, subject, VERDICT_FAIL, idle,
                   "holds %lld messages, and nobody consumes it", (long long)messages);
    else
        doctor_add(visit->doctor, subject, VERDICT_OK, NULL, "%lld messages ready, %lld consumers",
                   (long long)messages, (long long)consumers);
}

static void participant_look(struct visit *visit, struct broker *broker,
                             const struct doctor_participant *participant)
{
    char queue[BROKER_SHORT_STRING_BYTES_MAX + 1], advice[512];
    snprintf(queue, sizeof queue, "saga.commands.%s", participant->name);
    snprintf(advice, sizeof advice,
             "start the participant of %s: a saga-worker with handlers for them, or a program of "
             "your own",
             participant->actions);
    queue_look(visit, broker, queue, advice, advice);
    /* With some handlers here, an action without one is a mistake; with none, the participant lives
     * elsewhere. */
    if (participant->unhandled != NULL && strcmp(participant->unhandled, participant->actions) != 0)
        doctor_add(
            visit->doctor, queue, VERDICT_WARN,
            "register it with saga.handle: until then it is answered transient, unknown_action",
            "no SQL handler for %s", participant->unhandled);
}

static void visit_up(void *data, struct broker *broker)
{
    struct visit *visit = data;
    doctor_add(visit->doctor, "RabbitMQ", VERDICT_OK, NULL, "can be reached");
    if (visit->orchestrator != NULL) {
        static const char orchestrate[] = "start saga-worker with the role orchestrate";
        char queue[BROKER_SHORT_STRING_BYTES_MAX + 1];
        exchange_look(visit, broker, "saga.commands");
        exchange_look(visit, broker, "saga.replies");
        snprintf(queue, sizeof queue, "saga.replies.%s", visit->orchestrator);
        queue_look(visit, broker, queue, orchestrate, orchestrate);
        for (int i = 0; i < visit->count; i++)
            participant_look(visit, broker, &visit->participants[i]);
    }
    visit->over = true;
    loop_stop(visit->loop);
}

static void visit_down(void *data, struct broker *broker, const struct error *why,
                       bool channel_only)
{
    struct visit *visit = data;
    (void)broker;
    (void)channel_only;
    if (!visit->over)
        doctor_add(visit->doctor, "RabbitMQ", VERDICT_FAIL,
                   "check --amqp (user, password, host, virtual host), and whether the server runs",
                   "%s", why->message);
    visit->over = true;
    loop_stop(visit->loop);
}

void doctor_look_at_broker(struct doctor *doctor, const char *orchestrator,
                           const struct doctor_participant *participants, int count)
{
    struct config *config = doctor->cli->config;
    struct loop *loop __attribute__((cleanup(loop_destroyp))) = NULL;
    struct broker *broker = NULL;
    struct error error = {0};
    struct visit visit = {.doctor = doctor,
                          .orchestrator = orchestrator,
                          .participants = participants,
                          .count = count};
    struct broker_options options = {
        .uri = config_text(config, "amqp"),
        .connection_name = "sagapost doctor",
        .ca_file = config_text(config, "amqp-ca-file"),
        .certificate_file = config_text(config, "amqp-certificate-file"),
        .key_file = config_text(config, "amqp-key-file"),
        .verify_peer = config_bool(config, "amqp-verify"),
        .heartbeat_s = 30,
        .connect_timeout_us = config_us(config, "connect-timeout"),
        .backoff_base_us = US_PER_S,
        .backoff_cap_us = US_PER_S,
        .out_bytes_max = 65536,
        .on_up = visit_up,
        .on_down = visit_down,
        .data = &visit,
    };
    int rc = loop_create(&loop, &clock_system, &error);
    visit.loop = loop;
    if (rc == 0)
        rc = broker_create(&broker, loop, &options, &error);
    if (rc == 0) {
        broker_start(broker);
        rc = loop_run(loop, &error);
    }
    if (rc < 0)
        doctor_add(doctor, "RabbitMQ", VERDICT_FAIL, "check --amqp", "%s", error.message);
    broker_destroy(broker);
}
