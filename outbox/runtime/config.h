/* config.h: settings. One row of one table gives the flag, the variable, the key in the file,
 * --help and the README's line.
 *
 *     static const struct setting relay_settings[] = {
 *         {"window", SETTING_COUNT, "2000", 1, 65535, SETTING_RELOAD, "messages in flight,
 * unconfirmed"},
 *         ...
 *         {0}};
 *
 * `window` is --window on the command line, SAGAPOST_WINDOW in the environment, `window = ` in the
 * file that --config names (INI; sections are allowed and only group). Flags beat variables beat
 * file beats default. A key nobody knows, or a value out of its range, is ERROR_USAGE naming the
 * key, where it came from, the value and what is allowed; the program exits with 2. SETTING_SECRET:
 * never printed by anything here, and refused as a flag's literal value where it holds a password
 * (`--postgres` and `--amqp` may carry URIs; a password in them is refused on the command line,
 * where ps shows it, and taken from the variable or the file). */
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
    SETTING_ADDRESS, /* HOST:PORT, [V6]:PORT, or :PORT for loopback */
};

#define SETTING_RELOAD   1u /* taken over on SIGHUP */
#define SETTING_SECRET   2u /* may hold a password */
#define SETTING_REQUIRED 4u /* no default, and the program cannot run without it */

struct setting {
    const char *name;
    enum setting_type type;
    const char *default_value; /* NULL: unset */
    int64_t least, most;
    unsigned flags;
    const char *help;
    const char *choices;
};

struct config;

/* `tables`: NULL-terminated list of setting tables (a program's own and those shared).
 * `config_positional` gives what is left over: words that are not flags. --help and --version are
 * not handled here: config_wants_help / config_wants_version. */
int config_create(struct config **ret_config, const struct setting *const *tables,
                  struct error *error) MUST_CHECK;
void config_destroy(struct config *config);
int config_load(struct config *config, int argc, char **argv, char **environment,
                struct error *error) MUST_CHECK;
int config_reload(struct config *config, struct error *error)
    MUST_CHECK; /* file again; only SETTING_RELOAD rows change, and not those a flag or a variable
                   gave; all or nothing */

bool config_wants_help(const struct config *config);
bool config_wants_version(const struct config *config);
int config_positional(const struct config *config, const char *const **ret_words);
const char *config_file(const struct config *config);

const char *config_text(const struct config *config, const char *name); /* NULL: unset */
int64_t config_count(const struct config *config, const char *name);    /* COUNT, BYTES */
int64_t config_us(const struct config *config, const char *name); /* MILLIS, in microseconds */
bool config_bool(const struct config *config, const char *name);
bool config_is_set(const struct config *config,
                   const char *name); /* given by somebody, not by default */

void config_print_help(const struct config *config, FILE *out, const char *usage);
void config_print_markdown(const struct config *config, FILE *out); /* the README's table */

#endif
