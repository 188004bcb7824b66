/* config: what is refused of flags, variables and the file, and what is said about it. */
#include "config_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- what is refused ------------------------------------------------------------------------ */

static void wrong_flags(void **state)
{
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"--widnow 7", "unknown flag '--widnow'; did you mean '--window'?"},
        {"--WINDOW=7", "unknown flag '--WINDOW'; did you mean '--window'?"},
        {"--lease_ttl=7", "unknown flag '--lease_ttl'; did you mean '--lease-ttl'?"},
        {"--frobnicate=secret", "unknown flag '--frobnicate'"},
        {"-w", "unknown flag '-w'"},
        {"--window", "--window needs a value"},
        {"--window --name x", "--window needs a value"},
        {"--window=0", "--window: must be an integer from 1 to 65535, not '0'"},
        {"--window=65536", "must be an integer from 1 to 65535, not '65536'"},
        {"--window=", "must be an integer from 1 to 65535, not ''"},
        {"--window=1x", "not '1x'"},
        {"--window=+1", "not '+1'"},
        {"--window=1.5", "not '1.5'"},
        {"--window=99999999999999999999", "not '99999999999999999999'"},
        {"--offset=x", "--offset: must be an integer, not 'x'"},
        {"--lease-ttl=499", "must be a duration (ms, s, min, h; a bare number is ms) from 500ms to "
                            "1min, not '499'"},
        {"--lease-ttl=1d", "not '1d'"},
        {"--pause=9223372036854775807", "--pause: must be a duration"},
        {"--pause=-9223372036854775807", "--pause: must be a duration"},
        {"--pause=9223372036854775807h", "--pause: must be a duration"},
        {"--buffer=64KB", "must be a size (kB, MB, GB; a bare number is bytes) from 1kB to 1GB"},
        {"--verify=maybe", "must be on or off, not 'maybe'"},
        {"--format=xml", "must be one of: logfmt, json, log, not 'xml'"},
        {"--format=logf", "must be one of"},
        {"--format=fmt", "must be one of"},
        {"--format=", "must be one of"},
        {"--format=json|log", "must be one of"},
        {"--listen=9090x", "--listen: must be HOST:PORT"},
        {"--amqp=http://h/",
         "must be an amqp:// or amqps:// URI, or several; the value is not shown"},
        {"--amqp=amqp://", "must be an amqp:// or amqps:// URI"},
        {"--name=a\x01"
         "b",
         "--name: holds a control character (byte 0x01 at offset 1)"},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(cases); i++) {
        config_test_destroy(NULL);
        config_test_create(NULL);
        must_fail(load(cases[i].line, NULL, &error), ERROR_USAGE, RETRY_NEVER, cases[i].message);
        config_test_destroy(NULL);
        config_test_create(NULL);
        assert_int_equal(load(cases[i].line, NULL, NULL), ERROR_USAGE);
    }
}

static void nothing_is_suggested_for_a_stranger(void **state)
{
    struct error error;
    char line[128];

    (void)state;
    assert_int_equal(load("--frobnicate", NULL, &error), ERROR_USAGE);
    assert_lacks(error.message, "mean");
    config_test_destroy(NULL);
    config_test_create(NULL);
    snprintf(line, sizeof(line), "--window%090d", 0);
    assert_int_equal(load(line, NULL, &error), ERROR_USAGE);
    assert_lacks(error.message, "mean");
}

static void passwords_are_refused_on_the_command_line(void **state)
{
    static const char *const bad[] = {
        "--amqp=amqp://user:hunter2@host/",
        "--amqp amqps://user:hunter2@host",
        "--postgres=postgresql://u:hunter2@h,h2/db?x=y",
        "--postgres=password=hunter2",
        "--postgres=host=h;PassWord='hunter2'",
        "--amqp=amqp://h,amqp://u:hunter2@h",
        "--postgres=postgres://h/db?user=u&password=hunter2",
        "--postgres=sslpassword=hunter2",
        "--amqp=amqp://u:hunter2@@h/",
        "--amqp=amqp://u@corp:hunter2@h/",
    };
    static const char *const good[] = {
        "--amqp=amqp://user@host:5672/a:b@c",
        "--amqp=amqps://host:5671/",
        "--postgres=postgres://u@h:5432/db?options=a:b@c",
        "--postgres=service=orders",
        "--postgres=passfile=/x",
        "--name=password=allowed", /* no secret */
    };
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(bad); i++) {
        struct error error;
        config_test_destroy(NULL);
        config_test_create(NULL);
        assert_int_equal(load(bad[i], NULL, &error), ERROR_USAGE);
        assert_int_equal(error.retry, RETRY_NEVER);
        assert_contains(error.message, "holds a password");
        assert_contains(error.message, "SAGAPOST_");
        assert_lacks(error.message, "hunter2");
    }
    for (i = 0; i < COUNT_OF(good); i++) {
        config_test_destroy(NULL);
        config_test_create(NULL);
        must(load(good[i], NULL, &error));
    }
}

static void a_password_between_spaces_is_one(void **state)
{
    char *argv[] = {(char *)(uintptr_t) "p", (char *)(uintptr_t) "--postgres",
                    (char *)(uintptr_t) "host=h password \t= x", NULL};

    (void)state;
    must_fail(config_load(config, 3, argv, NULL, &error), ERROR_USAGE, RETRY_NEVER,
              "holds a password");
}

static void passwords_are_taken_from_elsewhere(void **state)
{
    static const char *const variables[] = {"SAGAPOST_AMQP=amqp://u:p@h/", NULL};

    (void)state;
    write_file("postgres = host=h password=a ;b#c\n");
    must(load("--config FILE", variables, &error));
    assert_string_equal(config_text(config, "amqp"), "amqp://u:p@h/");
    assert_string_equal(config_text(config, "postgres"), "host=h password=a ;b#c");
}

static void wrong_variables(void **state)
{
    static const char *const window[] = {"SAGAPOST_WINDOW=0", NULL};

    (void)state;
    must_fail(load("", window, &error), ERROR_USAGE, RETRY_NEVER,
              "SAGAPOST_WINDOW: must be an integer from 1 to 65535, not '0'");
    config_test_destroy(NULL);
    config_test_create(NULL);
    /* Wrong is wrong, also where a flag overrules it. */
    must_fail(load("--window=5", window, &error), ERROR_USAGE, RETRY_NEVER, "SAGAPOST_WINDOW");
}

static void secrets_of_variables_are_not_shown(void **state)
{
    static const char *const amqp[] = {"SAGAPOST_AMQP=user:hunter2@h", NULL};
    struct error error;

    (void)state;
    assert_int_equal(load("", amqp, &error), ERROR_USAGE);
    assert_contains(error.message, "SAGAPOST_AMQP: must be an amqp:// or amqps:// URI");
    assert_lacks(error.message, "hunter2");
}

static void what_is_required(void **state)
{
    char *argv[] = {(char *)(uintptr_t) "p", (char *)(uintptr_t) "--share=3", path, NULL};
    char config_flag[64];

    (void)state;
    config_test_destroy(NULL);
    file = memfd_create("settings", MFD_CLOEXEC);
    must(config_create(&config, required_tables, &error));
    must_fail(config_load(config, 1, argv, NULL, &error), ERROR_USAGE, RETRY_NEVER,
              "share is not set: give it as --share, in the variable SAGAPOST_SHARE, or as 'share "
              "= ...'");
    config_destroy(config);
    must(config_create(&config, required_tables, &error));
    must(config_load(config, 2, argv, NULL, &error));
    assert_int_equal(config_count(config, "share"), 3);
    config_destroy(config);
    /* Taken out of the file: a mistake that changes nothing. */
    must(config_create(&config, required_tables, &error));
    snprintf(config_flag, sizeof(config_flag), "--config=/proc/self/fd/%d", file);
    argv[1] = config_flag;
    write_file("share = 4");
    must(config_load(config, 2, argv, NULL, &error));
    write_file("# share = 4");
    must_fail(config_reload(config, &error), ERROR_USAGE, RETRY_NEVER, "share is not set");
    assert_int_equal(config_count(config, "share"), 4);
}

static void defaults_must_be_good(void **state)
{
    static const struct setting rows[] = {{"x", SETTING_COUNT, "9", 1, 5, 0, "bad"}, {0}};
    static const struct setting *const bad[] = {rows, NULL};
    struct config *none = NULL;

    (void)state;
    must_fail(config_create(&none, bad, &error), ERROR_USAGE, RETRY_BUG, "default of x");
    assert_int_equal(config_create(&none, bad, NULL), ERROR_USAGE);
    assert_null(none);
    config_destroy(NULL);
}

/* --- the file ------------------------------------------------------------------------------- */

static void the_file_reads(void **state)
{
    (void)state;
    write_file("\xef\xbb\xbf# a comment\n; another\n\n[relay]\n  window=7  \r\n"
               "\tname : two words ; and more\n[other]\nverify = off\nformat=json");
    must(load("--config FILE", NULL, &error));
    assert_int_equal(config_count(config, "window"), 7);
    assert_string_equal(config_text(config, "name"), "two words ; and more");
    assert_false(config_bool(config, "verify"));
    assert_string_equal(config_text(config, "format"), "json");
}

static void the_file_is_wrong(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"windwo = 7\n", ":1: unknown key 'windwo'; did you mean 'window'?"},
        {"\nconfig = /etc/x\n", ":2: unknown key 'config'"},
        {"window = 7\n\nwindow = 7\n", ":3: 'window' is given in line 1 already"},
        {"window = 7\n  more\n", ":2: must be 'name = value'"},
        {"window = 7\n  = 8\n", ":2: unknown key ''"},
        {"window\n", ":1: must be 'name = value', '[section]' or a comment"},
        {"[relay\n", ":1: must be"},
        {"window\nwidnow = 1\n", ":1: must be"}, /* the first mistake is told */
        {"window = x\n", ":1: window: must be an integer from 1 to 65535, not 'x'"},
        {"window =\n", ":1: window: must be an integer from 1 to 65535, not ''"},
        {"name = a\x01\n", ":1: name: holds a control character"},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(cases); i++) {
        char expected[160];
        config_test_destroy(NULL);
        config_test_create(NULL);
        write_file(cases[i].text);
        snprintf(expected, sizeof(expected), "%s%s", path, cases[i].message);
        must_fail(load("--config FILE", NULL, &error), ERROR_USAGE, RETRY_NEVER, expected);
    }
}

static void a_key_given_twice_is_wrong_whoever_wins(void **state)
{
    (void)state;
    write_file("window = 7\nwindow = 8\n");
    must_fail(load("--window=9 --config FILE", NULL, &error), ERROR_USAGE, RETRY_NEVER,
              ":2: 'window' is given in line 1 already");
}

static void secrets_of_the_file_are_not_shown(void **state)
{
    static const char *const texts[] = {"amqp = user:hunter2@host\n", "postgres password=hunter2\n",
                                        "amqp://u:hunter2@host\n", "hunter2\n"};
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(texts); i++) {
        struct error error;
        config_test_destroy(NULL);
        config_test_create(NULL);
        write_file(texts[i]);
        assert_int_equal(load("--config FILE", NULL, &error), ERROR_USAGE);
        assert_lacks(error.message, "hunter2");
    }
}

static void the_file_is_odd(void **state)
{
    char *text = malloc(300000);

    (void)state;
    write_file_bytes("name = a\0b\n", 11);
    must_fail(load("--config FILE", NULL, &error), ERROR_USAGE, RETRY_NEVER, ":1: holds a NUL");
    config_test_destroy(NULL);
    config_test_create(NULL);
    /* 8 KiB of a value are fine ... */
    memset(text, 'x', 300000);
    memcpy(text, "name = ", 7);
    write_file_bytes(text, 7 + 8192);
    must(load("--config FILE", NULL, &error));
    assert_int_equal(strlen(config_text(config, "name")), 8192);
    config_test_destroy(NULL);
    config_test_create(NULL);
    write_file_bytes(text, 7 + 8193);
    must_fail(load("--config FILE", NULL, &error), ERROR_USAGE, RETRY_NEVER,
              ":1: name: must be at most 8192 bytes long");
    config_test_destroy(NULL);
    config_test_create(NULL);
    /* ... a line of 16 KiB is not, nor is it taken for two. */
    write_file_bytes(text, 20000);
    must_fail(load("--config FILE", NULL, &error), ERROR_USAGE, RETRY_NEVER,
              ":1: a line must be shorter than 16384 bytes");
    config_test_destroy(NULL);
    config_test_create(NULL);
    write_file_bytes(text, 300000);
    must_fail(load("--config FILE", NULL, &error), ERROR_USAGE, RETRY_NEVER,
              "is larger than 262144 bytes");
    config_test_destroy(NULL);
    config_test_create(NULL);
    /* A key as long as that is like no other. */
    memset(text, 'x', 100);
    memcpy(text + 100, " = 1", 5);
    write_file(text);
    must_fail(load("--config FILE", NULL, &error), ERROR_USAGE, RETRY_NEVER, "unknown key 'xxx");
    free(text);
}

static void the_file_cannot_be_read(void **state)
{
    (void)state;
    must_fail(load("--config=/nonexistent/x", NULL, &error), ERROR_SYSTEM, RETRY_NEVER,
              "opening /nonexistent/x: No such file or directory");
    config_test_destroy(NULL);
    config_test_create(NULL);
    must_fail(load("--config=/", NULL, &error), ERROR_SYSTEM, RETRY_NEVER, "reading /: Is a");
    config_test_destroy(NULL);
    config_test_create(NULL);
    write_file("window = 9\n");
    fault_arm("read", 1, EINTR);
    must(load("--config FILE", NULL, &error));
    assert_true(fault_disarm());
    assert_int_equal(config_count(config, "window"), 9);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(wrong_flags),
        TEST(nothing_is_suggested_for_a_stranger),
        TEST(passwords_are_refused_on_the_command_line),
        TEST(a_password_between_spaces_is_one),
        TEST(passwords_are_taken_from_elsewhere),
        TEST(wrong_variables),
        TEST(secrets_of_variables_are_not_shown),
        TEST(what_is_required),
        TEST(defaults_must_be_good),
        TEST(the_file_reads),
        TEST(the_file_is_wrong),
        TEST(a_key_given_twice_is_wrong_whoever_wins),
        TEST(secrets_of_the_file_are_not_shown),
        TEST(the_file_is_odd),
        TEST(the_file_cannot_be_read),
    };

    return cmocka_run_group_tests_name("runtime config, refused", tests, NULL, NULL);
}
