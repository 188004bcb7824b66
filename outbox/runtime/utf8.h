/* utf8.h: one character of UTF-8, checked (RFC 3629: no overlong forms, no surrogates, nothing past
 * U+10FFFF). */
#ifndef SAGAPOST_RUNTIME_UTF8_H
#define SAGAPOST_RUNTIME_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_BYTES_MAX 4

/* Bytes of the character at the start of text[bytes], and the character, or 0 where there is none
 * that is valid. */
size_t utf8_decode(const char *text, size_t bytes, uint32_t *ret_character);

/* C0, DEL and C1: the last are escape sequences to a terminal too. */
bool utf8_is_control(uint32_t character);

/* Writes a valid character (no surrogate); returns its bytes. */
size_t utf8_encode(uint32_t character, char out[UTF8_BYTES_MAX]);

#endif
