#include "tests/unit/amqp/fake_broker.h"

#include "tests/unit/amqp/cmocka_with.h"

#include <stdio.h>
#include <string.h>

#define MESSAGES_MAX  64
#define CONSUMERS_MAX 8

enum message_state { WAITS, IS_OUT, IS_ACKNOWLEDGED, IS_REJECTED };

struct message {
    char queue[64], routing_key[64], body[2048], message_id[37];
    enum message_state state;
    uint64_t tag;
    int deliveries;
};

static struct {
    struct broker_options options;
    bool started, up, lost; /* lost: on_down is to come */
    bool in_on_up;
    struct message messages[MESSAGES_MAX];
    int message_count;
    char consumed[CONSUMERS_MAX][64];
    int consumer_count;
    uint64_t next_tag;
    int loses_in, cancels_in;
    bool struck;
    char reconnect[256];
    struct error why;
} fake;

void (*fake_broker_on_ack)(int number);
bool fake_broker_creations_fail;
int fake_brokers_open;

/* For the test ----------------------------------------------------------------------------------
 */

void fake_broker_start(void)
{
    memset(&fake, 0, sizeof(fake));
    fake_broker_on_ack = NULL;
    fake_broker_creations_fail = false;
}

int fake_broker_send(const char *queue, const char *routing_key, const char *body)
{
    assert_true(fake.message_count < MESSAGES_MAX);
    struct message *message = &fake.messages[fake.message_count];
    *message = (struct message){.state = WAITS};
    (void)snprintf(message->queue, sizeof(message->queue), "%s", queue);
    (void)snprintf(message->routing_key, sizeof(message->routing_key), "%s", routing_key);
    (void)snprintf(message->message_id, sizeof(message->message_id),
                   "01890a5d-ac96-774b-bcce-%012x", (unsigned)fake.message_count);
    assert_true(strlen(body) < sizeof(message->body));
    (void)snprintf(message->body, sizeof(message->body), "%s", body);
    return fake.message_count++;
}

static void lose(const char *why)
{
    if (!fake.up)
        return;
    fake.up = false;
    fake.lost = true;
    error_set(&fake.why, ERROR_AMQP, RETRY_RECONNECT, "%s", why);
}

/* One event; true: it is the one that is lost. */
static bool is_struck(void)
{
    if (fake.loses_in == 0 || --fake.loses_in > 0)
        return false;
    fake.struck = true;
    lose("the connection to the broker is lost");
    return true;
}

static bool is_consumed(const char *queue)
{
    for (int i = 0; i < fake.consumer_count; i++)
        if (strcmp(fake.consumed[i], queue) == 0)
            return true;
    return false;
}

static struct broker_text text(const char *of)
{
    return (struct broker_text){of, strlen(of)};
}

static void deliver(struct message *message)
{
    if (fake.cancels_in > 0 && --fake.cancels_in == 0) {
        fake.struck = true;
        fake.options.on_cancel(fake.options.data, fake.consumed[0]);
        return;
    }
    if (is_struck())
        return;
    message->state = IS_OUT;
    message->tag = ++fake.next_tag;
    const struct broker_delivery delivery = {.tag = message->tag,
                                             .redelivered = message->deliveries++ > 0,
                                             .routing_key = text(message->routing_key),
                                             .message_id = text(message->message_id),
                                             .body = text(message->body)};
    fake.options.on_delivery(fake.options.data, &delivery);
}

static bool connect(void)
{
    fake.up = true;
    fake.next_tag = 0;
    fake.consumer_count = 0;
    fake.in_on_up = true;
    fake.options.on_up(fake.options.data, (struct broker *)(void *)&fake);
    fake.in_on_up = false;
    return true;
}

static bool tell_of_loss(void)
{
    fake.lost = false;
    for (int i = 0; i < fake.message_count; i++)
        if (fake.messages[i].state == IS_OUT)
            fake.messages[i].state = WAITS;
    fake.options.on_down(fake.options.data, (struct broker *)(void *)&fake, &fake.why, false);
    return true;
}

bool fake_broker_step(void)
{
    if (fake.lost)
        return tell_of_loss();
    if (fake.started && !fake.up)
        return connect();
    for (int i = 0; fake.up && i < fake.message_count; i++)
        if (fake.messages[i].state == WAITS && is_consumed(fake.messages[i].queue)) {
            deliver(&fake.messages[i]);
            return true;
        }
    return false;
}

void fake_broker_loses(int nth)
{
    fake.loses_in = nth;
}

void fake_broker_cancels(int nth)
{
    fake.cancels_in = nth;
}

bool fake_broker_struck(void)
{
    return fake.struck;
}

bool fake_broker_is_empty(void)
{
    for (int i = 0; i < fake.message_count; i++)
        if (fake.messages[i].state == WAITS || fake.messages[i].state == IS_OUT)
            return false;
    return true;
}

int fake_broker_rejected(void)
{
    int rejected = 0;
    for (int i = 0; i < fake.message_count; i++)
        rejected += fake.messages[i].state == IS_REJECTED;
    return rejected;
}

const char *fake_broker_reconnect_asked(void)
{
    return fake.reconnect[0] ? fake.reconnect : NULL;
}

/* In place of outbox/amqp ------------------------------------------------------------------------
 */

#define INSTEAD(type, name, parameters)                                                            \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters

static void is_fake(const struct broker *broker)
{
    assert_ptr_equal(broker, &fake);
}

INSTEAD(int, broker_create,
        (struct broker * *ret_broker, struct loop *loop, const struct broker_options *options,
         struct error *error))
{
    (void)loop;
    if (fake_broker_creations_fail)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a session to the broker");
    fake.options = *options;
    fake_brokers_open++;
    *ret_broker = (struct broker *)(void *)&fake;
    return 0;
}

INSTEAD(void, broker_start, (struct broker * broker))
{
    is_fake(broker);
    fake.started = true;
}

INSTEAD(void, broker_reconnect, (struct broker * broker, const char *why))
{
    is_fake(broker);
    (void)snprintf(fake.reconnect, sizeof(fake.reconnect), "%s", why);
    lose(why);
}

INSTEAD(void, broker_destroy, (struct broker * broker))
{
    if (!broker)
        return;
    is_fake(broker);
    fake.started = fake.up = fake.lost = false;
    fake_brokers_open--;
}

INSTEAD(bool, broker_is_up, (const struct broker *broker))
{
    is_fake(broker);
    return fake.up;
}

static struct message *out_with(uint64_t tag)
{
    for (int i = 0; i < fake.message_count; i++)
        if (fake.messages[i].state == IS_OUT && fake.messages[i].tag == tag)
            return &fake.messages[i];
    return NULL;
}

/* With an acknowledgement that is lost nothing was acknowledged. */
INSTEAD(void, broker_ack, (struct broker * broker, uint64_t tag, bool multiple))
{
    is_fake(broker);
    if (!fake.up)
        return;
    if (!out_with(tag))
        fail_msg("tag %llu is acknowledged, and is not out", (unsigned long long)tag);
    bool is_lost = is_struck();
    for (int i = 0; i < fake.message_count; i++) {
        struct message *message = &fake.messages[i];
        bool is_meant = multiple ? message->tag <= tag : message->tag == tag;
        if (message->state != IS_OUT || !is_meant)
            continue;
        if (fake_broker_on_ack)
            fake_broker_on_ack(i);
        message->state = is_lost ? IS_OUT : IS_ACKNOWLEDGED;
    }
}

INSTEAD(void, broker_reject, (struct broker * broker, uint64_t tag))
{
    is_fake(broker);
    if (!fake.up)
        return;
    struct message *message = out_with(tag);
    if (!message)
        fail_msg("tag %llu is rejected, and is not out", (unsigned long long)tag);
    else if (!is_struck())
        message->state = IS_REJECTED;
}

static int request(const struct broker *broker, struct error *error)
{
    is_fake(broker);
    assert_true(fake.in_on_up);
    if (!fake.up || is_struck())
        return error_set(error, ERROR_AMQP, RETRY_LATER, "the broker says no");
    return 0;
}

INSTEAD(int, broker_declare_exchange,
        (struct broker * broker, const char *name, const char *type, bool durable,
         struct error *error))
{
    (void)name;
    (void)type;
    (void)durable;
    return request(broker, error);
}

INSTEAD(int, broker_declare_queue,
        (struct broker * broker, const char *name, bool durable, bool exclusive,
         const struct broker_argument *arguments, int argument_count, struct error *error))
{
    (void)name;
    (void)durable;
    (void)exclusive;
    (void)arguments;
    (void)argument_count;
    return request(broker, error);
}

INSTEAD(int, broker_bind_queue,
        (struct broker * broker, const char *queue, const char *exchange, const char *routing_key,
         struct error *error))
{
    (void)queue;
    (void)exchange;
    (void)routing_key;
    return request(broker, error);
}

INSTEAD(int, broker_consume,
        (struct broker * broker, const char *queue, const char *consumer_tag, bool exclusive,
         int prefetch, struct error *error))
{
    (void)consumer_tag;
    (void)exclusive;
    (void)prefetch;
    int rc = request(broker, error);
    if (rc == 0) {
        assert_true(fake.consumer_count < CONSUMERS_MAX);
        (void)snprintf(fake.consumed[fake.consumer_count++], sizeof(fake.consumed[0]), "%s", queue);
    }
    return rc;
}
