/* inbox_batch.c: one batch: accept, the service's work, commit; and what becomes of one that fails.
 */
#include "outbox/inbox/inbox_private.h"

#include <stdio.h>
#include <string.h>

/* Why a transaction did not take place, in both languages: the user's, and that of split.h. */
struct failure {
    struct sagapost_error told;
    enum error_retry retry;
    bool was_working; /* the connection was well when the work began */
};

/* One that was there too often when the connection was lost is taken alone (held.h). */
static bool accept_message(void *data, const struct held_message *message)
{
    struct sagapost_inbox *inbox = data;
    bool is_suspected = message->losses >= HELD_LOSSES_SUSPECT;

    if (inbox->is_suspected || (is_suspected && inbox->taken > 0))
        return false;
    inbox->is_suspected = is_suspected;
    inbox->taken++;
    return true;
}

/* The transaction ------------------------------------------------------------------------------ */

static int fail(struct failure *failure, int code, enum error_retry retry, const char *message)
{
    failure->told.code = code;
    failure->told.sqlstate[0] = '\0';
    (void)snprintf(failure->told.message, sizeof(failure->told.message), "%s", message);
    failure->retry = retry;
    return code;
}

static int fail_server(struct failure *failure)
{
    failure->retry = sagapost_internal_retry(failure->told.code);
    return failure->told.code;
}

/* Which of the range are new. `told` in the database's own words. */
static int accept_range(struct sagapost_inbox *inbox, int first, int count, int *ret_fresh,
                        struct failure *failure)
{
    for (int i = 0; i < count; i++) {
        const struct arrived *arrived = inbox->messages[first + i]->extra;
        inbox->ids[i] = arrived->message_id;
    }
    if (sagapost_internal_begin(inbox->connection, &failure->told) < 0)
        return fail_server(failure);
    if (inbox->options.recognises)
        memset(inbox->firsts, true, (size_t)count * sizeof(*inbox->firsts));
    else if (sagapost_internal_accept_batch(inbox->connection, inbox->options.consumer, inbox->ids,
                                            count, inbox->firsts, &failure->told) < 0)
        return fail_server(failure);
    *ret_fresh = 0;
    for (int i = 0; i < count; i++) {
        if (inbox->firsts[i])
            inbox_describe(inbox->messages[first + i], &inbox->fresh[(*ret_fresh)++]);
    }
    return 0;
}

static int work(struct sagapost_inbox *inbox, int fresh, struct failure *failure)
{
    int code = inbox->options.on_batch(inbox->options.data, inbox->connection, inbox->fresh, fresh);

    if (sagapost_internal_is_lost(inbox->connection))
        return fail(failure, SAGAPOST_ERROR_LOST, RETRY_RECONNECT, "the connection was lost");
    switch (sagapost_internal_transaction(inbox->connection)) {
    case SERVICE_NONE:
        /* Accepted or not, done or not: that cannot be told apart any more. */
        return fail(failure, SAGAPOST_ERROR_USAGE, RETRY_NONE, "on_batch ended the transaction");
    case SERVICE_FAILED:
        if (code == 0)
            return fail(failure, SAGAPOST_ERROR_NO_SERVICE, RETRY_BUG,
                        "on_batch reported success, and its transaction had failed");
        break;
    case SERVICE_OPEN:
        break;
    }
    if (code == 0)
        return 0;
    char message[64];
    (void)snprintf(message, sizeof(message), "on_batch returned %d", code);
    /* Lost is something else than this connection: no reason to make that one anew. */
    return fail(failure, code,
                code == SAGAPOST_ERROR_LOST ? RETRY_LATER : sagapost_internal_retry(code), message);
}

static int do_range(struct sagapost_inbox *inbox, int first, int count, struct failure *failure)
{
    int fresh = 0;
    int code = accept_range(inbox, first, count, &fresh, failure);

    failure->was_working = code == 0;
    if (code == 0 && fresh > 0)
        code = work(inbox, fresh, failure);
    if (code == 0 && sagapost_internal_commit(inbox->connection, &failure->told) < 0)
        code = fail_server(failure);
    if (code == 0) {
        inbox->counts.batches++;
        inbox->counts.taken += (unsigned)fresh;
        inbox->counts.repeated += (unsigned)(count - fresh);
        return 0;
    }
    inbox->counts.failures++;
    struct sagapost_error error;
    if (failure->retry != RETRY_RECONNECT &&
        sagapost_internal_transaction(inbox->connection) != SERVICE_NONE &&
        sagapost_internal_rollback(inbox->connection, &error) < 0) {
        failure->told = error;
        failure->retry = RETRY_RECONNECT;
    }
    return code;
}

/* What becomes of it --------------------------------------------------------------------------- */

static void settle_range(struct sagapost_inbox *inbox, int first, int count)
{
    for (int i = first; i < first + count; i++)
        held_settle(inbox->held, inbox->messages[i]);
    split_done(&inbox->split);
}

static void put_back_rest(struct sagapost_inbox *inbox)
{
    int first, count;

    while (split_range(&inbox->split, &first, &count)) {
        for (int i = first; i < first + count; i++)
            held_put_back(inbox->held, inbox->messages[i], 0);
        split_done(&inbox->split);
    }
}

static void connection_lost(struct sagapost_inbox *inbox, int first, int count,
                            const struct failure *failure)
{
    for (int i = first; i < first + count && failure->was_working; i++)
        inbox->messages[i]->losses++;
    put_back_rest(inbox);
    inbox_database_lost(inbox, failure->told.message);
}

static void culprit_found(struct sagapost_inbox *inbox, struct held_message *message,
                          const struct failure *failure)
{
    int64_t pause_us;
    struct error error = {.code = ERROR_POSTGRES, .retry = failure->retry};

    if (split_culprit(&error, ++message->tries, &pause_us) == CULPRIT_GIVE_UP)
        inbox_refuse(inbox, message, &failure->told);
    else
        held_put_back(inbox->held, message, loop_now_us(inbox->loop) + pause_us);
}

bool inbox_run_batch(struct sagapost_inbox *inbox)
{
    int first, count;
    uint64_t tag;

    inbox->taken = 0;
    inbox->is_suspected = false;
    count = held_take(inbox->held, loop_now_us(inbox->loop), inbox->options.batch_max,
                      accept_message, inbox, inbox->messages);
    if (count == 0)
        return false;
    split_start(&inbox->split, count);
    while (split_range(&inbox->split, &first, &count)) {
        struct failure failure = {0};
        struct held_message *only = inbox->messages[first];
        if (count == 1 && only->losses >= HELD_LOSSES_MAX) {
            (void)fail(&failure, SAGAPOST_ERROR_LOST, RETRY_NONE,
                       "the connection to PostgreSQL was lost each time it was worked on");
            inbox_refuse(inbox, only, &failure.told);
            split_done(&inbox->split);
        } else if (do_range(inbox, first, count, &failure) == 0) {
            settle_range(inbox, first, count);
        } else if (failure.told.code == SAGAPOST_ERROR_USAGE && failure.retry == RETRY_NONE) {
            inbox->fatal = failure.told;
            put_back_rest(inbox);
        } else if (failure.retry == RETRY_RECONNECT) {
            connection_lost(inbox, first, count, &failure);
        } else if (!split_failed(&inbox->split)) {
            culprit_found(inbox, only, &failure);
        }
    }
    /* After each batch, so that what is worked on later cannot hold it up. */
    if (held_ack(inbox->held, &tag))
        broker_ack(inbox->broker, tag, true);
    return true;
}
