/* Where messages go: which place the broker's texts close, when it is tried again, and which one is
 * silent. */
#include "outbox/relay/publishing/destinations.h"
#include "outbox/relay/publishing/refusal.h"
#include "outbox/relay/publishing/silence.h"
#include "outbox/relay/publishing/stale.h"
#include "outbox/runtime/clock.h"
#include "tests/unit/relay/relay_test.h"

#include <string.h>

static struct destinations *destinations;

static int set_up(void **state)
{
    (void)state;
    return destinations_create(&destinations, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    destinations_destroy(destinations);
    return 0;
}

static struct broker_text text(const char *of)
{
    return (struct broker_text){of, strlen(of)};
}

static uint16_t number(const char *exchange, const char *routing_key)
{
    return destinations_number(destinations, text(exchange), text(routing_key));
}

static void test_each_place_has_its_number(void **state)
{
    uint16_t paid = number("orders", "paid"), sent = number("orders", "sent"),
             other = number("", "orders");
    const struct destination *whole;

    (void)state;
    assert_int_not_equal(paid, sent);
    assert_int_not_equal(paid, other);
    assert_int_equal(number("orders", "paid"), paid);
    assert_int_equal(number("orders", "sent"), sent);
    assert_int_equal(number("", "orders"), other);
    assert_int_equal(destinations_get(destinations, paid)->whole,
                     destinations_get(destinations, sent)->whole);
    whole = destinations_get(destinations, destinations_get(destinations, paid)->whole);
    assert_true(destination_is_for(whole, text("orders"), text("anything")));
    assert_false(destination_is_for(whole, text("order"), text("s")));
    assert_true(
        destination_is_for(destinations_get(destinations, paid), text("orders"), text("paid")));
    assert_false(
        destination_is_for(destinations_get(destinations, paid), text("orders"), text("sent")));
}

static void test_past_the_limit(void **state)
{
    uint16_t whole = destinations_get(destinations, number("orders", "0"))->whole;
    char name[16];

    (void)state;
    for (int i = 0; i < 2 * DESTINATIONS_MAX; i++) {
        uint16_t got;

        (void)snprintf(name, sizeof(name), "%d", i);
        got = number("orders", name);
        if (i < DESTINATIONS_KEYED_MAX)
            assert_string_equal(destinations_get(destinations, got)->routing_key, name);
        else
            assert_int_equal(got, whole);
    }
    for (int i = 0; i < DESTINATIONS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "e%d", i);
        if (number(name, "key") != DESTINATION_OTHER)
            assert_string_equal(destinations_get(destinations, number(name, "key"))->exchange,
                                name);
    }
    assert_int_equal(destinations_count(destinations), DESTINATIONS_MAX);
    assert_int_equal(number("one more", "key"), DESTINATION_OTHER);
    assert_false(destinations_close(destinations, DESTINATION_OTHER, OUTCOME_NO_EXCHANGE, ""));
    assert_null(destinations_closed(destinations, DESTINATION_OTHER));
    assert_int_equal(number("orders", "1"), number("orders", "1"));
}

static void test_closed_by_itself_or_as_a_whole(void **state)
{
    uint16_t paid = number("orders", "paid"), sent = number("orders", "sent");
    uint16_t whole = destinations_get(destinations, paid)->whole;

    (void)state;
    assert_null(destinations_closed(destinations, paid));
    assert_true(destinations_close(destinations, paid, OUTCOME_NO_ACCESS, "because"));
    assert_false(destinations_close(destinations, paid, OUTCOME_NO_ACCESS, "because"));
    assert_string_equal(destinations_closed(destinations, paid)->detail, "because");
    assert_null(destinations_closed(destinations, sent));
    assert_true(destinations_close(destinations, whole, OUTCOME_NO_EXCHANGE, "gone"));
    assert_int_equal(destinations_closed(destinations, sent)->outcome, OUTCOME_NO_EXCHANGE);
    assert_int_equal(destinations_closed(destinations, paid)->outcome, OUTCOME_NO_ACCESS);
}

static void test_attempts_grow_rare(void **state)
{
    struct destination *paid = destinations_get(destinations, number("orders", "paid"));

    (void)state;
    destinations_close(destinations, number("orders", "paid"), OUTCOME_UNCONFIRMED, "");
    assert_int_equal(paid->probe_us, 0);
    destination_probed(paid, 1000, 10, 35);
    assert_int_equal(paid->probe_us, 1010);
    destination_probed(paid, 2000, 10, 35);
    assert_int_equal(paid->probe_us, 2020);
    for (int i = 0; i < 100; i++)
        destination_probed(paid, 3000, 10, 35);
    assert_int_equal(paid->probe_us, 3035);
    paid->closed = false;
    destinations_close(destinations, number("orders", "paid"), OUTCOME_UNCONFIRMED, "");
    assert_int_equal(paid->probe_us, 0); /* it begins again */
}

static struct error closed_with(int code, const char *message)
{
    struct error error = {0};

    error_set(&error, ERROR_AMQP, RETRY_NEVER, "RabbitMQ at 127.0.0.1 closed the channel: %d %s",
              code, message);
    error.amqp_code = code;
    return error;
}

/* The texts are those of RabbitMQ 3.10.8. */
static void test_what_the_broker_says(void **state)
{
    struct error missing = closed_with(404, "NOT_FOUND - no exchange 'it's' in vhost '/'");
    struct error access = closed_with(
        403, "ACCESS_REFUSED - access to exchange 'orders' in vhost '/' refused for user 'u'");
    struct error usual = closed_with(
        403, "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'u'");
    struct error internal = closed_with(
        403, "ACCESS_REFUSED - cannot publish to internal exchange 'orders' in vhost '/'");
    struct error topic = closed_with(403, "ACCESS_REFUSED - access to topic 'bad.key' in exchange "
                                          "'orders' in vhost '/' refused for user 'u'");
    struct error queue = closed_with(404, "NOT_FOUND - no queue 'orders' in vhost '/'");

    (void)state;
    assert_true(refusal_names_exchange(&missing, "it's"));
    assert_false(refusal_names_exchange(&missing, "it"));
    assert_false(refusal_names_exchange(&missing, ""));
    assert_true(refusal_names_exchange(&access, "orders"));
    assert_false(refusal_names_exchange(&access, "order"));
    assert_true(refusal_names_exchange(&usual, ""));
    assert_true(refusal_names_exchange(&internal, "orders"));
    assert_false(refusal_names_exchange(&topic, "orders")); /* other topics may go there */
    assert_false(refusal_names_exchange(&queue, "orders"));
    assert_true(refusal_names_topic(&topic, "orders", "bad.key"));
    assert_false(refusal_names_topic(&topic, "orders", "bad"));
    assert_false(refusal_names_topic(&topic, "order", "bad.key"));
    assert_false(refusal_names_topic(&access, "orders", "bad.key"));
    access.amqp_code = 406;
    assert_false(refusal_names_exchange(&access, "orders"));
    topic.amqp_code = 404;
    assert_false(refusal_names_topic(&topic, "orders", "bad.key"));
}

static void test_what_one_message_is_refused_for(void **state)
{
    static const struct {
        int code;
        const char *text;
        uint64_t bytes_max;
        enum outcome outcome;
    } texts[] = {
        {406, "PRECONDITION_FAILED - message size 2000 is larger than configured max size 1000",
         1000, OUTCOME_TOO_LARGE},
        {406, "PRECONDITION_FAILED - message size 536870913 is larger than max size 536870912",
         536870912, OUTCOME_TOO_LARGE},
        {406, "PRECONDITION_FAILED - message size 2000 is larger than max size", 0, OUTCOME_CLOSES},
        {406, "PRECONDITION_FAILED - invalid max size 3", 0, OUTCOME_CLOSES},
        {406, "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\"}", 0,
         OUTCOME_CLOSES},
        {541, "INTERNAL_ERROR - message size 2 is larger than max size 1", 0, OUTCOME_CLOSES},
        {404, "NOT_FOUND - no exchange", 0, OUTCOME_NO_EXCHANGE},
        {403, "ACCESS_REFUSED", 0, OUTCOME_NO_ACCESS},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct error why = closed_with(texts[i].code, texts[i].text);

        assert_int_equal(refusal_body_bytes_max(&why), texts[i].bytes_max);
        assert_int_equal(refusal_outcome(&why), texts[i].outcome);
    }
}

static void test_silence(void **state)
{
    struct silence *silence = calloc(1, sizeof(*silence));

    (void)state;
    silence_begin(silence, 1000);
    silence_sent(silence, 1, 1000);
    silence_sent(silence, 2, 1000);
    assert_false(silence_is_quiet(silence, 1, 1100, 100));
    assert_true(silence_is_quiet(silence, 1, 1101, 100));
    assert_false(silence_is_its_own(silence, 1)); /* nobody was heard: it is the broker */
    silence_heard(silence, 2, 1050, 1000);
    assert_true(silence_is_its_own(silence, 1));
    assert_false(silence_is_quiet(silence, 2, 2000, 100)); /* nothing of it is open */
    silence_sent(silence, 2, 3000);
    silence_sent(silence, 2, 3050);
    assert_false(silence_is_quiet(silence, 2, 3100, 100));
    assert_true(silence_is_quiet(silence, 2, 3101, 100));
    assert_false(silence_is_its_own(silence, 2)); /* 1 was never heard */
    /* What was blocked is not held against it. */
    silence_begin(silence, 3500);
    assert_false(silence_is_quiet(silence, 1, 3600, 100));
    assert_true(silence_is_quiet(silence, 1, 3601, 100));
    assert_false(silence_is_its_own(silence, 1));
    /* A slow one is no silent one. */
    silence_heard(silence, 2, 3550, 3000);
    assert_false(silence_is_quiet(silence, 2, 3650, 100));
    silence_lost(silence);
    assert_false(silence_is_quiet(silence, 1, 9000, 100));
    free(silence);
}

static void one_heard(struct silence *silence, uint16_t number, int64_t now_us, int64_t took_us)
{
    silence_sent(silence, number, now_us - took_us);
    silence_heard(silence, number, now_us, now_us - took_us);
}

/* Others wait for a destination that confirms slowly: less and less may be open there. */
static void test_slow(void **state)
{
    struct silence *silence = calloc(1, sizeof(*silence));
    const int64_t start_us = 1000, pause_us = SILENCE_PAUSES * 210;
    int64_t now_us = 1200;

    assert_non_null(silence);
    silence->slow_us = 100;
    for (int i = 0; i < 9; i++)
        silence_sent(silence, 1, start_us);
    one_heard(silence, 2, 999, 1); /* before: that says nothing */
    assert_false(silence_hold_back(silence, 1, 3, now_us, start_us));
    one_heard(silence, 2, 1150, 60); /* quicker, but not by much */
    assert_false(silence_hold_back(silence, 1, 3, now_us, start_us));
    one_heard(silence, 2, 1170, 30);
    assert_false(silence_hold_back(silence, 1, 3, now_us, 1100));     /* it has not been long */
    assert_false(silence_hold_back(silence, 1, 2, now_us, start_us)); /* of others than these */
    assert_false(silence_hold_back(silence, 2, 3, now_us, start_us)); /* nobody but itself */
    assert_false(silence_is_held_back(silence, 1, 3, now_us));
    assert_true(silence_hold_back(silence, 1, 3, now_us, start_us)); /* 4, of 9 */
    assert_true(silence_is_held_back(silence, 1, 3, now_us));
    assert_false(silence_is_held_back(silence, 2, 3, now_us));
    assert_false(silence_is_held_back(silence, 1, 2, now_us)); /* where nobody would wait */
    assert_false(silence_is_held_back(silence, 1, 3, now_us + SILENCE_PAUSE_CAP_US));
    assert_false(silence_hold_back(silence, 1, 3, now_us + 50, start_us)); /* just done */
    for (int i = 0; i < 8; i++)
        silence_heard(silence, 1, 1210, start_us); /* slow: not one more, and a pause */
    assert_true(silence_is_held_back(silence, 1, 3, 1210 + pause_us - 1));
    assert_false(silence_is_held_back(silence, 1, 3, 1210 + pause_us));
    now_us = 1210 + pause_us;
    for (int i = 0; i < 3; i++)
        silence_sent(silence, 1, now_us);
    assert_true(silence_is_held_back(silence, 1, 3, now_us));
    silence_heard(silence, 1, now_us + 10, now_us); /* quick: 5 */
    silence_sent(silence, 1, now_us + 10);
    assert_false(silence_is_held_back(silence, 1, 3, now_us + 10)); /* 4 of 5 */
    silence_sent(silence, 1, now_us + 10);
    assert_true(silence_is_held_back(silence, 1, 3, now_us + 10));
    for (int i = 2; i < 9; i++) {
        one_heard(silence, 2, now_us + 101 * i, 1);
        assert_true(silence_hold_back(silence, 1, 3, now_us + 101 * i, now_us + 10));
        if (silence->places[1].open > 1)
            silence_heard(silence, 1, now_us + 101 * i, now_us + 10);
    }
    assert_int_equal(silence->places[1].most, 1); /* not less */
    silence_heard(silence, 1, SILENCE_PAUSE_CAP_US + start_us, start_us);
    assert_int_equal(silence->places[1].not_before_us, 2 * SILENCE_PAUSE_CAP_US + start_us);
    free(silence);
    (void)state;
}

#define AT(seconds) ((seconds) * (int64_t)US_PER_S)

/* First soon, then after pauses that grow to a minute; as soon as something is taken all is well.
 */
static void test_stale(void **state)
{
    struct stale *stale = calloc(1, sizeof(*stale));
    int64_t now_us = AT(100);
    int64_t pauses_us[] = {AT(1), AT(2), AT(4), AT(8), AT(16), AT(32), AT(60), AT(60)};

    assert_non_null(stale);
    for (size_t i = 0; i < sizeof(pauses_us) / sizeof(pauses_us[0]); i++) {
        assert_int_equal(stale_due(stale, 5, now_us + AT(1000)), DESTINATION_OTHER);
        stale_refused(stale, 3, now_us);
        stale_refused(stale, 3, now_us + pauses_us[i] - 1); /* the first one counts */
        assert_int_equal(stale_due(stale, 5, now_us + pauses_us[i] - 1), DESTINATION_OTHER);
        now_us += pauses_us[i];
        assert_int_equal(stale_due(stale, 3, now_us), DESTINATION_OTHER); /* not one of these */
        assert_int_equal(stale_due(stale, 5, now_us), 3);
        stale_tried(stale, 5, now_us);
        stale_begin(stale);
    }
    stale_refused(stale, 3, now_us);
    stale_tried(stale, 5, now_us); /* in vain: the channel is still the same */
    assert_int_equal(stale_due(stale, 5, now_us + AT(60) - 1), DESTINATION_OTHER);
    assert_int_equal(stale_due(stale, 5, now_us + AT(60)), 3);
    assert_true(stale_taken(stale, 3));
    assert_int_equal(stale_due(stale, 5, now_us + AT(1000)), DESTINATION_OTHER);
    assert_false(stale_taken(stale, 3)); /* told once */
    free(stale);
    (void)state;
}

/* One channel serves all: what refuses is counted for each, the channel not replaced for each. */
static void test_stale_many(void **state)
{
    struct stale *stale = calloc(1, sizeof(*stale));

    assert_non_null(stale);
    stale_refused(stale, DESTINATION_OTHER, AT(1)); /* many places share it: others may take */
    assert_int_equal(stale_due(stale, 5, AT(1000)), DESTINATION_OTHER);
    stale_refused(stale, 1, AT(1));
    stale_refused(stale, 2, AT(1) + 1);
    assert_int_equal(stale_due(stale, 5, AT(2)), 1);
    stale_tried(stale, 5, AT(2));
    stale_begin(stale);
    assert_int_equal(stale->places[1].tries, 1);
    assert_int_equal(stale->places[2].tries, 1);
    assert_int_equal(stale->places[4].tries, 0);
    stale_refused(stale, 4, AT(2)); /* its second is over, and the channel is new */
    assert_int_equal(stale_due(stale, 5, AT(2) + STALE_INTERVAL_US - 1), DESTINATION_OTHER);
    assert_int_equal(stale_due(stale, 5, AT(2) + STALE_INTERVAL_US), 4);
    stale_begin(stale); /* the connection was lost */
    assert_int_equal(stale_due(stale, 5, AT(1000)), DESTINATION_OTHER);
    free(stale);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_place_has_its_number, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_past_the_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed_by_itself_or_as_a_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_attempts_grow_rare, set_up, tear_down),
        cmocka_unit_test(test_what_the_broker_says),
        cmocka_unit_test(test_what_one_message_is_refused_for),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_stale_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
