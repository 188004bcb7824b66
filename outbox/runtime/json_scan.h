/* json_scan.h: strict JSON (RFC 8259) from outside, checked and cut into spans, without building a
 * tree.
 *
 * For bodies that are handed on to PostgreSQL as jsonb: numbers stay the bytes they were. Refused,
 * with the offset and the reason: anything RFC 8259 refuses; duplicate member names in one object;
 * invalid UTF-8; \u0000 and lone surrogates (jsonb refuses them); more than depth_max levels; more
 * than bytes_max bytes; a number whose exponent or length PostgreSQL's numeric cannot hold. A
 * reader with a sticky error: bounds-checked, fuzzed (tests/fuzz). */
#ifndef SAGAPOST_RUNTIME_JSON_SCAN_H
#define SAGAPOST_RUNTIME_JSON_SCAN_H

#include "outbox/runtime/error.h"
#include <stddef.h>
#include <stdint.h>

enum json_kind {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

struct json_span {
    const char *text; /* points into the input; not NUL-terminated */
    size_t bytes;
    enum json_kind kind;
};

struct json_limits {
    size_t bytes_max;
    int depth_max;
};

/* Checks all of `text`, one value with white space around it. ret_root (may be NULL) is the value's
 * span. */
int json_check(const char *text, size_t bytes, const struct json_limits *limits,
               struct json_span *ret_root, struct error *error) MUST_CHECK;

/* Of a checked object: the member's value, or false when there is none. The name is compared after
 * unescaping. */
bool json_member(const struct json_span *object, const char *name, struct json_span *ret_value);

/* Of a checked string: its UTF-8 with escapes resolved, NUL-terminated, into out[capacity].
 * ERROR_LIMIT when too long. */
int json_string_copy(const struct json_span *string, char *out, size_t capacity,
                     struct error *error) MUST_CHECK;

/* Of a checked number: an integer in range, or ERROR_PROTOCOL. */
int json_int64(const struct json_span *number, int64_t *ret_value, struct error *error) MUST_CHECK;

#endif
