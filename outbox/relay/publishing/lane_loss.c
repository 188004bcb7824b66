/* lane_loss.c: what is done when a channel or the connection is lost: who is to blame, and whose
 * messages are sent again; and when to lose it ourselves, because confirms do not come, or nothing
 * but refusals. */
#include "outbox/relay/publishing/lane_private.h"
#include "outbox/relay/publishing/refusal.h"
#include "outbox/relay/rows/chunk.h"
#include "outbox/runtime/log.h"

#include <stdio.h>

/* A connection that is closed with 5xx so often without a single confirm is closed over something
 * that we send. */
#define BARREN_LOSSES_MAX 2

#define CODE_FRAME_ERROR 501 /* and above: the connection was closed over what we sent */

/* Who is to blame ------------------------------------------------------------------------------ */

static void close_destination(struct lane *lane, uint16_t number, enum outcome outcome,
                              const struct error *why)
{
    struct destination *destination = destinations_get(lane->options.destinations, number);

    if (destinations_close(lane->options.destinations, number, outcome, why->message))
        log_failure(LOG_LEVEL_WARN,
                    outcome == OUTCOME_UNCONFIRMED
                        ? "nothing is confirmed that goes there: its messages are set aside"
                        : "the exchange takes no messages: they are set aside",
                    why, LOG_STR("exchange", destination->exchange),
                    LOG_STR("routing_key", destination->whole ? destination->routing_key : NULL));
}

/* Closes what the broker's text names. */
static bool blame_destinations(struct lane *lane, const struct error *why)
{
    struct destinations *destinations = lane->options.destinations;
    bool blamed = false;

    for (uint16_t number = 1; number < destinations_count(destinations); number++) {
        const struct destination *destination = destinations_get(destinations, number);
        bool named = destination->whole
                         ? refusal_names_topic(why, destination->exchange, destination->routing_key)
                         : refusal_names_exchange(why, destination->exchange);

        if (!named)
            continue;
        close_destination(lane, number, refusal_outcome(why), why);
        blamed = true;
    }
    return blamed;
}

struct larger {
    const struct lane *lane;
    uint64_t bytes_max;
    uint32_t count;
};

static void count_larger(void *data, struct confirm_entry *entry)
{
    struct larger *larger = data;

    if (entry->item != FLOW_NONE &&
        lane_body_bytes(flow_item(larger->lane->options.flow, entry->item)) > larger->bytes_max)
        larger->count++;
}

/* The broker has said how large a body may be: those in flight above it are to blame. */
static bool blame_size(struct lane *lane, const struct error *why)
{
    struct larger larger = {lane, refusal_body_bytes_max(why), 0};

    if (larger.bytes_max == 0)
        return false;
    confirm_each_open(lane->confirm, count_larger, &larger);
    if (larger.count == 0)
        return false;
    log_failure(LOG_LEVEL_WARN, "the broker takes no body of this size: such messages are parked",
                why, LOG_INT("bytes_max", (int64_t)larger.bytes_max));
    destinations_set_body_bytes_max(lane->options.destinations, larger.bytes_max);
    return true;
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

/* It was alone on the channel: what the code says is said of it. */
static void settle_guilty(struct lane *lane, uint32_t place)
{
    const struct flow_item *item = flow_item(lane->options.flow, place);
    const struct destination *destination =
        destinations_get(lane->options.destinations, item->destination);
    enum outcome outcome = refusal_outcome(lane->loss);

    if (outcome == OUTCOME_NO_EXCHANGE && destination->whole)
        close_destination(lane, destination->whole, outcome, lane->loss);
    else if (outcome == OUTCOME_NO_EXCHANGE || outcome == OUTCOME_NO_ACCESS)
        close_destination(lane, item->destination, outcome, lane->loss);
    lane_settle(lane, place, outcome, lane->loss->message);
}

void lane_settle_lost(struct lane *lane, const struct confirm_entry *entry)
{
    struct destinations *destinations = lane->options.destinations;
    const struct flow_item *item = flow_item(lane->options.flow, entry->item);
    const struct destination *closed = destinations_closed(destinations, item->destination);
    uint64_t bytes_max = refusal_body_bytes_max(lane->loss);

    if (closed)
        lane_settle(lane, entry->item, closed->outcome, closed->detail);
    else if (bytes_max > 0 && lane_body_bytes(item) > bytes_max)
        lane_settle_too_large(lane, entry->item);
    else if (lane->alone_is_guilty)
        settle_guilty(lane, entry->item);
    /* else flow_lost follows */
}

void lane_on_down(void *data, struct broker *broker, const struct error *why, bool channel_only)
{
    struct lane *lane = data;
    bool replaced = lane->replacing && channel_only, blamed;

    (void)broker;
    lane->loss = why;
    lane->alone_is_guilty = false;
    if (!channel_only) /* the next broker may be set otherwise */
        destinations_set_body_bytes_max(lane->options.destinations, 0);
    blamed = blame_destinations(lane, why) || blame_size(lane, why);
    if (!blamed && confirm_open(lane->confirm) > 0 && why->amqp_code &&
        (channel_only || why->amqp_code >= CODE_FRAME_ERROR))
        suspect_rows(lane, channel_only);
    if (replaced) {
        metric_add(lane->options.stats->channels_replaced, 1);
    } else if (lane->was_up) {
        metric_add(lane->options.stats->losses_rabbitmq, 1);
        if (!blamed)
            log_failure(LOG_LEVEL_WARN,
                        channel_only ? "channel lost" : "connection to RabbitMQ lost", why,
                        LOG_STR("lane", lane->options.name),
                        LOG_INT("in_flight", confirm_open(lane->confirm)));
    } else if (broker_attempts(lane->broker) == 1) {
        log_failure(LOG_LEVEL_WARN, "no connection to RabbitMQ; trying on", why,
                    LOG_STR("lane", lane->options.name));
    }
    lane->was_up = lane->replace_wanted = false;
    lane->replacing = replaced;
    stale_begin(&lane->stale);
    if (!channel_only) {
        lane->open = false;
        if (lane->fence_wanted)
            lane->options.on_fence(lane->options.fence_data, LANE_FENCE_LOST, why);
    }
    silence_lost(&lane->silence);
    confirm_lost(lane->confirm, lane_on_entry_settled, lane);
    flow_lost(lane->options.flow);
    lane->loss = NULL;
}

/* Confirms that do not come -------------------------------------------------------------------- */

bool lane_is_crowded(const struct lane *lane, uint16_t number)
{
    return silence_is_held_back(&lane->silence, number,
                                destinations_count(lane->options.destinations),
                                lane_now_us(lane)) ||
           (lane->silence.places[number].open >= lane->options.window / 4 &&
            silence_is_its_own(&lane->silence, number) &&
            silence_is_quiet(&lane->silence, number, lane_now_us(lane), lane->silence.slow_us));
}

void lane_check_window(struct lane *lane)
{
    struct flow *flow = lane->options.flow;
    uint64_t head = flow_popped(flow) + flow_settled(flow);
    const struct flow_item *item;
    bool first;

    if (flow_unpersisted(flow) < lane->options.window / 2 ||
        flow_rows(flow) == flow_unpersisted(flow) || head == flow_pushed(flow))
        return;
    item = flow_item(flow, flow_place(flow, head));
    if (item->state != FLOW_IN_FLIGHT || item->destination == DESTINATION_OTHER)
        return;
    first = lane->silence.places[item->destination].most == 0;
    if (silence_hold_back(&lane->silence, item->destination,
                          destinations_count(lane->options.destinations), lane_now_us(lane),
                          item->sent_us) &&
        first) {
        const struct destination *destination =
            destinations_get(lane->options.destinations, item->destination);

        log_info("confirms take long there, and others wait: less is sent there at a time",
                 LOG_STR("lane", lane->options.name), LOG_STR("exchange", destination->exchange),
                 LOG_STR("routing_key", destination->whole ? destination->routing_key : NULL));
    }
}

/* Whether a row for another destination than this waits to be sent. */
static bool others_wait(const struct lane *lane, uint16_t number)
{
    const struct flow *flow = lane->options.flow;
    const struct destination *destination = destinations_get(lane->options.destinations, number);

    for (uint64_t at = flow_popped(flow) + flow_settled(flow); at < flow_pushed(flow); at++) {
        const struct flow_item *item = flow_item(flow, flow_place(flow, at));
        struct route route;

        if (item->state > FLOW_READY)
            continue;
        route = routes_find(lane->options.routes, (struct row){item->chunk->rows, (int)item->row});
        if (!destination_is_for(destination, route.exchange, route.routing_key))
            return true;
    }
    return false;
}

/* The only destination that has messages open; DESTINATION_OTHER: there are several. */
static uint16_t only_open(const struct lane *lane)
{
    uint16_t only = DESTINATION_OTHER;

    for (uint16_t number = 0; number < destinations_count(lane->options.destinations); number++) {
        if (lane->silence.places[number].open == 0)
            continue;
        if (only != DESTINATION_OTHER || number == DESTINATION_OTHER)
            return DESTINATION_OTHER;
        only = number;
    }
    return only;
}

static void give_up(struct lane *lane, uint16_t number)
{
    struct error why = {0};

    error_set(&why, ERROR_TIMEOUT, RETRY_LATER, "%u messages and no confirm for %.1f s",
              lane->silence.places[number].open,
              (double)(lane_now_us(lane) - lane->silence.places[number].quiet_us) / US_PER_S);
    close_destination(lane, number, OUTCOME_UNCONFIRMED, &why);
}

/* Gives up those that are quiet for so long: `all` of them, or those that hold up others. */
static bool give_up_silent(struct lane *lane, bool all)
{
    const struct silence *silence = &lane->silence;
    int64_t now_us = lane_now_us(lane), limit_us = lane->options.silent_after_us;
    uint16_t only = only_open(lane);
    bool found = false;

    for (uint16_t number = 1; number < destinations_count(lane->options.destinations); number++) {
        if (!silence_is_quiet(silence, number, now_us, limit_us))
            continue;
        if (!all && !silence_is_its_own(silence, number) &&
            !(number == only && others_wait(lane, number)))
            continue;
        give_up(lane, number);
        found = true;
    }
    return found;
}

/* RabbitMQ may have stopped reading from the channel, so the others' messages go through a new one;
 * it has those that were given up, and may still deliver them: they are tried again one at a time.
 */
void lane_check_confirms(struct lane *lane)
{
    int64_t oldest_us = confirm_oldest_us(lane->confirm);

    if (confirm_open(lane->confirm) == 0 || !broker_is_up(lane->broker))
        return;
    if (oldest_us < lane->unblocked_us)
        oldest_us = lane->unblocked_us;
    if (give_up_silent(lane, lane->options.tries_closed)) {
        broker_reconnect(lane->broker, "a destination confirms nothing");
    } else if (lane_now_us(lane) - oldest_us > lane->options.confirm_timeout_us) {
        /* A second time without any: perhaps all that is in flight is for silent queues. */
        if (!lane->progress && lane->mute++ > 0)
            give_up_silent(lane, true);
        broker_reconnect(lane->broker, "no confirm within confirm-timeout");
    }
}

/* Nothing but refusals --------------------------------------------------------------------------
 */

/* For so long, at most, nothing is sent, so that nothing need be sent twice. */
#define DRAIN_FOR_REPLACEMENT_US US_PER_S

void lane_note_taken(struct lane *lane, uint16_t number)
{
    const struct destination *destination;

    if (!stale_taken(&lane->stale, number))
        return;
    destination = destinations_get(lane->options.destinations, number);
    log_info("messages are taken there again", LOG_STR("lane", lane->options.name),
             LOG_STR("exchange", destination->exchange),
             LOG_STR("routing_key", destination->whole ? destination->routing_key : NULL));
}

void lane_check_refusals(struct lane *lane)
{
    uint16_t number =
        stale_due(&lane->stale, destinations_count(lane->options.destinations), lane_now_us(lane));
    const struct destination *destination = destinations_get(lane->options.destinations, number);

    if (number != DESTINATION_OTHER && !lane->replace_wanted && lane->open &&
        broker_can_publish(lane->broker)) {
        if (lane->stale.places[number].tries == 0) /* of a queue that stays full only once */
            log_warn("all that goes there is refused: the channel is replaced",
                     LOG_STR("lane", lane->options.name),
                     LOG_STR("exchange", destination->exchange),
                     LOG_STR("routing_key", destination->whole ? destination->routing_key : NULL));
        lane->replace_wanted = true;
        lane->replace_by_us = lane_now_us(lane) + DRAIN_FOR_REPLACEMENT_US;
    }
    lane_replace_when_drained(lane);
}

/* What is in flight would be sent twice: the channel stays, for now, where that does not end. */
void lane_replace_when_drained(struct lane *lane)
{
    uint16_t count = destinations_count(lane->options.destinations);
    int64_t now_us = lane_now_us(lane);
    bool drained = confirm_open(lane->confirm) == 0;

    if (!lane->replace_wanted || (!drained && now_us < lane->replace_by_us))
        return;
    lane->replace_wanted = false;
    stale_tried(&lane->stale, count, now_us);
    if (!drained || !broker_is_up(lane->broker))
        return;
    lane->replacing = true;
    broker_replace_channel(lane->broker, "all that goes to a destination is refused");
}
