#include "outbox/runtime/json_lexical.h"

#include "outbox/runtime/utf8.h"
#include <string.h>

/* Four hexadecimal digits at text[bytes], or -1. */
static int32_t hex4(const char *text, size_t bytes)
{
    int32_t value = 0;
    int i;

    if (bytes < 4)
        return -1;
    for (i = 0; i < 4; i++) {
        char c = text[i];
        value <<= 4;
        if (c >= '0' && c <= '9')
            value |= c - '0';
        else if (c >= 'a' && c <= 'f')
            value |= c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
            value |= c - 'A' + 10;
        else
            return -1;
    }
    return value;
}

static bool is_high_surrogate(int32_t unit)
{
    return unit >= 0xd800 && unit <= 0xdbff;
}

static bool is_low_surrogate(int32_t unit)
{
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* \uXXXX or a pair of them at text[bytes], which begins behind the 'u'. Returns the bytes behind
 * the 'u', or 0 and a reason. */
static size_t decode_unicode_escape(const char *text, size_t bytes, uint32_t *ret_character,
                                    const char **ret_reason)
{
    int32_t unit = hex4(text, bytes);
    int32_t low;

    *ret_reason = "\\u wants four hexadecimal digits";
    if (unit < 0)
        return 0;
    *ret_reason = "\\u0000 is nothing PostgreSQL can store";
    if (unit == 0)
        return 0;
    *ret_reason = "half of a surrogate pair";
    if (is_low_surrogate(unit))
        return 0;
    if (!is_high_surrogate(unit)) {
        *ret_character = (uint32_t)unit;
        return 4;
    }
    if (bytes < 6 || text[4] != '\\' || text[5] != 'u')
        return 0;
    low = hex4(text + 6, bytes - 6);
    if (!is_low_surrogate(low))
        return 0;
    *ret_character = 0x10000 + ((uint32_t)(unit - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
    return 10;
}

size_t json_decode_character(const char *text, size_t bytes, uint32_t *ret_character,
                             const char **ret_reason)
{
    static const char escapes[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    const char *escape;
    size_t length;

    *ret_reason = "a control character must be escaped";
    if ((unsigned char)text[0] < 0x20)
        return 0;
    if (text[0] != '\\') {
        *ret_reason = "invalid UTF-8";
        return utf8_decode(text, bytes, ret_character);
    }
    *ret_reason = "unknown escape";
    if (bytes < 2 || !text[1])
        return 0;
    if (text[1] == 'u') {
        length = decode_unicode_escape(text + 2, bytes - 2, ret_character, ret_reason);
        return length ? length + 2 : 0;
    }
    escape = strchr(escapes, text[1]);
    if (!escape)
        return 0;
    *ret_character = (unsigned char)meanings[escape - escapes];
    return 2;
}

enum json_kind json_kind_of(char first)
{
    switch (first) {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 'n':
        return JSON_NULL;
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    default:
        return JSON_NUMBER;
    }
}
