/* relay_parts.c: how a relay is put together and taken apart. */
#include "outbox/relay/relay_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PARK_ROWS  256       /* of a batch of outbox.parked */
#define PARK_BYTES (4 << 20) /* the same */
#define OUT_BYTES  (256 << 10)

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
                .heartbeat_max_s = fence_heartbeat_max_s(settings->lease_term_us),
                .connect_timeout_max_us = fence_connect_max_us(settings->lease_term_us),
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
        .silent_after_us = settings->silent_after_us,
        .limits = &relay->options.settings.limits,
        .app_id = settings->app_id,
        .source = settings->cloud_events_source,
        .cloud_events = settings->cloud_events,
        .stats = &relay->stats,
        .on_settled = relay_on_settled,
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
        /* An owner has its term; one that asks for the share, or waits for it, has this. */
        .silence_limit_us = LEASE_WAIT_MS * (int64_t)US_PER_MS + 2 * settings->lease_term_us,
        .backoff_base_us = settings->backoff_base_us,
        .backoff_cap_us = settings->backoff_cap_us,
        .on_up = relay_on_up,
        .on_down = relay_on_down,
        .on_notify = relay_on_notify,
        .data = relay,
    };
    return pg_session_create(&relay->session, relay->options.loop, &relay->session_options, error);
}

static int create_readers(struct relay *relay, struct error *error)
{
    const struct settings *settings = &relay->options.settings;
    struct lease_options lease = {
        .loop = relay->options.loop,
        .session = relay->session,
        .share = settings->share,
        .relay = relay->name,
        .term_us = settings->lease_term_us,
        .can_publish = relay_can_publish,
        .on_standby = relay_on_standby,
        .on_owner = relay_on_owner,
        .on_failure = relay_on_failure,
        .data = relay,
    };
    struct source_options source = {
        .loop = relay->options.loop,
        .session = relay->session,
        .windows = relay->windows,
        .flow = relay->flow,
        .routes = relay->routes,
        .stats = &relay->stats,
        .publish_after = &settings->publish_after,
        .rows_max = settings->read_ahead_rows,
        .bytes_max = settings->read_ahead_bytes,
        .on_window = relay_on_window,
        .on_failure = relay_on_failure,
        .data = relay,
    };
    struct sharing_options sharing = {
        .session = relay->session,
        .share = settings->share,
        .on_turn = relay_on_turn,
        .on_failure = relay_on_failure,
        .data = relay,
    };
    int failed = lease_create(&relay->lease, &lease, error);

    if (failed >= 0)
        failed = sharing_create(&relay->sharing, &sharing, error);
    if (failed >= 0)
        failed = source_create(&relay->source, &source, error);
    return failed;
}

static int create_fence(struct relay *relay, struct error *error)
{
    const struct settings *settings = &relay->options.settings;
    struct standby_options standby = {
        .loop = relay->options.loop,
        .second = &relay->session_options,
        .stats = &relay->stats,
        .share = settings->share,
        .term_us = settings->lease_term_us,
    };
    struct fence_options fence = {
        .loop = relay->options.loop,
        .session = relay->session,
        .stats = &relay->stats,
        .share = settings->share,
        .term_us = settings->lease_term_us,
        .on_failure = relay_on_failure,
        .data = relay,
    };
    int failed = standby_create(&relay->standby, &standby, error);

    if (failed >= 0)
        failed = fence_create(&relay->fence, &fence, error);
    return failed;
}

static int create_keepers(struct relay *relay, struct error *error)
{
    const struct settings *settings = &relay->options.settings;
    struct wakeup_options wakeup = {
        .loop = relay->options.loop,
        .session = relay->session,
        .second = &relay->session_options,
        .stats = &relay->stats,
        .share = settings->share,
        .by_notify = settings->wakeup_by_notify,
        .poll_interval_us = settings->poll_interval_us,
        .fallback_interval_us = settings->fallback_interval_us,
        .on_failure = relay_on_failure,
        .data = relay,
    };
    struct ring_options ring = {
        .loop = relay->options.loop,
        .session = relay->session,
        .stats = &relay->stats,
        .interval_us = settings->truncate_interval_us,
        .on_leaves = relay_on_leaves,
        .data = relay,
    };
    int failed = wakeup_create(&relay->wakeup, &wakeup, error);

    if (failed >= 0)
        failed = ring_create(&relay->ring, &ring, error);
    if (failed >= 0)
        failed =
            ghosts_create(&relay->ghosts, relay->session, settings->share, &relay->stats, error);
    return failed;
}

static struct park_options park_options(struct relay *relay)
{
    const struct settings *settings = &relay->options.settings;

    return (struct park_options){
        .loop = relay->options.loop,
        .session = relay->session,
        .lane = lane_options(relay, "parked"),
        .fence = relay->fence,
        .routes = relay->routes,
        .held = relay->held,
        .stats = &relay->stats,
        .share = settings->share,
        .rows_max = park_rows_max(settings),
        .bytes_max = PARK_BYTES,
        .retry_base_us = settings->backoff_base_us,
        .retry_cap_us = settings->backoff_cap_us,
        .on_loaded = relay_on_loaded,
        .on_failure = relay_on_failure,
        .data = relay,
    };
}

static int create_writers(struct relay *relay, struct error *error)
{
    const struct settings *settings = &relay->options.settings;
    struct lane_options lane = lane_options(relay, "log");
    struct park_options park = park_options(relay);
    struct position_writer_options writer = {
        .loop = relay->options.loop,
        .session = relay->session,
        .flow = relay->flow,
        .windows = relay->windows,
        .source = relay->source,
        .routes = relay->routes,
        .stats = &relay->stats,
        .share = settings->share,
        .retry_base_us = settings->backoff_base_us,
        .retry_cap_us = settings->backoff_cap_us,
        .on_written = relay_on_written,
        .on_failure = relay_on_failure,
        .data = relay,
    };
    int failed;

    fence_hook(relay->fence, FENCE_LOG, &lane);
    failed = lane_create(&relay->lane, &lane, error);
    if (failed >= 0) {
        fence_attach(relay->fence, FENCE_LOG, relay->lane);
        failed = park_create(&relay->park, &park, error);
    }
    if (failed >= 0)
        failed = position_writer_create(&relay->writer, &writer, error);
    return failed;
}

static void wake_turn(void *data)
{
    (void)data; /* relay_turn runs before the loop sleeps again */
}

static int create_timers(struct relay *relay, struct error *error)
{
    struct loop *loop = relay->options.loop;
    int failed = loop_timer_create(loop, relay_on_tick, relay, &relay->tick, error);

    if (failed >= 0)
        failed = loop_timer_create(loop, wake_turn, relay, &relay->position_timer, error);
    if (failed >= 0)
        failed = loop_timer_create(loop, wake_turn, relay, &relay->look_timer, error);
    if (failed >= 0)
        failed = loop_timer_create(loop, relay_on_drain_timer, relay, &relay->drain_timer, error);
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
    metric_set(relay->stats.share, options->settings.share);
    name_ourselves(relay);
    failed = create_memory(relay, error);
    if (failed >= 0)
        failed = create_session(relay, error);
    if (failed >= 0)
        failed = create_fence(relay, error);
    if (failed >= 0)
        failed = create_readers(relay, error);
    if (failed >= 0)
        failed = create_keepers(relay, error);
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
    loop_timer_arm_in(relay->tick, RELAY_TICK_US);
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
        relay_forget(relay);
    pg_session_destroy(relay->session); /* its callbacks come now, and find everything stopped */
    wakeup_destroy(relay->wakeup);
    lane_destroy(relay->lane);
    park_destroy(relay->park);
    position_writer_destroy(relay->writer);
    source_destroy(relay->source);
    ring_destroy(relay->ring);
    ghosts_destroy(relay->ghosts);
    lease_destroy(relay->lease);
    sharing_destroy(relay->sharing);
    standby_destroy(relay->standby);
    fence_destroy(relay->fence);
    windows_destroy(relay->windows);
    flow_destroy(relay->flow);
    keys_destroy(relay->held);
    destinations_destroy(relay->destinations);
    routes_destroy(relay->routes);
    free(relay);
}
