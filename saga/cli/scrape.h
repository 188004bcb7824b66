/* scrape.h: a daemon's /metrics, read as Prometheus reads it.
 *
 * The text comes from a daemon of ours, but over a wire: it is looked through for what is asked
 * for, never trusted, and at most SCRAPE_BYTES_MAX of it are taken. */
#ifndef SAGAPOST_CLI_SCRAPE_H
#define SAGAPOST_CLI_SCRAPE_H

#include "outbox/runtime/buffer.h"
#include "outbox/runtime/error.h"

#define SCRAPE_BYTES_MAX   (4 * 1024 * 1024)
#define SCRAPE_BUCKETS_MAX 64

/* GET http://ADDRESS/metrics; `address` as in SETTING_ADDRESS. The body is put into ret_body, which
 * is cleared first. All of it within the timeout. */
int scrape_fetch(const char *address, int64_t timeout_us, struct buffer *ret_body,
                 struct error *error) MUST_CHECK;

/* The value of a series written as it is printed, `name` or `name{label="value"}`; NaN when it is
 * not there. */
double scrape_value(const char *text, const char *series);

/* A histogram's buckets as they are printed: cumulated, the last bound is infinity. */
struct scrape_histogram {
    int count; /* of buckets; 0: not there, or it makes no sense */
    double bounds[SCRAPE_BUCKETS_MAX];
    double below[SCRAPE_BUCKETS_MAX];
};
void scrape_read_histogram(const char *text, const char *name,
                           struct scrape_histogram *ret_histogram);

/* The quantile of what was observed between two readings (`from` NULL: since the daemon's start),
 * as histogram_quantile of Prometheus estimates it. NaN when nothing was, or the daemon started
 * anew; infinity when it lies above the last bound. */
double scrape_quantile(const struct scrape_histogram *from, const struct scrape_histogram *to,
                       double quantile);

#endif
