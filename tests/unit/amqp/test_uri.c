#include "outbox/amqp/uri.h"
#include "tests/unit/amqp/cmocka_with.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The examples of RabbitMQ's specification, appendix A, and then our own. */
static const struct {
    const char *uri, *user, *password, *host;
    int port;
    const char *vhost;
    bool tls;
} good[] = {
    {"amqp://user:pass@host:10000/vhost", "user", "pass", "host", 10000, "vhost", false},
    {"amqp://user%61:%61pass@ho%61st:10000/v%2fhost", "usera", "apass", "hoast", 10000, "v/host",
     false},
    {"amqp://", "guest", "guest", "localhost", 5672, "/", false},
    {"amqp://:@/", "", "", "localhost", 5672, "", false},
    {"amqp://user@", "user", "guest", "localhost", 5672, "/", false},
    {"amqp://user:pass@", "user", "pass", "localhost", 5672, "/", false},
    {"amqp://host", "guest", "guest", "host", 5672, "/", false},
    {"amqp://:10000", "guest", "guest", "localhost", 10000, "/", false},
    {"amqp:///vhost", "guest", "guest", "localhost", 5672, "vhost", false},
    {"amqp://host/", "guest", "guest", "host", 5672, "", false},
    {"amqp://host/%2f", "guest", "guest", "host", 5672, "/", false},
    {"amqp://host/%2F", "guest", "guest", "host", 5672, "/", false},
    {"amqp://[::1]", "guest", "guest", "::1", 5672, "/", false},
    {"amqps://u:p@[fe80::1]:5999/v", "u", "p", "fe80::1", 5999, "v", true},
    {"amqps://host", "guest", "guest", "host", 5671, "/", true},
    {"AMQPS://host", "guest", "guest", "host", 5671, "/", true},
    {"amqp://u:a:b@host", "u", "a:b", "host", 5672, "/", false},
    {"amqp://u:p%40%3a%2f%25@host", "u", "p@:/%", "host", 5672, "/", false},
    {"amqp://u:%c3%a9%ff@host", "u", "\xc3\xa9\xff", "host", 5672, "/", false},
    {"amqp://host:5672?heartbeat=5", "guest", "guest", "host", 5672, "/", false},
    {"amqp://host/v?", "guest", "guest", "host", 5672, "v", false},
    {"amqp://host/v?&heartbeat=1&", "guest", "guest", "host", 5672, "v", false},
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct error error = {0};
        struct uri uri;

        if (uri_parse(&uri, good[i].uri, &error))
            fail_msg("%s: %s", good[i].uri, error.message);
        assert_string_equal(uri.user, good[i].user);
        assert_string_equal(uri.password, good[i].password);
        assert_string_equal(uri.host, good[i].host);
        assert_int_equal(uri.port, good[i].port);
        assert_string_equal(uri.vhost, good[i].vhost);
        assert_int_equal(uri.tls, good[i].tls);
        assert_int_equal(uri.trailing_slash, !*good[i].vhost);
        uri_free(&uri);
    }
}

static const struct {
    const char *uri, *says;
} bad[] = {
    {"", "must begin with"},
    {"http://host", "must begin with"},
    {"amqp:/host", "must begin with"},
    {"host:5672", "must begin with"},
    {"amqp://secret:secret@host:0", "the port must be a number from 1 to 65535"},
    {"amqp://secret:secret@host:65536", "the port"},
    {"amqp://host:", "the port"},
    {"amqp://host:12x", "the port"},
    {"amqp://host:+12", "the port"},
    {"amqp://host:-1", "the port"},
    {"amqp://host:99999999999999999999", "the port"},
    {"amqp://u:secret@secret@host", "more than one @"},
    {"amqp://[::1", "does not end in ]"},
    {"amqp://[::1]x", "does not end in ]"},
    {"amqp://host/a/b", "write it as %2f"},
    {"amqp://u:secret%@host", "two hexadecimal digits"},
    {"amqp://u:secret%4@host", "two hexadecimal digits"},
    {"amqp://u:secret%zz@host", "two hexadecimal digits"},
    {"amqp://u:secret%00@host", "%00"},
    {"amqp://u:secret @host", "a space or a control character"},
    {"amqp://u:secret\n@host", "a space or a control character"},
    {"amqp://u:secret#1@host", "a #"},
    {"amqp://host/v#x", "write one in a user, password or vhost as %23"},
    {"amqp://host?heartbeat", "without a value"},
    {"amqp://host?heartbeat=x", "heartbeat (seconds) must be a number"},
    {"amqp://host?heartbeat=65536", "heartbeat"},
    {"amqp://host?heartbeat=", "heartbeat"},
    {"amqp://host?connection_timeout=0", "connection_timeout"},
    {"amqp://host?verify=secret", "verify_peer nor verify_none"},
    {"amqp://host?frobnicate=1", "unknown parameter 'frobnicate'"},
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error error = {0};
        struct uri uri = {.port = 1};

        if (uri_parse(&uri, bad[i].uri, &error) != ERROR_USAGE)
            fail_msg("taken: %s", bad[i].uri);
        if (!strstr(error.message, bad[i].says))
            fail_msg("%s: %s", bad[i].uri, error.message);
        assert_null(strstr(error.message, "secret"));
        assert_int_equal(error.retry, RETRY_NEVER);
        assert_int_equal(uri.port, 1); /* untouched on failure */
    }
}

static void test_query(void **state)
{
    struct error error = {0};
    struct uri uri;

    (void)state;
    assert_int_equal(
        uri_parse(&uri,
                  "amqps://h/v?heartbeat=0&connection_timeout=1500&cacertfile=%2fetc%2fca.pem&"
                  "certfile=/c&keyfile=/k&verify=verify_none",
                  &error),
        0);
    assert_int_equal(uri.heartbeat_s, 0);
    assert_int_equal(uri.connect_timeout_us, 1500000);
    assert_string_equal(uri.ca_file, "/etc/ca.pem");
    assert_string_equal(uri.certificate_file, "/c");
    assert_string_equal(uri.key_file, "/k");
    assert_int_equal(uri.verify_peer, 0);
    uri_free(&uri);

    assert_int_equal(uri_parse(&uri, "amqps://h", &error), 0);
    assert_int_equal(uri.heartbeat_s, -1);
    assert_int_equal(uri.connect_timeout_us, -1);
    assert_int_equal(uri.verify_peer, -1);
    assert_null(uri.ca_file);
    uri_free(&uri);
}

static void test_limits(void **state)
{
    char text[URI_BYTES_MAX + 64];
    struct error error = {0};
    struct uri uri;

    (void)state;
    snprintf(text, sizeof(text), "amqp://host/%0255d", 0);
    assert_int_equal(uri_parse(&uri, text, &error), 0);
    uri_free(&uri);
    snprintf(text, sizeof(text), "amqp://host/%0256d", 0);
    assert_int_equal(uri_parse(&uri, text, &error), ERROR_USAGE);
    snprintf(text, sizeof(text), "amqp://%0256d", 0);
    assert_int_equal(uri_parse(&uri, text, &error), ERROR_USAGE);
    snprintf(text, sizeof(text), "amqp://u:%0*d@host", URI_BYTES_MAX, 0);
    assert_int_equal(uri_parse(&uri, text, &error), ERROR_USAGE);
}

static void test_list(void **state)
{
    struct error error = {0};
    struct uri_list list;

    (void)state;
    assert_int_equal(uri_list_parse(&list, "amqp://one", &error), 0);
    assert_int_equal(list.count, 1);
    uri_list_free(&list);
    assert_int_equal(uri_list_parse(&list,
                                    "amqp://u:a,b@one:1/v,amqp://v:c@two:2/v , AMQPS://[::1]/%76",
                                    &error),
                     0);
    assert_int_equal(list.count, 3);
    assert_string_equal(list.uris[0].host, "one");
    assert_string_equal(list.uris[0].password, "a,b"); /* what separates is what a scheme follows */
    assert_int_equal(list.uris[1].port, 2);
    assert_string_equal(list.uris[1].user, "v");
    assert_string_equal(list.uris[2].host, "::1");
    assert_true(list.uris[2].tls);
    uri_list_free(&list);
    assert_int_equal(uri_list_parse(&list, "amqp://one amqp://two\n\tamqp://three", &error), 0);
    assert_int_equal(list.count, 3);
    uri_list_free(&list);
}

static const struct {
    const char *uris, *says;
} bad_lists[] = {
    {"", "must begin with"},
    {"amqp://one,two", "several whole URIs"},
    {"amqp://one,", "several whole URIs"},
    {",amqp://one", "must begin with"},
    {"amqp://host:0", "the AMQP URI: the port"},
    {"amqp://one,amqp://u:secret@two:0", "URI 2 of a list: the AMQP URI: the port"},
    {"amqp://u:secret@one:0,amqp://two", "URI 1 of a list: the AMQP URI: the port"},
    {"amqp://u:secret@one/v,amqp://two/w", "URI 2 of a list: the AMQP URI names another vhost"},
    {"amqp://a,amqp://a,amqp://a,amqp://a,amqp://a,amqp://a,amqp://a,amqp://a,amqp://a,amqp://a,"
     "amqp://a,amqp://a,amqp://a,amqp://a,amqp://a,amqp://a,amqp://a",
     "URI 17 of a list: the AMQP URI is one of more than 16"},
};

static void test_bad_list(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_lists) / sizeof(bad_lists[0]); i++) {
        struct error error = {0};
        struct uri_list list = {.count = -1};

        if (uri_list_parse(&list, bad_lists[i].uris, &error) != ERROR_USAGE)
            fail_msg("taken: %s", bad_lists[i].uris);
        if (!strstr(error.message, bad_lists[i].says))
            fail_msg("%s: %s", bad_lists[i].uris, error.message);
        assert_null(strstr(error.message, "secret"));
        assert_int_equal(error.retry, RETRY_NEVER);
        assert_int_equal(list.count, -1); /* untouched on failure */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),   cmocka_unit_test(test_bad),  cmocka_unit_test(test_query),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_list), cmocka_unit_test(test_bad_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
