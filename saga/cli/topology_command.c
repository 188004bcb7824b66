/* `sagapost topology declare`: the exchanges and queues of sagas, all at once. Daemons declare what
 * they need by themselves; this is for whoever wants the broker ready before the first of them
 * runs, or runs them as a user that may not configure. */
#include "saga/cli/cli.h"
#include "saga/cli/output.h"
#include "saga/cli/sql.h"
#include "saga/cli/visit.h"
#include "saga/topology/topology.h"
#include <string.h>

#define PARTICIPANTS_MAX 1000

/* What is to be declared. The strings belong to the command line or to `sagas` and `handled`. */
struct wanted {
    const char *orchestrator; /* NULL: none */
    const char *participants[PARTICIPANTS_MAX];
    int count;
    struct pg_result *sagas, *handled;
};

static void wanted_free(struct wanted *wanted)
{
    pg_result_freep(&wanted->sagas);
    pg_result_freep(&wanted->handled);
}

static enum cli_exit participant_add(struct wanted *wanted, const char *name, struct error *error)
{
    for (int i = 0; i < wanted->count; i++)
        if (strcmp(wanted->participants[i], name) == 0)
            return CLI_DONE;
    if (wanted->count == PARTICIPANTS_MAX) {
        error_set(error, ERROR_LIMIT, RETRY_NEVER, "there are more than %d participants",
                  PARTICIPANTS_MAX);
        return CLI_FAILED;
    }
    wanted->participants[wanted->count++] = name;
    return CLI_DONE;
}

/* Names as saga.step takes them: the first half of an action. */
static bool name_is_good(const char *name)
{
    return name[0] >= 'a' && name[0] <= 'z' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name);
}

static enum cli_exit wanted_from_words(struct cli *cli, struct wanted *wanted, struct error *error)
{
    enum cli_exit status = CLI_DONE;
    for (int i = 0; i < cli->word_count && status == CLI_DONE; i++) {
        if (!name_is_good(cli->words[i])) {
            error_set(error, ERROR_USAGE, RETRY_NEVER,
                      "\"%s\" is no participant: a name has small letters, digits and _",
                      cli->words[i]);
            return CLI_USAGE;
        }
        status = participant_add(wanted, cli->words[i], error);
    }
    return status;
}

static enum cli_exit wanted_from_sagas(struct cli *cli, struct wanted *wanted, struct error *error)
{
    enum cli_exit status = cli_query(cli, &sql_cli_topology_sagas, NULL, &wanted->sagas, error);
    if (status != CLI_DONE)
        return status;
    for (int i = 0; i < pg_result_rows(wanted->sagas) && status == CLI_DONE; i++) {
        wanted->orchestrator = pg_text(wanted->sagas, i, 0);
        if (!pg_is_null(wanted->sagas, i, 1))
            status = participant_add(wanted, pg_text(wanted->sagas, i, 1), error);
    }
    return status;
}

static enum cli_exit wanted_from_handlers(struct cli *cli, struct wanted *wanted,
                                          struct error *error)
{
    enum cli_exit status = cli_query(cli, &sql_cli_topology_handled, NULL, &wanted->handled, error);
    if (status != CLI_DONE)
        return status;
    for (int i = 0; i < pg_result_rows(wanted->handled) && status == CLI_DONE; i++)
        status = participant_add(wanted, pg_text(wanted->handled, i, 0), error);
    return status;
}

static enum cli_exit wanted_from_database(struct cli *cli, struct wanted *wanted,
                                          struct error *error)
{
    struct pg_result *parts __attribute__((cleanup(pg_result_freep))) = NULL;
    bool here = false;
    enum cli_exit status = cli_connect(cli, error);
    if (status == CLI_DONE)
        status = cli_query(cli, &sql_cli_parts, NULL, &parts, error);
    if (status == CLI_DONE && cli_part_present(parts, "saga")) {
        here = true;
        status = wanted_from_sagas(cli, wanted, error);
    }
    if (status == CLI_DONE && cli_part_present(parts, "participant")) {
        here = true;
        status = wanted_from_handlers(cli, wanted, error);
    }
    if (status == CLI_DONE && !here) {
        error_set(error, ERROR_NOT_FOUND, RETRY_NEVER,
                  "this database has neither sagas nor participants: run sagapost migrate");
        return CLI_FAILED;
    }
    return status;
}

/* At the broker ------------------------------------------------------------------------------- */

struct visit_state {
    const struct wanted *wanted;
    struct output *output;
    struct error error; /* code 0: all is declared */
};

static void said(struct visit_state *state, const char *kind, const char *name, const char *from,
                 const char *binding, bool existed)
{
    output_text(state->output, kind);
    output_text(state->output, name);
    output_text(state->output, from);
    output_text(state->output, binding);
    output_text(state->output, existed ? "unchanged" : "declared");
}

/* Whether they were there is asked before they are declared: afterwards they all are. */
static int declare_base(struct visit_state *state, struct broker *broker)
{
    bool existed[TOPOLOGY_EXCHANGE_COUNT] = {0}, queue_existed = false;
    struct error *error = &state->error;
    for (int i = 0; i < TOPOLOGY_EXCHANGE_COUNT; i++) {
        int rc = broker_exchange_exists(broker, topology_exchanges[i].name, &existed[i], error);
        if (rc < 0)
            return rc;
    }
    int rc = broker_queue_exists(broker, TOPOLOGY_DEAD, &queue_existed, NULL, NULL, error);
    if (rc == 0)
        rc = topology_declare_base(broker, error);
    if (rc < 0)
        return rc;
    for (int i = 0; i < TOPOLOGY_EXCHANGE_COUNT; i++)
        said(state, "exchange", topology_exchanges[i].name, NULL, NULL, existed[i]);
    said(state, "queue", TOPOLOGY_DEAD, TOPOLOGY_DEAD, "", queue_existed);
    return 0;
}

static int declare_orchestrator(struct visit_state *state, struct broker *broker)
{
    const char *name = state->wanted->orchestrator;
    char queue[TOPOLOGY_QUEUE_BYTES];
    struct error *error = &state->error;
    bool existed = false;
    int rc = topology_reply_queue(name, queue, error);
    if (rc == 0)
        rc = broker_queue_exists(broker, queue, &existed, NULL, NULL, error);
    if (rc == 0)
        rc = topology_declare_orchestrator(broker, name, error);
    if (rc == 0)
        said(state, "queue", queue, TOPOLOGY_REPLIES, name, existed);
    return rc;
}

static int declare_participant(struct visit_state *state, struct broker *broker, const char *name)
{
    char queue[TOPOLOGY_QUEUE_BYTES], binding[TOPOLOGY_QUEUE_BYTES];
    struct error *error = &state->error;
    bool existed = false;
    int rc = topology_command_queue(name, queue, error);
    if (rc == 0)
        rc = broker_queue_exists(broker, queue, &existed, NULL, NULL, error);
    if (rc == 0)
        rc = topology_declare_participant(broker, name, error);
    if (rc < 0)
        return rc;
    topology_command_binding(name, binding);
    said(state, "queue", queue, TOPOLOGY_COMMANDS, binding, existed);
    return 0;
}

static void declare_all(void *data, struct broker *broker)
{
    struct visit_state *state = data;
    const struct wanted *wanted = state->wanted;
    int rc = declare_base(state, broker);
    if (rc == 0 && wanted->orchestrator != NULL)
        rc = declare_orchestrator(state, broker);
    for (int i = 0; i < wanted->count && rc == 0; i++)
        rc = declare_participant(state, broker, wanted->participants[i]);
}

enum cli_exit topology_declare_command(struct cli *cli, struct error *error)
{
    static const char *const headings[] = {"kind", "name", "exchange", "binding", "result", NULL};
    struct wanted wanted __attribute__((cleanup(wanted_free))) = {0};
    enum cli_exit status = cli->word_count > 0 ? wanted_from_words(cli, &wanted, error)
                                               : wanted_from_database(cli, &wanted, error);
    if (status != CLI_DONE)
        return status;
    struct visit_state state = {.wanted = &wanted, .output = output_begin(cli, headings)};
    int rc = visit_broker(cli, declare_all, &state, error);
    if (rc == 0 && state.error.code != 0) {
        *error = state.error;
        rc = state.error.code;
    }
    output_end(state.output, NULL); /* what was declared stays, also when the next one failed */
    return rc < 0 ? CLI_FAILED : CLI_DONE;
}
