/* buffer and arena. */
#include "runtime_test.h"

#include "outbox/runtime/arena.h"
#include "outbox/runtime/buffer.h"
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

/* --- buffer --------------------------------------------------------------------------------- */

static void buffer_grows_and_is_taken(void **state)
{
    struct buffer buffer;
    char expected[16];
    int written = 0, taken = 0;

    (void)state;
    buffer_init(&buffer, 0);
    assert_string_equal(buffer_text(&buffer), "");
    assert_int_equal(buffer_length(&buffer), 0);
    assert_non_null(buffer_data(&buffer));
    while (taken < 5000) {
        int i;
        for (i = 0; i < 3 && written < 5000; i++)
            buffer_append_format(&buffer, "%06d", written++);
        snprintf(expected, sizeof(expected), "%06d", taken++);
        assert_memory_equal(buffer_data(&buffer), expected, 6);
        buffer_take(&buffer, 6);
    }
    assert_int_equal(buffer_length(&buffer), 0);
    assert_false(buffer.failed);
    buffer_free(&buffer);
    assert_null(buffer.bytes);
}

/* It moved nothing from NULL to NULL once, and took that for a failure. */
static void buffer_reserves_nothing(void **state)
{
    struct buffer buffer;

    (void)state;
    buffer_init(&buffer, 0);
    buffer_append(&buffer, "", 0);
    assert_non_null(buffer_reserve(&buffer, 0));
    assert_false(buffer.failed);
    assert_string_equal(buffer_text(&buffer), "");
    buffer_free(&buffer);
}

/* A queue that never holds much must not grow with what passes through it. */
static void buffer_reuses_its_front(void **state)
{
    struct buffer buffer;
    int i;

    (void)state;
    buffer_init(&buffer, 0);
    buffer_append(&buffer, "0123456789", 10);
    for (i = 0; i < 10000; i++) {
        buffer_append(&buffer, "0123456789", 10);
        buffer_take(&buffer, 10);
        assert_memory_equal(buffer_data(&buffer), "0123456789", 10);
    }
    assert_true(buffer.capacity <= 256);
    buffer_free(&buffer);
}

static void buffer_stops_at_its_limit(void **state)
{
    struct buffer buffer;

    (void)state;
    buffer_init(&buffer, 10);
    buffer_append_text(&buffer, "12345678");
    assert_false(buffer.failed);
    assert_null(buffer_reserve(&buffer, 3));
    assert_true(buffer.failed);
    buffer_append_text(&buffer, "9"); /* the failure sticks */
    buffer_append_format(&buffer, "9");
    assert_string_equal(buffer_text(&buffer), "12345678");
    buffer_clear(&buffer);
    assert_false(buffer.failed);
    buffer_append_format(&buffer, "%s", "1234567890");
    assert_false(buffer.failed);
    assert_string_equal(buffer_text(&buffer), "1234567890");
    buffer_take(&buffer, 4);
    buffer_append_format(&buffer, "%s", "abcd"); /* what was taken counts no more */
    assert_string_equal(buffer_text(&buffer), "567890abcd");
    assert_true(buffer.capacity <= 10);
    buffer_append_format(&buffer, "%d", 1);
    assert_true(buffer.failed);
    buffer_clear(&buffer);
    assert_null(buffer_reserve(&buffer, 11));
    buffer_free(&buffer);
}

static void buffer_reserves_and_fills(void **state)
{
    struct buffer buffer;
    uint8_t *room;

    (void)state;
    buffer_init(&buffer, 0);
    assert_non_null(buffer_reserve(&buffer, 0)); /* even without any bytes yet */
    room = buffer_reserve(&buffer, 1000);
    assert_non_null(room);
    memset(room, 'x', 1000);
    buffer_filled(&buffer, 999);
    assert_int_equal(buffer_length(&buffer), 999);
    assert_int_equal(strlen(buffer_text(&buffer)), 999);
    buffer_append(&buffer, NULL, 0);
    assert_int_equal(buffer_length(&buffer), 999);
    assert_null(buffer_reserve(&buffer, SIZE_MAX));
    buffer_free(&buffer);
}

static void buffer_without_memory_fails(void **state)
{
    struct buffer buffer;

    (void)state;
    buffer_init(&buffer, 0);
    fault_arm("alloc", 1, ENOMEM);
    buffer_append_text(&buffer, "x");
    assert_true(fault_disarm());
    assert_true(buffer.failed);
    assert_string_equal(buffer_text(&buffer), "");
    buffer_clear(&buffer);
    buffer_append_text(&buffer, "x");
    assert_string_equal(buffer_text(&buffer), "x");
    buffer_append_format(&buffer, "%ls", (const wchar_t[]){0xd800, 0}); /* cannot be printed */
    assert_true(buffer.failed);
    buffer_free(&buffer);
}

/* --- arena ---------------------------------------------------------------------------------- */

static void arena_gives_zeroed_aligned_memory(void **state)
{
    struct arena *arena;
    size_t bytes;

    (void)state;
    must(arena_create(&arena, 1000, 1 << 20, &error));
    for (bytes = 0; bytes < 300; bytes++) {
        char *memory = arena_alloc(arena, bytes);
        size_t i;
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % alignof(max_align_t), 0);
        for (i = 0; i < bytes; i++)
            assert_int_equal(memory[i], 0);
        memset(memory, 0xff, bytes);
    }
    assert_true(arena_used_bytes(arena) >= 300 * 299 / 2);
    arena_reset(arena);
    assert_int_equal(arena_used_bytes(arena), 0);
    assert_int_equal(*(char *)arena_alloc(arena, 1), 0); /* what was there before is gone */
    arena_destroy(arena);
    arena_destroy(NULL);
}

static void arena_allocates_nothing_for_a_steady_batch(void **state)
{
    struct arena *arena;
    int batch, i;

    (void)state;
    must(arena_create(&arena, 256, 1 << 20, &error));
    for (batch = 0; batch < 5; batch++) {
        if (batch == 1)
            fault_arm("alloc", 1, ENOMEM);
        for (i = 0; i < 100; i++)
            assert_non_null(arena_alloc(arena, (size_t)(i % 7) * 100));
        arena_reset(arena);
    }
    assert_false(fault_disarm());
    arena_destroy(arena);
}

static void arena_stops_at_its_limit(void **state)
{
    struct arena *arena;
    int round;

    (void)state;
    must(arena_create(&arena, 64, 1024, &error));
    for (round = 0; round < 3; round++) {
        size_t used = 0;
        while (arena_alloc(arena, 16))
            used += 16;
        assert_int_equal(used, 1024);
        assert_int_equal(arena_used_bytes(arena), 1024);
        arena_reset(arena);
        /* Small blocks are given up for a large one, the first of them included. */
        assert_non_null(arena_alloc(arena, 1024));
        assert_null(arena_alloc(arena, 1));
        arena_reset(arena);
    }
    assert_null(arena_alloc(arena, 1025));
    assert_null(arena_alloc(arena, SIZE_MAX));
    assert_non_null(arena_alloc(arena, 1000));
    arena_destroy(arena);
}

/* The last piece below the limit is smaller than a block. */
static void arena_uses_the_rest_of_its_limit(void **state)
{
    struct arena *arena;

    (void)state;
    must(arena_create(&arena, 100, 150, &error));
    assert_non_null(arena_alloc(arena, 100));
    assert_non_null(arena_alloc(arena, 32));
    assert_null(arena_alloc(arena, 16));
    arena_destroy(arena);
}

static void arena_copies_text(void **state)
{
    struct arena *arena;
    char *text;

    (void)state;
    must(arena_create(&arena, 64, 256, &error));
    text = arena_strndup(arena, "abcdef", 3);
    assert_string_equal(text, "abc");
    assert_string_equal(arena_strndup(arena, NULL, 0), "");
    assert_string_equal(arena_format(arena, "%s-%d", text, 7), "abc-7");
    assert_null(arena_format(arena, "%1000d", 7));
    assert_null(arena_format(arena, "%ls", (const wchar_t[]){0xd800, 0}));
    assert_null(arena_strndup(arena, "x", SIZE_MAX));
    assert_null(arena_strndup(arena, "x", 1000));
    arena_destroy(arena);
}

static int arena_scenario(struct error *error)
{
    struct arena *arena;
    int result = arena_create(&arena, 64, 256, error);

    if (!result) {
        if (!arena_alloc(arena, 10))
            result = error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "alloc");
        arena_destroy(arena);
    }
    return result;
}

static void arena_without_memory_fails(void **state)
{
    (void)state;
    assert_int_equal(each_allocation_fails(arena_scenario), 2);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_grows_and_is_taken),
        cmocka_unit_test(buffer_reserves_nothing),
        cmocka_unit_test(buffer_reuses_its_front),
        cmocka_unit_test(buffer_stops_at_its_limit),
        cmocka_unit_test(buffer_reserves_and_fills),
        cmocka_unit_test(buffer_without_memory_fails),
        cmocka_unit_test(arena_gives_zeroed_aligned_memory),
        cmocka_unit_test(arena_allocates_nothing_for_a_steady_batch),
        cmocka_unit_test(arena_stops_at_its_limit),
        cmocka_unit_test(arena_uses_the_rest_of_its_limit),
        cmocka_unit_test(arena_copies_text),
        cmocka_unit_test(arena_without_memory_fails),
    };

    return cmocka_run_group_tests_name("runtime memory", tests, NULL, NULL);
}
