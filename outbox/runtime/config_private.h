/* config_private.h: what the files of config share. Nobody else includes it, tests/fuzz excepted.
 */
#ifndef SAGAPOST_RUNTIME_CONFIG_PRIVATE_H
#define SAGAPOST_RUNTIME_CONFIG_PRIVATE_H

#include "outbox/runtime/config.h"
#include <stddef.h>

/* In order of strength. */
enum config_source { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_VARIABLE, CONFIG_FLAG };

struct config_value {
    const struct setting *setting;
    enum config_source source;
    char *text; /* NULL: unset */
    int64_t number;
    int line; /* CONFIG_FILE: where, to name both places of a key given twice */
};

struct config {
    struct config_value *values; /* one per row of the tables, in their order */
    int value_count;
    bool wants_help, wants_markdown, wants_version;
    const char **positional;
    int positional_count;
    char *ignored; /* see config_reload_ignored */
};

/* --- config_value.c: types ------------------------------------------------------------------ */

/* Checks a text as the setting's type; *ret_number is its number (0 for a text). The message does
 * not name the setting, and shows the text only where it is no secret. */
int config_value_parse(const struct setting *setting, const char *text, int64_t *ret_number,
                       struct error *error) MUST_CHECK;
/* What is allowed, in words: "an integer from 1 to 65535". Returns out. */
const char *config_value_allowed(const struct setting *setting, char *out, size_t capacity);
/* Replaces a value, unless it came from a stronger source. Takes a copy of the text. */
int config_value_set(struct config_value *value, const char *text, enum config_source source,
                     int line, struct error *error) MUST_CHECK;
void config_value_clear(struct config_value *value);
bool config_text_has_password(const char *text);

/* --- config_sources.c: flags and variables -------------------------------------------------- */

struct config_value *config_find(const struct config *config, const char *name, size_t bytes);
/* "; did you mean 'window'?" for a name nobody knows, or "". `prefix` is "--" for flags. */
const char *config_suggest(const struct config *config, const char *prefix, const char *name,
                           char *out, size_t capacity);
int config_read_flags(struct config *config, int argc, char **argv, struct error *error) MUST_CHECK;
int config_read_variables(struct config *config, char **environment,
                          struct error *error) MUST_CHECK;
#define CONFIG_VARIABLE_BYTES_MAX 80
void config_variable_name(const struct setting *setting, char out[CONFIG_VARIABLE_BYTES_MAX]);

/* --- config_file.c: the INI file ------------------------------------------------------------ */

int config_read_file(struct config *config, const char *path, struct error *error) MUST_CHECK;
/* The same from memory; `path` is only for messages. */
int config_read_file_text(struct config *config, const char *path, const char *text, size_t bytes,
                          struct error *error) MUST_CHECK;

#endif
