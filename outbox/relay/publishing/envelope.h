/* envelope.h: a row of the log as a message on the wire.
 *
 * Properties: message-id (the row's UUID), type, content-type, timestamp (created_at),
 * delivery-mode 2, app-id, correlation-id, reply-to. Headers: the row's own, then CloudEvents
 * attributes in the AMQP binding's names (cloudEvents_id, _source, _type, _specversion, _time, and
 * _subject, which is the key); one that the row has itself is left as it is. The payload is opaque.
 *
 * The memory behind the message is the envelope's and the row's: good until the next envelope_make.
 * Nothing is allocated. */
#ifndef SAGAPOST_RELAY_ENVELOPE_H
#define SAGAPOST_RELAY_ENVELOPE_H

#include "outbox/relay/publishing/headers.h"
#include "outbox/relay/rows/routes.h"

#define ENVELOPE_EVENT_HEADERS   6
#define ENVELOPE_SPARE_HEADERS   2 /* of `list`, for the owner to add after envelope_make */
#define ENVELOPE_TIME_TEXT_BYTES 32

struct envelope {
    /* Set by the owner. */
    const char *app_id;
    const char *source; /* cloudEvents_source */
    bool cloud_events;
    /* Its own. */
    struct headers headers;
    struct broker_header list[HEADERS_MAX + ENVELOPE_EVENT_HEADERS + ENVELOPE_SPARE_HEADERS];
    char message_id[UUID_TEXT_BYTES];
    char time[ENVELOPE_TIME_TEXT_BYTES];
    int64_t time_s; /* the second that stands in `time` */
};

/* RETRY_POISON: the row's headers cannot be read. */
int envelope_make(struct envelope *envelope, struct row row, const struct route *route,
                  struct broker_message *ret_message, struct error *error) MUST_CHECK;
/* RFC 3339 with microseconds, in UTC. */
void envelope_format_time(struct envelope *envelope, int64_t unix_us);
/* What a basic.return is matched by (confirm.h). */
uint64_t envelope_fingerprint(struct broker_text message_id, struct broker_text exchange,
                              struct broker_text routing_key);

#endif
