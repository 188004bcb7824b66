/* output.h: rows for people as an aligned table, rows for scripts as a JSON array of objects.
 *
 *     static const char *const headings[] = {"state", "sagas", NULL};
 *     struct output *output = output_begin(cli, headings);
 *     output_text(output, "RUNNING"); output_integer(output, 17);
 *     output_end(output, "no sagas");
 *
 * Control characters of a text are escaped for people (\n, \u001b): a key or a reason that somebody
 * else wrote does not drive the terminal. Cells come in the order of the headings, row after row.
 * Memory that runs out ends the program: a table cut short must not look whole. */
#ifndef SAGAPOST_CLI_OUTPUT_H
#define SAGAPOST_CLI_OUTPUT_H

#include "saga/cli/cli.h"

struct output;

struct output *output_begin(struct cli *cli, const char *const *headings);
void output_text(struct output *output, const char *text); /* NULL: nothing ("-", null) */
void output_integer(struct output *output, int64_t value);
void output_bool(struct output *output, bool value);
void output_time(struct output *output, int64_t unix_us);  /* ISO 8601, UTC */
void output_json(struct output *output, const char *json); /* a value that is JSON already */

#define OUTPUT_TIME_BYTES 64
void output_time_text(int64_t unix_us, char out[OUTPUT_TIME_BYTES]); /* as output_time */
void output_json_string(struct buffer *out, const char *text);       /* with its quotes */

/* A line of text with its name before it, outside of a table; in one line, whatever is in it. */
void output_line(struct cli *cli, const char *before, const char *text);

/* Why the command failed, on standard error; what somebody else wrote cannot drive a terminal. */
void output_failure(const char *message);

/* Prints and frees. `when_empty` is said to people in place of an empty table. */
void output_end(struct output *output, const char *when_empty);

/* All rows of a result, a heading per column, each value by its type. */
void output_result(struct cli *cli, const struct pg_result *result, const char *when_empty);

/* The same of a list that --limit cuts: people are told when there may be more. */
void output_list(struct cli *cli, const struct pg_result *result, const char *when_empty);

/* The result's only row as lines "name  value", without what is NULL; as one JSON object with
 * --json. */
void output_record(struct cli *cli, const struct pg_result *result);

#endif
