/* config: flags, variables, file, their order, what is refused, reload, help. */
#include "runtime_test.h"

#include "outbox/runtime/config.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct setting program_settings[] = {
    {"window", SETTING_COUNT, "2000", 1, 65535, SETTING_RELOAD, "messages in flight"},
    {"offset", SETTING_COUNT, "-5", 0, 0, 0, "any integer"},
    {"lease-ttl", SETTING_MILLIS, "5s", 500, 60000, 0, "a silent relay is replaced"},
    {"pause", SETTING_MILLIS, "0", 0, 0, SETTING_RELOAD, "no range"},
    {"buffer", SETTING_BYTES, "64kB", 1024, 1 << 30, 0, "a buffer"},
    {"name", SETTING_TEXT, NULL, 0, 0, SETTING_RELOAD, "a | text"},
    {0}};
static const struct setting shared_settings[] = {
    {"amqp", SETTING_URI, "amqp://guest:guest@127.0.0.1/", 0, 0, SETTING_SECRET, "RabbitMQ"},
    {"postgres", SETTING_TEXT, "", 0, 0, SETTING_SECRET, "PostgreSQL"},
    {"verify", SETTING_BOOL, "on", 0, 0, 0, "check the certificate"},
    {"format", SETTING_CHOICE, "logfmt", 0, 0, SETTING_RELOAD, "of the log", "logfmt|json|log"},
    {"listen", SETTING_ADDRESS, NULL, 0, 0, 0, "HTTP"},
    {0}};
static const struct setting *const tables[] = {program_settings, shared_settings, NULL};

static struct config *config;
static char path[] = "/proc/self/fd/0000000000"; /* of the file in memory */
static int file = -1;

static int create(void **state)
{
    struct error error;

    (void)state;
    file = memfd_create("settings", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    return file < 0 || config_create(&config, tables, &error);
}

static int destroy(void **state)
{
    (void)state;
    config_destroy(config);
    config = NULL;
    close(file);
    return 0;
}

static void write_file_bytes(const char *text, size_t bytes)
{
    assert_int_equal(ftruncate(file, 0), 0);
    assert_int_equal(pwrite(file, text, bytes, 0), bytes);
}

static void write_file(const char *text)
{
    write_file_bytes(text, strlen(text));
}

/* Words are separated by spaces; FILE stands for the file's path. */
static int load(const char *line, const char *const *variables, struct error *error)
{
    static char words[1024];
    static char *argv[32];
    char *environment[8] = {NULL};
    int argc = 0, i;
    char *word, *rest = words;

    snprintf(words, sizeof(words), "program %s", line);
    while ((word = strtok_r(rest, " ", &rest)))
        argv[argc++] = strcmp(word, "FILE") == 0 ? path : word;
    for (i = 0; variables && variables[i]; i++)
        environment[i] = (char *)(uintptr_t)variables[i];
    return config_load(config, argc, argv, environment, error);
}

/* --- values --------------------------------------------------------------------------------- */

static void defaults(void **state)
{
    const char *const *words;

    (void)state;
    must(load("", NULL, &error));
    assert_int_equal(config_count(config, "window"), 2000);
    assert_int_equal(config_count(config, "offset"), -5);
    assert_int_equal(config_us(config, "lease-ttl"), 5000000);
    assert_int_equal(config_count(config, "buffer"), 65536);
    assert_null(config_text(config, "name"));
    assert_true(config_bool(config, "verify"));
    assert_string_equal(config_text(config, "amqp"), "amqp://guest:guest@127.0.0.1/");
    assert_false(config_is_set(config, "amqp"));
    assert_null(config_file(config));
    assert_false(config_wants_help(config));
    assert_false(config_wants_version(config));
    assert_int_equal(config_positional(config, &words), 0);
    must(config_reload(config, &error)); /* without a file: nothing */
}

static void flags_in_both_forms(void **state)
{
    const char *const *words;

    (void)state;
    must(load("saga --window 7 list --verify=off --lease-ttl=1min --name=--x - -- --window a", NULL,
              &error));
    assert_int_equal(config_count(config, "window"), 7);
    assert_int_equal(config_us(config, "lease-ttl"), 60000000);
    assert_string_equal(config_text(config, "name"), "--x");
    assert_false(config_bool(config, "verify"));
    assert_true(config_is_set(config, "verify"));
    assert_int_equal(config_positional(config, &words), 5);
    assert_string_equal(words[0], "saga");
    assert_string_equal(words[1], "list");
    assert_string_equal(words[2], "-");
    assert_string_equal(words[3], "--window");
    assert_string_equal(words[4], "a");
}

static void a_switch_stands_alone(void **state)
{
    const char *const *words;

    (void)state;
    must(load("--verify=no --verify off", NULL, &error)); /* the last one counts */
    assert_true(config_bool(config, "verify"));
    assert_int_equal(config_positional(config, &words), 1);
    assert_string_equal(words[0], "off");
}

static void stronger_sources_win(void **state)
{
    static const char *const variables[] = {"SAGAPOST_WINDOW=20",  "SAGAPOST_LEASE_TTL=2s",
                                            "SAGAPOST_NAME=",      "SAGAPOST_OTHER=x",
                                            "SAGAPOST_WINDOW_2=x", NULL};

    (void)state;
    write_file("window = 30\nlease-ttl = 3s\nbuffer = 2kB\nname = file\n");
    must(load("--config FILE --window 10", variables, &error));
    assert_int_equal(config_count(config, "window"), 10);
    assert_int_equal(config_us(config, "lease-ttl"), 2000000);
    assert_int_equal(config_count(config, "buffer"), 2048);
    assert_string_equal(config_text(config, "name"), "file"); /* an empty variable is none */
    assert_string_equal(config_file(config), path);
}

static void the_file_is_named_by_a_variable(void **state)
{
    char variable[64];
    const char *variables[] = {variable, NULL};

    (void)state;
    snprintf(variable, sizeof(variable), "SAGAPOST_CONFIG=%s", path);
    write_file("window = 30\n");
    must(load("", variables, &error));
    assert_int_equal(config_count(config, "window"), 30);
}

static void units(void **state)
{
    static const struct {
        const char *name, *text;
        int64_t number;
    } cases[] = {
        {"pause", "250ms", 250000},
        {"pause", "5s", 5000000},
        {"pause", "2 min", 120000000},
        {"pause", "1h", 3600000000},
        {"pause", "17", 17000},
        {"pause", "-1", -1000},
        {"buffer", "1024", 1024},
        {"buffer", "64kB", 65536},
        {"buffer", "3MB", 3 << 20},
        {"buffer", "1GB", 1 << 30},
        {"window", "1", 1},
        {"window", "65535", 65535},
        {"window", "007", 7},
        {"offset", "9223372036854775807", INT64_MAX},
        {"offset", "-9223372036854775808", INT64_MIN},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(cases); i++) {
        char text[96];
        int64_t number;
        snprintf(text, sizeof(text), "%s = %s\n", cases[i].name, cases[i].text);
        write_file(text);
        destroy(NULL);
        create(NULL);
        write_file(text);
        must(load("--config FILE", NULL, &error));
        number = strcmp(cases[i].name, "pause") == 0 ? config_us(config, "pause")
                                                     : config_count(config, cases[i].name);
        assert_true(number == cases[i].number);
    }
}

static void words_for_yes_and_no(void **state)
{
    static const char *const words[] = {"off", "on", "false", "TRUE", "no", "yes", "0", "1"};
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(words); i++) {
        char flag[32];
        snprintf(flag, sizeof(flag), "--verify=%s", words[i]);
        destroy(NULL);
        create(NULL);
        must(load(flag, NULL, &error));
        assert_int_equal(config_bool(config, "verify"), i & 1);
    }
}

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
        {"--amqp=http://h/", "must be an amqp:// or amqps:// URI; the value is not shown"},
        {"--amqp=amqp://", "must be an amqp:// or amqps:// URI"},
        {"--name=a\x01"
         "b",
         "--name: holds a control character (byte 0x01 at offset 1)"},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(cases); i++) {
        destroy(NULL);
        create(NULL);
        must_fail(load(cases[i].line, NULL, &error), ERROR_USAGE, RETRY_NEVER, cases[i].message);
        destroy(NULL);
        create(NULL);
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
    destroy(NULL);
    create(NULL);
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
        destroy(NULL);
        create(NULL);
        assert_int_equal(load(bad[i], NULL, &error), ERROR_USAGE);
        assert_int_equal(error.retry, RETRY_NEVER);
        assert_contains(error.message, "holds a password");
        assert_contains(error.message, "SAGAPOST_");
        assert_lacks(error.message, "hunter2");
    }
    for (i = 0; i < COUNT_OF(good); i++) {
        destroy(NULL);
        create(NULL);
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
    destroy(NULL);
    create(NULL);
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

static const struct setting required_settings[] = {
    {"share", SETTING_COUNT, NULL, 0, 9, SETTING_REQUIRED | SETTING_RELOAD, "which"}, {0}};
static const struct setting *const required_tables[] = {required_settings, NULL};

static void what_is_required(void **state)
{
    char *argv[] = {(char *)(uintptr_t) "p", (char *)(uintptr_t) "--share=3", path, NULL};
    char config_flag[64];

    (void)state;
    destroy(NULL);
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
        destroy(NULL);
        create(NULL);
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
        destroy(NULL);
        create(NULL);
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
    destroy(NULL);
    create(NULL);
    /* 8 KiB of a value are fine ... */
    memset(text, 'x', 300000);
    memcpy(text, "name = ", 7);
    write_file_bytes(text, 7 + 8192);
    must(load("--config FILE", NULL, &error));
    assert_int_equal(strlen(config_text(config, "name")), 8192);
    destroy(NULL);
    create(NULL);
    write_file_bytes(text, 7 + 8193);
    must_fail(load("--config FILE", NULL, &error), ERROR_USAGE, RETRY_NEVER,
              ":1: name: must be at most 8192 bytes long");
    destroy(NULL);
    create(NULL);
    /* ... a line of 16 KiB is not, nor is it taken for two. */
    write_file_bytes(text, 20000);
    must_fail(load("--config FILE", NULL, &error), ERROR_USAGE, RETRY_NEVER,
              ":1: a line must be shorter than 16384 bytes");
    destroy(NULL);
    create(NULL);
    write_file_bytes(text, 300000);
    must_fail(load("--config FILE", NULL, &error), ERROR_USAGE, RETRY_NEVER,
              "is larger than 262144 bytes");
    destroy(NULL);
    create(NULL);
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
    destroy(NULL);
    create(NULL);
    must_fail(load("--config=/", NULL, &error), ERROR_SYSTEM, RETRY_NEVER, "reading /: Is a");
    destroy(NULL);
    create(NULL);
    write_file("window = 9\n");
    fault_arm("read", 1, EINTR);
    must(load("--config FILE", NULL, &error));
    assert_true(fault_disarm());
    assert_int_equal(config_count(config, "window"), 9);
}

/* --- reload --------------------------------------------------------------------------------- */

static void reload_takes_over_what_may_change(void **state)
{
    static const char *const variables[] = {"SAGAPOST_FORMAT=json", NULL};

    (void)state;
    write_file("window = 5\nbuffer = 1kB\nlease-ttl = 1s\nformat = logfmt\nname = one\n");
    must(load("--config FILE --pause 3", variables, &error));
    write_file("window = 6\nbuffer = 2kB\nlease-ttl = 2s\nformat = logfmt\npause = 4\n"
               "listen = :1\n");
    must(config_reload(config, &error));
    assert_int_equal(config_count(config, "window"), 6);
    assert_int_equal(config_count(config, "buffer"), 1024);     /* not marked for it */
    assert_int_equal(config_us(config, "pause"), 3000);         /* a flag is stronger */
    assert_string_equal(config_text(config, "format"), "json"); /* and so is a variable */
    assert_null(config_text(config, "name"));                   /* back to its default */
    assert_string_equal(config_reload_ignored(config), "lease-ttl, buffer, listen");
    write_file("buffer = 1kB\nlease-ttl = 1s\n");
    must(config_reload(config, &error));
    assert_int_equal(config_count(config, "window"), 2000);
    assert_null(config_reload_ignored(config));
}

static void reload_is_all_or_nothing(void **state)
{
    (void)state;
    write_file("window = 5\nname = one\n");
    must(load("--config FILE", NULL, &error));
    write_file("window = 6\nname = two\nformat = xml\n");
    must_fail(config_reload(config, &error), ERROR_USAGE, RETRY_NEVER, ":3: format: must be");
    assert_int_equal(config_reload(config, NULL), ERROR_USAGE);
    assert_int_equal(config_count(config, "window"), 5);
    assert_string_equal(config_text(config, "name"), "one");
    write_file("window = 6\nbuffer = x\n"); /* wrong, though it would not be taken over */
    must_fail(config_reload(config, &error), ERROR_USAGE, RETRY_NEVER, ":2: buffer: must be");
    assert_int_equal(config_count(config, "window"), 5);
}

/* --- help ----------------------------------------------------------------------------------- */

static const char *printed_help(const char *usage)
{
    static char text[16384];
    FILE *out = fmemopen(text, sizeof(text), "w");

    config_print_help(config, out, usage);
    fclose(out);
    return text;
}

static void help_wins_over_mistakes(void **state)
{
    const char *help;

    (void)state;
    must(load("--window=x --nonsense -h --config=/nonexistent/x", NULL, &error));
    assert_true(config_wants_help(config));
    help = printed_help("usage: program");
    assert_memory_equal(help, "usage: program\n\n", 16);
    assert_contains(help, "  --window COUNT\n      messages in flight\n      an integer from 1 to "
                          "65535; default 2000; taken over on HUP\n");
    assert_contains(help, "  --lease-ttl DURATION\n");
    assert_contains(help, "  --buffer SIZE\n");
    assert_contains(help, "  --verify[=on|off]\n      check the certificate\n      on or off; "
                          "default on\n");
    assert_contains(help, "  --format CHOICE\n      of the log\n      one of: logfmt, json, log;");
    assert_contains(help, "  --amqp URI\n");
    assert_contains(help, "a password is refused here");
    assert_contains(help, "  --listen ADDRESS\n");
    assert_contains(help, "  --config TEXT\n");
    assert_contains(help, "  --help\n");
    assert_lacks(help, "default \n"); /* '' is no default worth a word */
    assert_memory_equal(printed_help("two\nlines\n"), "two\nlines\n\nEach", 15);
    assert_memory_equal(printed_help(""), "\nEach", 5);
}

static void help_says_what_is_required(void **state)
{
    (void)state;
    config_destroy(config);
    must(config_create(&config, required_tables, &error));
    must(load("--help=markdown", NULL, &error));
    assert_true(config_wants_help(config));
    assert_contains(printed_help("x"),
                    "| `share` | an integer from 0 to 9 | required | yes | which |\n");
    config_destroy(config);
    must(config_create(&config, required_tables, &error));
    must(load("--help", NULL, &error));
    assert_contains(printed_help("x"), "an integer from 0 to 9; required; taken over on HUP\n");
}

static void version_wins_too(void **state)
{
    (void)state;
    must(load("--version --nonsense", NULL, &error));
    assert_true(config_wants_version(config));
    assert_false(config_wants_help(config));
}

static void wishes_end_with_the_flags(void **state)
{
    (void)state;
    must(load("-- --help --version", NULL, &error));
    assert_false(config_wants_help(config));
    assert_false(config_wants_version(config));
}

static void markdown_is_a_table(void **state)
{
    const char *text;

    (void)state;
    must(load("--help=markdown", NULL, &error));
    text = printed_help("not shown");
    assert_memory_equal(text, "| setting |", 11);
    assert_contains(text, "| `window` | an integer from 1 to 65535 | `2000` | yes | messages in "
                          "flight |\n");
    assert_contains(text, "| `name` | a text |  | yes | a \\| text |\n");
    assert_contains(text, "| `format` | one of: logfmt, json, log | `logfmt` |");
}

/* --- for the log ---------------------------------------------------------------------------- */

static void on_given(void *data, const char *name, const char *text, const char *source)
{
    char *out = data;

    sprintf(out + strlen(out), "%s=%s(%s) ", name, text ? text : "?", source);
}

static void given_settings_are_listed(void **state)
{
    static const char *const variables[] = {"SAGAPOST_POSTGRES=password=x", "SAGAPOST_PAUSE=7",
                                            NULL};
    char given[512] = "", expected[512];

    (void)state;
    write_file("name = n\n");
    must(load("--config FILE --window=3", variables, &error));
    config_each_given(config, on_given, given);
    snprintf(expected, sizeof(expected),
             "config=%s(flag) window=3(flag) pause=7(variable) name=n(file) postgres=?(variable) ",
             path);
    assert_string_equal(given, expected);
}

/* --- without memory ------------------------------------------------------------------------- */

static int scenario(struct error *error)
{
    int result;

    config_destroy(config);
    config = NULL;
    result = config_create(&config, tables, error);
    if (!result) {
        write_file("window = 5\nname = one\nbuffer = 1kB\n");
        result = load("--config FILE --pause 3", NULL, error);
    }
    if (!result) {
        write_file("window = 6\nname = two\nbuffer = 2kB\n");
        result = config_reload(config, error);
        /* The list of what was ignored is only for the log, and may be short. */
        if (!result && !config_reload_ignored(config))
            result = error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no list");
    }
    return result;
}

static void without_memory(void **state)
{
    (void)state;
    assert_true(each_allocation_fails(scenario) > 20);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(defaults),
        TEST(flags_in_both_forms),
        TEST(a_switch_stands_alone),
        TEST(stronger_sources_win),
        TEST(the_file_is_named_by_a_variable),
        TEST(units),
        TEST(words_for_yes_and_no),
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
        TEST(reload_takes_over_what_may_change),
        TEST(reload_is_all_or_nothing),
        TEST(help_wins_over_mistakes),
        TEST(help_says_what_is_required),
        TEST(version_wins_too),
        TEST(wishes_end_with_the_flags),
        TEST(markdown_is_a_table),
        TEST(given_settings_are_listed),
        TEST(without_memory),
    };

    return cmocka_run_group_tests_name("runtime config", tests, NULL, NULL);
}
