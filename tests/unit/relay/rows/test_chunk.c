/* How many rows a statement asks for, from what the ones before it brought. */
#include "outbox/relay/rows/chunk.h"
#include "tests/unit/relay/relay_parts_test.h"

#define ROOM  2000
#define BYTES (4 << 20)

/* A statement brings rows of so many bytes, out of a backlog without end; returns how many. */
static int read_rows(struct chunk_size *size, int64_t bytes_each)
{
    struct chunk chunk = {.rows = fake_result("i")};
    int rows = 0;

    while (rows < size->rows_asked && chunk.row_bytes < size->bytes_asked) {
        fake_row(chunk.rows, rows++);
        chunk.row_bytes += bytes_each;
    }
    assert_true(chunk_size_learn(size, &chunk)); /* there are more */
    pg_result_free(chunk.rows);
    return rows;
}

static void test_large_rows_are_looked_at_about_once(void **state)
{
    struct chunk_size size = {0};
    int looked_at = 0, brought = 0;

    (void)state;
    while (brought < 1000) {
        looked_at += chunk_size_ask(&size, ROOM, BYTES);
        brought += read_rows(&size, 100000);
    }
    assert_in_range(looked_at, brought, brought * 4 / 3);
}

/* One larger than all the bytes comes alone, and with it one that does not. */
static void test_rows_beyond_the_bytes(void **state)
{
    struct chunk_size size = {0};

    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_in_range(chunk_size_ask(&size, ROOM, BYTES), 1, i == 0 ? 16 : 2);
        assert_int_equal(read_rows(&size, 2 * BYTES), 1);
    }
}

static void test_small_rows_soon_fill_the_room(void **state)
{
    struct chunk_size size = {0};
    int statements = 0;

    (void)state;
    while (chunk_size_ask(&size, ROOM, BYTES) < ROOM) {
        read_rows(&size, 100);
        assert_in_range(++statements, 1, 8);
    }
    for (int i = 0; i < 100; i++) {
        assert_int_equal(chunk_size_ask(&size, ROOM, BYTES), ROOM);
        read_rows(&size, 100);
    }
    assert_int_equal(chunk_size_ask(&size, 10, BYTES), 10); /* less room for once */
    read_rows(&size, 100);
    assert_int_equal(chunk_size_ask(&size, ROOM, BYTES), ROOM);
}

static void test_the_end_of_a_backlog(void **state)
{
    struct chunk_size size = {0};

    (void)state;
    chunk_size_ask(&size, ROOM, BYTES);
    read_rows(&size, 100);
    int32_t asked = chunk_size_ask(&size, ROOM, BYTES);
    assert_false(chunk_size_learn(&size, NULL));
    assert_int_equal(chunk_size_ask(&size, ROOM, BYTES), asked);
}

/* What was too much to read in the time of a statement once is less the next time, down to one. */
static void test_a_failure_asks_for_less(void **state)
{
    struct chunk_size size = {0};
    int32_t asked = chunk_size_ask(&size, ROOM, BYTES);

    (void)state;
    while (asked > 1) {
        chunk_size_failed(&size);
        assert_int_equal(chunk_size_ask(&size, ROOM, BYTES), asked / 2);
        asked /= 2;
    }
    chunk_size_failed(&size);
    assert_int_equal(chunk_size_ask(&size, ROOM, BYTES), 1);
    read_rows(&size, 100);
    assert_int_equal(chunk_size_ask(&size, ROOM, BYTES), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PARTS_TEST(test_large_rows_are_looked_at_about_once),
        PARTS_TEST(test_rows_beyond_the_bytes),
        PARTS_TEST(test_small_rows_soon_fill_the_room),
        PARTS_TEST(test_the_end_of_a_backlog),
        PARTS_TEST(test_a_failure_asks_for_less),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
