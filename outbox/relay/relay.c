/* The main road, from a committed row to a persisted position. Everything happens on one loop:
 * before each sleep relay_turn moves rows along, and answers from both servers come in between.
 *
 * What is in memory belongs to one connection to PostgreSQL. When that is lost, all of it is
 * forgotten and read again from the persisted position: after a crash of the server, transaction
 * ids and row ids are given out again, and a relay that went on from memory would skip rows for
 * ever. When the connection to RabbitMQ is lost, nothing is forgotten: what was in flight is sent
 * again. */
#include "outbox/relay/relay.h"
#include "outbox/relay/chunk.h"
#include "outbox/relay/lane.h"
#include "outbox/relay/lease.h"
#include "outbox/relay/park.h"
#include "outbox/relay/position.h"
#include "outbox/relay/ring.h"
#include "outbox/relay/source.h"
#include "outbox/relay/sql.h"
#include "outbox/relay/wakeup.h"
#include "outbox/runtime/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SEND_AT_ONCE     256 /* messages between looks at what came in */
#define TICK_US          US_PER_S
#define PARK_ROWS        256       /* of a batch of outbox.parked */
#define PARK_BYTES       (4 << 20) /* the same */
#define OUT_BYTES        (256 << 10)
#define RELAY_NAME_BYTES 128
/* With many windows waiting for their confirms, new ones are taken less often: rows of one window
 * cost less than windows of one row. */
#define WINDOWS_MANY  64
#define LOOK_PAUSE_US (10 * US_PER_MS)

enum relay_state {
    RELAY_STARTING, /* no connection, or not the owner, or not loaded */
    RELAY_RUNNING,
    RELAY_DRAINING,
    RELAY_LEAVING, /* gives the share back */
    RELAY_FINISHED,
};

struct relay {
    struct relay_options options;
    struct stats stats;
    enum relay_state state;
    char name[RELAY_NAME_BYTES];
    char application_name[64];

    struct pg_session_options session_options;
    struct pg_session *session;
    struct lease *lease;
    struct routes *routes;
    struct destinations *destinations;
    struct keys *held;
    struct flow *flow;
    struct windows *windows;
    struct source *source;
    struct lane *lane;
    struct position_writer *writer;
    struct park *park;
    struct wakeup *wakeup;
    struct ring *ring;

    struct loop_hook *hook;
    struct loop_timer *tick, *position_timer, *look_timer, *drain_timer;
    int64_t position_written_us, looked_us, checked_us;
    int64_t asked_us; /* a sign of life was asked for then; 0: it came */
    int64_t sequence; /* last id given out, as of the last sign of life */
    bool session_was_up, stalled, position_wanted;
};

static int64_t now_us(const struct relay *relay)
{
    return loop_now_us(relay->options.loop);
}

static bool owns(const struct relay *relay)
{
    return relay->state == RELAY_RUNNING || relay->state == RELAY_DRAINING;
}

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

    if (relay->state != RELAY_RUNNING || is_stalled(relay))
        return false;
    flow_set_window(relay->flow, window > tried ? window - tried : 1);
    return lane_publish(relay->lane, SEND_AT_ONCE);
}

/* The position follows what is settled: in steps of a part of the window, at once where publishing
 * waits for the window, or after an interval. */
static bool persist(struct relay *relay)
{
    uint32_t window = relay->options.settings.window;
    uint32_t settled = flow_settled(relay->flow);
    int64_t due_us = relay->position_written_us + relay->options.settings.position_interval_us;
    bool moved = settled > 0 || (relay->position_wanted && flow_rows(relay->flow) == 0 &&
                                 !windows_t2(relay->windows));

    if (!moved || position_writer_is_busy(relay->writer))
        return false;
    if (settled < window / 4 && flow_unpersisted(relay->flow) < window - window / 4 &&
        now_us(relay) < due_us && relay->state == RELAY_RUNNING) {
        if (!loop_timer_armed(relay->position_timer))
            loop_timer_arm_at(relay->position_timer, due_us);
        return false;
    }
    relay->position_wanted = false;
    relay->position_written_us = now_us(relay);
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
    if (windows_count(relay->windows) > WINDOWS_MANY && now_us(relay) < due_us) {
        loop_timer_arm_at(relay->look_timer, due_us);
        return false;
    }
    relay->looked_us = now_us(relay);
    wakeup_looking(relay->wakeup);
    source_poll(relay->source);
    return true;
}

static bool leave_when_drained(struct relay *relay);

static bool relay_turn(void *data)
{
    struct relay *relay = data;
    bool did;

    if (!owns(relay))
        return false;
    did = source_turn(relay->source); /* what committed, into the flow */
    did |= publish(relay);            /* into the window; confirms settle it */
    did |= park_turn(relay->park);    /* what was set aside, tried again */
    did |= persist(relay);            /* what is settled, with what had to be set aside */
    did |= look(relay);
    return leave_when_drained(relay) || did;
}

static void on_window(void *data, bool found)
{
    struct relay *relay = data;

    wakeup_looked(relay->wakeup, found);
}

static void on_settled(void *data, const struct flow_item *item)
{
    (void)data;
    if (item->state == FLOW_ASIDE && item->aside != FLOW_BEHIND)
        log_warn(item->aside == FLOW_PARKED ? "a message is parked: a person must decide"
                                            : "a message is set aside, to be tried again",
                 LOG_INT("id", item->id), LOG_STR("reason", item->reason),
                 LOG_STR("detail", item->detail));
}

static void on_written(void *data, uint32_t rows_aside)
{
    struct relay *relay = data;

    park_added(relay->park, rows_aside);
}

/* A leaf can only go once the position is behind it, also where nothing but empty windows moved it
 * there. */
static void on_leaves(void *data)
{
    struct relay *relay = data;

    relay->position_wanted = true;
}

static void wake_turn(void *data)
{
    (void)data; /* relay_turn runs before the loop sleeps again */
}

/* Owning and losing ---------------------------------------------------------------------------- */

/* Everything in memory goes; what is in flight on the broker stays there, and will be sent again.
 */
static void forget(struct relay *relay)
{
    lease_stop(relay->lease);
    source_stop(relay->source);
    position_writer_stop(relay->writer);
    park_stop(relay->park);
    wakeup_stop(relay->wakeup);
    ring_stop(relay->ring);
    flow_clear(relay->flow, chunk_release_row, NULL);
    lane_forget(relay->lane);
    keys_clear(relay->held);
    relay->asked_us = 0;
    relay->position_wanted = false;
    if (relay->state == RELAY_RUNNING)
        relay->state = RELAY_STARTING;
}

/* Something is wrong with what we know or may do: begin again from the persisted position, on a new
 * connection. */
static void begin_again(struct relay *relay, const struct error *why)
{
    log_failure(LOG_LEVEL_WARN, "beginning again from the persisted position", why);
    forget(relay);
    lane_cut(relay->lane, "the share was given up");
    pg_session_reconnect(relay->session, why->message);
}

static void on_failure(void *data, const struct error *failure)
{
    struct relay *relay = data;

    if (failure->retry == RETRY_NEVER)
        finish(relay, failure);
    else if (relay->state != RELAY_FINISHED)
        begin_again(relay, failure);
}

static void on_loaded(void *data)
{
    struct relay *relay = data;

    if (relay->state != RELAY_STARTING)
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

    if (failure && failure->retry != RETRY_RECONNECT)
        on_failure(relay, failure);
    else if (!failure && routes_load(relay->routes, pg_result_keep(result), &error) < 0)
        log_failure(LOG_LEVEL_ERROR, "outbox.route cannot be used", &error);
}

static void ask_routes(struct relay *relay)
{
    struct error error = {0};

    if (pg_session_send(relay->session, &sql_relay_routes, NULL, on_routes, relay, &error) < 0 ||
        pg_session_sync(relay->session, NULL, NULL, &error) < 0)
        return; /* the connection is gone */
}

static void on_owner(void *data, const struct lease_position *at)
{
    struct relay *relay = data;

    log_info("owning the share", LOG_INT("share", relay->options.settings.share),
             LOG_INT("epoch", at->epoch), LOG_STR("t1", at->position.t1->text),
             LOG_BOOL("window_open", at->position.t2 != NULL),
             LOG_INT("last_id", at->position.last_id));
    windows_start(relay->windows, &at->position);
    position_writer_start(relay->writer, at->place, at->epoch, at->last_id_ever);
    ask_routes(relay);
    park_start(relay->park);
}

static void on_up(void *data, struct pg_session *session)
{
    struct relay *relay = data;

    log_info("connected to PostgreSQL", LOG_INT("backend", pg_session_backend_pid(session)));
    relay->session_was_up = true;
    if (relay->state == RELAY_STARTING)
        lease_start(relay->lease);
}

static void on_down(void *data, struct pg_session *session, const struct error *why)
{
    struct relay *relay = data;

    if (relay->session_was_up) {
        log_failure(LOG_LEVEL_WARN, "connection to PostgreSQL lost", why);
        metric_add(relay->stats.losses_postgres, 1);
    } else if (pg_session_attempts(session) == 1) {
        log_failure(LOG_LEVEL_WARN, "no connection to PostgreSQL; trying on", why);
    }
    relay->session_was_up = false;
    forget(relay);
    if (relay->state == RELAY_DRAINING || relay->state == RELAY_LEAVING)
        finish(relay, NULL); /* what is not persisted will be published again, by whoever owns the
                                share next */
}

static void on_notify(void *data, struct pg_session *session, const char *channel,
                      const char *payload)
{
    struct relay *relay = data;

    (void)session;
    (void)channel;
    (void)payload;
    if (relay->state != RELAY_RUNNING)
        return;
    park_look_for_intents(relay->park); /* operators notify too */
    wakeup_notified(relay->wakeup);
}

/* Every second --------------------------------------------------------------------------------- */

enum poll_column { POLL_SNAPSHOT, POLL_INSERT_LSN, POLL_FLUSH_LSN, POLL_LAST_ID };

static void on_sign_of_life(void *data, struct pg_result *result, const struct error *failure)
{
    struct relay *relay = data;

    relay->asked_us = 0;
    if (!failure)
        relay->sequence = pg_int(result, 0, POLL_LAST_ID);
}

/* The lock is ours as long as the server answers on its connection. One that does not may have
 * given it to another relay. */
static void prove_lease(struct relay *relay)
{
    int64_t term_us = relay->options.settings.lease_term_us;
    struct error error = {0};

    if (!relay->asked_us) {
        relay->asked_us = now_us(relay);
        if (pg_session_send(relay->session, &sql_relay_poll, NULL, on_sign_of_life, relay, &error) <
                0 ||
            pg_session_sync(relay->session, NULL, NULL, &error) < 0)
            relay->asked_us = 0;
    } else if (now_us(relay) - relay->asked_us > term_us) {
        error_set(&error, ERROR_TIMEOUT, RETRY_RECONNECT,
                  "PostgreSQL did not answer within lease-term");
        begin_again(relay, &error);
    }
}

static void on_tick(void *data)
{
    struct relay *relay = data;
    const struct settings *settings = &relay->options.settings;

    loop_timer_arm_in(relay->tick, TICK_US);
    lane_tick(relay->lane);
    park_tick(relay->park);
    if (!owns(relay))
        return;
    prove_lease(relay);
    if (!owns(relay) || now_us(relay) - relay->checked_us < settings->fallback_interval_us)
        return;
    relay->checked_us = now_us(relay);
    ask_routes(relay);
    park_count(relay->park);
    park_look_for_intents(relay->park);
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
    pg_params_init(&params);
    pg_params_int4(&params, relay->options.settings.share);
    failed = pg_session_send(relay->session, &sql_relay_let_go, &params, on_let_go, relay, &error);
    if (failed >= 0)
        failed = pg_session_sync(relay->session, NULL, NULL, &error);
    pg_params_free(&params);
    if (failed < 0)
        finish(relay, NULL);
}

static bool leave_when_drained(struct relay *relay)
{
    if (relay->state != RELAY_DRAINING || lane_in_flight(relay->lane) > 0 ||
        !park_is_idle(relay->park) || position_writer_is_busy(relay->writer) ||
        flow_settled(relay->flow) > 0)
        return false;
    log_info("drained");
    leave(relay);
    return true;
}

static void on_drain_timer(void *data)
{
    struct relay *relay = data;

    log_warn("drain-timeout is over: what is in flight will be sent again",
             LOG_INT("in_flight", lane_in_flight(relay->lane)));
    finish(relay, NULL);
}

void relay_drain(struct relay *relay)
{
    if (!owns(relay)) {
        finish(relay, NULL);
        return;
    }
    log_info("draining", LOG_INT("in_flight", lane_in_flight(relay->lane)));
    relay->state = RELAY_DRAINING;
    source_finish(relay->source);
    park_finish(relay->park);
    wakeup_stop(relay->wakeup);
    ring_stop(relay->ring);
    loop_timer_arm_in(relay->drain_timer, relay->options.settings.drain_timeout_us);
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
    return unsettled + (relay->sequence > last_id ? relay->sequence - last_id : 0);
}

void relay_refresh(struct relay *relay)
{
    struct stats *stats = &relay->stats;
    enum lease_state state = lease_state(relay->lease);

    metric_set(stats->in_flight, lane_in_flight(relay->lane));
    metric_set(stats->unpersisted, flow_unpersisted(relay->flow) + park_in_memory(relay->park));
    metric_set(stats->backlog_rows, owns(relay) ? (double)backlog_rows(relay) : 0);
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
    } else if (state != LEASE_STANDBY && !owns(relay)) {
        buffer_append_text(ret_reasons, "lease: neither owner nor standby yet\n");
        ready = false;
    }
    if (!lane_is_up(relay->lane)) {
        buffer_append_text(ret_reasons, "rabbitmq: no connection\n");
        ready = false;
    } else if (lane_is_blocked(relay->lane)) {
        buffer_append_text(ret_reasons, "rabbitmq: it blocks publishers\n");
        ready = false;
    }
    return ready;
}

/* Life ----------------------------------------------------------------------------------------- */

static struct lane_options lane_options(struct relay *relay, const char *name)
{
    const struct settings *settings = &relay->options.settings;

    return (struct lane_options){
        .name = name,
        .loop = relay->options.loop,
        .broker =
            {
                .uri = settings->amqp,
                .connection_name = relay->application_name,
                .ca_file = settings->amqp_ca_file,
                .certificate_file = settings->amqp_certificate_file,
                .key_file = settings->amqp_key_file,
                .verify_peer = settings->amqp_verify,
                .heartbeat_s = settings->amqp_heartbeat_s,
                .connect_timeout_us = settings->connect_timeout_us,
                .backoff_base_us = settings->backoff_base_us,
                .backoff_cap_us = settings->backoff_cap_us,
                .out_bytes_max = OUT_BYTES,
            },
        .flow = relay->flow,
        .routes = relay->routes,
        .destinations = relay->destinations,
        .window = settings->window,
        .confirm_timeout_us = settings->confirm_timeout_us,
        .limits = &relay->options.settings.limits,
        .app_id = settings->app_id,
        .source = settings->cloud_events_source,
        .cloud_events = settings->cloud_events,
        .stats = &relay->stats,
        .on_settled = on_settled,
        .data = relay,
    };
}

/* What of the window may be tried again from outbox.parked at a time. */
static uint32_t park_rows_max(const struct settings *settings)
{
    uint32_t part = settings->window / 4 > 0 ? settings->window / 4 : 1;

    return part < PARK_ROWS ? part : PARK_ROWS;
}

static int create_memory(struct relay *relay, struct error *error)
{
    const struct settings *settings = &relay->options.settings;
    uint32_t rows_max = settings->window + settings->read_ahead_rows;
    int failed =
        routes_create(&relay->routes, settings->default_exchange, settings->pipelined, error);

    if (failed >= 0)
        failed = destinations_create(&relay->destinations, error);
    if (failed >= 0) /* rows in memory can all be set aside when the table is at its limit */
        failed = keys_create(&relay->held, settings->parked_rows + rows_max, error);
    if (failed >= 0)
        failed = flow_create(&relay->flow, rows_max, relay->held, error);
    if (failed >= 0)
        failed = windows_create(&relay->windows, error);
    return failed;
}

static int create_session(struct relay *relay, struct error *error)
{
    const struct settings *settings = &relay->options.settings;

    relay->session_options = (struct pg_session_options){
        .conninfo = settings->postgres,
        .application_name = relay->application_name,
        .primary_only = true,
        .connect_timeout_us = settings->connect_timeout_us,
        .backoff_base_us = settings->backoff_base_us,
        .backoff_cap_us = settings->backoff_cap_us,
        .on_up = on_up,
        .on_down = on_down,
        .on_notify = on_notify,
        .data = relay,
    };
    return pg_session_create(&relay->session, relay->options.loop, &relay->session_options, error);
}

static int create_readers(struct relay *relay, struct error *error)
{
    const struct settings *settings = &relay->options.settings;
    struct lease_options lease = {
        relay->session, settings->share, relay->name, settings->lease_term_us,
        on_owner,       on_failure,      relay};
    struct source_options source = {relay->options.loop,
                                    relay->session,
                                    relay->windows,
                                    relay->flow,
                                    relay->routes,
                                    &relay->stats,
                                    settings->read_ahead_rows,
                                    settings->read_ahead_bytes,
                                    on_window,
                                    on_failure,
                                    relay};
    struct wakeup_options wakeup = {relay->options.loop,
                                    relay->session,
                                    &relay->session_options,
                                    &relay->stats,
                                    settings->share,
                                    settings->wakeup_by_notify,
                                    settings->poll_interval_us,
                                    settings->fallback_interval_us,
                                    on_failure,
                                    relay};
    struct ring_options ring = {relay->options.loop, relay->session,
                                &relay->stats,       settings->truncate_interval_us,
                                on_leaves,           relay};
    int failed = lease_create(&relay->lease, &lease, error);

    if (failed >= 0)
        failed = source_create(&relay->source, &source, error);
    if (failed >= 0)
        failed = wakeup_create(&relay->wakeup, &wakeup, error);
    if (failed >= 0)
        failed = ring_create(&relay->ring, &ring, error);
    return failed;
}

static int create_writers(struct relay *relay, struct error *error)
{
    const struct settings *settings = &relay->options.settings;
    struct lane_options lane = lane_options(relay, "log");
    struct park_options park = {
        .loop = relay->options.loop,
        .session = relay->session,
        .lane = lane_options(relay, "parked"),
        .routes = relay->routes,
        .held = relay->held,
        .stats = &relay->stats,
        .share = settings->share,
        .rows_max = park_rows_max(settings),
        .bytes_max = PARK_BYTES,
        .retry_base_us = settings->backoff_base_us,
        .retry_cap_us = settings->backoff_cap_us,
        .on_loaded = on_loaded,
        .on_failure = on_failure,
        .data = relay,
    };
    struct position_writer_options writer = {relay->options.loop,
                                             relay->session,
                                             relay->flow,
                                             relay->windows,
                                             relay->source,
                                             relay->routes,
                                             &relay->stats,
                                             settings->share,
                                             settings->backoff_base_us,
                                             settings->backoff_cap_us,
                                             on_written,
                                             on_failure,
                                             relay};
    int failed = lane_create(&relay->lane, &lane, error);

    if (failed >= 0)
        failed = park_create(&relay->park, &park, error);
    if (failed >= 0)
        failed = position_writer_create(&relay->writer, &writer, error);
    return failed;
}

static int create_timers(struct relay *relay, struct error *error)
{
    struct loop *loop = relay->options.loop;
    int failed = loop_timer_create(loop, on_tick, relay, &relay->tick, error);

    if (failed >= 0)
        failed = loop_timer_create(loop, wake_turn, relay, &relay->position_timer, error);
    if (failed >= 0)
        failed = loop_timer_create(loop, wake_turn, relay, &relay->look_timer, error);
    if (failed >= 0)
        failed = loop_timer_create(loop, on_drain_timer, relay, &relay->drain_timer, error);
    if (failed >= 0)
        failed = loop_hook_add(loop, relay_turn, relay, &relay->hook, error);
    return failed;
}

static void name_ourselves(struct relay *relay)
{
    char host[64] = "?";

    (void)gethostname(host, sizeof(host) - 1);
    (void)snprintf(relay->name, sizeof(relay->name), "%s, pid %d", host, (int)getpid());
    (void)snprintf(relay->application_name, sizeof(relay->application_name),
                   "outbox-relay share %d", relay->options.settings.share);
}

int relay_create(struct relay **ret_relay, const struct relay_options *options, struct error *error)
{
    struct relay *relay = calloc(1, sizeof(*relay));
    int failed;

    if (!relay)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a relay");
    relay->options = *options;
    stats_create(&relay->stats, options->metrics);
    name_ourselves(relay);
    failed = create_memory(relay, error);
    if (failed >= 0)
        failed = create_session(relay, error);
    if (failed >= 0)
        failed = create_readers(relay, error);
    if (failed >= 0)
        failed = create_writers(relay, error);
    if (failed >= 0)
        failed = create_timers(relay, error);
    if (failed < 0) {
        relay_destroy(relay);
        return failed;
    }
    *ret_relay = relay;
    return 0;
}

void relay_start(struct relay *relay)
{
    pg_session_start(relay->session);
    lane_start(relay->lane);
    loop_timer_arm_in(relay->tick, TICK_US);
}

void relay_destroy(struct relay *relay)
{
    if (!relay)
        return;
    relay->state = RELAY_FINISHED;
    loop_hook_remove(relay->hook);
    loop_timer_destroy(relay->tick);
    loop_timer_destroy(relay->position_timer);
    loop_timer_destroy(relay->look_timer);
    loop_timer_destroy(relay->drain_timer);
    if (relay->writer)
        forget(relay);
    pg_session_destroy(relay->session); /* its callbacks come now, and find everything stopped */
    wakeup_destroy(relay->wakeup);
    lane_destroy(relay->lane);
    park_destroy(relay->park);
    position_writer_destroy(relay->writer);
    source_destroy(relay->source);
    ring_destroy(relay->ring);
    lease_destroy(relay->lease);
    windows_destroy(relay->windows);
    flow_destroy(relay->flow);
    keys_destroy(relay->held);
    destinations_destroy(relay->destinations);
    routes_destroy(relay->routes);
    free(relay);
}
