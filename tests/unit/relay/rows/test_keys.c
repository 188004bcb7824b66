#include "outbox/relay/rows/keys.h"
#include "tests/unit/relay/relay_test.h"

#include <string.h>

/* The hash is part of the database's contents: these values must never change. */
static void test_the_hash_stays(void **state)
{
    static const struct {
        const char *key;
        uint64_t hash;
    } known[] = {
        {"", 0xefd01f60ba992926},
        {"a", 0x82a2a958a9bece5b},
        {"order-17", 0x4d9a939af1bb2f9f},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(known); i++)
        assert_int_equal(key_hash(known[i].key, strlen(known[i].key)), known[i].hash);
}

/* Against a plain array, with hashes that collide in their low bits and wrap around the table's
 * end. */
static void test_against_a_plain_array(void **state)
{
    enum { HASHES = 40, STEPS = 200000 };
    uint64_t values[HASHES] = {0};
    uint32_t count = 0;
    struct keys *keys;
    struct chance chance = chance_of(5);

    (void)state;
    assert_int_equal(keys_create(&keys, 32, NULL), 0);
    for (int step = 0; step < STEPS; step++) {
        uint32_t which = chance_below(&chance, HASHES);
        uint64_t hash = (uint64_t)(which % 3 == 0 ? 63 : which % 7) + 64 * (which + 1);
        struct key_state *found = keys_find(keys, hash);

        assert_int_equal(found ? found->held : 0, values[which]);
        if (!values[which] && count < 32) {
            found = keys_get(keys, hash);
            assert_non_null(found);
            assert_int_equal(found->held, 0);
            found->held = values[which] = (uint64_t)step + 1;
            count++;
        } else if (values[which]) {
            keys_drop(keys, hash);
            values[which] = 0;
            count--;
        } else {
            assert_null(keys_get(keys, hash)); /* full */
        }
        assert_int_equal(keys_count(keys), count);
    }
    keys_clear(keys);
    assert_int_equal(keys_count(keys), 0);
    assert_null(keys_find(keys, 64));
    keys_destroy(keys);
}

static void test_a_held_key_is_free_with_its_last_row(void **state)
{
    struct keys *held;

    (void)state;
    assert_int_equal(keys_create(&held, 4, NULL), 0);
    keys_get(held, 9)->held = 2;
    keys_release(held, 9);
    assert_non_null(keys_find(held, 9));
    keys_release(held, 9);
    assert_null(keys_find(held, 9));
    keys_release(held, 9); /* it is not held: nothing */
    keys_destroy(held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_hash_stays),
        cmocka_unit_test(test_against_a_plain_array),
        cmocka_unit_test(test_a_held_key_is_free_with_its_last_row),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
