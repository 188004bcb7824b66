/* The main road, from a committed row to a persisted position. Everything happens on one loop:
 * before each sleep relay_turn moves rows along, and answers from both servers come in between.
 *
 * What is in memory belongs to one connection to PostgreSQL. When that is lost, all of it is
 * forgotten and read again from the persisted position: after a crash of the server, transaction
 * ids and row ids are given out again, and a relay that went on from memory would skip rows for
 * ever. When the connection to RabbitMQ is lost, nothing is forgotten: what was in flight is sent
 * again. */
#include "outbox/relay/relay_private.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/log.h"

#include <string.h>

#define NOTIFIED_OF_SHARES "shares" /* payload: outbox.tell_relays */

#define SEND_AT_ONCE 256 /* messages between looks at what came in */
/* With many windows waiting for their confirms or for the position, new ones are taken less often:
 * rows of one window cost less than windows of one row, and there may be only WINDOWS_MAX of them.
 * It must be more than what a steady trickle opens in a position-interval: with 64 of them every
 * tenth message at 1,000/s waited for this pause. */
#define WINDOWS_MANY  128
#define LOOK_PAUSE_US (10 * US_PER_MS)

static void finish(struct relay *relay, const struct error *failure)
{
    if (relay->state == RELAY_FINISHED)
        return;
    relay->state = RELAY_FINISHED;
    relay->options.on_finished(relay->options.data, failure);
}

/* The road ------------------------------------------------------------------------------------- */

/* Past the limit of outbox.parked the log waits: for the broker, an operator, or a larger limit. */
static bool is_stalled(struct relay *relay)
{
    bool stalled = park_rows(relay->park) >= relay->options.settings.parked_rows;

    if (stalled != relay->stalled) {
        if (stalled)
            log_error("outbox.parked is at its limit: the log waits",
                      LOG_INT("rows", park_rows(relay->park)),
                      LOG_INT("parked_rows", relay->options.settings.parked_rows));
        else
            log_info("outbox.parked is below its limit: the log goes on");
        metric_set(relay->stats.stalled, stalled);
        relay->stalled = stalled;
    }
    return stalled;
}

/* Rows into the window; what is tried again from outbox.parked takes its part of it. */
static bool publish(struct relay *relay)
{
    uint32_t window = relay->options.settings.window, tried = park_in_memory(relay->park);

    if (is_stalled(relay))
        return false;
    flow_set_window(relay->flow, window > tried ? window - tried : 1);
    return lane_publish(relay->lane, SEND_AT_ONCE);
}

/* Rows that wait, or are still to be read, keep it from moving over empty windows. */
bool relay_owes_position(const struct relay *relay)
{
    return relay->position_wanted && flow_rows(relay->flow) == 0 && !windows_t2(relay->windows);
}

/* The position follows what is settled: in steps of a part of the window, at once where publishing
 * waits for the window, or after an interval. */
static bool persist(struct relay *relay)
{
    uint32_t window = relay->options.settings.window;
    uint32_t settled = flow_settled(relay->flow);
    int64_t due_us = relay->position_written_us + relay->options.settings.position_interval_us;
    bool moved = settled > 0 || relay_owes_position(relay);

    if (!moved || position_writer_is_busy(relay->writer))
        return false;
    if (settled < window / 2 && flow_unpersisted(relay->flow) < window - window / 4 &&
        relay_now_us(relay) < due_us && relay->state == RELAY_RUNNING) {
        if (!loop_timer_armed(relay->position_timer))
            loop_timer_arm_at(relay->position_timer, due_us);
        return false;
    }
    relay->position_wanted = false;
    relay->position_written_us = relay_now_us(relay);
    position_writer_write(relay->writer);
    return true;
}

/* The next window, when it is time. */
static bool look(struct relay *relay)
{
    int64_t due_us = relay->looked_us + LOOK_PAUSE_US;

    if (relay->state != RELAY_RUNNING || !wakeup_is_due(relay->wakeup) ||
        !source_can_poll(relay->source))
        return false;
    if (windows_count(relay->windows) > WINDOWS_MANY && relay_now_us(relay) < due_us) {
        loop_timer_arm_at(relay->look_timer, due_us);
        return false;
    }
    relay->looked_us = relay_now_us(relay);
    wakeup_looking(relay->wakeup);
    source_poll(relay->source);
    return true;
}

static bool leave_when_drained(struct relay *relay);

bool relay_turn(void *data)
{
    struct relay *relay = data;
    bool did;

    if (!relay_owns(relay))
        return false;
    did = source_turn(relay->source); /* what committed, into the flow */
    did |= publish(relay);            /* into the window; confirms settle it */
    did |= park_turn(relay->park);    /* what was set aside, tried again */
    did |= persist(relay);            /* what is settled, with what had to be set aside */
    did |= look(relay);
    did |= relay_at_barrier(relay);
    return leave_when_drained(relay) || did;
}

void relay_on_window(void *data, uint64_t rows)
{
    struct relay *relay = data;

    if (rows == 0 && relay_others_write(relay))
        rows = 1;
    wakeup_looked(relay->wakeup, rows);
}

static void remember(struct relay *relay, const struct flow_item *item)
{
    ghosts_remember(relay->ghosts, item->id,
                    pg_uuid(item->chunk->rows, (int)item->row, ROW_MESSAGE_ID));
}

void relay_on_settled(void *data, const struct flow_item *item)
{
    struct relay *relay = data;

    if (item->state == FLOW_DONE)
        remember(relay, item);
    if (item->state == FLOW_ASIDE && item->aside != FLOW_BEHIND)
        relay_tell_aside(relay, item);
}

void relay_on_written(void *data, uint32_t rows_aside)
{
    struct relay *relay = data;

    park_added(relay->park, rows_aside);
}

/* A leaf can only go once the position is behind it, also where nothing but empty windows moved it
 * there. */
void relay_on_leaves(void *data)
{
    struct relay *relay = data;

    relay->position_wanted = true;
}

/* Owning and losing ---------------------------------------------------------------------------- */

/* What is in flight may arrive, and after a promotion be a ghost. */
static void remember_in_flight(struct relay *relay)
{
    const struct flow *flow = relay->flow;

    for (uint64_t number = flow_popped(flow); number < flow_pushed(flow); number++) {
        const struct flow_item *item = flow_item(flow, flow_place(flow, number));

        if (item->state == FLOW_IN_FLIGHT)
            remember(relay, item);
    }
}

void relay_drop_rows(struct relay *relay)
{
    remember_in_flight(relay);
    source_stop(relay->source);
    position_writer_stop(relay->writer);
    park_stop(relay->park);
    wakeup_stop(relay->wakeup);
    ring_stop(relay->ring);
    flow_clear(relay->flow, chunk_release_row, NULL);
    lane_forget(relay->lane);
    keys_clear(relay->held);
    relay->position_wanted = false;
}

void relay_forget(struct relay *relay)
{
    lease_stop(relay->lease);
    sharing_stop(relay->sharing);
    standby_stop(relay->standby);
    relay_drop_rows(relay);
    relay->asked_us = 0;
    if (relay->state == RELAY_RUNNING || relay->state == RELAY_RESTING || relay->pausing)
        relay->state = RELAY_STARTING;
    relay->pausing = relay->asked_rest = false;
    relay->verdict = SHARING_UNKNOWN;
    metric_set(relay->stats.shares, 0);
}

void relay_restart(struct relay *relay, const char *why)
{
    relay_forget(relay);
    fence_lower(relay->fence, "the share was given up");
    pg_session_reconnect(relay->session, why);
}

void relay_begin_again(struct relay *relay, const struct error *why)
{
    log_failure(LOG_LEVEL_WARN, "beginning again from the persisted position", why);
    relay_restart(relay, why->message);
}

void relay_on_failure(void *data, const struct error *failure)
{
    struct relay *relay = data;

    if (failure->retry == RETRY_NEVER)
        finish(relay, failure);
    else if (relay->state != RELAY_FINISHED)
        relay_begin_again(relay, failure);
}

void relay_on_loaded(void *data)
{
    struct relay *relay = data;

    if (relay->state != RELAY_STARTING || !relay_begins(relay))
        return;
    relay->state = RELAY_RUNNING;
    source_start(relay->source);
    wakeup_start(relay->wakeup);
    ring_start(relay->ring);
}

static void on_routes(void *data, struct pg_result *result, const struct error *failure)
{
    struct relay *relay = data;
    struct error error = {0};

    if (failure && failure->retry == RETRY_RECONNECT)
        return;
    if (failure && failure->retry != RETRY_NEVER && relay_owns(relay))
        log_failure(LOG_LEVEL_WARN, "outbox.route cannot be read: the routes of before stay",
                    failure); /* somebody alters the table, say */
    else if (failure)
        relay_on_failure(relay, failure);
    else if (routes_load(relay->routes, pg_result_keep(result), &error) >= 0)
        return;
    else if (relay_owns(relay))
        log_failure(LOG_LEVEL_ERROR, "outbox.route cannot be used: the routes of before stay",
                    &error);
    else /* there may be none of before: every message would go to the default exchange */
        relay_on_failure(relay, &error);
}

void relay_ask_routes(struct relay *relay)
{
    struct error error = {0};

    if ((pg_session_send(relay->session, &sql_relay_routes, NULL, on_routes, relay, &error) < 0 ||
         pg_session_sync(relay->session, NULL, NULL, &error) < 0) &&
        error.retry != RETRY_RECONNECT) /* else the connection is gone */
        relay_on_failure(relay, &error);
}

bool relay_can_publish(void *data)
{
    const struct relay *relay = data;

    return lane_is_up(relay->lane);
}

void relay_on_standby(void *data)
{
    struct relay *relay = data;

    standby_start(relay->standby);
}

void relay_on_owner(void *data, const struct lease_position *at)
{
    struct relay *relay = data;

    log_info("owning the share", LOG_INT("share", relay->options.settings.share),
             LOG_INT("epoch", at->epoch), LOG_STR("t1", at->position.t1->text),
             LOG_BOOL("window_open", at->position.t2 != NULL),
             LOG_INT("last_id", at->position.last_id));
    standby_stop(relay->standby);
    relay->proven_us = relay_now_us(relay);
    fence_raise(relay->fence, lease_server(relay->lease));
    windows_start(relay->windows, &at->position);
    position_writer_start(relay->writer, at->place, at->epoch);
    ghosts_look(relay->ghosts);
    relay_ask_routes(relay);
    sharing_start(relay->sharing,
                  at->epoch); /* answered before the rows of outbox.parked are there */
    park_start(relay->park);
}

void relay_on_up(void *data, struct pg_session *session)
{
    struct relay *relay = data;

    log_info("connected to PostgreSQL", LOG_INT("backend", pg_session_backend_pid(session)));
    relay->session_was_up = true;
    if (relay->state == RELAY_STARTING)
        lease_start(relay->lease);
}

void relay_on_down(void *data, struct pg_session *session, const struct error *why)
{
    struct relay *relay = data;

    if (relay->session_was_up) {
        log_failure(LOG_LEVEL_WARN, "connection to PostgreSQL lost", why);
        metric_add(relay->stats.losses_postgres, 1);
    } else if (pg_session_attempts(session) == 1) {
        log_failure(LOG_LEVEL_WARN, "no connection to PostgreSQL; trying on", why);
    }
    relay->session_was_up = false;
    relay_forget(relay); /* one that only comes to rest starts again */
    fence_lower(relay->fence, "the lock went with the connection to PostgreSQL");
    if (relay->state == RELAY_DRAINING || relay->state == RELAY_LEAVING)
        finish(relay, NULL); /* what is not persisted will be published again, by whoever owns the
                                share next */
}

void relay_on_notify(void *data, struct pg_session *session, const char *channel,
                     const char *payload)
{
    struct relay *relay = data;

    (void)session;
    (void)channel;
    if (strcmp(payload, NOTIFIED_OF_SHARES) == 0) {
        relay_told_of_shares(relay);
        return;
    }
    if (relay->state != RELAY_RUNNING)
        return;
    park_look_for_intents(relay->park); /* operators notify too */
    wakeup_notified(relay->wakeup);
}

/* Leaving -------------------------------------------------------------------------------------- */

static void on_let_go(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    (void)failure;
    finish(data, NULL);
}

static void leave(struct relay *relay)
{
    struct pg_params params;
    struct error error = {0};
    int failed;

    relay->state = RELAY_LEAVING;
    if (lane_is_open(relay->lane)) /* else a former owner's messages may be on their way */
        sharing_leave(relay->sharing);
    pg_params_init(&params);
    pg_params_int4(&params, relay->options.settings.share);
    failed = pg_session_send(relay->session, &sql_relay_let_go, &params, on_let_go, relay, &error);
    if (failed >= 0)
        failed = pg_session_sync(relay->session, NULL, NULL, &error);
    pg_params_free(&params);
    if (failed < 0)
        finish(relay, NULL);
}

/* Rows that waited for their key, before rows that are confirmed: once they are sent too, the
 * position covers all that was. Where nothing can be sent, nobody waits for them. */
static bool has_rows_to_send(struct relay *relay)
{
    return !flow_is_finished(relay->flow) && lane_is_open(relay->lane) &&
           !lane_is_blocked(relay->lane) && !is_stalled(relay);
}

static bool leave_when_drained(struct relay *relay)
{
    if (relay->state != RELAY_DRAINING || lane_in_flight(relay->lane) > 0 ||
        !park_is_idle(relay->park) || position_writer_is_busy(relay->writer) ||
        flow_settled(relay->flow) > 0 || has_rows_to_send(relay))
        return false;
    if (relay->pausing)
        return relay_has_paused(relay);
    log_info("drained");
    leave(relay);
    return true;
}

void relay_on_drain_timer(void *data)
{
    struct relay *relay = data;

    log_warn("drain-timeout is over: what is in flight will be sent again",
             LOG_INT("in_flight", lane_in_flight(relay->lane)));
    finish(relay, NULL);
}

void relay_stop_reading(struct relay *relay)
{
    source_finish(relay->source);
    flow_finish(relay->flow, relay->options.settings.window);
    park_finish(relay->park);
    wakeup_stop(relay->wakeup);
    ring_stop(relay->ring);
}

void relay_drain(struct relay *relay)
{
    if (!relay_owns(relay)) {
        finish(relay, NULL);
        return;
    }
    log_info("draining", LOG_INT("in_flight", lane_in_flight(relay->lane)));
    relay->state = RELAY_DRAINING;
    relay->pausing = false;
    relay_stop_reading(relay);
    loop_timer_arm_in(relay->drain_timer, relay->options.settings.drain_timeout_us);
}
