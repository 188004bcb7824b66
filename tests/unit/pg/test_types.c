/* Values of every type, through a session, to a real PostgreSQL and back (SAGAPOST_TEST_POSTGRES).
 */
#include "tests/unit/pg/pg_test.h"

static void every_type_there_and_back(void **state)
{
    struct fixture *fixture = *state;
    static const struct pg_statement types = {
        "test_types",
        "select $1::bool, $2::int4, $3::int8, $4::float8, $5::timestamptz, $6::uuid, $7::text,"
        " $8::json, $9::jsonb, $10::bytea, $11::pg_snapshot::text, $12::text is null,"
        " 7::int2, 4000000000::oid, 1.5::float4, 'x'::name, 'infinity'::timestamptz,"
        " $13::text[] is null, ''::text, null::int8, $14::text"};
    struct uuid id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255}};
    struct pg_params params;
    pg_params_init(&params);
    pg_params_bool(&params, true);
    pg_params_int4(&params, -5);
    pg_params_int8(&params, INT64_MIN + 1);
    pg_params_float8(&params, -0.25);
    pg_params_time_us(&params, INT64_C(1767225600123456));
    pg_params_uuid(&params, &id);
    pg_params_text(&params, "na\xc3\xafve");
    pg_params_bytes(&params, PG_TYPE_JSON, "{\"a\":  1}", 9);
    pg_params_bytes(&params, PG_TYPE_JSONB, "{\"n\": 19.90}", 12);
    pg_params_bytes(&params, PG_TYPE_BYTEA, "\0\xff\\x", 4);
    pg_params_untyped(&params, "10:20:10,14");
    pg_params_text(&params, NULL);
    pg_params_null_array(&params, PG_TYPE_TEXT);
    pg_params_text(&params, "");
    int number = ask(fixture, &types, &params);
    int last = ask_sync(fixture);
    pg_params_free(&params);
    turn_until(fixture, fixture->answered > last);
    struct pg_result *r = fixture->answers[number].result;
    if (r == NULL)
        fail_msg("%s", fixture->answers[number].failure.message);
    size_t bytes;
    assert_int_equal(pg_result_rows(r), 1);
    assert_string_equal(pg_result_column_name(r, 0), "bool");
    assert_true(pg_bool(r, 0, 0));
    assert_int_equal(pg_int(r, 0, 1), -5);
    assert_true(pg_int(r, 0, 2) == INT64_MIN + 1);
    assert_true(pg_float(r, 0, 3) == -0.25);
    assert_true(pg_time_us(r, 0, 4) == INT64_C(1767225600123456));
    struct uuid back = pg_uuid(r, 0, 5);
    assert_memory_equal(&back, &id, sizeof(id));
    assert_string_equal(pg_text(r, 0, 6), "na\xc3\xafve");
    assert_string_equal(pg_text(r, 0, 7), "{\"a\":  1}");
    assert_string_equal(pg_text(r, 0, 8), "{\"n\": 19.90}");
    assert_memory_equal(pg_bytes(r, 0, 9, &bytes), "\0\xff\\x", 4);
    assert_int_equal(bytes, 4);
    assert_string_equal(pg_text(r, 0, 10), "10:20:10,14");
    assert_true(pg_bool(r, 0, 11));
    assert_int_equal(pg_int(r, 0, 12), 7);
    assert_true(pg_int(r, 0, 13) == 4000000000);
    assert_true(pg_float(r, 0, 14) == 1.5);
    assert_string_equal(pg_text(r, 0, 15), "x");
    assert_true(pg_time_us(r, 0, 16) == INT64_MAX);
    assert_true(pg_bool(r, 0, 17));
    assert_string_equal(pg_text(r, 0, 18), "");
    assert_true(pg_is_null(r, 0, 19));
    assert_int_equal(pg_int(r, 0, 19), 0);
    assert_string_equal(pg_text(r, 0, 20), "");
}

static void arrays_arrive(void **state)
{
    struct fixture *fixture = *state;
    static const struct pg_statement arrays = {
        "test_arrays",
        "select $1::bool[]::text, $2::int4[]::text, $3::int8[]::text, $4::timestamptz[]::text,"
        " $5::uuid[]::text, $6::text[]::text, $7::jsonb[]::text, $8::bytea[]::text,"
        " $9::json[]::text, cardinality($10::text[])"};
    struct uuid id = {{0xab}};
    struct pg_params params;
    pg_params_init(&params);
    pg_params_array_begin(&params, PG_TYPE_BOOL);
    pg_params_item_bool(&params, true);
    pg_params_item_null(&params);
    pg_params_item_bool(&params, false);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TYPE_INT4);
    pg_params_item_int4(&params, -1);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TYPE_INT8);
    pg_params_item_int8(&params, INT64_MAX);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TYPE_TIMESTAMPTZ);
    pg_params_item_time_us(&params, 0);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TYPE_UUID);
    pg_params_item_uuid(&params, &id);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TYPE_TEXT);
    pg_params_item_text(&params, "a,\"b");
    pg_params_item_text(&params, NULL);
    pg_params_item_text(&params, "");
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TYPE_JSONB);
    pg_params_item_bytes(&params, "[1.10]", 6);
    pg_params_item_text(&params, "{}");
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TYPE_BYTEA);
    pg_params_item_bytes(&params, "\0\1", 2);
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TYPE_JSON);
    pg_params_item_text(&params, "{\"a\":1,\"a\":2}");
    pg_params_array_end(&params);
    pg_params_array_begin(&params, PG_TYPE_TEXT);
    pg_params_array_end(&params);
    int zone = ask_text(fixture, "set timezone = 'UTC'");
    int number = ask(fixture, &arrays, &params);
    int last = ask_sync(fixture);
    pg_params_free(&params);
    turn_until(fixture, fixture->answered > last);
    assert_int_equal(fixture->answers[zone].failure.code, 0);
    struct pg_result *r = fixture->answers[number].result;
    if (r == NULL)
        fail_msg("%s", fixture->answers[number].failure.message);
    assert_string_equal(pg_text(r, 0, 0), "{t,NULL,f}");
    assert_string_equal(pg_text(r, 0, 1), "{-1}");
    assert_string_equal(pg_text(r, 0, 2), "{9223372036854775807}");
    assert_string_equal(pg_text(r, 0, 3), "{\"1970-01-01 00:00:00+00\"}");
    assert_string_equal(pg_text(r, 0, 4), "{ab000000-0000-0000-0000-000000000000}");
    assert_string_equal(pg_text(r, 0, 5), "{\"a,\\\"b\",NULL,\"\"}");
    assert_string_equal(pg_text(r, 0, 6), "{[1.10],\"{}\"}");
    assert_string_equal(pg_text(r, 0, 7), "{\"\\\\x0001\"}");
    assert_string_equal(pg_text(r, 0, 8), "{\"{\\\"a\\\":1,\\\"a\\\":2}\"}");
    assert_int_equal(pg_int(r, 0, 9), 0);
}

static void affected_rows_are_counted(void **state)
{
    struct fixture *fixture = *state;
    ask_and_wait(fixture, "create temp table counted (x int)");
    struct answer *answer =
        ask_and_wait(fixture, "insert into pg_temp.counted select generate_series(1, 17)");
    assert_int_equal(pg_result_affected(answer->result), 17);
    answer = ask_and_wait(fixture, "set jit = off");
    assert_int_equal(pg_result_affected(answer->result), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_type_there_and_back, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(arrays_arrive, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(affected_rows_are_counted, fixture_setup, fixture_teardown),
    };
    if (test_conninfo() == NULL)
        return TEST_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
