/* settings.h: saga-worker's settings, and what they mean to it. */
#ifndef SAGAPOST_WORKER_SETTINGS_H
#define SAGAPOST_WORKER_SETTINGS_H

#include "outbox/runtime/config.h"
#include "outbox/runtime/json_scan.h"

#define SETTINGS_PATTERNS_MAX 64

extern const struct setting worker_settings[];

struct settings {
    bool orchestrate, execute;
    int pattern_count;                        /* 0: every participant that has handlers */
    char patterns[SETTINGS_PATTERNS_MAX][64]; /* of participants: the part before '.*' */
    int prefetch;
    int reply_batch, command_batch;
    int64_t batch_pause_us;
    int timers_max;
    size_t batch_bytes_max;
    struct json_limits json;
    int64_t sweep_us, stall_check_us, intent_poll_us, handler_poll_us, maintenance_us, gauges_us;
    int64_t statement_timeout_us;
    int64_t silence_limit_us; /* beyond statement_timeout_us */
    int64_t outcome_keep_us;
};

/* ERROR_USAGE, naming the setting, its value and what is allowed. */
int settings_read(const struct config *config, struct settings *ret_settings,
                  struct error *error) MUST_CHECK;
/* Takes over what may change while running, from `fresh`. */
void settings_reload(struct settings *settings, const struct settings *fresh);

/* Whether this worker serves the participant. */
bool settings_serve(const struct settings *settings, const char *participant);
/* A participant that is named in full is served whether it has handlers or not; NULL: not a full
 * name. */
const char *settings_named_participant(const struct settings *settings, int pattern);

#endif
