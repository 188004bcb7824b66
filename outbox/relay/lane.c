#include "outbox/relay/lane.h"
#include "outbox/relay/chunk.h"
#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tags that settle out of order keep their place in the ring of confirms: it is larger than the
 * window. */
#define CONFIRM_RING_FACTOR 4

/* A connection that is closed with 5xx so often without a single confirm is closed over something
 * that we send. */
#define BARREN_LOSSES_MAX 2

/* Reply codes of AMQP 0-9-1, 1.2. */
#define CODE_ACCESS_REFUSED      403
#define CODE_NOT_FOUND           404
#define CODE_PRECONDITION_FAILED 406
#define CODE_FRAME_ERROR         501 /* and above: the connection was closed over what we sent */

struct lane {
    struct lane_options options;
    struct broker *broker;
    struct confirm *confirm;
    struct envelope envelope;
    bool was_up;          /* an on_down that follows is a loss, not another failed attempt */
    bool progress;        /* a confirm came on this connection */
    unsigned barren;      /* losses in a row without one */
    uint32_t alone_left;  /* rows still to be sent one at a time */
    int64_t blocked_us;   /* since; 0: it is not */
    int64_t unblocked_us; /* timers of confirms start here at the earliest */
    uint64_t chance;
    /* While confirm_lost runs. */
    uint16_t blamed; /* destination; DESTINATION_OTHER: none */
    bool alone_is_guilty;
    const struct error *loss;
};

static int64_t now_us(const struct lane *lane)
{
    return loop_now_us(lane->options.loop);
}

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

/* The row is settled by what became of it. `detail` says it for people; NULL when there is nothing
 * to say. */
static void settle(struct lane *lane, uint32_t place, enum outcome outcome, const char *detail)
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
        if (flow_set_aside(lane->options.flow, place,
                           verdict.act == ACT_PARK ? FLOW_PARKED : FLOW_WAITING) > 0 &&
            item->pipelined)
            metric_add(lane->options.stats->overtaken, 1);
    }
    if (lane->alone_left > 0)
        lane->alone_left--;
    lane->options.on_settled(lane->options.data, item);
}

static void observe_latency(struct lane *lane, const struct flow_item *item, int64_t sent_us)
{
    const struct clock_source *clock = loop_clock(lane->options.loop);
    int64_t age_us = clock_wall_us(clock) - item->created_us;

    metric_observe(lane->options.stats->confirm_latency_seconds,
                   (double)(now_us(lane) - sent_us) / US_PER_S);
    metric_observe(lane->options.stats->commit_to_confirm_seconds,
                   age_us > 0 ? (double)age_us / US_PER_S : 0);
}

/* The exchange has taken a message, or looked for a queue for it: it exists, and we may write to
 * it. */
static void open_destination(struct lane *lane, uint16_t number)
{
    struct destination *destination = destinations_get(lane->options.destinations, number);

    if (!destination->closed)
        return;
    destination->closed = false;
    log_info("the exchange takes messages again", LOG_STR("exchange", destination->exchange));
}

static void settle_lost(struct lane *lane, const struct confirm_entry *entry)
{
    struct flow_item *item = flow_item(lane->options.flow, entry->item);

    if (lane->blamed != DESTINATION_OTHER && item->destination == lane->blamed) {
        struct destination *destination =
            destinations_get(lane->options.destinations, lane->blamed);

        settle(lane, entry->item, destination->outcome, destination->detail);
    } else if (lane->alone_is_guilty) {
        bool size = lane->loss->amqp_code == CODE_PRECONDITION_FAILED &&
                    strstr(lane->loss->message, "size");

        settle(lane, entry->item, size ? OUTCOME_TOO_LARGE : OUTCOME_CLOSES, lane->loss->message);
    } else {
        metric_add(lane->options.stats->unknown, 1); /* flow_lost follows */
    }
}

static void on_entry_settled(void *data, const struct confirm_entry *entry)
{
    struct lane *lane = data;
    struct flow_item *item;

    if (entry->item == FLOW_NONE)
        return; /* of rows that were forgotten with the connection to PostgreSQL */
    if (entry->outcome == CONFIRM_UNKNOWN) {
        settle_lost(lane, entry);
        return;
    }
    item = flow_item(lane->options.flow, entry->item);
    if (entry->outcome != CONFIRM_NACKED)
        open_destination(lane, item->destination);
    if (entry->outcome == CONFIRM_ACKED) {
        observe_latency(lane, item, entry->sent_us);
        settle(lane, entry->item, OUTCOME_CONFIRMED, NULL);
    } else if (entry->outcome == CONFIRM_NACKED) {
        settle(lane, entry->item, OUTCOME_NACKED, "basic.nack");
    } else {
        settle(lane, entry->item, OUTCOME_RETURNED,
               entry->return_code == 312 ? "312 NO_ROUTE" : "basic.return");
    }
}

static void on_confirm(void *data, uint64_t tag, bool multiple, bool acked)
{
    struct lane *lane = data;

    FAILPOINT("after-confirm");
    lane->progress = true;
    lane->barren = 0;
    if (!confirm_settle(lane->confirm, tag, multiple, acked, on_entry_settled, lane))
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

/* Losses --------------------------------------------------------------------------------------- */

/* The destination that the broker closed the channel over: it is closed from now on. */
static uint16_t blame_destination(struct lane *lane, const struct error *why)
{
    if (why->amqp_code != CODE_NOT_FOUND && why->amqp_code != CODE_ACCESS_REFUSED)
        return DESTINATION_OTHER;
    for (uint16_t number = 1; number < destinations_count(lane->options.destinations); number++) {
        struct destination *destination = destinations_get(lane->options.destinations, number);

        if (!destination_is_named(destination, why->message))
            continue;
        if (!destination->closed)
            log_failure(LOG_LEVEL_WARN, "the exchange takes no messages: they are set aside", why,
                        LOG_STR("exchange", destination->exchange));
        destination->closed = true;
        destination->outcome =
            why->amqp_code == CODE_NOT_FOUND ? OUTCOME_NO_EXCHANGE : OUTCOME_NO_ACCESS;
        (void)snprintf(destination->detail, sizeof(destination->detail), "%.*s",
                       DESTINATION_DETAIL_BYTES - 1, why->message);
        return number;
    }
    return DESTINATION_OTHER;
}

/* Something that we sent, and the broker did not say which, closed the channel or the connection.
 */
static void suspect_rows(struct lane *lane, bool channel_only)
{
    uint32_t open = confirm_open(lane->confirm);

    lane->alone_is_guilty = lane->alone_left > 0 && open == 1;
    if (!lane->progress)
        lane->barren++;
    if (lane->alone_left == 0 && (channel_only || lane->barren >= BARREN_LOSSES_MAX)) {
        log_warn("the broker closes over a message: those in flight are sent one at a time",
                 LOG_STR("lane", lane->options.name), LOG_INT("messages", open));
        lane->alone_left = open;
    }
}

static void on_down(void *data, struct broker *broker, const struct error *why, bool channel_only)
{
    struct lane *lane = data;

    (void)broker;
    lane->blamed = blame_destination(lane, why);
    lane->alone_is_guilty = false;
    lane->loss = why;
    if (lane->blamed == DESTINATION_OTHER && confirm_open(lane->confirm) > 0 && why->amqp_code &&
        (channel_only || why->amqp_code >= CODE_FRAME_ERROR))
        suspect_rows(lane, channel_only);
    if (lane->was_up) {
        metric_add(lane->options.stats->losses_rabbitmq, 1);
        if (lane->blamed == DESTINATION_OTHER)
            log_failure(LOG_LEVEL_WARN,
                        channel_only ? "channel lost" : "connection to RabbitMQ lost", why,
                        LOG_STR("lane", lane->options.name),
                        LOG_INT("in_flight", confirm_open(lane->confirm)));
    } else if (broker_attempts(lane->broker) == 1) {
        log_failure(LOG_LEVEL_WARN, "no connection to RabbitMQ; trying on", why,
                    LOG_STR("lane", lane->options.name));
    }
    lane->was_up = false;
    confirm_lost(lane->confirm, on_entry_settled, lane);
    flow_lost(lane->options.flow);
    lane->loss = NULL;
}

static void on_up(void *data, struct broker *broker)
{
    struct lane *lane = data;

    (void)broker;
    lane->was_up = true;
    lane->progress = false;
    log_info("connected to RabbitMQ", LOG_STR("lane", lane->options.name));
}

static void on_blocked(void *data, bool blocked, const char *reason)
{
    struct lane *lane = data;

    if (blocked) {
        log_warn("RabbitMQ blocks publishers", LOG_STR("lane", lane->options.name),
                 LOG_STR("reason", reason));
        lane->blocked_us = now_us(lane);
        return;
    }
    if (!lane->blocked_us)
        return;
    log_info("RabbitMQ takes messages again", LOG_STR("lane", lane->options.name));
    metric_add(lane->options.stats->blocked_seconds,
               (double)(now_us(lane) - lane->blocked_us) / US_PER_S);
    lane->blocked_us = 0;
    lane->unblocked_us = now_us(lane);
}

/* Sending -------------------------------------------------------------------------------------- */

static bool may_send(const struct lane *lane)
{
    uint32_t most = lane->alone_left > 0 ? 1 : lane->options.window;

    return broker_can_publish(lane->broker) && confirm_has_room(lane->confirm) &&
           confirm_open(lane->confirm) < most;
}

/* False when the session cannot take it now. */
static bool send_row(struct lane *lane, uint32_t place)
{
    struct flow_item *item = flow_item(lane->options.flow, place);
    struct row row = {item->chunk->rows, (int)item->row};
    struct route route = routes_find(lane->options.routes, row);
    struct destination *destination;
    struct broker_message message;
    struct error error = {0};
    uint64_t tag;

    item->destination = destinations_number(lane->options.destinations, route.exchange);
    destination = destinations_get(lane->options.destinations, item->destination);
    if (destination->closed && !lane->options.tries_closed) {
        settle(lane, place, destination->outcome, destination->detail);
        return true;
    }
    if (envelope_make(&lane->envelope, row, &route, &message, &error) < 0 ||
        broker_publish(lane->broker, &message, &tag, &error) < 0) {
        if (error.retry != RETRY_POISON)
            return false;
        settle(lane, place, OUTCOME_UNCARRIABLE, error.message);
        return true;
    }
    item->created_us = pg_time_us(row.rows, row.row, ROW_CREATED_AT);
    confirm_add(lane->confirm, tag, place,
                envelope_fingerprint(message.message_id, message.exchange, message.routing_key),
                now_us(lane));
    flow_sent(lane->options.flow, place);
    metric_add(lane->options.stats->published, 1);
    FAILPOINT("after-publish");
    return true;
}

bool lane_publish(struct lane *lane, uint32_t most)
{
    uint32_t sent = 0, place;

    while (sent < most && may_send(lane)) {
        place = flow_next(lane->options.flow);
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
    lane->alone_left = 0;
}

void lane_cut(struct lane *lane, const char *why)
{
    broker_reconnect(lane->broker, why);
}

void lane_tick(struct lane *lane)
{
    int64_t oldest_us = confirm_oldest_us(lane->confirm), now = now_us(lane);

    if (lane->blocked_us) {
        metric_add(lane->options.stats->blocked_seconds,
                   (double)(now - lane->blocked_us) / US_PER_S);
        lane->blocked_us = now;
        return;
    }
    if (oldest_us < lane->unblocked_us)
        oldest_us = lane->unblocked_us;
    if (confirm_open(lane->confirm) > 0 && broker_is_up(lane->broker) &&
        now - oldest_us > lane->options.confirm_timeout_us)
        broker_reconnect(lane->broker, "no confirm within confirm-timeout");
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
    lane->envelope.app_id = options->app_id;
    lane->envelope.source = options->source;
    lane->envelope.cloud_events = options->cloud_events;
    lane->chance = (uint64_t)clock_wall_us(loop_clock(options->loop));
    lane->options.broker.confirms = true;
    lane->options.broker.on_up = on_up;
    lane->options.broker.on_down = on_down;
    lane->options.broker.on_confirm = on_confirm;
    lane->options.broker.on_return = on_return;
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
