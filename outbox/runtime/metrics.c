/* Families of series. A family is asked for by name, a series in it by the text of its labels. */
#include "outbox/runtime/metrics.h"

#include "outbox/runtime/utf8.h"
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKET_COUNT_MAX      64
#define LABEL_VALUE_BYTES_MAX 256
#define LABELS_BYTES_MAX      8192
#define HASH_SLOTS            256 /* per family; a chain holds METRICS_SERIES_MAX / 256 at most usually */

struct metric {
    struct family *family;
    struct metric *next;      /* in the order made, for printing */
    struct metric *next_hash; /* in its slot */
    char *labels;             /* as printed, without braces: state="waiting",share="0" */
    double value;             /* counter, gauge; of a histogram: the sum */
    uint64_t count;           /* of a histogram */
    uint64_t *buckets;        /* not cumulated; those over the last bound are in count alone */
    bool touched;
};

struct family {
    struct family *next;
    enum metric_type type;
    char *name;
    char *help;
    double *bounds;
    int bound_count;
    int series_count;
    struct metric *first, *last;
    struct metric *other; /* takes what is past the limit; printed once something is in it */
    struct metric *slots[HASH_SLOTS];
};

struct metrics {
    struct family *first, *last;
    struct buffer scratch; /* labels are written here to be looked up */
};

const double metrics_latency_bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                         0.25,   0.5,   1,      2.5,   5,    10,    30,   60};
const int metrics_latency_bound_count =
    (int)(sizeof(metrics_latency_bounds) / sizeof(metrics_latency_bounds[0]));

int metrics_create(struct metrics **ret_metrics, struct error *error)
{
    struct metrics *metrics = calloc(1, sizeof(*metrics));

    if (!metrics)
        return error_set(error, ERROR_NO_MEMORY, RETRY_LATER, "no memory for the metrics");
    buffer_init(&metrics->scratch, LABELS_BYTES_MAX);
    *ret_metrics = metrics;
    return 0;
}

static void free_metric(struct metric *metric)
{
    free(metric->labels);
    free(metric->buckets);
    free(metric);
}

static void free_family(struct family *family)
{
    struct metric *metric, *next;

    for (metric = family->first; metric; metric = next) {
        next = metric->next;
        free_metric(metric);
    }
    free_metric(family->other);
    free(family->name);
    free(family->help);
    free(family->bounds);
    free(family);
}

void metrics_destroy(struct metrics *metrics)
{
    struct family *family, *next;

    if (!metrics)
        return;
    for (family = metrics->first; family; family = next) {
        next = family->next;
        free_family(family);
    }
    buffer_free(&metrics->scratch);
    free(metrics);
}

/* --- labels --------------------------------------------------------------------------------- */

/* The text format escapes backslash, quote and newline in values, and wants UTF-8. */
static void append_value(struct buffer *out, const char *text)
{
    size_t bytes = strnlen(text, LABEL_VALUE_BYTES_MAX);
    size_t i = 0;

    while (i < bytes) {
        uint32_t character;
        size_t length = utf8_decode(text + i, bytes - i, &character);
        if (!length) {
            buffer_append_text(out, "\xef\xbf\xbd");
            length = 1;
        } else if (character == '\n') {
            buffer_append_text(out, "\\n");
        } else {
            if (character == '"' || character == '\\')
                buffer_append_text(out, "\\");
            buffer_append(out, text + i, length);
        }
        i += length;
    }
}

/* `value` in place of every value, unless NULL. */
static void write_labels(struct buffer *out, const char *const *labels, const char *value)
{
    int i;

    buffer_clear(out);
    for (i = 0; labels && labels[i]; i += 2) {
        assert(labels[i + 1]);
        buffer_append_format(out, "%s%s=\"", i ? "," : "", labels[i]);
        append_value(out, value ? value : labels[i + 1]);
        buffer_append_text(out, "\"");
    }
}

/* FNV-1a. */
static unsigned slot_of(const char *labels)
{
    uint32_t hash = 2166136261u;

    for (; *labels; labels++)
        hash = (hash ^ (uint8_t)*labels) * 16777619u;
    return (hash ^ hash >> 16) % HASH_SLOTS;
}

/* --- families and series -------------------------------------------------------------------- */

static bool name_is_good(const char *name, enum metric_type type)
{
    size_t bytes = strlen(name);

    return strncmp(name, "sagapost_", 9) == 0 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == bytes &&
           (type == METRIC_COUNTER) == (bytes > 6 && strcmp(name + bytes - 6, "_total") == 0);
}

static struct family *find_family(const struct metrics *metrics, const char *name)
{
    struct family *family = metrics->first;

    while (family && strcmp(family->name, name) != 0)
        family = family->next;
    return family;
}

/* Families are made at start; without memory then there is nothing to go on with. */
static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static struct family *add_family(struct metrics *metrics, enum metric_type type, const char *name,
                                 const char *help, const double *bounds, int bound_count)
{
    struct family *family = must(calloc(1, sizeof(*family)));
    int i;

    assert(name_is_good(name, type));
    assert((type == METRIC_HISTOGRAM) == (bound_count > 0) && bound_count <= BUCKET_COUNT_MAX);
    for (i = 1; i < bound_count; i++)
        assert(bounds[i - 1] < bounds[i]);
    family->type = type;
    family->name = must(strdup(name));
    family->help = must(strdup(help));
    if (bound_count) {
        family->bounds = must(calloc((size_t)bound_count, sizeof(double)));
        memcpy(family->bounds, bounds, (size_t)bound_count * sizeof(double));
        family->bound_count = bound_count;
    }
    if (metrics->last)
        metrics->last->next = family;
    else
        metrics->first = family;
    metrics->last = family;
    return family;
}

static struct metric *new_metric(struct family *family, const char *labels)
{
    struct metric *metric = calloc(1, sizeof(*metric));

    if (!metric)
        return NULL;
    metric->family = family;
    metric->labels = strdup(labels);
    if (family->bound_count)
        metric->buckets = calloc((size_t)family->bound_count, sizeof(uint64_t));
    if (!metric->labels || (family->bound_count && !metric->buckets)) {
        free_metric(metric);
        return NULL;
    }
    return metric;
}

static struct metric *find_metric(const struct family *family, const char *labels)
{
    struct metric *metric = family->slots[slot_of(labels)];

    while (metric && strcmp(metric->labels, labels) != 0)
        metric = metric->next_hash;
    return metric;
}

static struct metric *add_metric(struct family *family, const char *labels)
{
    unsigned slot = slot_of(labels);
    struct metric *metric;

    if (family->series_count == METRICS_SERIES_MAX)
        return NULL;
    metric = new_metric(family, labels);
    if (!metric)
        return NULL;
    metric->next_hash = family->slots[slot];
    family->slots[slot] = metric;
    if (family->last)
        family->last->next = metric;
    else
        family->first = metric;
    family->last = metric;
    family->series_count++;
    return metric;
}

static struct metric *get(struct metrics *metrics, enum metric_type type, const char *name,
                          const char *help, const char *const *labels, const double *bounds,
                          int bound_count)
{
    struct family *family = find_family(metrics, name);
    struct metric *metric = NULL;

    if (!family)
        family = add_family(metrics, type, name, help, bounds, bound_count);
    assert(family->type == type && family->bound_count == bound_count);
    if (!family->other) {
        write_labels(&metrics->scratch, labels, "other");
        family->other = must(new_metric(family, buffer_text(&metrics->scratch)));
    }
    write_labels(&metrics->scratch, labels, NULL);
    if (!metrics->scratch.failed) {
        metric = find_metric(family, buffer_text(&metrics->scratch));
        if (!metric)
            metric = add_metric(family, buffer_text(&metrics->scratch));
    }
    return metric ? metric : family->other;
}

struct metric *metrics_get(struct metrics *metrics, enum metric_type type, const char *name,
                           const char *help, const char *const *labels)
{
    assert(type != METRIC_HISTOGRAM);
    return get(metrics, type, name, help, labels, NULL, 0);
}

struct metric *metrics_get_histogram(struct metrics *metrics, const char *name, const char *help,
                                     const char *const *labels, const double *bounds,
                                     int bound_count)
{
    return get(metrics, METRIC_HISTOGRAM, name, help, labels, bounds, bound_count);
}

/* --- counting ------------------------------------------------------------------------------- */

void metric_add(struct metric *metric, double by)
{
    assert(metric->family->type != METRIC_HISTOGRAM);
    assert(metric->family->type != METRIC_COUNTER || by >= 0);
    metric->value += by;
    metric->touched = true;
}

void metric_set(struct metric *metric, double value)
{
    assert(metric->family->type == METRIC_GAUGE);
    metric->value = value;
    metric->touched = true;
}

void metric_observe(struct metric *metric, double value)
{
    const struct family *family = metric->family;
    int i = 0;

    assert(family->type == METRIC_HISTOGRAM && !isnan(value));
    while (i < family->bound_count && value > family->bounds[i])
        i++;
    if (i < family->bound_count)
        metric->buckets[i]++;
    metric->count++;
    metric->value += value;
    metric->touched = true;
}

double metric_value(const struct metric *metric)
{
    return metric->family->type == METRIC_HISTOGRAM ? (double)metric->count : metric->value;
}

/* --- printing ------------------------------------------------------------------------------- */

/* The shortest of two forms that reads back as the same number. */
static void print_number(struct buffer *out, double number)
{
    char text[40];

    if (isnan(number)) {
        buffer_append_text(out, "NaN");
    } else if (isinf(number)) {
        buffer_append_text(out, number > 0 ? "+Inf" : "-Inf");
    } else {
        snprintf(text, sizeof(text), "%.15g", number);
        if (strtod(text, NULL) != number)
            snprintf(text, sizeof(text), "%.17g", number);
        buffer_append_text(out, text);
    }
}

static void print_help(struct buffer *out, const char *help)
{
    for (; *help; help++) {
        if (*help == '\\')
            buffer_append_text(out, "\\\\");
        else if (*help == '\n')
            buffer_append_text(out, "\\n");
        else
            buffer_append(out, help, 1);
    }
}

static void print_name(struct buffer *out, const struct metric *metric, const char *suffix)
{
    buffer_append_format(out, "%s%s", metric->family->name, suffix);
    if (metric->labels[0])
        buffer_append_format(out, "{%s}", metric->labels);
    buffer_append_text(out, " ");
}

static void print_bucket(struct buffer *out, const struct metric *metric, double bound,
                         uint64_t count)
{
    buffer_append_format(out, "%s_bucket{%s%sle=\"", metric->family->name, metric->labels,
                         metric->labels[0] ? "," : "");
    print_number(out, bound);
    buffer_append_format(out, "\"} %" PRIu64 "\n", count);
}

static void print_metric(struct buffer *out, const struct metric *metric)
{
    const struct family *family = metric->family;
    uint64_t below = 0;
    int i;

    if (family->type != METRIC_HISTOGRAM) {
        print_name(out, metric, "");
        print_number(out, metric->value);
        buffer_append_text(out, "\n");
        return;
    }
    for (i = 0; i < family->bound_count; i++) {
        below += metric->buckets[i];
        print_bucket(out, metric, family->bounds[i], below);
    }
    print_bucket(out, metric, (double)INFINITY, metric->count);
    print_name(out, metric, "_sum");
    print_number(out, metric->value);
    buffer_append_text(out, "\n");
    print_name(out, metric, "_count");
    buffer_append_format(out, "%" PRIu64 "\n", metric->count);
}

void metrics_print(const struct metrics *metrics, struct buffer *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    const struct family *family;
    const struct metric *metric;

    for (family = metrics->first; family; family = family->next) {
        buffer_append_format(out, "# HELP %s ", family->name);
        print_help(out, family->help);
        buffer_append_format(out, "\n# TYPE %s %s\n", family->name, types[family->type]);
        for (metric = family->first; metric; metric = metric->next)
            print_metric(out, metric);
        if (family->other->touched)
            print_metric(out, family->other);
    }
}
