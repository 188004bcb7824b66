/* destinations.h: where messages went (exchange and routing key), and which of these places take
 * none now.
 *
 * A place is closed when the broker closed a channel over it (publishing there again would do the
 * same to everything in flight), or when it confirmed nothing while others did (what is sent there
 * would take the others' part of the window). Messages to a closed place are set aside without
 * being sent. Now and then one of them, from outbox.parked, is sent all the same: once it is taken
 * the place is open again.
 *
 * Each exchange has an entry for itself, the whole, and one for each routing key that is seen with
 * it; it is closed where one of the two is.
 *
 * Limits: DESTINATIONS_MAX entries. Routing keys past KEYED_MAX are known by their exchange alone;
 * exchanges past the rest share number 0, which is never closed. */
#ifndef SAGAPOST_RELAY_DESTINATIONS_H
#define SAGAPOST_RELAY_DESTINATIONS_H

#include "outbox/amqp/broker.h"
#include "outbox/relay/publishing/outcome.h"

#define DESTINATIONS_MAX         1024
#define DESTINATIONS_KEYED_MAX   768
#define DESTINATION_OTHER        0
#define DESTINATION_DETAIL_BYTES 256

struct destinations;

struct destination {
    char exchange[BROKER_SHORT_STRING_BYTES_MAX + 1];
    char routing_key[BROKER_SHORT_STRING_BYTES_MAX + 1];
    size_t exchange_bytes, routing_key_bytes;
    uint16_t whole; /* the exchange's own entry; 0: this is one */
    bool closed;
    /* While it is closed. */
    enum outcome outcome; /* of messages to it */
    char detail[DESTINATION_DETAIL_BYTES];
    int64_t probe_us; /* no attempt before */
    unsigned probes;  /* since it was closed */
};

int destinations_create(struct destinations **ret_destinations, struct error *error) MUST_CHECK;
void destinations_destroy(struct destinations *destinations); /* NULL is fine */
uint16_t destinations_number(struct destinations *destinations, struct broker_text exchange,
                             struct broker_text routing_key);
uint16_t destinations_count(const struct destinations *destinations); /* numbers are below it */
struct destination *destinations_get(const struct destinations *destinations, uint16_t number);
/* Whether messages with this exchange and routing key go there; to a whole exchange all of it do.
 */
bool destination_is_for(const struct destination *destination, struct broker_text exchange,
                        struct broker_text routing_key);

/* What closes it: its own entry, or the one of its exchange; NULL: it is open. */
struct destination *destinations_closed(const struct destinations *destinations, uint16_t number);
/* False: it was closed already. */
bool destinations_close(struct destinations *destinations, uint16_t number, enum outcome outcome,
                        const char *detail);
/* One message is being sent there all the same. The next may go after a pause from base to cap,
 * twice as long each time. */
void destination_probed(struct destination *destination, int64_t now_us, int64_t base_us,
                        int64_t cap_us);

/* What the broker said that a body may have; 0: nothing. Forgotten where a larger one is taken. */
uint64_t destinations_body_bytes_max(const struct destinations *destinations);
void destinations_set_body_bytes_max(struct destinations *destinations, uint64_t bytes);

#endif
