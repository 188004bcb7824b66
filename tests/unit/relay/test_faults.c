/* The whole relay, from its first question to its last, between a PostgreSQL that fake_database.c
 * plays and a broker that does what it is asked: it takes the share over, publishes, sets aside,
 * tries again, does what an operator wants, empties a leaf, sleeps, comes to rest because the
 * number of shares changes, goes on, and leaves. At each place in turn something goes wrong, once
 * or twice in a row: an answer is a refusal, an answer is lost with its connection, a request
 * cannot be sent. Whatever it was, either the relay says that no retry can help, or all rows are
 * published, the position covers them, and nothing is set aside any more. */
#include "outbox/relay/ownership/lease.h"
#include "outbox/relay/relay.h"
#include "outbox/runtime/daemon.h"
#include "tests/unit/amqp/fake.h"
#include "tests/unit/relay/fake_database.h"
#include "tests/unit/relay/relay_parts_test.h"

#include <stdio.h>
#include <stdlib.h>

#define TURNS_MAX   8000
#define PLACES_STEP 5 /* between places where something goes wrong twice */

/* The relay -------------------------------------------------------------------------------------
 */

static struct fake broker;
static struct config *config;
static struct relay *relay;
static struct relay_options options;
static bool finished;
static struct error finish; /* code 0: in good order */

static void on_finished(void *data, const struct error *failure)
{
    (void)data;
    assert_false(finished);
    finished = true;
    error_clear(&finish);
    if (failure)
        finish = *failure;
}

static int setup(void **state)
{
    static const struct setting *const tables[] = {relay_settings, connection_settings, NULL};
    char program[] = "outbox-relay", often[] = "--truncate-interval=100ms", amqp[256];
    char *words[] = {program, often, NULL}, *variables[] = {amqp, NULL};
    struct error error;

    parts_setup(state);
    fake_init(&broker);
    fake_start(&broker, fake_serve_some);
    fake_hear(&broker);
    snprintf(amqp, sizeof(amqp), "SAGAPOST_AMQP=%s", broker.uri);
    if (config_create(&config, tables, &error) < 0 ||
        config_load(config, 2, words, variables, &error) < 0 ||
        settings_read(&options.settings, config, &error) < 0)
        fail_msg("%s", error.message);
    options.loop = parts.loop;
    options.metrics = parts.metrics;
    options.on_finished = on_finished;
    return 0;
}

static int teardown(void **state)
{
    config_destroy(config);
    fake_end(&broker);
    fake_finish(&broker);
    return parts_teardown(state);
}

static void turn(void)
{
    struct error error;

    clock_fake_advance(&parts.clock, 5 * US_PER_MS);
    if (loop_turn(parts.loop, US_PER_MS / 5, &error) < 0)
        fail_msg("%s", error.message);
}

/* What a session does that was lost: all that waited is told, then its owner, and a new one comes.
 */
static void connection_is_lost(void)
{
    struct error why = {0};

    fake_database_rolls_back();
    fake_loses_connection();
    error_set(&why, ERROR_POSTGRES, RETRY_RECONNECT, "lost");
    fake_session_options.on_down(fake_session_options.data, fake_session(), &why);
    turn(); /* a new one takes its time: what the loss began ends */
    fake_session_up(true);
    if (!finished)
        fake_session_options.on_up(fake_session_options.data, fake_session());
}

/* Faults ----------------------------------------------------------------------------------------
 */

enum fault {
    LOSES,           /* the answer, and what it was about did not take place */
    LOSES_COMMITTED, /* the answer alone */
    REFUSES_FOR_NOW,
    REFUSES_AS_BUG,
    REFUSES_FOR_EVER,
    SEND_FULL,
    SEND_LOST,
    FAULTS
};

/* What goes wrong in a run: each after so many more answers, or requests. */
#define STRIKES_MAX 2
static struct {
    enum fault fault;
    int after;
    char what[64]; /* it struck */
} strikes[STRIKES_MAX];
static int strike_count, struck;

static bool strikes_answers(void)
{
    return struck < strike_count && strikes[struck].fault < SEND_FULL;
}

static bool strikes_requests(void)
{
    return struck < strike_count && strikes[struck].fault >= SEND_FULL;
}

static void arm(void)
{
    bool full = strikes_requests() && strikes[struck].fault == SEND_FULL;

    fake_session_send_fails(strikes_requests() ? strikes[struck].after : 0,
                            full ? ERROR_LIMIT : ERROR_STATE, full ? RETRY_LATER : RETRY_RECONNECT);
}

static void strike(void)
{
    enum fault fault = strikes[struck].fault;
    char *what = strikes[struck].what;

    snprintf(what, sizeof(strikes[struck].what), "%s", fake_asked());
    struck++;
    arm();
    switch (fault) {
    case REFUSES_FOR_NOW:
    case REFUSES_AS_BUG:
    case REFUSES_FOR_EVER:
        fake_database_rolls_back();
        fake_refuse(what,
                    fault == REFUSES_FOR_NOW  ? RETRY_LATER
                    : fault == REFUSES_AS_BUG ? RETRY_BUG
                                              : RETRY_NEVER,
                    fault == REFUSES_FOR_EVER ? "42501" : "57014");
        break;
    case LOSES_COMMITTED:
        if (strcmp(what, "sync") == 0)
            fake_database_commits();
        connection_is_lost();
        break;
    default:
        connection_is_lost();
    }
}

static double slept; /* when the number of shares was to change */

/* All of the road was walked. */
static bool is_done(void)
{
    return finished || (fake_database_is_settled() && fake_database_shares() == 2 &&
                        metric_value(parts.stats.sleeps) > slept);
}

/* The operator wants another number of shares once all is settled, and says so again and again. */
static void change_shares(int turns)
{
    if (fake_database_sharing() == SHARES_STEADY && fake_database_shares() == 1 &&
        fake_database_is_settled() && metric_value(parts.stats.sleeps) > slept) {
        slept = metric_value(parts.stats.sleeps);
        fake_database_wants_shares();
    }
    if (fake_database_sharing() != SHARES_STEADY && turns % 8 == 0 && fake_session_is_up() &&
        !fake_reconnect_asked() && !finished)
        fake_session_options.on_notify(fake_session_options.data, fake_session(), "", "shares");
}

static void stands_still(void)
{
    for (int i = 0; i < strike_count; i++)
        print_error("fault %d after %d: %s\n", strikes[i].fault, strikes[i].after, strikes[i].what);
    fail_msg("it stands still; asked: \"%s\"; log:\n%s", fake_asked(), parts_logged());
}

/* Answers until all is done, but for what is to go wrong. */
static void serve(bool until_finished)
{
    for (int turns = 0; until_finished ? !finished : !is_done(); turns++) {
        if (turns > TURNS_MAX)
            stands_still();
        if (strikes_requests() && fake_session_send_failed()) {
            struck++;
            arm();
        }
        if (fake_reconnect_asked() || !fake_session_is_up())
            connection_is_lost();
        if (!fake_asked()[0]) {
            change_shares(turns);
            turn();
        } else if (strikes_answers() && --strikes[struck].after == 0) {
            strike();
        } else {
            fake_database_answer();
        }
    }
}

static bool strikes_for_ever(void)
{
    for (int i = 0; i < strike_count; i++)
        if (strikes[i].fault == REFUSES_FOR_EVER)
            return true;
    return false;
}

/* False: not all that was to go wrong found its place. */
static bool run(void)
{
    struct error error;

    finished = false;
    struck = 0;
    (void)parts_logged();
    fake_session_start();
    if (relay_create(&relay, &options, &error) < 0)
        fail_msg("%s", error.message);
    double confirmed = metric_value(parts.stats.confirmed);
    slept = metric_value(parts.stats.sleeps);
    relay_start(relay);
    arm();
    fake_session_options.on_up(fake_session_options.data, fake_session());
    serve(false);
    if (!finished)
        relay_drain(relay);
    serve(true);
    if (strikes_requests() && fake_session_send_failed())
        struck++;
    if (finish.code == 0) {
        assert_true(fake_database_is_settled());
        assert_true(metric_value(parts.stats.confirmed) - confirmed >= LOG_ROWS);
    } else {
        assert_true(strikes_for_ever());
        assert_int_equal(finish.retry, RETRY_NEVER);
        assert_contains(finish.message, "the server says no to ");
    }
    relay_destroy(relay);
    relay = NULL;
    return struck == strike_count;
}

static void test_whatever_goes_wrong(void **state)
{
    (void)state;
    strike_count = 1;
    for (enum fault fault = LOSES; fault < FAULTS; fault++) {
        int place = 0;

        do {
            place++;
            strikes[0].fault = fault;
            strikes[0].after = place;
            fake_database_start(parts.clock.wall_us);
        } while (run());
        print_message("fault %d: %d places\n", fault, place - 1);
        assert_true(place > 70);
    }
}

/* The second one meets what the first one began: mostly another way in, and once the same again. */
static void test_whatever_goes_wrong_twice(void **state)
{
    static const enum fault first[] = {LOSES_COMMITTED, REFUSES_FOR_NOW, SEND_FULL};
    static const enum fault second[] = {LOSES, REFUSES_AS_BUG, SEND_LOST, SEND_FULL};
    int runs = 0;

    (void)state;
    strike_count = 2;
    for (size_t i = 0; i < COUNT_OF(first); i++)
        for (size_t j = 0; j < COUNT_OF(second); j++) {
            int place = 1 + (int)((i + j) % PLACES_STEP);

            do {
                strikes[0].fault = first[i];
                strikes[0].after = place;
                strikes[1].fault = second[j];
                strikes[1].after = 1 + place % 3;
                place += PLACES_STEP;
                runs++;
                fake_database_start(parts.clock.wall_us);
            } while (run());
        }
    print_message("%d runs\n", runs);
}

/* What was set aside waits, is asked for again with growing pauses, and nothing else waits for it:
 * the share is kept, and an operator's intent is done. It once asked again at once, for ever, and
 * told nobody. */
static void test_batches_that_cannot_be_read(void **state)
{
    (void)state;
    strike_count = 0;
    for (int no_memory = 0; no_memory < 2; no_memory++) {
        fake_database_start(parts.clock.wall_us);
        fake_database_batches_fail(parts.clock.monotonic_us + 10 * US_PER_S, no_memory);
        assert_true(run());
        const char *log = parts_logged();
        assert_in_range(fake_database_failed_batches(), 4, 20);
        assert_int_equal(parts_lines(log, "outbox.parked cannot be read; trying on"), 1);
        assert_contains(log, no_memory ? "a batch of 2 rows" : "57014");
        assert_int_equal(parts_lines(log, "outbox.parked can be read again"), 1);
        assert_true(strstr(log, "intents applied") < strstr(log, "can be read again"));
        assert_lacks(log, "beginning again");
        assert_int_equal(fake_database_takeovers(), 2); /* and after the change of shares */
    }
}

static void begin(void)
{
    struct error error;

    finished = false;
    strike_count = struck = 0;
    (void)parts_logged();
    fake_session_start();
    if (relay_create(&relay, &options, &error) < 0)
        fail_msg("%s", error.message);
    slept = metric_value(parts.stats.sleeps);
    relay_start(relay);
}

static void end(void)
{
    serve(false);
    relay_drain(relay);
    serve(true);
    assert_true(fake_database_is_settled());
    relay_destroy(relay);
    relay = NULL;
}

/* The log waits, because as much is set aside as may be, and an emptied leaf wants the position to
 * move, which it cannot over rows that wait. A relay that came to rest then waited for it for ever.
 */
static void test_the_number_of_shares_changes_while_the_log_waits(void **state)
{
    uint32_t parked_rows = options.settings.parked_rows;

    (void)state;
    options.settings.parked_rows = 1;
    fake_database_start(parts.clock.wall_us);
    fake_database_batches_fail(INT64_MAX, false);
    begin();
    fake_session_options.on_up(fake_session_options.data, fake_session());
    for (int turns = 0; fake_database_sharing() != SHARES_RESTED; turns++) {
        if (turns > TURNS_MAX)
            stands_still();
        if (fake_database_leaf_is_empty() && fake_database_sharing() == SHARES_STEADY)
            fake_database_wants_shares();
        if (fake_asked()[0]) {
            fake_database_answer();
        } else {
            change_shares(turns);
            turn();
        }
    }
    fake_database_batches_fail(0, false);
    end();
    options.settings.parked_rows = parked_rows;
}

/* Without the routes every message would go to the default exchange. */
static void test_nothing_is_sent_without_routes(void **state)
{
    (void)state;
    fake_database_start(parts.clock.wall_us);
    begin();
    fake_session_options.on_up(fake_session_options.data, fake_session());
    while (strcmp(fake_asked(), "relay_routes") != 0)
        if (fake_asked()[0])
            fake_database_answer();
        else
            turn();
    fault_arm("alloc", 1, ENOMEM);
    fake_answer("relay_routes", fake_row(fake_result("tttbb"), "type", "there", "key", 0, 0));
    assert_true(fault_disarm());
    assert_non_null(fake_reconnect_asked());
    assert_contains(parts_logged(), "the 1 rows of outbox.route");
    end();
}

/* Before a relay owns the share nothing but this ends a wait for an answer that never comes; and a
 * wait for the lock must not be taken for one. */
static void test_a_server_that_says_nothing_is_given_up(void **state)
{
    (void)state;
    fake_database_start(parts.clock.wall_us);
    begin();
    assert_in_range(fake_session_options.silence_limit_us,
                    LEASE_WAIT_MS * US_PER_MS + options.settings.lease_term_us,
                    5 * 60 * (int64_t)US_PER_S);
    fake_session_options.on_up(fake_session_options.data, fake_session());
    end();
}

/* Each part in turn finds no memory: those before it are given back. */
static void test_no_memory(void **state)
{
    int nth = 0;
    bool fired;

    (void)state;
    do {
        struct error error = {0};
        int failed;

        fault_arm("alloc", ++nth, ENOMEM);
        failed = relay_create(&relay, &options, &error);
        fired = fault_disarm();
        assert_int_equal(failed, error.code);
        assert_int_equal(failed < 0, fired);
        if (fired)
            assert_int_equal(error.retry, RETRY_LATER);
    } while (fired);
    assert_true(nth > 40);
    relay_destroy(relay);
    relay = NULL;
    relay_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whatever_goes_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(test_whatever_goes_wrong_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_batches_that_cannot_be_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_number_of_shares_changes_while_the_log_waits,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_sent_without_routes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_server_that_says_nothing_is_given_up, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
