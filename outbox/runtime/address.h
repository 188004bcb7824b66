/* address.h: HOST:PORT as a setting gives it: 'localhost:9090', '[::1]:9090', '*:9090' for every
 * interface, ':9090' for loopback. Port 0 lets the kernel choose. Nothing is looked up here. */
#ifndef SAGAPOST_RUNTIME_ADDRESS_H
#define SAGAPOST_RUNTIME_ADDRESS_H

#include "outbox/runtime/error.h"
#include <stdint.h>

#define ADDRESS_HOST_BYTES_MAX 255 /* a DNS name (RFC 1035, 2.3.4) */

struct address {
    char host[ADDRESS_HOST_BYTES_MAX + 1]; /* "" for every interface; without brackets */
    uint16_t port;
};

int address_parse(const char *text, struct address *ret_address, struct error *error) MUST_CHECK;

#endif
