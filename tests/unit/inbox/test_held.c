#include "inbox_test.h"
#include "outbox/inbox/held.h"
#include "tests/unit/runtime/faults.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY 8

static int setup(void **state)
{
    struct held *held;
    struct error error;
    assert_int_equal(held_create(&held, CAPACITY, 100, 0, &error), 0);
    *state = held;
    return 0;
}

static int teardown(void **state)
{
    held_destroy(*state);
    return 0;
}

static struct held_message *receive(struct held *held, uint64_t tag)
{
    struct error error;
    struct held_message *message;
    assert_int_equal(held_receive(held, tag, 0, &message, &error), 0);
    return message;
}

/* Receives tags 1 to count and takes all of them. */
static void receive_and_take(struct held *held, int count, struct held_message **ret_messages)
{
    for (int i = 0; i < count; i++) {
        receive(held, (uint64_t)i + 1);
    }
    assert_int_equal(held_take(held, 0, count, NULL, NULL, ret_messages), count);
}

static void acknowledges_up_to_the_first_open_one(void **state)
{
    struct held *held = *state;
    struct held_message *taken[CAPACITY];
    uint64_t tag = 0;
    receive_and_take(held, 4, taken);
    assert_false(held_ack(held, &tag));
    held_settle(held, taken[1]);
    held_settle(held, taken[2]);
    assert_false(held_ack(held, &tag));
    held_settle(held, taken[0]);
    assert_true(held_ack(held, &tag));
    assert_int_equal(tag, 3);
    assert_false(held_ack(held, &tag));
    assert_int_equal(held_outstanding(held), 1);
    held_settle(held, taken[3]);
    assert_true(held_ack(held, &tag));
    assert_int_equal(tag, 4);
}

/* The broker closes the channel when it is told to acknowledge a tag that was rejected. */
static void never_acknowledges_a_refused_tag(void **state)
{
    struct held *held = *state;
    struct held_message *taken[CAPACITY];
    uint64_t tag = 0;
    receive_and_take(held, 3, taken);
    held_settle(held, taken[0]);
    held_refuse(held, taken[1]);
    held_refuse(held, taken[2]);
    assert_true(held_ack(held, &tag));
    assert_int_equal(tag, 1);
    assert_int_equal(held_outstanding(held), 0);
    held_refuse(held, receive(held, 4));
    assert_false(held_ack(held, &tag));
    assert_int_equal(held_outstanding(held), 0);
}

static void puts_back_for_later(void **state)
{
    struct held *held = *state;
    struct held_message *taken[CAPACITY];
    uint64_t tag = 0;
    receive_and_take(held, 2, taken);
    assert_int_equal(held_waiting(held), 0);
    assert_int_equal(held_next_us(held), INT64_MAX);
    held_put_back(held, taken[0], 50);
    held_settle(held, taken[1]);
    assert_false(held_ack(held, &tag));
    assert_int_equal(held_waiting(held), 1);
    assert_int_equal(held_next_us(held), 50);
    assert_int_equal(held_take(held, 49, 8, NULL, NULL, taken), 0);
    assert_int_equal(held_take(held, 50, 8, NULL, NULL, taken), 1);
    assert_int_equal(taken[0]->tag, 1);
    held_settle(held, taken[0]);
    assert_true(held_ack(held, &tag));
    assert_int_equal(tag, 2);
}

static bool only_even(void *data, const struct held_message *message)
{
    (void)data;
    return message->tag % 2 == 0;
}

static void takes_in_order_what_is_accepted(void **state)
{
    struct held *held = *state;
    struct held_message *taken[CAPACITY];
    for (uint64_t tag = 1; tag <= 6; tag++) {
        receive(held, tag);
    }
    assert_int_equal(held_take(held, 0, 2, only_even, NULL, taken), 2);
    assert_int_equal(taken[0]->tag, 2);
    assert_int_equal(taken[1]->tag, 4);
    assert_int_equal(held_take(held, 0, 8, NULL, NULL, &taken[2]), 4);
    assert_int_equal(taken[2]->tag, 1);
    assert_int_equal(taken[5]->tag, 6);
    for (int i = 0; i < 6; i++) {
        held_settle(held, taken[i]);
    }
}

static void refuses_a_tag_out_of_order_and_one_too_many(void **state)
{
    struct held *held = *state;
    struct held_message *message;
    struct error error;
    assert_int_equal(held_receive(held, 2, 0, &message, &error), ERROR_PROTOCOL);
    assert_int_equal(error.retry, RETRY_RECONNECT);
    for (uint64_t tag = 1; tag <= CAPACITY; tag++) {
        receive(held, tag);
    }
    assert_int_equal(held_receive(held, CAPACITY + 1, 0, &message, &error), ERROR_LIMIT);
}

/* A body over the limit is told from one that there is no memory for: that was not received. */
static void makes_room_for_a_body_or_receives_nothing(void **state)
{
    struct held *held = *state;
    struct held_message *message;
    struct error error;
    bool fired = true;
    assert_int_equal(held_receive(held, 1, 101, &message, &error), 0); /* 100 are allowed */
    assert_true(message->body.failed);
    held_refuse(held, message);
    for (int nth = 1; fired; nth++) {
        fault_arm("alloc", nth, ENOMEM);
        int rc = held_receive(held, 2, 100, &message, &error);
        fired = fault_disarm();
        assert_int_equal(rc, fired ? ERROR_NO_MEMORY : 0);
        if (fired) {
            assert_int_equal(error.retry, RETRY_RECONNECT);
        }
        assert_int_equal(held_waiting(held), fired ? 0 : 1);
    }
    fault_arm("alloc", 1, ENOMEM);
    buffer_append(&message->body, error.message, 100);
    assert_false(fault_disarm());
    assert_false(message->body.failed);
    assert_int_equal(held_take(held, 0, 1, NULL, NULL, &message), 1);
    assert_int_equal(message->tag, 2);
    held_settle(held, message);
}

/* A channel is lost while a batch holds two of its messages; the next channel's tags start at 1. */
static void keeps_what_a_batch_holds_when_the_channel_is_lost(void **state)
{
    struct held *held = *state;
    struct held_message *taken[CAPACITY];
    struct error error;
    uint64_t tag = 0;
    receive_and_take(held, 3, taken);
    buffer_append_text(&taken[0]->body, "first");
    held_put_back(held, taken[2], 0);
    held_void(held);
    assert_int_equal(held_outstanding(held), 0);
    assert_int_equal(held_waiting(held), 0);
    assert_int_equal(held_resize(held, CAPACITY / 2, &error), 0);
    struct held_message *fresh = receive(held, 1);
    buffer_append_text(&fresh->body, "second");
    assert_true(taken[0]->is_void);
    assert_string_equal(buffer_text(&taken[0]->body), "first");
    held_settle(held, taken[0]);
    held_put_back(held, taken[1], 0);
    assert_int_equal(held_waiting(held), 1);
    assert_false(held_ack(held, &tag));
    assert_string_equal(buffer_text(&fresh->body), "second");
    assert_int_equal(held_take(held, 0, 8, NULL, NULL, taken), 1);
    assert_ptr_equal(taken[0], fresh);
    held_settle(held, fresh);
    assert_true(held_ack(held, &tag));
    assert_int_equal(tag, 1);
}

static void reuses_a_message_without_its_past(void **state)
{
    struct held *held = *state;
    struct held_message *taken[CAPACITY];
    uint64_t tag;
    receive_and_take(held, 1, taken);
    buffer_append_text(&taken[0]->body, "body");
    taken[0]->tries = 7;
    held_settle(held, taken[0]);
    assert_true(held_ack(held, &tag));
    struct held_message *again = receive(held, 2);
    assert_ptr_equal(again, taken[0]);
    assert_int_equal(again->tries, 0);
    assert_int_equal(buffer_length(&again->body), 0);
}

/* Any order of ends: what is acknowledged is settled, and at the end all of it is. */
static void acknowledges_everything_in_any_order(void **state)
{
    struct held *held = *state;
    unsigned seed = 20;
    uint64_t next = 1;
    uint64_t acknowledged = 0;
    for (int round = 0; round < 2000; round++) {
        struct held_message *taken[CAPACITY];
        while (held_outstanding(held) < CAPACITY && rand_r(&seed) % 4 != 0) {
            receive(held, next++);
        }
        int count = held_take(held, 0, CAPACITY, NULL, NULL, taken);
        for (int i = 0; i < count; i++) {
            switch (rand_r(&seed) % 4) {
            case 0:
                held_put_back(held, taken[i], 0);
                break;
            case 1:
                held_refuse(held, taken[i]);
                break;
            default:
                held_settle(held, taken[i]);
                break;
            }
        }
        uint64_t tag;
        if (held_ack(held, &tag)) {
            assert_true(tag > acknowledged && tag < next);
            acknowledged = tag;
        }
        assert_true(held_outstanding(held) <= held_waiting(held) + CAPACITY);
    }
    assert_true(acknowledged > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(acknowledges_up_to_the_first_open_one, setup, teardown),
        cmocka_unit_test_setup_teardown(never_acknowledges_a_refused_tag, setup, teardown),
        cmocka_unit_test_setup_teardown(puts_back_for_later, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_in_order_what_is_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_a_tag_out_of_order_and_one_too_many, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(makes_room_for_a_body_or_receives_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_what_a_batch_holds_when_the_channel_is_lost, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(reuses_a_message_without_its_past, setup, teardown),
        cmocka_unit_test_setup_teardown(acknowledges_everything_in_any_order, setup, teardown),
    };
    return cmocka_run_group_tests_name("held", tests, NULL, NULL);
}
