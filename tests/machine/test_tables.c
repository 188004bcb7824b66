/* test_tables.c: the tables as tables: every pair of state and event has its row, every row can be
 * reached, every state too, and README.md shows what they are. */
#include "saga/machine/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROWS_MAX 256

/* Each pair has a row without a guard, so that one is always found; and each row is the first that
 * is asked for at least one of its pairs, or no event could ever take it. */
static void check_coverage(MACHINE_ROWS struct table_row *rows, size_t count, int states,
                           int events)
{
    bool used[ROWS_MAX] = {false};
    assert_true(count <= ROWS_MAX);
    for (int state = 0; state < states; state++) {
        for (int event = 0; event < events; event++) {
            bool closed = false;
            for (size_t i = 0; i < count && !closed; i++) {
                bool here = (rows[i].states >> state & 1) && (rows[i].events >> event & 1);
                used[i] = used[i] || here;
                closed = here && !rows[i].guard;
            }
            if (!closed)
                fail_msg("state %d, event %d: no row without a guard", state, event);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (!used[i])
            fail_msg("row %zu (\"%s\") is hidden by those before it", i, rows[i].because);
    }
}

static void check_reachable(MACHINE_ROWS struct table_row *rows, size_t count, int first,
                            int states)
{
    uint32_t reached = VALUE_BIT(first);
    for (int pass = 0; pass < states; pass++) {
        for (size_t i = 0; i < count; i++) {
            if ((rows[i].states & reached) && rows[i].next != STATE_KEEP)
                reached |= VALUE_BIT(rows[i].next);
        }
    }
    assert_int_equal(reached, VALUE_BIT(states) - 1);
}

static void step_table_is_covered(void **state)
{
    (void)state;
    size_t count;
    MACHINE_ROWS struct table_row *rows = step_rows(&count);
    check_coverage(rows, count, STEP_STATE_COUNT, STEP_EVENT_COUNT);
    check_reachable(rows, count, STEP_WAITING, STEP_STATE_COUNT);
}

static void saga_table_is_covered(void **state)
{
    (void)state;
    size_t count;
    MACHINE_ROWS struct table_row *rows = saga_rows(&count);
    check_coverage(rows, count, SAGA_STATE_COUNT, SAGA_EVENT_COUNT);
    check_reachable(rows, count, SAGA_RUNNING, SAGA_STATE_COUNT);
}

static void rows_stay_within_their_enums(void **state)
{
    (void)state;
    size_t count;
    MACHINE_ROWS struct table_row *rows = step_rows(&count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(rows[i].states & ~STEP_STATES_ALL, 0);
        assert_int_equal(rows[i].events & ~STEP_EVENTS_ALL, 0);
        assert_in_range(rows[i].next + 1, 0, STEP_STATE_COUNT);
        assert_true(strlen(rows[i].because) > 0);
    }
    rows = saga_rows(&count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(rows[i].states & ~SAGA_STATES_ALL, 0);
        assert_in_range(rows[i].next + 1, 0, SAGA_STATE_COUNT);
        assert_true(strlen(rows[i].because) > 0);
    }
}

static char *drawn(void)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    machine_print_mermaid(out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void readme_shows_the_tables(void **state)
{
    (void)state;
    static char readme[65536];
    FILE *file = fopen(MACHINE_README, "r");
    assert_non_null(file);
    readme[fread(readme, 1, sizeof(readme) - 1, file)] = '\0';
    fclose(file);
    char *text = drawn();
    bool shown = strstr(readme, text) != NULL;
    if (!shown)
        print_message("saga/machine/README.md must contain:\n%s", text);
    free(text);
    assert_true(shown);
}

static void names_are_read_back(void **state)
{
    (void)state;
    for (int i = 0; i < SAGA_STATE_COUNT; i++) {
        const char *name = saga_state_name((enum saga_state)i);
        assert_int_equal(saga_state_parse(name, strlen(name)), i);
    }
    for (int i = 0; i < STEP_STATE_COUNT; i++) {
        const char *name = step_state_name((enum step_state)i);
        assert_int_equal(step_state_parse(name, strlen(name)), i);
    }
    for (int i = PHASE_FORWARD; i < SAGA_PHASE_COUNT; i++) {
        const char *name = saga_phase_name((enum saga_phase)i);
        assert_int_equal(saga_phase_parse(name, strlen(name)), i);
    }
    for (int i = 0; i < MACHINE_EVENT_COUNT; i++) {
        const char *name = machine_event_name((enum machine_event_type)i);
        assert_int_equal(machine_event_parse(name, strlen(name)), i);
    }
    for (int i = 0; i <= KIND_RETRIABLE; i++) {
        const char *name = step_kind_name((enum step_kind)i);
        assert_int_equal(step_kind_parse(name, strlen(name)), i);
    }
    for (int i = 0; i <= VIA_LOCK; i++) {
        const char *name = step_via_name((enum step_via)i);
        assert_int_equal(step_via_parse(name, strlen(name)), i);
    }
    for (int i = 0; i <= OPERATION_PROBE; i++) {
        const char *name = saga_operation_name((enum saga_operation)i);
        assert_int_equal(saga_operation_parse(name, strlen(name)), i);
    }
    assert_int_equal(saga_phase_parse("", 0), PHASE_NONE);
    assert_null(saga_phase_name(PHASE_NONE));
    assert_int_equal(step_state_parse("SEN", 3), -1);
    assert_int_equal(step_state_parse("SENTT", 5), -1);
    assert_int_equal(machine_event_parse("", 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step_table_is_covered),        cmocka_unit_test(saga_table_is_covered),
        cmocka_unit_test(rows_stay_within_their_enums), cmocka_unit_test(readme_shows_the_tables),
        cmocka_unit_test(names_are_read_back),
    };
    return cmocka_run_group_tests_name("machine tables", tests, NULL, NULL);
}
