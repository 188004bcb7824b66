#include "outbox/relay/ownership/sharing.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/log.h"

#include <stdlib.h>
#include <string.h>

enum turn_column { TURN_VERDICT, TURN_BARRIER, TURN_SHARES };

struct sharing {
    struct sharing_options options;
    int64_t epoch; /* 0: stopped */
    struct pg_params params;
};

enum sharing_verdict sharing_verdict_of(const char *text)
{
    static const char *const names[] = {
        [SHARING_RUN] = "run",
        [SHARING_STOP] = "stop",
        [SHARING_REST] = "rest",
        [SHARING_LOST] = "lost",
    };

    for (enum sharing_verdict verdict = SHARING_RUN; verdict <= SHARING_LOST; verdict++)
        if (text && strcmp(text, names[verdict]) == 0)
            return verdict;
    return SHARING_UNKNOWN;
}

/* True when the answer is to be used. */
static bool answered(struct sharing *sharing, const struct error *failure)
{
    if (!failure || failure->retry == RETRY_RECONNECT)
        return !failure && sharing->epoch != 0;
    if (sharing->epoch != 0)
        sharing->options.on_failure(sharing->options.data, failure);
    return false;
}

static void send(struct sharing *sharing, const struct pg_statement *statement,
                 const struct pg_params *params, pg_callback *callback)
{
    struct error error = {0};

    if ((pg_session_send(sharing->options.session, statement, params, callback, sharing, &error) <
             0 ||
         pg_session_sync(sharing->options.session, NULL, NULL, &error) < 0) &&
        error.retry != RETRY_RECONNECT && error.code != ERROR_STATE)
        sharing->options.on_failure(sharing->options.data, &error);
}

static void on_turn(void *data, struct pg_result *result, const struct error *failure)
{
    struct sharing *sharing = data;
    struct sharing_turn turn = {0};
    struct error error = {0};
    const char *barrier;

    if (!answered(sharing, failure))
        return;
    turn.verdict = sharing_verdict_of(pg_text(result, 0, TURN_VERDICT));
    if (!pg_is_null(result, 0, TURN_SHARES))
        turn.shares = (int32_t)pg_int(result, 0, TURN_SHARES);
    barrier = pg_text(result, 0, TURN_BARRIER);
    if (turn.verdict == SHARING_UNKNOWN) {
        error_set(&error, ERROR_STATE, RETRY_NEVER, "outbox.share_turn says \"%s\"",
                  pg_text(result, 0, TURN_VERDICT));
        sharing->options.on_failure(sharing->options.data, &error);
    } else if (barrier && snapshot_parse(&turn.barrier, barrier, &error) < 0) {
        sharing->options.on_failure(sharing->options.data, &error);
    } else {
        sharing->options.on_turn(sharing->options.data, &turn);
    }
    snapshot_release(turn.barrier);
}

void sharing_ask(struct sharing *sharing, bool at_rest)
{
    pg_params_reset(&sharing->params);
    pg_params_int4(&sharing->params, sharing->options.share);
    pg_params_int8(&sharing->params, sharing->epoch);
    pg_params_bool(&sharing->params, at_rest);
    send(sharing, &sql_relay_share_turn, &sharing->params, on_turn);
}

static void on_looked(void *data, struct pg_result *result, const struct error *failure)
{
    struct sharing *sharing = data;

    if (answered(sharing, failure) && pg_bool(result, 0, 0))
        sharing_ask(sharing, false);
}

void sharing_look(struct sharing *sharing)
{
    send(sharing, &sql_relay_share_look, NULL, on_looked);
}

/* The relay leaves all the same; the next owner of the share says that nothing is in flight. */
static void on_left(void *data, struct pg_result *result, const struct error *failure)
{
    struct sharing *sharing = data;

    (void)result;
    if (failure && failure->retry != RETRY_RECONNECT)
        log_failure(LOG_LEVEL_WARN,
                    "the share is not given back in good order: a change of the number of shares "
                    "waits for its next owner",
                    failure, LOG_INT("share", sharing->options.share));
}

void sharing_leave(struct sharing *sharing)
{
    pg_params_reset(&sharing->params);
    pg_params_int4(&sharing->params, sharing->options.share);
    pg_params_int8(&sharing->params, sharing->epoch);
    send(sharing, &sql_relay_share_leave, &sharing->params, on_left);
}

void sharing_start(struct sharing *sharing, int64_t epoch)
{
    sharing->epoch = epoch;
    sharing_ask(sharing, false);
}

void sharing_stop(struct sharing *sharing)
{
    sharing->epoch = 0;
}

int sharing_create(struct sharing **ret_sharing, const struct sharing_options *options,
                   struct error *error)
{
    struct sharing *sharing = calloc(1, sizeof(*sharing));

    if (!sharing)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "the share's turn");
    sharing->options = *options;
    pg_params_init(&sharing->params);
    *ret_sharing = sharing;
    return 0;
}

void sharing_destroy(struct sharing *sharing)
{
    if (!sharing)
        return;
    pg_params_free(&sharing->params);
    free(sharing);
}
