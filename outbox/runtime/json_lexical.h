/* json_lexical.h: what checking and reading JSON share: characters (RFC 8259, section 7), white
 * space, digits. Included by json_scan.c and json_read.c alone. */
#ifndef SAGAPOST_RUNTIME_JSON_LEXICAL_H
#define SAGAPOST_RUNTIME_JSON_LEXICAL_H

#include "outbox/runtime/json_scan.h"

/* The character of a string at text[bytes], as it stands or escaped; bytes > 0. Returns how many
 * bytes of the text it takes, or 0 and the reason why it is none: a control character, invalid
 * UTF-8, an unknown escape, \u0000, half of a surrogate pair. */
size_t json_decode_character(const char *text, size_t bytes, uint32_t *ret_character,
                             const char **ret_reason);

/* Of a value, by its first character. */
enum json_kind json_kind_of(char first);

/* Take a character or -1. */
static inline bool json_is_space(int c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static inline bool json_is_digit(int c)
{
    return c >= '0' && c <= '9';
}

#endif
