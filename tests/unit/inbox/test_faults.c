/* The whole inbox's client between a PostgreSQL that this file plays and queues that are no
 * broker's. Each call to the one fails once in each way, each event of the other is lost, each
 * allocation fails: every message is taken once all the same, and acknowledged only when that is
 * committed. */
#include <sagapost/inbox.h>

#include "outbox/pg/service_batch.h"
#include "outbox/runtime/loop.h"
#include "tests/unit/amqp/fake_broker.h"
#include "tests/unit/runtime/runtime_test.h"

#include <stdio.h>
#include <stdlib.h>

#define MESSAGES  5
#define TURNS_MAX 5000

/* PostgreSQL ------------------------------------------------------------------------------------
 */

enum fault {
    NONE,
    AGAIN,      /* the call is refused, for now */
    NO_SERVICE, /* until somebody has mended it */
    BUG,
    NO_ROLLBACK,    /* refused, and so is the ROLLBACK */
    LOST,           /* with its connection, and nothing of it took place */
    LOST_COMMITTED, /* with its connection; it took place */
    BROKER_LOSES,
    BROKER_CANCELS,
    NO_MEMORY,
    FAULTS
};

static const char *const names[FAULTS] = {
    [NONE] = "nothing",
    [AGAIN] = "refused, for now",
    [NO_SERVICE] = "refused until it is mended",
    [BUG] = "refused, nobody knows why",
    [NO_ROLLBACK] = "refused, and cannot be rolled back",
    [LOST] = "lost",
    [LOST_COMMITTED] = "lost, and it took place",
    [BROKER_LOSES] = "an event of the broker is lost",
    [BROKER_CANCELS] = "the consumer is cancelled",
    [NO_MEMORY] = "no memory",
};

static struct {
    bool lost;
    enum service_transaction transaction;
    bool accepted[MESSAGES], accepting[MESSAGES];
    int done[MESSAGES], doing[MESSAGES]; /* by on_batch */
    int resets, unrolled;
} db;

static struct clock_fake fake_clock;
static enum fault fault;
static int place, places;
static bool has_struck;
static const char *what;
static int said_postgres, said_rabbitmq; /* troubles told */

static PGconn *connection(void)
{
    return (PGconn *)(void *)&db;
}

static void end(bool is_kept)
{
    for (int i = 0; i < MESSAGES; i++) {
        db.accepted[i] |= is_kept && db.accepting[i];
        db.done[i] += is_kept ? db.doing[i] : 0;
        db.accepting[i] = false;
        db.doing[i] = 0;
    }
    db.transaction = SERVICE_NONE;
}

static int refuse(struct sagapost_error *error, int code)
{
    *error = (struct sagapost_error){.code = code};
    (void)snprintf(error->message, sizeof(error->message), "%s says no", what);
    return code;
}

/* One call. True when it goes wrong, with *ret_code; what was open has failed then, or is gone. */
static bool goes_wrong(const char *call, int *ret_code)
{
    if (fault < AGAIN || fault > LOST_COMMITTED || ++places != place)
        return false;
    static const int codes[] = {
        [AGAIN] = SAGAPOST_ERROR_AGAIN,
        [NO_SERVICE] = SAGAPOST_ERROR_NO_SERVICE,
        [BUG] = -99,
        [NO_ROLLBACK] = SAGAPOST_ERROR_AGAIN,
        [LOST] = SAGAPOST_ERROR_LOST,
        [LOST_COMMITTED] = SAGAPOST_ERROR_LOST,
    };
    has_struck = true;
    what = call;
    *ret_code = codes[fault];
    if (fault >= LOST) {
        end(fault == LOST_COMMITTED && strcmp(call, "COMMIT") == 0);
        db.lost = true;
    } else if (strcmp(call, "COMMIT") == 0) {
        end(false);
    } else if (db.transaction != SERVICE_NONE) {
        db.transaction = SERVICE_FAILED;
    }
    return true;
}

#define INSTEAD(type, name, parameters)                                                            \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters

INSTEAD(int, sagapost_internal_begin, (PGconn * given, struct sagapost_error *error))
{
    int code;
    assert_ptr_equal(given, &db);
    assert_int_equal(db.transaction, SERVICE_NONE);
    assert_false(db.lost);
    if (goes_wrong("BEGIN", &code))
        return refuse(error, code);
    db.transaction = SERVICE_OPEN;
    return 0;
}

INSTEAD(int, sagapost_internal_commit, (PGconn * given, struct sagapost_error *error))
{
    int code;
    assert_ptr_equal(given, &db);
    assert_int_equal(db.transaction, SERVICE_OPEN);
    if (goes_wrong("COMMIT", &code))
        return refuse(error, code);
    end(true);
    return 0;
}

INSTEAD(int, sagapost_internal_rollback, (PGconn * given, struct sagapost_error *error))
{
    int code;
    assert_ptr_equal(given, &db);
    assert_int_not_equal(db.transaction, SERVICE_NONE);
    if (fault == NO_ROLLBACK) {
        db.unrolled++;
        return refuse(error, SAGAPOST_ERROR_AGAIN);
    }
    if (goes_wrong("ROLLBACK", &code))
        return refuse(error, code);
    end(false);
    return 0;
}

INSTEAD(int, sagapost_internal_reset, (PGconn * given, struct sagapost_error *error))
{
    int code;
    assert_ptr_equal(given, &db);
    if (goes_wrong("PQreset", &code))
        return refuse(error, code);
    end(false);
    db.lost = false;
    return 0;
}

INSTEAD(bool, sagapost_internal_is_lost, (const PGconn *given))
{
    assert_ptr_equal(given, &db);
    return db.lost;
}

INSTEAD(enum service_transaction, sagapost_internal_transaction, (const PGconn *given))
{
    assert_ptr_equal(given, &db);
    return db.transaction;
}

static int number_of(const char *message_id)
{
    long number = strtol(strrchr(message_id, '-') + 1, NULL, 16);
    assert_in_range(number, 0, MESSAGES - 1);
    return (int)number;
}

INSTEAD(int, sagapost_internal_accept_batch,
        (PGconn * given, const char *consumer, const char *const *ids, int count, bool *ret_first,
         struct sagapost_error *error))
{
    int code;
    assert_ptr_equal(given, &db);
    assert_string_equal(consumer, "billing");
    assert_int_equal(db.transaction, SERVICE_OPEN);
    if (goes_wrong("inbox.accept", &code))
        return refuse(error, code);
    for (int i = 0; i < count; i++) {
        int number = number_of(ids[i]);
        ret_first[i] = !db.accepted[number];
        db.accepting[number] = true;
    }
    return 0;
}

/* The client's own loop keeps the test's time. */
int __real_loop_create(struct loop **ret_loop, const struct clock_source *clock,
                       struct error *error);
INSTEAD(int, loop_create,
        (struct loop * *ret_loop, const struct clock_source *clock, struct error *error))
{
    (void)clock;
    return __real_loop_create(ret_loop, &fake_clock.source, error);
}

/* The service -----------------------------------------------------------------------------------
 */

static struct sagapost_inbox *inbox;

static int on_batch(void *data, PGconn *given, const struct sagapost_inbox_message *messages,
                    int count)
{
    int code;
    (void)data;
    assert_ptr_equal(given, &db);
    assert_int_equal(db.transaction, SERVICE_OPEN);
    if (goes_wrong("on_batch", &code))
        return code;
    for (int i = 0; i < count; i++)
        db.doing[number_of(messages[i].message_id)]++;
    return 0;
}

static void on_refused(void *data, PGconn *given, const struct sagapost_inbox_message *message,
                       const struct sagapost_error *why)
{
    (void)data;
    (void)given;
    fail_msg("%s at place %d, %s: %s is given up: %s", names[fault], place, what,
             message->message_id, why->message);
}

static void on_reset(void *data, PGconn *given)
{
    (void)data;
    (void)given;
    db.resets++;
}

static void on_trouble(void *data, const char *server, const char *why)
{
    (void)data;
    *(strcmp(server, "PostgreSQL") == 0 ? &said_postgres : &said_rabbitmq) += why != NULL;
}

static void on_ack(int number)
{
    if (!db.accepted[number])
        fail_msg("%s at place %d, %s: message %d is acknowledged, and not committed", names[fault],
                 place, what, number);
}

static const struct sagapost_inbox_options options = {.amqp = "amqp://localhost",
                                                      .queue = "billing",
                                                      .consumer = "billing",
                                                      .on_batch = on_batch,
                                                      .on_refused = on_refused,
                                                      .on_reset = on_reset,
                                                      .on_trouble = on_trouble};

static void begin(void)
{
    memset(&db, 0, sizeof(db));
    places = said_postgres = said_rabbitmq = 0;
    has_struck = false;
    what = "";
    clock_fake_init(&fake_clock, 1000 * (int64_t)US_PER_S, 1000 * (int64_t)US_PER_S);
    fake_broker_start();
    fake_broker_on_ack = on_ack;
    for (int i = 0; i < MESSAGES; i++)
        (void)fake_broker_send("billing", "billing", "{}");
}

static bool is_done(void)
{
    for (int i = 0; i < MESSAGES; i++)
        if (!db.accepted[i])
            return false;
    return fake_broker_is_empty();
}

static void go_on(void)
{
    struct sagapost_error error;
    bool is_idle = !fake_broker_step(); /* two at a time, so that a batch can be halved */
    if (is_idle || !fake_broker_step())
        clock_fake_advance(&fake_clock, 5 * US_PER_MS);
    if (sagapost_inbox_turn(inbox, 0, &error) < 0)
        fail_msg("%s at place %d, %s: %s", names[fault], place, what, error.message);
}

/* What went wrong is told, or counted. */
static void check_told(void)
{
    struct sagapost_inbox_counts counts = sagapost_inbox_count(inbox);
    if (fault >= AGAIN && fault <= LOST_COMMITTED && strcmp(what, "PQreset") != 0)
        assert_true(counts.failures > 0);
    int losses = fault == LOST || fault == LOST_COMMITTED ? 1 : db.unrolled;
    assert_int_equal(said_postgres, losses);
    assert_int_equal(db.resets, losses);
    if (fault == BROKER_LOSES || fault == BROKER_CANCELS)
        assert_int_equal(said_rabbitmq, 1);
}

/* False: the fault found no place to strike. */
static bool play(void)
{
    struct sagapost_error error;
    begin();
    if (sagapost_inbox_create(&inbox, connection(), &options, &error) < 0)
        fail_msg("%s", error.message);
    fake_broker_loses(fault == BROKER_LOSES ? place : 0);
    fake_broker_cancels(fault == BROKER_CANCELS ? place : 0);
    if (fault == NO_MEMORY)
        fault_arm("alloc", place, ENOMEM);
    for (int turns = 0; !is_done(); turns++) {
        if (turns > TURNS_MAX)
            fail_msg("%s at place %d, %s: it stands still", names[fault], place, what);
        go_on();
    }
    has_struck |= fault_disarm() || fake_broker_struck();
    for (int i = 0; i < MESSAGES; i++)
        assert_int_equal(db.done[i], 1);
    assert_int_equal(fake_broker_rejected(), 0);
    if (has_struck)
        check_told();
    sagapost_inbox_destroy(inbox);
    assert_int_equal(fake_brokers_open, 0);
    return has_struck;
}

static void whatever_goes_wrong_messages_are_taken_once(void **state)
{
    (void)state;
    for (fault = AGAIN; fault < FAULTS; fault++) {
        for (place = 1; play(); place++) {
        }
        print_message("%s: %d places\n", names[fault], place - 1);
        assert_true(place > 2);
    }
    fault = NONE;
}

static void without_memory_there_is_no_inbox(void **state)
{
    struct sagapost_error error;
    bool fired;
    int nth = 0;
    (void)state;
    begin();
    do {
        fault_arm("alloc", ++nth, ENOMEM);
        int code = sagapost_inbox_create(&inbox, connection(), &options, &error);
        fired = fault_disarm();
        assert_int_equal(code, fired ? SAGAPOST_ERROR_NO_SERVICE : 0);
    } while (fired);
    assert_true(nth > 5);
    sagapost_inbox_destroy(inbox);
    sagapost_inbox_destroy(NULL);
    assert_int_equal(fake_brokers_open, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_goes_wrong_messages_are_taken_once),
        cmocka_unit_test(without_memory_there_is_no_inbox),
    };
    return cmocka_run_group_tests_name("inbox_faults", tests, NULL, NULL);
}
