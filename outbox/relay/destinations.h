/* destinations.h: the exchanges that messages went to, and which of them the broker last closed a
 * channel over.
 *
 * Publishing to an exchange that does not exist closes the channel, and everything in flight on it
 * has to be sent again. So once that has happened, messages to that exchange are set aside without
 * being sent, until one of them, tried on the channel that is kept for such attempts, is taken.
 *
 * Limits: DESTINATIONS_MAX exchanges; those past it share number 0, which is never closed. */
#ifndef SAGAPOST_RELAY_DESTINATIONS_H
#define SAGAPOST_RELAY_DESTINATIONS_H

#include "outbox/amqp/broker.h"
#include "outbox/relay/outcome.h"

#define DESTINATIONS_MAX         256
#define DESTINATION_OTHER        0
#define DESTINATION_DETAIL_BYTES 256

struct destinations;

struct destination {
    char exchange[BROKER_SHORT_STRING_BYTES_MAX + 1];
    size_t exchange_bytes;
    bool closed;
    enum outcome outcome; /* of messages to it while it is closed */
    char detail[DESTINATION_DETAIL_BYTES];
};

int destinations_create(struct destinations **ret_destinations, struct error *error) MUST_CHECK;
void destinations_destroy(struct destinations *destinations); /* NULL is fine */
uint16_t destinations_number(struct destinations *destinations, struct broker_text exchange);
uint16_t destinations_count(const struct destinations *destinations); /* numbers are below it */
struct destination *destinations_get(struct destinations *destinations, uint16_t number);

/* Whether the broker's text about a closed channel names this exchange: "no exchange 'x' in vhost
 * '/'", "access to exchange 'x' in vhost '/' refused for user 'y'". Source: rabbit_misc and
 * rabbit_access_control of RabbitMQ 3.10 to 4.1. */
bool destination_is_named(const struct destination *destination, const char *text);

#endif
