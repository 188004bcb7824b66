#include "outbox/relay/publishing/lane_private.h"
#include "outbox/relay/rows/chunk.h"
#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tags that settle out of order keep their place in the ring of confirms: it is larger than the
 * window. */
#define CONFIRM_RING_FACTOR 4

/* The longest pauses between attempts at a closed destination: one that closes the channel, and one
 * that may leave a copy in a queue that is silent. */
#define PROBE_CAP_US        (5 * (int64_t)US_PER_S)
#define SILENT_PROBE_CAP_US (60 * (int64_t)US_PER_S)

static uint64_t next_chance(struct lane *lane)
{
    lane->chance = lane->chance * 6364136223846793005u + 1442695040888963407u;
    return lane->chance ^ (lane->chance >> 29);
}

/* Settling ------------------------------------------------------------------------------------- */

static void count_outcome(struct lane *lane, enum outcome outcome)
{
    struct stats *stats = lane->options.stats;

    if (outcome == OUTCOME_CONFIRMED)
        metric_add(stats->confirmed, 1);
    else if (outcome == OUTCOME_RETURNED)
        metric_add(stats->returned, 1);
    else if (outcome == OUTCOME_NACKED)
        metric_add(stats->nacked, 1);
}

static void count_overtaken(struct lane *lane)
{
    uint64_t overtaken = flow_overtaken(lane->options.flow);

    if (overtaken == lane->overtaken)
        return;
    metric_add(lane->options.stats->overtaken, (double)(overtaken - lane->overtaken));
    lane->overtaken = overtaken;
}

void lane_settle(struct lane *lane, uint32_t place, enum outcome outcome, const char *detail)
{
    struct flow_item *item = flow_item(lane->options.flow, place);
    struct verdict verdict;

    count_outcome(lane, outcome);
    item->attempts++;
    verdict = outcome_decide(outcome, item->attempts, item->failing_us, lane->options.limits,
                             next_chance(lane));
    if (verdict.act == ACT_DONE) {
        flow_done(lane->options.flow, place);
    } else {
        item->reason = verdict.reason;
        item->pause_us = verdict.pause_us;
        free(item->detail);
        item->detail = detail ? strdup(detail) : NULL;
        flow_set_aside(lane->options.flow, place,
                       verdict.act == ACT_PARK ? FLOW_PARKED : FLOW_WAITING);
    }
    count_overtaken(lane);
    if (lane->alone_left > 0)
        lane->alone_left--;
    lane->options.on_settled(lane->options.data, item);
}

size_t lane_body_bytes(const struct flow_item *item)
{
    struct row row = {item->chunk->rows, (int)item->row};
    struct broker_text body = row_text(row, ROW_PAYLOAD);

    return body.text ? body.bytes : row_text(row, ROW_PAYLOAD_BYTES).bytes;
}

void lane_settle_too_large(struct lane *lane, uint32_t place)
{
    char detail[DESTINATION_DETAIL_BYTES];

    (void)snprintf(detail, sizeof(detail), "the body has %zu bytes, RabbitMQ takes at most %llu",
                   lane_body_bytes(flow_item(lane->options.flow, place)),
                   (unsigned long long)destinations_body_bytes_max(lane->options.destinations));
    lane_settle(lane, place, OUTCOME_TOO_LARGE, detail);
}

static void observe_latency(struct lane *lane, const struct flow_item *item, int64_t sent_us)
{
    const struct clock_source *clock = loop_clock(lane->options.loop);
    int64_t age_us = clock_wall_us(clock) - item->created_us;

    metric_observe(lane->options.stats->confirm_latency_seconds,
                   (double)(lane_now_us(lane) - sent_us) / US_PER_S);
    metric_observe(lane->options.stats->commit_to_confirm_seconds,
                   age_us > 0 ? (double)age_us / US_PER_S : 0);
}

/* The broker has answered for a message to it: it exists, and we may write to it. */
static void open_destination(struct lane *lane, uint16_t number)
{
    struct destination *closed;

    while ((closed = destinations_closed(lane->options.destinations, number))) {
        closed->closed = false;
        log_info(closed->outcome == OUTCOME_UNCONFIRMED ? "messages are confirmed there again"
                                                        : "the exchange takes messages again",
                 LOG_STR("exchange", closed->exchange),
                 LOG_STR("routing_key", closed->whole ? closed->routing_key : NULL));
    }
}

/* A body that the broker had refused was taken: it has another limit now. */
static void forget_body_limit(struct lane *lane, const struct flow_item *item)
{
    uint64_t bytes_max = destinations_body_bytes_max(lane->options.destinations);

    if (bytes_max > 0 && lane_body_bytes(item) > bytes_max)
        destinations_set_body_bytes_max(lane->options.destinations, 0);
}

void lane_on_entry_settled(void *data, const struct confirm_entry *entry)
{
    struct lane *lane = data;
    struct flow_item *item;

    /* Every message sent is counted once: confirmed, returned, nacked, or this. */
    if (entry->item == FLOW_NONE || entry->outcome == CONFIRM_UNKNOWN)
        metric_add(lane->options.stats->unknown, 1);
    if (entry->item == FLOW_NONE)
        return; /* of rows that were forgotten with the connection to PostgreSQL */
    if (entry->outcome == CONFIRM_UNKNOWN) {
        lane_settle_lost(lane, entry);
        return;
    }
    item = flow_item(lane->options.flow, entry->item);
    silence_heard(&lane->silence, item->destination, lane_now_us(lane), entry->sent_us);
    open_destination(lane, item->destination);
    if (entry->outcome == CONFIRM_NACKED)
        stale_refused(&lane->stale, item->destination, lane_now_us(lane));
    else
        lane_note_taken(lane, item->destination);
    if (entry->outcome == CONFIRM_ACKED) {
        observe_latency(lane, item, entry->sent_us);
        forget_body_limit(lane, item);
        lane_settle(lane, entry->item, OUTCOME_CONFIRMED, NULL);
    } else if (entry->outcome == CONFIRM_NACKED) {
        lane_settle(lane, entry->item, OUTCOME_NACKED, "basic.nack");
    } else {
        lane_settle(lane, entry->item, OUTCOME_RETURNED,
                    entry->return_code == 312 ? "312 NO_ROUTE" : "basic.return");
    }
}

static void on_confirm(void *data, uint64_t tag, bool multiple, bool acked)
{
    struct lane *lane = data;

    FAILPOINT("after-confirm");
    lane->progress = true;
    lane->barren = lane->mute = 0;
    if (!confirm_settle(lane->confirm, tag, multiple, acked, lane_on_entry_settled, lane))
        broker_reconnect(lane->broker, "a confirm for a message that is not open");
}

static void on_return(void *data, const struct broker_return *returned)
{
    struct lane *lane = data;
    uint64_t fingerprint =
        envelope_fingerprint(returned->message_id, returned->exchange, returned->routing_key);

    if (!confirm_return(lane->confirm, fingerprint, returned->code))
        broker_reconnect(lane->broker, "a message was returned that is not in flight");
}

static void on_fence(void *data, const struct error *why)
{
    struct lane *lane = data;

    if (lane->fence_wanted)
        lane->options.on_fence(lane->options.fence_data, why ? LANE_FENCE_REFUSED : LANE_FENCE_HELD,
                               why);
}

static void on_up(void *data, struct broker *broker)
{
    struct lane *lane = data;

    (void)broker;
    lane->was_up = true;
    lane->progress = false;
    silence_begin(&lane->silence, lane_now_us(lane));
    if (!lane->replacing)
        log_info("connected to RabbitMQ", LOG_STR("lane", lane->options.name));
    lane->replacing = false;
}

static void on_blocked(void *data, bool blocked, const char *reason)
{
    struct lane *lane = data;

    if (blocked && lane->blocked_us)
        return; /* for another reason too */
    if (blocked) {
        log_warn("RabbitMQ blocks publishers", LOG_STR("lane", lane->options.name),
                 LOG_STR("reason", reason));
        lane->blocked_us = lane_now_us(lane);
        return;
    }
    if (!lane->blocked_us)
        return;
    log_info("RabbitMQ takes messages again", LOG_STR("lane", lane->options.name));
    metric_add(lane->options.stats->blocked_seconds,
               (double)(lane_now_us(lane) - lane->blocked_us) / US_PER_S);
    lane->blocked_us = 0;
    lane->unblocked_us = lane_now_us(lane);
    silence_begin(&lane->silence, lane->unblocked_us);
}

/* Sending -------------------------------------------------------------------------------------- */

static bool may_send(const struct lane *lane)
{
    uint32_t most = lane->alone_left > 0 ? 1 : lane->options.window;

    return lane->open && !lane->replace_wanted && broker_can_publish(lane->broker) &&
           confirm_has_room(lane->confirm) && confirm_open(lane->confirm) < most;
}

/* Whether the row may go to where it is bound, as far as that is known; if not, it is settled. */
static bool is_welcome(struct lane *lane, uint32_t place)
{
    uint16_t number = flow_item(lane->options.flow, place)->destination;
    const struct destination *closed = destinations_closed(lane->options.destinations, number);

    if (closed && (!lane->options.tries_closed || lane_now_us(lane) < closed->probe_us)) {
        lane_settle(lane, place, closed->outcome, closed->detail);
        return false;
    }
    if (!closed && lane_is_crowded(lane, number)) {
        lane_settle(lane, place, OUTCOME_UNCONFIRMED,
                    "it was not sent: others there wait for their confirm");
        return false;
    }
    return true;
}

/* Whether the channel may be closed over this message: it is sent when nothing else is in flight.
 */
static bool is_risky(const struct lane *lane, const struct destination *closed, size_t body_bytes)
{
    uint64_t bytes_max = destinations_body_bytes_max(lane->options.destinations);

    return (closed && closed->outcome != OUTCOME_UNCONFIRMED) ||
           (bytes_max > 0 && body_bytes > bytes_max);
}

static void note_probe(struct lane *lane, struct destination *closed)
{
    bool silent = closed->outcome == OUTCOME_UNCONFIRMED;

    destination_probed(closed, lane_now_us(lane),
                       silent ? lane->options.silent_after_us : lane->options.limits->retry_base_us,
                       silent ? SILENT_PROBE_CAP_US : PROBE_CAP_US);
}

/* Hands the message to the session. False when that cannot take it now. */
static bool send_message(struct lane *lane, uint32_t place, const struct broker_message *message)
{
    struct flow_item *item = flow_item(lane->options.flow, place);
    struct destination *closed = destinations_closed(lane->options.destinations, item->destination);
    bool risky = is_risky(lane, closed, message->body_bytes);
    struct error error = {0};
    uint64_t tag;

    if (risky && !lane->options.tries_closed) {
        lane_settle_too_large(lane, place);
        return true;
    }
    if (risky && confirm_open(lane->confirm) > 0)
        return false;
    if (broker_publish(lane->broker, message, &tag, &error) < 0) {
        if (error.retry == RETRY_POISON)
            lane_settle(lane, place, OUTCOME_UNCARRIABLE, error.message);
        return error.retry == RETRY_POISON;
    }
    if (closed)
        note_probe(lane, closed);
    if (risky && lane->alone_left == 0)
        lane->alone_left = 1;
    confirm_add(lane->confirm, tag, place,
                envelope_fingerprint(message->message_id, message->exchange, message->routing_key),
                lane_now_us(lane));
    silence_sent(&lane->silence, item->destination, lane_now_us(lane));
    item->sent_us = lane_now_us(lane);
    flow_sent(lane->options.flow, place);
    metric_add(lane->options.stats->published, 1);
    FAILPOINT("after-publish");
    return true;
}

/* The same for a row. True when it was sent or settled. */
static bool send_row(struct lane *lane, uint32_t place)
{
    struct flow_item *item = flow_item(lane->options.flow, place);
    struct row row = {item->chunk->rows, (int)item->row};
    struct route route = routes_find(lane->options.routes, row);
    struct broker_message message;
    struct error error = {0};

    item->destination =
        destinations_number(lane->options.destinations, route.exchange, route.routing_key);
    item->created_us = pg_time_us(row.rows, row.row, ROW_CREATED_AT);
    if (!is_welcome(lane, place))
        return true;
    if (envelope_make(&lane->envelope, row, &route, &message, &error) < 0) {
        lane_settle(lane, place, OUTCOME_UNCARRIABLE, error.message);
        return true;
    }
    return send_message(lane, place, &message);
}

bool lane_publish(struct lane *lane, uint32_t most)
{
    uint32_t sent = 0, place;

    lane_replace_when_drained(lane);
    while (sent < most && may_send(lane)) {
        place = flow_next(lane->options.flow);
        if (place == FLOW_NONE)
            lane_check_window(lane);
        if (place == FLOW_NONE || !send_row(lane, place))
            break;
        sent++;
    }
    return sent > 0;
}

/* Life ----------------------------------------------------------------------------------------- */

static void forget_entry(void *data, struct confirm_entry *entry)
{
    (void)data;
    entry->item = FLOW_NONE;
}

void lane_forget(struct lane *lane)
{
    confirm_each_open(lane->confirm, forget_entry, NULL);
    silence_lost(&lane->silence);
    lane->alone_left = 0;
}

void lane_fence(struct lane *lane, const char *queue, const char *beside)
{
    lane->fence_wanted = true;
    broker_fence(lane->broker, queue, beside);
}

void lane_unfence(struct lane *lane, const char *why)
{
    lane->fence_wanted = lane->open = false;
    broker_unfence(lane->broker, why);
}

bool lane_is_fenced(const struct lane *lane)
{
    return broker_is_fenced(lane->broker);
}

void lane_open(struct lane *lane)
{
    assert(lane_is_fenced(lane));
    lane->open = true;
}

bool lane_is_open(const struct lane *lane)
{
    return lane->open;
}

void lane_tick(struct lane *lane)
{
    int64_t now_us = lane_now_us(lane);

    if (lane->blocked_us) {
        metric_add(lane->options.stats->blocked_seconds,
                   (double)(now_us - lane->blocked_us) / US_PER_S);
        lane->blocked_us = now_us;
        return;
    }
    lane_check_confirms(lane);
    lane_check_refusals(lane);
}

bool lane_is_up(const struct lane *lane)
{
    return broker_is_up(lane->broker);
}

bool lane_is_blocked(const struct lane *lane)
{
    return broker_is_blocked(lane->broker);
}

uint32_t lane_in_flight(const struct lane *lane)
{
    return confirm_open(lane->confirm);
}

int lane_create(struct lane **ret_lane, const struct lane_options *options, struct error *error)
{
    struct lane *lane = calloc(1, sizeof(*lane));
    int failed;

    if (!lane)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a lane");
    lane->options = *options;
    lane->silence.slow_us = options->silent_after_us / SLOW_FRACTION;
    lane->envelope.app_id = options->app_id;
    lane->envelope.source = options->source;
    lane->envelope.cloud_events = options->cloud_events;
    lane->chance = (uint64_t)clock_wall_us(loop_clock(options->loop));
    lane->options.broker.confirms = true;
    lane->options.broker.on_up = on_up;
    lane->options.broker.on_down = lane_on_down;
    lane->options.broker.on_confirm = on_confirm;
    lane->options.broker.on_return = on_return;
    lane->options.broker.on_fence = on_fence;
    lane->options.broker.on_blocked = on_blocked;
    lane->options.broker.data = lane;
    failed = confirm_create(&lane->confirm, options->window * CONFIRM_RING_FACTOR, error);
    if (failed >= 0)
        failed = broker_create(&lane->broker, options->loop, &lane->options.broker, error);
    if (failed < 0) {
        lane_destroy(lane);
        return failed;
    }
    *ret_lane = lane;
    return 0;
}

void lane_start(struct lane *lane)
{
    broker_start(lane->broker);
}

void lane_destroy(struct lane *lane)
{
    if (!lane)
        return;
    broker_destroy(lane->broker);
    confirm_destroy(lane->confirm);
    free(lane);
}
