/* log.h: one event, one line, on standard error.
 *
 *     log_info("connected", LOG_STR("server", host), LOG_INT("port", port));
 *     2026-01-31T12:00:00.123456Z info msg="connected" server=localhost port=5432
 *
 * The message is a constant; what varies is in the fields. Ids always, payloads and secrets never.
 * Format logfmt (default) or json. Values are quoted where needed, control characters escaped, and
 * cut at 4 KiB. A line is one write(2). */
#ifndef SAGAPOST_RUNTIME_LOG_H
#define SAGAPOST_RUNTIME_LOG_H

#include "outbox/runtime/error.h"
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

struct log_field {
    const char *name;
    enum { LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_REAL, LOG_FIELD_BOOL } type;
    const char *str; /* NULL prints as null */
    int64_t integer;
    double real;
};

#define LOG_STR(field_name, value)                                                                 \
    ((struct log_field){.name = (field_name), .type = LOG_FIELD_STR, .str = (value)})
#define LOG_INT(field_name, value)                                                                 \
    ((struct log_field){.name = (field_name), .type = LOG_FIELD_INT, .integer = (int64_t)(value)})
#define LOG_REAL(field_name, value)                                                                \
    ((struct log_field){.name = (field_name), .type = LOG_FIELD_REAL, .real = (value)})
#define LOG_BOOL(field_name, value)                                                                \
    ((struct log_field){.name = (field_name), .type = LOG_FIELD_BOOL, .integer = (value)})

void log_configure(enum log_level least, enum log_format format, int fd);

/* `fields` ends with an entry whose name is NULL; the macros below add it. */
void log_write(enum log_level level, const char *message, const struct log_field *fields);

#define log_at(level, message, ...)                                                                \
    log_write((level), (message),                                                                  \
              (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){.name = NULL}})
#define log_debug(message, ...) log_at(LOG_LEVEL_DEBUG, message, __VA_ARGS__)
#define log_info(message, ...)  log_at(LOG_LEVEL_INFO, message, __VA_ARGS__)
#define log_warn(message, ...)  log_at(LOG_LEVEL_WARN, message, __VA_ARGS__)
#define log_error(message, ...) log_at(LOG_LEVEL_ERROR, message, __VA_ARGS__)

/* A failure with its fields: error, sqlstate, amqp_code, retry. More fields may follow. */
#define log_failure(level, text, cause, ...)                                                       \
    log_at(level, text, LOG_STR("error", (cause)->message),                                        \
           LOG_STR("sqlstate", (cause)->sqlstate[0] ? (cause)->sqlstate : "-"),                    \
           LOG_INT("amqp_code", (cause)->amqp_code),                                               \
           LOG_STR("retry", error_retry_name((cause)->retry)) __VA_OPT__(, ) __VA_ARGS__)

#endif
