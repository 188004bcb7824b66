/* json_scan.h: strict JSON (RFC 8259) from outside, checked and cut into spans, without building a
 * tree.
 *
 * For bodies that are handed on to PostgreSQL as jsonb: numbers stay the bytes they were. Refused,
 * with the byte and the reason, and never with a piece of the text, which is a payload:
 *   - anything RFC 8259 refuses, a byte order mark included;
 *   - duplicate member names in one object, compared after unescaping (jsonb would keep the last);
 *   - invalid UTF-8, \u0000, lone surrogates (jsonb refuses them);
 *   - more than depth_max levels, more than bytes_max bytes;
 *   - a number of more than 131,072 digits before the point or 16,383 behind it when it is written
 *     out (PostgreSQL's numeric; zeros in front of the first digit count);
 *   - numbers that make the document longer than bytes_max when they are written out, as numeric
 *     writes them: 1e100000 is eight bytes on the way in and a hundred thousand on the way out.
 *
 * Time is linear in the bytes, times the logarithm of the members of one object. Memory: the C
 * stack (a few KiB, whatever the depth); more than 64 member names open at once cost an allocation
 * of 16 bytes each. A reader with a sticky error: bounds-checked, fuzzed (tests/fuzz). */
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

#define JSON_DEPTH_MAX 256

struct json_limits {
    size_t bytes_max;
    int depth_max; /* from 1 to JSON_DEPTH_MAX; arrays and objects count, a scalar does not */
};

/* Checks all of `text`, one value with white space around it. ret_root (may be NULL) is the value's
 * span. ERROR_PROTOCOL or ERROR_LIMIT, both RETRY_POISON: this text can never work. */
int json_check(const char *text, size_t bytes, const struct json_limits *limits,
               struct json_span *ret_root, struct error *error) MUST_CHECK;

/* Of a checked object: the member's value, or false when there is none. The name is compared after
 * unescaping. */
bool json_member(const struct json_span *object, const char *name, struct json_span *ret_value);

/* Goes through a checked array or object in its order: false after the last. *cursor is NULL at
 * first. ret_name: of a member, its name as it stands there, quotes included; of an array's element
 * of no meaning. */
bool json_next(const struct json_span *container, const char **cursor, struct json_span *ret_name,
               struct json_span *ret_value);

/* Of a checked string: its UTF-8 with escapes resolved, NUL-terminated, into out[capacity].
 * ERROR_LIMIT when too long; out is "" then. */
int json_string_copy(const struct json_span *string, char *out, size_t capacity,
                     struct error *error) MUST_CHECK;

/* Of a checked number: an integer in range, or ERROR_PROTOCOL. 1.0 and 1e3 are no integers here. */
int json_int64(const struct json_span *number, int64_t *ret_value, struct error *error) MUST_CHECK;

#endif
