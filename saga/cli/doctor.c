/* `sagapost doctor`: looks at both servers and says in words what is wrong and what to do about it.
 * Exit status 1 when something is. */
#include "saga/cli/doctor.h"
#include "migrations/migrations.h"
#include "saga/cli/sql.h"
#include <stdarg.h>
#include <string.h>

void doctor_add(struct doctor *doctor, const char *subject, enum verdict verdict,
                const char *advice, const char *finding, ...)
{
    static const char *const names[] = {"ok", "warn", "FAIL"};
    char text[1024];
    va_list arguments;
    va_start(arguments, finding);
    vsnprintf(text, sizeof text, finding, arguments);
    va_end(arguments);
    output_text(doctor->output, names[verdict]);
    output_text(doctor->output, subject);
    output_text(doctor->output, text);
    output_text(doctor->output, verdict == VERDICT_OK ? NULL : advice);
    doctor->warnings += verdict == VERDICT_WARN;
    doctor->failures += verdict == VERDICT_FAIL;
}

/* A statement that gives (subject, verdict, finding, advice). One that fails is a finding itself.
 */
static void statement_look(struct doctor *doctor, const char *subject,
                           const struct pg_statement *statement, const struct pg_params *params)
{
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    struct error error = {0};
    if (cli_query(doctor->cli, statement, params, &rows, &error) != CLI_DONE) {
        doctor_add(doctor, subject, VERDICT_FAIL,
                   "grant this role what it needs, or use the owner of the schema", "%s",
                   error.message);
        return;
    }
    for (int i = 0; i < pg_result_rows(rows); i++) {
        const char *verdict = pg_text(rows, i, 1);
        doctor_add(doctor, pg_text(rows, i, 0),
                   strcmp(verdict, "ok") == 0     ? VERDICT_OK
                   : strcmp(verdict, "warn") == 0 ? VERDICT_WARN
                                                  : VERDICT_FAIL,
                   pg_text(rows, i, 3), "%s", pg_text(rows, i, 2));
    }
}

/* Which parts are here, and whether each is as new as this program. Gives whether the part `wanted`
 * can be looked at. */
static bool part_look(struct doctor *doctor, const struct pg_result *parts, const char *wanted)
{
    int newest = 0, found = 0;
    for (int i = 0; i < MIGRATION_NEWEST; i++)
        if (strcmp(migrations[i].part, wanted) == 0 && migrations[i].number > newest)
            newest = migrations[i].number;
    for (int i = 0; i < pg_result_rows(parts); i++)
        if (strcmp(pg_text(parts, i, 0), wanted) == 0)
            found = (int)pg_int(parts, i, 1);
    char subject[64];
    snprintf(subject, sizeof subject, "schema, part %s", wanted);
    if (found == 0)
        return false; /* a database may do without it */
    if (found < newest)
        doctor_add(doctor, subject, VERDICT_FAIL, "run: sagapost migrate",
                   "is at migration %d, this program needs %d", found, newest);
    else if (found > newest)
        doctor_add(doctor, subject, VERDICT_FAIL, "use the newer programs that wrote it",
                   "is at migration %d, this program knows them up to %d", found, newest);
    else
        doctor_add(doctor, subject, VERDICT_OK, NULL, "is at migration %d", found);
    return found == newest;
}

static void postgres_look(struct doctor *doctor)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    pg_params_init(&params);
    pg_params_int8(&params, clock_wall_us(&clock_system));
    statement_look(doctor, "PostgreSQL", &sql_cli_doctor_postgres, &params);
}

/* What sagas call, for the look at the broker. The strings stay in `rows`. */
static int participants_read(const struct pg_result *rows,
                             struct doctor_participant *ret_participants)
{
    int count = 0;
    for (; count < pg_result_rows(rows) && count < DOCTOR_PARTICIPANTS_MAX; count++)
        ret_participants[count] = (struct doctor_participant){.name = pg_text(rows, count, 0),
                                                              .actions = pg_text(rows, count, 1),
                                                              .unhandled = pg_text(rows, count, 2)};
    return count;
}

static void schema_look(struct doctor *doctor)
{
    struct pg_result *present __attribute__((cleanup(pg_result_freep))) = NULL;
    struct pg_result *parts __attribute__((cleanup(pg_result_freep))) = NULL;
    struct pg_result *owned __attribute__((cleanup(pg_result_freep))) = NULL;
    struct pg_result *called __attribute__((cleanup(pg_result_freep))) = NULL;
    struct doctor_participant participants[DOCTOR_PARTICIPANTS_MAX];
    struct error error = {0};
    const char *orchestrator = NULL;
    int count = 0;
    if (cli_query(doctor->cli, &sql_cli_migration_table, NULL, &present, &error) != CLI_DONE ||
        !pg_bool(present, 0, 0) ||
        cli_query(doctor->cli, &sql_cli_parts, NULL, &parts, &error) != CLI_DONE) {
        doctor_add(doctor, "schema", VERDICT_FAIL, "run: sagapost migrate", "%s",
                   error.code != 0 ? error.message : "Sagapost's schema is not in this database");
    } else {
        if (part_look(doctor, parts, "outbox")) {
            statement_look(doctor, "outbox", &sql_cli_doctor_outbox, NULL);
            if (cli_query(doctor->cli, &sql_cli_doctor_fence, NULL, &owned, &error) != CLI_DONE)
                doctor_add(doctor, "outbox", VERDICT_FAIL,
                           "grant this role what it needs, or use the owner of the schema", "%s",
                           error.message);
        }
        part_look(doctor, parts, "inbox");
        part_look(doctor, parts, "participant");
        if (part_look(doctor, parts, "saga")) {
            statement_look(doctor, "sagas", &sql_cli_doctor_saga, NULL);
            if (cli_query(doctor->cli, &sql_cli_doctor_participants, NULL, &called, &error) ==
                    CLI_DONE &&
                pg_result_rows(called) > 0) {
                count = participants_read(called, participants);
                orchestrator = pg_text(called, 0, 3);
            }
        }
    }
    doctor_look_at_broker(doctor, owned, orchestrator, participants, count);
}

enum cli_exit doctor_command(struct cli *cli, struct error *error)
{
    static const char *const headings[] = {"verdict", "subject", "finding", "advice", NULL};
    struct doctor doctor = {.cli = cli, .output = output_begin(cli, headings)};
    struct error away = {0};
    if (cli_connect(cli, &away) == CLI_DONE) {
        doctor_add(&doctor, "PostgreSQL", VERDICT_OK, NULL, "can be reached");
        postgres_look(&doctor);
        schema_look(&doctor);
    } else {
        doctor_add(&doctor, "PostgreSQL", VERDICT_FAIL,
                   "check --postgres (or PGHOST and its kin), and whether the server runs", "%s",
                   away.message);
        doctor_look_at_broker(&doctor, NULL, NULL, NULL, 0);
    }
    int failures = doctor.failures, warnings = doctor.warnings;
    output_end(doctor.output, "nothing to look at");
    if (failures == 0)
        return CLI_DONE;
    error_set(error, ERROR_STATE, RETRY_POISON, "%d failures, %d warnings", failures, warnings);
    return CLI_FAILED;
}
