#include "tests/unit/worker/play.h"

#include "outbox/runtime/log.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define START_US  (INT64_C(1800000000) * US_PER_S)
#define TURNS_MAX 20000

struct stage stage;

/* Transactions, as the database has them. */
static bool is_open, has_failed;
static bool has_ended; /* one has, in this group: its sync commits nothing more */

/* In place of outbox/runtime/daemon.c. */
void __wrap_daemon_finished(struct daemon_context *context, const struct error *failure);
void __wrap_daemon_finished(struct daemon_context *context, const struct error *failure)
{
    assert_ptr_equal(context, &stage.context);
    stage.is_finished = true;
    if (failure && stage.finish.code == 0) {
        stage.finish = *failure;
    }
}

int stage_open(const char *roles)
{
    static const struct setting *const tables[] = {worker_settings, connection_settings,
                                                   daemon_settings, NULL};
    char program[] = "saga-worker", listen[] = "SAGAPOST_LISTEN=127.0.0.1:1", role[64];
    char amqp[] = "SAGAPOST_AMQP=amqp://localhost";
    char *words[] = {program, NULL}, *variables[] = {role, listen, amqp, NULL};
    memset(&stage, 0, sizeof(stage));
    clock_fake_init(&stage.clock, START_US, START_US);
    stage.log = memfd_create("log", MFD_CLOEXEC);
    assert_true(stage.log >= 0);
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT, stage.log);
    (void)snprintf(role, sizeof role, "SAGAPOST_ROLES=%s", roles);
    must(loop_create(&stage.loop, &stage.clock.source, &error));
    must(config_create(&stage.config, tables, &error));
    must(config_load(stage.config, 1, words, variables, &error));
    stage.context = (struct daemon_context){
        .program = "saga-worker", .config = stage.config, .loop = stage.loop};
    must(metrics_create(&stage.context.metrics, &error));
    return 0;
}

int stage_close(void)
{
    fake_session_stop();
    loop_destroy(stage.loop);
    metrics_destroy(stage.context.metrics);
    config_destroy(stage.config);
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT, STDERR_FILENO);
    close(stage.log);
    return 0;
}

const char *play_logged(void)
{
    static char text[1 << 18];
    ssize_t bytes = pread(stage.log, text, sizeof text - 1, 0);
    assert_true(bytes >= 0);
    text[bytes] = '\0';
    return text;
}

/* Time stands still while there is something to do. */
static void turn(int64_t by_us)
{
    struct error error;
    clock_fake_advance(&stage.clock, by_us);
    if (loop_turn(stage.loop, 0, &error) < 0) {
        fail_msg("%s", error.message);
    }
}

static void end_transaction(const struct play *play, bool is_kept)
{
    if (is_kept && !has_failed) {
        play->commit();
    } else {
        play->forget();
    }
    is_open = has_failed = has_ended = false;
}

void play_loses_session(const struct play *play)
{
    struct error why = {0};
    end_transaction(play, false);
    fake_loses_connection();
    error_set(&why, ERROR_POSTGRES, RETRY_RECONNECT, "%s",
              fake_reconnect_asked() ? fake_reconnect_asked() : "the connection is lost");
    fake_session_options.on_down(fake_session_options.data, fake_session(), &why);
    turn(0);
    fake_session_up(true);
    if (!stage.is_finished) {
        fake_session_options.on_up(fake_session_options.data, fake_session());
    }
}

static bool is_asked(const char *what)
{
    return strcmp(fake_asked(), what) == 0;
}

/* The end of a group commits what was written in it, unless a transaction is open. */
static void answer_rightly(const struct play *play)
{
    if (is_asked("BEGIN")) {
        if (is_open) {
            fail_msg("a transaction is begun inside another; log:\n%s", play_logged());
        }
        is_open = true;
        fake_answer("BEGIN", NULL);
    } else if (is_asked("COMMIT") || is_asked("ROLLBACK")) {
        end_transaction(play, is_asked("COMMIT"));
        has_ended = true;
        fake_answer(fake_asked(), NULL);
    } else if (is_asked("sync")) {
        if (!is_open) {
            end_transaction(play, true);
        }
        has_ended = false;
        fake_answer("sync", NULL);
    } else if (is_open && has_failed) {
        fail_msg("%s is asked in a transaction that has failed", fake_asked());
    } else if (strncmp(fake_asked(), "LISTEN ", 7) == 0 ||
               strncmp(fake_asked(), "SELECT ", 7) == 0) {
        fake_answer(fake_asked(), NULL);
    } else if (!play->answer()) {
        fail_msg("nobody knows the answer to %s", fake_asked());
    }
}

void play_start(const struct play *play)
{
    assert_int_equal(ftruncate(stage.log, 0), 0);
    assert_int_equal(lseek(stage.log, 0, SEEK_SET), 0);
    stage.is_finished = is_open = has_failed = false;
    stage.what[0] = '\0';
    error_clear(&stage.finish);
    fake_session_start();
    fake_broker_start();
    play->begin();
    must(worker_program.start(&stage.context, &error));
}

/* Faults ----------------------------------------------------------------------------------------
 */

enum fault {
    NONE,
    LOSES,           /* the answer, and what it was about did not take place */
    LOSES_COMMITTED, /* the answer alone */
    REFUSES_NOW,
    REFUSES_LATER,
    REFUSES_AS_BUG,
    REFUSES_FOR_EVER,
    REFUSES_AND_FULL,  /* refused, and what is sent next is not sent */
    REFUSES_AND_LOSES, /* refused, and before more is heard the connection is lost */
    SEND_FULL,
    SEND_LOST,
    BROKER_LOSES,
    BROKER_CANCELS,
    NO_MEMORY,
    FAULTS
};

static const char *const names[FAULTS] = {
    [NONE] = "nothing",
    [LOSES] = "an answer is lost",
    [LOSES_COMMITTED] = "an answer is lost, its COMMIT is not",
    [REFUSES_NOW] = "refused: a deadlock",
    [REFUSES_LATER] = "refused: a timeout",
    [REFUSES_AS_BUG] = "refused: a bug",
    [REFUSES_FOR_EVER] = "refused: a missing privilege",
    [REFUSES_AND_FULL] = "refused, and what follows is not sent",
    [REFUSES_AND_LOSES] = "refused, and the connection is lost",
    [SEND_FULL] = "not sent: no room",
    [SEND_LOST] = "not sent: the connection is gone",
    [BROKER_LOSES] = "an event of the broker is lost",
    [BROKER_CANCELS] = "a consumer is cancelled",
    [NO_MEMORY] = "no memory",
};

static enum fault fault;
static int place;  /* where it strikes */
static int places; /* how many there were so far */
static bool has_struck;

static void refuse(enum error_retry retry, const char *sqlstate)
{
    has_failed = is_open;
    if (is_asked("COMMIT")) {
        is_open = has_failed = false;
    }
    fake_refuse(stage.what, retry, sqlstate);
}

void play_refuse(enum error_retry retry, const char *sqlstate)
{
    (void)snprintf(stage.what, sizeof stage.what, "%s", fake_asked());
    refuse(retry, sqlstate);
}

static void strike(const struct play *play)
{
    has_struck = true;
    (void)snprintf(stage.what, sizeof stage.what, "%s", fake_asked());
    bool is_commit = is_asked("COMMIT") || (is_asked("sync") && !is_open);
    if (fault == LOSES_COMMITTED && is_commit) {
        end_transaction(play, true);
    } else if (fault >= REFUSES_NOW && fault <= REFUSES_AND_LOSES && !is_asked("ROLLBACK")) {
        play->forget();
    }
    switch (fault) {
    case REFUSES_NOW:
        refuse(RETRY_NOW, "40P01");
        break;
    case REFUSES_LATER:
        refuse(RETRY_LATER, "57014");
        break;
    case REFUSES_AS_BUG:
        refuse(RETRY_BUG, "XX000");
        break;
    case REFUSES_FOR_EVER:
        refuse(RETRY_NEVER, "42501");
        break;
    case REFUSES_AND_FULL:
        fake_session_send_fails(1, ERROR_LIMIT, RETRY_LATER);
        refuse(RETRY_NOW, "40P01");
        break;
    case REFUSES_AND_LOSES:
        fake_refuse_and_lose(stage.what, RETRY_NOW, "40001");
        play_loses_session(play);
        break;
    default:
        play_loses_session(play);
    }
}

/* One thing happens. */
static void go_on(const struct play *play)
{
    bool is_question = fault >= LOSES && fault <= REFUSES_AND_LOSES;
    if (fake_reconnect_asked() || !fake_session_is_up()) {
        play_loses_session(play);
    } else if (fake_asked()[0]) {
        /* A sync says no where it commits. */
        bool is_possible = fault < REFUSES_NOW || !is_asked("sync") || (!is_open && !has_ended);
        if (is_question && is_possible && ++places == place) {
            strike(play);
        } else {
            answer_rightly(play);
        }
    } else if (!stage.is_finished && fake_broker_step()) {
        turn(0);
    } else {
        turn(5 * US_PER_MS);
    }
}

void play_until(const struct play *play, bool (*until)(void))
{
    for (int turns = 0; !until(); turns++) {
        if (turns > TURNS_MAX) {
            fail_msg("%s at place %d, %s: it stands still; asked: \"%s\"; log:\n%s", names[fault],
                     place, stage.what, fake_asked(), play_logged());
        }
        if (stage.is_finished && stage.finish.code != 0) {
            return;
        }
        go_on(play);
    }
}

static bool is_finished(void)
{
    return stage.is_finished;
}

void play_stop(const struct play *play)
{
    if (!stage.is_finished) {
        worker_program.drain(&stage.context);
        play_until(play, is_finished);
    }
    worker_program.stop(&stage.context);
    fake_session_stop();
    assert_int_equal(fake_sessions_open, 0);
    assert_int_equal(fake_brokers_open, 0);
}

static void check_log(void)
{
    const char *text = play_logged();
    const char *wanted = "no connection, trying again";
    if (fault >= REFUSES_NOW && fault <= REFUSES_FOR_EVER) {
        wanted = "the server says no to";
    } else if (fault == REFUSES_AND_FULL || fault == SEND_FULL) {
        wanted = "it cannot be sent";
    } else if (fault == NO_MEMORY) {
        wanted = "memory";
    }
    if (!strstr(text, wanted)) {
        fail_msg("%s at place %d, %s: not a word of it in the log:\n%s", names[fault], place,
                 stage.what, text);
    }
}

/* False: the fault found no place to strike. */
static bool play_with(const struct play *play)
{
    has_struck = false;
    places = 0;
    play_start(play);
    if (fault == SEND_FULL) {
        fake_session_send_fails(place, ERROR_LIMIT, RETRY_LATER);
    } else if (fault == SEND_LOST) {
        fake_session_send_fails(place, ERROR_STATE, RETRY_RECONNECT);
    }
    fake_broker_loses(fault == BROKER_LOSES ? place : 0);
    fake_broker_cancels(fault == BROKER_CANCELS ? place : 0);
    if (fault == NO_MEMORY) {
        fault_arm("alloc", place, ENOMEM);
    }
    fake_session_options.on_up(fake_session_options.data, fake_session());
    play_until(play, play->is_done);
    has_struck |= fault_disarm();
    has_struck |= (fault == SEND_FULL || fault == SEND_LOST) && fake_session_send_failed();
    has_struck |= fake_broker_struck();
    if (stage.finish.code != 0) {
        if (fault != REFUSES_FOR_EVER || stage.finish.retry != RETRY_NEVER) {
            fail_msg("%s at place %d, %s: it gives up: %s", names[fault], place, stage.what,
                     stage.finish.message);
        }
        assert_contains(stage.finish.message, "the server says no to ");
    } else if (has_struck) {
        check_log();
    }
    play_stop(play);
    return has_struck;
}

void play_with_faults(const struct play *play, int places_min)
{
    for (fault = NONE + 1; fault < FAULTS; fault++) {
        for (place = 1; play_with(play); place++) {
        }
        print_message("%s: %d places\n", names[fault], place - 1);
        assert_true(place > (fault == BROKER_CANCELS ? 1 : places_min));
    }
    fault = NONE;
}

void play_without_memory(const struct play *play)
{
    bool fired;
    int nth = 0;
    play_start(play); /* metrics are made once, and end the program without memory */
    play_stop(play);
    do {
        struct error error = {0};
        fault_arm("alloc", ++nth, ENOMEM);
        int rc = worker_program.start(&stage.context, &error);
        fired = fault_disarm();
        assert_int_equal(rc, error.code);
        assert_true(rc < 0 || !fired);
        worker_program.stop(&stage.context);
        assert_int_equal(fake_sessions_open, 0);
        assert_int_equal(fake_brokers_open, 0);
    } while (fired);
    assert_true(nth > 5);
}
