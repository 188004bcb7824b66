/* internal.h: the inside of a session, shared by the files of this folder and by nobody else.
 *
 * States:
 *
 *     IDLE -> CONNECTING -> (login, blocking) -> UP -> REOPENING -> UP ...
 *                ^   |                           |
 *                |   v                           |
 *               WAITING <------------------------+   loss of the connection
 *
 * A failure found anywhere (a callback of the loop, a publish, a request inside on_up) is only
 * *recorded*, by broker_fail. broker_settle, the last thing every callback of the loop does, acts
 * on it: so on_down is never called from inside a call of the user, no frame is freed while a
 * callback looks at it, and a session is lost once however many things notice. */
#ifndef SAGAPOST_AMQP_INTERNAL_H
#define SAGAPOST_AMQP_INTERNAL_H

#include "outbox/amqp/broker.h"
#include "outbox/amqp/compat.h"
#include "outbox/amqp/frames.h"
#include "outbox/amqp/tls.h"
#include "outbox/amqp/uri.h"
#include "outbox/runtime/backoff.h"
#include "outbox/runtime/buffer.h"
#include <netdb.h>

#define CHANNEL       1 /* where everything happens */
#define CHANNEL_PROBE 2 /* where it is asked whether something exists */
#define CHANNEL_FENCE 3 /* where the fence's queue is declared and consumed from */

/* 128 KiB is RabbitMQ's own default; a broker that is set lower has its way. */
#define FRAME_BYTES_MAX 131072
#define FRAME_BYTES_MIN 4096 /* the least a peer may ask for (specification 4.2.3) */

/* Between attempts at a fence that another connection holds. */
#define FENCE_PAUSE_BASE_US (10 * (int64_t)US_PER_MS)
#define FENCE_PAUSE_CAP_US  (300 * (int64_t)US_PER_MS)

enum fence_state {
    FENCE_DOWN,    /* not wanted, or no connection */
    FENCE_OPENING, /* channel.open is asked, */
    FENCE_CLEARING,
    FENCE_FREEING, /* the queue beside it declared, deleted, */
    FENCE_DECLARING,
    FENCE_CONSUMING,
    FENCE_HELD,
    FENCE_PAUSED, /* refused; the timer tries again */
};

struct fence {
    enum fence_state state;
    char queue[BROKER_SHORT_STRING_BYTES_MAX + 1], beside[BROKER_SHORT_STRING_BYTES_MAX + 1];
    struct loop_timer *timer;
    struct backoff backoff;
};

enum broker_state {
    BROKER_IDLE,       /* not started */
    BROKER_WAITING,    /* until the next attempt */
    BROKER_CONNECTING, /* TCP, on the loop */
    BROKER_UP,
    BROKER_REOPENING, /* the connection stands; its channel was lost */
};

struct broker {
    struct loop *loop;
    struct broker_options options; /* strings are ours */
    struct uri_list uris;
    const struct uri *uri; /* the one in use, or tried next */
    int untried;           /* of this attempt; 0: the next one begins */
    char peer[300];        /* host:port, for messages */

    enum broker_state state;
    struct loop_timer *retry_timer; /* WAITING, CONNECTING, REOPENING */
    struct loop_timer *heartbeat_timer;
    struct loop_hook *hook;
    struct loop_fd *watch;
    struct backoff backoff;         /* of connections */
    struct backoff channel_backoff; /* of channels on one connection */

    /* CONNECTING */
    struct addrinfo *addresses, *address; /* all; the one being tried */
    int connect_fd;
    int64_t connect_deadline_us;
    struct error connect_error; /* of the last address tried */

    /* From login to loss */
    amqp_connection_state_t connection;
    struct tls tls;
    size_t frame_max;
    int64_t heartbeat_us; /* as agreed; 0: none */
    int64_t up_since_us, heard_us, sent_us;
    struct frames frames;
    struct buffer out;
    bool send_waits; /* the kernel took no more; LOOP_WRITE is asked for */
    bool was_full;   /* on_writable is owed */
    int send_errno;  /* sending failed; what the broker said may still be read */
    bool blocked;
    bool in_on_up;
    bool closing;  /* REOPENING: it is we who close the channel; the broker does not know yet */
    bool progress; /* a confirm or a delivery came since the channel was opened */
    uint64_t tag;  /* of the last message published on this channel */
    struct fence fence;

    /* Recorded by broker_fail, acted on by broker_settle */
    bool lost, lost_channel_only;
    struct error loss;
};

/* broker.c */
void broker_fail(struct broker *broker, const struct error *why, bool channel_only);
void broker_settle(struct broker *broker);
void broker_connected(struct broker *broker, int fd); /* takes the descriptor */
int64_t broker_connect_timeout_us(const struct broker *broker);

/* connect.c: a TCP connection on the loop to the next of the URIs, trying one address after the
 * other. Ends with broker_connected or broker_fail. */
void connect_begin(struct broker *broker);
void connect_next(struct broker *broker, const struct error *why); /* gives up this address */
void connect_end(struct broker *broker); /* frees what it holds; safe at any time */

/* open.c: blocking, each within the connect timeout. */
int open_connection(struct broker *broker, int fd, struct error *error) MUST_CHECK;
int open_channel(struct broker *broker, struct error *error) MUST_CHECK;
int close_channel(struct broker *broker, struct error *error) MUST_CHECK;
void open_user_timeout(struct broker *broker, bool armed); /* TCP_USER_TIMEOUT */

/* wire.c: what goes out and what comes in once the connection is open. */
bool wire_read(struct broker *broker, bool readable); /* true: there may be more, come again */
void wire_flush(struct broker *broker);
bool wire_drained(struct broker *broker); /* all is sent, and a request would not block */
void wire_drop_queued(struct broker *broker);
void wire_reset(struct broker *broker); /* forgets what was to be sent */

/* fence.c: all without blocking. */
int fence_prepare(struct broker *broker, uint64_t seed, struct error *error) MUST_CHECK;
void fence_begin(struct broker *broker); /* when it is wanted and not begun on this connection */
void fence_down(struct broker *broker);  /* the connection is gone */
void fence_take(struct broker *broker, const amqp_frame_t *frame);

/* reply.c: what rabbitmq-c or the broker said, as a struct error. */
int reply_status(const struct broker *broker, int status, const char *doing,
                 struct error *error); /* a status of rabbitmq-c; always an error */
int reply_check(const struct broker *broker, amqp_rpc_reply_t reply, const char *doing,
                bool *ret_channel_only, struct error *error) MUST_CHECK;
int reply_closed(const struct broker *broker, const char *what, int code, amqp_bytes_t text,
                 struct error *error); /* channel.close or connection.close; always an error */
#endif
