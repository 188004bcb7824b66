#include "saga/cli/replay_send.h"
#include "outbox/relay/publishing/confirm.h"
#include "outbox/relay/publishing/envelope.h"
#include "saga/cli/replay.h"
#include "saga/cli/visit.h"
#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW       500 /* unconfirmed, at most */
#define OUT_BYTES    (256 << 10)
#define LOOK_US      (10 * US_PER_MS) /* how often the rate and the silence are looked at */
#define SILENT_US    (60 * US_PER_S)  /* without a confirm, while the broker takes messages */
#define AT_ONCE      (US_PER_S / 10)  /* what the rate lets through in one go, in time */
#define HEADERS_OWN  2
#define RATE_DEFAULT 1000 /* messages per second: live traffic comes first */

struct sender {
    struct config *config;
    struct loop *loop;
    struct loop_hook *hook;
    struct loop_timer *timer;
    struct broker *broker;
    struct confirm *confirm;
    const struct routes *routes;
    struct broker_text to_exchange; /* .text NULL: where the row belongs */
    int64_t rate;                   /* per second; 0: no limit */
    int64_t allowed_us;             /* when the next message may go, by the rate */
    int64_t heard_us;               /* the last confirm, or when something else explained silence */
    struct envelope envelope;
    char replayed_at[ENVELOPE_TIME_TEXT_BYTES];
    /* Of the batch. */
    const struct pg_result *rows;
    int next, settled;
    bool confirmed[REPLAY_ROWS_MAX];
    struct error failure;
};

/* The first reason ends the batch. */
static void fail(struct sender *sender, const struct error *why)
{
    if (sender->failure.code == 0)
        sender->failure = *why;
    loop_stop(sender->loop);
}

/* Sending -------------------------------------------------------------------------------------- */

static struct broker_text text_of(const char *text)
{
    return (struct broker_text){text, strlen(text)};
}

static void add_headers(struct sender *sender, struct broker_message *message)
{
    struct broker_header *list = sender->envelope.list + message->header_count;

    static_assert(ENVELOPE_SPARE_HEADERS >= HEADERS_OWN, "the envelope has room for ours");
    list[0] = (struct broker_header){
        .name = text_of("sagapost-replayed"), .kind = BROKER_BOOL, .integer = 1};
    list[1] = (struct broker_header){.name = text_of("sagapost-replayed-at"),
                                     .kind = BROKER_TEXT,
                                     .text = text_of(sender->replayed_at)};
    message->header_count += HEADERS_OWN;
}

static int send_row(struct sender *sender, struct error *error)
{
    struct row row = {sender->rows, sender->next};
    struct route route = routes_find(sender->routes, row);
    struct broker_message message;
    uint64_t tag;

    if (sender->to_exchange.text)
        route.exchange = sender->to_exchange;
    int failed = envelope_make(&sender->envelope, row, &route, &message, error);
    if (failed < 0)
        return failed;
    add_headers(sender, &message);
    failed = broker_publish(sender->broker, &message, &tag, error);
    if (failed < 0)
        return failed;
    confirm_add(sender->confirm, tag, (uint32_t)sender->next,
                envelope_fingerprint(message.message_id, message.exchange, message.routing_key),
                loop_now_us(sender->loop));
    sender->next++;
    return 0;
}

static bool may_send(const struct sender *sender)
{
    return sender->rows && sender->failure.code == 0 &&
           sender->next < pg_result_rows(sender->rows) && broker_can_publish(sender->broker) &&
           confirm_open(sender->confirm) < WINDOW && confirm_has_room(sender->confirm) &&
           (sender->rate == 0 || sender->allowed_us <= loop_now_us(sender->loop));
}

/* Before the loop sleeps. */
static bool on_turn(void *data)
{
    struct sender *sender = data;
    int64_t now_us = loop_now_us(sender->loop);
    struct error error = {0};
    bool did = false;

    /* What was not used up to now is not made up for, but for a moment. */
    if (sender->allowed_us < now_us - AT_ONCE)
        sender->allowed_us = now_us - AT_ONCE;
    while (may_send(sender)) {
        if (send_row(sender, &error) < 0) {
            error_context(&error, "row %lld of the log",
                          (long long)pg_int(sender->rows, sender->next, ROW_ID));
            fail(sender, &error);
            break;
        }
        if (sender->rate > 0)
            sender->allowed_us += US_PER_S / sender->rate;
        did = true;
    }
    return did;
}

static void on_timer(void *data)
{
    struct sender *sender = data;
    int64_t now_us = loop_now_us(sender->loop);
    struct error error = {0};

    loop_timer_arm_in(sender->timer, LOOK_US);
    if (confirm_open(sender->confirm) == 0 || broker_is_blocked(sender->broker))
        sender->heard_us = now_us;
    if (now_us - sender->heard_us <= SILENT_US)
        return;
    error_set(&error, ERROR_TIMEOUT, RETRY_LATER, "RabbitMQ confirmed nothing for %d s",
              SILENT_US / US_PER_S);
    fail(sender, &error);
}

/* What the broker says ------------------------------------------------------------------------- */

static void on_settled(void *data, const struct confirm_entry *entry)
{
    struct sender *sender = data;
    struct error error = {0};
    char message_id[UUID_TEXT_BYTES];

    if (!sender->rows || entry->outcome == CONFIRM_UNKNOWN)
        return;
    if (entry->outcome == CONFIRM_ACKED) {
        sender->confirmed[entry->item] = true;
        if (++sender->settled == pg_result_rows(sender->rows))
            loop_stop(sender->loop);
        return;
    }
    struct uuid id = pg_uuid(sender->rows, (int)entry->item, ROW_MESSAGE_ID);
    uuid_format(&id, message_id);
    error_set(&error, ERROR_AMQP, RETRY_POISON, "message %s %s", message_id,
              entry->outcome == CONFIRM_RETURNED
                  ? "was returned: no queue is bound for it where it was sent to"
                  : "was refused by the broker (a full queue, or trouble)");
    fail(sender, &error);
}

static void on_confirm(void *data, uint64_t tag, bool multiple, bool acked)
{
    struct sender *sender = data;

    sender->heard_us = loop_now_us(sender->loop);
    if (!confirm_settle(sender->confirm, tag, multiple, acked, on_settled, sender))
        broker_reconnect(sender->broker, "a confirm for a message that was not sent");
}

static void on_return(void *data, const struct broker_return *returned)
{
    struct sender *sender = data;

    if (!confirm_return(
            sender->confirm,
            envelope_fingerprint(returned->message_id, returned->exchange, returned->routing_key),
            returned->code))
        broker_reconnect(sender->broker, "a message came back that was not sent");
}

static void on_up(void *data, struct broker *broker)
{
    struct sender *sender = data;

    (void)broker;
    sender->heard_us = loop_now_us(sender->loop);
}

static void on_down(void *data, struct broker *broker, const struct error *why, bool channel_only)
{
    struct sender *sender = data;

    (void)broker;
    (void)channel_only;
    confirm_lost(sender->confirm, on_settled, sender);
    fail(sender, why);
}

static void on_blocked(void *data, bool blocked, const char *reason)
{
    (void)data;
    if (blocked)
        fprintf(stderr, "sagapost: RabbitMQ blocks publishers (%s): waiting\n",
                reason ? reason : "no reason given");
}

static void on_signal(void *data, int signo)
{
    struct error error = {0};

    error_set(&error, ERROR_STATE, RETRY_LATER, "interrupted (%s)", strsignal(signo));
    fail(data, &error);
}

/* A batch -------------------------------------------------------------------------------------- */

int sender_send(struct sender *sender, const struct pg_result *rows, int *ret_done,
                struct error *error)
{
    int count = pg_result_rows(rows), done = 0;
    int failed = 0;

    assert(count <= REPLAY_ROWS_MAX);
    memset(sender->confirmed, 0, sizeof(sender->confirmed));
    sender->rows = rows;
    sender->next = sender->settled = 0;
    if (count > 0 && sender->failure.code == 0)
        failed = loop_run(sender->loop, error);
    sender->rows = NULL;
    while (done < count && sender->confirmed[done])
        done++;
    *ret_done = done;
    if (failed < 0 || sender->failure.code == 0)
        return failed;
    *error = sender->failure;
    return error->code;
}

/* Life ----------------------------------------------------------------------------------------- */

static int create_loop(struct sender *sender, struct error *error)
{
    int failed = loop_create(&sender->loop, &clock_system, error);

    if (failed >= 0)
        failed = loop_hook_add(sender->loop, on_turn, sender, &sender->hook, error);
    if (failed >= 0)
        failed = loop_timer_create(sender->loop, on_timer, sender, &sender->timer, error);
    if (failed >= 0)
        failed = loop_signal_add(sender->loop, SIGINT, on_signal, sender, error);
    if (failed >= 0)
        failed = loop_signal_add(sender->loop, SIGTERM, on_signal, sender, error);
    return failed;
}

static int create_broker(struct sender *sender, struct cli *cli, struct error *error)
{
    struct broker_options options = visit_broker_options(cli);

    options.connection_name = "sagapost outbox replay";
    options.out_bytes_max = OUT_BYTES;
    options.confirms = true;
    options.on_up = on_up;
    options.on_down = on_down;
    options.on_confirm = on_confirm;
    options.on_return = on_return;
    options.on_blocked = on_blocked;
    options.data = sender;
    return broker_create(&sender->broker, sender->loop, &options, error);
}

int sender_create(struct sender **ret_sender, struct cli *cli, const struct routes *routes,
                  struct error *error)
{
    struct sender *sender = calloc(1, sizeof(*sender));

    if (!sender)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a sender");
    sender->config = cli->config;
    sender->routes = routes;
    sender->rate =
        config_is_set(cli->config, "rate") ? config_count(cli->config, "rate") : RATE_DEFAULT;
    if (config_is_set(cli->config, "to-exchange"))
        sender->to_exchange = text_of(config_text(cli->config, "to-exchange"));
    sender->envelope.app_id = config_text(cli->config, "app-id");
    sender->envelope.source = config_text(cli->config, "cloudevents-source");
    sender->envelope.cloud_events = config_bool(cli->config, "cloudevents");
    envelope_format_time(&sender->envelope, clock_wall_us(&clock_system));
    memcpy(sender->replayed_at, sender->envelope.time, sizeof(sender->replayed_at));
    int failed = create_loop(sender, error);
    if (failed >= 0)
        failed = confirm_create(&sender->confirm, WINDOW * 4, error);
    if (failed >= 0)
        failed = create_broker(sender, cli, error);
    if (failed < 0) {
        sender_destroy(sender);
        return failed;
    }
    sender->heard_us = sender->allowed_us = loop_now_us(sender->loop);
    broker_start(sender->broker);
    loop_timer_arm_in(sender->timer, LOOK_US);
    *ret_sender = sender;
    return 0;
}

void sender_destroy(struct sender *sender)
{
    if (!sender)
        return;
    broker_destroy(sender->broker);
    confirm_destroy(sender->confirm);
    loop_timer_destroy(sender->timer);
    loop_hook_remove(sender->hook);
    loop_destroy(sender->loop);
    free(sender);
}
