/* uri.h: amqp:// and amqps:// URIs, by RabbitMQ's rules (https://www.rabbitmq.com/uri-spec.html).
 *
 *     amqp[s]://[user[:password]@][host][:port][/vhost][?name=value&...]
 *
 * Every part may be percent-encoded. No path means the vhost "/"; a path of "/" alone names the
 * empty vhost, which RabbitMQ does not have, so `trailing_slash` is kept for the message. Defaults:
 * guest, guest, localhost, 5672 (amqps: 5671). Query: heartbeat (seconds), connection_timeout
 * (milliseconds), cacertfile, certfile, keyfile, verify (verify_peer, verify_none); any other name
 * is refused rather than ignored. amqp_parse_url of rabbitmq-c knows no query and no bytes above
 * 0x7f, and says only "bad URL"; hence this one.
 *
 * The nodes of a cluster are a list of whole URIs, separated by commas or spaces. A comma inside a
 * URI, in a password say, needs no escape: one separates only where amqp:// or amqps:// follows.
 * Users may differ, the vhost may not: elsewhere a message would be lost to those who wait for it.
 *
 * Error messages never contain the URI: it holds the password. */
#ifndef SAGAPOST_AMQP_URI_H
#define SAGAPOST_AMQP_URI_H

#include "outbox/runtime/error.h"
#include <stddef.h>
#include <stdint.h>

#define URI_BYTES_MAX 8192
#define URI_LIST_MAX  16

struct uri {
    bool tls;
    const char *user, *password, *host, *vhost;
    uint16_t port;
    bool trailing_slash; /* the vhost is empty because the URI ends in "/" */
    /* From the query; NULL, -1: not said. */
    const char *ca_file, *certificate_file, *key_file;
    int verify_peer;
    int heartbeat_s;
    int64_t connect_timeout_us;
    char *storage; /* what the pointers above point into */
    size_t storage_bytes;
};

int uri_parse(struct uri *ret_uri, const char *text, struct error *error) MUST_CHECK;
void uri_free(struct uri *uri);

struct uri_list {
    struct uri uris[URI_LIST_MAX];
    int count; /* at least 1 */
};
int uri_list_parse(struct uri_list *ret_list, const char *text, struct error *error) MUST_CHECK;
void uri_list_free(struct uri_list *list);

#endif
