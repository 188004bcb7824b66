/* Which migrations are applied: parts and what they stand on, --to, what is there already, what is
 * refused. */
#include "saga/cli/migrate.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define ALL "outbox,inbox,participant,saga"

static void everything_in_order(void **state)
{
    struct migrate_plan plan;
    struct error error = {0};
    (void)state;
    assert_int_equal(migrate_decide(ALL, 0, NULL, 0, &plan, &error), 0);
    assert_int_equal(plan.count, MIGRATION_NEWEST);
    for (int i = 0; i < plan.count; i++)
        assert_int_equal(plan.steps[i]->number, i + 1);
}

static void parts_bring_what_they_stand_on(void **state)
{
    static const struct {
        const char *parts, *expected;
    } cases[] = {{"inbox", "base inbox"},
                 {"participant", "base outbox participant"},
                 {"saga", "base outbox participant saga"},
                 {"outbox", "base outbox"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct migrate_plan plan;
        struct error error = {0};
        assert_int_equal(migrate_decide(cases[i].parts, 0, NULL, 0, &plan, &error), 0);
        for (int s = 0; s < plan.count; s++)
            assert_non_null(strstr(cases[i].expected, plan.steps[s]->part));
        assert_true(plan.count >= 2 && plan.count < MIGRATION_NEWEST);
    }
}

static void what_is_applied_is_left_out(void **state)
{
    struct applied_migration applied[MIGRATION_NEWEST];
    struct migrate_plan plan;
    struct error error = {0};
    (void)state;
    for (int i = 0; i < MIGRATION_NEWEST; i++)
        applied[i] = (struct applied_migration){i + 1, migrations[i].name, migrations[i].sha256};
    assert_int_equal(migrate_decide(ALL, 0, applied, MIGRATION_NEWEST, &plan, &error), 0);
    assert_int_equal(plan.count, 0);
    assert_int_equal(migrate_decide(ALL, 0, applied, 2, &plan, &error), 0);
    assert_int_equal(plan.count, MIGRATION_NEWEST - 2);
    assert_int_equal(plan.steps[0]->number, 3);
    /* A part that came later fills the gap of its numbers. */
    struct applied_migration few[] = {applied[0], applied[2]};
    assert_int_equal(migrate_decide(ALL, 3, few, 2, &plan, &error), 0);
    assert_int_equal(plan.count, 1);
    assert_int_equal(plan.steps[0]->number, 2);
}

static void mistakes_are_named(void **state)
{
    struct migrate_plan plan = {.count = 77};
    struct error error = {0};
    (void)state;
    assert_int_equal(migrate_decide("outbox,wrong", 0, NULL, 0, &plan, &error), ERROR_USAGE);
    assert_non_null(strstr(error.message, "\"wrong\""));
    assert_int_equal(migrate_decide("", 0, NULL, 0, &plan, &error), ERROR_USAGE);
    assert_int_equal(migrate_decide(ALL, MIGRATION_NEWEST + 1, NULL, 0, &plan, &error),
                     ERROR_USAGE);
    struct applied_migration newer = {MIGRATION_NEWEST + 1, "of_tomorrow", "x"};
    assert_int_equal(migrate_decide(ALL, 0, &newer, 1, &plan, &error), ERROR_REFUSED);
    assert_non_null(strstr(error.message, "of_tomorrow"));
    struct applied_migration changed = {2, migrations[1].name, "another"};
    assert_int_equal(migrate_decide(ALL, 0, &changed, 1, &plan, &error), ERROR_REFUSED);
    assert_non_null(strstr(error.message, "migration 2"));
    assert_int_equal(plan.count, 77); /* untouched on failure */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_in_order),
        cmocka_unit_test(parts_bring_what_they_stand_on),
        cmocka_unit_test(what_is_applied_is_left_out),
        cmocka_unit_test(mistakes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
