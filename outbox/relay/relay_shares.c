/* relay_shares.c: what the relay does when the number of shares changes, and with which share of
 * the rows it begins (sharing.h; the course of a change is told in migrations/0018_shares.sql).
 *
 * Coming to rest is the first half of a clean stop: nothing more is read, and what is in memory is
 * published, confirmed and persisted. Then the lock and the fence are kept, and everything in
 * memory is forgotten. Whatever follows, it begins as after a takeover: from the persisted
 * position. */
#include "outbox/relay/relay_private.h"
#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"

/* Other shares' rows move the position of a share that has none itself: a new owner must not read
 * past all of them again. */
#define OTHERS_IDS_MAX 100000

static void go_on(struct relay *relay, const char *why)
{
    log_info("the number of shares changes: going on from the persisted position",
             LOG_INT("share", relay->options.settings.share), LOG_STR("because", why));
    relay_restart(relay, why);
}

void relay_pause(struct relay *relay)
{
    FAILPOINT("share-pauses");
    log_info("the number of shares changes: coming to rest",
             LOG_INT("share", relay->options.settings.share),
             LOG_INT("in_flight", lane_in_flight(relay->lane)));
    relay->state = RELAY_DRAINING;
    relay->pausing = true;
    relay_stop_reading(relay);
}

static void rest(struct relay *relay)
{
    relay_drop_rows(relay);
    relay->state = RELAY_RESTING;
    relay->pausing = false;
    log_info("at rest", LOG_INT("share", relay->options.settings.share));
}

/* Before the road is open: with which rows it will be, or that it stays closed. */
static void begin_turn(struct relay *relay, const struct sharing_turn *turn)
{
    relay->verdict = turn->verdict;
    relay->shares = turn->shares;
    metric_set(relay->stats.shares, turn->shares);
    source_set_share(relay->source, relay->options.settings.share, turn->shares, turn->barrier);
    if (turn->shares > 1 || turn->barrier)
        log_info("reading one of several shares", LOG_INT("share", relay->options.settings.share),
                 LOG_INT("shares", turn->shares),
                 LOG_STR("barrier", turn->barrier ? turn->barrier->text : NULL));
}

void relay_on_turn(void *data, const struct sharing_turn *turn)
{
    struct relay *relay = data;

    FAILPOINT("share-answered"); /* what the database did with the question is committed */
    if (turn->verdict == SHARING_LOST) {
        if (relay->state != RELAY_DRAINING || relay->pausing)
            go_on(relay, "the share is of another number of shares, or another relay's");
    } else if (relay->state == RELAY_STARTING) {
        begin_turn(relay, turn);
    } else if (relay->state == RELAY_RUNNING) {
        if (turn->verdict != SHARING_RUN)
            relay_pause(relay);
    } else if (relay->pausing) {
        relay->asked_rest = false;
        if (turn->verdict == SHARING_REST)
            rest(relay);
        else if (turn->verdict == SHARING_RUN)
            go_on(relay, "this share goes on");
    } else if (relay->state == RELAY_RESTING && turn->verdict == SHARING_RUN) {
        go_on(relay, "this share goes on");
    }
}

bool relay_begins(struct relay *relay)
{
    if (relay->verdict == SHARING_RUN)
        return true;
    relay_pause(relay);
    if (relay->verdict == SHARING_REST) /* its former owner had come to rest, and so it stays */
        rest(relay);
    return false;
}

/* All that the barrier sees is settled: its position is to say so. */
bool relay_at_barrier(struct relay *relay)
{
    if (relay->state != RELAY_RUNNING || !source_is_through(relay->source) ||
        flow_rows(relay->flow) > 0 || windows_count(relay->windows) > 0)
        return false;
    relay->position_wanted = true;
    relay_pause(relay);
    return true;
}

/* Nothing is in flight. That RabbitMQ lets nobody else publish must be proven too: a former owner's
 * messages may still be on their way. A position that was wanted and cannot move, because rows are
 * left that will not be sent, is not waited for: it once was, for ever. */
bool relay_has_paused(struct relay *relay)
{
    if (relay->asked_rest || relay_owes_position(relay) || !lane_is_open(relay->lane))
        return false;
    relay->asked_rest = true;
    FAILPOINT("share-paused");
    sharing_ask(relay->sharing, true);
    FAILPOINT("share-asked");
    return true;
}

void relay_told_of_shares(struct relay *relay)
{
    if (relay->state == RELAY_RUNNING)
        sharing_look(relay->sharing);
    else if (relay->state == RELAY_RESTING)
        sharing_ask(relay->sharing, true);
}

/* A window without rows of ours. While others' come in, ours may any moment: to go to sleep would
 * have every writer notify. */
bool relay_others_write(struct relay *relay)
{
    int64_t sequence = source_sequence(relay->source);
    bool moved = relay->shares > 1 && sequence != relay->window_sequence;

    relay->window_sequence = sequence;
    if (moved && sequence - relay->position_sequence > OTHERS_IDS_MAX) {
        relay->position_sequence = sequence;
        relay->position_wanted = true;
    }
    return moved;
}
