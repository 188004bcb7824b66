/* metrics: series, limits, the text format. */
#include "runtime_test.h"

#include "outbox/runtime/metrics.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct metrics *metrics;
static struct buffer out;

static int create(void **state)
{
    struct error error;

    (void)state;
    buffer_init(&out, 0);
    return metrics_create(&metrics, &error);
}

static int destroy(void **state)
{
    (void)state;
    metrics_destroy(metrics);
    metrics = NULL;
    buffer_free(&out);
    return 0;
}

static const char *print(void)
{
    buffer_clear(&out);
    metrics_print(metrics, &out);
    return buffer_text(&out);
}

static struct metric *gauge(const char *label)
{
    const char *const labels[] = {"state", label, NULL};

    return metrics_get(metrics, METRIC_GAUGE, "sagapost_outbox_rows", "rows", labels);
}

static void counters_and_gauges(void **state)
{
    struct metric *sent, *age;

    (void)state;
    assert_string_equal(print(), "");
    sent = metrics_get(metrics, METRIC_COUNTER, "sagapost_outbox_sent_total", "sent\\ \"so\"\nfar",
                       NULL);
    age = metrics_get(metrics, METRIC_GAUGE, "sagapost_outbox_age_seconds", "age", NULL);
    metric_add(sent, 1);
    metric_add(sent, 2);
    metric_add(sent, 0);
    metric_set(age, 0.5);
    metric_add(age, -0.75);
    assert_true(metric_value(sent) == 3);
    assert_string_equal(print(), "# HELP sagapost_outbox_sent_total sent\\\\ \"so\"\\nfar\n"
                                 "# TYPE sagapost_outbox_sent_total counter\n"
                                 "sagapost_outbox_sent_total 3\n"
                                 "# HELP sagapost_outbox_age_seconds age\n"
                                 "# TYPE sagapost_outbox_age_seconds gauge\n"
                                 "sagapost_outbox_age_seconds -0.25\n");
}

static void numbers_read_back(void **state)
{
    static const double numbers[] = {0,      1,    1e15 + 1, 0.1,   1.0 / 3,
                                     1e-300, 1e22, -7.25e9,  1e308, 123456789.123456789};
    struct metric *metric;
    unsigned i;

    (void)state;
    metric = metrics_get(metrics, METRIC_GAUGE, "sagapost_outbox_x", "x", NULL);
    for (i = 0; i < COUNT_OF(numbers); i++) {
        metric_set(metric, numbers[i]);
        assert_true(strtod(strrchr(print(), ' '), NULL) == numbers[i]);
    }
    metric_set(metric, NAN);
    assert_contains(print(), "sagapost_outbox_x NaN\n");
    metric_set(metric, INFINITY);
    assert_contains(print(), "sagapost_outbox_x +Inf\n");
    metric_set(metric, -INFINITY);
    assert_contains(print(), "sagapost_outbox_x -Inf\n");
}

static void labels_make_series(void **state)
{
    const char *const two[] = {"a", "1", "b", "x", NULL};

    (void)state;
    metric_set(gauge("waiting"), 2);
    metric_set(gauge("running"), 3);
    assert_ptr_equal(gauge("waiting"), gauge("waiting"));
    metric_set(metrics_get(metrics, METRIC_GAUGE, "sagapost_saga_two", "two", two), 1);
    assert_string_equal(print(), "# HELP sagapost_outbox_rows rows\n"
                                 "# TYPE sagapost_outbox_rows gauge\n"
                                 "sagapost_outbox_rows{state=\"waiting\"} 2\n"
                                 "sagapost_outbox_rows{state=\"running\"} 3\n"
                                 "# HELP sagapost_saga_two two\n"
                                 "# TYPE sagapost_saga_two gauge\n"
                                 "sagapost_saga_two{a=\"1\",b=\"x\"} 1\n");
}

static void label_values_are_escaped(void **state)
{
    char *long_value = malloc(1001);

    (void)state;
    metric_set(gauge("a\"b\\c\nd\xc3\xbc\xff"), 1);
    assert_contains(print(), "{state=\"a\\\"b\\\\c\\nd\xc3\xbc\xef\xbf\xbd\"} 1\n");
    memset(long_value, 'x', 1000);
    long_value[1000] = 0;
    metric_set(gauge(long_value), 2);
    long_value[256] = 'y'; /* cut before it: the same series */
    assert_true(metric_value(gauge(long_value)) == 2);
    free(long_value);
}

static void histograms(void **state)
{
    static const double bounds[] = {0.1, 1, 10};
    const char *const labels[] = {"step", "pay", NULL};
    struct metric *metric;

    (void)state;
    metric =
        metrics_get_histogram(metrics, "sagapost_saga_step_seconds", "step", labels, bounds, 3);
    metric_observe(metric, 0.05);
    metric_observe(metric, 0.1); /* a bound belongs below */
    metric_observe(metric, 0.5);
    metric_observe(metric, 100);
    assert_true(metric_value(metric) == 4);
    assert_contains(print(), "# TYPE sagapost_saga_step_seconds histogram\n"
                             "sagapost_saga_step_seconds_bucket{step=\"pay\",le=\"0.1\"} 2\n"
                             "sagapost_saga_step_seconds_bucket{step=\"pay\",le=\"1\"} 3\n"
                             "sagapost_saga_step_seconds_bucket{step=\"pay\",le=\"10\"} 3\n"
                             "sagapost_saga_step_seconds_bucket{step=\"pay\",le=\"+Inf\"} 4\n"
                             "sagapost_saga_step_seconds_sum{step=\"pay\"} 100.65\n"
                             "sagapost_saga_step_seconds_count{step=\"pay\"} 4\n");
    metric = metrics_get_histogram(metrics, "sagapost_outbox_confirm_seconds", "c", NULL,
                                   metrics_latency_bounds, metrics_latency_bound_count);
    metric_observe(metric, 0.0005);
    assert_contains(print(), "sagapost_outbox_confirm_seconds_bucket{le=\"0.0005\"} 1\n");
    assert_contains(print(), "sagapost_outbox_confirm_seconds_bucket{le=\"60\"} 1\n");
    assert_contains(print(), "sagapost_outbox_confirm_seconds_sum 0.0005\n");
}

static void series_are_limited(void **state)
{
    char label[32];
    struct metric *other;
    int i;

    (void)state;
    for (i = 0; i < METRICS_SERIES_MAX; i++) {
        snprintf(label, sizeof(label), "s%d", i);
        metric_set(gauge(label), i);
    }
    assert_lacks(print(), "other");
    other = gauge("one too many");
    assert_ptr_equal(gauge("two too many"), other);
    assert_lacks(print(), "other"); /* nothing is in it yet */
    metric_add(other, 5);
    metric_add(gauge("three too many"), 5);
    assert_contains(print(), "sagapost_outbox_rows{state=\"other\"} 10\n");
    for (i = 0; i < METRICS_SERIES_MAX; i++) { /* those before are what they were */
        snprintf(label, sizeof(label), "s%d", i);
        assert_true(metric_value(gauge(label)) == i);
    }
}

static void labels_too_long_fold_into_other(void **state)
{
    char value[257];
    const char *labels[2 * 40 + 1];
    struct metric *metric;
    int i;

    (void)state;
    memset(value, '"', 256); /* each grows to two bytes */
    value[256] = 0;
    for (i = 0; i < 40; i++) {
        labels[2 * i] = "a";
        labels[2 * i + 1] = value;
    }
    labels[80] = NULL;
    metric = metrics_get(metrics, METRIC_GAUGE, "sagapost_outbox_wide", "wide", labels);
    metric_set(metric, 7);
    assert_contains(print(), "a=\"other\",a=\"other\"");
    assert_lacks(print(), "\\\"");
}

static void a_series_without_memory_folds_into_other(void **state)
{
    static const double bounds[] = {1};
    const char *const first[] = {"step", "a", NULL}, *const second[] = {"step", "b", NULL};
    struct metric *metric;
    int nth;

    (void)state;
    metric = metrics_get_histogram(metrics, "sagapost_saga_step_seconds", "step", first, bounds, 1);
    metric_observe(metric, 0.5);
    for (nth = 1; nth <= 3; nth++) { /* the series, its labels, its buckets */
        struct metric *folded;
        fault_arm("alloc", nth, ENOMEM);
        folded =
            metrics_get_histogram(metrics, "sagapost_saga_step_seconds", "step", second, bounds, 1);
        assert_true(fault_disarm());
        assert_ptr_not_equal(folded, metric);
        metric_observe(folded, 0.5);
    }
    assert_contains(print(), "sagapost_saga_step_seconds_count{step=\"other\"} 3\n");
    assert_contains(print(), "sagapost_saga_step_seconds_count{step=\"a\"} 1\n");
}

/* At start there is nothing to go on with. */
static void a_family_without_memory_is_the_end(void **state)
{
    pid_t child = fork();
    int status;

    (void)state;
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL); /* cmocka's catches it */
        fault_arm("alloc", 1, ENOMEM);
        gauge("waiting");
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static int scenario(struct error *error)
{
    struct metrics *own;
    int result = metrics_create(&own, error);

    if (!result)
        metrics_destroy(own);
    return result;
}

static void without_memory(void **state)
{
    (void)state;
    assert_int_equal(each_allocation_fails(scenario), 1);
    metrics_destroy(NULL);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(counters_and_gauges),
        TEST(numbers_read_back),
        TEST(labels_make_series),
        TEST(label_values_are_escaped),
        TEST(histograms),
        TEST(series_are_limited),
        TEST(labels_too_long_fold_into_other),
        TEST(a_series_without_memory_folds_into_other),
        TEST(a_family_without_memory_is_the_end),
        TEST(without_memory),
    };

    return cmocka_run_group_tests_name("runtime metrics", tests, NULL, NULL);
}
