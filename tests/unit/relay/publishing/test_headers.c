#include "outbox/relay/publishing/headers.h"
#include "tests/unit/relay/relay_test.h"

#include <string.h>

static struct headers headers;

static int read_text(const char *json, struct error *error)
{
    return headers_read(&headers, json, strlen(json), error);
}

static void expect_text(int which, const char *name, const char *text)
{
    const struct broker_header *header = &headers.list[which];

    assert_int_equal(header->name.bytes, strlen(name));
    assert_memory_equal(header->name.text, name, strlen(name));
    assert_int_equal(header->kind, BROKER_TEXT);
    assert_int_equal(header->text.bytes, strlen(text));
    assert_memory_equal(header->text.text, text, strlen(text));
}

static void test_kinds(void **state)
{
    (void)state;
    assert_int_equal(read_text(" {\"a\": \"x\", \"n\" : -12,\"r\":1.5e2,\"t\":true, \"f\":false,"
                               "\"z\": null } ",
                               NULL),
                     0);
    assert_int_equal(headers.count, 6);
    expect_text(0, "a", "x");
    assert_int_equal(headers.list[1].kind, BROKER_INT);
    assert_int_equal(headers.list[1].integer, -12);
    assert_int_equal(headers.list[2].kind, BROKER_REAL);
    assert_true(headers.list[2].real == 150.0);
    assert_int_equal(headers.list[3].kind, BROKER_BOOL);
    assert_int_equal(headers.list[3].integer, 1);
    assert_int_equal(headers.list[4].integer, 0);
    assert_int_equal(headers.list[5].kind, BROKER_NULL);
    assert_true(headers_has(&headers, "r"));
    assert_false(headers_has(&headers, "rr"));
    assert_int_equal(read_text("{}", NULL), 0);
    assert_int_equal(headers.count, 0);
}

static void test_escapes(void **state)
{
    (void)state;
    assert_int_equal(read_text("{\"a\\\"b\": \"\\\\ \\/ \\b\\f\\n\\r\\t \\u00e9 \\u20ac "
                               "\\ud83d\\ude00 \xc3\xa9\", \"b\": \"plain\"}",
                               NULL),
                     0);
    expect_text(0, "a\"b", "\\ / \b\f\n\r\t \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xc3\xa9");
    expect_text(1, "b", "plain");
}

static void test_edges_of_numbers(void **state)
{
    (void)state;
    assert_int_equal(
        read_text("{\"a\": 9223372036854775807, \"b\": -9223372036854775808, \"c\": 0}", NULL), 0);
    assert_int_equal(headers.list[0].integer, INT64_MAX);
    assert_int_equal(headers.list[1].integer, INT64_MIN);
    assert_int_equal(headers.list[2].integer, 0);
}

static void test_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "}",
        "[]",
        "1",
        "null",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{,}",
        "{a:1}",
        "{\"a\":1}x",
        "{\"a\":[]}",
        "{\"a\":{}}",
        "{\"a\":tru}",
        "{\"a\":nul",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":-}",
        "{\"a\":9223372036854775808}",
        "{\"a\":1e999}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\ud800\\u0041\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"x",
        "{\"a\":\"x\\",
        "{\"a",
        "{\"a\":\"\\u",
        "{\"a\":\"\\\n\"}",
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct error error = {0};

        if (read_text(bad[i], &error) == 0)
            fail_msg("'%s' was taken for headers", bad[i]);
        assert_int_equal(error.retry, RETRY_POISON);
    }
}

/* Every beginning of a good text is refused, and nothing past its end is looked at. */
static void test_every_prefix(void **state)
{
    static const char good[] =
        "{\"name\": \"te\\u00e9xt\", \"n\": -1.5e3, \"t\": true, \"z\": null}";

    (void)state;
    for (size_t bytes = 0; bytes < sizeof(good) - 1; bytes++) {
        char *copy = malloc(bytes ? bytes : 1); /* its end is guarded by the sanitizers */

        memcpy(copy, good, bytes);
        assert_true(headers_read(&headers, copy, bytes, NULL) < 0);
        free(copy);
    }
}

static void test_limits(void **state)
{
    static char json[200000];
    char name[300];
    size_t at;

    (void)state;
    memset(name, 'n', sizeof(name));
    (void)snprintf(json, sizeof(json), "{\"%.255s\": 1}", name);
    assert_int_equal(read_text(json, NULL), 0);
    (void)snprintf(json, sizeof(json), "{\"%.256s\": 1}", name);
    assert_true(read_text(json, NULL) < 0);

    at = (size_t)snprintf(json, sizeof(json), "{");
    for (int i = 0; i < HEADERS_MAX; i++)
        at += (size_t)snprintf(json + at, sizeof(json) - at, "%s\"%d\": 1", i ? ", " : "", i);
    (void)snprintf(json + at, sizeof(json) - at, "}");
    assert_int_equal(read_text(json, NULL), 0);
    assert_int_equal(headers.count, HEADERS_MAX);
    (void)snprintf(json + at, sizeof(json) - at, ", \"one\": 1}");
    assert_true(read_text(json, NULL) < 0);

    at = (size_t)snprintf(json, sizeof(json), "{\"a\": \"\\n");
    memset(json + at, 'x', HEADERS_TEXT_BYTES_MAX);
    (void)snprintf(json + at + HEADERS_TEXT_BYTES_MAX, 10, "\"}");
    assert_true(read_text(json, NULL) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_edges_of_numbers),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_every_prefix),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
