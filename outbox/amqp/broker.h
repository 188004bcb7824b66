/* broker.h: one connection with one channel to RabbitMQ on the loop: connects, reconnects,
 * publishes, confirms, consumes.
 *
 * Publish and consume on separate sessions: a broker that blocks publishers stops reading the whole
 * socket. rabbitmq-c does the handshake, TLS and reading; what goes out is encoded into one buffer
 * and sent without blocking, before the loop sleeps. Opening is the only time that blocks, within
 * connect_timeout for each answer: on_up is called right after it, and inside on_up (only) the
 * broker_declare/bind/consume/exists calls, which are request and answer, may be used. What is
 * published or acknowledged inside on_up goes out after it.
 *
 * on_down is called once per loss, with the reason: `why->amqp_code` holds the code when the broker
 * closed the channel or the connection, `channel_only` says that just the channel was lost. Every
 * unconfirmed tag and every unacknowledged delivery is then void. The session restores what was
 * lost and calls on_up again; tags start again at 1. With several URIs, the nodes of a cluster, an
 * attempt tries one after the other without a pause and fails only when all of them have; after a
 * loss it begins with the node behind the one that was lost. A channel is reopened at once, after
 * the third time without any confirm or delivery with a pause; a connection always after a pause,
 * which grows until one worked (a confirm, a delivery, or half a minute). `why->retry` is for the
 * log: the session tries again whatever it says.
 *
 * A loss is acted on before the loop sleeps, never inside a call of yours: after broker_reconnect,
 * broker_replace_channel or a refused request broker_is_up is false at once, and on_down follows. A
 * session must not be destroyed inside one of its own callbacks.
 *
 * Heartbeats are ours: sent at half the interval, and a peer silent for two intervals is a loss.
 * connection.blocked is a state: broker_can_publish is false until it is lifted; a loss lifts it
 * too (on_blocked comes before on_down). */
#ifndef SAGAPOST_AMQP_BROKER_H
#define SAGAPOST_AMQP_BROKER_H

#include "outbox/runtime/loop.h"
#include <stddef.h>
#include <stdint.h>

struct broker;

/* broker.h, continued: the fence. broker_fence wants the exclusive queue `queue` for this
 * connection, and a consumer on it: a queue that is gone ends the connection (basic.cancel). It is
 * asked for at once, or as soon as there is a connection, and on each new one. As long as another
 * connection has it (405) it is asked for again, after pauses of 10 to 300 ms. on_fence tells:
 * NULL, it is held; otherwise why it is not yet. A lost connection is a lost fence (on_down), a
 * lost channel is not. `beside` (may be NULL): before the fence is taken, nobody holds that queue
 * either. broker_unfence wants it no longer and drops the connection, since nothing else frees the
 * queue for certain. The user needs configure and read on both names. */

#define BROKER_SHORT_STRING_BYTES_MAX                                                              \
    255 /* exchange, routing key, type, message-id ... (AMQP 0-9-1, 4.2.5.3) */

struct broker_text {
    const char *text;
    size_t bytes;
};

enum broker_value_kind { BROKER_TEXT, BROKER_INT, BROKER_REAL, BROKER_BOOL, BROKER_NULL };

struct broker_header {
    struct broker_text name;
    enum broker_value_kind kind;
    struct broker_text text;
    int64_t integer; /* INT, BOOL */
    double real;
};

/* A property with text == NULL is left out. */
struct broker_message {
    struct broker_text exchange, routing_key;
    bool mandatory, persistent;
    struct broker_text message_id, type, content_type, correlation_id, reply_to, app_id;
    int64_t timestamp_s; /* 0: left out */
    const struct broker_header *headers;
    int header_count;
    const void *body;
    size_t body_bytes;
};

struct broker_delivery {
    uint64_t tag;
    bool redelivered;
    struct broker_text exchange, routing_key;
    struct broker_text message_id, type, content_type, correlation_id, reply_to;
    struct broker_text body; /* good until the callback returns */
};

struct broker_return {
    int code; /* 312 no route, 313 no consumers */
    struct broker_text text, exchange, routing_key, message_id;
};

struct broker_options {
    const char *uri; /* amqp[s]://user:password@host:port/vhost?..., or a list of them; its query,
                        where it says something, beats the options below (outbox/amqp/uri.h) */
    const char *connection_name; /* shown by the management plugin */
    const char *ca_file, *certificate_file,
        *key_file;    /* TLS; NULL: the system's CAs, no client certificate */
    bool verify_peer; /* TLS: certificate and host name; on by default everywhere */
    int heartbeat_s;
    int64_t connect_timeout_us;
    /* At most this, whatever the URI says; 0: no limit. */
    int heartbeat_max_s;
    int64_t connect_timeout_max_us;
    int64_t backoff_base_us, backoff_cap_us;
    size_t out_bytes_max; /* with so much waiting to be sent broker_can_publish is false; the
                             message that passes it is still taken */
    bool confirms;        /* confirm.select */
    void (*on_up)(void *data, struct broker *broker);
    void (*on_down)(void *data, struct broker *broker, const struct error *why,
                    bool channel_only); /* failed attempts too */
    void (*on_confirm)(void *data, uint64_t tag, bool multiple, bool acked);
    void (*on_return)(
        void *data, const struct broker_return *returned); /* before the ack of the same message */
    void (*on_delivery)(void *data, const struct broker_delivery *delivery);
    void (*on_cancel)(
        void *data,
        const char *consumer_tag); /* the broker cancelled a consumer: its queue is gone */
    void (*on_fence)(void *data, const struct error *why);            /* NULL: held */
    void (*on_blocked)(void *data, bool blocked, const char *reason); /* reason: NULL when lifted */
    void (*on_writable)(
        void *data); /* broker_can_publish became true again after the buffer was full */
    void *data;
};

int broker_create(struct broker **ret_broker, struct loop *loop,
                  const struct broker_options *options,
                  struct error *error) MUST_CHECK; /* a bad URI is ERROR_USAGE */
void broker_start(struct broker *broker);
void broker_reconnect(struct broker *broker, const char *why);
/* Closes the channel and opens another on the same connection: on_down (`channel_only`) and on_up
 * follow. The fence stays. Nothing is void where nothing was unsettled. */
void broker_replace_channel(struct broker *broker, const char *why);
void broker_destroy(
    struct broker *broker); /* closes in good order when it can within a second; NULL is fine */
bool broker_is_up(const struct broker *broker);
bool broker_is_blocked(const struct broker *broker);
bool broker_can_publish(const struct broker *broker);
unsigned broker_attempts(const struct broker *broker); /* failures since a connection worked */

/* Queues one message; it is sent before the loop sleeps, or by broker_flush. ret_tag: its delivery
 * tag, 1, 2, 3 ... on this channel. RETRY_POISON: this message cannot be carried at all (a short
 * string over 255 bytes, headers over frame_max, a body over 512 MiB). ERROR_STATE:
 * broker_can_publish is false. A message that is refused takes no tag. */
int broker_publish(struct broker *broker, const struct broker_message *message, uint64_t *ret_tag,
                   struct error *error) MUST_CHECK;
void broker_flush(struct broker *broker);

void broker_ack(struct broker *broker, uint64_t tag, bool multiple);
void broker_reject(struct broker *broker,
                   uint64_t tag); /* without requeue: to the dead-letter exchange */

void broker_fence(struct broker *broker, const char *queue, const char *beside);
void broker_unfence(struct broker *broker, const char *why);
bool broker_is_fenced(const struct broker *broker);

/* Only inside on_up. A refusal is also a lost channel: return from on_up, and on_down follows. */
struct broker_argument {
    const char *name;
    const char *text; /* NULL: integer */
    int64_t integer;
};
int broker_declare_exchange(struct broker *broker, const char *name, const char *type, bool durable,
                            struct error *error) MUST_CHECK;
int broker_declare_queue(struct broker *broker, const char *name, bool durable, bool exclusive,
                         const struct broker_argument *arguments, int argument_count,
                         struct error *error) MUST_CHECK;
int broker_bind_queue(struct broker *broker, const char *queue, const char *exchange,
                      const char *routing_key, struct error *error) MUST_CHECK;
/* Whether it exists, asked on a channel of its own: *ret_exists; messages and consumers of a queue
 * when wanted (may be NULL). Another connection's exclusive queue exists, with 0 and 0. An answer
 * of any other kind, above all 403, is an error but no loss. */
int broker_exchange_exists(struct broker *broker, const char *name, bool *ret_exists,
                           struct error *error) MUST_CHECK;
int broker_queue_exists(struct broker *broker, const char *name, bool *ret_exists,
                        int64_t *ret_messages, int64_t *ret_consumers,
                        struct error *error) MUST_CHECK;
/* prefetch: from 1 to 65535 deliveries of this consumer may wait for their acknowledgement. */
int broker_consume(struct broker *broker, const char *queue, const char *consumer_tag,
                   bool exclusive, int prefetch, struct error *error) MUST_CHECK;

#endif
