/* flow_test.h: what the tests of the flow share: one flow, with the keys that it holds, and rows by
 * their ids. */
#ifndef SAGAPOST_TESTS_FLOW_TEST_H
#define SAGAPOST_TESTS_FLOW_TEST_H

#include "outbox/relay/rows/flow.h"
#include "tests/unit/relay/relay_test.h"

static struct flow *flow;
static struct keys *held;

static inline void create(uint32_t rows_max)
{
    assert_int_equal(keys_create(&held, 10000, NULL), 0);
    assert_int_equal(flow_create(&flow, rows_max, held, NULL), 0);
}

static inline void destroy(void)
{
    flow_clear(flow, NULL, NULL);
    flow_destroy(flow);
    keys_destroy(held);
}

static inline void push(int64_t id, uint64_t key, bool pipelined, bool holds)
{
    struct flow_item item = {.id = id, .key = key, .pipelined = pipelined, .holds = holds};

    flow_push(flow, &item);
    flow_permit(flow, flow_pushed(flow));
}

static inline uint32_t place_of(int64_t id)
{
    for (uint64_t number = flow_popped(flow); number < flow_pushed(flow); number++)
        if (flow_item(flow, flow_place(flow, number))->id == id)
            return flow_place(flow, number);
    fail_msg("no row %lld", (long long)id);
    return 0;
}

#endif
