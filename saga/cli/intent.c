#include "saga/cli/intent.h"
#include <string.h>
#include <time.h>

#define LOOK_EVERY_US (20 * US_PER_MS)

static enum cli_exit answer_read(const struct pg_result *rows, const char *who, struct error *error)
{
    const char *answer = pg_text(rows, 0, 0), *detail = pg_text(rows, 0, 1);
    if (answer != NULL && (strcmp(answer, "applied") == 0 || strcmp(answer, "done") == 0))
        return CLI_DONE;
    error_set(error, ERROR_REFUSED, RETRY_POISON, "the %s refused: %s", who,
              detail != NULL ? detail : (answer != NULL ? answer : "no reason given"));
    return CLI_REFUSED;
}

enum cli_exit intent_await(struct cli *cli, const struct pg_statement *statement, int64_t intent,
                           const char *who, struct error *error)
{
    int64_t end_us = clock_monotonic_us(&clock_system) + config_us(cli->config, "wait");
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_int8(&params, intent);
    for (;;) {
        struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
        enum cli_exit status = cli_query(cli, statement, &params, &rows, error);
        if (status != CLI_DONE)
            return status;
        if (pg_result_rows(rows) > 0)
            return answer_read(rows, who, error);
        if (clock_monotonic_us(&clock_system) >= end_us)
            break;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_EVERY_US * 1000}, NULL);
    }
    error_set(error, ERROR_TIMEOUT, RETRY_LATER,
              "recorded as intent %lld, but no %s has answered yet: is one running? (sagapost "
              "doctor tells)",
              (long long)intent, who);
    return CLI_FAILED;
}
