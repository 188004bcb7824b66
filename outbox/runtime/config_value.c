/* The types of settings: text to number and back to words. */
#include "outbox/runtime/address.h"
#include "outbox/runtime/config_private.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TEXT_BYTES_MAX 8192

struct unit {
    const char *name;
    int64_t factor;
};

/* Largest first, for printing. */
static const struct unit millis_units[] = {
    {"h", 3600000}, {"min", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};
static const struct unit bytes_units[] = {
    {"GB", INT64_C(1) << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"", 1}, {NULL, 0}};

static const struct unit *units_of(const struct setting *setting)
{
    static const struct unit none[] = {{"", 1}, {NULL, 0}};

    if (setting->type == SETTING_MILLIS)
        return millis_units;
    return setting->type == SETTING_BYTES ? bytes_units : none;
}

/* The largest unit that divides it. */
static void format_number(const struct setting *setting, int64_t number, char *out, size_t capacity)
{
    const struct unit *unit = units_of(setting);

    while (unit[1].name && (number == 0 || number % unit->factor != 0))
        unit++;
    snprintf(out, capacity, "%" PRId64 "%s", number / unit->factor, unit->name);
}

static bool has_range(const struct setting *setting)
{
    return setting->least != 0 || setting->most != 0;
}

static const char *choices_in_words(const struct setting *setting, char *out, size_t capacity)
{
    size_t used = 0;
    const char *next;

    out[0] = 0;
    for (next = setting->choices; *next && used + 3 < capacity; next++) {
        const char *put = *next == '|' ? ", " : (const char[]){*next, 0};
        used += (size_t)snprintf(out + used, capacity - used, "%s", put);
    }
    return out;
}

static const char *range_in_words(const struct setting *setting, const char *what, char *out,
                                  size_t capacity)
{
    char least[32], most[32];

    if (!has_range(setting)) {
        snprintf(out, capacity, "%s", what);
        return out;
    }
    format_number(setting, setting->least, least, sizeof(least));
    format_number(setting, setting->most, most, sizeof(most));
    snprintf(out, capacity, "%s from %s to %s", what, least, most);
    return out;
}

const char *config_value_allowed(const struct setting *setting, char *out, size_t capacity)
{
    char choices[256];

    switch (setting->type) {
    case SETTING_TEXT:
        snprintf(out, capacity, "a text");
        break;
    case SETTING_COUNT:
        return range_in_words(setting, "an integer", out, capacity);
    case SETTING_MILLIS:
        return range_in_words(setting, "a duration (ms, s, min, h; a bare number is ms)", out,
                              capacity);
    case SETTING_BYTES:
        return range_in_words(setting, "a size (kB, MB, GB; a bare number is bytes)", out,
                              capacity);
    case SETTING_BOOL:
        snprintf(out, capacity, "on or off");
        break;
    case SETTING_CHOICE:
        snprintf(out, capacity, "one of: %s", choices_in_words(setting, choices, sizeof(choices)));
        break;
    case SETTING_URI:
        snprintf(out, capacity, "an amqp:// or amqps:// URI, or several");
        break;
    case SETTING_ADDRESS:
        snprintf(out, capacity,
                 "HOST:PORT, [IPV6]:PORT, *:PORT for every interface or :PORT for loopback");
        break;
    }
    return out;
}

static int refuse(const struct setting *setting, const char *text, struct error *error)
{
    char allowed[320];

    config_value_allowed(setting, allowed, sizeof(allowed));
    if (setting->flags & SETTING_SECRET)
        return error_set(error, ERROR_USAGE, RETRY_NEVER,
                         "must be %s; the value is not shown, as it may hold a password", allowed);
    return error_set(error, ERROR_USAGE, RETRY_NEVER, "must be %s, not '%.200s'", allowed, text);
}

/* DIGITS, white space, unit. */
static bool parse_number(const struct setting *setting, const char *text, int64_t *ret_number)
{
    const struct unit *unit = units_of(setting);
    char *rest;
    int64_t number;

    if (!isdigit((unsigned char)text[0]) && !(text[0] == '-' && isdigit((unsigned char)text[1])))
        return false;
    errno = 0;
    number = strtoll(text, &rest, 10);
    if (errno)
        return false;
    while (*rest == ' ')
        rest++;
    if (*rest) {
        while (unit->name && strcmp(unit->name, rest) != 0)
            unit++;
        if (!unit->name || __builtin_mul_overflow(number, unit->factor, &number))
            return false;
    }
    if (has_range(setting) && (number < setting->least || number > setting->most))
        return false;
    /* Durations are handed out in microseconds. */
    if (setting->type == SETTING_MILLIS && (number > INT64_MAX / 1000 || number < INT64_MIN / 1000))
        return false;
    *ret_number = number;
    return true;
}

static bool parse_bool(const char *text, int64_t *ret_number)
{
    static const char *const words[] = {"off", "on", "false", "true", "no", "yes", "0", "1"};
    size_t i;

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *ret_number = i & 1;
            return true;
        }
    }
    return false;
}

static bool is_choice(const struct setting *setting, const char *text)
{
    size_t bytes = strlen(text);
    const char *next = setting->choices;

    if (!bytes || strchr(text, '|'))
        return false;
    while ((next = strstr(next, text))) {
        if ((next == setting->choices || next[-1] == '|') && (!next[bytes] || next[bytes] == '|'))
            return true;
        next++;
    }
    return false;
}

static bool is_uri(const char *text)
{
    return (strncmp(text, "amqp://", 7) == 0 && text[7]) ||
           (strncmp(text, "amqps://", 8) == 0 && text[8]);
}

static int check_characters(const char *text, struct error *error)
{
    const char *next;

    for (next = text; *next; next++)
        if (iscntrl((unsigned char)*next))
            return error_set(error, ERROR_USAGE, RETRY_NEVER,
                             "holds a control character (byte 0x%02x at offset %td)",
                             (unsigned char)*next, next - text);
    if (next - text > TEXT_BYTES_MAX)
        return error_set(error, ERROR_USAGE, RETRY_NEVER, "must be at most %d bytes long",
                         TEXT_BYTES_MAX);
    return 0;
}

int config_value_parse(const struct setting *setting, const char *text, int64_t *ret_number,
                       struct error *error)
{
    struct address address;
    int64_t number = 0;
    bool good = true;
    int result = check_characters(text, error);

    if (result)
        return result;
    switch (setting->type) {
    case SETTING_TEXT:
        break;
    case SETTING_COUNT:
    case SETTING_MILLIS:
    case SETTING_BYTES:
        good = parse_number(setting, text, &number);
        break;
    case SETTING_BOOL:
        good = parse_bool(text, &number);
        break;
    case SETTING_CHOICE:
        good = is_choice(setting, text);
        break;
    case SETTING_URI:
        good = is_uri(text);
        break;
    case SETTING_ADDRESS:
        good = !address_parse(text, &address, NULL);
        break;
    }
    if (!good)
        return refuse(setting, text, error);
    *ret_number = number;
    return 0;
}

int config_value_set(struct config_value *value, const char *text, enum config_source source,
                     int line, struct error *error)
{
    int64_t number;
    char *copy;
    int result = config_value_parse(value->setting, text, &number, error);

    /* A value that is overruled is still checked: what is written must be right. */
    if (result || source < value->source)
        return result;
    copy = strdup(text);
    if (!copy)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for a setting");
    config_value_clear(value);
    value->text = copy;
    value->number = number;
    value->source = source;
    value->line = line;
    return 0;
}

void config_value_clear(struct config_value *value)
{
    if (value->text && value->setting->flags & SETTING_SECRET)
        explicit_bzero(value->text, strlen(value->text));
    free(value->text);
    value->text = NULL;
}

/* user:password@ in a URI's authority, or in that of one of a list. */
static bool is_password_in_authority(const char *text)
{
    while ((text = strstr(text, "://"))) {
        const char *authority = text + 3;
        size_t bytes = strcspn(authority, "/?#");
        const char *at = memrchr(authority, '@', bytes);

        if (at && memchr(authority, ':', (size_t)(at - authority)))
            return true;
        text = authority;
    }
    return false;
}

/* `password = x` of a conninfo or of a URI's query, or a URI with user and password. */
bool config_text_has_password(const char *text)
{
    const char *found = text;

    while ((found = strcasestr(found, "password"))) {
        found += strlen("password");
        found += strspn(found, " \t");
        if (*found == '=')
            return true;
    }
    return is_password_in_authority(text);
}
