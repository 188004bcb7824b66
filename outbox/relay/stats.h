/* stats.h: the relay's metrics, made once at start. */
#ifndef SAGAPOST_RELAY_STATS_H
#define SAGAPOST_RELAY_STATS_H

#include "outbox/runtime/metrics.h"

struct stats {
    struct metric *read;
    struct metric *published;
    struct metric *confirmed, *returned, *nacked, *unknown;
    struct metric *set_aside, *settled_aside;
    struct metric *overtaken;
    struct metric *in_flight, *unpersisted, *window_limit;
    struct metric *backlog_rows, *backlog_oldest_age_seconds;
    struct metric *parked_waiting, *parked_parked, *parked_behind, *parked_limit;
    struct metric *stalled;
    struct metric *confirm_latency_seconds, *commit_to_confirm_seconds;
    struct metric *blocked, *blocked_seconds;
    struct metric *share, *shares;
    struct metric *lease_epoch, *role_owner, *role_standby;
    struct metric *fenced, *silent_ended, *resignations;
    struct metric *polls, *sleeps, *notifications, *late_wakeups;
    struct metric *positions, *flush_waits, *flush_nudges, *bounds_dropped;
    struct metric *waiting_for_standbys, *ghosts;
    struct metric *leaves_truncated;
    struct metric *losses_postgres, *losses_rabbitmq, *channels_replaced;
};

void stats_create(struct stats *stats, struct metrics *metrics);

#endif
