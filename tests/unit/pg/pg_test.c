#include "tests/unit/pg/pg_test.h"
#include "outbox/pg/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct pg_statement test_add_one = {"test_add_one", "select $1::bigint + 1"};

const char *test_conninfo(void)
{
    const char *conninfo = getenv("SAGAPOST_TEST_POSTGRES");
    return conninfo != NULL && conninfo[0] != '\0' ? conninfo : NULL;
}

static void on_up(void *data, struct pg_session *session)
{
    struct fixture *fixture = data;
    assert_ptr_equal(session, fixture->session);
    assert_true(pg_session_is_up(session));
    assert_int_equal(pg_session_attempts(session), 0);
    fixture->ups++;
    if (fixture->then_up != NULL)
        fixture->then_up(fixture);
}

static void on_down(void *data, struct pg_session *session, const struct error *why)
{
    struct fixture *fixture = data;
    assert_ptr_equal(session, fixture->session);
    assert_false(pg_session_is_up(session));
    assert_int_equal(pg_session_pending(session), 0); /* all callbacks came before */
    assert_false(fixture->destroyed);
    fixture->downs++;
    fixture->why = *why;
    if (fixture->then_down != NULL)
        fixture->then_down(fixture);
}

static void on_notify(void *data, struct pg_session *session, const char *channel,
                      const char *payload)
{
    struct fixture *fixture = data;
    assert_ptr_equal(session, fixture->session);
    assert_string_equal(channel, "sagapost_test");
    fixture->notifications++;
    snprintf(fixture->payload, sizeof(fixture->payload), "%s", payload);
}

static void on_notice(void *data, const char *message)
{
    struct fixture *fixture = data;
    fixture->notices++;
    snprintf(fixture->notice, sizeof(fixture->notice), "%s", message);
}

void fixture_start(struct fixture *fixture, const char *conninfo)
{
    struct error error;

    fixture->options.conninfo = conninfo;
    fixture->options.application_name = "sagapost test";
    if (fixture->options.connect_timeout_us == 0)
        fixture->options.connect_timeout_us = 5 * US_PER_S;
    fixture->options.backoff_base_us = 2 * US_PER_MS;
    fixture->options.backoff_cap_us = 100 * US_PER_MS;
    fixture->options.on_up = on_up;
    fixture->options.on_down = on_down;
    fixture->options.on_notify = on_notify;
    fixture->options.on_notice = on_notice;
    fixture->options.data = fixture;
    if (fixture->loop == NULL)
        assert_int_equal(loop_create(&fixture->loop, &clock_system, &error), 0);
    if (pg_session_create(&fixture->session, fixture->loop, &fixture->options, &error) < 0)
        fail_msg("%s", error.message);
    pg_session_start(fixture->session);
}

void fixture_stop(struct fixture *fixture)
{
    if (!fixture->destroyed)
        pg_session_destroy(fixture->session);
    loop_destroy(fixture->loop);
    for (int i = 0; i < fixture->asked; i++)
        pg_result_free(fixture->answers[i].result);
}

int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture_start(fixture, test_conninfo());
    turn_until(fixture, fixture->ups == 1);
    *state = fixture;
    return 0;
}

int fixture_teardown(void **state)
{
    fixture_stop(*state);
    free(*state);
    return 0;
}

static void on_answer(void *data, struct pg_result *result, const struct error *failure)
{
    struct answer *answer = data;
    struct fixture *fixture = answer->fixture;

    assert_int_equal(answer->number, fixture->answered); /* in the order asked, each once */
    fixture->order[fixture->answered++] = answer->number;
    if (failure != NULL) {
        assert_null(result);
        assert_true(failure->code < 0);
        answer->failure = *failure;
    } else if (!answer->is_sync) {
        assert_non_null(result);
        answer->result = pg_result_keep(result);
    } else {
        assert_null(result);
    }
    if (answer->then != NULL)
        answer->then(fixture);
}

static struct answer *next_answer(struct fixture *fixture)
{
    assert_true(fixture->asked < (int)(sizeof(fixture->answers) / sizeof(fixture->answers[0])));
    struct answer *answer = &fixture->answers[fixture->asked];
    *answer = (struct answer){.fixture = fixture, .number = fixture->asked++};
    return answer;
}

/* A request that was refused gets no answer, so it was none. */
static int asked(struct fixture *fixture, struct answer *answer, int code,
                 const struct error *error)
{
    if (code == 0)
        return answer->number;
    if (!fixture->tolerant)
        fail_msg("%s", error->message);
    assert_int_equal(error->code, code);
    fixture->asked--;
    return -1;
}

int ask(struct fixture *fixture, const struct pg_statement *statement,
        const struct pg_params *params)
{
    struct error error;
    struct answer *answer = next_answer(fixture);
    int code = pg_session_send(fixture->session, statement, params, on_answer, answer, &error);
    return asked(fixture, answer, code, &error);
}

int ask_text(struct fixture *fixture, const char *sql)
{
    struct error error;
    struct answer *answer = next_answer(fixture);
    int code = pg_session_send_text(fixture->session, sql, on_answer, answer, &error);
    return asked(fixture, answer, code, &error);
}

int ask_sync(struct fixture *fixture)
{
    struct error error;
    struct answer *answer = next_answer(fixture);
    answer->is_sync = true;
    int code = pg_session_sync(fixture->session, on_answer, answer, &error);
    return asked(fixture, answer, code, &error);
}

struct answer *ask_and_wait(struct fixture *fixture, const char *sql)
{
    int number = ask_text(fixture, sql);
    int sync = ask_sync(fixture);
    turn_until(fixture, fixture->answered > sync);
    return &fixture->answers[number];
}

int ask_int(struct fixture *fixture, const struct pg_statement *statement, int64_t value, bool wide)
{
    struct pg_params params;
    pg_params_init(&params);
    if (wide)
        pg_params_int8(&params, value);
    else
        pg_params_int4(&params, (int32_t)value);
    int number = ask(fixture, statement, &params);
    pg_params_free(&params);
    return number;
}

void aside(const char *sql)
{
    struct pg_client *client = NULL;
    struct error error;
    if (pg_client_connect(&client, test_conninfo(), "aside", 60 * (int64_t)US_PER_S, &error) < 0 ||
        pg_client_script(client, sql, &error) < 0)
        fail_msg("%s", error.message);
    pg_client_close(client);
}
