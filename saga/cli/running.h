/* running.h: running sagas as the machine sees them, and what it would make of a verb.
 *
 *     struct running_plans plans = {0};
 *     if (running_read(cli, &plans, rows, row, &running, error) == CLI_DONE)
 *         verdict = running_try(&running, EVENT_SKIP, step, &because);
 *     running_plans_free(&plans);
 *
 * What is said here is a forecast, by the same tables that the worker goes by; the worker decides,
 * on the saga as it is by then. */
#ifndef SAGAPOST_CLI_RUNNING_H
#define SAGAPOST_CLI_RUNNING_H

#include "saga/cli/cli.h"
#include "saga/machine/machine.h"

/* Definitions that were read already. */
struct running_plans {
    struct running_plan {
        int64_t definition_id;
        struct plan *plan;
    } * plans;
    int count;
};
void running_plans_free(struct running_plans *plans);
enum cli_exit running_plan(struct cli *cli, struct running_plans *plans, int64_t definition_id,
                           const struct plan **ret_plan, struct error *error) MUST_CHECK;

struct running {
    struct uuid id;
    int64_t revision;
    int64_t now_us;          /* the database's clock */
    const struct plan *plan; /* of the running_plans */
    struct instance instance;
};

/* A row of saga_running.sql or saga_running_one.sql. */
enum cli_exit running_read(struct cli *cli, struct running_plans *plans,
                           const struct pg_result *rows, int row, struct running *ret_running,
                           struct error *error) MUST_CHECK;

/* What the machine would say to `event` of `step` (-1: the saga) now, and why (constant). Of a
 * fan-out it is asked of all its elements; running_try_element asks of one. */
enum machine_verdict running_try(const struct running *running, enum machine_event_type event,
                                 int step, const char **ret_because);
enum machine_verdict running_try_element(const struct running *running,
                                         enum machine_event_type event, int step, int element,
                                         const char **ret_because);

#endif
