/* config: flags, variables, file, their order, reload, help. */
#include "config_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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
        config_test_destroy(NULL);
        config_test_create(NULL);
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
        config_test_destroy(NULL);
        config_test_create(NULL);
        must(load(flag, NULL, &error));
        assert_int_equal(config_bool(config, "verify"), i & 1);
    }
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
    result = config_create(&config, config_tables, error);
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
