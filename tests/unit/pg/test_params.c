/* Parameters, byte by byte, as PostgreSQL's *recv functions want them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "outbox/pg/params.h"
#include "outbox/pg/wire.h"

#include <stdlib.h>
#include <string.h>

static struct pg_params params;
static const char *values[PG_PARAMS_MAX];

static int setup(void **state)
{
    (void)state;
    pg_params_init(&params);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pg_params_free(&params);
    return 0;
}

static void check(int index, unsigned type, const void *bytes, int length)
{
    struct error error;
    assert_int_equal(pg_params_values(&params, values, &error), 0);
    assert_true(index < params.count);
    assert_int_equal(params.types[index], type);
    assert_int_equal(params.formats[index], 1);
    assert_int_equal(params.lengths[index], length);
    if (length < 0)
        assert_null(values[index]);
    else
        assert_memory_equal(values[index], bytes, (size_t)length);
}

static void scalars(void **state)
{
    (void)state;
    struct uuid id = {{0xde, 0xad}};
    pg_params_bool(&params, true);
    pg_params_int4(&params, -2);
    pg_params_int8(&params, INT64_C(0x0102030405060708));
    pg_params_float8(&params, 1.0);
    pg_params_time_us(&params, INT64_C(946684800000001)); /* a microsecond after 2000 */
    pg_params_uuid(&params, &id);
    pg_params_text(&params, "ab");
    pg_params_bytes(&params, PG_TYPE_JSONB, "{}", 2);
    pg_params_bytes(&params, PG_TYPE_BYTEA, "\0\1", 2);
    pg_params_null(&params, PG_TYPE_INT8);
    pg_params_text(&params, NULL);
    pg_params_null_array(&params, PG_TYPE_INT4);
    check(0, PG_TYPE_BOOL, "\1", 1);
    check(1, PG_TYPE_INT4, "\xff\xff\xff\xfe", 4);
    check(2, PG_TYPE_INT8, "\1\2\3\4\5\6\7\10", 8);
    check(3, PG_TYPE_FLOAT8, "\x3f\xf0\0\0\0\0\0\0", 8);
    check(4, PG_TYPE_TIMESTAMPTZ, "\0\0\0\0\0\0\0\1", 8);
    check(5, PG_TYPE_UUID, id.bytes, 16);
    check(6, PG_TYPE_TEXT, "ab", 2);
    check(7, PG_TYPE_JSONB, "\1{}", 3);
    check(8, PG_TYPE_BYTEA, "\0\1", 2);
    check(9, PG_TYPE_INT8, NULL, -1);
    check(10, PG_TYPE_TEXT, NULL, -1);
    check(11, 1007, NULL, -1);
}

/* libpq takes a NULL pointer for SQL NULL, so an empty value needs another one. */
static void an_empty_value_is_not_null(void **state)
{
    (void)state;
    pg_params_text(&params, "");
    check(0, PG_TYPE_TEXT, "", 0);
    assert_non_null(values[0]);
}

static void untyped_is_text_with_its_nul(void **state)
{
    (void)state;
    pg_params_untyped(&params, "10:20:");
    pg_params_untyped(&params, NULL);
    assert_int_equal(pg_params_values(&params, values, NULL), 0);
    assert_int_equal(params.types[0], 0);
    assert_int_equal(params.formats[0], 0);
    assert_string_equal(values[0], "10:20:");
    assert_null(values[1]);
}

static void an_array(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        0, 0, 0, 1,  /* one dimension */
        0, 0, 0, 1,  /* with a NULL */
        0, 0, 0, 25, /* text */
        0, 0, 0, 3,  /* three items */
        0, 0, 0, 1,  /* from 1 */
        0, 0, 0, 1,  'x', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
    };
    pg_params_array_begin(&params, PG_TYPE_TEXT);
    pg_params_item_text(&params, "x");
    pg_params_item_text(&params, NULL);
    pg_params_item_text(&params, "");
    pg_params_array_end(&params);
    pg_params_int4(&params, 1);
    check(0, 1009, expected, sizeof(expected));
    check(1, PG_TYPE_INT4, "\0\0\0\1", 4);
}

static void an_empty_array(void **state)
{
    (void)state;
    static const uint8_t expected[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b, 0x86};
    pg_params_array_begin(&params, PG_TYPE_UUID);
    pg_params_array_end(&params);
    pg_params_int4(&params, 7);
    check(0, 2951, expected, sizeof(expected));
    check(1, PG_TYPE_INT4, "\0\0\0\7", 4);
}

static void jsonb_items_have_their_version(void **state)
{
    (void)state;
    pg_params_array_begin(&params, PG_TYPE_JSONB);
    pg_params_item_bytes(&params, "[1]", 3);
    pg_params_array_end(&params);
    assert_int_equal(pg_params_values(&params, values, NULL), 0);
    assert_memory_equal(values[0] + 20, "\0\0\0\4\1[1]", 8);
}

static void values_survive_growth_and_reset(void **state)
{
    (void)state;
    char *big = calloc(1, 1 << 20);
    memset(big, 'y', 1 << 20);
    for (int round = 0; round < 3; round++) {
        pg_params_reset(&params);
        pg_params_int8(&params, round);
        pg_params_bytes(&params, PG_TYPE_BYTEA, big, 1 << 20);
        check(0, PG_TYPE_INT8, (const char[]){0, 0, 0, 0, 0, 0, 0, (char)round}, 8);
        check(1, PG_TYPE_BYTEA, big, 1 << 20);
    }
    free(big);
}

static void the_limit_sticks_until_reset(void **state)
{
    (void)state;
    struct error error;
    size_t bytes = (size_t)33 << 20;
    char *big = calloc(1, bytes);
    pg_params_array_begin(&params, PG_TYPE_BYTEA);
    pg_params_item_bytes(&params, big, bytes);
    pg_params_item_bytes(&params, big, bytes);
    pg_params_array_end(&params);
    pg_params_int4(&params, 1); /* still harmless */
    assert_int_equal(pg_params_values(&params, values, &error), ERROR_LIMIT);
    assert_int_equal(error.retry, RETRY_POISON);
    pg_params_reset(&params);
    pg_params_int4(&params, 1);
    check(0, PG_TYPE_INT4, "\0\0\0\1", 4);
    free(big);
}

static void times_at_the_edges(void **state)
{
    (void)state;
    assert_true(wire_time_from_unix(INT64_MAX) == INT64_MAX); /* infinity */
    assert_true(wire_time_from_unix(INT64_MIN) == INT64_MIN);
    assert_true(wire_time_to_unix(INT64_MAX) == INT64_MAX);
    assert_true(wire_time_to_unix(INT64_MIN) == INT64_MIN);
    assert_true(wire_time_to_unix(INT64_C(9223371331199999999)) == INT64_MAX); /* 294276 AD */
    assert_true(wire_time_from_unix(0) == -WIRE_EPOCH_US);
    assert_true(wire_time_to_unix(-WIRE_EPOCH_US) == 0);
    assert_true(wire_time_from_unix(INT64_MIN + 5) == INT64_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(scalars, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_value_is_not_null, setup, teardown),
        cmocka_unit_test_setup_teardown(untyped_is_text_with_its_nul, setup, teardown),
        cmocka_unit_test_setup_teardown(an_array, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_array, setup, teardown),
        cmocka_unit_test_setup_teardown(jsonb_items_have_their_version, setup, teardown),
        cmocka_unit_test_setup_teardown(values_survive_growth_and_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(the_limit_sticks_until_reset, setup, teardown),
        cmocka_unit_test(times_at_the_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
