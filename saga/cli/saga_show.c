/* `sagapost saga show`: one saga for whoever is on call: its state, why, since when, what is in
 * flight, what happens next and when, and what can be done. */
#include "saga/cli/forecast.h"
#include "saga/cli/move.h"
#include "saga/cli/output.h"
#include "saga/cli/saga_find.h"
#include "saga/cli/sql.h"
#include <stdlib.h>
#include <string.h>

/* Columns of saga_show.sql. */
enum {
    SHOW_ID,
    SHOW_DEFINITION,
    SHOW_VERSION,
    SHOW_KEY,
    SHOW_STATE,
    SHOW_PHASE,
    SHOW_REASON,
    SHOW_PAUSED,
    SHOW_CANCEL,
    SHOW_STARTED,
    SHOW_ENDED,
    SHOW_DEADLINE,
    SHOW_WAKE,
    SHOW_REVISION,
};

#define SPAN_BYTES     48
#define ELEMENTS_SHOWN 5 /* of each fan-out */
/* A timer that fires this long after its time, at an idle worker, has none. */
#define OVERDUE_US (3 * US_PER_S)

/* So many versions are tried, from the newest down. */
#define NEWER_TRIED 5

/* To which it could migrate now. */
struct newer {
    int64_t newest, fitting;                  /* versions; 0: there is none */
    char newest_why[ERROR_MESSAGE_BYTES_MAX]; /* why it cannot take it; "" */
    const char *fitting_because;
};

struct shown {
    struct cli *cli;
    struct uuid id;
    char id_text[UUID_TEXT_BYTES];
    struct pg_result *saga, *steps, *since, *asked, *locks, *fan_outs, *elements, *parked;
    bool is_running;
    struct running running;
    struct running_plans plans;
    struct newer newer;
};

static void shown_free(struct shown *shown)
{
    pg_result_free(shown->saga);
    pg_result_free(shown->steps);
    pg_result_free(shown->since);
    pg_result_free(shown->asked);
    pg_result_free(shown->locks);
    pg_result_free(shown->fan_outs);
    pg_result_free(shown->elements);
    pg_result_free(shown->parked);
    running_plans_free(&shown->plans);
}

/* "1.4 s", "12 min", "3 h 5 min", "2 days 4 h". */
static const char *span_text(int64_t span_us, char text[SPAN_BYTES])
{
    int64_t minutes = span_us / (60 * US_PER_S), hours = minutes / 60;
    if (span_us < US_PER_S)
        snprintf(text, SPAN_BYTES, "%d ms", (int)(span_us / US_PER_MS));
    else if (minutes == 0)
        snprintf(text, SPAN_BYTES, "%.1f s", (double)span_us / US_PER_S);
    else if (hours == 0)
        snprintf(text, SPAN_BYTES, "%d min %d s", (int)minutes,
                 (int)(span_us / US_PER_S - 60 * minutes));
    else if (hours < 48)
        snprintf(text, SPAN_BYTES, "%d h %d min", (int)hours, (int)(minutes % 60));
    else
        snprintf(text, SPAN_BYTES, "%d days %d h", (int)(hours / 24), (int)(hours % 24));
    return text;
}

/* --- reading ---------------------------------------------------------------------------------- */

static enum cli_exit read_since(struct shown *shown, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_uuid(&params, &shown->id);
    pg_params_text(&params, pg_text(shown->saga, 0, SHOW_STATE));
    return cli_query(shown->cli, &sql_cli_saga_show_since, &params, &shown->since, error);
}

static enum cli_exit read_running(struct shown *shown, struct error *error)
{
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    enum cli_exit status =
        saga_query(shown->cli, &sql_cli_saga_running_one, &shown->id, &rows, error);
    if (status == CLI_DONE && pg_result_rows(rows) > 0) {
        shown->is_running = true;
        status = running_read(shown->cli, &shown->plans, rows, 0, &shown->running, error);
    }
    return status;
}

static enum cli_exit newer_versions(struct shown *shown, struct pg_result **ret_rows,
                                    struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_text(&params, shown->running.plan->definition);
    pg_params_int8(&params, shown->running.plan->version);
    pg_params_int8(&params, NEWER_TRIED);
    return cli_query(shown->cli, &sql_cli_saga_newer, &params, ret_rows, error);
}

/* What cannot be tried, for want of a right or as this program cannot read it, is told like what
 * does not fit: the rest is worth to be shown. */
static enum cli_exit read_newer(struct shown *shown, struct error *error)
{
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    struct newer *newer = &shown->newer;
    enum cli_exit status = newer_versions(shown, &rows, error);
    for (int row = 0; status == CLI_DONE && row < pg_result_rows(rows); row++) {
        struct move move = {.version = pg_int(rows, row, 0)};
        enum machine_verdict verdict = VERDICT_REFUSED;
        const char *because = NULL;
        struct error failure;
        if (move_try(shown->cli, &shown->plans, &move, &shown->running, &verdict, &because,
                     &failure) != CLI_DONE) {
            verdict = VERDICT_REFUSED;
            because = failure.message;
        }
        if (row == 0)
            newer->newest = move.version;
        if (verdict == VERDICT_APPLIED) {
            newer->fitting = move.version;
            newer->fitting_because = because; /* constant, of what is applied */
            break;
        }
        if (row == 0)
            snprintf(newer->newest_why, sizeof newer->newest_why, "%s", because);
    }
    return status;
}

static enum cli_exit read_elements(struct shown *shown, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_uuid(&params, &shown->id);
    pg_params_int8(&params, ELEMENTS_SHOWN);
    enum cli_exit status =
        saga_query(shown->cli, &sql_cli_saga_show_fan_outs, &shown->id, &shown->fan_outs, error);
    return status == CLI_DONE ? cli_query(shown->cli, &sql_cli_saga_show_elements, &params,
                                          &shown->elements, error)
                              : status;
}

/* Its messages that wait in outbox.parked: then no participant has heard of it yet. */
static enum cli_exit read_parked(struct shown *shown, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_text(&params, shown->id_text);
    return cli_query(shown->cli, &sql_cli_saga_show_parked, &params, &shown->parked, error);
}

static enum cli_exit read_moment(struct shown *shown, struct error *error)
{
    struct cli *cli = shown->cli;
    enum cli_exit status = saga_query(cli, &sql_cli_saga_show, &shown->id, &shown->saga, error);
    if (status == CLI_DONE && pg_result_rows(shown->saga) == 0) {
        error_set(error, ERROR_NOT_FOUND, RETRY_POISON,
                  "saga \"%s\" is no longer kept: only its key is", cli->words[0]);
        return CLI_NOT_FOUND;
    }
    if (status == CLI_DONE)
        status = saga_query(cli, cli->json ? &sql_cli_saga_steps : &sql_cli_saga_show_steps,
                            &shown->id, &shown->steps, error);
    if (status == CLI_DONE)
        status = saga_query(cli, &sql_cli_saga_show_intents, &shown->id, &shown->asked, error);
    if (status == CLI_DONE)
        status = saga_query(cli, &sql_cli_saga_show_locks, &shown->id, &shown->locks, error);
    if (status == CLI_DONE)
        status = read_elements(shown, error);
    if (status == CLI_DONE)
        status = read_since(shown, error);
    if (status == CLI_DONE)
        status = read_parked(shown, error);
    if (status == CLI_DONE)
        status = read_running(shown, error);
    return status;
}

static enum cli_exit read_script(struct cli *cli, const char *sql, struct error *error)
{
    return pg_client_script(cli->pg, sql, error) < 0 ? CLI_FAILED : CLI_DONE;
}

/* All of one moment: a saga that ends in between would be running in one part of what is shown and
 * have ended in another. */
static enum cli_exit read_all(struct shown *shown, struct error *error)
{
    enum cli_exit status =
        read_script(shown->cli, "begin isolation level repeatable read read only", error);
    if (status == CLI_DONE)
        status = read_moment(shown, error);
    if (status == CLI_DONE)
        status = read_script(shown->cli, "commit", error);
    if (status == CLI_DONE && shown->is_running)
        status = read_newer(shown, error);
    return status;
}

/* --- the head, for people --------------------------------------------------------------------- */

static void print_state(const struct shown *shown)
{
    FILE *out = shown->cli->out;
    const char *phase = pg_text(shown->saga, 0, SHOW_PHASE);
    char span[SPAN_BYTES], stamp[OUTPUT_TIME_BYTES];
    fprintf(out, "state    %s%s%s%s", pg_text(shown->saga, 0, SHOW_STATE), phase ? " (" : "",
            phase ? phase : "", phase ? ")" : "");
    if (!pg_is_null(shown->since, 0, 0)) {
        int64_t since_us = pg_time_us(shown->since, 0, 0);
        output_time_text(since_us, stamp);
        if (shown->is_running)
            fprintf(out, " for %s,", span_text(shown->running.now_us - since_us, span));
        fprintf(out, " since %s", stamp);
    }
    fputs("\n", out);
    if (pg_bool(shown->saga, 0, SHOW_PAUSED))
        fputs("         paused: nothing new is sent until it is resumed\n", out);
    if (shown->is_running && pg_bool(shown->saga, 0, SHOW_CANCEL))
        fputs("         a cancel is recorded\n", out);
}

static void print_times(const struct shown *shown)
{
    FILE *out = shown->cli->out;
    char span[SPAN_BYTES], stamp[OUTPUT_TIME_BYTES];
    int64_t started_us = pg_time_us(shown->saga, 0, SHOW_STARTED);
    output_time_text(started_us, stamp);
    fprintf(out, "started  %s", stamp);
    if (shown->is_running) {
        fprintf(out, ", %s ago", span_text(shown->running.now_us - started_us, span));
    } else if (!pg_is_null(shown->saga, 0, SHOW_ENDED)) {
        int64_t ended_us = pg_time_us(shown->saga, 0, SHOW_ENDED);
        output_time_text(ended_us, stamp);
        fprintf(out, "\nended    %s, after %s", stamp, span_text(ended_us - started_us, span));
    }
    fputs("\n", out);
}

static void print_head(const struct shown *shown)
{
    FILE *out = shown->cli->out;
    const char *key = pg_text(shown->saga, 0, SHOW_KEY);
    const char *reason = pg_text(shown->saga, 0, SHOW_REASON);
    fprintf(out, "saga     %s  %s version %d  revision %lld\n", shown->id_text,
            pg_text(shown->saga, 0, SHOW_DEFINITION), (int)pg_int(shown->saga, 0, SHOW_VERSION),
            (long long)pg_int(shown->saga, 0, SHOW_REVISION));
    if (key != NULL)
        output_line(shown->cli, "key      ", key);
    print_state(shown);
    if (reason != NULL)
        output_line(shown->cli, "why      ", reason);
    print_times(shown);
}

/* --- sections: tables for people, members of the object for scripts --------------------------- */

static void begin_section(const struct shown *shown, const char *title, const char *member)
{
    if (shown->cli->json)
        fprintf(shown->cli->out, ", \"%s\": ", member);
    else
        fprintf(shown->cli->out, "\n%s\n", title);
}

static void output_time_or_nothing(struct output *output, int64_t unix_us)
{
    if (unix_us == 0)
        output_text(output, NULL);
    else
        output_time(output, unix_us);
}

static void section_in_flight(const struct shown *shown)
{
    static const char *const headings[] = {"step", "what", "attempt", "of", "sent", "due", NULL};
    const struct running *running = &shown->running;
    begin_section(shown, "in flight", "in_flight");
    struct output *output = output_begin(shown->cli, headings);
    for (int i = 0; i < running->plan->step_count; i++) {
        const char *what = forecast_in_flight(running, i);
        int of = forecast_attempts(running, i);
        if (what == NULL)
            continue;
        output_text(output, running->plan->steps[i].name);
        output_text(output, what);
        output_integer(output, forecast_attempt(running, i));
        if (of > 0)
            output_integer(output, of);
        else
            output_text(output, NULL);
        output_time_or_nothing(output, forecast_sent_us(running, i));
        output_time_or_nothing(output, forecast_due_us(running, i));
    }
    output_end(output, "nothing");
}

static void section_next(const struct shown *shown)
{
    static const char *const headings[] = {"at", "in", "step", "what", NULL};
    const struct running *running = &shown->running;
    struct forecast_event events[FORECAST_EVENTS_MAX];
    int count = forecast_next(running, events);
    begin_section(shown, "next, if no answer comes before", "next");
    struct output *output = output_begin(shown->cli, headings);
    bool is_overdue = false;
    for (int i = 0; i < count; i++) {
        int64_t left_us = events[i].at_us - running->now_us;
        char span[SPAN_BYTES];
        is_overdue = is_overdue || left_us < -OVERDUE_US;
        output_time(output, events[i].at_us);
        output_text(output, left_us >= 0 ? span_text(left_us, span) : "overdue");
        output_text(output, events[i].step >= 0 ? running->plan->steps[events[i].step].name : NULL);
        output_text(output, events[i].what);
    }
    output_end(output, "nothing by itself: it waits for a person, a signal or a late answer");
    if (is_overdue && !shown->cli->json)
        fputs("overdue: is a worker running? sagapost doctor tells\n", shown->cli->out);
}

/* The words to type. What cannot be taken back names the revision that was looked at. */
static void command_text(const struct shown *shown, const struct forecast_verb *verb, char *out,
                         size_t capacity)
{
    char name[32], revision[48] = "";
    const char *step = verb->step >= 0 ? shown->running.plan->steps[verb->step].name : "";
    snprintf(name, sizeof name, "%s", machine_event_name(verb->verb));
    for (char *c = name; *c != '\0'; c++)
        if (*c == '_')
            *c = '-';
    if (verb->verb == EVENT_SKIP || verb->verb == EVENT_MARK_UNDONE || verb->verb == EVENT_ABANDON)
        snprintf(revision, sizeof revision, " --revision %lld", (long long)shown->running.revision);
    snprintf(out, capacity, "sagapost saga %s %s%s%s%s", name, shown->id_text,
             *step != '\0' ? " " : "", step, revision);
}

/* The newest version, where it is newer than the saga's, and why it cannot take it. */
static void print_newest(const struct shown *shown)
{
    const struct newer *newer = &shown->newer;
    FILE *out = shown->cli->out;
    if (shown->cli->json && newer->newest == 0) {
        fputs(", \"newest\": null", out);
    } else if (shown->cli->json) {
        struct buffer why __attribute__((cleanup(buffer_free)));
        buffer_init(&why, 0);
        output_json_string(&why, newer->newest_why);
        fprintf(out, ", \"newest\": {\"version\": %lld, \"takes_it\": %s, \"because\": %s}",
                (long long)newer->newest, newer->newest == newer->fitting ? "true" : "false",
                newer->newest_why[0] != '\0' ? buffer_text(&why) : "null");
    } else if (newer->newest_why[0] != '\0') {
        char before[96];
        snprintf(before, sizeof before,
                 "version %lld is the newest, and cannot take it: ", (long long)newer->newest);
        output_line(shown->cli, before, newer->newest_why);
    }
}

static void section_can(const struct shown *shown)
{
    static const char *const headings[] = {"command", "what", NULL};
    struct forecast_verb verbs[FORECAST_VERBS_MAX];
    int count = forecast_verbs(&shown->running, verbs);
    begin_section(shown, "what can be done", "can");
    struct output *output = output_begin(shown->cli, headings);
    for (int i = 0; i < count; i++) {
        char command[256];
        command_text(shown, &verbs[i], command, sizeof command);
        output_text(output, command);
        output_text(output, verbs[i].because);
    }
    if (shown->newer.fitting != 0) {
        char command[128];
        snprintf(command, sizeof command, "sagapost saga migrate %s --to %lld", shown->id_text,
                 (long long)shown->newer.fitting);
        output_text(output, command);
        output_text(output, shown->newer.fitting_because);
    }
    output_end(output, "nothing");
    print_newest(shown);
}

/* Scripts get each section, people those that say something. */
static void section_if_any(const struct shown *shown, const char *title, const char *member,
                           const struct pg_result *rows)
{
    if (!shown->cli->json && pg_result_rows(rows) == 0)
        return;
    begin_section(shown, title, member);
    output_result(shown->cli, rows, "none");
}

static void print_all(const struct shown *shown)
{
    struct cli *cli = shown->cli;
    if (cli->json) {
        fputs("{\"saga\": ", cli->out);
        output_record(cli, shown->saga);
    } else {
        print_head(shown);
    }
    if (shown->is_running) {
        section_in_flight(shown);
        section_if_any(shown, "what RabbitMQ does not take: sagapost doctor says why", "parked",
                       shown->parked);
        section_next(shown);
        section_can(shown);
    }
    begin_section(shown, "steps", "steps");
    output_result(cli, shown->steps, "no steps");
    section_if_any(shown, "elements of fan-outs", "fan_outs", shown->fan_outs);
    section_if_any(shown, "elements that are not over, the first of each", "elements",
                   shown->elements);
    section_if_any(shown, "locks", "locks", shown->locks);
    section_if_any(shown, "what was asked", "asked", shown->asked);
    if (cli->json) {
        fputs(", \"since\": ", cli->out);
        output_record(cli, shown->since);
        fputs("}\n", cli->out);
    } else {
        fprintf(cli->out, "\nwhat happened: sagapost saga timeline %s\n", shown->id_text);
    }
}

enum cli_exit saga_show_command(struct cli *cli, struct error *error)
{
    struct shown shown __attribute__((cleanup(shown_free))) = {.cli = cli};
    enum cli_exit status = saga_find(cli, &shown.id, error);
    if (status != CLI_DONE)
        return status;
    uuid_format(&shown.id, shown.id_text);
    status = read_all(&shown, error);
    if (status == CLI_DONE)
        print_all(&shown);
    return status;
}
