/* walk.c: the saga machine, exhaustively: every interleaving of answers, silence, repeats, late
 * answers, timers, cancels and operators, for all small sagas.
 *
 *     walk [--long] [--only TEXT] [--trace] [--saga "c c p01 t2"] [--cancel] [--pause]
 *          [--operators N] [--expired] [--unmappable] [--lies] [--garbage] [--folded]
 *
 * Without --saga all of them, or the parts whose name contains TEXT; letters are the kinds (c
 * compensable, r read-only, p pivot, t retriable, w timer, s signal, z signal that it goes on
 * without, l lock, m lock that it goes on without, k child saga, u compensable with undo_on_fail, f
 * g h compensable, retriable, read-only fanned out over two elements, n over two of which one is in
 * flight at a time, x over three), digits the steps it comes after. Prints the states visited. */
#include "tests/machine/explore.h"
#include "tests/machine/sagas.h"

#include "saga/machine/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COMMANDS                                                                                   \
    (1u << TYPE_COMPENSABLE | 1u << TYPE_READ_ONLY | 1u << TYPE_PIVOT | 1u << TYPE_RETRIABLE)
#define PATIENT     (1u << TYPE_PATIENT)
#define CHILD       (1u << TYPE_CHILD)
#define ALL_TYPES   ((1u << TYPE_FAN) - 1) /* but for fan-outs */
#define LOCKS       (1u << TYPE_LOCK | 1u << TYPE_PATIENT_LOCK)
#define USUAL_TYPES (ALL_TYPES & ~(PATIENT | CHILD | LOCKS))
#define FAN         (1u << TYPE_FAN)
#define FAN_BEHIND  (1u << TYPE_FAN_RETRIABLE)
#define FANS        (FAN | 1u << TYPE_FAN_READ | 1u << TYPE_FAN_NARROW)

/* A part of the walk: all sagas of so many steps, or one, with what may happen to them. */
struct part {
    const char *name;
    int step_count;
    uint32_t types;
    struct world_options options;
    bool is_long;
    int attempts;     /* of each action and undo; 0: as sagas.c makes them, two */
    const char *saga; /* NULL: all of these types */
};

#define PIVOT_ON (1u << TYPE_PIVOT | 1u << TYPE_RETRIABLE)

static const struct part parts[] = {
    {"1 step, everything", 1, ALL_TYPES, {true, true, 2, true, true, true, true}},
    {"2 steps, pauses, conditions",
     2,
     USUAL_TYPES,
     {.cancel = true, .pause = true, .unmappable = true}},
    {"2 steps, an operator", 2, USUAL_TYPES, {.cancel = true, .operators = 1}},
    {"2 steps, an operator, pauses", 2, PIVOT_ON, {.pause = true, .operators = 1, .garbage = true}},
    {"2 steps, forgetful", 2, USUAL_TYPES, {.cancel = true, .expired = true}},
    {"2 steps, signals done without",
     2,
     PATIENT | PIVOT_ON | 1u << TYPE_COMPENSABLE,
     {.cancel = true, .pause = true, .unmappable = true}},
    {"2 steps, locks",
     2,
     LOCKS | PIVOT_ON | 1u << TYPE_COMPENSABLE,
     {.cancel = true, .pause = true, .operators = 1, .unmappable = true}},
    {"2 steps, child sagas",
     2,
     CHILD | PIVOT_ON | 1u << TYPE_COMPENSABLE,
     {.cancel = true, .pause = true, .operators = 1, .taken_back = true}},
    {"2 steps, children taken back",
     2,
     CHILD | PATIENT | COMMANDS,
     {.unmappable = true, .taken_back = true}},
    {"2 steps, a lie", 2, COMMANDS, {.cancel = true, .lies = true, .garbage = true}},
    {"fanned out", 1, FANS, {.cancel = true, .pause = true, .expired = true, .unmappable = true}},
    {"fanned out, an operator", 1, FANS, {.operators = 1, .unmappable = true}},
    {"fanned out over three", 1, 1u << TYPE_FAN_THREE, {.cancel = true}},
    {"fanned out behind the pivot",
     2,
     1u << TYPE_PIVOT | FAN_BEHIND,
     {.pause = true, .operators = 1, .unmappable = true}},
    {"fanned out, then a step", 2, 0, {.cancel = false}, .saga = "n c0"},
    {"a step, then fanned out", 2, 0, {.cancel = false}, .saga = "c f0"},
    {"3 steps", 3, COMMANDS, {.cancel = false}},
    {"4 steps, one attempt", 4, COMMANDS, {.folded = true}, .attempts = 1},
    {"fanned out, everything", 1, FANS, {true, true, 1, true, true, true, true}, .is_long = true},
    {"fanned out over three, operators",
     1,
     1u << TYPE_FAN_THREE,
     {.cancel = true, .operators = 1},
     .is_long = true},
    {"2 steps, fanned out", 2, FANS | COMMANDS | FAN_BEHIND, {.cancel = true}, .is_long = true},
    {"2 steps, two operators", 2, COMMANDS, {.cancel = true, .operators = 2}, .is_long = true},
    {"2 steps, everything but lies", 2, COMMANDS, {true, true, 1, true, true}, .is_long = true},
    {"3 steps of every type, cancels",
     3,
     ALL_TYPES,
     {.cancel = true, .folded = true},
     .is_long = true},
    {"3 steps, pauses", 3, COMMANDS, {.cancel = true, .pause = true}, .is_long = true},
    {"3 steps, operators", 3, COMMANDS, {.cancel = true, .operators = 1}, .is_long = true},
    {"4 steps, cancels", 4, COMMANDS, {.cancel = true, .folded = true}, .is_long = true},
    {"4 steps, timers and signals",
     4,
     COMMANDS | 1u << TYPE_TIMER | 1u << TYPE_SIGNAL,
     {.folded = true},
     .is_long = true},
    {"4 steps but for locks, one attempt",
     4,
     ALL_TYPES & ~LOCKS,
     {.folded = true},
     .is_long = true,
     .attempts = 1},
    {"4 steps, child sagas",
     4,
     CHILD | PIVOT_ON | 1u << TYPE_COMPENSABLE,
     {.folded = true},
     .is_long = true},
};

/* Parts in which every saga of two steps may be migrated to every version that it could get: of the
 * pairs one of `stride`, as no two neighbours differ by much. */
static const struct migration {
    const char *name;
    uint32_t types;
    struct world_options options;
    uint64_t stride;
    bool is_long;
} migrations[] = {
    {"2 steps, migrated", PIVOT_ON | 1u << TYPE_COMPENSABLE | 1u << TYPE_SIGNAL, {0}, 23, false},
    {"2 steps, migrated, pauses, cancels",
     PIVOT_ON | 1u << TYPE_COMPENSABLE,
     {.cancel = true, .pause = true},
     29,
     false},
    {"2 steps of every type, migrated", USUAL_TYPES | CHILD, {.cancel = true}, 101, true},
    {"2 steps, migrated, all pairs",
     PIVOT_ON | 1u << TYPE_COMPENSABLE | 1u << TYPE_SIGNAL,
     {.cancel = true, .pause = true},
     1,
     true},
};

struct totals {
    struct explorer *explorer;
    const struct world_options *options;
    int attempts;
    bool trace;
    uint64_t sagas, states, moves, most_states;
    uint64_t ended[SAGA_STATE_COUNT];
    uint64_t broken;
};

static void walk_saga(void *context, const struct plan *given)
{
    static struct plan plan;
    struct totals *totals = context;
    struct exploration exploration;
    char description[64];
    plan = *given;
    for (int i = 0; totals->attempts && i < plan.step_count; i++) {
        /* A child saga is not tried anew but reminded, which is an attempt of its own. */
        if (plan.steps[i].via != VIA_SAGA)
            plan.steps[i].retry.max = plan.steps[i].undo_retry.max = totals->attempts;
    }
    explore(totals->explorer, &plan, totals->options, true, &exploration);
    totals->sagas++;
    totals->states += exploration.states;
    totals->moves += exploration.moves;
    if (exploration.states > totals->most_states)
        totals->most_states = exploration.states;
    for (int i = 0; i < SAGA_STATE_COUNT; i++)
        totals->ended[i] += exploration.ended[i];
    saga_describe(&plan, description, sizeof(description));
    if (totals->trace || exploration.broken)
        printf("  %-16s %9llu states%s%s\n", description, (unsigned long long)exploration.states,
               exploration.broken ? ", BROKEN: " : "",
               exploration.broken ? exploration.broken : "");
    totals->broken += exploration.broken != NULL;
}

/* One saga and all its next versions. */
struct versions {
    struct totals *totals;
    const struct migration *migration;
    const struct plan *plan;
    uint64_t pairs;
};

static void walk_version(void *context, const struct plan *to)
{
    struct versions *versions = context;
    struct world_options options = versions->migration->options;
    char description[64];
    if (versions->pairs++ % versions->migration->stride != 0)
        return;
    options.to = to;
    uint64_t broken = versions->totals->broken;
    versions->totals->options = &options;
    walk_saga(versions->totals, versions->plan);
    saga_describe(to, description, sizeof(description));
    if (versions->totals->trace || versions->totals->broken > broken)
        printf("    to %s, steps %s%s%s\n", description, to->steps[0].name,
               to->step_count > 1 ? to->steps[1].name : "",
               to->step_count > 2 ? to->steps[2].name : "");
}

static void walk_versions(void *context, const struct plan *plan)
{
    struct versions *versions = context;
    versions->plan = plan;
    sagas_each_version(versions->migration->types, walk_version, versions);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void report(const char *name, const struct totals *totals, double took)
{
    printf("%-32s %5llu sagas %10llu states (at most %8llu) %11llu moves %6.1f s; worlds that "
           "ended: %llu succeeded, %llu compensated, %llu closed; %llu stuck\n",
           name, (unsigned long long)totals->sagas, (unsigned long long)totals->states,
           (unsigned long long)totals->most_states, (unsigned long long)totals->moves, took,
           (unsigned long long)totals->ended[SAGA_SUCCEEDED],
           (unsigned long long)totals->ended[SAGA_COMPENSATED],
           (unsigned long long)totals->ended[SAGA_CLOSED],
           (unsigned long long)totals->ended[SAGA_STUCK]);
    fflush(stdout);
}

static bool option(int argc, char **argv, const char *name, const char **ret_value)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            if (ret_value)
                *ret_value = i + 1 < argc ? argv[i + 1] : "";
            return true;
        }
    }
    return false;
}

static int walk_one(struct explorer *explorer, const char *description, int argc, char **argv)
{
    static struct plan plan;
    const char *operators = "0";
    option(argc, argv, "--operators", &operators);
    struct world_options options = {
        .cancel = option(argc, argv, "--cancel", NULL),
        .pause = option(argc, argv, "--pause", NULL),
        .operators = (int)strtol(operators, NULL, 10),
        .expired = option(argc, argv, "--expired", NULL),
        .unmappable = option(argc, argv, "--unmappable", NULL),
        .lies = option(argc, argv, "--lies", NULL),
        .garbage = option(argc, argv, "--garbage", NULL),
        .folded = option(argc, argv, "--folded", NULL),
    };
    struct totals totals = {.explorer = explorer, .options = &options, .trace = true};
    saga_make(description, &plan);
    double start = seconds();
    walk_saga(&totals, &plan);
    report(description, &totals, seconds() - start);
    return totals.broken ? 1 : 0;
}

/* Rows that no saga took. Some are there only so that no pair is without one, and say so. */
static bool must_be_taken(const char *because)
{
    static const char *const never[] = {"no rule asks for this",
                                        "it has no timer: machine.c has dropped it",
                                        "the recorded steps contradict the saga's state"};
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        if (strcmp(because, never[i]) == 0)
            return false;
    }
    return true;
}

static bool report_row(const char *because, const char *guard, unsigned long taken)
{
    if (taken == 0 && must_be_taken(because))
        printf("  never taken: \"%s\" [%s]\n", because, guard);
    return taken == 0 && must_be_taken(because);
}

static int report_rows(void)
{
    size_t step_count, saga_count;
    const struct table_row *steps = step_rows(&step_count);
    const struct table_row *sagas = saga_rows(&saga_count);
    int missed = 0;
    for (size_t i = 0; i < step_count; i++)
        missed += report_row(steps[i].because, steps[i].guard_name, steps[i].taken);
    for (size_t i = 0; i < saga_count; i++)
        missed += report_row(sagas[i].because, sagas[i].guard_name, sagas[i].taken);
    printf("%zu rows, %d that no saga took\n", step_count + saga_count, missed);
    return missed;
}

static void walk_part(const struct part *part, struct totals *totals)
{
    static struct plan plan;
    if (!part->saga) {
        sagas_each(part->step_count, part->types, walk_saga, totals);
        return;
    }
    saga_make(part->saga, &plan);
    walk_saga(totals, &plan);
}

int main(int argc, char **argv)
{
    struct explorer *explorer = explorer_create();
    const char *description;
    uint64_t broken = 0, states = 0;
    if (option(argc, argv, "--saga", &description)) {
        int status = walk_one(explorer, description, argc, argv);
        explorer_destroy(explorer);
        return status;
    }
    bool is_long = option(argc, argv, "--long", NULL);
    const char *only = "";
    option(argc, argv, "--only", &only);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        struct totals totals = {.explorer = explorer,
                                .options = &parts[i].options,
                                .attempts = parts[i].attempts,
                                .trace = option(argc, argv, "--trace", NULL)};
        if ((parts[i].is_long && !is_long) || !strstr(parts[i].name, only))
            continue;
        double start = seconds();
        walk_part(&parts[i], &totals);
        report(parts[i].name, &totals, seconds() - start);
        broken += totals.broken;
        states += totals.states;
    }
    for (size_t i = 0; i < sizeof(migrations) / sizeof(migrations[0]); i++) {
        struct totals totals = {.explorer = explorer, .trace = option(argc, argv, "--trace", NULL)};
        struct versions versions = {.totals = &totals, .migration = &migrations[i]};
        if ((migrations[i].is_long && !is_long) || !strstr(migrations[i].name, only))
            continue;
        double start = seconds();
        sagas_each(2, migrations[i].types, walk_versions, &versions);
        report(migrations[i].name, &totals, seconds() - start);
        broken += totals.broken;
        states += totals.states;
    }
    explorer_destroy(explorer);
    if (only[0] == '\0')
        broken += (uint64_t)report_rows();
    printf("%llu states visited, %llu problems\n", (unsigned long long)states,
           (unsigned long long)broken);
    return broken ? 1 : 0;
}
