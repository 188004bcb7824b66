/* watch.h: `sagapost outbox status --watch`: samples, and how they are shown.
 *
 * watch.c takes a sample of the views of the outbox, and of a relay's /metrics when --relay names
 * one; watch_show.c makes a screen, a line or JSON of samples, without I/O. */
#ifndef SAGAPOST_CLI_WATCH_H
#define SAGAPOST_CLI_WATCH_H

#include "saga/cli/cli.h"
#include "saga/cli/scrape.h"

#define WATCH_SHARES_MAX  64
#define WATCH_REASONS_MAX 20

/* Counting further would read what is not worth reading: "100000 or more" says enough. */
#define WATCH_BACKLOG_ROWS_COUNTED 100000

#define WATCH_TEXT_BYTES 96

struct watch_share {
    int64_t share, epoch;
    char relay[WATCH_TEXT_BYTES]; /* "": none was ever here */
    bool owned;
    int64_t settled_id; /* the highest ever settled */
    int64_t backlog_rows;
    double oldest_s;
    int64_t waiting, parked, behind;
};

struct watch_reason {
    char state[WATCH_TEXT_BYTES], reason[WATCH_TEXT_BYTES];
    int64_t rows;
    double oldest_s, next_s; /* next_s: NaN when a person must decide */
};

enum watch_counter {
    WATCH_READ,
    WATCH_PUBLISHED,
    WATCH_CONFIRMED,
    WATCH_RETURNED,
    WATCH_NACKED,
    WATCH_UNKNOWN,
    WATCH_SET_ASIDE,
    WATCH_BLOCKED_SECONDS,
    WATCH_COUNTERS,
};

/* What is not in /metrics is NaN. */
struct watch_relay {
    const char *address; /* NULL: none was named */
    bool answered;
    char failure[256]; /* why not */
    double counters[WATCH_COUNTERS];
    double in_flight, unpersisted, window_limit, stalled, owner;
    struct scrape_histogram send_to_confirm, insert_to_confirm;
};

struct watch_sample {
    int64_t at_us, wall_us; /* at_us: monotonic */
    bool answered;          /* PostgreSQL */
    char failure[256];      /* why not */
    int share_count, shares_unseen;
    struct watch_share shares[WATCH_SHARES_MAX];
    int reason_count;
    struct watch_reason reasons[WATCH_REASONS_MAX];
    struct watch_relay relay;
};

/* `first` and `before`: the samples from which means and present rates are counted; NULL: none yet.
 */
struct watch_series {
    const struct watch_sample *first, *before, *now;
};

/* The screen. `title`: database and interval. */
void watch_show_screen(const struct watch_series *series, const char *title, struct buffer *out);
/* A line per share, logfmt. */
void watch_show_lines(const struct watch_series *series, struct buffer *out);
/* One JSON object on one line. */
void watch_show_json(const struct watch_series *series, struct buffer *out);

void watch_read_relay(const char *text, struct watch_relay *ret_relay); /* /metrics */

/* Runs until it is ended. */
enum cli_exit watch_outbox(struct cli *cli, struct error *error);

#endif
