/* What the source makes of a sequence of message ids that somebody set back, or restored without
 * the log: rows whose ids it does not know of are read all the same. */
#include "outbox/relay/reading/source.h"
#include "outbox/relay/rows/chunk.h"
#include "tests/unit/relay/relay_parts_test.h"

#include <inttypes.h>

#define ROWS_MAX   64
#define TO_ITS_END "9223372036854775807"

static struct keys *held;
static struct flow *flow;
static struct windows *windows;
static struct routes *routes;
static struct source *source;
static const struct publish_after here_alone;

static void on_window(void *data, uint64_t rows)
{
    (void)data;
    (void)rows;
}

static struct snapshot *snapshot(const char *text)
{
    struct snapshot *parsed;

    assert_int_equal(snapshot_parse(&parsed, text, NULL), 0);
    return parsed;
}

/* The position is 10:10:, and no row of a transaction that began after it has an id up to 50. */
static int setup(void **state)
{
    struct position at = {.t1 = snapshot("10:10:")};

    parts_setup(state);
    assert_int_equal(keys_create(&held, ROWS_MAX, NULL), 0);
    assert_int_equal(flow_create(&flow, ROWS_MAX, held, NULL), 0);
    assert_int_equal(windows_create(&windows, NULL), 0);
    assert_int_equal(routes_create(&routes, "", false, NULL), 0);
    at.t1->bound = 50;
    windows_start(windows, &at);
    snapshot_release(at.t1);

    struct source_options options = {.loop = parts.loop,
                                     .session = fake_session(),
                                     .windows = windows,
                                     .flow = flow,
                                     .routes = routes,
                                     .stats = &parts.stats,
                                     .publish_after = &here_alone,
                                     .rows_max = ROWS_MAX,
                                     .bytes_max = 1 << 20,
                                     .on_window = on_window,
                                     .on_failure = parts_on_failure};
    assert_int_equal(source_create(&source, &options, NULL), 0);
    source_start(source);
    return 0;
}

static int teardown(void **state)
{
    source_stop(source);
    flow_clear(flow, chunk_release_row, NULL);
    source_destroy(source);
    routes_destroy(routes);
    windows_destroy(windows);
    flow_destroy(flow);
    keys_destroy(held);
    return parts_teardown(state);
}

static void begins(int64_t sequence, int64_t highest)
{
    fake_answer("relay_begin", fake_row(fake_result("III"), sequence, highest, (int64_t)1));
}

static void polls(const char *t2, int64_t sequence)
{
    assert_true(source_can_poll(source));
    source_poll(source);
    fake_answer("relay_poll",
                fake_row(fake_result("tIII"), t2, (int64_t)100, (int64_t)100, sequence));
    source_turn(source);
}

static void expect_reading(const char *after, const char *up_to)
{
    assert_string_equal(fake_asked(), "relay_read_fresh");
    assert_string_equal(fake_param(1), after);
    assert_string_equal(fake_param(2), up_to);
}

static struct pg_result *row(struct pg_result *rows, int64_t id)
{
    struct uuid message_id = {0};

    return fake_row(rows, id, &message_id, (int64_t)0, "t", NULL, "x", "k", NULL, "{}", NULL, NULL,
                    NULL, NULL, 1, 1);
}

static struct pg_result *no_rows(void)
{
    return fake_result("IuTttttttttttbi");
}

static void end_window(void)
{
    fake_answer("relay_read_fresh", no_rows());
    source_turn(source);
}

static void test_the_sequence_says_where_the_ids_of_a_window_lie(void **state)
{
    (void)state;
    begins(60, 58);
    polls("20:20:", 70);
    expect_reading("50", "70");
    assert_null(strstr(parts_logged(), "sequence"));
}

static void test_a_log_with_higher_ids_is_read_to_its_end(void **state)
{
    (void)state;
    begins(60, 80);
    assert_non_null(strstr(parts_logged(), "sequence=60 given_out=80"));
    polls("20:20:", 61);
    expect_reading("0", TO_ITS_END);
    end_window();
    polls("30:30:", 62);
    expect_reading("0", TO_ITS_END);
    assert_null(strstr(parts_logged(), "sequence")); /* once is enough */
}

static void test_a_sequence_behind_the_bound(void **state)
{
    (void)state;
    begins(49, 0);
    assert_non_null(strstr(parts_logged(), "sequence=49 given_out=50"));
    polls("20:20:", 49);
    expect_reading("0", TO_ITS_END);
}

static void test_a_sequence_that_falls_between_two_looks(void **state)
{
    (void)state;
    begins(60, 58);
    polls("20:20:", 90);
    expect_reading("50", "90");
    end_window();
    source_own_transaction(source, 90, 25);
    polls("30:30:", 70); /* ids up to 90 and beyond may not have been read */
    assert_non_null(strstr(parts_logged(), "sequence=70 given_out=90"));
    expect_reading("0", TO_ITS_END);
    end_window();
    /* A write of the position that was under way: what it knew of the sequence is no bound. */
    source_own_transaction(source, 90, 35);
    polls("40:40:", 95);
    end_window();
    polls("50:50:", 96);
    expect_reading("0", TO_ITS_END);
}

static void test_an_id_that_is_there_twice(void **state)
{
    (void)state;
    begins(60, 58);
    polls("20:20:", 70);
    fake_answer("relay_read_fresh", row(row(no_rows(), 51), 51));
    source_turn(source);
    assert_int_equal(parts.failures, 1);
    assert_int_equal(parts.error.retry, RETRY_NEVER);
    assert_non_null(strstr(parts.error.message, "two rows of outbox.message have the id 51"));
    assert_false(source_turn(source));
    assert_int_equal(parts.failures, 1);
}

static void test_ids_that_are_taken_ahead(void **state)
{
    (void)state;
    fake_answer("relay_begin", fake_row(fake_result("III"), (int64_t)60, (int64_t)58, (int64_t)20));
    assert_int_equal(parts.failures, 1);
    assert_int_equal(parts.error.retry, RETRY_NEVER);
    assert_non_null(strstr(parts.error.message, "outbox.message_id_seq has CACHE 20"));
    assert_false(source_can_poll(source));
}

#define SOURCE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SOURCE_TEST(test_the_sequence_says_where_the_ids_of_a_window_lie),
        SOURCE_TEST(test_a_log_with_higher_ids_is_read_to_its_end),
        SOURCE_TEST(test_a_sequence_behind_the_bound),
        SOURCE_TEST(test_a_sequence_that_falls_between_two_looks),
        SOURCE_TEST(test_an_id_that_is_there_twice),
        SOURCE_TEST(test_ids_that_are_taken_ahead),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
