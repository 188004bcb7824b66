#include "outbox/amqp/encode.h"
#include "outbox/amqp/internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* The fence: an exclusive queue, on a channel of its own.
 *
 * Requests and answers go through the buffer and the loop like everything else, so that a
 * connection that has long been up can take the fence without a moment's blocking; and what closes
 * the channel of the publishes leaves the fence alone.
 *
 *     DOWN -> OPENING -> (CLEARING -> FREEING ->) DECLARING -> CONSUMING -> HELD
 *                ^           |                       |             |
 *                `-- PAUSED <+-----------------------+-------------'   405, or any other refusal
 *
 * CLEARING and FREEING declare the queue `beside` exclusively and delete it again: nobody else
 * holds it. */

#define CONSUMER_TAG "fence"
/* Arguments of the methods below: at most two short strings and some bytes. */
#define METHOD_BYTES_MAX 1024

static void fail(struct broker *broker, const char *what)
{
    struct error error = {0};

    error_set(&error, ERROR_PROTOCOL, RETRY_RECONNECT, "RabbitMQ at %s: the fence '%s': %s",
              broker->peer, broker->fence.queue, what);
    broker_fail(broker, &error, false);
}

static void tell(struct broker *broker, const struct error *why)
{
    if (broker->options.on_fence)
        broker->options.on_fence(broker->options.data, why);
}

/* The method goes out, and its answer is awaited as long as that of an attempt to connect. */
static void ask(struct broker *broker, enum fence_state next, amqp_method_number_t method,
                void *decoded)
{
    uint8_t arguments[METHOD_BYTES_MAX];
    amqp_bytes_t room = {.len = sizeof(arguments), .bytes = arguments};
    struct error error = {0};
    int bytes = amqp_encode_method(method, decoded, room);

    assert(bytes >= 0); /* names are checked by broker_fence */
    if (encode_method(&broker->out, CHANNEL_FENCE, method, arguments, (size_t)bytes, &error)) {
        broker_fail(broker, &error, false);
        return;
    }
    broker->fence.state = next;
    loop_timer_arm_in(broker->fence.timer, broker_connect_timeout_us(broker));
}

static void open_channel_of_fence(struct broker *broker)
{
    amqp_channel_open_t open = {.out_of_band = amqp_empty_bytes};

    ask(broker, FENCE_OPENING, AMQP_CHANNEL_OPEN_METHOD, &open);
}

static void declare(struct broker *broker, enum fence_state next, const char *queue)
{
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes(queue), .exclusive = true};

    ask(broker, next, AMQP_QUEUE_DECLARE_METHOD, &declare);
}

static void free_beside(struct broker *broker)
{
    amqp_queue_delete_t delete = {.queue = amqp_cstring_bytes(broker->fence.beside)};

    ask(broker, FENCE_FREEING, AMQP_QUEUE_DELETE_METHOD, &delete);
}

/* Only a consumer is told when its queue goes. What others may send there is not kept. */
static void consume(struct broker *broker)
{
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(broker->fence.queue),
                                    .consumer_tag = amqp_cstring_bytes(CONSUMER_TAG),
                                    .no_ack = true,
                                    .exclusive = true};

    ask(broker, FENCE_CONSUMING, AMQP_BASIC_CONSUME_METHOD, &consume);
}

/* ---- answers ---- */

static void take_refusal(struct broker *broker, const amqp_channel_close_t *close)
{
    struct error why = {0}, no_room = {0};

    reply_closed(broker, "channel", close->reply_code, close->reply_text, &why);
    error_context(&why, "the fence '%s'", broker->fence.queue);
    if (broker->fence.state == FENCE_HELD) { /* the queue may be another's at any moment */
        broker_fail(broker, &why, false);
        return;
    }
    if (encode_channel_close_ok(&broker->out, CHANNEL_FENCE, &no_room)) {
        broker_fail(broker, &no_room, false);
        return;
    }
    broker->fence.state = FENCE_PAUSED;
    loop_timer_arm_in(broker->fence.timer, backoff_next_us(&broker->fence.backoff));
    tell(broker, &why);
}

static void take_cancel_of_fence(struct broker *broker)
{
    struct error why = {0};

    error_set(&why, ERROR_STATE, RETRY_RECONNECT,
              "RabbitMQ at %s cancelled the fence '%s': its queue is gone", broker->peer,
              broker->fence.queue);
    broker_fail(broker, &why, false); /* another may hold it already */
}

static void take_answer(struct broker *broker, const amqp_method_t *method)
{
    struct fence *fence = &broker->fence;

    switch (method->id) {
    case AMQP_CHANNEL_OPEN_OK_METHOD:
        if (fence->state != FENCE_OPENING)
            break;
        if (*fence->beside)
            declare(broker, FENCE_CLEARING, fence->beside);
        else
            declare(broker, FENCE_DECLARING, fence->queue);
        return;
    case AMQP_QUEUE_DECLARE_OK_METHOD:
        if (fence->state == FENCE_CLEARING)
            free_beside(broker);
        else if (fence->state == FENCE_DECLARING)
            consume(broker);
        else
            break;
        return;
    case AMQP_QUEUE_DELETE_OK_METHOD:
        if (fence->state != FENCE_FREEING)
            break;
        declare(broker, FENCE_DECLARING, fence->queue);
        return;
    case AMQP_BASIC_CONSUME_OK_METHOD:
        if (fence->state != FENCE_CONSUMING)
            break;
        loop_timer_disarm(fence->timer);
        backoff_reset(&fence->backoff);
        fence->state = FENCE_HELD;
        tell(broker, NULL);
        return;
    case AMQP_BASIC_CANCEL_METHOD:
        take_cancel_of_fence(broker);
        return;
    case AMQP_CHANNEL_CLOSE_METHOD:
        take_refusal(broker, method->decoded);
        return;
    case AMQP_BASIC_DELIVER_METHOD:
        return;
    default:
        break;
    }
    fail(broker, "an answer that was not asked for");
}

void fence_take(struct broker *broker, const amqp_frame_t *frame)
{
    if (frame->frame_type == AMQP_FRAME_METHOD)
        take_answer(broker, &frame->payload.method);
    /* Headers and bodies are of what somebody published to the queue. */
}

/* ---- life ---- */

static void on_fence_timer(void *data)
{
    struct broker *broker = data;

    if (broker->fence.state == FENCE_PAUSED)
        open_channel_of_fence(broker);
    else if (broker->blocked) /* it may read nothing at all */
        loop_timer_arm_in(broker->fence.timer, broker_connect_timeout_us(broker));
    else
        fail(broker, "no answer");
    broker_settle(broker);
}

int fence_prepare(struct broker *broker, uint64_t seed, struct error *error)
{
    backoff_init(&broker->fence.backoff, FENCE_PAUSE_BASE_US, FENCE_PAUSE_CAP_US, seed);
    return loop_timer_create(broker->loop, on_fence_timer, broker, &broker->fence.timer, error);
}

void fence_begin(struct broker *broker)
{
    if (*broker->fence.queue && broker->fence.state == FENCE_DOWN && broker_is_up(broker))
        open_channel_of_fence(broker);
}

void fence_down(struct broker *broker)
{
    broker->fence.state = FENCE_DOWN;
    backoff_reset(&broker->fence.backoff);
    loop_timer_disarm(broker->fence.timer);
}

/* ---- what the user asks ---- */

void broker_fence(struct broker *broker, const char *queue, const char *beside)
{
    assert(broker->fence.state == FENCE_DOWN && !*broker->fence.queue);
    assert(strlen(queue) <= BROKER_SHORT_STRING_BYTES_MAX);
    assert(!beside || strlen(beside) <= BROKER_SHORT_STRING_BYTES_MAX);
    (void)snprintf(broker->fence.queue, sizeof(broker->fence.queue), "%s", queue);
    (void)snprintf(broker->fence.beside, sizeof(broker->fence.beside), "%s", beside ? beside : "");
    fence_begin(broker);
}

void broker_unfence(struct broker *broker, const char *why)
{
    if (!*broker->fence.queue)
        return;
    *broker->fence.queue = 0;
    broker_reconnect(broker, why);
}

bool broker_is_fenced(const struct broker *broker)
{
    return broker->fence.state == FENCE_HELD && !broker->lost;
}
