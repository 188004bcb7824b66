#include "saga/worker/settings.h"

#include "outbox/runtime/clock.h"
#include <fnmatch.h>
#include <string.h>

const struct setting worker_settings[] = {
    {"roles", SETTING_TEXT, "orchestrate,execute", 0, 0, 0,
     "what this worker does: orchestrate (drive sagas), execute (run SQL handlers), or both"},
    {"actions", SETTING_TEXT, NULL, 0, 0, 0,
     "which actions to execute, as <participant>.* separated by commas, * in the participant is a "
     "wildcard; every participant with handlers when not set"},
    {"prefetch", SETTING_COUNT, "400", 1, 20000, 0,
     "deliveries of one queue that are held without an acknowledgement"},
    {"reply-batch", SETTING_COUNT, "100", 1, 1000, SETTING_RELOAD,
     "replies, timers or intents in one transaction"},
    {"command-batch", SETTING_COUNT, "32", 1, 60, SETTING_RELOAD,
     "commands in one transaction; past 64 subtransactions PostgreSQL gets slow, those of handlers "
     "count too"},
    {"batch-pause", SETTING_MILLIS, "2ms", 0, 1000, SETTING_RELOAD,
     "once a batch had several replies or commands, the next one waits so long for more, unless it "
     "is full; 0: never"},
    {"body-bytes-max", SETTING_BYTES, "1MB", 1024, 67108864, 0,
     "a larger command or reply goes to the dead-letter queue"},
    {"body-depth-max", SETTING_COUNT, "64", 2, 1000, 0,
     "a command or reply nested deeper goes to the dead-letter queue"},
    {"batch-bytes-max", SETTING_BYTES, "32MB", 1048576, 1073741824, 0,
     "memory for the outputs and decisions of one batch"},
    {"timers-max", SETTING_COUNT, "10000", 100, 10000000, 0,
     "timers of the near future that are kept in memory; the sweep finds the others"},
    {"sweep-interval", SETTING_MILLIS, "1s", 50, 60000, SETTING_RELOAD,
     "how often timers that are due soon are looked for in the database"},
    {"stall-check-interval", SETTING_MILLIS, "1min", 1000, 3600000, SETTING_RELOAD,
     "how often sagas that wait for nothing are looked for"},
    {"intent-poll-interval", SETTING_MILLIS, "5s", 100, 600000, SETTING_RELOAD,
     "how often intents are looked for when no notification comes"},
    {"handler-poll-interval", SETTING_MILLIS, "10s", 100, 600000, SETTING_RELOAD,
     "how often new handlers are looked for when no notification comes"},
    {"gauges-interval", SETTING_MILLIS, "15s", 1000, 3600000, SETTING_RELOAD,
     "how often sagas are counted for the metrics; only with listen"},
    {"maintenance-interval", SETTING_MILLIS, "6h", 60000, 86400000, SETTING_RELOAD,
     "how often partitions of outcomes are made and dropped"},
    {"outcome-keep", SETTING_MILLIS, "720h", 86400000, 315360000000, SETTING_RELOAD,
     "how long a participant remembers what became of a command; longer than any saga runs"},
    {"statement-timeout", SETTING_MILLIS, "30s", 100, 3600000, 0,
     "a statement that runs longer is cancelled; a batch of commands is one statement"},
    {"silence-limit", SETTING_MILLIS, "30s", 100, 3600000, 0,
     "PostgreSQL may say nothing for so long beyond statement-timeout while something is asked of "
     "it; then the connection is given up and made anew"},
    {0}};

static int bad_value(struct error *error, const char *name, const char *value, const char *allowed)
{
    return error_set(error, ERROR_USAGE, RETRY_NEVER, "%s: '%s' is not allowed: %s", name, value,
                     allowed);
}

/* The next word of a list separated by commas, without the blanks around it. False at the end. */
static bool next_word(const char **rest, char *word, size_t capacity, bool *ret_too_long)
{
    const char *start = *rest;
    if (*start == '\0') {
        return false;
    }
    const char *end = strchrnul(start, ',');
    *rest = *end == ',' ? end + 1 : end;
    start += strspn(start, " \t");
    while (end > start && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    size_t length = end > start ? (size_t)(end - start) : 0;
    *ret_too_long = length >= capacity;
    if (!*ret_too_long) {
        memcpy(word, start, length);
        word[length] = '\0';
    }
    return true;
}

static int read_roles(const char *value, struct settings *settings, struct error *error)
{
    static const char allowed[] = "give orchestrate, execute, or both separated by a comma";
    char word[16];
    bool too_long;
    for (const char *rest = value; next_word(&rest, word, sizeof word, &too_long);) {
        if (!too_long && strcmp(word, "orchestrate") == 0) {
            settings->orchestrate = true;
        } else if (!too_long && strcmp(word, "execute") == 0) {
            settings->execute = true;
        } else {
            return bad_value(error, "roles", value, allowed);
        }
    }
    if (!settings->orchestrate && !settings->execute) {
        return bad_value(error, "roles", value, allowed);
    }
    return 0;
}

/* A queue holds all actions of its participant, so a single verb cannot be picked. */
static int read_pattern(const char *value, const char *word, char *pattern, size_t capacity,
                        struct error *error)
{
    static const char allowed[] =
        "a pattern is <participant>.* (a participant has one queue for all "
        "its actions), in small letters, digits, _ and *";
    size_t length = strlen(word);
    if (strcmp(word, "*") == 0) {
        memcpy(pattern, "*", 2);
        return 0;
    }
    if (length < 3 || strcmp(word + length - 2, ".*") != 0 || length - 2 >= capacity ||
        strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_*") != length - 2) {
        return bad_value(error, "actions", value, allowed);
    }
    memcpy(pattern, word, length - 2);
    pattern[length - 2] = '\0';
    return 0;
}

static int read_actions(const char *value, struct settings *settings, struct error *error)
{
    char word[80];
    bool too_long;
    for (const char *rest = value; next_word(&rest, word, sizeof word, &too_long);) {
        if (settings->pattern_count == SETTINGS_PATTERNS_MAX) {
            return bad_value(error, "actions", value, "at most 64 patterns");
        }
        if (too_long) {
            return bad_value(error, "actions", value, "names have at most 63 bytes");
        }
        int rc = read_pattern(value, word, settings->patterns[settings->pattern_count],
                              sizeof settings->patterns[0], error);
        if (rc < 0) {
            return rc;
        }
        settings->pattern_count++;
    }
    return 0;
}

int settings_read(const struct config *config, struct settings *ret_settings, struct error *error)
{
    struct settings settings = {
        .prefetch = (int)config_count(config, "prefetch"),
        .reply_batch = (int)config_count(config, "reply-batch"),
        .command_batch = (int)config_count(config, "command-batch"),
        .batch_pause_us = config_us(config, "batch-pause"),
        .timers_max = (int)config_count(config, "timers-max"),
        .batch_bytes_max = (size_t)config_count(config, "batch-bytes-max"),
        .json = {.bytes_max = (size_t)config_count(config, "body-bytes-max"),
                 .depth_max = (int)config_count(config, "body-depth-max")},
        .sweep_us = config_us(config, "sweep-interval"),
        .stall_check_us = config_us(config, "stall-check-interval"),
        .intent_poll_us = config_us(config, "intent-poll-interval"),
        .handler_poll_us = config_us(config, "handler-poll-interval"),
        .maintenance_us = config_us(config, "maintenance-interval"),
        .gauges_us = config_text(config, "listen") ? config_us(config, "gauges-interval") : 0,
        .statement_timeout_us = config_us(config, "statement-timeout"),
        .silence_limit_us = config_us(config, "silence-limit"),
        .outcome_keep_us = config_us(config, "outcome-keep"),
    };
    int rc = read_roles(config_text(config, "roles"), &settings, error);
    const char *actions = config_text(config, "actions");
    if (rc == 0 && actions) {
        rc = read_actions(actions, &settings, error);
    }
    if (rc == 0 && settings.batch_bytes_max < 4 * settings.json.bytes_max) {
        rc =
            error_set(error, ERROR_USAGE, RETRY_NEVER,
                      "batch-bytes-max: it must be at least four times body-bytes-max, so that one "
                      "reply always fits");
    }
    if (rc == 0) {
        *ret_settings = settings;
    }
    return rc;
}

void settings_reload(struct settings *settings, const struct settings *fresh)
{
    settings->reply_batch = fresh->reply_batch;
    settings->command_batch = fresh->command_batch;
    settings->batch_pause_us = fresh->batch_pause_us;
    settings->sweep_us = fresh->sweep_us;
    settings->stall_check_us = fresh->stall_check_us;
    settings->intent_poll_us = fresh->intent_poll_us;
    settings->handler_poll_us = fresh->handler_poll_us;
    settings->maintenance_us = fresh->maintenance_us;
    settings->gauges_us = fresh->gauges_us;
    settings->outcome_keep_us = fresh->outcome_keep_us;
}

bool settings_serve(const struct settings *settings, const char *participant)
{
    for (int i = 0; i < settings->pattern_count; i++) {
        if (fnmatch(settings->patterns[i], participant, FNM_NOESCAPE) == 0) {
            return true;
        }
    }
    return settings->pattern_count == 0;
}

const char *settings_named_participant(const struct settings *settings, int pattern)
{
    const char *name = settings->patterns[pattern];
    return strchr(name, '*') ? NULL : name;
}
