#include "outbox/relay/ownership/ghosts.h"
#include "outbox/relay/sql.h"
#include "outbox/runtime/log.h"

#include <stdlib.h>

struct confirmed {
    int64_t id;
    struct uuid message_id;
};

struct ghosts {
    struct pg_session *session;
    int32_t share;
    struct stats *stats;
    int64_t timeline;            /* whose ghosts are known; 0: none was seen yet */
    int64_t promoted;            /* the one that is looked at */
    struct confirmed *confirmed; /* a ring of GHOSTS_REMEMBERED */
    uint64_t count;              /* ever */
    struct pg_params params;
};

/* A connection that is lost in the midst of it is no news: the next one looks again. */
static void say(const struct error *failure)
{
    if (failure->retry != RETRY_RECONNECT)
        log_failure(LOG_LEVEL_ERROR, "ghosts cannot be looked for", failure);
}

static void send(struct ghosts *ghosts, const struct pg_statement *statement,
                 const struct pg_params *params, pg_callback *callback)
{
    struct error error = {0};

    if (pg_session_send(ghosts->session, statement, params, callback, ghosts, &error) < 0 ||
        pg_session_sync(ghosts->session, NULL, NULL, &error) < 0)
        say(&error);
}

static void on_found(void *data, struct pg_result *result, const struct error *failure)
{
    struct ghosts *ghosts = data;
    char message_id[UUID_TEXT_BYTES];
    struct uuid first;

    if (failure) {
        say(failure);
        return;
    }
    ghosts->timeline = ghosts->promoted;
    if (pg_result_rows(result) == 0) {
        log_info("no message is a ghost of the old timeline");
        return;
    }
    first = pg_uuid(result, 0, 0);
    uuid_format(&first, message_id);
    metric_add(ghosts->stats->ghosts, pg_result_rows(result));
    log_error("messages were sent whose transactions the promoted server does not have: see "
              "'sagapost outbox ghosts'",
              LOG_INT("messages", pg_result_rows(result)), LOG_STR("first", message_id));
}

static void find(struct ghosts *ghosts)
{
    uint64_t first = ghosts->count > GHOSTS_REMEMBERED ? ghosts->count - GHOSTS_REMEMBERED : 0;

    pg_params_reset(&ghosts->params);
    pg_params_int4(&ghosts->params, ghosts->share);
    pg_params_array_begin(&ghosts->params, PG_TYPE_INT8);
    for (uint64_t i = first; i < ghosts->count; i++)
        pg_params_item_int8(&ghosts->params, ghosts->confirmed[i % GHOSTS_REMEMBERED].id);
    pg_params_array_end(&ghosts->params);
    pg_params_array_begin(&ghosts->params, PG_TYPE_UUID);
    for (uint64_t i = first; i < ghosts->count; i++)
        pg_params_item_uuid(&ghosts->params, &ghosts->confirmed[i % GHOSTS_REMEMBERED].message_id);
    pg_params_array_end(&ghosts->params);
    send(ghosts, &sql_relay_ghosts, &ghosts->params, on_found);
}

static void on_timeline(void *data, struct pg_result *result, const struct error *failure)
{
    struct ghosts *ghosts = data;

    if (failure) {
        say(failure);
        return;
    }
    ghosts->promoted = pg_int(result, 0, 0);
    if (!ghosts->timeline)
        ghosts->timeline = ghosts->promoted;
    if (ghosts->promoted == ghosts->timeline)
        return;
    log_warn("the server's timeline has changed: a standby was promoted",
             LOG_INT("from", ghosts->timeline), LOG_INT("to", ghosts->promoted));
    find(ghosts);
}

void ghosts_look(struct ghosts *ghosts)
{
    send(ghosts, &sql_relay_timeline, NULL, on_timeline);
}

void ghosts_remember(struct ghosts *ghosts, int64_t id, struct uuid message_id)
{
    ghosts->confirmed[ghosts->count++ % GHOSTS_REMEMBERED] = (struct confirmed){id, message_id};
}

int ghosts_create(struct ghosts **ret_ghosts, struct pg_session *session, int32_t share,
                  struct stats *stats, struct error *error)
{
    struct ghosts *ghosts = calloc(1, sizeof(*ghosts));

    if (ghosts)
        ghosts->confirmed = calloc(GHOSTS_REMEMBERED, sizeof(*ghosts->confirmed));
    if (!ghosts || !ghosts->confirmed) {
        free(ghosts);
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "the memory of confirmed messages");
    }
    ghosts->session = session;
    ghosts->share = share;
    ghosts->stats = stats;
    pg_params_init(&ghosts->params);
    *ret_ghosts = ghosts;
    return 0;
}

void ghosts_destroy(struct ghosts *ghosts)
{
    if (!ghosts)
        return;
    pg_params_free(&ghosts->params);
    free(ghosts->confirmed);
    free(ghosts);
}
