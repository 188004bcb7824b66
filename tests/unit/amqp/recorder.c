#include "tests/unit/amqp/recorder.h"

#include <stdlib.h>
#include <string.h>

struct broker_text text_of(const char *text)
{
    return (struct broker_text){text, strlen(text)};
}

static void copy_text(char to[256], struct broker_text text)
{
    assert_true(text.bytes < 256);
    if (text.bytes)
        memcpy(to, text.text, text.bytes);
    to[text.bytes] = 0;
}

static void on_up(void *data, struct broker *broker)
{
    struct recorder *r = data;

    assert_ptr_equal(broker, r->broker);
    assert_true(broker_is_up(broker));
    r->ups++;
    r->settled_up_to = 0;
    memset(r->settled, 0, sizeof(r->settled));
    if (r->on_up)
        r->on_up(r);
}

static void on_down(void *data, struct broker *broker, const struct error *why, bool channel_only)
{
    struct recorder *r = data;

    assert_ptr_equal(broker, r->broker);
    assert_false(broker_is_up(broker));
    assert_int_not_equal(why->code, 0);
    r->downs++;
    r->channel_downs += channel_only;
    r->why = *why;
    if (r->downs == 1)
        r->first_why = *why;
    if (r->on_down)
        r->on_down(r);
}

static void settle(struct recorder *r, uint64_t tag, bool acked)
{
    assert_in_range(tag, 1, RECORDER_TAGS_MAX - 1);
    assert_false(r->settled[tag]);
    r->settled[tag] = true;
    if (acked)
        r->acked++;
    else
        r->nacked++;
}

static void on_confirm(void *data, uint64_t tag, bool multiple, bool acked)
{
    struct recorder *r = data;

    r->return_before_confirm = r->last_was_return;
    r->last_was_return = false;
    if (!multiple) {
        settle(r, tag, acked);
    } else {
        for (uint64_t t = r->settled_up_to + 1; t <= tag; t++)
            if (!r->settled[t])
                settle(r, t, acked);
    }
    while (r->settled_up_to + 1 < RECORDER_TAGS_MAX && r->settled[r->settled_up_to + 1])
        r->settled_up_to++;
}

static void on_return(void *data, const struct broker_return *returned)
{
    struct recorder *r = data;

    r->returns++;
    r->last_was_return = true;
    r->return_code = returned->code;
    copy_text(r->returned_id, returned->message_id);
}

static void on_delivery(void *data, const struct broker_delivery *delivery)
{
    struct recorder *r = data;

    r->deliveries++;
    r->delivery_tag = delivery->tag;
    r->redelivered = delivery->redelivered;
    copy_text(r->delivery_key, delivery->routing_key);
    copy_text(r->delivery_id, delivery->message_id);
    copy_text(r->delivery_type, delivery->type);
    copy_text(r->delivery_reply_to, delivery->reply_to);
    free(r->delivery_body);
    r->delivery_body = malloc(delivery->body.bytes + 1);
    assert_non_null(r->delivery_body);
    if (delivery->body.bytes)
        memcpy(r->delivery_body, delivery->body.text, delivery->body.bytes);
    r->delivery_body_bytes = delivery->body.bytes;
    if (r->acknowledge)
        broker_ack(r->broker, delivery->tag, false);
    if (r->reject)
        broker_reject(r->broker, delivery->tag);
    if (r->on_delivery)
        r->on_delivery(r);
}

static void on_cancel(void *data, const char *consumer_tag)
{
    struct recorder *r = data;

    r->cancels++;
    copy_text(r->cancelled, text_of(consumer_tag));
}

static void on_blocked(void *data, bool blocked, const char *reason)
{
    struct recorder *r = data;

    if (blocked) {
        r->blocks++;
        copy_text(r->blocked_reason, text_of(reason));
    } else {
        r->unblocks++;
    }
}

static void on_writable(void *data)
{
    struct recorder *r = data;

    assert_true(broker_can_publish(r->broker));
    r->writables++;
}

static void init(struct recorder *recorder, const char *uri, const struct clock_source *clock)
{
    assert_int_equal(loop_create(&recorder->loop, clock, NULL), 0);
    recorder->options = (struct broker_options){
        .uri = uri,
        .connection_name = "sagapost-test",
        .verify_peer = true,
        .heartbeat_s = 10,
        .connect_timeout_us = 5 * US_PER_S,
        .backoff_base_us = 10 * US_PER_MS,
        .backoff_cap_us = 200 * US_PER_MS,
        .out_bytes_max = 1 << 20,
        .confirms = true,
        .on_up = on_up,
        .on_down = on_down,
        .on_confirm = on_confirm,
        .on_return = on_return,
        .on_delivery = on_delivery,
        .on_cancel = on_cancel,
        .on_blocked = on_blocked,
        .on_writable = on_writable,
        .data = recorder,
    };
}

void recorder_init(struct recorder *recorder, const char *uri)
{
    memset(recorder, 0, sizeof(*recorder));
    init(recorder, uri, &clock_system);
}

void recorder_init_turned(struct recorder *recorder, const char *uri)
{
    memset(recorder, 0, sizeof(*recorder));
    clock_fake_init(&recorder->clock, 1000 * (int64_t)US_PER_S, 0);
    init(recorder, uri, &recorder->clock.source);
}

void recorder_start(struct recorder *recorder)
{
    struct error error = {0};

    if (broker_create(&recorder->broker, recorder->loop, &recorder->options, &error))
        fail_msg("broker_create: %s", error.message);
    broker_start(recorder->broker);
}

void recorder_free(struct recorder *recorder)
{
    broker_destroy(recorder->broker);
    loop_destroy(recorder->loop);
    free(recorder->delivery_body);
    recorder->broker = NULL;
    recorder->loop = NULL;
    recorder->delivery_body = NULL;
}

void recorder_turn(struct recorder *recorder, int64_t sleep_max_us)
{
    assert_int_equal(loop_turn(recorder->loop, sleep_max_us, NULL), 0);
}

uint64_t recorder_publish(struct recorder *recorder, const char *exchange, const char *routing_key,
                          const char *message_id)
{
    const struct broker_message message = {
        .exchange = text_of(exchange),
        .routing_key = text_of(routing_key),
        .mandatory = true,
        .persistent = true,
        .message_id = text_of(message_id),
        .type = text_of("test.message"),
        .body = "hello",
        .body_bytes = 5,
    };
    struct error error = {0};
    uint64_t tag = 0;

    if (broker_publish(recorder->broker, &message, &tag, &error))
        fail_msg("broker_publish: %s", error.message);
    return tag;
}

bool recorder_is_settled(const struct recorder *recorder, uint64_t tag)
{
    return recorder->settled[tag];
}
