#include "saga/cli/parked_many.h"

#include "saga/cli/output.h"
#include "saga/cli/sql.h"
#include "saga/cli/states.h"
#include <string.h>
#include <time.h>

#define LOOK_EVERY_US (100 * US_PER_MS)

/* Columns of outbox_intents_wait.sql. */
enum {
    ANSWERS_DONE,
    ANSWERS_REFUSED,
    ANSWERS_OPEN,
    ANSWERS_WHY,
};

enum cli_exit parked_states_check(struct cli *cli, struct error *error)
{
    static const char *const names[] = {"waiting", "parked", "behind", NULL};
    return states_check(cli, names, error);
}

static enum cli_exit filter_check(struct cli *cli, const char *verb, struct error *error)
{
    const struct config *config = cli->config;
    if (!config_is_set(config, "state") && !config_is_set(config, "type") &&
        !config_is_set(config, "key") && !config_bool(config, "all")) {
        error_set(error, ERROR_USAGE, RETRY_NEVER,
                  "%s what? Name messages, or say which with --type, --key, --state, or --all",
                  verb);
        return CLI_USAGE;
    }
    const char *states = config_text(config, "state");
    if (states != NULL && strcmp(verb, "requeue") == 0 && strcasestr(states, "behind") != NULL) {
        error_set(error, ERROR_USAGE, RETRY_NEVER,
                  "messages behind others cannot be requeued: they follow once those in front of "
                  "them are requeued or discarded");
        return CLI_USAGE;
    }
    return parked_states_check(cli, error);
}

static int64_t many_limit(const struct cli *cli)
{
    return config_is_set(cli->config, "limit") ? config_count(cli->config, "limit") : INT64_MAX;
}

static enum cli_exit show_chosen(struct cli *cli, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    const char *states = config_text(cli->config, "state");
    pg_params_init(&params);
    pg_params_text(&params, states != NULL ? states : "parked");
    pg_params_text(&params, config_text(cli->config, "type"));
    pg_params_text(&params, config_text(cli->config, "key"));
    pg_params_int8(&params, many_limit(cli));
    enum cli_exit status = cli_query(cli, &sql_cli_parked_list, &params, &rows, error);
    if (status == CLI_DONE)
        output_result(cli, rows, "no such message is parked");
    return status;
}

static enum cli_exit intend(struct cli *cli, const char *verb, struct pg_result **ret_intents,
                            struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_text(&params, verb);
    pg_params_text(&params, config_text(cli->config, "state"));
    pg_params_text(&params, config_text(cli->config, "type"));
    pg_params_text(&params, config_text(cli->config, "key"));
    pg_params_int8(&params, many_limit(cli));
    pg_params_text(&params, config_text(cli->config, "reason"));
    if (pg_client_script(cli->pg, "begin isolation level repeatable read", error) < 0)
        return CLI_FAILED;
    enum cli_exit status = cli_query(cli, &sql_cli_parked_intend_many, &params, ret_intents, error);
    if (status == CLI_DONE && pg_client_script(cli->pg, "commit", error) < 0)
        return CLI_FAILED;
    return status;
}

/* Until all are answered, or no other was for --wait. */
static enum cli_exit await_answers(struct cli *cli, const struct pg_result *intents,
                                   struct pg_result **ret_answers, struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_array_begin(&params, PG_TYPE_INT8);
    for (int row = 0; row < pg_result_rows(intents); row++)
        pg_params_item_int8(&params, pg_int(intents, row, 0));
    pg_params_array_end(&params);
    int64_t open_before = INT64_MAX, since_us = 0;
    for (;;) {
        pg_result_free(*ret_answers);
        *ret_answers = NULL;
        enum cli_exit status =
            cli_query(cli, &sql_cli_outbox_intents_wait, &params, ret_answers, error);
        if (status != CLI_DONE)
            return status;
        int64_t now_us = clock_monotonic_us(&clock_system);
        int64_t open = pg_int(*ret_answers, 0, ANSWERS_OPEN);
        if (open < open_before) {
            open_before = open;
            since_us = now_us;
        }
        if (open == 0 || now_us - since_us >= config_us(cli->config, "wait"))
            return CLI_DONE;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_EVERY_US * 1000}, NULL);
    }
}

static enum cli_exit tell(struct cli *cli, const char *verb, const struct pg_result *answers,
                          struct error *error)
{
    long long done = pg_int(answers, 0, ANSWERS_DONE),
              refused = pg_int(answers, 0, ANSWERS_REFUSED);
    long long open = pg_int(answers, 0, ANSWERS_OPEN);
    fprintf(cli->out,
            cli->json ? "{\"verb\": \"%s\", \"applied\": %lld, \"refused\": %lld, "
                        "\"unanswered\": %lld}\n"
                      : "%s: %lld applied, %lld refused, %lld not answered\n",
            verb, done, refused, open);
    if (open > 0) {
        error_set(error, ERROR_TIMEOUT, RETRY_LATER,
                  "%lld are recorded, but no relay has answered yet: is one running? (sagapost "
                  "doctor tells)",
                  open);
        return CLI_FAILED;
    }
    if (refused > 0) {
        error_set(error, ERROR_REFUSED, RETRY_POISON, "the relay refused %lld: %s", refused,
                  pg_text(answers, 0, ANSWERS_WHY));
        return CLI_REFUSED;
    }
    return CLI_DONE;
}

enum cli_exit parked_change_many(struct cli *cli, const char *verb, struct error *error)
{
    struct pg_result *intents __attribute__((cleanup(pg_result_freep))) = NULL;
    struct pg_result *answers __attribute__((cleanup(pg_result_freep))) = NULL;
    enum cli_exit status = filter_check(cli, verb, error);
    if (status == CLI_DONE)
        status = cli_connect(cli, error);
    if (status == CLI_DONE && config_bool(cli->config, "dry-run"))
        return show_chosen(cli, error);
    if (status == CLI_DONE)
        status = intend(cli, verb, &intents, error);
    if (status == CLI_DONE)
        status = await_answers(cli, intents, &answers, error);
    return status == CLI_DONE ? tell(cli, verb, answers, error) : status;
}
