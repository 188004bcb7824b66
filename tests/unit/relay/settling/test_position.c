/* What one write of the position says of rows of two windows. Their ids do not rise from one window
 * to the next: a transaction that committed late has low ids. */
#include "outbox/relay/settling/position.h"
#include "tests/unit/relay/relay_parts_test.h"

#define ROWS_MAX 16

static struct keys *held;
static struct flow *flow;
static struct windows *windows;
static struct source *source;
static struct position_writer *writer;

static void on_written(void *data, uint32_t rows_aside)
{
    (void)data;
    assert_int_equal(rows_aside, 0);
}

static struct snapshot *snapshot(const char *text)
{
    struct snapshot *parsed;
    struct error error;

    if (snapshot_parse(&parsed, text, &error) < 0)
        fail_msg("%s", error.message);
    return parsed;
}

/* The position is t1 = 10:10:, of epoch 3, and nothing was read yet. */
static int setup(void **state)
{
    struct position at = {0};
    struct error error;

    parts_setup(state);
    at.t1 = snapshot("10:10:");
    if (keys_create(&held, ROWS_MAX, &error) < 0 ||
        flow_create(&flow, ROWS_MAX, held, &error) < 0 || windows_create(&windows, &error) < 0)
        fail_msg("%s", error.message);
    flow_set_window(flow, ROWS_MAX);
    windows_start(windows, &at);
    snapshot_release(at.t1);

    struct source_options reading = {.loop = parts.loop,
                                     .session = fake_session(),
                                     .windows = windows,
                                     .flow = flow,
                                     .stats = &parts.stats,
                                     .rows_max = ROWS_MAX,
                                     .bytes_max = 1 << 20,
                                     .on_failure = parts_on_failure};
    struct position_writer_options writing = {.loop = parts.loop,
                                              .session = fake_session(),
                                              .flow = flow,
                                              .windows = windows,
                                              .stats = &parts.stats,
                                              .retry_base_us = US_PER_MS,
                                              .retry_cap_us = US_PER_S,
                                              .on_written = on_written,
                                              .on_failure = parts_on_failure};
    if (source_create(&source, &reading, &error) < 0)
        fail_msg("%s", error.message);
    writing.source = source;
    if (position_writer_create(&writer, &writing, &error) < 0)
        fail_msg("%s", error.message);
    position_writer_start(writer, "(0,1)", 3);
    return 0;
}

static int teardown(void **state)
{
    position_writer_destroy(writer);
    flow_clear(flow, NULL, NULL);
    source_destroy(source);
    windows_destroy(windows);
    flow_destroy(flow);
    keys_destroy(held);
    return parts_teardown(state);
}

static void row(int64_t id)
{
    struct flow_item item = {.id = id};

    flow_push(flow, &item);
    windows_row(windows, id);
}

/* Window 1, up to 15:20:15, has the ids 40, 41, 43; window 2, up to 20:20:, 42, of transaction 15.
 */
static void read_two_windows(void)
{
    windows_open(windows, snapshot("15:20:15"), 0);
    row(40);
    row(41);
    row(43);
    windows_close(windows);
    windows_open(windows, snapshot("20:20:"), 0);
    row(42);
    windows_close(windows);
    flow_permit(flow, flow_pushed(flow));
}

/* The broker confirms so many more, in their order. */
static void publish(int rows)
{
    for (int i = 0; i < rows; i++) {
        uint32_t place = flow_next(flow);

        assert_int_not_equal(place, FLOW_NONE);
        flow_sent(flow, place);
        flow_done(flow, place);
    }
}

static void written(void)
{
    fake_answer("relay_position_write", fake_row(fake_result("tt"), "(0,2)", "30"));
    fake_answer("sync", NULL);
    assert_false(position_writer_is_busy(writer));
    assert_int_equal(parts.failures, 0);
}

/* outbox.rebase takes a row with a higher id for one that nobody has published. */
static void test_the_highest_id_is_not_that_of_the_last_row(void **state)
{
    (void)state;
    read_two_windows();
    publish(4);
    position_writer_write(writer);
    assert_string_equal(fake_param(1), "(0,1)");
    assert_string_equal(fake_param(3), "3");
    assert_string_equal(fake_param(4), "20:20:");
    assert_string_equal(fake_param(5), "null");
    assert_string_equal(fake_param(6), "0");
    assert_string_equal(fake_param(7), "43");
    written();
    assert_int_equal(flow_rows(flow), 0);
}

static void test_in_the_midst_of_a_window_the_last_id_is_its_own(void **state)
{
    (void)state;
    read_two_windows();
    publish(2);
    position_writer_write(writer);
    assert_string_equal(fake_param(4), "10:10:");
    assert_string_equal(fake_param(5), "15:20:15");
    assert_string_equal(fake_param(6), "41");
    assert_string_equal(fake_param(7), "41");
    written();
    publish(1);
    position_writer_write(writer);
    assert_string_equal(fake_param(1), "(0,2)");
    assert_string_equal(fake_param(4), "15:20:15");
    assert_string_equal(fake_param(5), "null");
    assert_string_equal(fake_param(7), "43");
    written();
    publish(1);
    position_writer_write(writer);
    assert_string_equal(fake_param(4), "20:20:");
    assert_string_equal(fake_param(7), "42"); /* the table keeps the greatest */
    written();
}

/* Somebody rewrote the table, and at that moment nothing can be asked: the write was under way for
 * ever once, and the position stood still without a word. */
static void test_a_row_that_cannot_be_looked_for_is_told(void **state)
{
    (void)state;
    read_two_windows();
    publish(4);
    position_writer_write(writer);
    fake_session_send_fails(1, ERROR_LIMIT, RETRY_LATER);
    fake_refuse("relay_position_write", RETRY_BUG, "22012");
    assert_true(fake_session_send_failed());
    assert_int_equal(parts.failures, 1);
    assert_contains(parts.error.message, "it cannot be sent");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_highest_id_is_not_that_of_the_last_row, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_in_the_midst_of_a_window_the_last_id_is_its_own, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_row_that_cannot_be_looked_for_is_told, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
