#include "outbox/runtime/daemon.h"

#include "outbox/runtime/log.h"
#include "outbox/runtime/streams.h"
#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

enum {
    EXIT_STOPPED = 0,
    EXIT_MAY_RESTART = 1,
    EXIT_NEEDS_A_PERSON = 2,
};

struct daemon {
    struct daemon_context context; /* what the program sees of it */
    const struct daemon_program *program;
    struct admin *admin;
    struct loop_timer *watchdog;
    int64_t watchdog_us;
    bool draining;
    int status;
};

const struct setting connection_settings[] = {
    {"postgres", SETTING_TEXT, "", 0, 0, SETTING_SECRET,
     "PostgreSQL: libpq conninfo or URI; what it leaves out comes from PG* variables and service "
     "files"},
    {"amqp", SETTING_URI, "amqp://guest:guest@127.0.0.1:5672/", 0, 0, SETTING_SECRET,
     "RabbitMQ; the nodes of a cluster as several URIs, separated by commas, are tried in turn"},
    {"amqp-ca-file", SETTING_TEXT, NULL, 0, 0, 0,
     "PEM file of the CAs that may sign RabbitMQ's certificate; the system's when not set"},
    {"amqp-certificate-file", SETTING_TEXT, NULL, 0, 0, 0,
     "PEM file of the certificate shown to RabbitMQ"},
    {"amqp-key-file", SETTING_TEXT, NULL, 0, 0, 0, "PEM file of its private key"},
    {"amqp-verify", SETTING_BOOL, "on", 0, 0, 0,
     "with amqps: check RabbitMQ's certificate and its host name"},
    {"amqp-heartbeat", SETTING_MILLIS, "30s", 1000, 600000, 0,
     "a RabbitMQ that is silent for two of these is taken for gone; whole seconds"},
    {"connect-timeout", SETTING_MILLIS, "10s", 100, 300000, 0,
     "for one attempt to connect to PostgreSQL or RabbitMQ"},
    {"backoff-base", SETTING_MILLIS, "100ms", 10, 60000, 0,
     "the first pause after a lost connection; it doubles with each failure"},
    {"backoff-cap", SETTING_MILLIS, "5s", 10, 600000, 0, "the longest pause between attempts"},
    {0}};

const struct setting daemon_settings[] = {
    {"listen", SETTING_ADDRESS, NULL, 0, 0, 0,
     "address of /metrics, /livez and /readyz; off when not set"},
    {"log-level", SETTING_CHOICE, "info", 0, 0, SETTING_RELOAD, "the least level that is logged",
     "debug|info|warn|error"},
    {"log-format", SETTING_CHOICE, "logfmt", 0, 0, SETTING_RELOAD, "the form of a log line",
     "logfmt|json"},
    {0}};

/* --- settings ------------------------------------------------------------------------------- */

static enum log_level level_of(const char *name)
{
    static const char *const names[] = {"debug", "info", "warn"};
    unsigned i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return (enum log_level)i;
    return LOG_LEVEL_ERROR;
}

static void configure_log(const struct config *config)
{
    bool json = strcmp(config_text(config, "log-format"), "json") == 0;

    log_configure(level_of(config_text(config, "log-level")),
                  json ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT, STDERR_FILENO);
}

static void log_given(void *data, const char *name, const char *text, const char *source)
{
    (void)data;
    log_info("setting", LOG_STR("name", name), LOG_STR("value", text ? text : "(not shown)"),
             LOG_STR("source", source));
}

static int status_of(const struct error *failure)
{
    return failure->retry == RETRY_NEVER || failure->code == ERROR_USAGE ? EXIT_NEEDS_A_PERSON
                                                                         : EXIT_MAY_RESTART;
}

/* A mistake on the command line is answered where it was made: plainly, on standard error. */
static int refuse_settings(const struct daemon *daemon, const struct error *error)
{
    fprintf(stderr, "%s: %s\n", daemon->program->name, error->message);
    return status_of(error);
}

static int refuse_words(const struct daemon *daemon)
{
    /* The word itself may be a URI with a password, so it is not repeated. */
    fprintf(stderr, "%s: takes flags only, and one word is none; see --help\n",
            daemon->program->name);
    return EXIT_NEEDS_A_PERSON;
}

/* True when the daemon is to run; otherwise daemon->status is the exit status. */
static bool load_settings(struct daemon *daemon, int argc, char **argv)
{
    const struct setting *const tables[] = {daemon->program->settings, connection_settings,
                                            daemon_settings, NULL};
    const char *const *words;
    struct error error = {0};
    struct config *config;

    if (config_create(&daemon->context.config, tables, &error) ||
        config_load(daemon->context.config, argc, argv, environ, &error)) {
        daemon->status = refuse_settings(daemon, &error);
        return false;
    }
    config = daemon->context.config;
    if (config_wants_help(config))
        config_print_help(config, stdout, daemon->program->usage);
    else if (config_wants_version(config))
        printf("%s (Sagapost) %s\n", daemon->program->name, SAGAPOST_VERSION);
    else if (config_positional(config, &words))
        daemon->status = refuse_words(daemon);
    else
        return true;
    if (fflush(stdout))
        daemon->status = EXIT_MAY_RESTART;
    return false;
}

/* --- signals -------------------------------------------------------------------------------- */

static void on_stop_signal(void *data, int signo)
{
    struct daemon *daemon = data;

    if (daemon->draining) {
        log_warn("stopping at once", LOG_STR("signal", sigabbrev_np(signo)));
        daemon->status = EXIT_MAY_RESTART;
        loop_stop(daemon->context.loop);
        return;
    }
    daemon->draining = true;
    log_info("draining", LOG_STR("signal", sigabbrev_np(signo)));
    (void)sd_notify(0, "STOPPING=1");
    daemon->program->drain(&daemon->context);
}

static void reload(struct daemon *daemon)
{
    struct error error = {0};

    if (config_reload(daemon->context.config, &error)) {
        log_failure(LOG_LEVEL_ERROR, "settings stay as they were", &error);
        return;
    }
    configure_log(daemon->context.config);
    if (daemon->program->reload)
        daemon->program->reload(&daemon->context);
    if (config_reload_ignored(daemon->context.config))
        log_warn("settings wait for a restart",
                 LOG_STR("names", config_reload_ignored(daemon->context.config)));
    log_info("settings reloaded");
}

static void on_reload_signal(void *data, int signo)
{
    struct daemon *daemon = data;

    (void)signo;
    /* READY=1 after STOPPING=1 would be a lie. */
    if (daemon->draining)
        return;
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
                     clock_monotonic_us(loop_clock(daemon->context.loop)));
    reload(daemon);
    (void)sd_notify(0, "READY=1");
}

static int add_signals(struct daemon *daemon, struct error *error)
{
    struct loop *loop = daemon->context.loop;
    int result = loop_signal_add(loop, SIGTERM, on_stop_signal, daemon, error);

    if (!result)
        result = loop_signal_add(loop, SIGINT, on_stop_signal, daemon, error);
    if (!result)
        result = loop_signal_add(loop, SIGHUP, on_reload_signal, daemon, error);
    return result;
}

/* --- watchdog ------------------------------------------------------------------------------- */

/* That the loop turned to call this is the proof of life. */
static void on_watchdog(void *data)
{
    struct daemon *daemon = data;

    (void)sd_notify(0, "WATCHDOG=1");
    loop_timer_arm_in(daemon->watchdog, daemon->watchdog_us / 2);
}

static int start_watchdog(struct daemon *daemon, struct error *error)
{
    uint64_t timeout_us = 0;
    int result;

    if (sd_watchdog_enabled(0, &timeout_us) <= 0)
        return 0;
    daemon->watchdog_us = timeout_us > INT64_MAX ? INT64_MAX : (int64_t)timeout_us;
    result = loop_timer_create(daemon->context.loop, on_watchdog, daemon, &daemon->watchdog, error);
    if (!result)
        loop_timer_arm_in(daemon->watchdog, daemon->watchdog_us / 2);
    return result;
}

/* --- life ----------------------------------------------------------------------------------- */

static int open_admin(struct daemon *daemon, struct error *error)
{
    const struct admin_options options = {
        .listen = config_text(daemon->context.config, "listen"),
        .metrics = daemon->context.metrics,
        .refresh = daemon->program->refresh,
        .ready = daemon->program->ready,
        .data = &daemon->context,
    };
    int result;

    if (!options.listen)
        return 0;
    result = admin_create(&daemon->admin, daemon->context.loop, &options, error);
    if (!result)
        log_info("listening", LOG_STR("address", options.listen),
                 LOG_INT("port", admin_port(daemon->admin)));
    return result;
}

static int start(struct daemon *daemon, struct error *error)
{
    int result = loop_create(&daemon->context.loop, &clock_system, error);

    if (!result)
        result = add_signals(daemon, error);
    if (!result)
        result = metrics_create(&daemon->context.metrics, error);
    if (!result)
        result = open_admin(daemon, error);
    if (!result)
        result = start_watchdog(daemon, error);
    if (!result)
        result = daemon->program->start(&daemon->context, error);
    return result;
}

static void run(struct daemon *daemon)
{
    struct error error = {0};

    log_info("starting", LOG_STR("program", daemon->program->name),
             LOG_STR("version", SAGAPOST_VERSION), LOG_INT("pid", getpid()));
    config_each_given(daemon->context.config, log_given, NULL);
    if (start(daemon, &error)) {
        log_failure(LOG_LEVEL_ERROR, "cannot start", &error);
        daemon->status = status_of(&error);
    } else {
        (void)sd_notify(0, "READY=1");
        if (loop_run(daemon->context.loop, &error)) {
            log_failure(LOG_LEVEL_ERROR, "the loop failed", &error);
            daemon->status = EXIT_MAY_RESTART;
        }
    }
    admin_destroy(daemon->admin);
    if (daemon->context.state)
        daemon->program->stop(&daemon->context);
    log_info("stopped", LOG_INT("status", daemon->status));
}

int daemon_main(const struct daemon_program *program, int argc, char **argv)
{
    struct daemon daemon = {.program = program, .context.program = program->name};

    if (streams_occupy() < 0)
        return EXIT_MAY_RESTART;
    if (load_settings(&daemon, argc, argv)) {
        configure_log(daemon.context.config);
        /* A connection that is gone is an error of write(2), not the end of the process. */
        (void)signal(SIGPIPE, SIG_IGN);
        run(&daemon);
    }
    metrics_destroy(daemon.context.metrics);
    loop_destroy(daemon.context.loop);
    config_destroy(daemon.context.config);
    return daemon.status;
}

void daemon_finished(struct daemon_context *context, const struct error *failure)
{
    struct daemon *daemon = (struct daemon *)context; /* its first member */

    if (failure) {
        log_failure(LOG_LEVEL_ERROR, "giving up", failure);
        daemon->status = status_of(failure);
    }
    loop_stop(context->loop);
}
