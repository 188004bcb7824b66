#include "saga/cli/watch.h"
#include "outbox/runtime/utf8.h"
#include "saga/cli/screen.h"
#include "saga/cli/sql.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A relay that does not answer at once must not hold up the screen. */
#define SCRAPE_TIMEOUT_US US_PER_S

/* What somebody else wrote must not drive this terminal; a character that is cut off goes too. */
static void copy_text(char *out, size_t capacity, const char *text)
{
    size_t bytes = text != NULL ? strnlen(text, capacity - 1) : 0, length;
    for (size_t i = 0; i < bytes; i += length) {
        uint32_t character;
        length = utf8_decode(text + i, bytes - i, &character);
        if (length == 0 || utf8_is_control(character)) {
            length = length > 0 ? length : 1;
            *out++ = '?';
        } else {
            memcpy(out, text + i, length);
            out += length;
        }
    }
    *out = '\0';
}

static void read_share(const struct pg_result *rows, int row, struct watch_share *ret_share)
{
    *ret_share = (struct watch_share){
        .share = pg_int(rows, row, 0),
        .epoch = pg_int(rows, row, 2),
        .owned = pg_bool(rows, row, 3),
        .settled_id = pg_int(rows, row, 4),
        .backlog_rows = pg_int(rows, row, 5),
        .oldest_s = pg_float(rows, row, 6),
        .waiting = pg_int(rows, row, 7),
        .parked = pg_int(rows, row, 8),
        .behind = pg_int(rows, row, 9),
    };
    copy_text(ret_share->relay, sizeof ret_share->relay, pg_text(rows, row, 1));
}

static void read_reason(const struct pg_result *rows, int row, struct watch_reason *ret_reason)
{
    *ret_reason = (struct watch_reason){
        .rows = pg_int(rows, row, 2),
        .oldest_s = pg_float(rows, row, 3),
        .next_s = pg_is_null(rows, row, 4) ? NAN : pg_float(rows, row, 4),
    };
    copy_text(ret_reason->state, sizeof ret_reason->state, pg_text(rows, row, 0));
    copy_text(ret_reason->reason, sizeof ret_reason->reason, pg_text(rows, row, 1));
}

static enum cli_exit sample_shares(struct cli *cli, struct watch_sample *sample,
                                   struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_int8(&params, WATCH_BACKLOG_ROWS_COUNTED);
    enum cli_exit status = cli_query(cli, &sql_cli_watch_shares, &params, &rows, error);
    if (status != CLI_DONE)
        return status;
    int count = pg_result_rows(rows);
    sample->share_count = count < WATCH_SHARES_MAX ? count : WATCH_SHARES_MAX;
    sample->shares_unseen = count - sample->share_count;
    for (int i = 0; i < sample->share_count; i++)
        read_share(rows, i, &sample->shares[i]);
    return CLI_DONE;
}

static enum cli_exit sample_reasons(struct cli *cli, struct watch_sample *sample,
                                    struct error *error)
{
    struct pg_params params __attribute__((cleanup(pg_params_free)));
    struct pg_result *rows __attribute__((cleanup(pg_result_freep))) = NULL;
    pg_params_init(&params);
    pg_params_int8(&params, WATCH_REASONS_MAX);
    enum cli_exit status = cli_query(cli, &sql_cli_watch_reasons, &params, &rows, error);
    if (status != CLI_DONE)
        return status;
    sample->reason_count = pg_result_rows(rows);
    for (int i = 0; i < sample->reason_count; i++)
        read_reason(rows, i, &sample->reasons[i]);
    return CLI_DONE;
}

static void sample_relay(const char *address, struct buffer *scratch, struct watch_relay *ret_relay)
{
    struct error error = {0};
    bool answered =
        address != NULL && scrape_fetch(address, SCRAPE_TIMEOUT_US, scratch, &error) == 0;
    watch_read_relay(answered ? buffer_text(scratch) : "", ret_relay);
    ret_relay->address = address;
    ret_relay->answered = answered;
    copy_text(ret_relay->failure, sizeof ret_relay->failure, answered ? NULL : error.message);
}

/* A server that goes away is part of what one wants to see: the next sample connects again. */
static enum cli_exit sample_take(struct cli *cli, struct buffer *scratch,
                                 struct watch_sample *ret_sample, struct error *error)
{
    *ret_sample = (struct watch_sample){.at_us = clock_monotonic_us(&clock_system),
                                        .wall_us = clock_wall_us(&clock_system)};
    enum cli_exit status = cli_connect(cli, error);
    if (status == CLI_DONE)
        status = sample_shares(cli, ret_sample, error);
    if (status == CLI_DONE)
        status = sample_reasons(cli, ret_sample, error);
    ret_sample->answered = status == CLI_DONE;
    if (status != CLI_DONE) {
        copy_text(ret_sample->failure, sizeof ret_sample->failure, error->message);
        pg_client_close(cli->pg);
        cli->pg = NULL;
    }
    sample_relay(config_text(cli->config, "relay"), scratch, &ret_sample->relay);
    return status;
}

/* The samples of which rates are made, and where they are written. */
struct watch {
    struct watch_sample first, before, now;
    bool has_first, has_before;
    struct buffer text, scratch;
    bool on_screen, json;
    int64_t interval_us;
    char title[128];
};

static void watch_free(struct watch **watch)
{
    if (*watch == NULL)
        return;
    if ((*watch)->on_screen)
        screen_close();
    buffer_free(&(*watch)->text);
    buffer_free(&(*watch)->scratch);
    free(*watch);
}

static void show(struct watch *watch, FILE *out)
{
    struct watch_series series = {watch->has_first ? &watch->first : NULL,
                                  watch->has_before ? &watch->before : NULL, &watch->now};
    buffer_clear(&watch->text);
    if (watch->on_screen)
        watch_show_screen(&series, watch->title, &watch->text);
    else if (watch->json)
        watch_show_json(&series, &watch->text);
    else
        watch_show_lines(&series, &watch->text);
    if (watch->on_screen)
        screen_draw(buffer_text(&watch->text));
    else
        fputs(buffer_text(&watch->text), out);
}

/* Rates are counted between samples for which PostgreSQL answered. */
static void keep(struct watch *watch)
{
    if (!watch->now.answered)
        return;
    if (!watch->has_first)
        watch->first = watch->now;
    watch->before = watch->now;
    watch->has_first = watch->has_before = true;
}

static bool pause_for(const struct watch *watch, FILE *out)
{
    if (watch->on_screen)
        return screen_wait(watch->interval_us);
    struct timespec pause = {.tv_sec = watch->interval_us / US_PER_S,
                             .tv_nsec = watch->interval_us % US_PER_S * 1000};
    if (fflush(out) != 0)
        return false; /* nobody reads */
    nanosleep(&pause, NULL);
    return true;
}

enum cli_exit watch_outbox(struct cli *cli, struct error *error)
{
    struct watch *watch __attribute__((cleanup(watch_free))) = calloc(1, sizeof *watch);
    if (watch == NULL) {
        error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for samples");
        return CLI_FAILED;
    }
    watch->json = cli->json;
    watch->interval_us = config_us(cli->config, "interval");
    buffer_init(&watch->text, 0);
    buffer_init(&watch->scratch, SCRAPE_BYTES_MAX);
    snprintf(watch->title, sizeof watch->title, "sagapost outbox, every %s, q ends",
             config_text(cli->config, "interval"));
    /* What cannot be had at all is said before there is a screen. */
    enum cli_exit status = sample_take(cli, &watch->scratch, &watch->now, error);
    if (status != CLI_DONE)
        return status;
    if (!watch->json && isatty(STDOUT_FILENO)) {
        if (screen_open(error) < 0)
            return CLI_FAILED;
        watch->on_screen = true;
    }
    do {
        show(watch, cli->out);
        keep(watch);
        if (!pause_for(watch, cli->out))
            return CLI_DONE;
        (void)sample_take(cli, &watch->scratch, &watch->now, error);
    } while (true);
}
