/* outbox-relay: see relay.h. */
#include "outbox/relay/relay.h"
#include "outbox/runtime/daemon.h"

static void on_finished(void *data, const struct error *failure)
{
    daemon_finished(data, failure);
}

static int start(struct daemon_context *context, struct error *error)
{
    struct relay_options options = {
        .loop = context->loop,
        .metrics = context->metrics,
        .on_finished = on_finished,
        .data = context,
    };
    struct relay *relay;
    int failed = settings_read(&options.settings, context->config, error);

    if (failed >= 0)
        failed = relay_create(&relay, &options, error);
    if (failed < 0)
        return failed;
    context->state = relay;
    relay_start(relay);
    return 0;
}

static void drain(struct daemon_context *context)
{
    relay_drain(context->state);
}

static void refresh(void *context)
{
    relay_refresh(((struct daemon_context *)context)->state);
}

static bool ready(void *context, struct buffer *ret_reasons)
{
    return relay_is_ready(((struct daemon_context *)context)->state, ret_reasons);
}

static void stop(struct daemon_context *context)
{
    relay_destroy(context->state);
}

static const struct daemon_program program = {
    .name = "outbox-relay",
    .usage =
        "outbox-relay [--postgres CONNINFO] [--amqp URI] [--config FILE] ...\n"
        "Publishes the committed messages of an outbox to RabbitMQ, with publisher confirms.\n",
    .settings = relay_settings,
    .start = start,
    .drain = drain,
    .refresh = refresh,
    .ready = ready,
    .stop = stop,
};

int main(int argc, char **argv)
{
    return daemon_main(&program, argc, argv);
}
