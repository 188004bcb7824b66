/* bare.h: what programs with rabbitmq-c do, and what the relay is measured against.
 *
 * One connection with one channel in confirm mode; amqp_basic_publish per message, and a frame loop
 * for the confirms. No URI but plain amqp://. Whatever fails ends the program with status 1. */
#ifndef SAGAPOST_BENCH_BARE_H
#define SAGAPOST_BENCH_BARE_H

#include "outbox/amqp/compat.h"
#include "tests/bench/sample.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Noreturn void die(const char *what, const char *why);

/* The confirms of a channel: they come out of order and may stand for many. */
struct settled {
    bool *tags; /* 1 to most */
    uint64_t most, confirmed, up_to;
};

void settled_init(struct settled *settled, uint64_t messages);
void settled_confirm(struct settled *settled, uint64_t tag, bool multiple);

struct bare {
    amqp_connection_state_t connection;
    amqp_basic_properties_t properties;
    amqp_table_entry_t headers[SAMPLE_HEADERS];
    const char *queue;
    uint64_t sent;
    struct settled settled;
};

amqp_connection_state_t bare_connect(const char *uri);
void bare_disconnect(amqp_connection_state_t connection);
void bare_check(amqp_connection_state_t connection, const char *what); /* the last answer */
/* type: classic or quorum */
void bare_declare(amqp_connection_state_t connection, const char *queue, const char *type);
void bare_delete(const char *uri, const char *queue);

/* `queue` is the routing key and the type of all messages; at most `messages` can be sent. */
void bare_start(struct bare *bare, const char *uri, const char *queue, uint64_t messages);
void bare_publish(struct bare *bare, void *body, size_t bytes);
/* Takes what confirms are there; waits for one if it must. */
void bare_confirms(struct bare *bare, bool wait);
void bare_stop(struct bare *bare);
/* That the broker has, the handshake included; those sent twice count once. */
uint64_t bare_bytes_sent(const struct bare *bare);

#endif
