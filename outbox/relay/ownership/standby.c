#include "outbox/relay/ownership/standby.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/clock.h"
#include "outbox/runtime/failpoint.h"
#include "outbox/runtime/log.h"

#include <stdlib.h>
#include <string.h>

/* An owner's silence is looked for so often in a term, but no more often than it speaks. */
#define LOOKS_IN_A_TERM 4
#define PAUSE_MAX_US    US_PER_S

#define ONE_ROLE      "all relays of a database must log in as one role"
#define ATTEMPTS_TOLD 2 /* to connect, in vain */

enum standby_column { STANDBY_PID, STANDBY_SINCE, STANDBY_SECONDS, STANDBY_ENDED };

struct standby {
    struct standby_options options;
    struct pg_session_options session_options;
    struct pg_session *session; /* NULL: not watching */
    struct loop_timer *timer;
    struct pg_params params;
    bool asked;
    bool leaving; /* stopped; the answer to the last question is still waited for */
    bool said;    /* that the owner cannot be watched */
};

static void arm(struct standby *standby)
{
    int64_t pause_us = standby->options.term_us / LOOKS_IN_A_TERM;

    loop_timer_arm_in(standby->timer, pause_us < PAUSE_MAX_US ? pause_us : PAUSE_MAX_US);
}

static void say_blind(struct standby *standby, const char *why)
{
    if (!standby->said)
        log_warn("an owner of the share that goes silent cannot be replaced",
                 LOG_INT("share", standby->options.share), LOG_STR("reason", why));
    standby->said = true;
}

static void on_looked(void *data, struct pg_result *result, const struct error *failure)
{
    struct standby *standby = data;
    struct error why = {0};

    standby->asked = false;
    if (standby->leaving)
        loop_timer_arm_in(standby->timer, 0);
    if (failure) {
        why = *failure;
        if (strcmp(failure->sqlstate, "42501") == 0)
            error_context(&why, ONE_ROLE);
        if (failure->retry != RETRY_RECONNECT)
            say_blind(standby, why.message);
        return;
    }
    if (pg_result_rows(result) == 0)
        return;
    if (pg_is_null(result, 0, STANDBY_SECONDS)) {
        say_blind(standby, "pg_stat_activity does not show what its connection does: " ONE_ROLE);
        return;
    }
    standby->said = false;
    if (!pg_bool(result, 0, STANDBY_ENDED))
        return;
    log_warn("the owner of the share was silent for longer than lease-term: its connection is "
             "ended",
             LOG_INT("share", standby->options.share),
             LOG_INT("backend", pg_int(result, 0, STANDBY_PID)),
             LOG_STR("since", pg_text(result, 0, STANDBY_SINCE)),
             LOG_INT("silent_s", pg_int(result, 0, STANDBY_SECONDS)));
    metric_add(standby->options.stats->silent_ended, 1);
    FAILPOINT("owner-ended");
}

static void close_session(struct standby *standby)
{
    pg_session_destroy(standby->session);
    standby->session = NULL;
    /* Only now: a question without an answer got one just then, and on_looked armed the timer. It
     * once found no session, and took the new owner down with it. */
    loop_timer_disarm(standby->timer);
    standby->said = false;
    standby->asked = false;
    standby->leaving = false;
}

static void on_timer(void *data)
{
    struct standby *standby = data;
    struct error error = {0};

    if (standby->leaving) {
        close_session(standby);
        return;
    }
    arm(standby);
    if (standby->asked || !pg_session_is_up(standby->session))
        return;
    pg_params_reset(&standby->params);
    pg_params_int4(&standby->params, standby->options.share);
    pg_params_int8(&standby->params, standby->options.term_us / US_PER_MS);
    if (pg_session_send(standby->session, &sql_relay_standby, &standby->params, on_looked, standby,
                        &error) < 0)
        return;
    standby->asked = true;
    (void)!pg_session_sync(standby->session, NULL, NULL, &error);
}

static void on_up(void *data, struct pg_session *session)
{
    (void)data;
    (void)session;
}

static void on_down(void *data, struct pg_session *session, const struct error *why)
{
    /* The first connection, to the same server, tells of one that is lost; but not that there is
     * room for no second one. */
    if (pg_session_attempts(session) == ATTEMPTS_TOLD)
        say_blind(data, why->message);
}

void standby_start(struct standby *standby)
{
    struct error error = {0};

    if (standby->session) {
        if (standby->leaving)
            arm(standby);
        standby->leaving = false;
        return;
    }
    standby->session_options = *standby->options.second;
    standby->session_options.on_up = on_up;
    standby->session_options.on_down = on_down;
    standby->session_options.on_notify = NULL;
    standby->session_options.data = standby;
    standby->asked = false;
    if (pg_session_create(&standby->session, standby->options.loop, &standby->session_options,
                          &error) < 0) {
        say_blind(standby, error.message);
        return;
    }
    pg_session_start(standby->session);
    arm(standby);
}

/* The question that ended an owner gives this relay the lock before its own answer has come: it is
 * heard out, so that what was done is told. */
void standby_stop(struct standby *standby)
{
    if (!standby->session || !standby->asked) {
        close_session(standby);
        return;
    }
    standby->leaving = true;
    loop_timer_arm_in(standby->timer, PAUSE_MAX_US);
}

int standby_create(struct standby **ret_standby, const struct standby_options *options,
                   struct error *error)
{
    struct standby *standby = calloc(1, sizeof(*standby));
    int failed;

    if (!standby)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "the watch over the owner");
    standby->options = *options;
    pg_params_init(&standby->params);
    failed = loop_timer_create(options->loop, on_timer, standby, &standby->timer, error);
    if (failed < 0) {
        standby_destroy(standby);
        return failed;
    }
    *ret_standby = standby;
    return 0;
}

void standby_destroy(struct standby *standby)
{
    if (!standby)
        return;
    if (standby->timer)
        close_session(standby);
    loop_timer_destroy(standby->timer);
    pg_params_free(&standby->params);
    free(standby);
}
