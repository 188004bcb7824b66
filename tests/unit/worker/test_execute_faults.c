/* The executing role, from its first question to the last acknowledgement: COMMANDS commands,
 * each of which takes effect in a transaction that is committed before it is acknowledged. */
#include "tests/unit/worker/play.h"

#include "migrations/migrations.h"

#include <stdlib.h>

#define COMMANDS 5
#define QUEUE    "saga.commands.shop"

static struct {
    int numbers[COMMANDS]; /* the broker's */
    bool done[COMMANDS], doing[COMMANDS];
    int times[COMMANDS];                          /* it took effect */
    bool answered[COMMANDS], answering[COMMANDS]; /* as transient */
    bool refuses, loses, refuses_answers;         /* every batch, every answer */
} shop;

static int command_of(int number)
{
    for (int i = 0; i < COMMANDS; i++) {
        if (shop.numbers[i] == number) {
            return i;
        }
    }
    fail_msg("message %d is no command", number);
    return -1;
}

static void on_ack(int number)
{
    int i = command_of(number);
    if (!shop.done[i] && !shop.answered[i]) {
        fail_msg("command %d is acknowledged, and what it did is not committed", i);
    }
}

static void begin(void)
{
    static const char format[] =
        "{\"saga\": {\"id\": \"01890a5d-ac96-774b-bcce-b302099a8057\", \"definition\": \"order\", "
        "\"version\": 1, \"step\": \"s%d\", \"element\": 0, \"operation\": \"action\", \"round\": "
        "1, \"attempt\": 1, \"reply_to\": \"shop\"}, \"input\": {}}";
    char body[512];
    memset(&shop, 0, sizeof shop);
    fake_broker_on_ack = on_ack;
    for (int i = 0; i < COMMANDS; i++) {
        (void)snprintf(body, sizeof body, format, i);
        shop.numbers[i] = fake_broker_send(QUEUE, "shop.act", body);
    }
}

static struct pg_result *versions(void)
{
    static const char *const parts[] = {"base", "outbox", "participant", "inbox"};
    struct pg_result *rows = fake_result("ti");
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        fake_row(rows, parts[i], MIGRATION_NEWEST);
    }
    return rows;
}

/* Which commands the bodies are of, in their order. */
static int asked_for(int asked[COMMANDS])
{
    int count = 0;
    for (const char *at = fake_param(1); (at = strstr(at, "\"step\": \"s")); at++) {
        assert_true(count < COMMANDS);
        asked[count++] = at[strlen("\"step\": \"s")] - '0';
    }
    return count;
}

static void execute(void)
{
    int asked[COMMANDS] = {0};
    int count = asked_for(asked);
    struct pg_result *rows = fake_result("itttt");
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        shop.doing[asked[i]] = true;
        fake_row(rows, i + 1, shop.done[asked[i]] ? "repeated" : "execute", "ok", NULL, NULL);
    }
    fake_answer("worker_execute_batch", rows);
}

static void answer_transient(void)
{
    int asked[COMMANDS] = {0};
    assert_int_equal(asked_for(asked), 1);
    shop.answering[asked[0]] = true;
    fake_answer("worker_reply_transient", fake_row(fake_result("t"), "recorded"));
}

static const struct play play;

/* What never works. */
static bool answer_wrongly(void)
{
    bool is_batch = strcmp(fake_asked(), "worker_execute_batch") == 0;
    bool is_answer = strcmp(fake_asked(), "worker_reply_transient") == 0;
    if (shop.loses && is_batch) {
        play_loses_session(&play);
    } else if ((shop.refuses && is_batch) || (shop.refuses_answers && is_answer)) {
        play_refuse(RETRY_BUG, "XX000");
    } else {
        return false;
    }
    return true;
}

static bool answer(void)
{
    const char *asked = fake_asked();
    if (answer_wrongly()) {
        return true;
    }
    if (strcmp(asked, "worker_schema_version") == 0) {
        fake_answer(asked, versions());
    } else if (strcmp(asked, "worker_load_handlers") == 0) {
        fake_answer(asked, fake_row(fake_result("tb"), "shop.act", 0));
    } else if (strcmp(asked, "worker_maintain_outcomes") == 0) {
        fake_answer(asked, fake_row(fake_result("ii"), 1, 1));
    } else if (strcmp(asked, "worker_maintain_inbox") == 0) {
        fake_answer(asked, fake_row(fake_result("i"), 1));
    } else if (strcmp(asked, "worker_execute_batch") == 0) {
        execute();
    } else if (strcmp(asked, "worker_reply_transient") == 0) {
        answer_transient();
    } else {
        return false;
    }
    return true;
}

static void commit(void)
{
    for (int i = 0; i < COMMANDS; i++) {
        shop.times[i] += shop.doing[i] && !shop.done[i];
        shop.done[i] |= shop.doing[i];
        shop.answered[i] |= shop.answering[i];
        shop.doing[i] = shop.answering[i] = false;
    }
}

static void forget(void)
{
    for (int i = 0; i < COMMANDS; i++) {
        shop.doing[i] = shop.answering[i] = false;
    }
}

static bool is_done(void)
{
    for (int i = 0; i < COMMANDS; i++) {
        if (!shop.done[i]) {
            return false;
        }
    }
    return fake_broker_is_empty() && fake_broker_rejected() == 0;
}

static const struct play play = {"execute", begin, answer, commit, forget, is_done};

static int setup(void **state)
{
    (void)state;
    return stage_open("execute");
}

static int teardown(void **state)
{
    (void)state;
    return stage_close();
}

static void whatever_goes_wrong_commands_are_carried_out(void **state)
{
    (void)state;
    play_with_faults(&play, 8);
}

static bool is_answered(void)
{
    for (int i = 0; i < COMMANDS; i++) {
        if (!shop.answered[i]) {
            return false;
        }
    }
    return fake_broker_is_empty();
}

/* Answered `transient` once it is known that no try of ours helps; the saga goes on with it. */
static void what_never_works_is_answered(void **state)
{
    (void)state;
    for (int loses = 0; loses < 2; loses++) {
        play_start(&play);
        shop.refuses = !loses;
        shop.loses = loses;
        fake_session_options.on_up(fake_session_options.data, fake_session());
        play_until(&play, is_answered);
        assert_contains(play_logged(), loses ? "no connection, trying again"
                                             : "a command failed alone, it is tried again");
        assert_int_equal(fake_broker_rejected(), 0);
        play_stop(&play);
        for (int i = 0; i < COMMANDS; i++) {
            assert_int_equal(shop.times[i], 0);
        }
    }
}

static void what_cannot_be_answered_either_is_set_apart(void **state)
{
    (void)state;
    play_start(&play);
    shop.refuses = shop.refuses_answers = true;
    fake_session_options.on_up(fake_session_options.data, fake_session());
    play_until(&play, fake_broker_is_empty);
    assert_int_equal(fake_broker_rejected(), COMMANDS);
    assert_contains(play_logged(), "a command can be neither carried out nor answered");
    assert_contains(play_logged(), "command rejected to the dead-letter queue");
    play_stop(&play);
}

static void without_memory_it_does_not_start(void **state)
{
    (void)state;
    play_without_memory(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whatever_goes_wrong_commands_are_carried_out, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_never_works_is_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_answered_either_is_set_apart, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(without_memory_it_does_not_start, setup, teardown),
    };
    return cmocka_run_group_tests_name("execute_faults", tests, NULL, NULL);
}
