#include "outbox/relay/reading/windows.h"
#include "tests/unit/relay/relay_test.h"

static struct windows *windows;

static struct snapshot *snap(const char *text)
{
    struct snapshot *snapshot;

    assert_int_equal(snapshot_parse(&snapshot, text, NULL), 0);
    return snapshot;
}

static void start(const char *t1, const char *t2, int64_t last_id)
{
    struct position position = {.t1 = snap(t1), .last_id = last_id};

    if (t2)
        position.t2 = snap(t2);
    assert_int_equal(windows_create(&windows, NULL), 0);
    windows_start(windows, &position);
    snapshot_release(position.t1);
    snapshot_release(position.t2);
}

/* A window with rows first to last, of which the log must be flushed to `lsn`. */
static void window(const char *t2, int64_t lsn, int64_t first_id, int64_t last_id)
{
    windows_open(windows, snap(t2), lsn);
    for (int64_t id = first_id; id <= last_id; id++)
        windows_row(windows, id);
    windows_close(windows);
}

static void expect(uint64_t number, int64_t last_id, const char *t1, const char *t2,
                   int64_t kept_id)
{
    struct position position;

    windows_position(windows, number, last_id, &position);
    assert_string_equal(position.t1->text, t1);
    if (t2)
        assert_string_equal(position.t2->text, t2);
    else
        assert_null(position.t2);
    assert_int_equal(position.last_id, kept_id);
}

static void test_positions_inside_and_between(void **state)
{
    (void)state;
    start("1:1:", NULL, 0);
    window("5:5:", 100, 1, 3);
    window("9:9:", 200, 4, 5);
    windows_flushed(windows, 200);
    assert_int_equal(windows_permitted(windows), 5);
    expect(2, 2, "1:1:", "5:5:", 2);
    expect(3, 3, "5:5:", NULL, 0);
    expect(4, 4, "5:5:", "9:9:", 4);
    expect(5, 5, "9:9:", NULL, 0);
    windows_advance(windows, 4);
    assert_int_equal(windows_count(windows), 1);
    expect(5, 5, "9:9:", NULL, 0);
    windows_advance(windows, 5);
    assert_int_equal(windows_count(windows), 0);
    assert_string_equal(windows_t1(windows)->text, "9:9:");
    windows_destroy(windows);
}

static void test_an_open_window_is_not_settled_with_its_last_row_read(void **state)
{
    (void)state;
    start("1:1:", NULL, 0);
    windows_open(windows, snap("5:5:"), 10);
    windows_flushed(windows, 10);
    windows_row(windows, 7);
    assert_string_equal(windows_t2(windows)->text, "5:5:");
    assert_int_equal(windows_last_read_id(windows), 7);
    expect(1, 7, "1:1:", "5:5:", 7); /* more rows may follow */
    windows_advance(windows, 1);
    windows_row(windows, 8);
    windows_close(windows);
    expect(2, 8, "5:5:", NULL, 0);
    windows_destroy(windows);
}

static void test_rows_wait_for_the_log(void **state)
{
    (void)state;
    start("1:1:", NULL, 0);
    window("5:5:", 100, 1, 2);
    window("9:9:", 200, 3, 3);
    assert_int_equal(windows_permitted(windows), 0);
    assert_true(windows_wait_for_flush(windows));
    windows_flushed(windows, 150);
    assert_int_equal(windows_permitted(windows), 2);
    windows_flushed(windows, 120); /* an older answer */
    assert_int_equal(windows_permitted(windows), 2);
    windows_flushed(windows, 200);
    assert_int_equal(windows_permitted(windows), 3);
    assert_false(windows_wait_for_flush(windows));
    windows_destroy(windows);
}

static void test_an_empty_window_moves_t1_once_flushed(void **state)
{
    (void)state;
    start("1:1:", NULL, 0);
    window("5:5:", 100, 1, 0);
    expect(0, 0, "1:1:", NULL, 0); /* its xids could be used again after a crash */
    assert_string_equal(windows_t1(windows)->text,
                        "5:5:"); /* in memory it is where the next begins */
    assert_false(windows_wait_for_flush(windows));
    windows_flushed(windows, 100);
    expect(0, 0, "5:5:", NULL, 0);
    assert_int_equal(windows_count(windows), 0);
    windows_destroy(windows);
}

static void test_empty_windows_do_not_pile_up(void **state)
{
    char text[32];

    (void)state;
    start("1:1:", NULL, 0);
    window("2:2:", 10, 1, 1);
    for (int i = 3; i < 2000; i++) {
        (void)snprintf(text, sizeof(text), "%d:%d:", i, i);
        window(text, i * 10, 1, 0);
        assert_true(windows_count(windows) <= 2);
    }
    /* An empty one never makes the rows before it wait. */
    windows_flushed(windows, 10);
    assert_int_equal(windows_permitted(windows), 1);
    expect(1, 1, "2:2:", NULL, 0);
    windows_flushed(windows, 20000);
    expect(1, 1, "1999:1999:", NULL, 0);
    windows_advance(windows, 1);
    assert_int_equal(windows_count(windows), 0);
    windows_destroy(windows);
}

static void test_an_unflushed_empty_window_is_not_persisted_by_the_one_before(void **state)
{
    (void)state;
    start("1:1:", NULL, 0);
    window("2:2:", 10, 1, 1);
    window("3:3:", 20, 1, 0);
    windows_flushed(windows, 10);
    expect(1, 1, "2:2:", NULL, 0);
    windows_advance(windows, 1);
    assert_int_equal(windows_count(windows), 1);
    expect(1, 1, "2:2:", NULL, 0);
    window("4:4:", 30, 5, 5);
    windows_flushed(windows, 30);
    expect(2, 5, "4:4:", NULL, 0);
    windows_advance(windows, 2);
    assert_string_equal(windows_t1(windows)->text, "4:4:");
    windows_destroy(windows);
}

static void test_a_predecessors_window_goes_on_after_its_last_id(void **state)
{
    (void)state;
    start("1:1:", "9:9:", 40);
    assert_string_equal(windows_t2(windows)->text, "9:9:");
    assert_string_equal(windows_t1(windows)->text, "1:1:");
    assert_int_equal(windows_last_read_id(windows), 40);
    windows_row(windows, 41);
    assert_int_equal(windows_permitted(windows),
                     1); /* it was flushed, or it would not stand there */
    expect(1, 41, "1:1:", "9:9:", 41);
    windows_close(windows);
    expect(1, 41, "9:9:", NULL, 0);
    windows_destroy(windows);

    start("1:1:", "9:9:", 40); /* nothing is left of it */
    windows_close(windows);
    expect(0, 0, "9:9:", NULL, 0);
    windows_destroy(windows);
}

static void test_bounds_are_dropped_everywhere(void **state)
{
    struct snapshot *t2 = snap("5:5:");

    (void)state;
    start("1:1:", NULL, 0);
    windows_t1(windows)->bound = 7;
    t2->bound = 9;
    windows_open(windows, t2, 1);
    windows_row(windows, 10);
    windows_drop_bounds(windows);
    assert_int_equal(windows_t1(windows)->bound, 0);
    assert_int_equal(windows_t2(windows)->bound, 0);
    windows_destroy(windows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_positions_inside_and_between),
        cmocka_unit_test(test_an_open_window_is_not_settled_with_its_last_row_read),
        cmocka_unit_test(test_rows_wait_for_the_log),
        cmocka_unit_test(test_an_empty_window_moves_t1_once_flushed),
        cmocka_unit_test(test_empty_windows_do_not_pile_up),
        cmocka_unit_test(test_an_unflushed_empty_window_is_not_persisted_by_the_one_before),
        cmocka_unit_test(test_a_predecessors_window_goes_on_after_its_last_id),
        cmocka_unit_test(test_bounds_are_dropped_everywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
