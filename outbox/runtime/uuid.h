/* uuid.h: UUIDs as 16 bytes, their text, and version 7 (RFC 9562): 48 bits of Unix milliseconds,
 * then random. */
#ifndef SAGAPOST_RUNTIME_UUID_H
#define SAGAPOST_RUNTIME_UUID_H

#include "outbox/runtime/error.h"
#include <stddef.h>
#include <stdint.h>

#define UUID_TEXT_BYTES 37 /* 36 and the NUL */

struct uuid {
    uint8_t bytes[16];
};

void uuid_v7(struct uuid *ret_uuid, int64_t wall_us);
void uuid_format(const struct uuid *uuid, char out[UUID_TEXT_BYTES]);
int uuid_parse(const char *text, size_t bytes, struct uuid *ret_uuid,
               struct error *error) MUST_CHECK;
int uuid_compare(const struct uuid *a, const struct uuid *b);

#endif
