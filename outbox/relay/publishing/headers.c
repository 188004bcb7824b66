#include "outbox/relay/publishing/headers.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct cursor {
    const char *start, *at, *end;
    const char *wrong; /* sticky: what was expected at `at` */
};

static int peek(struct cursor *cursor)
{
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\n' ||
                                        *cursor->at == '\t' || *cursor->at == '\r'))
        cursor->at++;
    return cursor->at < cursor->end ? (unsigned char)*cursor->at : -1;
}

static void fail(struct cursor *cursor, const char *wrong)
{
    if (!cursor->wrong)
        cursor->wrong = wrong;
    cursor->end = cursor->at;
}

static bool take(struct cursor *cursor, char wanted)
{
    if (cursor->wrong || peek(cursor) != (unsigned char)wanted)
        return false;
    cursor->at++;
    return true;
}

/* Four hexadecimal digits, or -1. */
static int32_t hexadecimal(const char *at, const char *end)
{
    int32_t value = 0;

    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char digit = at[i];

        if (digit >= '0' && digit <= '9')
            value = value * 16 + (digit - '0');
        else if (digit >= 'a' && digit <= 'f')
            value = value * 16 + (digit - 'a' + 10);
        else if (digit >= 'A' && digit <= 'F')
            value = value * 16 + (digit - 'A' + 10);
        else
            return -1;
    }
    return value;
}

static void put_byte(struct headers *headers, struct cursor *cursor, int32_t byte)
{
    if (headers->text_bytes == sizeof(headers->text))
        fail(cursor, "headers of at most 32768 bytes");
    else
        headers->text[headers->text_bytes++] = (char)byte;
}

static void put_code_point(struct headers *headers, struct cursor *cursor, int32_t point)
{
    if (point < 0x80) {
        put_byte(headers, cursor, point);
    } else if (point < 0x800) {
        put_byte(headers, cursor, 0xc0 | (point >> 6));
        put_byte(headers, cursor, 0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        put_byte(headers, cursor, 0xe0 | (point >> 12));
        put_byte(headers, cursor, 0x80 | ((point >> 6) & 0x3f));
        put_byte(headers, cursor, 0x80 | (point & 0x3f));
    } else {
        put_byte(headers, cursor, 0xf0 | (point >> 18));
        put_byte(headers, cursor, 0x80 | ((point >> 12) & 0x3f));
        put_byte(headers, cursor, 0x80 | ((point >> 6) & 0x3f));
        put_byte(headers, cursor, 0x80 | (point & 0x3f));
    }
}

/* After "\u": one code point, of two escapes for those beyond 16 bits. */
static void take_unicode(struct headers *headers, struct cursor *cursor)
{
    int32_t point = hexadecimal(cursor->at, cursor->end);
    int32_t low;

    if (point <= 0 || (point >= 0xdc00 && point <= 0xdfff)) {
        fail(cursor, "an escape of a character");
        return;
    }
    cursor->at += 4;
    if (point >= 0xd800 && point <= 0xdbff) {
        low = cursor->end - cursor->at >= 6 && cursor->at[0] == '\\' && cursor->at[1] == 'u'
                  ? hexadecimal(cursor->at + 2, cursor->end)
                  : -1;
        if (low < 0xdc00 || low > 0xdfff) {
            fail(cursor, "the second half of a surrogate pair");
            return;
        }
        cursor->at += 6;
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    }
    put_code_point(headers, cursor, point);
}

/* After a backslash. */
static void take_escape(struct headers *headers, struct cursor *cursor)
{
    static const char plain[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *found = cursor->at < cursor->end && *cursor->at ? strchr(plain, *cursor->at) : NULL;

    if (found) {
        cursor->at++;
        put_byte(headers, cursor, meant[found - plain]);
    } else if (cursor->at < cursor->end && *cursor->at == 'u') {
        cursor->at++;
        take_unicode(headers, cursor);
    } else {
        fail(cursor, "an escape");
    }
}

static struct broker_text take_string(struct headers *headers, struct cursor *cursor)
{
    const char *start;
    size_t text_start = headers->text_bytes;

    if (!take(cursor, '"')) {
        fail(cursor, "a string");
        return (struct broker_text){0};
    }
    start = cursor->at;
    while (cursor->at < cursor->end && *cursor->at != '"' && *cursor->at != '\\' &&
           (unsigned char)*cursor->at >= 0x20)
        cursor->at++;
    if (cursor->at < cursor->end && *cursor->at == '"')
        return (struct broker_text){start, (size_t)(cursor->at++ - start)};
    for (const char *byte = start; byte < cursor->at; byte++)
        put_byte(headers, cursor, *byte);
    while (cursor->at < cursor->end && *cursor->at != '"') {
        if (*cursor->at == '\\') {
            cursor->at++;
            take_escape(headers, cursor);
        } else if ((unsigned char)*cursor->at < 0x20) {
            fail(cursor, "an escape for a control character");
        } else {
            put_byte(headers, cursor, *cursor->at++);
        }
    }
    if (!take(cursor, '"'))
        fail(cursor, "the end of a string");
    return (struct broker_text){headers->text + text_start, headers->text_bytes - text_start};
}

static const char *skip_digits(const char *at, const char *end)
{
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at;
}

/* The end of an RFC 8259 number at `at`, or NULL; ret_whole: it has neither fraction nor exponent.
 */
static const char *end_of_number(const char *at, const char *end, bool *ret_whole)
{
    const char *digits;

    *ret_whole = true;
    if (at < end && *at == '-')
        at++;
    digits = at;
    at = skip_digits(at, end);
    if (at == digits || (*digits == '0' && at - digits > 1))
        return NULL;
    if (at < end && *at == '.') {
        *ret_whole = false;
        digits = ++at;
        at = skip_digits(at, end);
        if (at == digits)
            return NULL;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        *ret_whole = false;
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        digits = at;
        at = skip_digits(at, end);
        if (at == digits)
            return NULL;
    }
    return at;
}

static void take_number(struct cursor *cursor, struct broker_header *header)
{
    char copy[512]; /* strtod wants a NUL; a longer number is no int64, and no double that somebody
                       meant */
    bool whole;
    const char *end = end_of_number(cursor->at, cursor->end, &whole);
    size_t bytes = end ? (size_t)(end - cursor->at) : 0;

    if (!end || bytes >= sizeof(copy)) {
        fail(cursor, "a number");
        return;
    }
    memcpy(copy, cursor->at, bytes);
    copy[bytes] = '\0';
    errno = 0;
    if (whole) {
        header->kind = BROKER_INT;
        header->integer = strtoll(copy, NULL, 10);
    } else {
        header->kind = BROKER_REAL;
        header->real = strtod(copy, NULL);
    }
    if (errno == ERANGE && (whole || !isfinite(header->real))) {
        fail(cursor, "a number that fits");
        return;
    }
    cursor->at = end;
}

static bool take_word(struct cursor *cursor, const char *word)
{
    size_t bytes = strlen(word);

    if ((size_t)(cursor->end - cursor->at) < bytes || memcmp(cursor->at, word, bytes) != 0)
        return false;
    cursor->at += bytes;
    return true;
}

static void take_value(struct headers *headers, struct cursor *cursor, struct broker_header *header)
{
    int first = peek(cursor);

    if (first == '"') {
        header->kind = BROKER_TEXT;
        header->text = take_string(headers, cursor);
    } else if (first == '-' || (first >= '0' && first <= '9')) {
        take_number(cursor, header);
    } else if (take_word(cursor, "true") || take_word(cursor, "false")) {
        header->kind = BROKER_BOOL;
        header->integer = first == 't';
    } else if (take_word(cursor, "null")) {
        header->kind = BROKER_NULL;
    } else {
        fail(cursor, "text, a number, true, false or null");
    }
}

static void take_member(struct headers *headers, struct cursor *cursor)
{
    struct broker_header *header = &headers->list[headers->count];

    if (headers->count == HEADERS_MAX) {
        fail(cursor, "at most 2400 headers");
        return;
    }
    *header = (struct broker_header){0};
    peek(cursor);
    header->name = take_string(headers, cursor);
    if (!cursor->wrong && header->name.bytes > BROKER_SHORT_STRING_BYTES_MAX)
        fail(cursor, "a name of at most 255 bytes");
    if (!take(cursor, ':'))
        fail(cursor, "a colon");
    if (!cursor->wrong)
        take_value(headers, cursor, header);
    if (!cursor->wrong)
        headers->count++;
}

int headers_read(struct headers *headers, const char *json, size_t bytes, struct error *error)
{
    struct cursor cursor = {.start = json, .at = json, .end = json + bytes};

    headers->count = 0;
    headers->text_bytes = 0;
    if (!take(&cursor, '{'))
        fail(&cursor, "an object");
    if (!cursor.wrong && !take(&cursor, '}')) {
        do
            take_member(headers, &cursor);
        while (take(&cursor, ','));
        if (!take(&cursor, '}'))
            fail(&cursor, "a comma or the end of the object");
    }
    if (!cursor.wrong && peek(&cursor) >= 0)
        fail(&cursor, "nothing after the object");
    if (cursor.wrong)
        return error_set(error, ERROR_PROTOCOL, RETRY_POISON, "headers, byte %td: expected %s",
                         cursor.at - cursor.start, cursor.wrong);
    return 0;
}

bool headers_has(const struct headers *headers, const char *name)
{
    size_t bytes = strlen(name);

    for (int i = 0; i < headers->count; i++)
        if (headers->list[i].name.bytes == bytes &&
            memcmp(headers->list[i].name.text, name, bytes) == 0)
            return true;
    return false;
}
