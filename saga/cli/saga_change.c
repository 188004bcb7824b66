/* `sagapost saga cancel`, `retry`, ...: what somebody wants of one saga, or of all that a filter
 * finds. SQL records it, a worker applies it, and its answers are waited for. Of many, only those
 * are asked that the machine would not refuse, each at the revision at which it was seen. */
#include "saga/cli/move.h"
#include "saga/cli/output.h"
#include "saga/cli/saga_find.h"
#include "saga/cli/sql.h"
#include "saga/cli/states.h"
#include "saga/machine/plan.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Sagas that are asked at a time: their intents are one transaction. */
#define PAGE_MAX      1000
#define LOOK_EVERY_US (20 * US_PER_MS)

enum wants_step { NO_STEP, MAYBE_A_STEP, A_STEP };

struct verb {
    const char *name; /* as one types it */
    enum machine_event_type event;
    enum wants_step wants_step;
};

/* One that is asked, and what came of it. */
struct asked {
    struct uuid saga;
    int64_t revision; /* that is expected; -1: any */
    int64_t intent;   /* 0: it was not recorded */
    char answer[16];  /* "": none yet */
    char detail[256];
};

struct change {
    struct cli *cli;
    const struct verb *verb;
    const char *step; /* NULL: none */
    struct move move; /* of `migrate` */
    int64_t applied, refused, left, unanswered;
};

static bool is_applied(const struct asked *asked)
{
    return strcmp(asked->answer, "applied") == 0;
}

/* {"payload", "signal_id"} of a signal; {"version"} of a migration; {} of all else. */
static const char *argument_make(const struct change *change, struct buffer *out)
{
    const char *id = config_text(change->cli->config, "signal-id");
    if (change->verb->event == EVENT_MIGRATE) {
        buffer_append_format(out, "{\"version\": %lld}", (long long)change->move.version);
        return buffer_text(out);
    }
    if (change->verb->event != EVENT_SIGNAL)
        return "{}";
    buffer_append_format(out, "{\"payload\": %s", config_text(change->cli->config, "payload"));
    if (id != NULL) {
        buffer_append_text(out, ", \"signal_id\": ");
        output_json_string(out, id);
    }
    buffer_append_text(out, "}");
    return buffer_text(out);
}

static void params_argument(const struct change *change, struct pg_params *params)
{
    struct buffer argument __attribute__((cleanup(buffer_free)));
    buffer_init(&argument, 0);
    const char *text = argument_make(change, &argument);
    pg_params_bytes(params, PG_TYPE_JSONB, text, strlen(text));
}

/* What would become of it now. */
static enum cli_exit change_try(struct change *change, struct running_plans *plans,
                                const struct running *running, int step, int element,
                                enum machine_verdict *ret_verdict, const char **ret_because,
                                struct error *error)
{
    if (change->verb->event == EVENT_MIGRATE)
        return move_try(change->cli, plans, &change->move, running, ret_verdict, ret_because,
                        error);
    *ret_verdict = running_try_element(running, change->verb->event, step, element, ret_because);
    return CLI_DONE;
}

/* --- answers ---------------------------------------------------------------------------------- */

static void answer_take(struct asked *asked, int count, const struct pg_result *rows, int row)
{
    int64_t intent = pg_int(rows, row, 0);
    const char *answer = pg_text(rows, row, 1), *detail = pg_text(rows, row, 2);
    for (int i = 0; i < count; i++)
        if (asked[i].intent == intent) {
            snprintf(asked[i].answer, sizeof asked[i].answer, "%s", answer);
            snprintf(asked[i].detail, sizeof asked[i].detail, "%s", detail != NULL ? detail : "");
        }
}

static enum cli_exit answers_look(struct cli *cli, struct asked *asked, int count, int *ret_open,
                                  struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    int open = 0;
    pg_params_init(&params);
    pg_params_array_begin(&params, PG_TYPE_INT8);
    for (int i = 0; i < count; i++)
        if (asked[i].intent != 0 && asked[i].answer[0] == '\0') {
            pg_params_item_int8(&params, asked[i].intent);
            open++;
        }
    pg_params_array_end(&params);
    if (open == 0) {
        *ret_open = 0;
        return CLI_DONE;
    }
    enum cli_exit status = cli_query(cli, &sql_cli_saga_answers, &params, &rows, error);
    if (status != CLI_DONE)
        return status;
    for (int row = 0; row < pg_result_rows(rows); row++)
        answer_take(asked, count, rows, row);
    *ret_open = open - pg_result_rows(rows);
    return CLI_DONE;
}

/* Until all have their answer, or --wait is over. */
static enum cli_exit answers_await(struct cli *cli, struct asked *asked, int count,
                                   struct error *error)
{
    int64_t end_us = clock_monotonic_us(&clock_system) + config_us(cli->config, "wait");
    for (;;) {
        int open;
        enum cli_exit status = answers_look(cli, asked, count, &open, error);
        if (status != CLI_DONE || open == 0 || clock_monotonic_us(&clock_system) >= end_us)
            return status;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_EVERY_US * 1000}, NULL);
    }
}

static void nobody_answered(const char *what, struct error *error)
{
    error_set(error, ERROR_TIMEOUT, RETRY_LATER,
              "recorded %s, but no worker has answered yet: is one running? (sagapost doctor "
              "tells)",
              what);
}

/* --- one saga --------------------------------------------------------------------------------- */

static enum cli_exit one_forecast(struct change *change, const struct uuid *id, struct error *error)
{
    struct running_plans plans __attribute__((cleanup(running_plans_free))) = {0};
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    struct running running;
    const char *because;
    enum cli_exit status = saga_query(change->cli, &sql_cli_saga_running_one, id, &rows, error);
    if (status == CLI_DONE && pg_result_rows(rows) == 0) {
        error_set(error, ERROR_REFUSED, RETRY_POISON, "it would be refused: the saga has ended");
        return CLI_REFUSED;
    }
    if (status == CLI_DONE)
        status = running_read(change->cli, &plans, rows, 0, &running, error);
    if (status != CLI_DONE)
        return status;
    int element = 0;
    int step = change->step ? plan_find_element(running.plan, change->step, &element) : -1;
    if (change->step && step < 0) {
        error_set(error, ERROR_REFUSED, RETRY_POISON, "it has no step \"%s\"", change->step);
        return CLI_REFUSED;
    }
    enum machine_verdict verdict = VERDICT_IGNORED;
    status = change_try(change, &plans, &running, step, element, &verdict, &because, error);
    if (status != CLI_DONE)
        return status;
    if (verdict == VERDICT_REFUSED) {
        error_set(error, ERROR_REFUSED, RETRY_POISON, "it would be refused: %s", because);
        return CLI_REFUSED;
    }
    fprintf(change->cli->out, "%s would be applied: %s\n", change->verb->name, because);
    return CLI_DONE;
}

static enum cli_exit one_ask(struct change *change, const struct uuid *id, struct asked *ret_asked,
                             struct error *error)
{
    const struct config *config = change->cli->config;
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_uuid(&params, id);
    pg_params_text(&params, machine_event_name(change->verb->event));
    pg_params_text(&params, change->step);
    params_argument(change, &params);
    pg_params_text(&params, config_text(config, "reason"));
    if (config_is_set(config, "revision"))
        pg_params_int8(&params, config_count(config, "revision"));
    else
        pg_params_null(&params, PG_TYPE_INT8);
    enum cli_exit status = cli_query(change->cli, &sql_cli_saga_intend, &params, &rows, error);
    if (status == CLI_DONE)
        *ret_asked =
            (struct asked){.saga = *id, .intent = pg_is_null(rows, 0, 0) ? 0 : pg_int(rows, 0, 0)};
    return status;
}

static enum cli_exit change_one(struct change *change, struct error *error)
{
    struct uuid id;
    struct asked asked;
    char what[64];
    enum cli_exit status = saga_find(change->cli, &id, error);
    if (status == CLI_DONE && config_bool(change->cli->config, "dry-run"))
        return one_forecast(change, &id, error);
    if (status == CLI_DONE)
        status = one_ask(change, &id, &asked, error);
    if (status == CLI_DONE && asked.intent == 0) {
        fprintf(change->cli->out, "%s: given before, which changes nothing\n", change->verb->name);
        return CLI_DONE;
    }
    if (status == CLI_DONE)
        status = answers_await(change->cli, &asked, 1, error);
    if (status != CLI_DONE)
        return status;
    if (asked.answer[0] == '\0') {
        snprintf(what, sizeof what, "as intent %lld", (long long)asked.intent);
        nobody_answered(what, error);
        return CLI_FAILED;
    }
    if (!is_applied(&asked)) {
        error_set(error, ERROR_REFUSED, RETRY_POISON, "the worker refused: %s", asked.detail);
        return CLI_REFUSED;
    }
    fprintf(change->cli->out, "%s: applied: %s\n", change->verb->name, asked.detail);
    return CLI_DONE;
}

/* --- many ------------------------------------------------------------------------------------- */

static enum cli_exit page_read(struct change *change, const struct uuid *after, int64_t limit,
                               struct pg_result **ret_rows, struct error *error)
{
    const struct config *config = change->cli->config;
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_uuid(&params, after);
    pg_params_text(&params, config_text(config, "definition"));
    pg_params_text(&params, config_text(config, "state"));
    pg_params_text(&params, config_text(config, "key"));
    pg_params_int8(&params, limit);
    return cli_query(change->cli, &sql_cli_saga_running, &params, ret_rows, error);
}

static enum cli_exit page_ask(struct change *change, struct asked *asked, int count,
                              struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    if (count == 0)
        return CLI_DONE;
    pg_params_init(&params);
    pg_params_array_begin(&params, PG_TYPE_UUID);
    for (int i = 0; i < count; i++)
        pg_params_item_uuid(&params, &asked[i].saga);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TYPE_INT8);
    for (int i = 0; i < count; i++)
        pg_params_item_int8(&params, asked[i].revision);
    pg_params_array_end(&params);
    pg_params_text(&params, machine_event_name(change->verb->event));
    pg_params_text(&params, change->step);
    params_argument(change, &params);
    pg_params_text(&params, config_text(change->cli->config, "reason"));
    enum cli_exit status = cli_query(change->cli, &sql_cli_saga_intend_many, &params, &rows, error);
    if (status != CLI_DONE)
        return status;
    for (int row = 0; row < pg_result_rows(rows); row++) {
        struct uuid saga = pg_uuid(rows, row, 0);
        for (int i = 0; i < count; i++)
            if (uuid_compare(&asked[i].saga, &saga) == 0)
                asked[i].intent = pg_int(rows, row, 1);
    }
    return answers_await(change->cli, asked, count, error);
}

static void row_print(struct output *output, const struct pg_result *rows, int row,
                      const char *answer, const char *detail)
{
    struct uuid saga = pg_uuid(rows, row, 0);
    char text[UUID_TEXT_BYTES];
    uuid_format(&saga, text);
    output_text(output, text);
    for (int column = 1; column <= 3; column++)
        output_text(output, pg_text(rows, row, column));
    output_text(output, answer);
    output_text(output, detail);
}

/* What the machine says of each: who is asked goes into `asked`, all others are left. */
static enum cli_exit page_choose(struct change *change, struct running_plans *plans,
                                 const struct pg_result *rows, struct output *output,
                                 struct asked *asked, int *ret_count, struct error *error)
{
    bool dry_run = config_bool(change->cli->config, "dry-run");
    int count = 0;
    for (int row = 0; row < pg_result_rows(rows); row++) {
        struct running running;
        enum cli_exit status = running_read(change->cli, plans, rows, row, &running, error);
        if (status != CLI_DONE)
            return status;
        int element = 0;
        int step = change->step ? plan_find_element(running.plan, change->step, &element) : -1;
        enum machine_verdict verdict = VERDICT_IGNORED;
        const char *because = "it has no such step";
        if (change->step == NULL || step >= 0)
            status = change_try(change, plans, &running, step, element, &verdict, &because, error);
        if (status != CLI_DONE)
            return status;
        if (verdict == VERDICT_APPLIED || verdict == VERDICT_EARLY) {
            asked[count++] = (struct asked){.saga = running.id, .revision = running.revision};
            if (dry_run)
                row_print(output, rows, row, "would be applied", because);
        } else {
            change->refused += verdict == VERDICT_REFUSED;
            change->left += verdict != VERDICT_REFUSED;
            row_print(output, rows, row, verdict == VERDICT_REFUSED ? "refused" : "left", because);
        }
    }
    *ret_count = count;
    return CLI_DONE;
}

/* Those that were asked, in the order of the rows. */
static void page_tell(struct change *change, const struct pg_result *rows, struct output *output,
                      const struct asked *asked, int count)
{
    for (int row = 0, i = 0; row < pg_result_rows(rows) && i < count; row++) {
        struct uuid saga = pg_uuid(rows, row, 0);
        if (uuid_compare(&saga, &asked[i].saga) != 0)
            continue;
        const struct asked *one = &asked[i++];
        const char *answer = one->answer, *detail = one->detail;
        if (one->intent == 0) {
            answer = "left";
            detail = "it has ended meanwhile, or this signal was given before";
            change->left++;
        } else if (answer[0] == '\0') {
            answer = "not answered";
            change->unanswered++;
        } else if (is_applied(one)) {
            change->applied++;
            if (!change->cli->json)
                continue;
        } else {
            change->refused++;
        }
        row_print(output, rows, row, answer, detail);
    }
}

static enum cli_exit page_change(struct change *change, struct running_plans *plans,
                                 const struct pg_result *rows, struct output *output,
                                 struct error *error)
{
    struct asked *asked = calloc(PAGE_MAX, sizeof *asked);
    int count = 0;
    if (asked == NULL) {
        error_set(error, ERROR_NO_MEMORY, RETRY_NEVER, "no memory");
        return CLI_FAILED;
    }
    enum cli_exit status = page_choose(change, plans, rows, output, asked, &count, error);
    if (status == CLI_DONE && config_bool(change->cli->config, "dry-run")) {
        change->applied += count;
    } else if (status == CLI_DONE) {
        status = page_ask(change, asked, count, error);
        if (status == CLI_DONE)
            page_tell(change, rows, output, asked, count);
    }
    free(asked);
    return status;
}

/* A pause that makes it `rate` a second, when `count` were asked since `began_us`. */
static void keep_rate(int64_t rate, int64_t count, int64_t began_us)
{
    int64_t left_us =
        rate == 0 ? 0 : began_us + count * US_PER_S / rate - clock_monotonic_us(&clock_system);
    if (left_us > 0)
        nanosleep(
            &(struct timespec){.tv_sec = left_us / US_PER_S, .tv_nsec = left_us % US_PER_S * 1000},
            NULL);
}

static enum cli_exit pages_change(struct change *change, struct output *output, struct error *error)
{
    const struct config *config = change->cli->config;
    struct running_plans plans __attribute__((cleanup(running_plans_free))) = {0};
    struct uuid after = {{0}};
    int64_t rate = config_count(config, "rate");
    int64_t left = config_is_set(config, "limit") ? config_count(config, "limit") : INT64_MAX;
    int64_t page = rate > 0 && rate < PAGE_MAX ? rate : PAGE_MAX;
    while (left > 0) {
        struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
        int64_t began_us = clock_monotonic_us(&clock_system);
        enum cli_exit status = page_read(change, &after, left < page ? left : page, &rows, error);
        int count = status == CLI_DONE ? pg_result_rows(rows) : 0;
        if (count > 0)
            status = page_change(change, &plans, rows, output, error);
        if (status != CLI_DONE || count == 0)
            return status;
        after = pg_uuid(rows, count - 1, 0);
        left -= count;
        if (!config_bool(config, "dry-run"))
            keep_rate(rate, count, began_us);
    }
    return CLI_DONE;
}

static enum cli_exit many_verdict(const struct change *change, struct error *error)
{
    char what[32];
    if (change->unanswered > 0) {
        snprintf(what, sizeof what, "for %lld sagas", (long long)change->unanswered);
        nobody_answered(what, error);
        return CLI_FAILED;
    }
    if (change->refused > 0) {
        error_set(error, ERROR_REFUSED, RETRY_POISON, "a rule refuses it for %lld sagas",
                  (long long)change->refused);
        return CLI_REFUSED;
    }
    return CLI_DONE;
}

static enum cli_exit change_many(struct change *change, struct error *error)
{
    static const char *const headings[] = {"saga",   "definition", "key", "state",
                                           "answer", "detail",     NULL};
    struct cli *cli = change->cli;
    enum cli_exit status = cli_connect(cli, error);
    if (status != CLI_DONE)
        return status;
    struct output *output = output_begin(cli, headings);
    status = pages_change(change, output, error);
    if (cli->json)
        fprintf(cli->out,
                "{\"dry_run\": %s, \"applied\": %lld, \"refused\": %lld, \"left\": %lld, "
                "\"unanswered\": %lld, \"sagas\": ",
                config_bool(cli->config, "dry-run") ? "true" : "false", (long long)change->applied,
                (long long)change->refused, (long long)change->left, (long long)change->unanswered);
    output_end(output, "");
    if (cli->json)
        fputs("}\n", cli->out);
    else
        fprintf(cli->out, "%s: %lld %s, %lld refused, %lld left as they are, %lld not answered\n",
                change->verb->name, (long long)change->applied,
                config_bool(cli->config, "dry-run") ? "would be applied" : "applied",
                (long long)change->refused, (long long)change->left, (long long)change->unanswered);
    return status == CLI_DONE ? many_verdict(change, error) : status;
}

/* --- which ------------------------------------------------------------------------------------ */

static bool has_filter(const struct config *config)
{
    return config_is_set(config, "definition") || config_is_set(config, "state") ||
           config_is_set(config, "key") || config_bool(config, "all");
}

static enum cli_exit wrong_usage(const struct verb *verb, struct error *error)
{
    static const char *const steps[] = {"", " [STEP]", " STEP"};
    static const char *const options[] = {"", " [--step STEP]", " --step STEP"};
    const char *version = verb->event == EVENT_MIGRATE ? " --to VERSION" : "";
    error_set(error, ERROR_USAGE, RETRY_NEVER,
              "usage: sagapost saga %s SAGA%s%s, or for many: sagapost saga %s%s%s with "
              "--definition, --state, --key or --all",
              verb->name, steps[verb->wants_step], version, verb->name, options[verb->wants_step],
              version);
    return CLI_USAGE;
}

static enum cli_exit change_run(struct cli *cli, const struct verb *verb, struct error *error)
{
    struct change change = {.cli = cli, .verb = verb, .step = config_text(cli->config, "step")};
    bool is_one = cli->word_count > 0;
    if (is_one && cli->word_count == 2)
        change.step = cli->words[1];
    bool has_step = change.step != NULL;
    bool is_right = (is_one ? cli->word_count <= 2 : has_filter(cli->config)) &&
                    (verb->wants_step == MAYBE_A_STEP || has_step == (verb->wants_step == A_STEP));
    if (!is_right)
        return wrong_usage(verb, error);
    if (!is_one && config_is_set(cli->config, "revision")) {
        error_set(error, ERROR_USAGE, RETRY_NEVER,
                  "--revision is of one saga; of many, each is asked at the one it was seen at");
        return CLI_USAGE;
    }
    enum cli_exit status = saga_states_check(cli, error);
    if (status == CLI_DONE && verb->event == EVENT_MIGRATE)
        status = move_read_version(cli, &change.move, error);
    if (status == CLI_DONE && verb->event == EVENT_MIGRATE && !is_one &&
        !config_is_set(cli->config, "definition")) {
        error_set(error, ERROR_USAGE, RETRY_NEVER,
                  "--definition is missing: a version is one of a definition");
        status = CLI_USAGE;
    }
    if (status != CLI_DONE)
        return status;
    return is_one ? change_one(&change, error) : change_many(&change, error);
}

#define VERB(function, ...)                                                                        \
    enum cli_exit saga_##function##_command(struct cli *cli, struct error *error)                  \
    {                                                                                              \
        static const struct verb verb = {__VA_ARGS__};                                             \
        return change_run(cli, &verb, error);                                                      \
    }

VERB(cancel, "cancel", EVENT_CANCEL, NO_STEP)
VERB(pause, "pause", EVENT_PAUSE, NO_STEP)
VERB(resume, "resume", EVENT_RESUME, NO_STEP)
VERB(retry, "retry", EVENT_RETRY, MAYBE_A_STEP)
VERB(skip, "skip", EVENT_SKIP, A_STEP)
VERB(mark_undone, "mark-undone", EVENT_MARK_UNDONE, A_STEP)
VERB(abandon, "abandon", EVENT_ABANDON, NO_STEP)
VERB(signal, "signal", EVENT_SIGNAL, A_STEP)
VERB(migrate, "migrate", EVENT_MIGRATE, NO_STEP)
