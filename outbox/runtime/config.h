/* config.h: settings. One row of one table gives the flag, the variable, the key in the file,
 * --help and the README's line.
 *
 *     static const struct setting relay_settings[] = {
 *         {"window", SETTING_COUNT, "2000", 1, 65535, SETTING_RELOAD, "messages in flight"},
 *         ...
 *         {0}};
 *
 * `window` is --window on the command line, SAGAPOST_WINDOW in the environment, `window = ` in the
 * file that --config (or SAGAPOST_CONFIG) names. Flags beat variables beat file beats default.
 *
 * Flags: `--window 100`, `--window=100`; a flag of type BOOL stands alone or has its value behind
 * '=' (`--amqp-verify=off`); `--` ends the flags. Variables: an empty one counts as not given, and
 * one that is no setting of this program is left alone, as programs share an environment. File:
 * INI; sections are allowed and only group; comments are lines that begin with # or ; and nothing
 * else is a comment, so that a password may hold any character.
 *
 * A flag or a key nobody knows, a key given twice, a value out of its range, a required setting
 * that is missing: ERROR_USAGE, RETRY_NEVER, naming the setting, where it came from, the value,
 * what is allowed and the nearest name; the program exits with 2. A value is checked even where a
 * stronger source overrules it.
 *
 * SETTING_SECRET: never printed by anything here, and refused on the command line where it holds a
 * password (`--postgres` and `--amqp` may carry URIs; ps shows them to everybody), but taken from
 * the variable or the file. */
#ifndef SAGAPOST_RUNTIME_CONFIG_H
#define SAGAPOST_RUNTIME_CONFIG_H

#include "outbox/runtime/error.h"
#include <stdint.h>
#include <stdio.h>

enum setting_type {
    SETTING_TEXT,
    SETTING_COUNT,   /* an integer in [least, most] */
    SETTING_MILLIS,  /* '250ms', '5s', '2min', '1h', or a bare number of milliseconds; [least, most]
                        in milliseconds */
    SETTING_BYTES,   /* '64kB', '1MB', '2GB' (powers of 1024), or a bare number of bytes */
    SETTING_BOOL,    /* on, off, true, false, yes, no, 1, 0 */
    SETTING_CHOICE,  /* one of `choices`, a list separated by '|' */
    SETTING_URI,     /* amqp:// or amqps:// */
    SETTING_ADDRESS, /* HOST:PORT, [V6]:PORT, *:PORT for every interface, :PORT for loopback; see
                        address.h */
};

#define SETTING_RELOAD   1u /* taken over on SIGHUP */
#define SETTING_SECRET   2u /* may hold a password */
#define SETTING_REQUIRED 4u /* no default, and the program cannot run without it */

struct setting {
    const char *name;
    enum setting_type type;
    const char *default_value; /* NULL: unset */
    int64_t least, most;       /* both 0: no range */
    unsigned flags;
    const char *help; /* one line */
    const char *choices;
};

struct config;

/* `tables`: NULL-terminated list of setting tables (a program's own and those shared), which stay
 * the caller's. */
int config_create(struct config **ret_config, const struct setting *const *tables,
                  struct error *error) MUST_CHECK;
void config_destroy(struct config *config); /* NULL is fine */

/* Once. --help (-h) and --version win over every mistake: then nothing else is read, and the caller
 * prints what was wished. argv stays the caller's and must live as long as the config. */
int config_load(struct config *config, int argc, char **argv, char **environment,
                struct error *error) MUST_CHECK;
/* The file again; only SETTING_RELOAD rows change, and not those a flag or a variable gave; all or
 * nothing. Texts of those rows that were handed out before are gone. Without a file: nothing. */
int config_reload(struct config *config, struct error *error) MUST_CHECK;
/* After config_reload: names of other rows that the file gives another value now, which waits for a
 * restart, separated by ", "; NULL: none. */
const char *config_reload_ignored(const struct config *config);

bool config_wants_help(const struct config *config);
bool config_wants_version(const struct config *config);
/* The words that are not flags, in order; returns their number. */
int config_positional(const struct config *config, const char *const **ret_words);
const char *config_file(const struct config *config);

/* Asking for a name that is in no table, or as another type, is a bug and asserts. */
const char *config_text(const struct config *config,
                        const char *name);                           /* of any type; NULL: unset */
int64_t config_count(const struct config *config, const char *name); /* COUNT, BYTES */
int64_t config_us(const struct config *config, const char *name);    /* MILLIS, in microseconds */
bool config_bool(const struct config *config, const char *name);
/* Given by somebody, not by default. */
bool config_is_set(const struct config *config, const char *name);

/* Every setting somebody gave, for the log: `text` is NULL for secrets; `source` is "flag",
 * "variable" or "file". */
typedef void config_given_callback(void *data, const char *name, const char *text,
                                   const char *source);
void config_each_given(const struct config *config, config_given_callback *callback, void *data);

/* `usage`: the first lines. After --help=markdown: the table of settings as the README has it. */
void config_print_help(const struct config *config, FILE *out, const char *usage);

#endif
