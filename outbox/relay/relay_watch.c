/* relay_watch.c: what the relay does every second, and what it shows of itself. */
#include "outbox/relay/relay_private.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/log.h"

#define ASIDES_TOLD_MAX 10 /* per second */

/* Every second --------------------------------------------------------------------------------- */

enum poll_column { POLL_SNAPSHOT, POLL_INSERT_LSN, POLL_FLUSH_LSN, POLL_LAST_ID };

static void on_sign_of_life(void *data, struct pg_result *result, const struct error *failure)
{
    struct relay *relay = data;

    if (!failure && relay->asked_us) {
        relay->proven_us = relay->asked_us;
        relay->sequence = pg_int(result, 0, POLL_LAST_ID);
    }
    relay->asked_us = 0;
}

/* The lock is ours as long as the server answers on its connection. One that does not answer for a
 * term may have given it to another relay, which ends our connection if it can; and so may one that
 * would have, had this process not stood still for so long. */
static void prove_lease(struct relay *relay)
{
    int64_t unproven_us = relay_now_us(relay) - relay->proven_us;
    struct error error = {0};

    if (unproven_us > relay->options.settings.lease_term_us) {
        log_error("the lock was not proven for longer than lease-term: publishing nothing more",
                  LOG_INT("share", relay->options.settings.share),
                  LOG_INT("unproven_ms", unproven_us / US_PER_MS),
                  LOG_BOOL("postgres_was_asked", relay->asked_us != 0),
                  LOG_INT("in_flight", lane_in_flight(relay->lane)));
        error_set(&error, ERROR_TIMEOUT, RETRY_RECONNECT, "%s",
                  relay->asked_us ? "PostgreSQL did not answer within lease-term"
                                  : "this process stood still for longer than lease-term");
        relay_begin_again(relay, &error);
    } else if (!relay->asked_us) {
        relay->asked_us = relay_now_us(relay);
        if (pg_session_send(relay->session, &sql_relay_poll, NULL, on_sign_of_life, relay, &error) <
                0 ||
            pg_session_sync(relay->session, NULL, NULL, &error) < 0)
            relay->asked_us = 0;
    }
}

void relay_tell_aside(struct relay *relay, const struct flow_item *item)
{
    if (++relay->asides <= ASIDES_TOLD_MAX)
        log_warn(item->aside == FLOW_PARKED ? "a message is parked: a person must decide"
                                            : "a message is set aside, to be tried again",
                 LOG_INT("id", item->id), LOG_STR("reason", item->reason),
                 LOG_STR("detail", item->detail));
}

static void tell_of_other_asides(struct relay *relay)
{
    if (relay->asides > ASIDES_TOLD_MAX)
        log_warn("more messages are set aside",
                 LOG_INT("messages", relay->asides - ASIDES_TOLD_MAX));
    relay->asides = 0;
}

void relay_on_tick(void *data)
{
    struct relay *relay = data;
    const struct settings *settings = &relay->options.settings;

    loop_timer_arm_in(relay->tick, RELAY_TICK_US);
    tell_of_other_asides(relay);
    lane_tick(relay->lane);
    park_tick(relay->park);
    if (lease_state(relay->lease) == LEASE_OWNER) {
        prove_lease(relay);
        fence_tick(relay->fence);
    }
    if (relay->state == RELAY_RESTING)
        relay_told_of_shares(relay);
    if (!relay_owns(relay) ||
        relay_now_us(relay) - relay->checked_us < settings->fallback_interval_us)
        return;
    relay->checked_us = relay_now_us(relay);
    relay_ask_routes(relay);
    relay_told_of_shares(relay);
    park_count(relay->park);
    park_look_for_intents(relay->park);
}

/* What is seen --------------------------------------------------------------------------------- */

static int64_t oldest_age_us(const struct relay *relay)
{
    const struct flow_item *head;
    int64_t age_us;

    if (flow_rows(relay->flow) == flow_settled(relay->flow))
        return 0;
    head = flow_item(relay->flow,
                     flow_place(relay->flow, flow_popped(relay->flow) + flow_settled(relay->flow)));
    age_us = clock_wall_us(loop_clock(relay->options.loop)) -
             pg_time_us(head->chunk->rows, (int)head->row, ROW_CREATED_AT);
    return age_us > 0 ? age_us : 0;
}

/* Rows in memory, and ids given out after the last of them. */
static int64_t backlog_rows(const struct relay *relay)
{
    uint32_t unsettled = flow_rows(relay->flow) - flow_settled(relay->flow);
    int64_t last_id;

    if (flow_rows(relay->flow) == 0)
        return 0;
    last_id = flow_item(relay->flow, flow_place(relay->flow, flow_pushed(relay->flow) - 1))->id;
    return unsettled +
           (relay->sequence > last_id ? (relay->sequence - last_id) / relay->shares : 0);
}

void relay_refresh(struct relay *relay)
{
    struct stats *stats = &relay->stats;
    enum lease_state state = lease_state(relay->lease);

    metric_set(stats->blocked, lane_is_blocked(relay->lane));
    metric_set(stats->in_flight, lane_in_flight(relay->lane));
    metric_set(stats->unpersisted, flow_unpersisted(relay->flow) + park_in_memory(relay->park));
    metric_set(stats->window_limit, relay->options.settings.window);
    metric_set(stats->parked_limit, relay->options.settings.parked_rows);
    metric_set(stats->backlog_rows, relay_owns(relay) ? (double)backlog_rows(relay) : 0);
    metric_set(stats->backlog_oldest_age_seconds, (double)oldest_age_us(relay) / US_PER_S);
    metric_set(stats->lease_epoch, (double)lease_epoch(relay->lease));
    metric_set(stats->role_owner, state == LEASE_OWNER);
    metric_set(stats->role_standby, state == LEASE_STANDBY);
}

bool relay_is_ready(const struct relay *relay, struct buffer *ret_reasons)
{
    enum lease_state state = lease_state(relay->lease);
    bool ready = true;

    if (!pg_session_is_up(relay->session)) {
        buffer_append_text(ret_reasons, "postgres: no connection\n");
        ready = false;
    } else if (state != LEASE_STANDBY && !relay_owns(relay) && relay->state != RELAY_RESTING) {
        buffer_append_text(ret_reasons, "lease: neither owner nor standby yet\n");
        ready = false;
    }
    if (!lane_is_up(relay->lane)) {
        buffer_append_text(ret_reasons, "rabbitmq: no connection\n");
        ready = false;
    } else if (lane_is_blocked(relay->lane)) {
        buffer_append_text(ret_reasons, "rabbitmq: it blocks publishers\n");
        ready = false;
    } else if (relay_owns(relay) && !lane_is_open(relay->lane)) {
        buffer_append_text(ret_reasons, "rabbitmq: the share's fence is not ours yet\n");
        ready = false;
    }
    return ready;
}
