/* sagapost: the command line. A table of commands; each is found by its words, and returns the exit
 * status. */
#include "outbox/relay/settings.h"
#include "outbox/runtime/daemon.h"
#include "outbox/runtime/streams.h"
#include "saga/cli/cli.h"
#include "saga/cli/output.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct setting cli_settings[] = {
    {"json", SETTING_BOOL, "off", 0, 0, 0, "print JSON for scripts", NULL},
    {"parts", SETTING_TEXT, "outbox,inbox,participant,saga", 0, 0, 0,
     "migrate: which parts this database has", NULL},
    {"to", SETTING_TEXT, NULL, 0, 0, 0,
     "migrate: the number to stop at, else the newest; saga migrate: the version; outbox replay: "
     "before this time, else now",
     NULL},
    {"from", SETTING_TEXT, NULL, 0, 0, 0,
     "outbox replay: messages from this time on, as PostgreSQL reads it: "
     "'2026-01-31 12:00+01', -infinity",
     NULL},
    {"to-exchange", SETTING_TEXT, NULL, 0, 0, 0,
     "outbox replay: to this exchange, and not to where a message belongs", NULL},
    {"after", SETTING_COUNT, "0", 0, INT64_MAX, 0,
     "outbox replay: only after this id of the log: where an interrupted one had come to", NULL},
    SETTINGS_OF_MESSAGES,
    {"state", SETTING_TEXT, NULL, 0, 0, 0,
     "lists and changes of many: only these states, separated by commas", NULL},
    {"type", SETTING_TEXT, NULL, 0, 0, 0,
     "outbox parked, outbox replay: only messages of this type", NULL},
    {"key", SETTING_TEXT, NULL, 0, 0, 0, "lists, outbox replay and changes of many: only this key",
     NULL},
    {"definition", SETTING_TEXT, NULL, 0, 0, 0, "saga: only this definition", NULL},
    {"definition-version", SETTING_COUNT, "0", 0, INT32_MAX, 0,
     "saga graph: which version; 0: the newest", NULL},
    {"limit", SETTING_COUNT, "50", 1, 1000000, 0,
     "list: how many at most; changes of many: all, unless it is given", NULL},
    {"same-xids", SETTING_BOOL, "off", 0, 0, 0,
     "outbox rebase: the transaction ids stayed the same, as after pg_upgrade", NULL},
    {"all", SETTING_BOOL, "off", 0, 0, 0,
     "changes of many: every running saga, every message that waits for a person", NULL},
    {"step", SETTING_TEXT, NULL, 0, 0, 0, "changes: of this step", NULL},
    {"dry-run", SETTING_BOOL, "off", 0, 0, 0,
     "changes: only say what would become of them; outbox replay: only count", NULL},
    {"rate", SETTING_COUNT, "0", 0, 1000000, 0,
     "changes of many: how many sagas a second at most; 0: no limit; outbox replay: messages per "
     "second, 1000 when not set",
     NULL},
    {"revision", SETTING_COUNT, "0", 0, INT64_MAX, 0,
     "changes of one: refused when the saga has changed since this revision", NULL},
    {"payload", SETTING_TEXT, "{}", 0, 0, 0, "saga signal: what the signal brings, JSON", NULL},
    {"signal-id", SETTING_TEXT, NULL, 0, 0, 0,
     "saga signal: given again with the same id it changes nothing", NULL},
    {"reason", SETTING_TEXT, NULL, 0, 0, 0, "changes: why, for the audit", NULL},
    {"wait", SETTING_MILLIS, "5s", 0, 3600000, 0,
     "changes: how long to wait for the daemon's answer; outbox shares: until it is done, when not "
     "set",
     NULL},
    {"watch", SETTING_BOOL, "off", 0, 0, 0,
     "outbox status: a live screen, or lines where there is no terminal", NULL},
    {"interval", SETTING_MILLIS, "1s", 100, 3600000, 0,
     "with watch, and saga top: how often to look", NULL},
    {"relay", SETTING_ADDRESS, NULL, 0, 0, 0,
     "with watch: what this relay listens on, for its rates, window and latency", NULL},
    {0}};

struct command {
    const char *words[4];
    const char *arguments; /* for people */
    int arguments_least, arguments_most;
    enum cli_exit (*run)(struct cli *cli, struct error *error);
    const char *help;
    bool knows_dry_run; /* the others refuse it: it is not to change a thing */
};

#define MANY 1000

static const struct command commands[] = {
    {{"migrate"},
     "",
     0,
     0,
     migrate_command,
     "bring the database's schema to what this version needs"},
    {{"status"}, "", 0, 0, status_command, "schema, backlog, parked messages, sagas by state"},
    {{"doctor"}, "", 0, 0, doctor_command, "look at both servers and say what is wrong"},
    {{"outbox", "status"}, "", 0, 0, outbox_status_command, "relay, backlog, ring; --watch"},
    {{"outbox", "replay"},
     "",
     0,
     0,
     replay_command,
     "send published messages that are still in the log again",
     true},
    {{"outbox", "shares"},
     "[NUMBER]",
     0,
     1,
     outbox_shares_command,
     "the shares of the log and who relays them; NUMBER: that there be so many"},
    {{"outbox", "ghosts"},
     "",
     0,
     0,
     ghosts_command,
     "messages that were sent and that a promoted server knows nothing of"},
    {{"outbox", "rebase"},
     "",
     0,
     0,
     rebase_command,
     "carry on after dump and restore; with --same-xids after pg_upgrade"},
    {{"outbox", "parked", "list"}, "", 0, 0, parked_list_command, "messages set aside, and why"},
    {{"outbox", "parked", "show"},
     "MESSAGE",
     1,
     1,
     parked_show_command,
     "one of them, with its payload"},
    {{"outbox", "parked", "requeue"},
     "[MESSAGE...]",
     0,
     MANY,
     parked_requeue_command,
     "publish them again",
     true},
    {{"outbox", "parked", "discard"},
     "[MESSAGE...]",
     0,
     MANY,
     parked_discard_command,
     "give them up",
     true},
    {{"topology", "declare"},
     "[PARTICIPANT...]",
     0,
     MANY,
     topology_declare_command,
     "exchanges and queues of sagas; named: only theirs, no database is asked"},
    {{"saga", "list"}, "", 0, 0, saga_list_command, "sagas, the newest first"},
    {{"saga", "show"},
     "SAGA",
     1,
     1,
     saga_show_command,
     "one saga and its steps; SAGA: its id, or the key it was started with"},
    {{"saga", "top"}, "", 0, 0, saga_top_command, "a live screen of sagas by definition"},
    {{"saga", "timeline"}, "SAGA", 1, 1, saga_timeline_command, "what happened to it"},
    {{"saga", "locks"},
     "[RESOURCE | SAGA]",
     0,
     1,
     saga_locks_command,
     "who holds what, and who waits for it"},
    {{"saga", "graph"},
     "DEFINITION",
     1,
     1,
     saga_graph_command,
     "the definition as a mermaid graph"},
    {{"saga", "retry"}, "[SAGA [STEP]]", 0, 2, saga_retry_command, "try what is stuck again", true},
    {{"saga", "skip"}, "[SAGA STEP]", 0, 2, saga_skip_command, "go on without a step", true},
    {{"saga", "mark-undone"},
     "[SAGA STEP]",
     0,
     2,
     saga_mark_undone_command,
     "a person has undone it by hand",
     true},
    {{"saga", "cancel"},
     "[SAGA]",
     0,
     1,
     saga_cancel_command,
     "abort it and undo what it did",
     true},
    {{"saga", "pause"}, "[SAGA]", 0, 1, saga_pause_command, "send no further command", true},
    {{"saga", "resume"}, "[SAGA]", 0, 1, saga_resume_command, "go on", true},
    {{"saga", "signal"}, "[SAGA STEP]", 0, 2, saga_signal_command, "give a step its signal", true},
    {{"saga", "migrate"},
     "[SAGA]",
     0,
     1,
     saga_migrate_command,
     "go on by the newer version that --to names",
     true},
    {{"saga", "abandon"},
     "[SAGA]",
     0,
     1,
     saga_abandon_command,
     "close it as it is; nothing is undone",
     true},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

/* How many words of the command line are this command's name; 0: it is another. */
static int command_match(const struct command *command, const char *const *words, int count)
{
    int length = 0;
    while (length < 4 && command->words[length] != NULL) {
        if (length >= count || strcmp(command->words[length], words[length]) != 0)
            return 0;
        length++;
    }
    return length;
}

/* The command as one types it. */
static void command_name(const struct command *command, char *out, size_t capacity)
{
    size_t used = 0;
    for (int w = 0; w < 4 && command->words[w] != NULL; w++)
        used += (size_t)snprintf(out + used, capacity - used, "%s%s", w > 0 ? " " : "",
                                 command->words[w]);
    if (command->arguments[0] != '\0')
        snprintf(out + used, capacity - used, " %s", command->arguments);
}

/* What stands before the settings in --help. */
static void usage_write(char *out, size_t capacity)
{
    size_t used =
        (size_t)snprintf(out, capacity, "usage: sagapost COMMAND [ARGUMENTS] [SETTINGS]\n\n");
    for (size_t i = 0; i < COMMAND_COUNT && used < capacity; i++) {
        char name[96];
        command_name(&commands[i], name, sizeof name);
        used +=
            (size_t)snprintf(out + used, capacity - used, "  %-34s %s\n", name, commands[i].help);
    }
}

enum cli_exit cli_connect(struct cli *cli, struct error *error)
{
    if (cli->pg != NULL)
        return CLI_DONE;
    int rc = pg_client_connect(&cli->pg, config_text(cli->config, "postgres"), "sagapost",
                               config_us(cli->config, "connect-timeout"), error);
    return rc < 0 ? CLI_FAILED : CLI_DONE;
}

/* Errors of the class SG that say "there is no such thing"; the others of the class are a rule's
 * refusal (migrations/README.md). */
static const char *const sqlstates_not_found[] = {"SG105", "SG401", "SG404"};

enum cli_exit cli_query(struct cli *cli, const struct pg_statement *statement,
                        const struct pg_params *params, struct pg_result **ret_result,
                        struct error *error)
{
    int rc = pg_client_query(cli->pg, statement->sql, params, ret_result, error);
    if (rc == 0)
        return CLI_DONE;
    for (size_t i = 0; i < sizeof sqlstates_not_found / sizeof sqlstates_not_found[0]; i++)
        if (strcmp(error->sqlstate, sqlstates_not_found[i]) == 0)
            return CLI_NOT_FOUND;
    return strncmp(error->sqlstate, "SG", 2) == 0 ? CLI_REFUSED : CLI_FAILED;
}

bool cli_part_present(const struct pg_result *parts, const char *wanted)
{
    for (int i = 0; i < pg_result_rows(parts); i++)
        if (strcmp(pg_text(parts, i, 0), wanted) == 0)
            return true;
    return false;
}

/* Of `saga frob` it says what `saga` has. */
static enum cli_exit command_unknown(const char *const *words, int count, struct error *error)
{
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < COMMAND_COUNT && count > 0 && used < sizeof known; i++) {
        const char *const *name = commands[i].words;
        if (name[1] == NULL || strcmp(name[0], words[0]) != 0)
            continue;
        used +=
            (size_t)snprintf(known + used, sizeof known - used, "%s%s%s%s", used > 0 ? ", " : "",
                             name[1], name[2] != NULL ? " " : "", name[2] != NULL ? name[2] : "");
    }
    if (count == 0)
        error_set(error, ERROR_USAGE, RETRY_NEVER, "no command; sagapost --help lists them");
    else if (used == 0)
        error_set(error, ERROR_USAGE, RETRY_NEVER, "no command \"%s\"; sagapost --help lists them",
                  words[0]);
    else
        error_set(error, ERROR_USAGE, RETRY_NEVER,
                  "no command \"%s%s%s\"; %s has %s; sagapost --help says what they do", words[0],
                  count > 1 ? " " : "", count > 1 ? words[1] : "", words[0], known);
    return CLI_USAGE;
}

static enum cli_exit command_run(struct cli *cli, const char *const *words, int count,
                                 struct error *error)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        int length = command_match(&commands[i], words, count);
        if (length == 0)
            continue;
        cli->words = words + length;
        cli->word_count = count - length;
        char name[96];
        command_name(&commands[i], name, sizeof name);
        if (config_bool(cli->config, "dry-run") && !commands[i].knows_dry_run) {
            error_set(error, ERROR_USAGE, RETRY_NEVER, "--dry-run: sagapost %s does not have it",
                      name);
            return CLI_USAGE;
        }
        if (cli->word_count >= commands[i].arguments_least &&
            cli->word_count <= commands[i].arguments_most)
            return commands[i].run(cli, error);
        error_set(error, ERROR_USAGE, RETRY_NEVER, "%d arguments given; usage: sagapost %s",
                  cli->word_count, name);
        return CLI_USAGE;
    }
    return command_unknown(words, count, error);
}

/* A disk that is full must not leave a script with half a list and the status 0. */
static bool is_printed(void)
{
    errno = 0;
    bool is_lost = ferror(stdout) != 0;
    if (fflush(stdout) == 0 && !is_lost)
        return true;
    fprintf(stderr, "sagapost: not all of the output could be written%s%s\n", errno ? ": " : "",
            errno ? strerror(errno) : "");
    return false;
}

int main(int argc, char **argv)
{
    static const struct setting *const tables[] = {cli_settings, connection_settings, NULL};
    struct cli cli = {.out = stdout};
    struct error error = {0};
    enum cli_exit status = CLI_USAGE;
    if (streams_occupy() < 0)
        return CLI_FAILED;
    if (config_create(&cli.config, tables, &error) == 0 &&
        config_load(cli.config, argc, argv, environ, &error) == 0) {
        const char *const *words;
        int count = config_positional(cli.config, &words);
        cli.json = config_bool(cli.config, "json");
        if (config_wants_version(cli.config)) {
            puts("sagapost " SAGAPOST_VERSION);
            status = CLI_DONE;
        } else if (config_wants_help(cli.config)) {
            char usage[8192];
            usage_write(usage, sizeof usage);
            config_print_help(cli.config, stdout, usage);
            status = CLI_DONE;
        } else {
            status = command_run(&cli, words, count, &error);
        }
    }
    if (status != CLI_DONE)
        output_failure(error.message);
    if (!is_printed() && status == CLI_DONE)
        status = CLI_FAILED;
    pg_client_close(cli.pg);
    config_destroy(cli.config);
    return (int)status;
}
