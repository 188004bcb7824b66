/* test_explore.c: the walk itself: what is folded stands for all that it hides, what is bounded
 * says so, and a list that is shared is done once. */
#include "tests/machine/crew.h"
#include "tests/machine/explore.h"
#include "tests/machine/sagas.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct exploration walk(const char *saga, struct world_options options)
{
    static struct plan plan;
    struct explorer *explorer = explorer_create();
    struct exploration exploration;
    saga_make(saga, &plan);
    explore(explorer, &plan, &options, false, &exploration);
    explorer_destroy(explorer);
    return exploration;
}

/* One world for those that are the same but for the names of like steps: as many as there are
 * without folding, when each is counted as often as it stands for another. */
static void folded_worlds_stand_for_all_others(void **state)
{
    static const char *const sagas[] = {"c",       "c c",     "c r",   "c c c0",
                                        "r r p01", "p t0 t0", "c c c", "c c0 c0"};
    (void)state;
    for (size_t i = 0; i < sizeof(sagas) / sizeof(sagas[0]); i++) {
        struct exploration all = walk(sagas[i], (struct world_options){.cancel = true});
        struct exploration folded =
            walk(sagas[i], (struct world_options){.cancel = true, .folded = true});
        assert_null(all.broken);
        assert_null(folded.broken);
        assert_int_equal(folded.stand_for, all.states);
        assert_int_equal(all.stand_for, all.states);
        assert_true(folded.states <= all.states);
    }
    assert_true(walk("c c", (struct world_options){.folded = true}).states <
                walk("c c", (struct world_options){.pause = false}).states);
}

static void a_bounded_walk_says_so(void **state)
{
    (void)state;
    struct exploration whole = walk("c c", (struct world_options){.cancel = true});
    struct exploration part =
        walk("c c", (struct world_options){.cancel = true, .worlds_max = 100});
    assert_int_equal(whole.unexplored, 0);
    assert_null(part.broken);
    assert_true(part.unexplored > 0);
    assert_in_range(part.states, 100, 100 + MOVES_MAX);
    part =
        walk("c c", (struct world_options){.cancel = true, .worlds_max = (uint32_t)whole.states});
    assert_int_equal(part.unexplored, 0);
    assert_int_equal(part.states, whole.states);
}

#define PIECES 1000

struct taken {
    int times[PIECES];
};

static void take_pieces(struct crew *crew, void *tally, void *context)
{
    struct taken *taken = tally;
    const int *dies_at = context;
    for (int i = 0; i < PIECES; i++) {
        if (!crew_takes(crew))
            continue;
        if (i == *dies_at)
            _Exit(1);
        taken->times[i]++;
    }
}

static void each_piece_is_taken_once(void **state)
{
    static struct taken taken[3];
    int never = -1;
    (void)state;
    for (int jobs = 1; jobs <= 3; jobs++) {
        assert_int_equal(crew_run(jobs, take_pieces, &never, taken, sizeof(taken[0])), 0);
        for (int i = 0; i < PIECES; i++) {
            int times = 0;
            for (int j = 0; j < jobs; j++)
                times += taken[j].times[i];
            assert_int_equal(times, 1);
        }
    }
}

static void a_process_that_is_lost_is_told(void **state)
{
    static struct taken taken[2];
    int dies_at = 7;
    (void)state;
    assert_int_equal(crew_run(2, take_pieces, &dies_at, taken, sizeof(taken[0])), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folded_worlds_stand_for_all_others),
        cmocka_unit_test(a_bounded_walk_says_so),
        cmocka_unit_test(each_piece_is_taken_once),
        cmocka_unit_test(a_process_that_is_lost_is_told),
    };
    return cmocka_run_group_tests_name("machine explore", tests, NULL, NULL);
}
