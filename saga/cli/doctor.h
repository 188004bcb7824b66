/* doctor.h: findings of `sagapost doctor`, gathered from both servers and printed once.
 *
 * A finding has a subject, a verdict (ok, warn, fail), what was found, and for the last two what to
 * do about it. */
#ifndef SAGAPOST_CLI_DOCTOR_H
#define SAGAPOST_CLI_DOCTOR_H

#include "saga/cli/cli.h"
#include "saga/cli/output.h"

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL };

struct doctor {
    struct cli *cli;
    struct output *output;
    int warnings, failures;
};

void doctor_add(struct doctor *doctor, const char *subject, enum verdict verdict,
                const char *advice, const char *finding, ...) PRINTF_LIKE(5, 6);

#define DOCTOR_PARTICIPANTS_MAX 64

struct doctor_participant {
    const char *name, *actions,
        *unhandled; /* unhandled: actions without a SQL handler here, or NULL */
};

/* Looks at RabbitMQ: can it be reached, do the relays that own shares (`owned`, rows of
 * doctor_fence.sql; NULL: none) hold their queues, are exchanges and queues there, does somebody
 * consume. `orchestrator` NULL: no sagas here. */
void doctor_look_at_broker(struct doctor *doctor, const struct pg_result *owned,
                           const char *orchestrator, const struct doctor_participant *participants,
                           int count);

#endif
