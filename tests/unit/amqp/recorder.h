/* recorder.h: a session whose every callback is written down, and a loop that turns until something
 * is true. */
#ifndef SAGAPOST_TESTS_AMQP_RECORDER_H
#define SAGAPOST_TESTS_AMQP_RECORDER_H

#include "outbox/amqp/broker.h"
#include "tests/unit/amqp/cmocka_with.h"

#define RECORDER_TAGS_MAX 65536

struct recorder {
    struct clock_fake clock; /* of recorder_init_turned */
    struct loop *loop;
    struct broker *broker;
    struct broker_options options; /* change it before recorder_start */

    int ups, downs, channel_downs, cancels, returns, deliveries, blocks, unblocks, writables;
    struct error why, first_why; /* of the last on_down, and of the first */
    int acked, nacked;
    uint64_t settled_up_to; /* every tag up to it */
    bool settled[RECORDER_TAGS_MAX];
    bool last_was_return;       /* and no confirm came since */
    bool return_before_confirm; /* of the last confirm */
    int return_code;
    char returned_id[256], cancelled[256], blocked_reason[256];

    /* of the last delivery */
    uint64_t delivery_tag;
    bool redelivered;
    char delivery_key[256], delivery_id[256], delivery_type[256], delivery_reply_to[256];
    char *delivery_body;
    size_t delivery_body_bytes;

    bool acknowledge, reject; /* each delivery at once */
    void (*on_up)(struct recorder *recorder);
    void (*on_down)(struct recorder *recorder);
    void (*on_delivery)(struct recorder *recorder);
    void *context;
};

/* Options with short times, for loopback. */
void recorder_init(struct recorder *recorder, const char *uri);
/* Time stands still but for clock_fake_advance(&recorder->clock, ...). */
void recorder_init_turned(struct recorder *recorder, const char *uri);
void recorder_start(struct recorder *recorder);
void recorder_free(struct recorder *recorder);

/* Fails the test after two minutes: for what hangs, not for machines that are slow. */
#define recorder_wait(recorder, condition) recorder_wait_s(recorder, 120, condition)
#define recorder_wait_s(recorder, seconds, condition)                                              \
    do {                                                                                           \
        int64_t recorder_end = clock_monotonic_us(&clock_system) + (seconds) * (int64_t)US_PER_S;  \
        while (!(condition)) {                                                                     \
            recorder_turn(recorder, 20 * US_PER_MS);                                               \
            if (clock_monotonic_us(&clock_system) > recorder_end)                                  \
                fail_msg("waited %d s for: %s (last down: %s)", seconds, #condition,               \
                         (recorder)->why.message);                                                 \
        }                                                                                          \
    } while (0)
void recorder_turn(struct recorder *recorder, int64_t sleep_max_us);

/* Publishes a message of a few bytes; asserts that it was taken. */
uint64_t recorder_publish(struct recorder *recorder, const char *exchange, const char *routing_key,
                          const char *message_id);
bool recorder_is_settled(const struct recorder *recorder, uint64_t tag);

struct broker_text text_of(const char *text);

#endif
