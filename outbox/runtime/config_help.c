/* The table in words: --help and the README. */
#include "outbox/runtime/config_private.h"

#include <string.h>

/* As it stands behind the name in --help. */
static const char *const value_kinds[] = {
    [SETTING_TEXT] = " TEXT",  [SETTING_COUNT] = " COUNT",     [SETTING_MILLIS] = " DURATION",
    [SETTING_BYTES] = " SIZE", [SETTING_BOOL] = "[=on|off]",   [SETTING_CHOICE] = " CHOICE",
    [SETTING_URI] = " URI",    [SETTING_ADDRESS] = " ADDRESS",
};

/* A default stands in the source for everybody to read, so it is shown for secrets too. */
static void print_row(const struct setting *row, FILE *out)
{
    char allowed[320];

    fprintf(out, "  --%s%s\n      %s\n", row->name, value_kinds[row->type], row->help);
    fprintf(out, "      %s", config_value_allowed(row, allowed, sizeof(allowed)));
    if (row->flags & SETTING_REQUIRED)
        fputs("; required", out);
    else if (row->default_value && row->default_value[0])
        fprintf(out, "; default %s", row->default_value);
    if (row->flags & SETTING_RELOAD)
        fputs("; taken over on HUP", out);
    if (row->flags & SETTING_SECRET)
        fputs("; a password is refused here: use the variable or the file", out);
    fputc('\n', out);
}

/* A '|' would end the table's cell. */
static void print_cell(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void print_markdown(const struct config *config, FILE *out)
{
    int i;

    fputs("| setting | allowed | default | on HUP | what it is |\n"
          "| --- | --- | --- | --- | --- |\n",
          out);
    for (i = 0; i < config->value_count; i++) {
        const struct setting *row = config->values[i].setting;
        char allowed[320];
        fprintf(out, "| `%s` | ", row->name);
        print_cell(out, config_value_allowed(row, allowed, sizeof(allowed)));
        fputs(" | ", out);
        if (row->flags & SETTING_REQUIRED) {
            fputs("required", out);
        } else if (row->default_value && row->default_value[0]) {
            fputc('`', out);
            print_cell(out, row->default_value);
            fputc('`', out);
        }
        fprintf(out, " | %s | ", row->flags & SETTING_RELOAD ? "yes" : "");
        print_cell(out, row->help);
        fputs(" |\n", out);
    }
}

void config_print_help(const struct config *config, FILE *out, const char *usage)
{
    int i;

    if (config->wants_markdown) {
        print_markdown(config, out);
        return;
    }
    fputs(usage, out);
    if (*usage && usage[strlen(usage) - 1] != '\n')
        fputc('\n', out);
    fputs(
        "\nEach setting is a flag (--NAME-OF-IT), a variable (SAGAPOST_NAME_OF_IT) and a line of "
        "the "
        "file that\n--config names (name-of-it = value). Flags beat variables, variables beat the "
        "file.\n\n",
        out);
    for (i = 0; i < config->value_count; i++)
        print_row(config->values[i].setting, out);
    fputs("  --help\n      print this and exit\n  --version\n      print the version and exit\n",
          out);
}
