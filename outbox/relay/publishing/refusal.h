/* refusal.h: what RabbitMQ's text about a channel that it closed says of the messages on it.
 *
 * The close names no message, only a code and a text for people, and the text is all there is: whom
 * it blames can be set aside, and everybody else's messages are sent again. A text that is not
 * understood blames nobody; the culprit is then found by sending one message at a time (lane.h).
 *
 * Pure. Texts: rabbit_channel, rabbit_misc and rabbit_access_control of RabbitMQ 3.10 to 4.1. */
#ifndef SAGAPOST_RELAY_REFUSAL_H
#define SAGAPOST_RELAY_REFUSAL_H

#include "outbox/relay/publishing/outcome.h"
#include "outbox/runtime/error.h"
#include <stdint.h>

/* Whether all messages to this exchange are refused: "no exchange 'x' in vhost '/'", "access to
 * exchange 'x' in vhost '/' refused for user 'y'", "cannot publish to internal exchange 'x' ...".
 */
bool refusal_names_exchange(const struct error *why, const char *exchange);
/* Whether those with this routing key are: "access to topic 'k' in exchange 'x' in vhost ...". */
bool refusal_names_topic(const struct error *why, const char *exchange, const char *routing_key);
/* "message size 2000 is larger than configured max size 1000": 1000, what a body may have; 0: it is
 * not about that. */
uint64_t refusal_body_bytes_max(const struct error *why);
/* Of the one message that can have been meant. */
enum outcome refusal_outcome(const struct error *why);

#endif
