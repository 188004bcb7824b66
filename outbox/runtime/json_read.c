/* Reading what json_check found good. It trusts the structure, and still never leaves the span. */
#include "outbox/runtime/json_lexical.h"
#include "outbox/runtime/json_scan.h"
#include "outbox/runtime/utf8.h"

#include <assert.h>
#include <string.h>

static const char *after_space(const char *next, const char *end)
{
    while (next < end && json_is_space(*next))
        next++;
    return next;
}

/* `next` is at the opening quote. */
static const char *after_string(const char *next, const char *end)
{
    for (next++; next < end && *next != '"'; next++)
        if (*next == '\\')
            next++;
    return next < end ? next + 1 : end;
}

static const char *after_value(const char *next, const char *end)
{
    int depth = 0;

    do {
        if (*next == '"') {
            next = after_string(next, end);
        } else if (*next == '{' || *next == '[') {
            depth++;
            next++;
        } else if (*next == '}' || *next == ']') {
            depth--;
            next++;
        } else if (depth) {
            next++;
        } else {
            while (next < end && !json_is_space(*next) && !strchr(",]}", *next))
                next++;
        }
    } while (depth && next < end);
    return next;
}

/* `inside` is between quotes, with escapes; `name` is plain UTF-8. */
static bool name_is(const char *inside, size_t bytes, const char *name)
{
    size_t i = 0;

    while (i < bytes) {
        char encoded[UTF8_BYTES_MAX];
        const char *reason;
        uint32_t character = 0;
        size_t length = json_decode_character(inside + i, bytes - i, &character, &reason);
        size_t encoded_bytes = utf8_encode(character, encoded);
        assert(length); /* it was checked */
        if (strncmp(name, encoded, encoded_bytes) != 0)
            return false;
        name += encoded_bytes;
        i += length;
    }
    return !*name;
}

bool json_next(const struct json_span *container, const char **cursor, struct json_span *ret_name,
               struct json_span *ret_value)
{
    const char *end = container->text + container->bytes;
    const char *next = after_space(*cursor ? *cursor : container->text + 1, end);

    assert(container->kind == JSON_OBJECT || container->kind == JSON_ARRAY);
    if (*cursor && next < end && *next == ',')
        next = after_space(next + 1, end);
    if (next >= end || *next == '}' || *next == ']')
        return false;
    if (container->kind == JSON_OBJECT) {
        const char *behind = after_string(next, end);
        *ret_name = (struct json_span){next, (size_t)(behind - next), JSON_STRING};
        next = after_space(after_space(behind, end) + 1, end); /* past the colon */
    }
    *cursor = after_value(next, end);
    *ret_value = (struct json_span){next, (size_t)(*cursor - next), json_kind_of(*next)};
    return true;
}

bool json_member(const struct json_span *object, const char *name, struct json_span *ret_value)
{
    const char *cursor = NULL;
    struct json_span found, value;

    assert(object->kind == JSON_OBJECT);
    while (json_next(object, &cursor, &found, &value)) {
        if (name_is(found.text + 1, found.bytes - 2, name)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

int json_string_copy(const struct json_span *string, char *out, size_t capacity,
                     struct error *error)
{
    size_t i = 1, used = 0;

    assert(string->kind == JSON_STRING && string->bytes >= 2 && capacity > 0);
    while (i + 1 < string->bytes) {
        char encoded[UTF8_BYTES_MAX];
        const char *reason;
        uint32_t character = 0;
        size_t bytes;
        size_t length =
            json_decode_character(string->text + i, string->bytes - 1 - i, &character, &reason);
        assert(length); /* it was checked */
        i += length;
        bytes = utf8_encode(character, encoded);
        if (bytes >= capacity - used) {
            out[0] = 0;
            return error_set(error, ERROR_LIMIT, RETRY_POISON, "a string is longer than %zu bytes",
                             capacity - 1);
        }
        memcpy(out + used, encoded, bytes);
        used += bytes;
    }
    out[used] = 0;
    return 0;
}

int json_int64(const struct json_span *number, int64_t *ret_value, struct error *error)
{
    bool negative = number->bytes && number->text[0] == '-';
    size_t i = negative;
    int64_t value = 0;

    assert(number->kind == JSON_NUMBER);
    for (; i < number->bytes; i++) {
        int digit = number->text[i] - '0';
        if (!json_is_digit(number->text[i]))
            return error_set(error, ERROR_PROTOCOL, RETRY_POISON, "a number is no integer");
        /* Downwards, as there is one more negative number than positive ones. */
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, digit, &value))
            return error_set(error, ERROR_PROTOCOL, RETRY_POISON, "an integer is out of range");
    }
    if (!negative && __builtin_sub_overflow(0, value, &value))
        return error_set(error, ERROR_PROTOCOL, RETRY_POISON, "an integer is out of range");
    *ret_value = value;
    return 0;
}
