#include "saga/cli/output.h"
#include "outbox/runtime/utf8.h"
#include <assert.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum cell_kind { CELL_NULL, CELL_TEXT, CELL_INTEGER, CELL_BOOL, CELL_JSON };

struct cell {
    enum cell_kind kind;
    char *text; /* as people read it */
    int64_t integer;
};

struct output {
    struct cli *cli;
    const char *const *headings;
    int columns;
    struct cell *cells;
    size_t count, capacity;
};

static void out_of_memory(void)
{
    fputs("sagapost: out of memory\n", stderr);
    exit(CLI_FAILED);
}

struct output *output_begin(struct cli *cli, const char *const *headings)
{
    struct output *output = calloc(1, sizeof *output);
    if (output == NULL)
        out_of_memory();
    output->cli = cli;
    output->headings = headings;
    while (headings[output->columns] != NULL)
        output->columns++;
    return output;
}

/* What somebody else wrote must not drive the reader's terminal, nor add lines to a table: control
 * characters as JSON escapes them. The spaces and lines between a JSON value's parts stay. */
static void append_readable(struct buffer *out, enum cell_kind kind, const char *text)
{
    size_t bytes = strlen(text), length;
    for (size_t i = 0; i < bytes; i += length) {
        uint32_t character;
        length = utf8_decode(text + i, bytes - i, &character);
        if (length == 0) {
            length = 1;
            buffer_append_text(out, "\xef\xbf\xbd");
        } else if (!utf8_is_control(character) ||
                   (kind == CELL_JSON && (character == '\n' || character == '\t'))) {
            buffer_append(out, text + i, length);
        } else if (character == '\n' || character == '\r' || character == '\t') {
            buffer_append_text(out, character == '\n' ? "\\n" : character == '\r' ? "\\r" : "\\t");
        } else {
            buffer_append_format(out, "\\u%04x", (unsigned)character);
        }
    }
}

void output_failure(const char *message)
{
    struct buffer readable __attribute__((cleanup(buffer_free)));
    buffer_init(&readable, 0);
    append_readable(&readable, CELL_JSON, message); /* the lines of a message of libpq stay */
    if (readable.failed)
        out_of_memory();
    fprintf(stderr, "sagapost: %s\n", buffer_text(&readable));
}

void output_line(struct cli *cli, const char *before, const char *text)
{
    struct buffer readable __attribute__((cleanup(buffer_free)));
    buffer_init(&readable, 0);
    append_readable(&readable, CELL_TEXT, text);
    if (readable.failed)
        out_of_memory();
    fprintf(cli->out, "%s%s\n", before, buffer_text(&readable));
}

/* JSON is for programs, and has escapes of its own. */
static char *copy_of(const struct output *output, enum cell_kind kind, const char *text)
{
    struct buffer readable __attribute__((cleanup(buffer_free)));
    buffer_init(&readable, 0);
    if (output->cli->json)
        return strdup(text);
    append_readable(&readable, kind, text);
    return readable.failed ? NULL : strdup(buffer_text(&readable));
}

static void cell_add(struct output *output, enum cell_kind kind, const char *text, int64_t integer)
{
    if (output->count == output->capacity) {
        output->capacity = output->capacity == 0 ? 64 : 2 * output->capacity;
        output->cells = reallocarray(output->cells, output->capacity, sizeof *output->cells);
        if (output->cells == NULL)
            out_of_memory();
    }
    char *copy = copy_of(output, kind, text);
    if (copy == NULL)
        out_of_memory();
    output->cells[output->count++] = (struct cell){.kind = kind, .text = copy, .integer = integer};
}

void output_text(struct output *output, const char *text)
{
    cell_add(output, text != NULL ? CELL_TEXT : CELL_NULL, text != NULL ? text : "-", 0);
}

void output_integer(struct output *output, int64_t value)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%" PRId64, value);
    cell_add(output, CELL_INTEGER, digits, value);
}

void output_bool(struct output *output, bool value)
{
    cell_add(output, CELL_BOOL, value ? "yes" : "no", value);
}

void output_time_text(int64_t unix_us, char out[OUTPUT_TIME_BYTES])
{
    char stamp[48];
    time_t seconds = (time_t)(unix_us / US_PER_S);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out, OUTPUT_TIME_BYTES, "%s.%03dZ", stamp, (int)(unix_us % US_PER_S / US_PER_MS));
}

void output_time(struct output *output, int64_t unix_us)
{
    char stamp[OUTPUT_TIME_BYTES];
    output_time_text(unix_us, stamp);
    cell_add(output, CELL_TEXT, stamp, 0);
}

void output_json_string(struct buffer *out, const char *text)
{
    struct json_object *string = json_object_new_string(text);
    if (string == NULL)
        out_of_memory();
    buffer_append_text(out, json_object_to_json_string(string));
    json_object_put(string);
}

void output_json(struct output *output, const char *json)
{
    cell_add(output, json != NULL ? CELL_JSON : CELL_NULL, json != NULL ? json : "-", 0);
}

/* Code points, which is what a terminal shows for the names we print. */
static int text_width(const char *text)
{
    int width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static void text_print(FILE *out, const char *text, int width, bool right)
{
    int pad = width - text_width(text);
    fprintf(out, "%*s%s%*s", right && pad > 0 ? pad : 0, "", text, !right && pad > 0 ? pad : 0, "");
}

static void table_print(const struct output *output)
{
    FILE *out = output->cli->out;
    int *widths = calloc((size_t)output->columns, sizeof *widths);
    if (widths == NULL)
        out_of_memory();
    for (int i = 0; i < output->columns; i++)
        widths[i] = text_width(output->headings[i]);
    for (size_t i = 0; i < output->count; i++) {
        int width = text_width(output->cells[i].text);
        if (width > widths[i % (size_t)output->columns])
            widths[i % (size_t)output->columns] = width;
    }
    for (int i = 0; i < output->columns; i++) {
        bool last = i + 1 == output->columns;
        text_print(out, output->headings[i], last ? 0 : widths[i], false);
        fputs(last ? "\n" : "  ", out);
    }
    for (size_t i = 0; i < output->count; i++) {
        int column = (int)(i % (size_t)output->columns);
        bool last = column + 1 == output->columns, number = output->cells[i].kind == CELL_INTEGER;
        text_print(out, output->cells[i].text, last && !number ? 0 : widths[column], number);
        fputs(last ? "\n" : "  ", out);
    }
    free(widths);
}

static struct json_object *cell_json(const struct cell *cell)
{
    switch (cell->kind) {
    case CELL_INTEGER:
        return json_object_new_int64(cell->integer);
    case CELL_BOOL:
        return json_object_new_boolean(cell->integer != 0);
    case CELL_TEXT:
        return json_object_new_string(cell->text);
    default:
        return NULL;
    }
}

/* By hand around json-c's scalars: a JSON value from the database is passed on as it is, so that
 * its numbers stay exact. */
static void json_print_cell(FILE *out, const char *name, const struct cell *cell)
{
    struct json_object *value = cell_json(cell);
    fprintf(out, "\"%s\": %s", name,
            cell->kind == CELL_JSON ? cell->text : json_object_to_json_string(value));
    json_object_put(value);
}

static void json_print(const struct output *output)
{
    FILE *out = output->cli->out;
    fputs("[", out);
    for (size_t i = 0; i < output->count; i++) {
        int column = (int)(i % (size_t)output->columns);
        if (column == 0)
            fputs(i == 0 ? "\n  {" : ",\n  {", out);
        json_print_cell(out, output->headings[column], &output->cells[i]);
        fputs(column + 1 == output->columns ? "}" : ", ", out);
    }
    fputs(output->count > 0 ? "\n]\n" : "]\n", out);
}

static void output_free(struct output *output)
{
    for (size_t i = 0; i < output->count; i++)
        free(output->cells[i].text);
    free(output->cells);
    free(output);
}

void output_end(struct output *output, const char *when_empty)
{
    if (output->cli->json)
        json_print(output);
    else if (output->count == 0 && when_empty != NULL)
        fprintf(output->cli->out, "%s\n", when_empty);
    else
        table_print(output);
    output_free(output);
}

static void output_value(struct output *output, const struct pg_result *result, int row, int column)
{
    if (pg_is_null(result, row, column)) {
        output_text(output, NULL);
        return;
    }
    switch (pg_result_column_type(result, column)) {
    case PG_TYPE_BOOL:
        output_bool(output, pg_bool(result, row, column));
        return;
    case PG_TYPE_INT2:
    case PG_TYPE_INT4:
    case PG_TYPE_INT8:
        output_integer(output, pg_int(result, row, column));
        return;
    case PG_TYPE_TIMESTAMPTZ:
        output_time(output, pg_time_us(result, row, column));
        return;
    case PG_TYPE_UUID: {
        char text[UUID_TEXT_BYTES];
        struct uuid uuid = pg_uuid(result, row, column);
        uuid_format(&uuid, text);
        output_text(output, text);
        return;
    }
    case PG_TYPE_JSON:
    case PG_TYPE_JSONB:
        output_json(output, pg_text(result, row, column));
        return;
    default:
        output_text(output, pg_text(result, row, column));
    }
}

/* The result's columns as headings, its rows as cells. `headings` has room for HEADINGS_MAX names
 * and the NULL. */
#define HEADINGS_MAX 40

static struct output *output_from_result(struct cli *cli, const struct pg_result *result,
                                         const char **headings)
{
    int columns = pg_result_columns(result);
    assert(columns <= HEADINGS_MAX);
    for (int i = 0; i < columns; i++)
        headings[i] = pg_result_column_name(result, i);
    headings[columns] = NULL;
    struct output *output = output_begin(cli, headings);
    for (int row = 0; row < pg_result_rows(result); row++)
        for (int i = 0; i < columns; i++)
            output_value(output, result, row, i);
    return output;
}

void output_result(struct cli *cli, const struct pg_result *result, const char *when_empty)
{
    const char *headings[HEADINGS_MAX + 1];
    output_end(output_from_result(cli, result, headings), when_empty);
}

void output_list(struct cli *cli, const struct pg_result *result, const char *when_empty)
{
    output_result(cli, result, when_empty);
    int64_t limit = config_count(cli->config, "limit");
    if (pg_result_rows(result) < limit || config_is_set(cli->config, "limit"))
        return;
    (void)fflush(cli->out);
    fprintf(stderr, "sagapost: these are %lld; there may be more: --limit\n", (long long)limit);
}

void output_record(struct cli *cli, const struct pg_result *result)
{
    const char *headings[HEADINGS_MAX + 1];
    struct output *output = output_from_result(cli, result, headings);
    assert((int)output->count == output->columns);
    int width = 0;
    for (int i = 0; i < output->columns; i++)
        if (text_width(headings[i]) > width)
            width = text_width(headings[i]);
    if (cli->json)
        fputs("{", cli->out);
    for (int i = 0; i < output->columns; i++) {
        const struct cell *cell = &output->cells[i];
        if (cli->json) {
            json_print_cell(cli->out, headings[i], cell);
            fputs(i + 1 == output->columns ? "}\n" : ", ", cli->out);
        } else if (cell->kind != CELL_NULL) {
            text_print(cli->out, headings[i], width, false);
            fprintf(cli->out, "  %s\n", cell->text);
        }
    }
    output_free(output);
}
