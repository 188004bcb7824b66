/* json_scan against the judge: whatever it takes, PostgreSQL takes as jsonb. */
#include "json_cases.h"
#include "runtime_test.h"

#include "outbox/pg/client.h"
#include "outbox/runtime/json_scan.h"
#include <stdio.h>
#include <stdlib.h>

#define TEST_SKIPPED 77
#define ROUNDS       40
#define PER_ROUND    500
#define TEXT_BYTES   160

static struct pg_client *client;
static unsigned seed;

/* 0 where the server takes all of them. */
static int cast_all(const char *const *texts, int count, struct error *error)
{
    struct pg_params params;
    int result, i;

    pg_params_init(&params);
    pg_params_array_begin(&params, PG_TYPE_TEXT);
    for (i = 0; i < count; i++)
        pg_params_item_text(&params, texts[i]);
    pg_params_array_end(&params);
    result =
        pg_client_query(client, "select pg_catalog.count(t::jsonb) from pg_catalog.unnest($1) as t",
                        &params, NULL, error);
    pg_params_free(&params);
    return result;
}

static void good_documents_are_good(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(json_good); i++) {
        struct error error = {0};
        if (cast_all(&json_good[i], 1, &error))
            fail_msg("%s: %s", json_good[i], error.message);
    }
}

/* The edges of numeric, from this side. */
static void numbers_at_the_limits_are_good(void **state)
{
    static const struct json_limits limits = {.bytes_max = 1 << 20, .depth_max = 1};
    static const char *const short_ones[] = {"1e131071", "-9.9e131070",     "0.1e131072",
                                             "1e-16383", "1000.000e-16380", "0e-16383"};
    char *text = malloc(140000);
    const char *long_one = text;
    unsigned i;

    (void)state;
    for (i = 0; i < COUNT_OF(short_ones); i++) {
        must(json_check(short_ones[i], strlen(short_ones[i]), &limits, NULL, &error));
        must(cast_all(&short_ones[i], 1, &error));
    }
    memset(text, '9', 131072);
    memset(text + 131072, 0, 1);
    must(json_check(text, strlen(text), &limits, NULL, &error));
    must(cast_all(&long_one, 1, &error));
    memcpy(text, "0.", 2);
    text[2 + 16383] = 0;
    must(json_check(text, strlen(text), &limits, NULL, &error));
    must(cast_all(&long_one, 1, &error));
    free(text);
}

/* A good document with a few bytes changed, put in or taken out. */
static void mutate(char *text)
{
    static const char alphabet[] = "{}[]:,\"\\ubn0123456789eE+-. tfalsru\xc3\xbc\xed\xa0\x80\x01";
    size_t bytes;
    int changes = rand_r(&seed) % 4;

    snprintf(text, TEXT_BYTES, "%s", json_good[(unsigned)rand_r(&seed) % COUNT_OF(json_good)]);
    bytes = strlen(text);
    while (changes-- > 0 && bytes > 0 && bytes + 2 < TEXT_BYTES) {
        size_t at = (unsigned)rand_r(&seed) % bytes;
        char c = alphabet[(unsigned)rand_r(&seed) % (sizeof(alphabet) - 1)];
        switch (rand_r(&seed) % 3) {
        case 0:
            text[at] = c;
            break;
        case 1:
            memmove(text + at + 1, text + at, ++bytes - at);
            text[at] = c;
            break;
        default:
            memmove(text + at, text + at + 1, bytes-- - at);
        }
    }
}

static void what_is_taken_is_good(void **state)
{
    static const struct json_limits limits = {.bytes_max = 1 << 20, .depth_max = 32};
    static char texts[PER_ROUND][TEXT_BYTES];
    const char *taken[PER_ROUND];
    int total = 0, round, i;

    (void)state;
    for (round = 0; round < ROUNDS; round++) {
        struct error error = {0};
        int count = 0;
        for (i = 0; i < PER_ROUND; i++) {
            mutate(texts[i]);
            if (!json_check(texts[i], strlen(texts[i]), &limits, NULL, NULL))
                taken[count++] = texts[i];
        }
        total += count;
        if (!cast_all(taken, count, &error))
            continue;
        for (i = 0; i < count; i++)
            if (cast_all(&taken[i], 1, &error))
                fail_msg("taken, and no jsonb: %s: %s", taken[i], error.message);
        fail_msg("%s", error.message);
    }
    assert_true(total > ROUNDS * PER_ROUND / 10);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_documents_are_good),
        cmocka_unit_test(numbers_at_the_limits_are_good),
        cmocka_unit_test(what_is_taken_is_good),
    };
    const char *conninfo = getenv("SAGAPOST_TEST_POSTGRES");
    const char *seed_text = getenv("SAGAPOST_TEST_SEED");
    struct error error;
    int failed;

    if (!conninfo || !*conninfo)
        return TEST_SKIPPED;
    seed = (unsigned)(seed_text ? strtoul(seed_text, NULL, 10)
                                : (unsigned long)clock_wall_us(&clock_system));
    printf("SAGAPOST_TEST_SEED=%u\n", seed);
    if (pg_client_connect(&client, conninfo, "test", 60 * (int64_t)US_PER_S, &error)) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    failed = cmocka_run_group_tests_name("runtime json server", tests, NULL, NULL);
    pg_client_close(client);
    return failed;
}
