/* walk.c: the saga machine, exhaustively: every interleaving of answers, silence, repeats, late
 * answers, timers, cancels and operators, for all small sagas.
 *
 *     walk [--long] [--jobs N] [--only TEXT] [--trace] [--saga "c c p01 t2"] [--cancel] [--pause]
 *          [--operators N] [--expired] [--unmappable] [--lies] [--garbage] [--taken-back]
 *          [--all-due] [--folded] [--worlds-max N]
 *
 * Without --saga all of them, or the parts whose name contains TEXT; letters are the kinds (c
 * compensable, r read-only, p pivot, t retriable, w timer, s signal, z signal that it goes on
 * without, l lock, m lock that it goes on without, o lock that is waited for without a limit, k
 * child saga, q child saga as pivot, v behind it, u compensable with undo_on_fail, f g h
 * compensable, retriable, read-only fanned out over two elements, e the first with undo_on_fail, n
 * over two of which one is in flight at a time, x over three), digits the steps it comes after.
 * Prints the states visited, and says so where a saga has more worlds than were walked. */
#include "tests/machine/crew.h"
#include "tests/machine/explore.h"
#include "tests/machine/sagas.h"

#include "saga/machine/table.h"

#include <assert.h>
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
#define CHILDREN    (CHILD | 1u << TYPE_CHILD_PIVOT | 1u << TYPE_CHILD_BEHIND)
#define WAITS       (LOCKS | PATIENT | 1u << TYPE_TIMER | 1u << TYPE_SIGNAL)

/* A part of the walk: all sagas of so many steps, or one, with what may happen to them. */
struct part {
    const char *name;
    int step_count;
    uint32_t types;
    struct world_options options;
    bool is_long;
    int attempts;     /* of each action and undo; 0: as sagas.c makes them, two */
    const char *saga; /* NULL: all of these types */
    int fan_outs;     /* at most so many of a saga's steps are; 0: all may be */
    /* Each may be migrated to every version of at most so many steps that it could get: of the
     * pairs one of `stride`, as no two neighbours differ by much. 0: it is not migrated. */
    int versions;
    uint64_t stride;
    /* Of the one saga: it may be migrated to this version, whose steps' commands are these; NULL:
     * as they were. */
    const char *to, *action, *undo;
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
    {"2 steps, all that is due at once",
     2,
     ALL_TYPES,
     {.cancel = true, .pause = true, .all_due = true}},
    {"2 steps, children past the pivot",
     2,
     CHILDREN | 1u << TYPE_COMPENSABLE | 1u << TYPE_RETRIABLE,
     {.cancel = true, .pause = true, .operators = 1, .expired = true}},
    {"2 steps, locks without a limit",
     2,
     1u << TYPE_LOCK_FOR_EVER | PIVOT_ON | 1u << TYPE_COMPENSABLE,
     {.cancel = true, .pause = true, .operators = 1, .unmappable = true}},
    {"fanned out, cleaned up when failed",
     1,
     1u << TYPE_FAN_CLEANED,
     {.cancel = true, .all_due = true}},
    {"fanned out, migrated",
     1,
     FANS | 1u << TYPE_COMPENSABLE,
     {.unmappable = true},
     .fan_outs = 1,
     .versions = 2,
     .stride = 3},
    {"2 steps, migrated, an operator",
     2,
     PIVOT_ON | 1u << TYPE_COMPENSABLE,
     {.operators = 1},
     .versions = 2,
     .stride = 11},
    {"fanned out, everything", 1, FANS, {true, true, 1, true, true, true, true}, .is_long = true},
    {"fanned out over three, operators",
     1,
     1u << TYPE_FAN_THREE,
     {.cancel = true, .operators = 1},
     .is_long = true},
    {"2 steps, fanned out", 2, FANS | COMMANDS | FAN_BEHIND, {.cancel = true}, .is_long = true},
    {"2 steps, fanned out beside waits",
     2,
     FAN | 1u << TYPE_FAN_NARROW | WAITS | CHILD,
     {.cancel = true, .pause = true, .all_due = true},
     .is_long = true,
     .fan_outs = 1},
    {"fanned out, cleaned up, everything",
     1,
     1u << TYPE_FAN_CLEANED,
     {true, true, 1, true, true, true, true, .all_due = true},
     .is_long = true},
    {"fanned out, taken back",
     2,
     FANS | CHILD,
     {.unmappable = true, .taken_back = true, .all_due = true},
     .fan_outs = 1},
    {"2 steps, fanned out, migrated",
     2,
     FAN | 1u << TYPE_FAN_NARROW | 1u << TYPE_COMPENSABLE,
     {.cancel = false},
     .is_long = true,
     .fan_outs = 1,
     .versions = 2,
     .stride = 3},
    {"2 steps of locks and children, migrated",
     2,
     LOCKS | CHILDREN | 1u << TYPE_COMPENSABLE | 1u << TYPE_RETRIABLE,
     {.cancel = true, .unmappable = true},
     .is_long = true,
     .versions = 2,
     .stride = 2},
    {"3 steps, all that is due at once",
     3,
     COMMANDS | 1u << TYPE_TIMER | 1u << TYPE_SIGNAL | CHILD,
     {.folded = true, .all_due = true},
     .is_long = true},
    {"3 steps, children past the pivot",
     3,
     CHILDREN | 1u << TYPE_COMPENSABLE | 1u << TYPE_RETRIABLE,
     {.cancel = true, .folded = true},
     .is_long = true},
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
    {"2 steps, migrated",
     2,
     PIVOT_ON | 1u << TYPE_COMPENSABLE | 1u << TYPE_SIGNAL,
     {0},
     .versions = 3,
     .stride = 23},
    {"2 steps, migrated, pauses, cancels",
     2,
     PIVOT_ON | 1u << TYPE_COMPENSABLE,
     {.cancel = true, .pause = true},
     .versions = 3,
     .stride = 29},
    {"2 steps of every type, migrated",
     2,
     USUAL_TYPES | CHILD,
     {.cancel = true},
     .is_long = true,
     .versions = 3,
     .stride = 101},
    {"2 steps, migrated, all pairs",
     2,
     PIVOT_ON | 1u << TYPE_COMPENSABLE | 1u << TYPE_SIGNAL,
     {.cancel = true, .pause = true},
     .is_long = true,
     .versions = 3,
     .stride = 1},
    {"migrated to another undo", .saga = "c", .to = "c c0", .undo = "test.other",
     .options = {.unmappable = true, .operators = 1}},
    {"migrated to other undos", .saga = "c c0", .to = "c c0 c", .undo = "test.other",
     .options = {.cancel = true}},
    {"migrated to other undos, traces", .saga = "u c0", .to = "u c0", .undo = "test.other",
     .options = {.unmappable = true}},
    {"migrated to other undos, fan-out", .saga = "f", .to = "f c0", .undo = "test.other"},
    {"migrated to another action", .saga = "p t0", .to = "p t0 t1", .action = "test.other",
     .options = {.operators = 1}},
    {"migrated to other actions", .saga = "p t0 t0", .to = "p t0 t0 t1", .action = "test.other"},
};

#define ROWS_MAX 256

static bool has_too_many_fan_outs(const struct part *part, const struct plan *plan)
{
    int count = 0;
    for (int i = 0; i < plan->step_count; i++)
        count += step_fans_out(&plan->steps[i]);
    return part->fan_outs > 0 && count > part->fan_outs;
}

/* What a walk has counted. Of one process, and then of all. */
struct tally {
    uint64_t sagas, states, moves, most_states;
    uint64_t ended[SAGA_STATE_COUNT];
    uint64_t broken;
    uint64_t bounded, unexplored; /* sagas with more worlds than were walked; worlds at the edge */
    double seconds;
    uint64_t taken[ROWS_MAX]; /* of each row, the steps' before the sagas' */
};

struct walker {
    struct crew *crew;
    const struct part *part; /* NULL: a saga of its own */
    struct explorer *explorer;
    const struct world_options *options;
    int attempts;
    bool trace;
    struct tally *tally;
};

/* The plan of a part's saga, as the part has it. */
static const struct plan *with_attempts(const struct plan *given, int attempts)
{
    static struct plan plan;
    plan = *given;
    for (int i = 0; attempts && i < plan.step_count; i++) {
        /* A child saga is not tried anew but reminded, which is an attempt of its own. */
        if (plan.steps[i].via != VIA_SAGA)
            plan.steps[i].retry.max = plan.steps[i].undo_retry.max = attempts;
    }
    return &plan;
}

static void count(struct tally *tally, const struct exploration *exploration)
{
    tally->sagas++;
    tally->states += exploration->states;
    tally->moves += exploration->moves;
    if (exploration->states > tally->most_states)
        tally->most_states = exploration->states;
    for (int i = 0; i < SAGA_STATE_COUNT; i++)
        tally->ended[i] += exploration->ended[i];
    tally->broken += exploration->broken != NULL;
    tally->bounded += exploration->unexplored > 0;
    tally->unexplored += exploration->unexplored;
}

static void walk_saga(void *context, const struct plan *given)
{
    struct walker *walker = context;
    struct exploration exploration;
    char description[64];
    if (walker->part && has_too_many_fan_outs(walker->part, given))
        return;
    if (walker->crew && !crew_takes(walker->crew))
        return;
    const struct plan *plan = with_attempts(given, walker->attempts);
    explore(walker->explorer, plan, walker->options, true, &exploration);
    count(walker->tally, &exploration);
    saga_describe(plan, description, sizeof(description));
    if (walker->trace || exploration.broken)
        printf("  %-16s %9llu states%s%s\n", description, (unsigned long long)exploration.states,
               exploration.broken ? ", BROKEN: " : "",
               exploration.broken ? exploration.broken : "");
    fflush(stdout);
}

/* One saga and all its next versions. */
struct versions {
    struct walker *walker;
    const struct part *part;
    const struct plan *plan;
    uint64_t pairs;
};

static void walk_version(void *context, const struct plan *to)
{
    struct versions *versions = context;
    struct walker *walker = versions->walker;
    struct world_options options = versions->part->options;
    char description[64];
    if (has_too_many_fan_outs(versions->part, to) ||
        versions->pairs++ % versions->part->stride != 0)
        return;
    options.to = to;
    uint64_t sagas = walker->tally->sagas, broken = walker->tally->broken;
    walker->options = &options;
    walk_saga(walker, versions->plan);
    saga_describe(to, description, sizeof(description));
    if (walker->tally->broken > broken || (walker->trace && walker->tally->sagas > sagas))
        printf("    to %s, steps %s%s%s\n", description, to->steps[0].name,
               to->step_count > 1 ? to->steps[1].name : "",
               to->step_count > 2 ? to->steps[2].name : "");
}

static void walk_versions(void *context, const struct plan *plan)
{
    struct versions *versions = context;
    versions->plan = plan;
    sagas_each_version(versions->part->versions, versions->part->types, walk_version, versions);
}

/* The version that a part's saga may be migrated to. */
static const struct plan *next_version(const struct part *part)
{
    static struct plan to;
    saga_make(part->to, &to);
    to.version = 2;
    for (int i = 0; i < to.step_count; i++) {
        struct plan_step *step = &to.steps[i];
        step->action = step->action && part->action ? part->action : step->action;
        step->undo = step->undo && part->undo ? part->undo : step->undo;
    }
    return &to;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void report(const char *name, const struct tally *tally)
{
    printf("%-36s %5llu sagas %10llu states (at most %8llu) %11llu moves %6.1f s; worlds that "
           "ended: %llu succeeded, %llu compensated, %llu closed; %llu stuck\n",
           name, (unsigned long long)tally->sagas, (unsigned long long)tally->states,
           (unsigned long long)tally->most_states, (unsigned long long)tally->moves, tally->seconds,
           (unsigned long long)tally->ended[SAGA_SUCCEEDED],
           (unsigned long long)tally->ended[SAGA_COMPENSATED],
           (unsigned long long)tally->ended[SAGA_CLOSED],
           (unsigned long long)tally->ended[SAGA_STUCK]);
    if (tally->bounded > 0)
        printf("  BOUNDED: %llu of these sagas have more worlds than were walked; %llu worlds were "
               "found and not gone on from\n",
               (unsigned long long)tally->bounded, (unsigned long long)tally->unexplored);
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
    const char *operators = "0", *most = "0";
    option(argc, argv, "--operators", &operators);
    option(argc, argv, "--worlds-max", &most);
    struct world_options options = {
        .cancel = option(argc, argv, "--cancel", NULL),
        .pause = option(argc, argv, "--pause", NULL),
        .operators = (int)strtol(operators, NULL, 10),
        .expired = option(argc, argv, "--expired", NULL),
        .unmappable = option(argc, argv, "--unmappable", NULL),
        .lies = option(argc, argv, "--lies", NULL),
        .garbage = option(argc, argv, "--garbage", NULL),
        .taken_back = option(argc, argv, "--taken-back", NULL),
        .all_due = option(argc, argv, "--all-due", NULL),
        .folded = option(argc, argv, "--folded", NULL),
        .worlds_max = (uint32_t)strtoul(most, NULL, 10),
    };
    struct tally tally = {0};
    struct walker walker = {
        .explorer = explorer, .options = &options, .trace = true, .tally = &tally};
    saga_make(description, &plan);
    double start = seconds();
    walk_saga(&walker, &plan);
    tally.seconds = seconds() - start;
    report(description, &tally);
    return tally.broken ? 1 : 0;
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

/* How often each row was taken, in this process; from and to a tally. */
static void move_taken(struct tally *tally, bool to_rows)
{
    size_t step_count, saga_count;
    struct table_row *steps = step_rows(&step_count);
    struct table_row *sagas = saga_rows(&saga_count);
    assert(step_count + saga_count <= ROWS_MAX);
    for (size_t i = 0; i < step_count + saga_count; i++) {
        struct table_row *row = i < step_count ? &steps[i] : &sagas[i - step_count];
        if (to_rows) {
            row->taken += tally->taken[i];
        } else {
            tally->taken[i] = row->taken;
            row->taken = 0;
        }
    }
}

struct orders {
    const struct part *part;
    bool trace;
};

/* What one process does. */
static void walk_part(struct crew *crew, void *tally_of_part, void *context)
{
    static struct plan plan;
    struct tally *tally = tally_of_part;
    const struct orders *orders = context;
    const struct part *part = orders->part;
    struct walker walker = {.crew = crew,
                            .part = part,
                            .explorer = explorer_create(),
                            .options = &part->options,
                            .attempts = part->attempts,
                            .trace = orders->trace,
                            .tally = tally};
    struct versions versions = {.walker = &walker, .part = part};
    struct world_options options = part->options;
    struct tally before = {0};
    move_taken(&before, false);
    double start = seconds();
    if (part->saga) {
        saga_make(part->saga, &plan);
        options.to = part->to ? next_version(part) : NULL;
        walker.options = &options;
        walk_saga(&walker, &plan);
    } else if (part->stride > 0) {
        sagas_each(part->step_count, part->types, walk_versions, &versions);
    } else {
        sagas_each(part->step_count, part->types, walk_saga, &walker);
    }
    tally->seconds = seconds() - start;
    move_taken(tally, false);
    move_taken(&before, true);
    explorer_destroy(walker.explorer);
}

static void add_up(struct tally *sum, const struct tally *tally)
{
    sum->sagas += tally->sagas;
    sum->states += tally->states;
    sum->moves += tally->moves;
    sum->most_states =
        tally->most_states > sum->most_states ? tally->most_states : sum->most_states;
    for (int i = 0; i < SAGA_STATE_COUNT; i++)
        sum->ended[i] += tally->ended[i];
    sum->broken += tally->broken;
    sum->bounded += tally->bounded;
    sum->unexplored += tally->unexplored;
    sum->seconds += tally->seconds;
}

/* Adds to `sum`. */
static void run_part(const struct part *part, int jobs, bool trace, struct tally *sum)
{
    static struct tally tallies[CREW_MAX];
    struct tally whole = {0};
    struct orders orders = {part, trace};
    int lost = crew_run(jobs, walk_part, &orders, tallies, sizeof(tallies[0]));
    for (int i = 0; i < jobs; i++) {
        add_up(&whole, &tallies[i]);
        move_taken(&tallies[i], true);
    }
    report(part->name, &whole);
    if (lost > 0)
        printf("  BROKEN: %d of %d processes did not come to their end\n", lost, jobs);
    whole.broken += (uint64_t)lost;
    add_up(sum, &whole);
}

static int jobs_of(int argc, char **argv)
{
    const char *given = "1";
    option(argc, argv, "--jobs", &given);
    long jobs = strtol(given, NULL, 10);
    if (jobs < 1 || jobs > CREW_MAX) {
        fprintf(stderr, "--jobs is 1 to %d\n", CREW_MAX);
        exit(2);
    }
    return (int)jobs;
}

int main(int argc, char **argv)
{
    const char *description, *only = "";
    if (option(argc, argv, "--saga", &description)) {
        struct explorer *explorer = explorer_create();
        int status = walk_one(explorer, description, argc, argv);
        explorer_destroy(explorer);
        return status;
    }
    bool is_long = option(argc, argv, "--long", NULL);
    int jobs = jobs_of(argc, argv);
    struct tally sum = {0};
    option(argc, argv, "--only", &only);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if ((parts[i].is_long && !is_long) || !strstr(parts[i].name, only))
            continue;
        run_part(&parts[i], jobs, option(argc, argv, "--trace", NULL), &sum);
    }
    if (only[0] == '\0')
        sum.broken += (uint64_t)report_rows();
    printf("%llu states visited, %llu sagas bounded, %llu problems, %.0f s\n",
           (unsigned long long)sum.states, (unsigned long long)sum.bounded,
           (unsigned long long)sum.broken, sum.seconds);
    return sum.broken ? 1 : 0;
}
