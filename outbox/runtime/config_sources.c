/* Flags and variables. */
#include "outbox/runtime/config_private.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES_MAX  64
#define VARIABLE_PREFIX "SAGAPOST_"

struct config_value *config_find(const struct config *config, const char *name, size_t bytes)
{
    int i;

    for (i = 0; i < config->value_count; i++) {
        const char *known = config->values[i].setting->name;
        if (strlen(known) == bytes && memcmp(known, name, bytes) == 0)
            return &config->values[i];
    }
    return NULL;
}

/* How many characters must be put in, taken out or changed to make `a` of `b` (Levenshtein). Both
 * are at most NAME_BYTES_MAX long. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NAME_BYTES_MAX + 1];
    size_t a_bytes = strlen(a), b_bytes = strlen(b);
    size_t i, j;

    assert(a_bytes <= NAME_BYTES_MAX && b_bytes <= NAME_BYTES_MAX);
    for (j = 0; j <= b_bytes; j++)
        row[j] = j;
    for (i = 1; i <= a_bytes; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (j = 1; j <= b_bytes; j++) {
            size_t best = diagonal + (tolower((unsigned char)a[i - 1]) != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b_bytes];
}

const char *config_suggest(const struct config *config, const char *prefix, const char *name,
                           char *out, size_t capacity)
{
    const char *nearest = NULL;
    size_t least = NAME_BYTES_MAX;
    int i;

    out[0] = 0;
    if (strlen(name) > NAME_BYTES_MAX)
        return out;
    for (i = 0; i < config->value_count; i++) {
        const char *known = config->values[i].setting->name;
        size_t distance = edit_distance(name, known);
        if (distance < least) {
            least = distance;
            nearest = known;
        }
    }
    if (nearest && least <= 1 + strlen(nearest) / 3)
        snprintf(out, capacity, "; did you mean '%s%s'?", prefix, nearest);
    return out;
}

/* --- flags ---------------------------------------------------------------------------------- */

/* One flag; *ret_words is how many words it took. */
static int read_flag(struct config *config, const char *word, const char *next, int *ret_words,
                     struct error *error)
{
    const char *name = word + 2;
    size_t bytes = strcspn(name, "=");
    const char *text = name[bytes] ? name + bytes + 1 : NULL;
    struct config_value *value =
        strncmp(word, "--", 2) == 0 ? config_find(config, name, bytes) : NULL;

    *ret_words = 1;
    if (!value) {
        char unknown[NAME_BYTES_MAX + 2], suggestion[NAME_BYTES_MAX + 32];
        /* Never the whole word: what follows the '=' may be a secret. */
        snprintf(unknown, sizeof(unknown), "%.*s", (int)(bytes < 60 ? bytes : 60), name);
        return error_set(error, ERROR_USAGE, RETRY_NEVER, "unknown flag '%.*s'%s",
                         (int)strcspn(word, "="), word,
                         config_suggest(config, "--", unknown, suggestion, sizeof(suggestion)));
    }
    if (!text && value->setting->type == SETTING_BOOL) {
        text = "on";
    } else if (!text) {
        if (!next || strncmp(next, "--", 2) == 0)
            return error_set(error, ERROR_USAGE, RETRY_NEVER,
                             "%s needs a value (one that begins with '--' is written %s=VALUE)",
                             word, word);
        text = next;
        *ret_words = 2;
    }
    if (value->setting->flags & SETTING_SECRET && config_text_has_password(text)) {
        char variable[CONFIG_VARIABLE_BYTES_MAX];
        config_variable_name(value->setting, variable);
        return error_set(error, ERROR_USAGE, RETRY_NEVER,
                         "--%s holds a password, and everybody on the machine can read the command "
                         "line: give it in the variable %s, or as '%s = ...' in the file that "
                         "--config names",
                         value->setting->name, variable, value->setting->name);
    }
    if (config_value_set(value, text, CONFIG_FLAG, 0, error))
        return error_context(error, "--%s", value->setting->name);
    return 0;
}

/* -h and --help anywhere win over everything else, mistakes included; so does --version. */
static void find_wishes(struct config *config, int argc, char **argv)
{
    int i;

    for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            config->wants_help = true;
        if (strcmp(argv[i], "--help=markdown") == 0)
            config->wants_help = config->wants_markdown = true;
        if (strcmp(argv[i], "--version") == 0)
            config->wants_version = true;
    }
}

int config_read_flags(struct config *config, int argc, char **argv, struct error *error)
{
    bool only_words = false;
    bool forgiving;
    int i = 1;

    find_wishes(config, argc, argv);
    forgiving = config->wants_help || config->wants_version;
    config->positional = calloc((size_t)(argc > 0 ? argc : 1), sizeof(config->positional[0]));
    if (!config->positional)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for the command line");
    while (i < argc) {
        const char *word = argv[i];
        int words = 1;
        if (only_words || word[0] != '-' || !word[1]) {
            config->positional[config->positional_count++] = word;
        } else if (strcmp(word, "--") == 0) {
            only_words = true;
        } else {
            int result = read_flag(config, word, i + 1 < argc ? argv[i + 1] : NULL, &words, error);
            if (result && !forgiving)
                return result;
        }
        i += words;
    }
    return 0;
}

/* --- variables ------------------------------------------------------------------------------ */

void config_variable_name(const struct setting *setting, char out[CONFIG_VARIABLE_BYTES_MAX])
{
    size_t i;

    snprintf(out, CONFIG_VARIABLE_BYTES_MAX, VARIABLE_PREFIX "%s", setting->name);
    for (i = strlen(VARIABLE_PREFIX); out[i]; i++)
        out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
}

static const char *find_variable(char **environment, const char *name)
{
    size_t bytes = strlen(name);

    for (; *environment; environment++)
        if (strncmp(*environment, name, bytes) == 0 && (*environment)[bytes] == '=')
            return *environment + bytes + 1;
    return NULL;
}

/* Variables that are no setting of this program are left alone: the environment is shared, and
 * SAGAPOST_WINDOW may be meant for the program beside this one. An empty variable counts as not
 * given, as compose files and shells produce it for what is unset. */
int config_read_variables(struct config *config, char **environment, struct error *error)
{
    int i;

    for (i = 0; environment && i < config->value_count; i++) {
        char name[CONFIG_VARIABLE_BYTES_MAX];
        const char *text;
        config_variable_name(config->values[i].setting, name);
        text = find_variable(environment, name);
        if (text && *text && config_value_set(&config->values[i], text, CONFIG_VARIABLE, 0, error))
            return error_context(error, "%s", name);
    }
    return 0;
}
