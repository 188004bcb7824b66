/* error, clock, backoff, uuid, utf8, address. */
#include "runtime_test.h"

#include "outbox/runtime/address.h"
#include "outbox/runtime/backoff.h"
#include "outbox/runtime/clock.h"
#include "outbox/runtime/utf8.h"
#include "outbox/runtime/uuid.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

/* --- error ---------------------------------------------------------------------------------- */

static void error_is_stored_whole(void **state)
{
    struct error error = {.code = -1, .retry = RETRY_BUG, .sqlstate = "40001", .amqp_code = 404};

    (void)state;
    assert_int_equal(error_set(&error, ERROR_LIMIT, RETRY_POISON, "%d of %d", 7, 5), ERROR_LIMIT);
    assert_int_equal(error.code, ERROR_LIMIT);
    assert_int_equal(error.retry, RETRY_POISON);
    assert_string_equal(error.sqlstate, ""); /* nothing of the one before stays */
    assert_int_equal(error.amqp_code, 0);
    assert_string_equal(error.message, "7 of 5");
    assert_int_equal(error_set(&error, ERROR_STATE, RETRY_LATER, "again: %s", error.message),
                     ERROR_STATE);
    assert_string_equal(error.message, "again: 7 of 5");
    error_clear(&error);
    assert_int_equal(error.code, 0);
    assert_int_equal(error.retry, RETRY_NONE);
    assert_string_equal(error.message, "");
}

static void error_may_be_null(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, ERROR_LIMIT, RETRY_POISON, "x"), ERROR_LIMIT);
    assert_int_equal(error_set_errno(NULL, ENOENT, RETRY_LATER, "x"), ERROR_SYSTEM);
    error_clear(NULL);
}

static void error_of_errno_says_why(void **state)
{
    struct error error;

    (void)state;
    assert_int_equal(error_set_errno(&error, ENOENT, RETRY_LATER, "opening %s", "x"), ERROR_SYSTEM);
    assert_string_equal(error.message, "opening x: No such file or directory");
    assert_int_equal(error.retry, RETRY_LATER);
}

static void error_context_goes_in_front(void **state)
{
    struct error error;
    char *long_text = malloc(5001);

    (void)state;
    memset(long_text, 'x', 5000);
    long_text[5000] = 0;
    error_set(&error, ERROR_POSTGRES, RETRY_NOW, "deadlock detected");
    snprintf(error.sqlstate, sizeof(error.sqlstate), "40P01");
    assert_int_equal(error_context(&error, "share %d", 3), ERROR_POSTGRES);
    assert_string_equal(error.message, "share 3: deadlock detected");
    assert_string_equal(error.sqlstate, "40P01");
    assert_int_equal(error.retry, RETRY_NOW);
    error_context(&error, "%s", long_text);
    assert_contains(error.message, ": share 3: deadlock detected");
    error_set_errno(&error, ENOENT, RETRY_NOW, "%s", long_text);
    assert_contains(error.message, ": No such file");
    error_set(&error, ERROR_STATE, RETRY_NOW, "%s", long_text);
    assert_int_equal(strlen(error.message), ERROR_MESSAGE_BYTES_MAX - 1);
    free(long_text);
}

static void error_classes_have_names(void **state)
{
    static const char *const names[] = {"none",   "now",   "later", "reconnect",
                                        "poison", "never", "bug"};
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(names); i++)
        assert_string_equal(error_retry_name((enum error_retry)i), names[i]);
    assert_string_equal(error_retry_name((enum error_retry)99), "unknown");
}

/* --- clock and backoff ---------------------------------------------------------------------- */

static void clock_of_the_machine_runs(void **state)
{
    int64_t first = clock_monotonic_us(&clock_system);

    (void)state;
    assert_true(clock_monotonic_us(&clock_system) >= first);
    assert_true(clock_wall_us(&clock_system) > INT64_C(1700000000) * US_PER_S); /* since 2023 */
}

static void clock_of_a_test_stands(void **state)
{
    struct clock_fake fake;

    (void)state;
    clock_fake_init(&fake, 100, 5000);
    assert_int_equal(clock_monotonic_us(&fake.source), 100);
    assert_int_equal(clock_wall_us(&fake.source), 5000);
    clock_fake_advance(&fake, 11);
    assert_int_equal(clock_monotonic_us(&fake.source), 111);
    assert_int_equal(clock_wall_us(&fake.source), 5011);
}

static void backoff_doubles_up_to_the_cap(void **state)
{
    static const int64_t steps[] = {100, 200, 400, 800, 1000, 1000, 1000};
    struct backoff backoff;
    unsigned seed, i;

    (void)state;
    for (seed = 0; seed < 200; seed++) {
        backoff_init(&backoff, 100, 1000, seed);
        for (i = 0; i < COUNT_OF(steps); i++) {
            int64_t pause = backoff_next_us(&backoff);
            assert_true(pause >= steps[i] / 2);
            assert_true(pause <= steps[i]);
            assert_int_equal(backoff.tries, i + 1);
        }
        backoff_reset(&backoff);
        assert_int_equal(backoff.tries, 0);
        assert_true(backoff_next_us(&backoff) <= 100);
    }
}

static void backoff_spreads(void **state)
{
    struct backoff a, b;
    int64_t least = INT64_MAX, most = 0;
    unsigned seed;

    (void)state;
    for (seed = 0; seed < 100; seed++) {
        backoff_init(&a, 1000000, 1000000, seed);
        backoff_init(&b, 1000000, 1000000, seed);
        int64_t pause = backoff_next_us(&a);
        assert_int_equal(pause, backoff_next_us(&b)); /* the same seed, the same pause */
        least = pause < least ? pause : least;
        most = pause > most ? pause : most;
    }
    assert_true(least < 600000 && most > 900000);
}

static void backoff_stands_large_numbers(void **state)
{
    struct backoff backoff;
    int i;

    (void)state;
    backoff_init(&backoff, 1, INT64_MAX, 1);
    backoff.tries = UINT_MAX;
    for (i = 0; i < 3; i++)
        assert_true(backoff_next_us(&backoff) >= INT64_MAX / 2);
    assert_true(backoff.tries == UINT_MAX);
    backoff_init(&backoff, 100, 10, 1); /* a cap below the base is the base */
    assert_true(backoff_next_us(&backoff) >= 50);
    assert_true(backoff_next_us(&backoff) <= 100);
}

/* --- uuid ----------------------------------------------------------------------------------- */

static void uuid_text_and_back(void **state)
{
    static const char text[] = "0190163d-8694-739b-aea5-966c26f8ad91";
    struct uuid uuid, again;
    char out[UUID_TEXT_BYTES];

    (void)state;
    must(uuid_parse(text, 36, &uuid, &error));
    uuid_format(&uuid, out);
    assert_string_equal(out, text);
    must(uuid_parse("0190163D-8694-739B-AEA5-966C26F8AD91", 36, &again, &error));
    assert_int_equal(uuid_compare(&uuid, &again), 0);
    again.bytes[15]++;
    assert_true(uuid_compare(&uuid, &again) < 0);
}

static void uuid_refuses_what_is_none(void **state)
{
    static const char *const bad[] = {"",
                                      "0190163d8694739baea5966c26f8ad91",
                                      "{190163d-8694-739b-aea5-966c26f8ad9}",
                                      "0190163d-8694-739b-aea5-966c26f8ad9",
                                      "0190163d-8694-739b-aea5-966c26f8ad911",
                                      "0190163g-8694-739b-aea5-966c26f8ad91",
                                      "0190163d-8694-739b-aea5-966c26f8ad9 ",
                                      "0190163d 8694-739b-aea5-966c26f8ad91",
                                      "-190163d-8694-739b-aea5-966c26f8ad91"};
    struct uuid uuid = {{9}};
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(bad); i++)
        must_fail(uuid_parse(bad[i], strlen(bad[i]), &uuid, &error), ERROR_PROTOCOL, RETRY_POISON,
                  "UUID");
    assert_int_equal(uuid.bytes[0], 9); /* untouched */
}

static void uuid_v7_holds_the_time(void **state)
{
    const int64_t wall_us = INT64_C(0x0190163d8694) * 1000 + 999;
    struct uuid a, b;
    char text[UUID_TEXT_BYTES];

    (void)state;
    uuid_v7(&a, wall_us);
    uuid_v7(&b, wall_us);
    uuid_format(&a, text);
    assert_memory_equal(text, "0190163d-8694-7", 15);
    assert_true(text[19] == '8' || text[19] == '9' || text[19] == 'a' || text[19] == 'b');
    assert_int_not_equal(uuid_compare(&a, &b), 0);
    fault_arm("getrandom", 1, EINTR);
    uuid_v7(&a, wall_us + 1000);
    assert_true(fault_disarm());
    assert_true(uuid_compare(&a, &b) > 0); /* later sorts behind */
}

/* --- utf8 ----------------------------------------------------------------------------------- */

static bool is_surrogate(uint32_t character)
{
    return character >= 0xd800 && character <= 0xdfff;
}

static void utf8_there_and_back(void **state)
{
    uint32_t character;

    (void)state;
    for (character = 0; character <= 0x10ffff; character++) {
        char text[UTF8_BYTES_MAX];
        uint32_t decoded = 0;
        size_t bytes;
        if (is_surrogate(character))
            continue;
        bytes = utf8_encode(character, text);
        assert_int_equal(utf8_decode(text, bytes, &decoded), bytes);
        assert_int_equal(decoded, character);
        if (bytes > 1) /* cut short */
            assert_int_equal(utf8_decode(text, bytes - 1, &decoded), 0);
    }
}

static void utf8_refuses(void **state)
{
    static const char *const bad[] = {
        "\x80",             /* continuation alone */
        "\xc0\x80",         /* overlong NUL */
        "\xc1\xbf",         /* overlong */
        "\xe0\x9f\xbf",     /* overlong */
        "\xf0\x8f\xbf\xbf", /* overlong */
        "\xed\xa0\x80",     /* surrogate */
        "\xf4\x90\x80\x80", /* past U+10FFFF */
        "\xf5\x80\x80\x80",
        "\xff",
        "\xe2\x28\xa1", /* second is no continuation */
        "\xe2\x82\x28", /* third is none */
    };
    uint32_t character;
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(utf8_decode(bad[i], strlen(bad[i]), &character), 0);
    assert_int_equal(utf8_decode("", 0, &character), 0);
}

/* --- address -------------------------------------------------------------------------------- */

static void address_forms(void **state)
{
    static const struct {
        const char *text, *host;
        int port;
    } good[] = {{"localhost:9090", "localhost", 9090},
                {":0", "127.0.0.1", 0},
                {"[::1]:65535", "::1", 65535},
                {"10.0.0.7:1", "10.0.0.7", 1},
                {"*:8080", "", 8080},
                {"[fe80::1%eth0]:8080", "fe80::1%eth0", 8080},
                {"a-b.c_d:00080", "a-b.c_d", 80}};
    static const char *const bad[] = {"",
                                      "9090",
                                      "localhost",
                                      "localhost:",
                                      "localhost:65536",
                                      "localhost:-1",
                                      ":x",
                                      "::1:9090",
                                      "[::1:9090",
                                      "[]:9090",
                                      "[::1]9090",
                                      "h:123456",
                                      "a b:1",
                                      "host:1x",
                                      "x*:1",
                                      "]:9",
                                      "[:9"};
    struct address address;
    char long_host[300];
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(good); i++) {
        must(address_parse(good[i].text, &address, &error));
        assert_string_equal(address.host, good[i].host);
        assert_int_equal(address.port, good[i].port);
    }
    for (i = 0; i < COUNT_OF(bad); i++)
        must_fail(address_parse(bad[i], &address, &error), ERROR_USAGE, RETRY_NEVER, "HOST:PORT");
    memset(long_host, 'h', sizeof(long_host));
    memcpy(long_host + 256, ":1", 3);
    must_fail(address_parse(long_host, &address, &error), ERROR_USAGE, RETRY_NEVER, "HOST:PORT");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_is_stored_whole),
        cmocka_unit_test(error_may_be_null),
        cmocka_unit_test(error_of_errno_says_why),
        cmocka_unit_test(error_context_goes_in_front),
        cmocka_unit_test(error_classes_have_names),
        cmocka_unit_test(clock_of_the_machine_runs),
        cmocka_unit_test(clock_of_a_test_stands),
        cmocka_unit_test(backoff_doubles_up_to_the_cap),
        cmocka_unit_test(backoff_spreads),
        cmocka_unit_test(backoff_stands_large_numbers),
        cmocka_unit_test(uuid_text_and_back),
        cmocka_unit_test(uuid_refuses_what_is_none),
        cmocka_unit_test(uuid_v7_holds_the_time),
        cmocka_unit_test(utf8_there_and_back),
        cmocka_unit_test(utf8_refuses),
        cmocka_unit_test(address_forms),
    };

    return cmocka_run_group_tests_name("runtime basics", tests, NULL, NULL);
}
