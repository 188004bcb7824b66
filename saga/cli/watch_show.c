/* What a person, a log or a script sees of samples. Pure. */
#include "saga/cli/watch.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *series, *name;
} counters[WATCH_COUNTERS] = {
    [WATCH_READ] = {"sagapost_outbox_read_total", "read"},
    [WATCH_PUBLISHED] = {"sagapost_outbox_published_total", "published"},
    [WATCH_CONFIRMED] = {"sagapost_outbox_confirmed_total", "confirmed"},
    [WATCH_RETURNED] = {"sagapost_outbox_returned_total", "returned"},
    [WATCH_NACKED] = {"sagapost_outbox_nacked_total", "nacked"},
    [WATCH_UNKNOWN] = {"sagapost_outbox_unknown_total", "unknown"},
    [WATCH_SET_ASIDE] = {"sagapost_outbox_set_aside_total", "set_aside"},
    [WATCH_BLOCKED_SECONDS] = {"sagapost_outbox_blocked_seconds_total", "blocked_seconds"},
};

void watch_read_relay(const char *text, struct watch_relay *ret_relay)
{
    *ret_relay = (struct watch_relay){
        .in_flight = scrape_value(text, "sagapost_outbox_in_flight"),
        .unpersisted = scrape_value(text, "sagapost_outbox_unpersisted"),
        .window_limit = scrape_value(text, "sagapost_outbox_window_limit"),
        .stalled = scrape_value(text, "sagapost_outbox_stalled"),
        .owner = scrape_value(text, "sagapost_outbox_role{role=\"owner\"}"),
    };
    for (int i = 0; i < WATCH_COUNTERS; i++)
        ret_relay->counters[i] = scrape_value(text, counters[i].series);
    scrape_read_histogram(text, "sagapost_outbox_confirm_latency_seconds",
                          &ret_relay->send_to_confirm);
    scrape_read_histogram(text, "sagapost_outbox_commit_to_confirm_seconds",
                          &ret_relay->insert_to_confirm);
}

/* Rates ---------------------------------------------------------------------------------------- */

static double rate(double from, double to, const struct watch_sample *since,
                   const struct watch_sample *now)
{
    double seconds = (double)(now->at_us - since->at_us) / US_PER_S;
    return seconds > 0 && to >= from ? (to - from) / seconds : NAN; /* less: it started anew */
}

/* Ids that were settled in a second, since that sample. */
static double share_rate(const struct watch_sample *since, const struct watch_sample *now,
                         int which)
{
    const struct watch_share *share = &now->shares[which];
    for (int i = 0; since != NULL && i < since->share_count; i++)
        if (since->shares[i].share == share->share)
            return rate((double)since->shares[i].settled_id, (double)share->settled_id, since, now);
    return NAN;
}

static double counter_rate(const struct watch_sample *since, const struct watch_sample *now,
                           enum watch_counter counter)
{
    if (since == NULL)
        return NAN;
    return rate(since->relay.counters[counter], now->relay.counters[counter], since, now);
}

/* Text ----------------------------------------------------------------------------------------- */

#define NUMBER_BYTES 32

/* "-" for what is not known. */
static const char *number_text(double number, const char *unit, char text[NUMBER_BYTES])
{
    if (isnan(number))
        return "-";
    if (isinf(number))
        return "over 60 s"; /* metrics_latency_bounds ends there */
    snprintf(text, NUMBER_BYTES, number < 10 && number != floor(number) ? "%.1f%s" : "%.0f%s",
             number, unit);
    return text;
}

static const char *seconds_text(double seconds, char text[NUMBER_BYTES])
{
    static const struct {
        double least, divisor;
        const char *unit;
    } units[] = {{86400, 86400, " d"}, {3600, 3600, " h"}, {100, 60, " min"}, {1, 1, " s"}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (isfinite(seconds) && seconds >= units[i].least)
            return number_text(seconds / units[i].divisor, units[i].unit, text);
    return number_text(isfinite(seconds) ? seconds * 1000 : seconds, " ms", text);
}

static const char *time_text(int64_t wall_us, char text[NUMBER_BYTES])
{
    time_t seconds = (time_t)(wall_us / US_PER_S);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    strftime(text, NUMBER_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

/* Screen --------------------------------------------------------------------------------------- */

static void show_share(const struct watch_series *series, int which, struct buffer *out)
{
    const struct watch_share *share = &series->now->shares[which];
    char now[NUMBER_BYTES], mean[NUMBER_BYTES], oldest[NUMBER_BYTES], backlog[NUMBER_BYTES];
    snprintf(backlog, sizeof backlog, "%" PRId64 "%s", share->backlog_rows,
             share->backlog_rows >= WATCH_BACKLOG_ROWS_COUNTED ? "+" : "");
    buffer_append_format(out,
                         "%5" PRId64 "  %-5s  %5" PRId64 "  %9s  %9s  %9s  %9s  %7" PRId64
                         "  %7" PRId64 "  %7" PRId64 "  %s\n",
                         share->share, share->owned ? "yes" : "NO", share->epoch,
                         number_text(share_rate(series->before, series->now, which), "", now),
                         number_text(share_rate(series->first, series->now, which), "", mean),
                         backlog, seconds_text(share->oldest_s, oldest), share->waiting,
                         share->parked, share->behind,
                         share->relay[0] != '\0' ? share->relay : "no relay was ever here");
}

static void show_window(const struct watch_relay *relay, struct buffer *out)
{
    enum { WIDTH = 20 };
    char in_flight[NUMBER_BYTES], used[NUMBER_BYTES], limit[NUMBER_BYTES];
    double part = relay->unpersisted / relay->window_limit;
    int filled = part > 0 ? (int)ceil((part < 1 ? part : 1) * WIDTH) : 0; /* of NaN: 0 */
    buffer_append_text(out, "\nwindow [");
    for (int i = 0; i < WIDTH; i++)
        buffer_append_text(out, i < filled ? "#" : ".");
    buffer_append_format(
        out, "] %s of %s, %s in flight\n", number_text(relay->unpersisted, "", used),
        number_text(relay->window_limit, "", limit), number_text(relay->in_flight, "", in_flight));
}

static void show_latency(const char *what, const struct scrape_histogram *from,
                         const struct scrape_histogram *to, struct buffer *out)
{
    char half[NUMBER_BYTES], most[NUMBER_BYTES];
    buffer_append_format(out, "%-18s p50 %-9s  p99 %s\n", what,
                         seconds_text(scrape_quantile(from, to, 0.5), half),
                         seconds_text(scrape_quantile(from, to, 0.99), most));
}

static void show_relay(const struct watch_series *series, struct buffer *out)
{
    const struct watch_relay *relay = &series->now->relay;
    const struct watch_relay *before = series->before != NULL ? &series->before->relay : NULL;
    char now[NUMBER_BYTES], mean[NUMBER_BYTES], all[NUMBER_BYTES];
    if (relay->address == NULL)
        return;
    if (!relay->answered) {
        buffer_append_format(out, "\nrelay %s\n", relay->failure);
        return;
    }
    buffer_append_format(out, "\nrelay %s: %s%s\n", relay->address,
                         relay->owner > 0 ? "owner" : "standby",
                         relay->stalled > 0 ? ", STALLED: outbox.parked is at its limit" : "");
    buffer_append_format(out, "%-18s %9s  %9s  %12s\n", "", "a second", "mean", "in all");
    for (enum watch_counter i = 0; i < WATCH_COUNTERS; i++)
        buffer_append_format(out, "%-18s %9s  %9s  %12s\n", counters[i].name,
                             number_text(counter_rate(series->before, series->now, i), "", now),
                             number_text(counter_rate(series->first, series->now, i), "", mean),
                             number_text(relay->counters[i], "", all));
    show_window(relay, out);
    show_latency("send to confirm", before != NULL ? &before->send_to_confirm : NULL,
                 &relay->send_to_confirm, out);
    show_latency("insert to confirm", before != NULL ? &before->insert_to_confirm : NULL,
                 &relay->insert_to_confirm, out);
}

static void show_reasons(const struct watch_sample *now, struct buffer *out)
{
    char oldest[NUMBER_BYTES], next[NUMBER_BYTES];
    if (now->reason_count == 0) {
        buffer_append_text(out, "\nnothing is parked\n");
        return;
    }
    buffer_append_format(out, "\n%-9s %-20s %9s  %9s  %s\n", "parked", "reason", "rows", "oldest",
                         "next attempt in");
    for (int i = 0; i < now->reason_count; i++) {
        const struct watch_reason *reason = &now->reasons[i];
        buffer_append_format(out, "%-9s %-20s %9" PRId64 "  %9s  %s\n", reason->state,
                             reason->reason, reason->rows, seconds_text(reason->oldest_s, oldest),
                             seconds_text(reason->next_s < 0 ? 0 : reason->next_s, next));
    }
}

void watch_show_screen(const struct watch_series *series, const char *title, struct buffer *out)
{
    const struct watch_sample *now = series->now;
    char time[NUMBER_BYTES];
    buffer_append_format(out, "%s   %s\n\n", title, time_text(now->wall_us, time));
    if (!now->answered) {
        buffer_append_format(out, "PostgreSQL: %s\n", now->failure);
        show_relay(series, out);
        return;
    }
    buffer_append_format(out, "%5s  %-5s  %5s  %9s  %9s  %9s  %9s  %7s  %7s  %7s  %s\n", "share",
                         "owned", "epoch", "ids/s", "mean", "backlog", "oldest", "waiting",
                         "parked", "behind", "relay");
    for (int i = 0; i < now->share_count; i++)
        show_share(series, i, out);
    if (now->shares_unseen > 0)
        buffer_append_format(out, "      and %d more\n", now->shares_unseen);
    show_relay(series, out);
    show_reasons(now, out);
}

/* Lines and JSON ---------------------------------------------------------------------------------
 */

/* `name=number` or `"name": number`; of what is not known nothing, or null. */
static void put(struct buffer *out, bool json, const char *name, double number)
{
    if (json && isfinite(number))
        buffer_append_format(out, ", \"%s\": %.15g", name, number);
    else if (json)
        buffer_append_format(out, ", \"%s\": null", name);
    else if (isfinite(number))
        buffer_append_format(out, " %s=%.15g", name, number);
}

static void put_share(const struct watch_series *series, int which, bool json, struct buffer *out)
{
    const struct watch_share *share = &series->now->shares[which];
    buffer_append_format(out, json ? ", \"owned\": %s" : " owned=%s",
                         share->owned ? "true" : "false");
    put(out, json, "epoch", (double)share->epoch);
    put(out, json, "ids_per_second", share_rate(series->before, series->now, which));
    put(out, json, "backlog_rows", (double)share->backlog_rows);
    put(out, json, "backlog_oldest_seconds", share->oldest_s);
    put(out, json, "waiting", (double)share->waiting);
    put(out, json, "parked", (double)share->parked);
    put(out, json, "behind", (double)share->behind);
}

static void put_relay(const struct watch_series *series, bool json, struct buffer *out)
{
    const struct watch_relay *relay = &series->now->relay;
    const struct scrape_histogram *before =
        series->before != NULL ? &series->before->relay.send_to_confirm : NULL;
    char name[64];
    for (enum watch_counter i = 0; i < WATCH_COUNTERS; i++) {
        snprintf(name, sizeof name, "%s_per_second", counters[i].name);
        put(out, json, name, counter_rate(series->before, series->now, i));
    }
    put(out, json, "in_flight", relay->in_flight);
    put(out, json, "unpersisted", relay->unpersisted);
    put(out, json, "window_limit", relay->window_limit);
    put(out, json, "stalled", relay->stalled);
    put(out, json, "confirm_p50_seconds", scrape_quantile(before, &relay->send_to_confirm, 0.5));
    put(out, json, "confirm_p99_seconds", scrape_quantile(before, &relay->send_to_confirm, 0.99));
}

void watch_show_lines(const struct watch_series *series, struct buffer *out)
{
    const struct watch_sample *now = series->now;
    char time[NUMBER_BYTES];
    time_text(now->wall_us, time);
    if (!now->answered)
        buffer_append_format(out, "ts=%s postgres=away\n", time);
    for (int i = 0; i < now->share_count; i++) {
        buffer_append_format(out, "ts=%s share=%" PRId64, time, now->shares[i].share);
        put_share(series, i, false, out);
        buffer_append_text(out, "\n");
    }
    for (int i = 0; i < now->reason_count; i++)
        buffer_append_format(out, "ts=%s state=%s reason=%s rows=%" PRId64 "\n", time,
                             now->reasons[i].state, now->reasons[i].reason, now->reasons[i].rows);
    if (now->relay.address != NULL) {
        buffer_append_format(out, "ts=%s relay=%s", time,
                             now->relay.answered ? now->relay.address : "away");
        put_relay(series, false, out);
        buffer_append_text(out, "\n");
    }
}

/* Texts of ours, without control characters (watch.c). */
static void put_text(struct buffer *out, const char *text)
{
    buffer_append_text(out, "\"");
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            buffer_append_text(out, "\\");
        buffer_append(out, text, 1);
    }
    buffer_append_text(out, "\"");
}

void watch_show_json(const struct watch_series *series, struct buffer *out)
{
    const struct watch_sample *now = series->now;
    char time[NUMBER_BYTES];
    buffer_append_format(out, "{\"at\": \"%s\", \"postgres\": %s, \"shares\": [",
                         time_text(now->wall_us, time), now->answered ? "true" : "false");
    for (int i = 0; i < now->share_count; i++) {
        buffer_append_format(out, "%s{\"share\": %" PRId64 ", \"relay\": ", i > 0 ? ", " : "",
                             now->shares[i].share);
        put_text(out, now->shares[i].relay);
        put_share(series, i, true, out);
        buffer_append_text(out, "}");
    }
    buffer_append_text(out, "], \"parked\": [");
    for (int i = 0; i < now->reason_count; i++) {
        buffer_append_text(out, i > 0 ? ", {\"state\": " : "{\"state\": ");
        put_text(out, now->reasons[i].state);
        buffer_append_text(out, ", \"reason\": ");
        put_text(out, now->reasons[i].reason);
        put(out, true, "rows", (double)now->reasons[i].rows);
        put(out, true, "oldest_seconds", now->reasons[i].oldest_s);
        put(out, true, "next_attempt_seconds", now->reasons[i].next_s);
        buffer_append_text(out, "}");
    }
    buffer_append_text(out, "]");
    if (now->relay.address != NULL) {
        buffer_append_format(out, ", \"relay\": {\"answered\": %s",
                             now->relay.answered ? "true" : "false");
        put_relay(series, true, out);
        buffer_append_text(out, "}");
    }
    buffer_append_text(out, "}\n");
}
