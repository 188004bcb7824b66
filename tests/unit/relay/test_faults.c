/* The whole relay, from its first question to its last, between a PostgreSQL that this file plays
 * and a broker that does what it is asked. At each place in turn one thing goes wrong: an answer is
 * a refusal, an answer is lost with its connection, a request cannot be sent. Whatever it was,
 * either the relay says that no retry can help, or all rows are published and the position covers
 * them. */
#include "outbox/relay/relay.h"
#include "outbox/runtime/daemon.h"
#include "tests/unit/amqp/fake.h"
#include "tests/unit/relay/relay_parts_test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define ROWS      3
#define TURNS_MAX 8000

/* PostgreSQL ------------------------------------------------------------------------------------
 */

static struct {
    char t1[64], t2[64]; /* of the position; t2 "": NULL */
    int64_t last_id, epoch, bound;
    int writes;   /* of the position, committed */
    bool writing; /* a write waits for its commit */
    char t1_new[64], t2_new[64];
    int64_t last_id_new, bound_new;
} db;

static int64_t param(int number)
{
    return strtoll(fake_param(number), NULL, 10);
}

static struct pg_result *one_bool(bool value)
{
    return fake_row(fake_result("b"), value);
}

static struct pg_result *position(void)
{
    return fake_row(fake_result("tIIIttII"), "(0,1)", db.epoch, (int64_t)77, (int64_t)5, db.t1,
                    db.t2[0] ? db.t2 : NULL, db.last_id, db.bound);
}

static struct pg_result *take_over(void)
{
    db.epoch++;
    return fake_row(fake_result("tI"), "(0,1)", db.epoch);
}

static struct pg_result *poll(void)
{
    return fake_row(fake_result("tIII"), "20:20:", (int64_t)100, (int64_t)100, (int64_t)ROWS);
}

static struct pg_result *begin(void)
{
    return fake_row(fake_result("III"), (int64_t)ROWS, (int64_t)ROWS, (int64_t)1);
}

/* All rows are of one transaction, 10. */
static struct pg_result *read_fresh(void)
{
    struct pg_result *rows = fake_result("IuTttttttttttbi");
    int64_t after = param(1), up_to = param(2);

    if (param(3) > 10)
        return rows;
    for (int64_t id = after + 1; id <= up_to && id <= ROWS; id++) {
        struct uuid message_id = {.bytes = {[15] = (uint8_t)id}};
        fake_row(rows, id, &message_id, parts.clock.wall_us, "type", "key", "x", "k", NULL, "{}",
                 NULL, NULL, NULL, NULL, 1, 2);
    }
    return rows;
}

static struct pg_result *write_position(void)
{
    snprintf(db.t1_new, sizeof(db.t1_new), "%s", fake_param(4));
    snprintf(db.t2_new, sizeof(db.t2_new), "%s", fake_param(5));
    if (strcmp(db.t2_new, "null") == 0)
        db.t2_new[0] = 0;
    db.last_id_new = param(6);
    db.bound_new = param(8);
    db.writing = true;
    return fake_row(fake_result("tt"), "(0,2)", "30");
}

static void commit(void)
{
    if (!db.writing)
        return;
    memcpy(db.t1, db.t1_new, sizeof(db.t1));
    memcpy(db.t2, db.t2_new, sizeof(db.t2));
    db.last_id = db.last_id_new;
    db.bound = db.bound_new;
    db.writing = false;
    db.writes++;
}

static struct pg_result *nothing(void)
{
    return fake_row(fake_result("i"), 1);
}

static struct pg_result *hello(void)
{
    return fake_row(fake_result("IIbi"), (int64_t)77, (int64_t)5, 0, 1000);
}

static struct pg_result *timeline(void)
{
    return fake_row(fake_result("i"), 1);
}

static struct pg_result *no_routes(void)
{
    return fake_result("tttbb");
}

static struct pg_result *run(void)
{
    return fake_row(fake_result("tti"), "run", NULL, 1);
}

static struct pg_result *no_pairs(void)
{
    return fake_result("II");
}

static struct pg_result *counts(void)
{
    return fake_row(fake_result("III"), (int64_t)0, (int64_t)0, (int64_t)0);
}

static struct pg_result *no_intents(void)
{
    return fake_row(fake_result("nIII"), (int64_t)0, (int64_t)0, (int64_t)0);
}

static struct pg_result *yes(void)
{
    return one_bool(true);
}

static struct pg_result *no(void)
{
    return one_bool(false);
}

static struct pg_result *committed(void)
{
    commit();
    return NULL;
}

static const struct {
    const char *asked;
    struct pg_result *(*answer)(void);
} answers[] = {
    {"relay_planner", nothing},
    {"listen sagapost_outbox_0", nothing},
    {"relay_hello", hello},
    {"relay_patience", nothing},
    {"relay_own", nothing},
    {"relay_own_try", yes},
    {"relay_position_read", position},
    {"relay_take_over", take_over},
    {"relay_timeline", timeline},
    {"relay_routes", no_routes},
    {"relay_share_turn", run},
    {"relay_share_look", no},
    {"relay_share_leave", nothing},
    {"relay_parked_recover", nothing},
    {"relay_held", no_pairs},
    {"relay_parked_count", counts},
    {"relay_parked_next", no_pairs},
    {"relay_intents", no_intents},
    {"relay_proof", yes},
    {"relay_begin", begin},
    {"relay_poll", poll},
    {"relay_read_fresh", read_fresh},
    {"relay_read_late", no_pairs},
    {"relay_position_write", write_position},
    {"relay_sleep_try", yes},
    {"relay_sleep_end", nothing},
    {"relay_let_go", yes},
    {"sync", committed},
};

static void answer_rightly(void)
{
    for (size_t i = 0; i < COUNT_OF(answers); i++)
        if (strcmp(answers[i].asked, fake_asked()) == 0) {
            fake_answer(answers[i].asked, answers[i].answer());
            return;
        }
    fail_msg("nobody knows the answer to %s", fake_asked());
}

/* The relay -------------------------------------------------------------------------------------
 */

static struct fake broker;
static struct config *config;
static struct relay *relay;
static struct relay_options options;
static bool finished;
static int where; /* the fault strikes, and what it strikes */
static char what[64];
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
    char program[] = "outbox-relay", amqp[256];
    char *words[] = {program, NULL}, *variables[] = {amqp, NULL};
    struct error error;

    parts_setup(state);
    fake_init(&broker);
    fake_start(&broker, fake_serve);
    snprintf(amqp, sizeof(amqp), "SAGAPOST_AMQP=%s", broker.uri);
    if (config_create(&config, tables, &error) < 0 ||
        config_load(config, 1, words, variables, &error) < 0 ||
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

    db.writing = false;
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

static void strike(enum fault fault)
{
    const char *asked = what;

    snprintf(what, sizeof(what), "%s", fake_asked());
    switch (fault) {
    case LOSES_COMMITTED:
        commit();
        connection_is_lost();
        break;
    case REFUSES_FOR_NOW:
        fake_refuse(asked, RETRY_LATER, "57014");
        break;
    case REFUSES_AS_BUG:
        fake_refuse(asked, RETRY_BUG, "XX000");
        break;
    case REFUSES_FOR_EVER:
        fake_refuse(asked, RETRY_NEVER, "42501");
        break;
    default:
        connection_is_lost();
    }
    if (fault != LOSES_COMMITTED)
        db.writing = false;
}

static bool is_done(void)
{
    return finished || (db.writes > 0 && strcmp(db.t1, "20:20:") == 0 && !db.t2[0] &&
                        metric_value(parts.stats.sleeps) > 0);
}

/* Answers until `done`; the one with the number `*place` goes wrong. True when it did. */
static bool serve(enum fault fault, int *place, bool until_finished)
{
    bool struck = false;

    for (int turns = 0; until_finished ? !finished : !is_done(); turns++) {
        if (turns > TURNS_MAX)
            fail_msg("fault %d at place %d, %s: it stands still; asked: \"%s\"; log:\n%s", fault,
                     where, what, fake_asked(), parts_logged());
        if (fake_reconnect_asked() || !fake_session_is_up())
            connection_is_lost();
        if (fake_asked()[0] && --*place == 0 && fault < SEND_FULL) {
            strike(fault);
            struck = true;
        } else if (fake_asked()[0]) {
            answer_rightly();
        } else {
            turn();
        }
    }
    return struck;
}

/* False: the fault found no place to strike. */
static bool run_with(enum fault fault, int place)
{
    struct error error;
    bool struck;

    memset(&db, 0, sizeof(db));
    snprintf(db.t1, sizeof(db.t1), "5:5:");
    finished = false;
    where = place;
    what[0] = 0;
    (void)parts_logged();
    fake_session_start();
    if (relay_create(&relay, &options, &error) < 0)
        fail_msg("%s", error.message);
    double confirmed = metric_value(parts.stats.confirmed);
    relay_start(relay);
    if (fault >= SEND_FULL)
        fake_session_send_fails(place, fault == SEND_FULL ? ERROR_LIMIT : ERROR_STATE,
                                fault == SEND_FULL ? RETRY_LATER : RETRY_RECONNECT);
    fake_session_options.on_up(fake_session_options.data, fake_session());
    struck = serve(fault, &place, false);
    if (!finished)
        relay_drain(relay);
    struck |= serve(fault, &place, true);
    struck |= fault >= SEND_FULL && fake_session_send_failed();
    if (finish.code == 0) {
        assert_string_equal(db.t1, "20:20:");
        assert_string_equal(db.t2, "");
        assert_true(metric_value(parts.stats.confirmed) - confirmed >= ROWS);
    } else {
        assert_int_equal(fault, REFUSES_FOR_EVER);
        assert_int_equal(finish.retry, RETRY_NEVER);
        assert_contains(finish.message, "the server says no to ");
    }
    relay_destroy(relay);
    relay = NULL;
    return struck;
}

static void test_whatever_goes_wrong(void **state)
{
    (void)state;
    for (enum fault fault = LOSES; fault < FAULTS; fault++) {
        int place = 1;

        while (run_with(fault, place))
            place++;
        print_message("fault %d: %d places\n", fault, place - 1);
        assert_true(place > 20);
    }
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
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
