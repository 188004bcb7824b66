/* daemon: a small program lives and ends as a child, watched by its log, its status and what it
 * tells systemd. */
#include "runtime_test.h"

#include "outbox/runtime/daemon.h"
#include "outbox/runtime/log.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- the program ---------------------------------------------------------------------------- */

static struct {
    enum error_retry start_fails, finish_fails; /* RETRY_NONE: it does not */
    bool fails_before_state;
    bool finishes_at_start;
    bool drain_lasts;
    bool no_reload;
    const char *fault;
    int fault_nth;
} mode;

static int on_start(struct daemon_context *context, struct error *error)
{
    struct error failure;
    int ends[2];

    assert_string_equal(context->program, "tester");
    if (!mode.fails_before_state)
        context->state = &mode;
    if (mode.start_fails)
        return error_set(error, ERROR_STATE, mode.start_fails, "no start today");
    /* A peer that went away must not end the process. */
    if (pipe(ends) == 0) {
        close(ends[0]);
        log_info("wrote", LOG_INT("result", write(ends[1], "x", 1)));
        close(ends[1]);
    }
    if (mode.finish_fails) {
        error_set(&failure, ERROR_STATE, mode.finish_fails, "it broke");
        daemon_finished(context, &failure);
    }
    if (mode.finishes_at_start)
        daemon_finished(context, NULL);
    return 0;
}

static void on_drain(struct daemon_context *context)
{
    log_info("program drains");
    if (!mode.drain_lasts)
        daemon_finished(context, NULL);
}

static void on_reload(struct daemon_context *context)
{
    log_info("program reloads", LOG_INT("window", config_count(context->config, "window")));
}

static void on_refresh(void *context)
{
    assert_non_null(((struct daemon_context *)context)->metrics);
    log_info("program refreshes");
}

static bool on_ready(void *context, struct buffer *ret_reasons)
{
    assert_ptr_equal(((struct daemon_context *)context)->state, &mode);
    buffer_append_text(ret_reasons, "amqp: away\n");
    return false;
}

static void on_stop(struct daemon_context *context)
{
    assert_non_null(context->loop);
    log_info("program stops");
}

static const struct setting program_settings[] = {
    {"window", SETTING_COUNT, "10", 1, 100, SETTING_RELOAD, "a number"},
    {"other", SETTING_COUNT, "10", 1, 100, 0, "another"},
    {0}};

static struct daemon_program program(void)
{
    return (struct daemon_program){
        .name = "tester",
        .usage = "tester: tests",
        .settings = program_settings,
        .start = on_start,
        .drain = on_drain,
        .reload = mode.no_reload ? NULL : on_reload,
        .refresh = on_refresh,
        .ready = on_ready,
        .stop = on_stop,
    };
}

/* --- its parent ----------------------------------------------------------------------------- */

static struct {
    pid_t pid;
    int out, log, settings, notify; /* stdout, stderr, a settings file, systemd's socket */
    char told[8192];                /* everything systemd was told, a ';' behind each */
    char settings_path[64];
} child;

static int open_child(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t bytes;

    (void)state;
    memset(&mode, 0, sizeof(mode));
    memset(&child, 0, sizeof(child));
    child.out = memfd_create("out", 0);
    child.log = memfd_create("log", 0);
    child.settings = memfd_create("settings", 0);
    /* So that emptying them starts them from the front again. */
    fcntl(child.out, F_SETFL, O_APPEND);
    fcntl(child.log, F_SETFL, O_APPEND);
    snprintf(child.settings_path, sizeof(child.settings_path), "/proc/%d/fd/%d", (int)getpid(),
             child.settings);
    snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "sagapost-test-%d", (int)getpid());
    bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(address.sun_path + 1));
    child.notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(child.notify, (struct sockaddr *)&address, bytes))
        return -1;
    address.sun_path[0] = '@';
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    unsetenv("WATCHDOG_USEC");
    return 0;
}

static int close_child(void **state)
{
    (void)state;
    if (child.pid) { /* a test failed in the middle */
        kill(child.pid, SIGKILL);
        waitpid(child.pid, NULL, 0);
    }
    close(child.out);
    close(child.log);
    close(child.settings);
    close(child.notify);
    return 0;
}

/* Words are separated by spaces. */
static void run(const char *line)
{
    static char words[1024];
    static char *argv[16];
    char *word, *rest = words;
    int argc = 0, status;

    snprintf(words, sizeof(words), "tester %s", line);
    while ((word = strtok_r(rest, " ", &rest)))
        argv[argc++] = word;
    fflush(NULL);
    child.pid = fork();
    if (child.pid == 0) {
        const struct daemon_program tester = program();
        dup2(child.out, STDOUT_FILENO);
        dup2(child.log, STDERR_FILENO);
        if (mode.fault)
            fault_arm(mode.fault, mode.fault_nth, EBADF);
        status = daemon_main(&tester, argc, argv);
        fault_disarm(); /* what runs at exit is not meant */
        exit(status);
    }
}

static int wait_for_end(void)
{
    int status;

    assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
    child.pid = 0;
    if (!WIFEXITED(status))
        fail_msg("the child was killed by signal %d: %s", WTERMSIG(status), read_back(child.log));
    return WEXITSTATUS(status);
}

static const char *printed(void)
{
    return read_back(child.out);
}

static const char *logged(void)
{
    return read_back(child.log);
}

static void wait_for_log(const char *part)
{
    struct deadline deadline = deadline_start();

    while (!strstr(logged(), part)) {
        usleep(1000);
        deadline_check(&deadline, part);
    }
}

static const char *told(void)
{
    char message[512];
    ssize_t bytes;

    while ((bytes = recv(child.notify, message, sizeof(message) - 1, MSG_DONTWAIT)) > 0) {
        message[bytes] = 0;
        snprintf(child.told + strlen(child.told), sizeof(child.told) - strlen(child.told), "%s;",
                 message);
    }
    return child.told;
}

static void wait_for_told(const char *part)
{
    struct deadline deadline = deadline_start();

    while (!strstr(told(), part)) {
        usleep(1000);
        deadline_check(&deadline, part);
    }
}

static void write_settings(const char *text)
{
    assert_int_equal(ftruncate(child.settings, 0), 0);
    assert_int_equal(pwrite(child.settings, text, strlen(text), 0), strlen(text));
}

/* --- before it lives ------------------------------------------------------------------------ */

static void help_and_version(void **state)
{
    (void)state;
    run("--help");
    assert_int_equal(wait_for_end(), 0);
    assert_contains(printed(), "tester: tests\n");
    assert_contains(printed(), "  --window COUNT\n");
    assert_contains(printed(), "  --postgres TEXT\n");
    assert_contains(printed(), "  --log-level CHOICE\n");
    assert_string_equal(logged(), "");
    assert_int_equal(ftruncate(child.out, 0), 0);
    run("--version");
    assert_int_equal(wait_for_end(), 0);
    assert_contains(printed(), "tester (Sagapost) " SAGAPOST_VERSION "\n");
    mode.fault = "fflush";
    mode.fault_nth = 1;
    run("--version");
    assert_int_equal(wait_for_end(), 1);
}

static void wrong_settings(void **state)
{
    (void)state;
    run("--window 0");
    assert_int_equal(wait_for_end(), 2);
    assert_string_equal(logged(), "tester: --window: must be an integer from 1 to 100, not '0'\n");
    run("--postgres=password=hunter2");
    assert_int_equal(wait_for_end(), 2);
    assert_contains(logged(), "--postgres holds a password");
    run("amqp://u:hunter2@h");
    assert_int_equal(wait_for_end(), 2);
    assert_contains(logged(), "takes flags only");
    assert_lacks(logged(), "hunter2");
    assert_string_equal(told(), "");
}

static void wrong_environment(void **state)
{
    (void)state;
    setenv("SAGAPOST_BACKOFF_CAP", "1 year", 1);
    run("");
    assert_int_equal(wait_for_end(), 2);
    unsetenv("SAGAPOST_BACKOFF_CAP");
    assert_contains(logged(), "SAGAPOST_BACKOFF_CAP: must be a duration");
}

/* --- life ----------------------------------------------------------------------------------- */

static void a_life(void **state)
{
    (void)state;
    setenv("SAGAPOST_AMQP", "amqp://u:hunter2@h/", 1);
    run("--window=7");
    unsetenv("SAGAPOST_AMQP");
    wait_for_told("READY=1;");
    kill(child.pid, SIGTERM);
    assert_int_equal(wait_for_end(), 0);
    assert_string_equal(told(), "READY=1;STOPPING=1;");
    assert_contains(logged(), "info msg=\"starting\" program=tester version=" SAGAPOST_VERSION);
    assert_contains(logged(), "msg=\"setting\" name=window value=7 source=flag\n");
    assert_contains(logged(), "msg=\"setting\" name=amqp value=\"(not shown)\" source=variable\n");
    assert_lacks(logged(), "hunter2");
    assert_contains(logged(), "msg=\"wrote\" result=-1\n"); /* SIGPIPE is ignored */
    assert_contains(logged(), "msg=\"draining\" signal=TERM\n");
    assert_contains(logged(), "msg=\"program drains\"\n");
    assert_contains(logged(), "msg=\"program stops\"\n");
    assert_contains(logged(), "msg=\"stopped\" status=0\n");
}

static void the_second_signal_stops_at_once(void **state)
{
    (void)state;
    mode.drain_lasts = true;
    run("--log-format=json");
    wait_for_told("READY=1;");
    kill(child.pid, SIGINT);
    wait_for_log("\"msg\":\"program drains\"");
    kill(child.pid, SIGHUP); /* is not answered any more */
    kill(child.pid, SIGTERM);
    assert_int_equal(wait_for_end(), 1);
    assert_string_equal(told(), "READY=1;STOPPING=1;");
    assert_contains(logged(),
                    "\"level\":\"warn\",\"msg\":\"stopping at once\",\"signal\":\"TERM\"}");
    assert_contains(logged(), "\"msg\":\"program stops\"");
    assert_contains(logged(), "\"msg\":\"stopped\",\"status\":1}");
    assert_lacks(logged(), "reload");
}

static void a_start_that_fails(void **state)
{
    (void)state;
    mode.start_fails = RETRY_LATER;
    run("");
    assert_int_equal(wait_for_end(), 1);
    assert_contains(logged(), "error msg=\"cannot start\" error=\"no start today\" sqlstate=- "
                              "amqp_code=0 retry=later\n");
    assert_contains(logged(), "msg=\"program stops\"\n"); /* it had a state */
    assert_contains(logged(), "msg=\"stopped\" status=1\n");
    mode.start_fails = RETRY_NEVER;
    mode.fails_before_state = true;
    assert_int_equal(ftruncate(child.log, 0), 0);
    run("");
    assert_int_equal(wait_for_end(), 2);
    assert_lacks(logged(), "program stops");
    assert_string_equal(told(), "");
}

static void a_program_that_gives_up(void **state)
{
    (void)state;
    mode.finish_fails = RETRY_RECONNECT;
    run("");
    assert_int_equal(wait_for_end(), 1);
    assert_contains(logged(), "error msg=\"giving up\" error=\"it broke\"");
    mode.finish_fails = RETRY_NEVER;
    run("");
    assert_int_equal(wait_for_end(), 2);
    mode.finish_fails = RETRY_NONE;
    mode.finishes_at_start = true;
    run("");
    assert_int_equal(wait_for_end(), 0);
}

static void a_loop_that_fails(void **state)
{
    (void)state;
    mode.fault = "epoll_wait";
    mode.fault_nth = 1;
    run("");
    assert_int_equal(wait_for_end(), 1);
    assert_contains(logged(), "error msg=\"the loop failed\" error=\"epoll_wait: Bad file");
}

static void faults_at_the_start(void **state)
{
    static const struct {
        const char *function;
        int nth;
    } faults[] = {{"epoll_create1", 1}, {"sigprocmask", 1}, {"sigprocmask", 2}, {"sigprocmask", 3}};
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(faults); i++) {
        assert_int_equal(ftruncate(child.log, 0), 0);
        mode.fault = faults[i].function;
        mode.fault_nth = faults[i].nth;
        run("");
        assert_int_equal(wait_for_end(), 1);
        assert_contains(logged(), "cannot start");
        assert_contains(logged(), faults[i].function);
    }
}

static void without_memory(void **state)
{
    int nth = 0, status;

    (void)state;
    setenv("WATCHDOG_USEC", "60000000", 1);
    mode.fault = "alloc";
    mode.finishes_at_start = true;
    do {
        assert_int_equal(ftruncate(child.log, 0), 0);
        mode.fault_nth = ++nth;
        run("--listen=:0");
        status = wait_for_end();
        if (status)
            assert_contains(logged(), "no memory");
        assert_true(status == 0 || status == 1);
    } while (status);
    assert_true(nth > 20);
}

/* --- systemd -------------------------------------------------------------------------------- */

static void the_watchdog_is_fed(void **state)
{
    (void)state;
    setenv("WATCHDOG_USEC", "20000", 1);
    run("");
    wait_for_told("READY=1;WATCHDOG=1;WATCHDOG=1;");
    kill(child.pid, SIGTERM);
    assert_int_equal(wait_for_end(), 0);
}

static void without_systemd(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    run("");
    wait_for_log("wrote");
    kill(child.pid, SIGTERM);
    assert_int_equal(wait_for_end(), 0);
}

/* --- reload --------------------------------------------------------------------------------- */

static void settings_are_reloaded(void **state)
{
    char line[128];

    (void)state;
    write_settings("window = 5\nother = 5\n");
    snprintf(line, sizeof(line), "--config=%s", child.settings_path);
    run(line);
    wait_for_told("READY=1;");
    write_settings("window = 6\nother = 6\nlog-level = warn\n");
    kill(child.pid, SIGHUP);
    wait_for_told("MONOTONIC_USEC=");
    wait_for_log("settings wait for a restart");
    assert_contains(logged(), "msg=\"settings wait for a restart\" names=other\n");
    assert_lacks(logged(), "program reloads"); /* info is below the level already */
    write_settings("window = 7\n");
    kill(child.pid, SIGHUP);
    wait_for_log("msg=\"settings reloaded\"\n");
    assert_contains(logged(), "msg=\"program reloads\" window=7\n");
    write_settings("window = 8\nlog-level = loud\n");
    kill(child.pid, SIGHUP);
    wait_for_log("settings stay as they were");
    assert_contains(logged(), "log-level: must be one of: debug, info, warn, error, not 'loud'");
    kill(child.pid, SIGTERM);
    assert_int_equal(wait_for_end(), 0);
    assert_contains(told(), "READY=1;RELOADING=1\nMONOTONIC_USEC=");
    assert_contains(told(), ";READY=1;STOPPING=1;");
}

static void reload_without_a_callback(void **state)
{
    (void)state;
    mode.no_reload = true;
    run("--log-level=debug");
    wait_for_told("READY=1;");
    kill(child.pid, SIGHUP);
    wait_for_log("settings reloaded");
    kill(child.pid, SIGTERM);
    assert_int_equal(wait_for_end(), 0);
}

static void levels(void **state)
{
    (void)state;
    mode.finishes_at_start = true;
    run("--log-level=error");
    assert_int_equal(wait_for_end(), 0);
    assert_string_equal(logged(), "");
}

/* --- HTTP ----------------------------------------------------------------------------------- */

static const char *ask(int port, const char *request)
{
    static char answer[1 << 16];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t used = 0;
    ssize_t got;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    while ((got = read(fd, answer + used, sizeof(answer) - 1 - used)) > 0)
        used += (size_t)got;
    answer[used] = 0;
    close(fd);
    return answer;
}

static void the_window_is_open(void **state)
{
    char line[64];
    int port;

    (void)state;
    run("--listen=:0");
    wait_for_told("READY=1;");
    port = atoi(strstr(logged(), "address=:0 port=") + 16);
    assert_contains(ask(port, "GET /readyz HTTP/1.0\r\n\r\n"), "503 Service Unavailable");
    assert_contains(ask(port, "GET /readyz HTTP/1.0\r\n\r\n"), "\r\n\r\namqp: away\n");
    assert_contains(ask(port, "GET /metrics HTTP/1.0\r\n\r\n"), "200 OK");
    assert_contains(logged(), "program refreshes");
    kill(child.pid, SIGTERM);
    assert_int_equal(wait_for_end(), 0);
    /* An address that is not ours will not become ours by trying again. */
    snprintf(line, sizeof(line), "--listen=192.0.2.1:%d", port);
    run(line);
    assert_int_equal(wait_for_end(), 2);
    assert_contains(logged(), "cannot listen on 192.0.2.1");
    assert_contains(logged(), "msg=\"stopped\" status=2\n");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, open_child, close_child)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(help_and_version),
        TEST(wrong_settings),
        TEST(wrong_environment),
        TEST(a_life),
        TEST(the_second_signal_stops_at_once),
        TEST(a_start_that_fails),
        TEST(a_program_that_gives_up),
        TEST(a_loop_that_fails),
        TEST(faults_at_the_start),
        TEST(without_memory),
        TEST(the_watchdog_is_fed),
        TEST(without_systemd),
        TEST(settings_are_reloaded),
        TEST(reload_without_a_callback),
        TEST(levels),
        TEST(the_window_is_open),
    };

    return cmocka_run_group_tests_name("runtime daemon", tests, NULL, NULL);
}
