/* json_scan: what is taken, what is refused and why, limits, and reading what was checked. */
#include "json_cases.h"
#include "runtime_test.h"

#include "outbox/runtime/buffer.h"
#include "outbox/runtime/json_scan.h"
#include <stdio.h>
#include <stdlib.h>

static const struct json_limits limits = {.bytes_max = 1 << 20, .depth_max = 32};

/* On the heap and without a NUL, so that AddressSanitizer sees a byte too far. */
static int check(const char *text, size_t bytes, const struct json_limits *with,
                 struct json_span *ret_root, struct error *error)
{
    char *copy = malloc(bytes ? bytes : 1);
    struct json_span root = {0};
    int result;

    memcpy(copy, text, bytes);
    result = json_check(copy, bytes, with, &root, error);
    if (ret_root)
        *ret_root = (struct json_span){text + (root.text - copy), root.bytes, root.kind};
    free(copy);
    return result;
}

static void good_documents(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(json_good); i++) {
        struct error error = {0};
        if (check(json_good[i], strlen(json_good[i]), &limits, NULL, &error))
            fail_msg("%s: %s", json_good[i], error.message);
    }
}

static void bad_documents(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(json_bad); i++) {
        struct error error = {0};
        int result = check(json_bad[i].text, json_bad[i].bytes, &limits, NULL, &error);
        if (result != ERROR_PROTOCOL && result != ERROR_LIMIT)
            fail_msg("taken: %s", json_bad[i].text);
        assert_int_equal(error.code, result);
        assert_int_equal(error.retry, RETRY_POISON);
        if (!strstr(error.message, json_bad[i].reason))
            fail_msg("%s: '%s' is not '%s'", json_bad[i].text, error.message, json_bad[i].reason);
        assert_int_equal(check(json_bad[i].text, json_bad[i].bytes, &limits, NULL, NULL), result);
    }
}

/* Cut anywhere, a document of one bracket is none. */
static void cut_documents(void **state)
{
    static const char text[] =
        "{\"a\":[1.5e3,\"\\ud83d\\ude00\xc3\xbc\",null,{\"b\":true}],\"c\":-7}";
    size_t bytes;

    (void)state;
    must(check(text, sizeof(text) - 1, &limits, NULL, &error));
    for (bytes = 0; bytes < sizeof(text) - 1; bytes++)
        must_fail(check(text, bytes, &limits, NULL, &error), ERROR_PROTOCOL, RETRY_POISON, "JSON");
}

static void roots(void **state)
{
    static const struct {
        const char *text, *root;
        enum json_kind kind;
    } cases[] = {
        {" null ", "null", JSON_NULL},
        {"\ttrue", "true", JSON_TRUE},
        {"false\n", "false", JSON_FALSE},
        {" -1.5e3 ", "-1.5e3", JSON_NUMBER},
        {" \"a\\\"\" ", "\"a\\\"\"", JSON_STRING},
        {" [ 1 ] ", "[ 1 ]", JSON_ARRAY},
        {" { } ", "{ }", JSON_OBJECT},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(cases); i++) {
        struct json_span root;
        must(check(cases[i].text, strlen(cases[i].text), &limits, &root, &error));
        assert_int_equal(root.kind, cases[i].kind);
        assert_int_equal(root.bytes, strlen(cases[i].root));
        assert_memory_equal(root.text, cases[i].root, root.bytes);
    }
    must(json_check("1", 1, &limits, NULL, &error));
}

/* --- limits --------------------------------------------------------------------------------- */

static void limit_of_bytes(void **state)
{
    const struct json_limits small = {.bytes_max = 5, .depth_max = 1};

    (void)state;
    must(check("\"abc\"", 5, &small, NULL, &error));
    must_fail(check("\"abcd\"", 6, &small, NULL, &error), ERROR_LIMIT, RETRY_POISON,
              "JSON of 6 bytes exceeds the limit of 5");
}

static void limit_of_depth(void **state)
{
    struct json_limits deep = {.bytes_max = 1 << 20, .depth_max = 3};
    char text[2 * JSON_DEPTH_MAX + 2];

    (void)state;
    must(check("[{\"a\":[1]}]", 11, &deep, NULL, &error));
    must_fail(check("[{\"a\":[[]]}]", 12, &deep, NULL, &error), ERROR_LIMIT, RETRY_POISON,
              "byte 7: nested deeper than the limit");
    must_fail(check("[{\"a\":[{}]}]", 12, &deep, NULL, &error), ERROR_LIMIT, RETRY_POISON,
              "deeper");
    must(check("[[[]],[[]],[[]]]", 16, &deep, NULL, &error));
    deep.depth_max = JSON_DEPTH_MAX;
    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    must(check(text, (size_t)2 * JSON_DEPTH_MAX, &deep, NULL, &error));
    memset(text, '[', JSON_DEPTH_MAX + 1);
    must_fail(check(text, sizeof(text), &deep, NULL, &error), ERROR_LIMIT, RETRY_POISON, "deeper");
}

static void limit_of_digits(void **state)
{
    const struct json_limits wide = {.bytes_max = 1 << 20, .depth_max = 1};
    char *text = malloc(200000);

    (void)state;
    memset(text, '9', 200000);
    must(check(text, 131072, &wide, NULL, &error));
    must_fail(check(text, 131073, &wide, NULL, &error), ERROR_LIMIT, RETRY_POISON, "more digits");
    memcpy(text, "0.", 2);
    must(check(text, 2 + 16383, &wide, NULL, &error));
    must_fail(check(text, 2 + 16384, &wide, NULL, &error), ERROR_LIMIT, RETRY_POISON,
              "more digits");
    free(text);
    must(check("1e131071", 8, &wide, NULL, &error));
    must(check("0.1e131072", 10, &wide, NULL, &error));
    must(check("1000.000e-16380", 15, &wide, NULL, &error));
    must_fail(check("1000.000e-16381", 15, &wide, NULL, &error), ERROR_LIMIT, RETRY_POISON,
              "more digits");
    must(check("1e000000000000000000000000000007", 32, &wide, NULL, &error));
}

/* Eight bytes that PostgreSQL writes out as thousands. */
static void limit_of_bytes_written_out(void **state)
{
    const struct json_limits small = {.bytes_max = 10000, .depth_max = 2};
    struct buffer text;
    int i;

    (void)state;
    must(check("1e9000", 6, &small, NULL, &error));
    must(check("[1e4000,1e4000]", 15, &small, NULL, &error));
    must_fail(check("[1e6000,1e6000]", 15, &small, NULL, &error), ERROR_LIMIT, RETRY_POISON,
              "byte 8: with its numbers written out the document exceeds the limit of bytes");
    must_fail(check("[1e-6000,1e-6000]", 17, &small, NULL, &error), ERROR_LIMIT, RETRY_POISON,
              "written out");
    must(check("[1.5e3,2.5e-3]", 14, &small, NULL, &error));
    buffer_init(&text, 0);
    buffer_append_text(&text, "[0");
    for (i = 0; i < 1000; i++)
        buffer_append_text(&text, ",1e131071");
    buffer_append_text(&text, "]");
    must_fail(check(buffer_text(&text), buffer_length(&text), &limits, NULL, &error), ERROR_LIMIT,
              RETRY_POISON, "written out");
    buffer_free(&text);
}

/* --- many names ----------------------------------------------------------------------------- */

static void write_object(struct buffer *out, int members)
{
    int i;

    buffer_append_text(out, "{");
    for (i = 0; i < members; i++)
        buffer_append_format(out, "%s\"n%d\":{\"n%d\":0}", i ? "," : "", i * 7 % members, i);
    buffer_append_text(out, "}");
}

static void many_names(void **state)
{
    static const int counts[] = {2, 60, 64, 65, 1000, 20011};
    const struct json_limits large = {.bytes_max = 1 << 20, .depth_max = 3};
    struct buffer text;
    unsigned i;

    (void)state;
    buffer_init(&text, 0);
    for (i = 0; i < COUNT_OF(counts); i++) {
        buffer_clear(&text);
        write_object(&text, counts[i]);
        must(check(buffer_text(&text), buffer_length(&text), &large, NULL, &error));
        /* The first name again, in place of the bracket that closes. */
        text.end--;
        buffer_append_text(&text, ",\"n0\":0}");
        must_fail(check(buffer_text(&text), buffer_length(&text), &large, NULL, &error),
                  ERROR_PROTOCOL, RETRY_POISON, "given twice");
    }
    buffer_free(&text);
}

static int names_scenario(struct error *error)
{
    static const struct json_limits large = {.bytes_max = 1 << 20, .depth_max = 3};
    static struct buffer text;

    if (!text.end)
        write_object(&text, 200);
    return json_check((const char *)buffer_data(&text), buffer_length(&text), &large, NULL, error);
}

static void many_names_without_memory(void **state)
{
    (void)state;
    must(names_scenario(&error)); /* the text itself is made with memory */
    assert_int_equal(each_allocation_fails(names_scenario), 2); /* 128, 256 names */
}

/* --- reading -------------------------------------------------------------------------------- */

static struct json_span root_of(const char *text)
{
    struct json_span root = {0};

    must(json_check(text, strlen(text), &limits, &root, &error));
    return root;
}

static void assert_member(const char *text, const char *name, const char *expected)
{
    struct json_span root = root_of(text), value;

    if (!expected) {
        assert_false(json_member(&root, name, &value));
        return;
    }
    assert_true(json_member(&root, name, &value));
    assert_int_equal(value.bytes, strlen(expected));
    assert_memory_equal(value.text, expected, value.bytes);
    assert_int_equal(value.kind, root_of(expected).kind);
}

/* What json_next finds, as "name=value;". */
static void assert_each(const char *text, const char *expected)
{
    struct json_span root = root_of(text), name = {"", 0, JSON_NULL}, value;
    const char *cursor = NULL;
    char found[256] = "";

    while (json_next(&root, &cursor, &name, &value))
        snprintf(found + strlen(found), sizeof found - strlen(found), "%.*s=%.*s;", (int)name.bytes,
                 name.text, (int)value.bytes, value.text);
    assert_string_equal(found, expected);
}

static void each_in_its_order(void **state)
{
    (void)state;
    assert_each("{}", "");
    assert_each(" [ ] ", "");
    assert_each("[1, \"]\" ,[2,3],{\"a\":[]}, null]", "=1;=\"]\";=[2,3];={\"a\":[]};=null;");
    assert_each("{ \"a\\\"\" : {\"b\":1} , \"c\":\"}\"}", "\"a\\\"\"={\"b\":1};\"c\"=\"}\";");
}

static void members(void **state)
{
    static const char text[] =
        " { \"a\" : 1 , \"b\":\"x\\\"}\" ,\"c\":[ 1,{\"z\":2}, \"]\" ] , \"d\" : { \"a\" : 9, "
        "\"q\":\"{\" } ,"
        "\"e\\u00e9\\n\":null,\"\\ud83d\\ude00\":true,\"\":false,\"n\":-1.5e3}";

    (void)state;
    assert_member(text, "a", "1");
    assert_member(text, "b", "\"x\\\"}\"");
    assert_member(text, "c", "[ 1,{\"z\":2}, \"]\" ]");
    assert_member(text, "d", "{ \"a\" : 9, \"q\":\"{\" }");
    assert_member(text, "e\xc3\xa9\n", "null");
    assert_member(text, "\xf0\x9f\x98\x80", "true");
    assert_member(text, "", "false");
    assert_member(text, "n", "-1.5e3");
    assert_member(text, "z", NULL);
    assert_member(text, "q", NULL);
    assert_member(text, "e", NULL);
    assert_member(text, "aa", NULL);
    assert_member("{}", "a", NULL);
    assert_member("{ }", "a", NULL);
    assert_member("{\"a\":\"\"}", "a", "\"\"");
    assert_member("{\"a\":1 }", "a", "1");
}

static void strings(void **state)
{
    static const struct {
        const char *text, *value;
    } cases[] = {
        {"\"\"", ""},
        {"\"plain\"", "plain"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"", "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\"gr\xc3\xbc\xc3\x9f\"", "gr\xc3\xbc\xc3\x9f"},
    };
    struct json_span string;
    char out[32];
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(cases); i++) {
        size_t bytes = strlen(cases[i].value);
        string = root_of(cases[i].text);
        must(json_string_copy(&string, out, sizeof(out), &error));
        assert_string_equal(out, cases[i].value);
        must(json_string_copy(&string, out, bytes + 1, &error)); /* fits exactly */
        if (bytes) {
            must_fail(json_string_copy(&string, out, bytes, &error), ERROR_LIMIT, RETRY_POISON,
                      "a string is longer than");
            assert_string_equal(out, "");
        }
    }
}

static void integers(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {{"0", 0},
                {"-0", 0},
                {"42", 42},
                {"-42", -42},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN}};
    static const struct {
        const char *text, *reason;
    } bad[] = {{"9223372036854775808", "out of range"},
               {"-9223372036854775809", "out of range"},
               {"99999999999999999999", "out of range"},
               {"1.0", "no integer"},
               {"1e3", "no integer"},
               {"0.5", "no integer"}};
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(good); i++) {
        struct json_span number = root_of(good[i].text);
        int64_t value = 7;
        must(json_int64(&number, &value, &error));
        assert_true(value == good[i].value);
    }
    for (i = 0; i < COUNT_OF(bad); i++) {
        struct json_span number = root_of(bad[i].text);
        int64_t value = 7;
        must_fail(json_int64(&number, &value, &error), ERROR_PROTOCOL, RETRY_POISON, bad[i].reason);
        assert_int_equal(value, 7);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_documents),  cmocka_unit_test(bad_documents),
        cmocka_unit_test(cut_documents),   cmocka_unit_test(roots),
        cmocka_unit_test(limit_of_bytes),  cmocka_unit_test(limit_of_depth),
        cmocka_unit_test(limit_of_digits), cmocka_unit_test(limit_of_bytes_written_out),
        cmocka_unit_test(many_names),      cmocka_unit_test(many_names_without_memory),
        cmocka_unit_test(members),         cmocka_unit_test(each_in_its_order),
        cmocka_unit_test(strings),         cmocka_unit_test(integers),
    };

    return cmocka_run_group_tests_name("runtime json", tests, NULL, NULL);
}
