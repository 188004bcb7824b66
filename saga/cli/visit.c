#include "saga/cli/visit.h"

struct visit {
    struct loop *loop;
    void (*at_broker)(void *data, struct broker *broker);
    void *data;
    bool over; /* at_broker was called, or `failure` says why not */
    struct error failure;
};

static void visit_up(void *data, struct broker *broker)
{
    struct visit *visit = data;
    visit->at_broker(visit->data, broker);
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
        visit->failure = *why;
    visit->over = true;
    loop_stop(visit->loop);
}

struct broker_options visit_broker_options(const struct cli *cli)
{
    const struct config *config = cli->config;
    return (struct broker_options){
        .uri = config_text(config, "amqp"),
        .connection_name = "sagapost",
        .ca_file = config_text(config, "amqp-ca-file"),
        .certificate_file = config_text(config, "amqp-certificate-file"),
        .key_file = config_text(config, "amqp-key-file"),
        .verify_peer = config_bool(config, "amqp-verify"),
        .heartbeat_s = (int)(config_us(config, "amqp-heartbeat") / US_PER_S),
        .connect_timeout_us = config_us(config, "connect-timeout"),
        .backoff_base_us = US_PER_S,
        .backoff_cap_us = US_PER_S,
        .out_bytes_max = 65536,
    };
}

int visit_broker(struct cli *cli, void (*at_broker)(void *data, struct broker *broker), void *data,
                 struct error *error)
{
    struct loop *loop __attribute__((cleanup(loop_destroyp))) = NULL;
    struct broker *broker = NULL;
    struct visit visit = {.at_broker = at_broker, .data = data};
    struct broker_options options = visit_broker_options(cli);
    options.on_up = visit_up;
    options.on_down = visit_down;
    options.data = &visit;
    int rc = loop_create(&loop, &clock_system, error);
    visit.loop = loop;
    if (rc == 0)
        rc = broker_create(&broker, loop, &options, error);
    if (rc == 0) {
        broker_start(broker);
        rc = loop_run(loop, error);
    }
    broker_destroy(broker);
    if (rc == 0 && visit.failure.code != 0) {
        *error = visit.failure;
        rc = visit.failure.code;
    }
    return rc;
}
