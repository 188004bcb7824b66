/* The orchestrating role, from its first question to the last acknowledgement: two sagas that are
 * driven by replies, one by a timer and a lock, and an intent for one that is over. A reply is
 * acknowledged when what it moved is committed. */
#include "tests/unit/worker/play.h"

#include "migrations/migrations.h"
#include "saga/machine/plan.h"
#include "saga/machine/state_json.h"
#include <stdio.h>

#define QUEUE      "saga.replies.shop"
#define BEGUN_US   (INT64_C(1800000000) * US_PER_S)
#define PLANNED_US (BEGUN_US + INT64_C(86400) * US_PER_S) /* what the commands are due by */
#define POLICY     "{\"max\": 3, \"base_ms\": 100, \"factor\": 2, \"cap_ms\": 1000, \"jitter\": true}"
#define COMMON                                                                                     \
    "\"retry\": " POLICY ", \"undo_retry\": " POLICY ", \"undo_on_fail\": false, \"undo_input\": " \
    "null"
#define WAIT                                                                                       \
    "\"action\": null, \"undo\": null, \"participant\": null, \"kind\": \"read_only\", " COMMON

enum saga { ONE, OTHER, TIMED, SAGAS };
enum { REPLIES = 2 }; /* to each of the first two */

/* reserve -> capture; wait -> hold */
static const char *const plan_texts[] = {
    "{\"definition\": \"order\", \"version\": 1, \"timeout_ms\": null, \"events\": true, "
    "\"steps\": [{\"name\": \"reserve\", \"action\": \"shop.reserve\", \"undo\": \"shop.release\", "
    "\"participant\": \"shop\", \"kind\": \"compensable\", \"via\": \"command\", \"after\": [], "
    "\"timeout_ms\": 86400000, \"input\": null, " COMMON "}, {\"name\": \"capture\", \"action\": "
    "\"shop.capture\", \"undo\": null, \"participant\": \"shop\", \"kind\": \"pivot\", \"via\": "
    "\"command\", \"after\": [0], \"timeout_ms\": 86400000, \"input\": null, " COMMON "}]}",
    "{\"definition\": \"timed\", \"version\": 1, \"timeout_ms\": null, \"events\": false, "
    "\"steps\": [{\"name\": \"wait\", \"via\": \"timer\", \"after\": [], \"timeout_ms\": 1000, "
    "\"input\": null, " WAIT "}, {\"name\": \"hold\", \"via\": \"lock\", \"after\": [0], "
    "\"timeout_ms\": null, \"input\": \"r\", " WAIT "}]}",
};

static char rows_of[2][REPLIES][STATE_JSON_BYTES_MAX]; /* by definition and how often it moved */
static int64_t timer_us;

static struct {
    int moved[SAGAS], moving[SAGAS]; /* how often, by what is committed */
    bool over[SAGAS], ending[SAGAS];
    int messages[SAGAS][REPLIES];
    bool answered, answering; /* the intent */
} db;

static struct uuid id_of(int saga)
{
    return (struct uuid){.bytes = {[6] = 0x70, [15] = (uint8_t)(saga + 1)}};
}

static void send_reply(int saga, int number)
{
    char body[512], id[UUID_TEXT_BYTES];
    struct uuid uuid = id_of(saga);
    uuid_format(&uuid, id);
    (void)snprintf(body, sizeof body,
                   "{\"saga\": {\"id\": \"%s\", \"definition\": \"order\", \"version\": 1, "
                   "\"step\": \"%s\", \"element\": 0, \"operation\": \"action\", \"round\": 1, "
                   "\"attempt\": 1, \"reply_to\": \"shop\"}, \"outcome\": \"ok\", \"output\": {}}",
                   id, number == 0 ? "reserve" : "capture");
    db.messages[saga][number] = fake_broker_send(QUEUE, "shop", body);
}

static void on_ack(int number)
{
    for (int saga = ONE; saga <= OTHER; saga++) {
        for (int i = 0; i < REPLIES; i++) {
            if (db.messages[saga][i] == number && db.moved[saga] <= i) {
                fail_msg("reply %d of saga %d is acknowledged, and what it moved is not committed",
                         i, saga);
            }
        }
    }
}

static void begin(void)
{
    memset(&db, 0, sizeof db);
    memset(db.messages, -1, sizeof db.messages);
    fake_broker_on_ack = on_ack;
    timer_us = stage.clock.wall_us;
    send_reply(ONE, 0);
    send_reply(OTHER, 0);
}

/* What the machine makes of the plans, for the rows. */
static void make_rows(void)
{
    static struct instance instance;
    static struct machine_decision decision;
    const struct machine_event done = {
        .type = EVENT_OK, .operation = OPERATION_ACTION, .round = 1, .now_us = BEGUN_US};
    for (int i = 0; i < 2; i++) {
        struct plan *plan;
        must(plan_read(plan_texts[i], strlen(plan_texts[i]), &plan, &error));
        machine_start(plan, &instance, done.now_us - (i == 1 ? US_PER_S : 0), &decision);
        (void)state_json_write(&instance, plan, rows_of[i][0]);
        if (i == 0) {
            machine_apply(plan, &instance, &done, &decision);
            (void)state_json_write(&instance, plan, rows_of[i][1]);
        }
        plan_free(plan);
    }
}

static bool is_named(int saga)
{
    char id[UUID_TEXT_BYTES];
    struct uuid uuid = id_of(saga);
    uuid_format(&uuid, id);
    return strstr(fake_param(1), id) != NULL;
}

static struct pg_result *versions(void)
{
    static const char *const parts[] = {"base", "outbox", "saga"};
    struct pg_result *rows = fake_result("ti");
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        fake_row(rows, parts[i], MIGRATION_NEWEST);
    }
    return rows;
}

static struct pg_result *lock_instances(void)
{
    struct pg_result *rows = fake_result("uitttbbItNTTt");
    for (int saga = 0; saga < SAGAS; saga++) {
        struct uuid id = id_of(saga);
        if (is_named(saga) && !db.over[saga]) {
            fake_row(rows, &id, saga == TIMED ? 2 : 1, "RUNNING", NULL, NULL, 0, 0, (int64_t)1,
                     rows_of[saga == TIMED][db.moved[saga]], saga == TIMED ? timer_us : PLANNED_US,
                     stage.clock.wall_us, "{\"reserve\": \"told: why\"}");
        }
    }
    return rows;
}

static struct pg_result *load_definitions(void)
{
    struct pg_result *rows = fake_result("it");
    for (int i = 0; i < 2; i++) {
        if (strchr(fake_param(1), '1' + i)) {
            fake_row(rows, i + 1, plan_texts[i]);
        }
    }
    return rows;
}

static struct pg_result *sweep(void)
{
    struct uuid id = id_of(TIMED);
    if (db.over[TIMED]) {
        return fake_row(fake_result("TnN"), stage.clock.wall_us);
    }
    return fake_row(fake_result("TuT"), stage.clock.wall_us, &id, timer_us);
}

static struct pg_result *take_intents(void)
{
    struct pg_result *rows = fake_result("Iutttttntn");
    struct uuid id = id_of(SAGAS);
    if (!db.answered) {
        fake_row(rows, (int64_t)7, &id, "pause", NULL, "{}", "ann", "why", "SUCCEEDED");
    }
    return rows;
}

static struct pg_result *write_rows(void)
{
    for (int saga = 0; saga < SAGAS; saga++) {
        if (is_named(saga)) {
            db.moving[saga]++;
        }
    }
    return fake_result("i");
}

static struct pg_result *end_rows(void)
{
    for (int saga = 0; saga < SAGAS; saga++) {
        if (is_named(saga)) {
            db.moving[saga] += saga != TIMED;
            db.ending[saga] = true;
        }
    }
    return fake_result("i");
}

static struct pg_result *answer_intents(void)
{
    db.answering |= strstr(fake_param(1), "7") != NULL;
    return fake_result("i");
}

static struct pg_result *take_locks(void)
{
    return fake_row(fake_result("ittt"), 1, "grant", NULL, "{\"resource\": \"r\"}");
}

static struct pg_result *nothing(void)
{
    return fake_result("i");
}

static struct pg_result *none_unsent(void)
{
    return fake_result("itti");
}

static struct pg_result *no_ids(void)
{
    return fake_result("u");
}

static struct pg_result *setting(void)
{
    return fake_row(fake_result("t"), "shop");
}

static struct pg_result *counts(void)
{
    return fake_row(fake_result("ttIII"), "order", "STUCK", (int64_t)1, (int64_t)0, (int64_t)0);
}

static struct pg_result *maintained(void)
{
    return fake_row(fake_result("tbi"), "made one", 0, 0);
}

static const struct {
    const char *asked;
    struct pg_result *(*answer)(void);
} answers[] = {
    {"worker_schema_version", versions},
    {"worker_read_setting", setting},
    {"worker_sweep", sweep},
    {"worker_stalled", no_ids},
    {"worker_count_sagas", counts},
    {"worker_maintain_sagas", maintained},
    {"worker_take_intents", take_intents},
    {"worker_answer_intents", answer_intents},
    {"worker_lock_instances", lock_instances},
    {"worker_find_instances", no_ids},
    {"worker_load_definitions", load_definitions},
    {"worker_update_instances", write_rows},
    {"worker_end_instances", end_rows},
    {"worker_insert_history", nothing},
    {"worker_publish_events", nothing},
    {"worker_send_commands", none_unsent},
    {"worker_take_locks", take_locks},
    {"worker_release_locks", nothing},
};

static bool answer(void)
{
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        if (strcmp(answers[i].asked, fake_asked()) == 0) {
            fake_answer(answers[i].asked, answers[i].answer());
            return true;
        }
    }
    return false;
}

/* The participant answers a command when it is there. */
static void commit(void)
{
    for (int saga = 0; saga < SAGAS; saga++) {
        bool sends = saga != TIMED && db.moved[saga] == 0 && db.moving[saga] > 0;
        db.moved[saga] += saga != TIMED ? db.moving[saga] : 0;
        db.over[saga] |= db.ending[saga];
        db.moving[saga] = 0;
        db.ending[saga] = false;
        if (sends) {
            send_reply(saga, 1);
        }
        if (db.moved[saga] > REPLIES) {
            fail_msg("saga %d has moved once too often; log:\n%s", saga, play_logged());
        }
    }
    db.answered |= db.answering;
    db.answering = false;
}

static void forget(void)
{
    memset(db.moving, 0, sizeof db.moving);
    memset(db.ending, 0, sizeof db.ending);
    db.answering = false;
}

static bool is_done(void)
{
    return db.over[ONE] && db.over[OTHER] && db.over[TIMED] && db.answered &&
           fake_broker_is_empty() && fake_broker_rejected() == 0;
}

static const struct play play = {"orchestrate", begin, answer, commit, forget, is_done};

static int setup(void **state)
{
    (void)state;
    make_rows();
    return stage_open("orchestrate");
}

static int teardown(void **state)
{
    (void)state;
    return stage_close();
}

static void whatever_goes_wrong_sagas_end(void **state)
{
    (void)state;
    play_with_faults(&play, 8);
}

static void without_memory_it_does_not_start(void **state)
{
    (void)state;
    play_without_memory(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whatever_goes_wrong_sagas_end, setup, teardown),
        cmocka_unit_test_setup_teardown(without_memory_it_does_not_start, setup, teardown),
    };
    return cmocka_run_group_tests_name("orchestrate_faults", tests, NULL, NULL);
}
