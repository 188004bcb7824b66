#include "saga/worker/settings.h"
#include "worker_test.h"

#include "outbox/runtime/clock.h"
#include "outbox/runtime/daemon.h"
#include <stdio.h>
#include <string.h>

static int load(struct settings *settings, const char *flag, const char *value, struct error *error)
{
    static const struct setting *const tables[] = {worker_settings, connection_settings,
                                                   daemon_settings, NULL};
    char name[] = "saga-worker";
    char given_flag[64];
    char given_value[256];
    char *arguments[] = {name, given_flag, given_value, NULL};
    char *environment[] = {NULL};
    struct config *config;
    assert_int_equal(config_create(&config, tables, error), 0);
    if (flag) {
        (void)snprintf(given_flag, sizeof given_flag, "%s", flag);
        (void)snprintf(given_value, sizeof given_value, "%s", value);
    } else {
        arguments[1] = NULL;
    }
    int rc = config_load(config, flag ? 3 : 1, arguments, environment, error);
    if (rc == 0) {
        rc = settings_read(config, settings, error);
    }
    config_destroy(config);
    return rc;
}

static void defaults(void **state)
{
    (void)state;
    struct settings settings = {0};
    struct error error;
    assert_int_equal(load(&settings, NULL, NULL, &error), 0);
    assert_true(settings.orchestrate && settings.execute);
    assert_int_equal(settings.pattern_count, 0);
    assert_int_equal(settings.command_batch, 32);
    assert_int_equal(settings.gauges_us, 0);
    assert_true(settings_serve(&settings, "inventory"));
}

static void gauges_with_listen(void **state)
{
    (void)state;
    struct settings settings = {0};
    struct error error;
    assert_int_equal(load(&settings, "--listen", ":0", &error), 0);
    assert_int_equal(settings.gauges_us, 15 * US_PER_S);
}

static void roles(void **state)
{
    (void)state;
    struct settings settings = {0};
    struct error error;
    assert_int_equal(load(&settings, "--roles", " execute ", &error), 0);
    assert_true(settings.execute && !settings.orchestrate);
    assert_int_equal(load(&settings, "--roles", "orchestrate, execute", &error), 0);
    static const char *const bad[] = {"", "orchestra", "orchestrate,,execute", "all",
                                      "a role with a very long name"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(load(&settings, "--roles", bad[i], &error), ERROR_USAGE);
        assert_non_null(strstr(error.message, "roles"));
    }
}

static void actions(void **state)
{
    (void)state;
    struct settings settings = {0};
    struct error error;
    assert_int_equal(load(&settings, "--actions", "inventory.*, pay*.*", &error), 0);
    assert_int_equal(settings.pattern_count, 2);
    assert_true(settings_serve(&settings, "inventory"));
    assert_true(settings_serve(&settings, "payment"));
    assert_false(settings_serve(&settings, "shipping"));
    assert_string_equal(settings_named_participant(&settings, 0), "inventory");
    assert_null(settings_named_participant(&settings, 1));
    assert_int_equal(load(&settings, "--actions", "*", &error), 0);
    assert_true(settings_serve(&settings, "anything"));
    /* A queue holds all actions of its participant: one verb cannot be picked. */
    static const char *const bad[] = {"inventory.reserve", "inventory", ".*",
                                      "Inventory.*",       "a.b.*",     "x,"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(load(&settings, "--actions", bad[i], &error), ERROR_USAGE);
        assert_non_null(strstr(error.message, "actions"));
    }
}

static void a_reply_fits_into_a_batch(void **state)
{
    (void)state;
    struct settings settings = {0};
    struct error error;
    assert_int_equal(load(&settings, "--body-bytes-max", "64MB", &error), ERROR_USAGE);
    assert_non_null(strstr(error.message, "batch-bytes-max"));
}

static void reload_keeps_what_needs_a_restart(void **state)
{
    (void)state;
    struct settings settings = {0};
    struct settings fresh = {0};
    struct error error;
    assert_int_equal(load(&settings, "--roles", "execute", &error), 0);
    assert_int_equal(load(&fresh, "--command-batch", "8", &error), 0);
    settings_reload(&settings, &fresh);
    assert_int_equal(settings.command_batch, 8);
    assert_int_equal(settings.batch_pause_us, 2000);
    assert_int_equal(load(&fresh, "--batch-pause", "0", &error), 0);
    settings_reload(&settings, &fresh);
    assert_int_equal(settings.batch_pause_us, 0);
    assert_false(settings.orchestrate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(gauges_with_listen),
        cmocka_unit_test(roles),
        cmocka_unit_test(actions),
        cmocka_unit_test(a_reply_fits_into_a_batch),
        cmocka_unit_test(reload_keeps_what_needs_a_restart),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
