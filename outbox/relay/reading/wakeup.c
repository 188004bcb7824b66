#include "outbox/relay/reading/wakeup.h"
#include "outbox/relay/reading/wakeup_machine.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/clock.h"
#include "outbox/runtime/log.h"

#include <stdlib.h>

#define PAUSE_US        US_PER_MS
#define GROWING_BASE_US (2 * US_PER_MS)
#define GROWING_CAP_US  (100 * US_PER_MS)
#define REFUSALS_MAX    10
#define FOUND_OFTEN     64
#define ATTEMPTS_TOLD   2 /* to connect a second time, in vain */
/* A look that finds fewer rows is followed by a pause, in which the next ones gather: at 1,000
 * messages/s every row had its own look, an empty one after it, and often a sleep. */
#define FEW_ROWS 100

struct wakeup {
    struct wakeup_options options;
    enum wakeup_state state;
    bool due;          /* a look */
    bool by_timer;     /* the last look of a fallback */
    unsigned refusals; /* in a row */
    unsigned found;    /* looks in a row that found rows */
    int64_t growing_us;
    struct loop_timer *timer;
    struct pg_session *second; /* NULL: was never needed */
    bool waiting_2;            /* the lock's queue was joined on this connection */
    bool said_2;               /* that this cannot be done */
    struct pg_params params;
};

static void happened(struct wakeup *wakeup, enum wakeup_event event);

/* Acts ----------------------------------------------------------------------------------------- */

static void send(struct wakeup *wakeup, struct pg_session *session,
                 const struct pg_statement *statement, pg_callback *callback)
{
    struct error error = {0};

    pg_params_reset(&wakeup->params);
    pg_params_int4(&wakeup->params, wakeup->options.share);
    if ((pg_session_send(session, statement, &wakeup->params, callback, wakeup, &error) < 0 ||
         pg_session_sync(session, NULL, NULL, &error) < 0) &&
        error.code != ERROR_STATE && error.retry != RETRY_RECONNECT)
        wakeup->options.on_failure(wakeup->options.data, &error);
}

static void on_tried(void *data, struct pg_result *result, const struct error *failure)
{
    struct wakeup *wakeup = data;

    if (wakeup->state == WAKEUP_OFF || (failure && failure->retry == RETRY_RECONNECT))
        return;
    if (failure) {
        wakeup->options.on_failure(wakeup->options.data, failure);
    } else if (pg_bool(result, 0, 0)) {
        wakeup->refusals = 0;
        happened(wakeup, WAKEUP_GRANTED);
    } else {
        wakeup->refusals++;
        happened(wakeup, wakeup->refusals < REFUSALS_MAX ? WAKEUP_REFUSED : WAKEUP_REFUSED_AGAIN);
    }
}

static void on_unlocked(void *data, struct pg_result *result, const struct error *failure)
{
    struct wakeup *wakeup = data;

    (void)result;
    if (failure && failure->retry != RETRY_RECONNECT && wakeup->state != WAKEUP_OFF)
        wakeup->options.on_failure(wakeup->options.data, failure);
}

/* Nobody waits longer than a moment for it: rows are looked for all the time. */
static void say_2(struct wakeup *wakeup, const struct error *failure)
{
    if (!wakeup->said_2)
        log_failure(LOG_LEVEL_WARN,
                    "polling while a writer stays open: its end cannot be waited for on a second "
                    "connection to PostgreSQL",
                    failure, LOG_INT("share", wakeup->options.share));
    wakeup->said_2 = true;
}

static void on_granted_2(void *data, struct pg_result *result, const struct error *failure)
{
    struct wakeup *wakeup = data;

    (void)result;
    wakeup->waiting_2 = false;
    if (!failure) {
        wakeup->said_2 = false;
        happened(wakeup, WAKEUP_GRANTED_2);
    } else if (failure->retry != RETRY_RECONNECT) {
        say_2(wakeup, failure);
        pg_session_reconnect(wakeup->second, "the lock's queue could not be joined");
    }
}

static void join_queue(struct wakeup *wakeup)
{
    if (wakeup->waiting_2 || !wakeup->second || !pg_session_is_up(wakeup->second))
        return;
    wakeup->waiting_2 = true;
    send(wakeup, wakeup->second, &sql_relay_sleep_wait, on_granted_2);
}

static void on_up_2(void *data, struct pg_session *session)
{
    struct wakeup *wakeup = data;

    (void)session;
    if (wakeup->state == WAKEUP_QUEUED)
        join_queue(wakeup);
}

static void on_down_2(void *data, struct pg_session *session, const struct error *why)
{
    struct wakeup *wakeup = data;

    /* The relay's own connection to the same server tells of one that is lost. */
    if (pg_session_attempts(session) == ATTEMPTS_TOLD && wakeup->state != WAKEUP_OFF)
        say_2(wakeup, why);
    wakeup->waiting_2 = false;
    happened(wakeup, WAKEUP_LOST_2);
}

static void queue(struct wakeup *wakeup)
{
    struct pg_session_options options = *wakeup->options.second;
    struct error error = {0};

    wakeup->refusals = 0;
    wakeup->growing_us = GROWING_BASE_US;
    if (wakeup->second) {
        join_queue(wakeup);
        return;
    }
    options.on_up = on_up_2;
    options.on_down = on_down_2;
    options.on_notify = NULL;
    /* It is there to wait. */
    options.lock_timeout_us = options.statement_timeout_us = options.silence_limit_us = 0;
    options.data = wakeup;
    if (pg_session_create(&wakeup->second, wakeup->options.loop, &options, &error) < 0)
        wakeup->options.on_failure(wakeup->options.data, &error);
    else
        pg_session_start(wakeup->second);
}

static void arm_growing(struct wakeup *wakeup)
{
    loop_timer_arm_in(wakeup->timer, wakeup->growing_us);
    wakeup->growing_us =
        wakeup->growing_us * 2 < GROWING_CAP_US ? wakeup->growing_us * 2 : GROWING_CAP_US;
}

static void happened(struct wakeup *wakeup, enum wakeup_event event)
{
    struct wakeup_step step = wakeup_decide(wakeup->state, event);

    if (step.next != wakeup->state && step.next != WAKEUP_ASLEEP && step.next != WAKEUP_ASLEEP_2)
        loop_timer_disarm(wakeup->timer);
    wakeup->state = step.next;
    if (step.acts & WAKEUP_UNLOCK)
        send(wakeup, wakeup->options.session, &sql_relay_sleep_end, on_unlocked);
    if (step.acts & WAKEUP_UNLOCK_2)
        send(wakeup, wakeup->second, &sql_relay_sleep_end, on_unlocked);
    if (step.acts & WAKEUP_DROP_2)
        pg_session_reconnect(wakeup->second, "writers are busy");
    if (step.acts & WAKEUP_TRY)
        send(wakeup, wakeup->options.session, &sql_relay_sleep_try, on_tried);
    if (step.acts & WAKEUP_QUEUE)
        queue(wakeup);
    if (step.acts & WAKEUP_LOOK)
        wakeup->due = true;
    if (step.acts & WAKEUP_ARM_PAUSE)
        loop_timer_arm_in(wakeup->timer, PAUSE_US);
    if (step.acts & WAKEUP_ARM_GROWING)
        arm_growing(wakeup);
    if (step.acts & WAKEUP_ARM_FALLBACK) {
        loop_timer_arm_in(wakeup->timer, wakeup->options.fallback_interval_us);
        metric_add(wakeup->options.stats->sleeps, 1);
    }
}

/* What the relay tells ------------------------------------------------------------------------- */

static void on_timer(void *data)
{
    struct wakeup *wakeup = data;

    if (!wakeup->options.by_notify) {
        wakeup->due = wakeup->state != WAKEUP_OFF;
        return;
    }
    wakeup->by_timer = wakeup->state == WAKEUP_ASLEEP || wakeup->state == WAKEUP_ASLEEP_2;
    happened(wakeup, WAKEUP_TIMER);
}

bool wakeup_is_due(const struct wakeup *wakeup)
{
    return wakeup->due;
}

void wakeup_looking(struct wakeup *wakeup)
{
    wakeup->due = false;
}

static enum wakeup_event event_of(const struct wakeup *wakeup, uint64_t rows)
{
    if (rows == 0)
        return WAKEUP_EMPTY;
    if (wakeup->state == WAKEUP_QUEUED && wakeup->found >= FOUND_OFTEN)
        return WAKEUP_FOUND_OFTEN;
    return rows < FEW_ROWS ? WAKEUP_FOUND_FEW : WAKEUP_FOUND;
}

void wakeup_looked(struct wakeup *wakeup, uint64_t rows)
{
    bool found = rows > 0;

    if (wakeup->state == WAKEUP_OFF)
        return;
    wakeup->found = found ? wakeup->found + 1 : 0;
    if (found) {
        wakeup->refusals = 0;
        wakeup->growing_us = GROWING_BASE_US;
        if (wakeup->by_timer)
            metric_add(wakeup->options.stats->late_wakeups, 1);
    }
    wakeup->by_timer = false;
    if (!wakeup->options.by_notify) {
        wakeup->due = rows >= FEW_ROWS;
        if (!wakeup->due)
            loop_timer_arm_in(wakeup->timer, found ? PAUSE_US : wakeup->options.poll_interval_us);
        return;
    }
    if (wakeup->due)
        return; /* something happened since that look began: another one follows, and counts */
    happened(wakeup, event_of(wakeup, rows));
}

void wakeup_notified(struct wakeup *wakeup)
{
    metric_add(wakeup->options.stats->notifications, 1);
    wakeup->by_timer = false;
    if (!wakeup->options.by_notify && wakeup->state != WAKEUP_OFF)
        wakeup->due = true;
    else
        happened(wakeup, WAKEUP_NOTIFIED);
}

/* Life ----------------------------------------------------------------------------------------- */

void wakeup_start(struct wakeup *wakeup)
{
    wakeup->state = WAKEUP_AWAKE;
    wakeup->due = true;
    wakeup->refusals = wakeup->found = 0;
    wakeup->growing_us = GROWING_BASE_US;
}

/* The lock on the second connection, or its place in the queue, is given up with that connection:
 * it must not be left to keep writers notifying nobody. */
void wakeup_stop(struct wakeup *wakeup)
{
    bool held = wakeup->state == WAKEUP_QUEUED || wakeup->state == WAKEUP_LAST_LOOK_2 ||
                wakeup->state == WAKEUP_ASLEEP_2;

    wakeup->state = WAKEUP_OFF;
    wakeup->due = false;
    loop_timer_disarm(wakeup->timer);
    if (held && wakeup->second)
        pg_session_reconnect(wakeup->second, "the share was given up");
}

int wakeup_create(struct wakeup **ret_wakeup, const struct wakeup_options *options,
                  struct error *error)
{
    struct wakeup *wakeup = calloc(1, sizeof(*wakeup));
    int failed;

    if (!wakeup)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "the wake-up");
    wakeup->options = *options;
    pg_params_init(&wakeup->params);
    failed = loop_timer_create(options->loop, on_timer, wakeup, &wakeup->timer, error);
    if (failed < 0) {
        wakeup_destroy(wakeup);
        return failed;
    }
    *ret_wakeup = wakeup;
    return 0;
}

void wakeup_destroy(struct wakeup *wakeup)
{
    if (!wakeup)
        return;
    wakeup->state = WAKEUP_OFF;
    pg_session_destroy(wakeup->second);
    loop_timer_destroy(wakeup->timer);
    pg_params_free(&wakeup->params);
    free(wakeup);
}
