#include "outbox/amqp/uri.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PORT_AMQP      5672
#define PORT_AMQPS     5671
#define VHOST_BYTES    255 /* a short string of the protocol */
#define HOST_BYTES     255
#define HEARTBEAT_S    65535
#define CONNECT_MS_MAX 3600000

/* What is left of the text, and where the decoded parts are put. A decoded part is never longer
 * than its source, so one block as large as the URI, and a NUL for each part, holds them all. */
struct reader {
    const char *at;
    char *room;
};

static int refuse(struct error *error, const char *what)
{
    return error_set(error, ERROR_USAGE, RETRY_NEVER, "the AMQP URI %s", what);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes [from, to) into the reader's room. */
static int decode(struct reader *reader, const char *from, const char *to, const char **ret_text,
                  struct error *error)
{
    char *start = reader->room;

    for (; from < to; from++) {
        unsigned char byte = (unsigned char)*from;

        if (byte <= ' ' || byte == 0x7f)
            return refuse(error, "holds a space or a control character; write it as %XX");
        if (byte == '%') {
            int high = to - from > 2 ? hex_value(from[1]) : -1;
            int low = to - from > 2 ? hex_value(from[2]) : -1;

            if (high < 0 || low < 0)
                return refuse(error, "holds a % that is not followed by two hexadecimal digits");
            byte = (unsigned char)(high * 16 + low);
            if (!byte)
                return refuse(error, "holds %00");
            from += 2;
        }
        *reader->room++ = (char)byte;
    }
    *reader->room++ = 0;
    *ret_text = start;
    return 0;
}

static int parse_number(const char *text, long least, long most, const char *what, long *ret_number,
                        struct error *error)
{
    char *end;
    long number;

    errno = 0;
    number = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || number < least || number > most)
        return error_set(error, ERROR_USAGE, RETRY_NEVER,
                         "the AMQP URI: %s must be a number from %ld to %ld", what, least, most);
    *ret_number = number;
    return 0;
}

static int parse_user(struct uri *uri, struct reader *reader, const char *end, struct error *error)
{
    const char *colon = memchr(reader->at, ':', (size_t)(end - reader->at));
    int r = decode(reader, reader->at, colon ? colon : end, &uri->user, error);

    if (!r && colon)
        r = decode(reader, colon + 1, end, &uri->password, error);
    return r;
}

static int parse_host(struct uri *uri, struct reader *reader, const char *end, struct error *error)
{
    const char *host = reader->at, *host_end, *port = NULL, *text = "";
    long number = 0;
    int r;

    if (host < end && *host == '[') {
        host++;
        host_end = memchr(host, ']', (size_t)(end - host));
        if (!host_end || (host_end + 1 < end && host_end[1] != ':'))
            return refuse(error, "holds an IPv6 address that does not end in ]");
        if (host_end + 1 < end)
            port = host_end + 2;
    } else {
        host_end = memchr(host, ':', (size_t)(end - host));
        if (host_end)
            port = host_end + 1;
        else
            host_end = end;
    }
    if (memchr(host, ',', (size_t)(host_end - host)))
        return refuse(error, "names a host with a comma; several nodes are several whole URIs");
    if (host_end > host) {
        r = decode(reader, host, host_end, &uri->host, error);
        if (r)
            return r;
        if (strlen(uri->host) > HOST_BYTES)
            return refuse(error, "names a host of more than 255 bytes");
    }
    if (!port)
        return 0;
    r = decode(reader, port, end, &text, error);
    if (!r)
        r = parse_number(text, 1, UINT16_MAX, "the port", &number, error);
    if (!r)
        uri->port = (uint16_t)number;
    return r;
}

static int parse_authority(struct uri *uri, struct reader *reader, struct error *error)
{
    const char *end = reader->at + strcspn(reader->at, "/?");
    const char *sign = memchr(reader->at, '@', (size_t)(end - reader->at));
    int r;

    if (sign) {
        if (memchr(sign + 1, '@', (size_t)(end - sign - 1)))
            return refuse(error, "holds more than one @; write one in a user or password as %40");
        r = parse_user(uri, reader, sign, error);
        if (r)
            return r;
        reader->at = sign + 1;
    }
    r = parse_host(uri, reader, end, error);
    reader->at = end;
    return r;
}

static int parse_vhost(struct uri *uri, struct reader *reader, struct error *error)
{
    const char *start = ++reader->at, *end = start + strcspn(start, "/?");
    int r = decode(reader, start, end, &uri->vhost, error);

    if (r)
        return r;
    if (*end == '/')
        return refuse(error, "holds a / in its vhost; write it as %2f");
    if (strlen(uri->vhost) > VHOST_BYTES)
        return refuse(error, "names a vhost of more than 255 bytes");
    uri->trailing_slash = start == end;
    reader->at = end;
    return 0;
}

static int take_parameter(struct uri *uri, const char *name, const char *value, struct error *error)
{
    long number = 0;
    int r = 0;

    if (!strcmp(name, "heartbeat")) {
        r = parse_number(value, 0, HEARTBEAT_S, "heartbeat (seconds)", &number, error);
        if (!r)
            uri->heartbeat_s = (int)number;
    } else if (!strcmp(name, "connection_timeout")) {
        r = parse_number(value, 1, CONNECT_MS_MAX, "connection_timeout (milliseconds)", &number,
                         error);
        if (!r)
            uri->connect_timeout_us = (int64_t)number * 1000;
    } else if (!strcmp(name, "cacertfile")) {
        uri->ca_file = value;
    } else if (!strcmp(name, "certfile")) {
        uri->certificate_file = value;
    } else if (!strcmp(name, "keyfile")) {
        uri->key_file = value;
    } else if (!strcmp(name, "verify")) {
        if (strcmp(value, "verify_peer") != 0 && strcmp(value, "verify_none") != 0)
            return refuse(error, "has a verify that is neither verify_peer nor verify_none");
        uri->verify_peer = !strcmp(value, "verify_peer");
    } else {
        r = error_set(error, ERROR_USAGE, RETRY_NEVER,
                      "the AMQP URI holds the unknown parameter '%.64s'; known are heartbeat, "
                      "connection_timeout, cacertfile, certfile, keyfile, verify",
                      name);
    }
    return r;
}

static int parse_query(struct uri *uri, struct reader *reader, struct error *error)
{
    do {
        const char *start = ++reader->at, *end = start + strcspn(start, "&");
        const char *equals = memchr(start, '=', (size_t)(end - start));
        const char *name = "", *value = "";
        int r;

        reader->at = end;
        if (start == end)
            continue;
        if (!equals)
            return refuse(error, "holds a parameter without a value");
        r = decode(reader, start, equals, &name, error);
        if (!r)
            r = decode(reader, equals + 1, end, &value, error);
        if (!r)
            r = take_parameter(uri, name, value, error);
        if (r)
            return r;
    } while (*reader->at == '&');
    return 0;
}

/* The bytes of the scheme at the start of the text; 0: there is none. */
static size_t scheme_bytes(const char *text)
{
    if (!strncasecmp(text, "amqps://", 8))
        return 8;
    return !strncasecmp(text, "amqp://", 7) ? 7 : 0;
}

static int parse(struct uri *uri, struct reader *reader, struct error *error)
{
    size_t scheme = scheme_bytes(reader->at);
    int r;

    if (strchr(reader->at, '#'))
        return refuse(error, "holds a #; write one in a user, password or vhost as %23");
    if (!scheme)
        return refuse(error, "must begin with amqp:// or amqps://");
    if (scheme == strlen("amqps://")) {
        uri->tls = true;
        uri->port = PORT_AMQPS;
    }
    reader->at += scheme;
    r = parse_authority(uri, reader, error);
    if (!r && *reader->at == '/')
        r = parse_vhost(uri, reader, error);
    if (!r && *reader->at == '?')
        r = parse_query(uri, reader, error);
    assert(r || !*reader->at);
    return r;
}

int uri_parse(struct uri *ret_uri, const char *text, struct error *error)
{
    struct uri uri = {
        .user = "guest",
        .password = "guest",
        .host = "localhost",
        .vhost = "/",
        .port = PORT_AMQP,
        .verify_peer = -1,
        .heartbeat_s = -1,
        .connect_timeout_us = -1,
    };
    struct reader reader;
    size_t bytes = strlen(text);
    int r;

    if (bytes > URI_BYTES_MAX)
        return refuse(error, "is longer than 8192 bytes");
    /* Each part loses at least its delimiter and gains a NUL; the first has the scheme to spare. */
    uri.storage = malloc(bytes + 1);
    if (!uri.storage)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "out of memory");
    uri.storage_bytes = bytes + 1;
    reader = (struct reader){.at = text, .room = uri.storage};
    r = parse(&uri, &reader, error);
    if (r)
        uri_free(&uri);
    else
        *ret_uri = uri;
    return r;
}

void uri_free(struct uri *uri)
{
    if (uri->storage) /* it holds the password */
        explicit_bzero(uri->storage, uri->storage_bytes);
    free(uri->storage);
    uri->storage = NULL;
}

/* ---- lists ---- */

#define SEPARATORS ", \t\r\n"

/* Where the URI at the start of the text ends; *ret_next: where the next begins, or NULL. */
static size_t uri_bytes(const char *text, const char **ret_next)
{
    for (const char *at = text + strcspn(text, SEPARATORS); *at; at += strcspn(at, SEPARATORS)) {
        const char *next = at + strspn(at, SEPARATORS);

        if (scheme_bytes(next)) {
            *ret_next = next;
            return (size_t)(at - text);
        }
        at = next;
    }
    *ret_next = NULL;
    return strlen(text);
}

static int parse_one_of(struct uri_list *list, const char *text, size_t bytes, struct error *error)
{
    struct uri *uri = &list->uris[list->count];
    char *one = strndup(text, bytes);
    int r;

    if (!one)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "out of memory");
    r = uri_parse(uri, one, error);
    explicit_bzero(one, bytes); /* it holds the password */
    free(one);
    if (r)
        return r;
    list->count++;
    if (strcmp(uri->vhost, list->uris[0].vhost) != 0)
        r = refuse(error,
                   "names another vhost than the first: they are to be nodes of one cluster");
    return r;
}

int uri_list_parse(struct uri_list *ret_list, const char *text, struct error *error)
{
    struct uri_list list = {.count = 0};
    const char *next = text;
    int number = 0, r = 0;

    while (next && !r) {
        const char *start = next;
        size_t bytes = uri_bytes(start, &next);

        number++;
        if (list.count == URI_LIST_MAX)
            r = refuse(error, "is one of more than 16");
        else
            r = parse_one_of(&list, start, bytes, error);
        if (r && (next || number > 1))
            r = error_context(error, "URI %d of a list", number);
    }
    if (r)
        uri_list_free(&list);
    else
        *ret_list = list;
    return r;
}

void uri_list_free(struct uri_list *list)
{
    while (list->count > 0)
        uri_free(&list->uris[--list->count]);
}
