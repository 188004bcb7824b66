#include "outbox/relay/publishing/refusal.h"
#include "outbox/amqp/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reply codes of AMQP 0-9-1, 1.2. */
#define CODE_ACCESS_REFUSED      403
#define CODE_NOT_FOUND           404
#define CODE_PRECONDITION_FAILED 406

#define NAME_BYTES (BROKER_SHORT_STRING_BYTES_MAX + 1)

static const char topic_access[] = "access to topic '";

bool refusal_names_exchange(const struct error *why, const char *exchange)
{
    char named[NAME_BYTES + 32];

    if (why->amqp_code != CODE_NOT_FOUND && why->amqp_code != CODE_ACCESS_REFUSED)
        return false;
    if (strstr(why->message, topic_access))
        return false; /* its other topics may be allowed */
    (void)snprintf(named, sizeof(named), "exchange '%s' in vhost '",
                   exchange[0] ? exchange : "amq.default");
    return strstr(why->message, named) != NULL;
}

bool refusal_names_topic(const struct error *why, const char *exchange, const char *routing_key)
{
    char named[2 * NAME_BYTES + 64];

    if (why->amqp_code != CODE_ACCESS_REFUSED)
        return false;
    (void)snprintf(named, sizeof(named), "%s%s' in exchange '%s' in vhost '", topic_access,
                   routing_key, exchange);
    return strstr(why->message, named) != NULL;
}

uint64_t refusal_body_bytes_max(const struct error *why)
{
    static const char before[] = "message size ", limit[] = "max size ";
    const char *size, *max;

    if (why->amqp_code != CODE_PRECONDITION_FAILED)
        return 0;
    size = strstr(why->message, before);
    max = size ? strstr(size, limit) : NULL;
    return max ? strtoull(max + sizeof(limit) - 1, NULL, 10) : 0;
}

enum outcome refusal_outcome(const struct error *why)
{
    if (why->amqp_code == CODE_NOT_FOUND)
        return OUTCOME_NO_EXCHANGE;
    if (why->amqp_code == CODE_ACCESS_REFUSED)
        return OUTCOME_NO_ACCESS;
    return refusal_body_bytes_max(why) > 0 ? OUTCOME_TOO_LARGE : OUTCOME_CLOSES;
}
