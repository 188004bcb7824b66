/* test_mutants.c: bugs put into the tables, each of which the walk must catch. A walk that finds
 * nothing proves something only if it would have found these. */
#include "tests/machine/explore.h"
#include "tests/machine/mutants.h"
#include "tests/machine/sagas.h"

#include "saga/machine/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What the walk is given: small, and with every kind of trouble. */
static const struct {
    const char *saga;
    struct world_options options;
    const char *to;    /* may be migrated to this */
    const char *names; /* of its steps, a letter each; NULL: a, b, c */
} walks[] = {
    {"c", {.cancel = true, .pause = true}},
    {"c", {.cancel = true, .operators = 1}},
    {"c", {.cancel = true, .lies = true}},
    {"p t0", {.cancel = true}},
    {"c c0", {.cancel = true}},
    {"c c", {.cancel = true}},
    {"c c", {.cancel = true, .lies = true}},
    {"c p0 t1", {.cancel = true}},
    {"p w0", {.unmappable = true}},
    {"c c0", {.cancel = true}, "c r0 c1"},
    {"k", {.cancel = true}},
    {"p", {.taken_back = true}},
    {"c c0", {.taken_back = true}},
    {"f", {.cancel = true, .unmappable = true}},
    {"n", {.cancel = true}},
    {"c l0 c1", {.unmappable = true}},
    {"m p0", {.unmappable = true}},
    {"c l0", {.cancel = true, .pause = true}},
    {"c l", {.cancel = true}},
    {"o c0", {.cancel = true, .unmappable = true}},
    {"e", {.cancel = true}},
    {"c c", {.cancel = true}, "c c", "ba"},
    {"n", {.cancel = true}, "c n", "ba"},
    {"c r", {.cancel = true, .all_due = true}},
};

static void name_steps(struct plan *plan, const char *letters)
{
    static const char *const names[] = {"a", "b", "c"};
    for (int i = 0; letters && i < plan->step_count; i++)
        plan->steps[i].name = names[letters[i] - 'a'];
}

static const char *walk_all(struct explorer *explorer)
{
    static struct plan plan, to;
    struct exploration exploration;
    for (size_t i = 0; i < sizeof(walks) / sizeof(walks[0]); i++) {
        struct world_options options = walks[i].options;
        saga_make(walks[i].saga, &plan);
        if (walks[i].to) {
            saga_make(walks[i].to, &to);
            to.version = plan.version + 1;
            name_steps(&to, walks[i].names);
            options.to = &to;
        }
        explore(explorer, &plan, &options, false, &exploration);
        if (exploration.broken)
            return exploration.broken;
    }
    return NULL;
}

#define ROWS_MAX 256

struct tables {
    struct table_row steps[ROWS_MAX], sagas[ROWS_MAX];
    struct settle_rule rules[ROWS_MAX];
    enum step_state told_first[ELEMENTS_TOLD_FIRST];
};

static void copy_tables(struct tables *tables, bool back)
{
    size_t count;
    struct table_row *rows = step_rows(&count);
    assert_true(count <= ROWS_MAX);
    memcpy(back ? rows : tables->steps, back ? tables->steps : rows, count * sizeof(*rows));
    rows = saga_rows(&count);
    assert_true(count <= ROWS_MAX);
    memcpy(back ? rows : tables->sagas, back ? tables->sagas : rows, count * sizeof(*rows));
    struct settle_rule *rules = settle_rules(&count);
    memcpy(back ? rules : tables->rules, back ? tables->rules : rules, count * sizeof(*rules));
    enum step_state *told_first = elements_told_first();
    memcpy(back ? told_first : tables->told_first, back ? tables->told_first : told_first,
           sizeof(tables->told_first));
}

static void the_machine_is_sound(void **state)
{
    const char *broken = walk_all(*state);
    if (broken)
        fail_msg("%s", broken);
}

static void every_mutant_is_caught(void **state)
{
    static struct tables tables;
    int alive = 0;
    size_t count;
    const struct mutant *all = mutants(&count);
    copy_tables(&tables, false);
    for (size_t i = 0; i < count; i++) {
        all[i].mutate();
        const char *broken = walk_all(*state);
        print_message("%-44s %s\n", all[i].name, broken ? broken : "NOT CAUGHT");
        alive += broken == NULL;
        copy_tables(&tables, true);
    }
    assert_int_equal(alive, 0);
    the_machine_is_sound(state);
}

static int set_up(void **state)
{
    *state = explorer_create();
    return 0;
}

static int tear_down(void **state)
{
    explorer_destroy(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_machine_is_sound),
        cmocka_unit_test(every_mutant_is_caught),
    };
    return cmocka_run_group_tests_name("machine mutants", tests, set_up, tear_down);
}
