#include "outbox/runtime/address.h"

#include <ctype.h>
#include <string.h>

static bool parse_port(const char *text, uint16_t *ret_port)
{
    unsigned port = 0;
    size_t i;

    for (i = 0; isdigit((unsigned char)text[i]) && i < 5; i++)
        port = port * 10 + (unsigned)(text[i] - '0');
    if (!i || text[i] || port > UINT16_MAX)
        return false;
    *ret_port = (uint16_t)port;
    return true;
}

/* The characters of a host name, or of an IPv6 address with its zone. */
static bool host_is_plausible(const char *host, size_t bytes, bool bracketed)
{
    size_t i;

    for (i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)host[i];
        if (!isalnum(c) && !strchr(bracketed ? ".:%-_" : ".-_", c))
            return false;
    }
    return bytes > 0 && bytes <= ADDRESS_HOST_BYTES_MAX;
}

int address_parse(const char *text, struct address *ret_address, struct error *error)
{
    static const char loopback[] = "127.0.0.1";
    struct address address = {0};
    const char *colon = strrchr(text, ':');
    bool bracketed = text[0] == '[';
    const char *host = text;
    size_t bytes;

    if (!colon || !parse_port(colon + 1, &address.port))
        goto bad;
    bytes = (size_t)(colon - text);
    if (bracketed) {
        if (bytes < 2 || text[bytes - 1] != ']')
            goto bad;
        host = text + 1;
        bytes -= 2;
    } else if (!bytes) {
        host = loopback;
        bytes = strlen(loopback);
    } else if (bytes == 1 && text[0] == '*') {
        *ret_address = address;
        return 0;
    }
    if (!host_is_plausible(host, bytes, bracketed))
        goto bad;
    memcpy(address.host, host, bytes);
    *ret_address = address;
    return 0;
bad:
    return error_set(error, ERROR_USAGE, RETRY_NEVER,
                     "must be HOST:PORT, [IPV6]:PORT, *:PORT for every interface or :PORT for "
                     "loopback, not '%.300s'",
                     text);
}
