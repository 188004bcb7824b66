#include "outbox/relay/ownership/lease.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/clock.h"
#include "outbox/runtime/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Between looks at the lock of one that does not wait for it. */
#define LOOK_PAUSE_US (500 * US_PER_MS)

enum hello_column {
    HELLO_SYSTEM_IDENTIFIER,
    HELLO_DATABASE_OID,
    HELLO_IN_RECOVERY,
    HELLO_MIGRATION
};
enum position_column {
    POSITION_PLACE,
    POSITION_EPOCH,
    POSITION_SYSTEM_IDENTIFIER,
    POSITION_DATABASE_OID,
    POSITION_T1,
    POSITION_T2,
    POSITION_LAST_ID,
    POSITION_BOUND,
};
enum take_over_column { TAKE_OVER_PLACE, TAKE_OVER_EPOCH };

struct lease {
    struct lease_options options;
    enum lease_state state;
    struct lease_server server;
    struct lease_position at;
    bool said_standby; /* the log knows */
    bool waited;       /* on this connection */
    bool has_lock;     /* on this connection */
    struct loop_timer *look_timer;
    struct pg_params params;
};

/* Checks --------------------------------------------------------------------------------------- */

int lease_check_server(const struct lease_server *server, struct error *error)
{
    if (server->in_recovery)
        return error_set(error, ERROR_STATE, RETRY_LATER,
                         "this PostgreSQL is a standby: the relay works on the primary");
    if (server->newest_migration < LEASE_MIGRATION_NEEDED)
        return error_set(error, ERROR_STATE, RETRY_NEVER,
                         "the outbox in this database is at migration %" PRId64
                         ", this program needs %d: run 'sagapost migrate'",
                         server->newest_migration, LEASE_MIGRATION_NEEDED);
    return 0;
}

int lease_check_identity(const struct lease_server *server, int64_t system_identifier,
                         int64_t database_oid, struct error *error)
{
    if (system_identifier == server->system_identifier && database_oid == server->database_oid)
        return 0;
    return error_set(
        error, ERROR_STATE, RETRY_NEVER,
        "the relay's position is of another server or database (system identifier %" PRId64
        ", database %" PRId64 "; this one is %" PRId64 ", %" PRId64
        "): transaction ids mean nothing here. After dump and restore run "
        "'sagapost outbox rebase', after pg_upgrade 'sagapost outbox rebase --same-xids'",
        system_identifier, database_oid, server->system_identifier, server->database_oid);
}

/* Steps ---------------------------------------------------------------------------------------- */

static void fail(struct lease *lease, const struct error *failure)
{
    lease->state = LEASE_OFF;
    lease->options.on_failure(lease->options.data, failure);
}

/* True when the answer is to be used. */
static bool answered(struct lease *lease, const struct error *failure)
{
    if (lease->state == LEASE_OFF)
        return false;
    if (failure && failure->retry != RETRY_RECONNECT)
        fail(lease, failure);
    return !failure;
}

/* Where the connection is gone, we will be stopped. */
static void not_sent(struct lease *lease, const struct error *error)
{
    if (error->code != ERROR_STATE && error->retry != RETRY_RECONNECT)
        fail(lease, error);
}

static void send(struct lease *lease, const struct pg_statement *statement, pg_callback *callback)
{
    struct error error = {0};

    if (pg_session_send(lease->options.session, statement, &lease->params, callback, lease,
                        &error) < 0 ||
        pg_session_sync(lease->options.session, NULL, NULL, &error) < 0)
        not_sent(lease, &error);
}

static void begin_params(struct lease *lease)
{
    pg_params_reset(&lease->params);
    pg_params_int4(&lease->params, lease->options.share);
}

static void on_step(void *data, struct pg_result *result, const struct error *failure)
{
    (void)result;
    (void)answered(data, failure);
}

static void set_patience(struct lease *lease, int64_t lock_ms, int64_t statement_ms)
{
    pg_params_reset(&lease->params);
    pg_params_int8(&lease->params, lock_ms);
    pg_params_int8(&lease->params, statement_ms);
    send(lease, &sql_relay_patience, on_step);
}

static void on_taken_over(void *data, struct pg_result *result, const struct error *failure)
{
    struct lease *lease = data;

    if (!answered(lease, failure))
        return;
    (void)snprintf(lease->at.place, sizeof(lease->at.place), "%s",
                   pg_text(result, 0, TAKE_OVER_PLACE));
    lease->at.epoch = pg_int(result, 0, TAKE_OVER_EPOCH);
    lease->state = LEASE_OWNER;
    lease->options.on_owner(lease->options.data, &lease->at);
    snapshot_release(lease->at.position.t1);
    snapshot_release(lease->at.position.t2);
    lease->at.position = (struct position){0};
}

static int read_position(struct lease *lease, struct pg_result *result, struct error *error)
{
    struct position *position = &lease->at.position;
    const char *t2;
    int failed;

    failed = lease_check_identity(&lease->server, pg_int(result, 0, POSITION_SYSTEM_IDENTIFIER),
                                  pg_int(result, 0, POSITION_DATABASE_OID), error);
    if (failed < 0)
        return failed;
    snapshot_release(position->t1);
    snapshot_release(position->t2);
    *position = (struct position){.last_id = pg_int(result, 0, POSITION_LAST_ID)};
    failed = snapshot_parse(&position->t1, pg_text(result, 0, POSITION_T1), error);
    t2 = pg_text(result, 0, POSITION_T2);
    if (failed >= 0 && t2)
        failed = snapshot_parse(&position->t2, t2, error);
    if (failed < 0)
        return failed;
    /* The bound serves t1, and so every later snapshot too. */
    position->t1->bound = pg_int(result, 0, POSITION_BOUND);
    if (position->t2)
        position->t2->bound = position->t1->bound;
    return 0;
}

/* Too high a number may come to be; one among those that are there is an accident. */
static void on_counted(void *data, struct pg_result *result, const struct error *failure)
{
    struct lease *lease = data;
    struct error error = {0};
    int64_t shares;

    if (!answered(lease, failure))
        return;
    shares = pg_int(result, 0, 0);
    if (shares == 0 || lease->options.share < shares) {
        error_set(&error, ERROR_STATE, RETRY_NEVER, "there is no share %d in outbox.position",
                  lease->options.share);
        fail(lease, &error);
        return;
    }
    if (!lease->said_standby)
        log_warn("standing by: the log has no such share; sagapost outbox shares makes it",
                 LOG_INT("share", lease->options.share), LOG_INT("shares", shares));
    lease->said_standby = true;
    lease->state = LEASE_STANDBY;
    loop_timer_arm_in(lease->look_timer, LOOK_PAUSE_US);
}

static void on_position(void *data, struct pg_result *result, const struct error *failure)
{
    struct lease *lease = data;
    struct error error = {0};

    if (!answered(lease, failure))
        return;
    if (pg_result_rows(result) != 1) {
        pg_params_reset(&lease->params);
        send(lease, &sql_relay_share_count, on_counted);
        return;
    }
    lease->state = LEASE_TAKING;
    lease->said_standby = false;
    if (read_position(lease, result, &error) < 0) {
        fail(lease, &error);
        return;
    }
    begin_params(lease);
    pg_params_text(&lease->params, lease->options.relay);
    send(lease, &sql_relay_take_over, on_taken_over);
}

static void wait_for_lock(struct lease *lease);

static void stand_by(struct lease *lease)
{
    if (!lease->said_standby)
        log_info("standing by: another relay owns the share",
                 LOG_INT("share", lease->options.share));
    lease->said_standby = lease->waited = true;
    lease->options.on_standby(lease->options.data);
}

static void ask_position(struct lease *lease)
{
    begin_params(lease);
    send(lease, &sql_relay_position_read, on_position);
}

static void take_share(struct lease *lease)
{
    lease->has_lock = true;
    lease->state = LEASE_TAKING;
    set_patience(lease, lease->options.term_us / 2 / US_PER_MS, lease->options.term_us / US_PER_MS);
    ask_position(lease);
}

static void on_tried(void *data, struct pg_result *result, const struct error *failure)
{
    struct lease *lease = data;

    if (!answered(lease, failure))
        return;
    if (pg_bool(result, 0, 0)) {
        take_share(lease);
        return;
    }
    stand_by(lease);
    loop_timer_arm_in(lease->look_timer, LOOK_PAUSE_US);
}

static void on_look_timer(void *data)
{
    struct lease *lease = data;

    if (lease->state != LEASE_STANDBY)
        return;
    if (lease->has_lock)
        ask_position(lease);
    else
        wait_for_lock(lease);
}

static void on_locked(void *data, struct pg_result *result, const struct error *failure)
{
    struct lease *lease = data;

    (void)result;
    if (failure && strcmp(failure->sqlstate, "55P03") == 0 && lease->state == LEASE_STANDBY) {
        stand_by(lease);
        wait_for_lock(lease);
        return;
    }
    if (answered(lease, failure))
        take_share(lease);
}

/* The first wait is short, so that a standby says what it is. */
static void wait_for_lock(struct lease *lease)
{
    bool waits = lease->options.can_publish(lease->options.data);

    if (waits)
        set_patience(lease, lease->waited ? LEASE_WAIT_MS : 100, 0);
    begin_params(lease);
    send(lease, waits ? &sql_relay_own : &sql_relay_own_try, waits ? on_locked : on_tried);
}

static void on_hello(void *data, struct pg_result *result, const struct error *failure)
{
    struct lease *lease = data;
    struct error error = {0};

    if (failure && lease->state != LEASE_OFF &&
        (strcmp(failure->sqlstate, "42P01") == 0 || strcmp(failure->sqlstate, "3F000") == 0)) {
        error_set(&error, ERROR_STATE, RETRY_NEVER,
                  "there is no outbox in this database: run 'sagapost migrate'");
        fail(lease, &error);
        return;
    }
    if (!answered(lease, failure))
        return;
    lease->server = (struct lease_server){
        .system_identifier = pg_int(result, 0, HELLO_SYSTEM_IDENTIFIER),
        .database_oid = pg_int(result, 0, HELLO_DATABASE_OID),
        .in_recovery = pg_bool(result, 0, HELLO_IN_RECOVERY),
        .newest_migration = pg_int(result, 0, HELLO_MIGRATION),
    };
    if (lease_check_server(&lease->server, &error) < 0) {
        fail(lease, &error);
        return;
    }
    lease->state = LEASE_STANDBY;
    wait_for_lock(lease);
}

void lease_start(struct lease *lease)
{
    struct error error = {0};
    char listen[64];

    lease->state = LEASE_ASKING;
    lease->waited = lease->has_lock = false;
    pg_params_reset(&lease->params);
    send(lease, &sql_relay_planner, on_step);
    (void)snprintf(listen, sizeof(listen), "listen sagapost_outbox_%d", lease->options.share);
    if (pg_session_send_text(lease->options.session, listen, on_step, lease, &error) < 0)
        not_sent(lease, &error);
    else
        send(lease, &sql_relay_hello, on_hello);
}

void lease_stop(struct lease *lease)
{
    lease->state = LEASE_OFF;
    loop_timer_disarm(lease->look_timer);
}

enum lease_state lease_state(const struct lease *lease)
{
    return lease->state;
}

const struct lease_server *lease_server(const struct lease *lease)
{
    return &lease->server;
}

int64_t lease_epoch(const struct lease *lease)
{
    return lease->state == LEASE_OWNER ? lease->at.epoch : 0;
}

int lease_create(struct lease **ret_lease, const struct lease_options *options, struct error *error)
{
    struct lease *lease = calloc(1, sizeof(*lease));
    int failed;

    if (!lease)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "a lease");
    lease->options = *options;
    pg_params_init(&lease->params);
    failed = loop_timer_create(options->loop, on_look_timer, lease, &lease->look_timer, error);
    if (failed < 0) {
        lease_destroy(lease);
        return failed;
    }
    *ret_lease = lease;
    return 0;
}

void lease_destroy(struct lease *lease)
{
    if (!lease)
        return;
    loop_timer_destroy(lease->look_timer);
    snapshot_release(lease->at.position.t1);
    snapshot_release(lease->at.position.t2);
    pg_params_free(&lease->params);
    free(lease);
}
