/* The live screen without a terminal: reading /metrics, rates between samples, and what is shown of
 * them. */
#include "saga/cli/watch.h"
#include <json-c/json.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char metrics[] = "# HELP sagapost_outbox_read_total rows read from the log\n"
                              "# TYPE sagapost_outbox_read_total counter\n"
                              "sagapost_outbox_read_total 1200\n"
                              "sagapost_outbox_published_total 1000\n"
                              "sagapost_outbox_confirmed_total 900.5\n"
                              "sagapost_outbox_confirmed_total_of_another 7\n"
                              "sagapost_outbox_in_flight 12\n"
                              "sagapost_outbox_unpersisted 500\n"
                              "sagapost_outbox_window_limit 2000\n"
                              "sagapost_outbox_stalled 0\n"
                              "sagapost_outbox_role{role=\"owner\"} 1\n"
                              "sagapost_outbox_role{role=\"standby\"} 0\n"
                              "sagapost_outbox_confirm_latency_seconds_bucket{le=\"0.001\"} 10\n"
                              "sagapost_outbox_confirm_latency_seconds_bucket{le=\"0.01\"} 90\n"
                              "sagapost_outbox_confirm_latency_seconds_bucket{le=\"+Inf\"} 100\n"
                              "sagapost_outbox_confirm_latency_seconds_sum 1\n"
                              "sagapost_outbox_confirm_latency_seconds_count 100\n";

static void values_are_found_by_their_whole_series(void **state)
{
    (void)state;
    assert_true(scrape_value(metrics, "sagapost_outbox_read_total") == 1200);
    assert_true(scrape_value(metrics, "sagapost_outbox_confirmed_total") == 900.5);
    assert_true(scrape_value(metrics, "sagapost_outbox_role{role=\"owner\"}") == 1);
    assert_true(isnan(scrape_value(metrics, "sagapost_outbox_role")));
    assert_true(isnan(scrape_value(metrics, "sagapost_outbox_read")));
    assert_true(isnan(scrape_value("", "sagapost_outbox_read_total")));
    assert_true(isnan(scrape_value("a b\n", "a")));
    assert_true(isnan(scrape_value("a 1 2\n", "a")));
    assert_true(isnan(scrape_value("a NaN\n", "a")));
    assert_true(scrape_value("a 3", "a") == 3);
}

static struct scrape_histogram histogram(const char *text)
{
    struct scrape_histogram read;
    scrape_read_histogram(text, "h", &read);
    return read;
}

static void histograms_that_make_no_sense_are_none(void **state)
{
    static const char *const bad[] = {
        "",
        "h_bucket{le=\"1\"} 3\n",                                                /* no infinity */
        "h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\n",                       /* falls */
        "h_bucket{le=\"2\"} 1\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\n", /* bounds fall */
        "h_bucket{le=\"nan\"} 1\nh_bucket{le=\"nan\"} 2\nh_bucket{le=\"+Inf\"} 3\n",
        "h_bucket{le=\"x\"} 1\nh_bucket{le=\"+Inf\"} 1\n",
        "h_bucket{le=\"1\" 1\nh_bucket{le=\"+Inf\"} 1\n",
        "h_bucket{le=\"1\"} many\nh_bucket{le=\"+Inf\"} 1\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(histogram(bad[i]).count, 0);
    char many[SCRAPE_BUCKETS_MAX * 40 + 80];
    size_t used = 0;
    for (int i = 0; i < SCRAPE_BUCKETS_MAX; i++)
        used += (size_t)snprintf(many + used, sizeof many - used, "h_bucket{le=\"%d\"} 1\n", i);
    snprintf(many + used, sizeof many - used, "h_bucket{le=\"+Inf\"} 1\n");
    assert_int_equal(histogram(many).count, 0);
}

static void quantiles(void **state)
{
    struct scrape_histogram before, now;
    (void)state;
    now = histogram("h_bucket{le=\"1\"} 10\nh_bucket{le=\"2\"} 90\nh_bucket{le=\"+Inf\"} 100\n");
    assert_int_equal(now.count, 3);
    assert_true(fabs(scrape_quantile(NULL, &now, 0.5) - 1.5) < 1e-9);
    assert_true(fabs(scrape_quantile(NULL, &now, 0.05) - 0.5) < 1e-9);
    assert_true(isinf(scrape_quantile(NULL, &now, 0.99)));
    before = histogram("h_bucket{le=\"1\"} 10\nh_bucket{le=\"2\"} 10\nh_bucket{le=\"+Inf\"} 20\n");
    assert_true(fabs(scrape_quantile(&before, &now, 0.5) - 1.5) < 1e-9); /* 80 in the second */
    assert_true(isnan(scrape_quantile(&now, &now, 0.5)));                /* nothing since */
    assert_true(isnan(scrape_quantile(&now, &before, 0.5)));             /* started anew */
    before.count = 0;
    assert_true(isnan(scrape_quantile(&before, &now, 0.5)));
    assert_true(isnan(scrape_quantile(NULL, &before, 0.5)));
}

/* Two samples, two seconds apart. */
struct fixture {
    struct watch_sample before, now;
    struct watch_series series;
    struct buffer text;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    fixture->before =
        (struct watch_sample){.at_us = 0, .wall_us = 1, .answered = true, .share_count = 1};
    fixture->before.shares[0] =
        (struct watch_share){.share = 0, .settled_id = 100, .owned = true, .epoch = 3};
    watch_read_relay(metrics, &fixture->before.relay);
    fixture->before.relay.address = "127.0.0.1:9";
    fixture->before.relay.answered = true;
    fixture->now = fixture->before;
    fixture->now.at_us = 2 * US_PER_S;
    fixture->now.shares[0].settled_id = 400;
    fixture->now.shares[0].backlog_rows = 17;
    fixture->now.shares[0].oldest_s = 0.25;
    strcpy(fixture->now.shares[0].relay, "the \"relay\" \\ here");
    fixture->now.relay.counters[WATCH_CONFIRMED] += 84;
    fixture->now.reason_count = 2;
    fixture->now.reasons[0] = (struct watch_reason){"parked", "returned", 3, 7200, NAN};
    fixture->now.reasons[1] = (struct watch_reason){"waiting", "nacked", 1, 0.5, -1};
    fixture->series = (struct watch_series){&fixture->before, &fixture->before, &fixture->now};
    buffer_init(&fixture->text, 0);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    buffer_free(&fixture->text);
    free(fixture);
    return 0;
}

static const char *on_screen(struct fixture *fixture)
{
    buffer_clear(&fixture->text);
    watch_show_screen(&fixture->series, "title", &fixture->text);
    return buffer_text(&fixture->text);
}

static void has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in:\n%s", part, text);
}

static void the_screen(void **state)
{
    struct fixture *fixture = *state;
    const char *text = on_screen(fixture);
    has(text, "title   1970-01-01T00:00:00Z");
    has(text, "    0  yes        3        150        150         17     250 ms");
    has(text, "relay 127.0.0.1:9: owner\n");
    has(text, "confirmed                 42         42           984\n"); /* 984.5, to even */
    has(text, "window [#####...............] 500 of 2000, 12 in flight");
    has(text, "parked    returned                     3        2 h  -\n");
    has(text, "waiting   nacked                       1     500 ms  0 ms\n");
    fixture->now.relay.stalled = 1;
    has(on_screen(fixture), "STALLED");
}

static void what_is_not_known_is_a_dash(void **state)
{
    struct fixture *fixture = *state;
    fixture->series.first = fixture->series.before = NULL;
    has(on_screen(fixture), "    0  yes        3          -          -         17");
    fixture->series.first = fixture->series.before = &fixture->before;
    fixture->now.shares[0].settled_id = 5;            /* another database */
    fixture->now.relay.counters[WATCH_CONFIRMED] = 2; /* the relay started anew */
    const char *text = on_screen(fixture);
    has(text, "    0  yes        3          -          -         17");
    has(text, "confirmed                  -          -             2\n");
    fixture->now.relay.window_limit = NAN; /* an older relay */
    has(on_screen(fixture), "window [....................] 500 of -");
}

static void what_is_wrong_is_seen(void **state)
{
    struct fixture *fixture = *state;
    fixture->now.shares[0].owned = false;
    fixture->now.shares[0].backlog_rows = WATCH_BACKLOG_ROWS_COUNTED;
    fixture->now.shares_unseen = 4;
    const char *text = on_screen(fixture);
    has(text, "    0  NO ");
    has(text, "100000+");
    has(text, "and 4 more");
    fixture->now.relay.answered = false;
    strcpy(fixture->now.relay.failure, "127.0.0.1:9: no answer in time");
    has(on_screen(fixture), "relay 127.0.0.1:9: no answer in time\n");
    fixture->now.answered = false;
    strcpy(fixture->now.failure, "it is away");
    has(on_screen(fixture), "PostgreSQL: it is away\n");
    fixture->now.answered = true;
    fixture->now.reason_count = 0;
    has(on_screen(fixture), "nothing is parked");
}

static void lines(void **state)
{
    struct fixture *fixture = *state;
    watch_show_lines(&fixture->series, &fixture->text);
    const char *text = buffer_text(&fixture->text);
    has(text,
        "ts=1970-01-01T00:00:00Z share=0 owned=true epoch=3 ids_per_second=150 backlog_rows=17");
    has(text, "state=parked reason=returned rows=3\n");
    has(text, "relay=127.0.0.1:9 read_per_second=0");
    has(text, " confirmed_per_second=42 ");
    assert_null(strstr(text, "nan"));
}

static void json(void **state)
{
    struct fixture *fixture = *state;
    struct json_object *seen, *relay, *shares, *number;
    watch_show_json(&fixture->series, &fixture->text);
    seen = json_tokener_parse(buffer_text(&fixture->text));
    assert_non_null(seen);
    assert_true(json_object_object_get_ex(seen, "shares", &shares));
    assert_string_equal(json_object_get_string(
                            json_object_object_get(json_object_array_get_idx(shares, 0), "relay")),
                        "the \"relay\" \\ here");
    assert_true(json_object_object_get_ex(seen, "relay", &relay));
    assert_true(json_object_object_get_ex(relay, "confirmed_per_second", &number));
    assert_true(json_object_get_double(number) == 42);
    assert_true(json_object_object_get_ex(relay, "returned_per_second", &number));
    assert_null(number);
    assert_int_equal(json_object_array_length(json_object_object_get(seen, "parked")), 2);
    json_object_put(seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_found_by_their_whole_series),
        cmocka_unit_test(histograms_that_make_no_sense_are_none),
        cmocka_unit_test(quantiles),
        cmocka_unit_test_setup_teardown(the_screen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_known_is_a_dash, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_wrong_is_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(json, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
