/* settings.h: what can be set, as one table, and the values as the relay uses them. */
#ifndef SAGAPOST_RELAY_SETTINGS_H
#define SAGAPOST_RELAY_SETTINGS_H

#include "outbox/relay/publishing/outcome.h"
#include "outbox/relay/reading/publish_after.h"
#include "outbox/runtime/config.h"

/* Rows that say how a message looks: the relay's, and those of whoever sends its messages again. */
/* clang-format off */
#define SETTINGS_OF_MESSAGES                                                                       \
    {"default-exchange", SETTING_TEXT, "", 0, 0, 0,                                                \
     "exchange of messages that neither name one nor have one by outbox.route; empty: RabbitMQ's " \
     "default exchange", NULL},                                                                    \
    {"app-id", SETTING_TEXT, "sagapost", 0, 0, 0, "property app-id of messages; empty: none", NULL}, \
    {"cloudevents", SETTING_BOOL, "on", 0, 0, 0, "CloudEvents attributes as headers", NULL},       \
    {"cloudevents-source", SETTING_TEXT, "/sagapost", 0, 0, 0, "their attribute source", NULL}
/* clang-format on */

extern const struct setting relay_settings[];

struct settings {
    /* connections */
    const char *postgres, *amqp;
    const char *amqp_ca_file, *amqp_certificate_file, *amqp_key_file;
    bool amqp_verify;
    int amqp_heartbeat_s;
    int64_t connect_timeout_us, backoff_base_us, backoff_cap_us;
    /* the share */
    int32_t share;
    int64_t lease_term_us;
    struct publish_after publish_after;
    /* the pipeline */
    uint32_t window, read_ahead_rows;
    int64_t read_ahead_bytes;
    int64_t position_interval_us, confirm_timeout_us, silent_after_us, drain_timeout_us;
    bool wakeup_by_notify;
    int64_t poll_interval_us, fallback_interval_us, truncate_interval_us;
    /* messages */
    const char *default_exchange, *app_id, *cloud_events_source;
    bool pipelined, cloud_events;
    /* what is refused */
    struct outcome_limits limits;
    uint32_t parked_rows;
};

/* Texts stay the config's. */
int settings_read(struct settings *settings, const struct config *config,
                  struct error *error) MUST_CHECK;

#endif
