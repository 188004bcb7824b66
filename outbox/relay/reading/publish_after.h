/* publish_after.h: the setting publish-after, and what a wait for standby servers looks like from
 * outside.
 *
 *     publish-after = flushed                     the commit is on this server's disk
 *     publish-after = replicated(name, name ...)  and on that of each of these standbys
 *
 * A standby is named as in pg_stat_replication.application_name, which is its cluster_name unless
 * its primary_conninfo says otherwise. A name that is this server's own cluster_name is served by
 * this server: a standby that was promoted does not wait for itself. One that is not connected has
 * nothing, so that rows wait; that is said once, shown by a metric, and ends when it is back. */
#ifndef SAGAPOST_RELAY_PUBLISH_AFTER_H
#define SAGAPOST_RELAY_PUBLISH_AFTER_H

#include "outbox/relay/stats.h"
#include "outbox/runtime/error.h"
#include <stdint.h>

#define PUBLISH_AFTER_NAMES_MAX   8
#define PUBLISH_AFTER_NAME_BYTES  64      /* what PostgreSQL keeps of a name, its end included */
#define PUBLISH_AFTER_PATIENCE_US 1000000 /* a wait as long as this is said */

struct publish_after {
    char names[PUBLISH_AFTER_NAMES_MAX][PUBLISH_AFTER_NAME_BYTES];
    int count; /* 0: this server's disk is enough */
};

struct publish_after_wait {
    int64_t since_us; /* 0: nothing waits */
    bool said;
};

/* ERROR_USAGE: the setting is neither of the two. */
int publish_after_parse(struct publish_after *after, const char *publish_after,
                        struct error *error) MUST_CHECK;

/* Rows still wait; `missing`: the names that are not connected, NULL: all are. Returns for how long
 * they have waited. */
int64_t publish_after_still_wait(struct publish_after_wait *wait, int64_t now_us,
                                 const char *missing, struct stats *stats);
/* Nothing waits any more, or all is forgotten. */
void publish_after_end_wait(struct publish_after_wait *wait, struct stats *stats);

#endif
