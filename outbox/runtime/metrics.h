/* metrics.h: counters, gauges and histograms, printed for Prometheus.
 *
 * A metric is made once at start and kept; counting is an addition. Names start with
 * sagapost_outbox_, sagapost_inbox_ or sagapost_saga_, counters end in _total (and nothing else
 * does; asserted), units are in the name (_seconds, _bytes). A histogram has fixed upper bounds. A
 * label set makes a series of its own; series per family are limited, and past the limit count into
 * label value "other", so that a stranger's routing key cannot eat the memory. Label values are cut
 * at 256 bytes. The label names of a family are always the same, in the same order. */
#ifndef SAGAPOST_RUNTIME_METRICS_H
#define SAGAPOST_RUNTIME_METRICS_H

#include "outbox/runtime/buffer.h"
#include "outbox/runtime/error.h"
#include <stdint.h>

#define METRICS_SERIES_MAX 1000 /* per family */

struct metrics;
struct metric;

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

int metrics_create(struct metrics **ret_metrics, struct error *error) MUST_CHECK;
void metrics_destroy(struct metrics *metrics);

/* The same name and labels give the same metric, found by a hash. `labels` is NULL or pairs of name
 * and value as {"state", "waiting", NULL}. Never NULL: out of memory is fatal for a family (made at
 * start) and folds a new series into "other". */
struct metric *metrics_get(struct metrics *metrics, enum metric_type type, const char *name,
                           const char *help, const char *const *labels);
struct metric *metrics_get_histogram(struct metrics *metrics, const char *name, const char *help,
                                     const char *const *labels, const double *bounds,
                                     int bound_count);
/* Bounds in seconds for latency: 0.5 ms to 60 s. */
extern const double metrics_latency_bounds[];
extern const int metrics_latency_bound_count;

void metric_add(struct metric *metric, double by);        /* a counter only grows */
void metric_set(struct metric *metric, double value);     /* gauges */
void metric_observe(struct metric *metric, double value); /* histograms; never NaN */
double metric_value(const struct metric *metric);         /* of a histogram: the count */

void metrics_print(const struct metrics *metrics, struct buffer *out); /* text format 0.0.4 */

#endif
