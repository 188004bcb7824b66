#include "outbox/runtime/log.h"

#include "outbox/runtime/clock.h"
#include "outbox/runtime/utf8.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define VALUE_BYTES_MAX 4096
#define LINE_BYTES_MAX  65536
/* Kept free for the mark of a cut line and the end of it. */
#define LINE_TAIL_BYTES 32

static struct {
    enum log_level least;
    enum log_format format;
    int fd;
} settings = {LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT, STDERR_FILENO};

/* The line being made. A part that does not fit sets `full`, and the field it belongs to is taken
 * back whole, so that a cut line still parses. */
struct line {
    char text[LINE_BYTES_MAX];
    size_t length;
    bool full;
};

void log_configure(enum log_level least, enum log_format format, int fd)
{
    settings.least = least;
    settings.format = format;
    settings.fd = fd;
}

static void put_bytes(struct line *line, const char *bytes, size_t count)
{
    if (count > LINE_BYTES_MAX - LINE_TAIL_BYTES - line->length) {
        line->full = true;
        return;
    }
    memcpy(line->text + line->length, bytes, count);
    line->length += count;
}

static void put_text(struct line *line, const char *text)
{
    put_bytes(line, text, strlen(text));
}

PRINTF_LIKE(2, 3)
static void put_format(struct line *line, const char *format, ...)
{
    char text[128];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    put_text(line, text);
}

/* The inside of a quoted value. Both formats use JSON's escapes; what is not UTF-8 becomes U+FFFD.
 */
static void put_escaped(struct line *line, const char *text, size_t bytes)
{
    size_t i = 0;

    while (i < bytes) {
        uint32_t character;
        size_t length = utf8_decode(text + i, bytes - i, &character);
        if (!length) {
            put_text(line, "\xef\xbf\xbd");
            length = 1;
        } else if (character == '"' || character == '\\') {
            put_format(line, "\\%c", (int)character);
        } else if (character == '\n') {
            put_text(line, "\\n");
        } else if (character == '\r') {
            put_text(line, "\\r");
        } else if (character == '\t') {
            put_text(line, "\\t");
        } else if (utf8_is_control(character)) {
            put_format(line, "\\u%04x", (unsigned)character);
        } else {
            put_bytes(line, text + i, length);
        }
        i += length;
    }
}

static bool needs_quotes(const char *text, size_t bytes)
{
    size_t i = 0;

    if (!bytes)
        return true;
    while (i < bytes) {
        uint32_t character;
        size_t length = utf8_decode(text + i, bytes - i, &character);
        if (!length || utf8_is_control(character) ||
            (length == 1 && strchr(" =\"\\", (int)character)))
            return true;
        i += length;
    }
    return false;
}

/* At most VALUE_BYTES_MAX, and then not in the middle of a character. */
static size_t value_bytes(const char *text)
{
    size_t bytes = strnlen(text, VALUE_BYTES_MAX + 1);

    if (bytes <= VALUE_BYTES_MAX)
        return bytes;
    bytes = VALUE_BYTES_MAX;
    while (bytes > VALUE_BYTES_MAX - UTF8_BYTES_MAX && ((uint8_t)text[bytes] & 0xc0) == 0x80)
        bytes--;
    return bytes;
}

static void put_string(struct line *line, const char *text)
{
    size_t bytes;
    bool quotes;

    if (!text) {
        put_text(line, "null");
        return;
    }
    bytes = value_bytes(text);
    quotes = settings.format == LOG_FORMAT_JSON || needs_quotes(text, bytes);
    if (quotes)
        put_text(line, "\"");
    put_escaped(line, text, bytes);
    if (text[bytes])
        put_text(line, "...");
    if (quotes)
        put_text(line, "\"");
}

static void put_value(struct line *line, const struct log_field *field)
{
    switch (field->type) {
    case LOG_FIELD_STR:
        put_string(line, field->str);
        break;
    case LOG_FIELD_INT:
        put_format(line, "%lld", (long long)field->integer);
        break;
    case LOG_FIELD_REAL:
        if (isfinite(field->real))
            put_format(line, "%.9g", field->real);
        else
            put_text(line, "null"); /* JSON has no other word for it */
        break;
    case LOG_FIELD_BOOL:
        put_text(line, field->integer ? "true" : "false");
        break;
    }
}

static void put_name(struct line *line, const char *name)
{
    if (settings.format == LOG_FORMAT_JSON) {
        put_text(line, ",\"");
        put_escaped(line, name, strlen(name));
        put_text(line, "\":");
    } else {
        put_text(line, " ");
        put_text(line, name);
        put_text(line, "=");
    }
}

static void put_head(struct line *line, enum log_level level, const char *message)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    int64_t now_us = clock_wall_us(&clock_system);
    time_t seconds = (time_t)(now_us / US_PER_S);
    struct tm utc;
    char time_text[32];

    gmtime_r(&seconds, &utc);
    strftime(time_text, sizeof(time_text), "%Y-%m-%dT%H:%M:%S", &utc);
    if (settings.format == LOG_FORMAT_JSON) {
        put_format(line, "{\"ts\":\"%s.%06dZ\",\"level\":\"%s\"", time_text,
                   (int)(now_us % US_PER_S), names[level]);
        put_name(line, "msg");
        put_string(line, message);
    } else {
        put_format(line, "%s.%06dZ %s msg=\"", time_text, (int)(now_us % US_PER_S), names[level]);
        put_escaped(line, message, value_bytes(message));
        put_text(line, "\"");
    }
}

static void write_line(const struct line *line)
{
    size_t done = 0;

    while (done < line->length) {
        ssize_t count = write(settings.fd, line->text + done, line->length - done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return; /* nobody can be told */
        done += (size_t)count;
    }
}

void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
    static struct line line;
    const struct log_field *field;
    bool cut = false;
    const char *tail;
    int saved_errno = errno;

    if (level < settings.least)
        return;
    line.length = 0;
    line.full = false;
    put_head(&line, level, message);
    for (field = fields; field->name; field++) {
        size_t before = line.length;
        put_name(&line, field->name);
        put_value(&line, field);
        if (line.full) {
            line.length = before;
            line.full = false;
            cut = true;
        }
    }
    if (settings.format == LOG_FORMAT_JSON)
        tail = cut ? ",\"cut\":true}\n" : "}\n";
    else
        tail = cut ? " cut=true\n" : "\n";
    memcpy(line.text + line.length, tail, strlen(tail));
    line.length += strlen(tail);
    write_line(&line);
    errno = saved_errno;
}
