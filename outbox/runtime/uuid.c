#include "outbox/runtime/uuid.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* Asked of the kernel for each one: a pool in the process would give a forked child the same
 * UUIDs as its parent. */
static void fill_random(uint8_t *bytes, size_t count)
{
    ssize_t got;

    do
        got = getrandom(bytes, count, 0);
    while (got < 0 && errno == EINTR);
    /* Up to 256 bytes are never cut short (getrandom(2)). */
    assert(got == (ssize_t)count);
}

void uuid_v7(struct uuid *ret_uuid, int64_t wall_us)
{
    uint64_t ms = (uint64_t)(wall_us / 1000);
    int i;

    assert(wall_us >= 0);
    fill_random(ret_uuid->bytes + 6, 10);
    for (i = 0; i < 6; i++)
        ret_uuid->bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    ret_uuid->bytes[6] = (uint8_t)((ret_uuid->bytes[6] & 0x0f) | 0x70); /* version */
    ret_uuid->bytes[8] = (uint8_t)((ret_uuid->bytes[8] & 0x3f) | 0x80); /* variant */
}

static bool hyphen_before(int byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_format(const struct uuid *uuid, char out[UUID_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    char *next = out;
    int i;

    for (i = 0; i < 16; i++) {
        if (hyphen_before(i))
            *next++ = '-';
        *next++ = digits[uuid->bytes[i] >> 4];
        *next++ = digits[uuid->bytes[i] & 15];
    }
    *next = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int uuid_parse(const char *text, size_t bytes, struct uuid *ret_uuid, struct error *error)
{
    struct uuid uuid = {0};
    const char *next = text;
    int i;

    if (bytes != UUID_TEXT_BYTES - 1)
        return error_set(error, ERROR_PROTOCOL, RETRY_POISON, "a UUID has 36 characters, not %zu",
                         bytes);
    for (i = 0; i < 16; i++) {
        int high, low;
        if (hyphen_before(i) && *next++ != '-')
            break;
        high = hex_digit(next[0]);
        low = hex_digit(next[1]);
        if (high < 0 || low < 0)
            break;
        uuid.bytes[i] = (uint8_t)(high << 4 | low);
        next += 2;
    }
    if (i < 16)
        return error_set(error, ERROR_PROTOCOL, RETRY_POISON, "not a UUID: '%.36s'", text);
    *ret_uuid = uuid;
    return 0;
}

int uuid_compare(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}
