#include "outbox/relay/stats.h"

#include <stddef.h>

#define PREFIX "sagapost_outbox_"

/* Where in struct stats, what it is, its name, one label, and what it says. */
static const struct {
    size_t place;
    enum metric_type type;
    const char *name;
    const char *labels[3];
    const char *help;
} rows[] = {
#define STAT(field, kind, text, help_text)                                                         \
    {                                                                                              \
        offsetof(struct stats, field), METRIC_##kind, PREFIX text, {NULL}, help_text               \
    }
#define STAT_OF(field, kind, text, label, value, help_text)                                        \
    {                                                                                              \
        offsetof(struct stats, field), METRIC_##kind, PREFIX text, {label, value, NULL}, help_text \
    }
    STAT(read, COUNTER, "read_total", "rows read from the log"),
    STAT(published, COUNTER, "published_total", "messages sent to the broker, repeats included"),
    STAT(confirmed, COUNTER, "confirmed_total", "messages that the broker confirmed"),
    STAT(returned, COUNTER, "returned_total", "messages that no queue took"),
    STAT(nacked, COUNTER, "nacked_total", "messages that the broker refused"),
    STAT(unknown, COUNTER, "unknown_total",
         "messages whose confirm was lost with a connection; they are sent again, or set aside "
         "where "
         "the broker closed the channel over them"),
    STAT(set_aside, COUNTER, "set_aside_total", "messages moved to outbox.parked"),
    STAT(settled_aside, COUNTER, "parked_confirmed_total",
         "messages of outbox.parked that the broker confirmed after all"),
    STAT(overtaken, COUNTER, "overtaken_total",
         "refused messages of pipelined keys that later messages of their key overtook"),
    STAT(in_flight, GAUGE, "in_flight", "messages sent and not confirmed"),
    STAT(unpersisted, GAUGE, "unpersisted",
         "messages sent and not covered by the persisted position: at most the window"),
    STAT(window_limit, GAUGE, "window_limit",
         "the setting window: the most that may be unpersisted"),
    STAT(backlog_rows, GAUGE, "backlog_rows",
         "rows that wait to be published, at most (ids that rolled back count; of several shares, "
         "their even part)"),
    STAT(backlog_oldest_age_seconds, GAUGE, "backlog_oldest_age_seconds",
         "age of the oldest row that was read and is not settled"),
    STAT_OF(parked_waiting, GAUGE, "parked", "state", "waiting", "messages in outbox.parked"),
    STAT_OF(parked_parked, GAUGE, "parked", "state", "parked", "messages in outbox.parked"),
    STAT_OF(parked_behind, GAUGE, "parked", "state", "behind", "messages in outbox.parked"),
    STAT(parked_limit, GAUGE, "parked_limit",
         "the setting parked-rows: with so many in outbox.parked the log waits"),
    STAT(stalled, GAUGE, "stalled", "1: the log waits because outbox.parked is at its limit"),
    STAT(blocked, GAUGE, "blocked", "1: the broker blocks publishers, and nothing is sent"),
    STAT(blocked_seconds, COUNTER, "blocked_seconds_total",
         "time for which the broker blocked publishers"),
    STAT(share, GAUGE, "share", "the setting share: which one this relay publishes or waits for"),
    STAT(shares, GAUGE, "shares", "how many shares the log has; 0: this relay owns none"),
    STAT(lease_epoch, GAUGE, "lease_epoch",
         "epoch of the share that this relay owns; 0: it owns none"),
    STAT_OF(role_owner, GAUGE, "role", "role", "owner", "1: what this relay is"),
    STAT_OF(role_standby, GAUGE, "role", "role", "standby", "1: what this relay is"),
    STAT(fenced, GAUGE, "fenced",
         "1: this relay owns the share, and RabbitMQ lets nobody else publish for it"),
    STAT(silent_ended, COUNTER, "silent_owners_ended_total",
         "connections of owners that this relay, standing by, found silent past lease-term"),
    STAT(resignations, COUNTER, "resignations_total",
         "times this relay gave the share up because RabbitMQ stayed away"),
    STAT(polls, COUNTER, "polls_total", "looks for new rows"),
    STAT(sleeps, COUNTER, "sleeps_total", "times the relay slept until a writer's notification"),
    STAT(notifications, COUNTER, "notifications_total", "notifications received"),
    STAT(late_wakeups, COUNTER, "late_wakeups_total",
         "rows found by the fallback poll that no notification announced"),
    STAT(positions, COUNTER, "positions_total", "writes of the position"),
    STAT(flush_waits, COUNTER, "flush_waits_total",
         "times rows waited until the log of their commit was on disk"),
    STAT(flush_nudges, COUNTER, "flush_nudges_total",
         "times the relay wrote to the log to have it flushed"),
    STAT(waiting_for_standbys, GAUGE, "waiting_for_standbys",
         "1: rows wait until the standbys of publish-after have them"),
    STAT(ghosts, COUNTER, "ghosts_total",
         "messages sent whose transactions a promoted server does not have"),
    STAT(bounds_dropped, COUNTER, "bounds_dropped_total",
         "times the sequence was found behind the scan's bound"),
    STAT(leaves_truncated, COUNTER, "leaves_truncated_total",
         "leaves of the ring that were emptied"),
    STAT_OF(losses_postgres, COUNTER, "connection_losses_total", "server", "postgres",
            "connections lost"),
    STAT_OF(losses_rabbitmq, COUNTER, "connection_losses_total", "server", "rabbitmq",
            "connections lost"),
    STAT(channels_replaced, COUNTER, "channels_replaced_total",
         "channels given up because RabbitMQ refused all that went to a destination"),
};

void stats_create(struct stats *stats, struct metrics *metrics)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct metric **place = (struct metric **)(void *)((char *)stats + rows[i].place);

        *place = metrics_get(metrics, rows[i].type, rows[i].name, rows[i].help,
                             rows[i].labels[0] ? rows[i].labels : NULL);
    }
    stats->confirm_latency_seconds = metrics_get_histogram(
        metrics, PREFIX "confirm_latency_seconds", "from sending a message to its confirm", NULL,
        metrics_latency_bounds, metrics_latency_bound_count);
    stats->commit_to_confirm_seconds = metrics_get_histogram(
        metrics, PREFIX "commit_to_confirm_seconds",
        "from a row's insert (created_at; its commit is a moment later) to its confirm", NULL,
        metrics_latency_bounds, metrics_latency_bound_count);
}
