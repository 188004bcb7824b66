/* The small ones: pace, actions, intents. */
#include "saga/worker/actions.h"
#include "saga/worker/intents.h"
#include "saga/worker/pace.h"
#include "worker_test.h"

#include "outbox/runtime/clock.h"
#include <string.h>

/* --- actions ---------------------------------------------------------------------------------- */

static void add(struct actions *actions, const struct actions *before, const char *name,
                bool has_lock)
{
    struct error error;
    assert_int_equal(actions_add(actions, before, name, has_lock, 32, &error), 0);
}

static void deadlocks_make_batches_smaller(void **state)
{
    (void)state;
    struct actions actions = {0};
    struct actions none = {0};
    add(&actions, &none, "bank.move", false);
    add(&actions, &none, "bank.open", true);
    struct action *move = actions_find(&actions, "bank.move");
    struct action *locked = actions_find(&actions, "bank.open");
    assert_false(actions_deadlocked(locked, 32));
    assert_int_equal(locked->limit, 32);
    assert_true(actions_deadlocked(move, 12));
    assert_int_equal(move->limit, 6);
    while (move->limit > 1) {
        assert_true(actions_deadlocked(move, 32));
    }
    assert_false(actions_deadlocked(move, 32));
    actions_begin(&actions);
    assert_true(actions_take(&actions, "bank.move"));
    assert_false(actions_take(&actions, "bank.move"));
    assert_true(actions_take(&actions, "bank.open"));
    assert_true(actions_take(&actions, "bank.unknown"));
    actions_begin(&actions);
    assert_true(actions_take(&actions, "bank.move"));
    for (int i = 0; i < 100; i++) {
        actions_worked(move, 32);
    }
    assert_int_equal(move->limit, 2);

    struct actions fresh = {0};
    add(&fresh, &actions, "bank.move", false);
    assert_int_equal(actions_find(&fresh, "bank.move")->limit, 2);
    actions_free(&actions);
    add(&actions, &fresh, "bank.move", true);
    assert_int_equal(actions_find(&actions, "bank.move")->limit, 32);
    actions_free(&actions);
    actions_free(&fresh);
}

static void participants_each_once(void **state)
{
    (void)state;
    static const char *const names[] = {"a.x", "a.y", "a_b.x", "b.c.d", "b.e"};
    static const char *const expected[] = {"a", "a_b", "b"};
    struct actions actions = {0};
    struct actions none = {0};
    char participant[16];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        add(&actions, &none, names[i], false);
    }
    size_t found = 0;
    for (int at = 0; actions_next_participant(&actions, &at, participant, sizeof participant);) {
        assert_string_equal(participant, expected[found++]);
    }
    assert_int_equal(found, 3);
    assert_null(actions_find(&actions, "a"));
    actions_free(&actions);
}

static void an_action_that_is_too_long_is_refused(void **state)
{
    (void)state;
    struct actions actions = {0};
    struct actions none = {0};
    struct error error;
    char name[400];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(actions_add(&actions, &none, name, false, 32, &error), ERROR_LIMIT);
    actions_free(&actions);
}

/* --- intents ---------------------------------------------------------------------------------- */

static void skips_until_its_time(void **state)
{
    (void)state;
    struct intents intents = {0};
    int64_t ids[INTENTS_SKIPPED_MAX];
    intents_skip(&intents, 7, 100);
    intents_skip(&intents, 8, 200);
    assert_int_equal(intents_skipped(&intents, 50, ids), 2);
    assert_int_equal(intents_skipped(&intents, 100, ids), 1);
    assert_int_equal(ids[0], 8);
    intents_skip(&intents, 8, 90);
    assert_int_equal(intents_skipped(&intents, 95, ids), 1);
    assert_int_equal(ids[0], 7);
    for (int i = 0; i < 2 * INTENTS_SKIPPED_MAX; i++) {
        intents_skip(&intents, 1000 + i, 100);
    }
    assert_int_equal(intents_skipped(&intents, 50, ids), INTENTS_SKIPPED_MAX);
}

static void one_by_one_after_a_failure(void **state)
{
    (void)state;
    struct intents intents = {0};
    assert_int_equal(intents_limit(&intents, 100), 100);
    intents_failed(&intents, 2);
    assert_int_equal(intents_limit(&intents, 100), 1);
    assert_int_equal(intents_limit(&intents, 100), 1);
    assert_int_equal(intents_limit(&intents, 100), 100);
}

/* --- pace ------------------------------------------------------------------------------------- */

static void one_alone_is_followed_at_once(void **state)
{
    (void)state;
    struct pace pace = {0};
    assert_false(pace_holds(&pace, 0, false));
    pace_started(&pace, 1);
    pace_finished(&pace, 1000, 2000);
    assert_false(pace_holds(&pace, 1000, false));
}

static void several_are_followed_by_a_pause(void **state)
{
    (void)state;
    struct pace pace = {0};
    pace_started(&pace, 2);
    pace_finished(&pace, 1000, 2000);
    assert_true(pace_holds(&pace, 1000, false));
    assert_true(pace_holds(&pace, 2999, false));
    assert_false(pace_holds(&pace, 2999, true)); /* a full batch */
    assert_false(pace_holds(&pace, 3000, false));
    pace_started(&pace, 1);
    pace_finished(&pace, 3500, 2000);
    assert_false(pace_holds(&pace, 3500, false));
    pace_started(&pace, 9);
    pace_finished(&pace, 4000, 0); /* set to none */
    assert_false(pace_holds(&pace, 4000, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_alone_is_followed_at_once),
        cmocka_unit_test(several_are_followed_by_a_pause),
        cmocka_unit_test(deadlocks_make_batches_smaller),
        cmocka_unit_test(participants_each_once),
        cmocka_unit_test(an_action_that_is_too_long_is_refused),
        cmocka_unit_test(skips_until_its_time),
        cmocka_unit_test(one_by_one_after_a_failure),
    };
    return cmocka_run_group_tests_name("pure", tests, NULL, NULL);
}
