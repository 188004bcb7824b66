#include "outbox/relay/settings.h"
#include "outbox/runtime/clock.h"

#include <string.h>

#define DAY_MS (24 * 3600 * 1000)

const struct setting relay_settings[] = {
    /* clang-format off */
    {"share", SETTING_COUNT, "0", 0, 1023, 0, "the share of the log that this relay publishes"},
    {"window", SETTING_COUNT, "2000", 2, 65535, 0,
     "messages sent and not covered by the persisted position, at most: what a crash can repeat"},
    {"read-ahead-rows", SETTING_COUNT, "8000", 16, 1000000, 0, "rows read beyond the window"},
    {"read-ahead-bytes", SETTING_BYTES, "16MB", 64 * 1024, INT64_C(1) << 32, 0, "the same in bytes, the window included"},
    {"publish-after", SETTING_TEXT, "flushed", 0, 0, 0,
     "when a row may be published: once its commit is flushed to disk; or replicated(name, ...): to that of these standbys too, so that "
     "promoting one makes no ghosts"},
    {"order", SETTING_CHOICE, "strict", 0, 0, 0,
     "order per key of types without a row in outbox.route", "strict|pipelined"},
    SETTINGS_OF_MESSAGES,
    {"wakeup", SETTING_CHOICE, "notify", 0, 0, 0, "how a sleeping relay hears of new rows", "notify|poll"},
    {"poll-interval", SETTING_MILLIS, "50ms", 1, 60000, 0, "with wakeup = poll: the pause after a look that found nothing"},
    {"fallback-interval", SETTING_MILLIS, "5s", 100, 600000, 0,
     "with wakeup = notify: a look all the same; routes are read again as often"},
    {"position-interval", SETTING_MILLIS, "100ms", 0, 10000, 0, "the position is written this often at least, while it moves"},
    {"confirm-timeout", SETTING_MILLIS, "30s", 100, 3600000, 0, "without a confirm for this long the connection is given up"},
    {"silent-after", SETTING_MILLIS, "5s", 100, 3600000, 0,
     "a destination that confirms nothing for this long while others do holds them up no more: its messages are set aside"},
    {"unroutable-grace", SETTING_MILLIS, "1min", 0, 7 * DAY_MS, 0,
     "how long a message without a queue, an exchange or the permission is tried before a person must decide"},
    {"retry-base", SETTING_MILLIS, "200ms", 1, 60000, 0, "the first pause before a refused message is tried again; it doubles"},
    {"retry-cap", SETTING_MILLIS, "1min", 1, DAY_MS, 0, "the longest such pause"},
    {"parked-rows", SETTING_COUNT, "100000", 1, 10000000, 0, "rows in outbox.parked at which the log waits"},
    {"lease-term", SETTING_MILLIS, "10s", 2000, 600000, 0,
     "an owner that is silent, or cut off from one of the servers, for this long gives the share up or is replaced"},
    {"drain-timeout", SETTING_MILLIS, "10s", 0, 600000, 0, "how long SIGTERM waits for confirms"},
    {"truncate-interval", SETTING_MILLIS, "10s", 100, 3600000, 0, "how often published leaves of the log are looked for"},
    {0}};
/* clang-format on */

static int check_short(const struct config *config, const char *name, struct error *error)
{
    const char *text = config_text(config, name);

    if (text && strlen(text) > 255)
        return error_set(error, ERROR_USAGE, RETRY_NEVER, "%s is %zu bytes long, allowed are 255",
                         name, strlen(text));
    return 0;
}

static int check(const struct config *config, struct error *error)
{
    int failed = check_short(config, "default-exchange", error);

    if (failed >= 0)
        failed = check_short(config, "app-id", error);
    if (failed < 0)
        return failed;
    if (config_us(config, "retry-cap") < config_us(config, "retry-base"))
        return error_set(error, ERROR_USAGE, RETRY_NEVER, "retry-cap (%s) is below retry-base (%s)",
                         config_text(config, "retry-cap"), config_text(config, "retry-base"));
    return 0;
}

static void read_connections(struct settings *settings, const struct config *config)
{
    settings->postgres = config_text(config, "postgres");
    settings->amqp = config_text(config, "amqp");
    settings->amqp_ca_file = config_text(config, "amqp-ca-file");
    settings->amqp_certificate_file = config_text(config, "amqp-certificate-file");
    settings->amqp_key_file = config_text(config, "amqp-key-file");
    settings->amqp_verify = config_bool(config, "amqp-verify");
    settings->amqp_heartbeat_s = (int)(config_us(config, "amqp-heartbeat") / US_PER_S);
    settings->connect_timeout_us = config_us(config, "connect-timeout");
    settings->backoff_base_us = config_us(config, "backoff-base");
    settings->backoff_cap_us = config_us(config, "backoff-cap");
}

int settings_read(struct settings *settings, const struct config *config, struct error *error)
{
    int failed = check(config, error);

    if (failed >= 0)
        failed = publish_after_parse(&settings->publish_after, config_text(config, "publish-after"),
                                     error);
    if (failed < 0)
        return failed;
    read_connections(settings, config);
    settings->share = (int32_t)config_count(config, "share");
    settings->lease_term_us = config_us(config, "lease-term");
    settings->window = (uint32_t)config_count(config, "window");
    settings->read_ahead_rows = (uint32_t)config_count(config, "read-ahead-rows");
    settings->read_ahead_bytes = config_count(config, "read-ahead-bytes");
    settings->position_interval_us = config_us(config, "position-interval");
    settings->confirm_timeout_us = config_us(config, "confirm-timeout");
    settings->silent_after_us = config_us(config, "silent-after");
    settings->drain_timeout_us = config_us(config, "drain-timeout");
    settings->wakeup_by_notify = strcmp(config_text(config, "wakeup"), "notify") == 0;
    settings->poll_interval_us = config_us(config, "poll-interval");
    settings->fallback_interval_us = config_us(config, "fallback-interval");
    settings->truncate_interval_us = config_us(config, "truncate-interval");
    settings->default_exchange = config_text(config, "default-exchange");
    settings->app_id = config_text(config, "app-id");
    settings->cloud_events_source = config_text(config, "cloudevents-source");
    settings->cloud_events = config_bool(config, "cloudevents");
    settings->pipelined = strcmp(config_text(config, "order"), "pipelined") == 0;
    settings->limits.grace_us = config_us(config, "unroutable-grace");
    settings->limits.retry_base_us = config_us(config, "retry-base");
    settings->limits.retry_cap_us = config_us(config, "retry-cap");
    settings->parked_rows = (uint32_t)config_count(config, "parked-rows");
    return 0;
}
