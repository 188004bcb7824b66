/* The object: what is set, by whom, and how it changes on reload. */
#include "outbox/runtime/config_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The one setting that config itself has. */
static const struct setting own_settings[] = {
    {"config", SETTING_TEXT, NULL, 0, 0, 0,
     "INI file with settings, one 'name = value' a line; read again on HUP"},
    {0}};

static int count_rows(const struct setting *const *tables)
{
    int count = 0;
    const struct setting *row;

    for (; *tables; tables++)
        for (row = *tables; row->name; row++)
            count++;
    return count;
}

static int add_row(struct config *config, const struct setting *row, struct error *error)
{
    struct config_value *value = &config->values[config->value_count];

    /* Two rows of one name, or a default out of range, are mistakes in the program. */
    assert(!config_find(config, row->name, strlen(row->name)));
    assert(row->type != SETTING_CHOICE || row->choices);
    config->value_count++;
    value->setting = row;
    if (row->default_value &&
        config_value_set(value, row->default_value, CONFIG_DEFAULT, 0, error)) {
        if (error->code == ERROR_USAGE)
            error->retry = RETRY_BUG;
        return error_context(error, "default of %s", row->name);
    }
    return 0;
}

static int add_table(struct config *config, const struct setting *rows, struct error *error)
{
    int result = 0;

    for (; rows->name && !result; rows++)
        result = add_row(config, rows, error);
    return result;
}

int config_create(struct config **ret_config, const struct setting *const *tables,
                  struct error *error)
{
    struct config *config = calloc(1, sizeof(*config));
    struct error why = {0};
    int result;

    if (config)
        config->values =
            calloc((size_t)count_rows(tables) + 1, sizeof(config->values[0])); /* + our own */
    if (!config || !config->values) {
        free(config);
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for the settings");
    }
    result = add_table(config, own_settings, &why);
    for (; *tables && !result; tables++)
        result = add_table(config, *tables, &why);
    if (result) {
        config_destroy(config);
        if (error)
            *error = why;
        return result;
    }
    *ret_config = config;
    return 0;
}

static void free_values(struct config_value *values, int count)
{
    int i;

    for (i = 0; values && i < count; i++)
        config_value_clear(&values[i]);
    free(values);
}

void config_destroy(struct config *config)
{
    if (!config)
        return;
    free_values(config->values, config->value_count);
    free(config->positional);
    free(config->ignored);
    free(config);
}

static int check_required(const struct config *config, struct error *error)
{
    int i;

    for (i = 0; i < config->value_count; i++) {
        const struct setting *row = config->values[i].setting;
        char variable[CONFIG_VARIABLE_BYTES_MAX];
        if (!(row->flags & SETTING_REQUIRED) || config->values[i].text)
            continue;
        config_variable_name(row, variable);
        return error_set(error, ERROR_USAGE, RETRY_NEVER,
                         "%s is not set: give it as --%s, in the variable %s, or as '%s = ...' in "
                         "the file that --config names",
                         row->name, row->name, variable, row->name);
    }
    return 0;
}

/* From the strongest to the weakest, as the file's name comes from the stronger two. */
int config_load(struct config *config, int argc, char **argv, char **environment,
                struct error *error)
{
    struct error why = {0};
    int result;

    assert(!config->positional); /* once */
    result = config_read_flags(config, argc, argv, &why);
    if (!result && (config->wants_help || config->wants_version))
        return 0;
    if (!result)
        result = config_read_variables(config, environment, &why);
    if (!result && config_file(config))
        result = config_read_file(config, config_file(config), &why);
    if (!result)
        result = check_required(config, &why);
    if (result && error)
        *error = why;
    return result;
}

/* --- reload --------------------------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Adds to the list of names whose change waits for a restart. Without memory the list is short: it
 * is only for the log. */
static void note_ignored(struct config *config, const char *name)
{
    char *longer = NULL;

    if (asprintf(&longer, "%s%s%s", config->ignored ? config->ignored : "",
                 config->ignored ? ", " : "", name) < 0)
        return;
    free(config->ignored);
    config->ignored = longer;
}

/* `fresh` holds what the file says now over the defaults, under flags and variables. */
static void take_over(struct config *config, struct config *fresh)
{
    int i;

    free(config->ignored);
    config->ignored = NULL;
    for (i = 0; i < config->value_count; i++) {
        struct config_value *old = &config->values[i];
        struct config_value *new = &fresh->values[i];
        struct config_value swap = *old;
        if (old->setting->flags & SETTING_RELOAD) {
            *old = *new;
            *new = swap;
        } else if (!same_text(old->text, new->text)) {
            note_ignored(config, old->setting->name);
        }
    }
}

static int make_fresh(const struct config *config, struct config *fresh, struct error *error)
{
    int result = 0;
    int i;

    fresh->values = calloc((size_t)config->value_count, sizeof(fresh->values[0]));
    if (!fresh->values)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for the settings");
    for (i = 0; i < config->value_count && !result; i++)
        result = add_row(fresh, config->values[i].setting, error);
    return result;
}

int config_reload(struct config *config, struct error *error)
{
    struct config fresh = {0};
    struct error why = {0};
    int result;
    int i;

    if (!config_file(config))
        return 0;
    result = make_fresh(config, &fresh, &why);
    if (!result)
        result = config_read_file(&fresh, config_file(config), &why);
    /* What the command line and the environment gave is as strong as before. */
    for (i = 0; i < config->value_count && !result; i++)
        if (config->values[i].source >= CONFIG_VARIABLE)
            result = config_value_set(&fresh.values[i], config->values[i].text,
                                      config->values[i].source, 0, &why);
    if (!result)
        result = check_required(&fresh, &why);
    if (!result)
        take_over(config, &fresh);
    else if (error)
        *error = why;
    free_values(fresh.values, fresh.value_count);
    return result;
}

const char *config_reload_ignored(const struct config *config)
{
    return config->ignored;
}

/* --- values --------------------------------------------------------------------------------- */

/* Asking for a setting that does not exist is a mistake in the program. */
static const struct config_value *get(const struct config *config, const char *name)
{
    const struct config_value *value = config_find(config, name, strlen(name));

    assert(value);
    return value;
}

bool config_wants_help(const struct config *config)
{
    return config->wants_help;
}

bool config_wants_version(const struct config *config)
{
    return config->wants_version;
}

int config_positional(const struct config *config, const char *const **ret_words)
{
    *ret_words = config->positional;
    return config->positional_count;
}

const char *config_file(const struct config *config)
{
    return config_text(config, "config");
}

const char *config_text(const struct config *config, const char *name)
{
    return get(config, name)->text;
}

int64_t config_count(const struct config *config, const char *name)
{
    const struct config_value *value = get(config, name);

    assert(value->setting->type == SETTING_COUNT || value->setting->type == SETTING_BYTES);
    return value->number;
}

int64_t config_us(const struct config *config, const char *name)
{
    const struct config_value *value = get(config, name);

    assert(value->setting->type == SETTING_MILLIS);
    return value->number * 1000;
}

bool config_bool(const struct config *config, const char *name)
{
    const struct config_value *value = get(config, name);

    assert(value->setting->type == SETTING_BOOL);
    return value->number != 0;
}

bool config_is_set(const struct config *config, const char *name)
{
    return get(config, name)->source != CONFIG_DEFAULT;
}

void config_each_given(const struct config *config, config_given_callback *callback, void *data)
{
    static const char *const sources[] = {"default", "file", "variable", "flag"};
    int i;

    for (i = 0; i < config->value_count; i++) {
        const struct config_value *value = &config->values[i];
        if (value->source != CONFIG_DEFAULT)
            callback(data, value->setting->name,
                     value->setting->flags & SETTING_SECRET ? NULL : value->text,
                     sources[value->source]);
    }
}
