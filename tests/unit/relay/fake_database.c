#include "tests/unit/relay/fake_database.h"
#include "tests/unit/relay/relay_parts_test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PARKED_MAX     (LOG_ROWS + PARKED_BEFORE)
#define KEY_BEFORE     7 /* the hash of the key of what was set aside before */
#define ID_BEFORE      1 /* of the first of it; the log's ids follow */
#define LOG_FIRST_ID   (ID_BEFORE + PARKED_BEFORE)
#define LOG_LAST_ID    (LOG_FIRST_ID + LOG_ROWS - 1)
#define LOG_REFUSED_ID (LOG_FIRST_ID + 1)

enum parked_state { NOT_PARKED, WAITING, BEHIND, PARKED };

struct parked {
    enum parked_state state;
    int64_t id, key_hash;
};

struct tables {
    char t1[64], t2[64]; /* of the position; t2 "": NULL */
    int64_t last_id, epoch, bound;
    int writes;
    struct parked parked[PARKED_MAX];
    bool intent; /* an operator gives up the parked one of before */
    bool leaf;   /* may be emptied */
    enum sharing_state sharing;
    int shares;
};

static struct tables tables, /* what is committed */
    ours;                    /* as the open transaction sees it */
static bool in_group;        /* its sync has a callback, and commits */
static int64_t created_us;

static struct {
    int64_t until_us;
    bool no_memory;
    int failed;
} batches;

void fake_database_start(int64_t now_us)
{
    memset(&tables, 0, sizeof(tables));
    snprintf(tables.t1, sizeof(tables.t1), "5:5:");
    for (int i = 0; i < PARKED_BEFORE; i++)
        tables.parked[i] =
            (struct parked){(enum parked_state)(WAITING + i), ID_BEFORE + i, KEY_BEFORE};
    tables.parked[PARKED - WAITING].key_hash++;
    tables.intent = tables.leaf = true;
    tables.shares = 1;
    memset(&batches, 0, sizeof(batches));
    created_us = now_us;
    fake_database_rolls_back();
}

void fake_database_commits(void)
{
    tables = ours;
    in_group = false;
}

void fake_database_rolls_back(void)
{
    ours = tables;
    in_group = false;
}

static int count(enum parked_state state)
{
    int rows = 0;

    for (int i = 0; i < PARKED_MAX; i++)
        rows += ours.parked[i].state == state;
    return rows;
}

bool fake_database_is_settled(void)
{
    return tables.writes > 0 && strcmp(tables.t1, LOG_SNAPSHOT) == 0 && !tables.t2[0] &&
           !tables.intent && count(WAITING) + count(BEHIND) + count(PARKED) == 0;
}

int fake_database_writes(void)
{
    return tables.writes;
}

int fake_database_shares(void)
{
    return tables.shares;
}

enum sharing_state fake_database_sharing(void)
{
    return tables.sharing;
}

void fake_database_wants_shares(void)
{
    tables.sharing = ours.sharing = SHARES_WANTED;
}

bool fake_database_leaf_is_empty(void)
{
    return !tables.leaf;
}

int fake_database_takeovers(void)
{
    return (int)tables.epoch;
}

void fake_database_batches_fail(int64_t until_us, bool no_memory)
{
    batches.until_us = until_us;
    batches.no_memory = no_memory;
}

int fake_database_failed_batches(void)
{
    return batches.failed;
}

/* Parameters ------------------------------------------------------------------------------------
 */

static int64_t param(int number)
{
    return strtoll(fake_param(number), NULL, 10);
}

/* The nth item of an array, from 0; false: it has fewer. */
static bool item(int number, int nth, char ret_item[32])
{
    const char *at = fake_param(number) + 1;

    for (; nth > 0 && *at; nth--)
        at = strchr(at, ',') ? strchr(at, ',') + 1 : "";
    if (!*at || *at == '}')
        return false;
    snprintf(ret_item, 32, "%.*s", (int)strcspn(at, ",}"), at);
    return true;
}

/* The position and the log ----------------------------------------------------------------------
 */

static struct pg_result *position(void)
{
    return fake_row(fake_result("tIIIttII"), "(0,1)", ours.epoch, (int64_t)77, (int64_t)5, ours.t1,
                    ours.t2[0] ? ours.t2 : NULL, ours.last_id, ours.bound);
}

static struct pg_result *take_over(void)
{
    ours.epoch++;
    fake_database_commits();
    return fake_row(fake_result("tI"), "(0,1)", ours.epoch);
}

static struct pg_result *poll(void)
{
    return fake_row(fake_result("tIII"), LOG_SNAPSHOT, (int64_t)100, (int64_t)100,
                    (int64_t)LOG_LAST_ID);
}

static struct pg_result *begin_reading(void)
{
    return fake_row(fake_result("III"), (int64_t)LOG_LAST_ID, (int64_t)LOG_LAST_ID, (int64_t)1);
}

static void add_row(struct pg_result *rows, int64_t id)
{
    struct uuid message_id = {.bytes = {[15] = (uint8_t)id}};

    fake_row(rows, id, &message_id, created_us, "type", "key", "x",
             id == LOG_REFUSED_ID ? "refused" : "k", NULL, "{}", NULL, NULL, NULL, NULL, 1, 2);
}

static struct pg_result *read_fresh(void)
{
    struct pg_result *rows = fake_result("IuTttttttttttbi");
    int64_t after = param(1), up_to = param(2);

    if (param(3) > LOG_ROW_XID)
        return rows;
    for (int64_t id = LOG_FIRST_ID; id <= LOG_LAST_ID; id++)
        if (id > after && id <= up_to)
            add_row(rows, id);
    return rows;
}

static struct pg_result *write_position(void)
{
    in_group = true;
    snprintf(ours.t1, sizeof(ours.t1), "%s", fake_param(4));
    snprintf(ours.t2, sizeof(ours.t2), "%s", fake_param(5));
    if (strcmp(ours.t2, "null") == 0)
        ours.t2[0] = 0;
    ours.last_id = param(6);
    ours.bound = param(8);
    ours.writes++;
    return fake_row(fake_result("tt"), "(0,2)", "30");
}

/* What is set aside -----------------------------------------------------------------------------
 */

static struct pg_result *nothing(void)
{
    return fake_row(fake_result("i"), 1);
}

static struct parked *find(int64_t id)
{
    for (int i = 0; i < PARKED_MAX; i++)
        if (ours.parked[i].state != NOT_PARKED && ours.parked[i].id == id)
            return &ours.parked[i];
    return NULL;
}

static struct pg_result *park(void)
{
    char id[32], key_hash[32], state[32];

    for (int i = 0; item(2, i, id); i++) {
        struct parked *row = ours.parked;

        assert_true(item(3, i, key_hash) && item(7, i, state));
        assert_null(find(strtoll(id, NULL, 10)));
        while (row->state != NOT_PARKED)
            row++;
        *row = (struct parked){strcmp(state, "waiting") == 0 ? WAITING : BEHIND,
                               strtoll(id, NULL, 10), strtoll(key_hash, NULL, 10)};
    }
    return nothing();
}

/* Where every row of a key waits behind another that is gone, its first may be tried. */
static void promote_heads(void)
{
    for (int i = 0; i < PARKED_MAX; i++) {
        bool is_head = ours.parked[i].state == BEHIND;

        for (int j = 0; j < PARKED_MAX; j++)
            if (j != i && ours.parked[j].state != NOT_PARKED &&
                ours.parked[j].key_hash == ours.parked[i].key_hash &&
                (ours.parked[j].state != BEHIND || ours.parked[j].id < ours.parked[i].id))
                is_head = false;
        if (is_head)
            ours.parked[i].state = WAITING;
    }
}

static struct pg_result *recover(void)
{
    in_group = true;
    promote_heads();
    return nothing();
}

static struct pg_result *promote(void)
{
    promote_heads();
    if (!in_group)
        fake_database_commits();
    return nothing();
}

static struct pg_result *held(void)
{
    struct pg_result *rows = fake_result("II");

    for (int64_t key_hash = INT64_MIN; key_hash < INT64_MAX;) {
        int64_t next = INT64_MAX, of_key = 0;

        for (int i = 0; i < PARKED_MAX; i++)
            if (ours.parked[i].state != NOT_PARKED && ours.parked[i].key_hash > key_hash &&
                ours.parked[i].key_hash < next)
                next = ours.parked[i].key_hash;
        for (int i = 0; i < PARKED_MAX; i++)
            of_key += ours.parked[i].state != NOT_PARKED && ours.parked[i].key_hash == next;
        if (of_key > 0)
            fake_row(rows, next, of_key);
        key_hash = next;
    }
    return rows;
}

static struct pg_result *counts(void)
{
    return fake_row(fake_result("III"), (int64_t)count(WAITING), (int64_t)count(PARKED),
                    (int64_t)count(BEHIND));
}

static struct pg_result *next_due(void)
{
    struct pg_result *rows = fake_result("I");

    return count(WAITING) > 0 ? fake_row(rows, (int64_t)0) : rows;
}

static void add_parked(struct pg_result *rows, const struct parked *row)
{
    struct uuid message_id = {.bytes = {[15] = (uint8_t)row->id}};

    /* By now the queue has room. */
    fake_row(rows, row->id, &message_id, created_us, "type", "key", "x", "k", NULL, "{}", NULL,
             NULL, NULL, NULL, 1, 2, 1, (int64_t)0, 1, row->key_hash);
}

static struct pg_result *due(void)
{
    struct pg_result *rows = fake_result("IuTttttttttttbiiIbI");

    for (int i = 0; i < PARKED_MAX; i++) {
        if (ours.parked[i].state != WAITING)
            continue;
        add_parked(rows, &ours.parked[i]);
        for (int j = 0; j < PARKED_MAX; j++)
            if (ours.parked[j].state == BEHIND &&
                ours.parked[j].key_hash == ours.parked[i].key_hash)
                add_parked(rows, &ours.parked[j]);
    }
    return rows;
}

static struct pg_result *confirm(void)
{
    char id[32];

    in_group = true;
    for (int i = 0; item(2, i, id); i++) {
        struct parked *row = find(strtoll(id, NULL, 10));

        assert_non_null(row);
        row->state = NOT_PARKED;
    }
    return nothing();
}

static struct pg_result *refuse(void)
{
    assert_string_equal(fake_param(2), "{}");
    return nothing();
}

static struct pg_result *intents(void)
{
    struct parked *given_up = find(ID_BEFORE + PARKED - WAITING);

    in_group = true;
    if (!ours.intent)
        return fake_row(fake_result("nIII"), (int64_t)0, (int64_t)0, (int64_t)0);
    assert_non_null(given_up);
    ours.intent = false;
    given_up->state = NOT_PARKED;
    return fake_row(fake_result("IIII"), given_up->key_hash, (int64_t)1, (int64_t)0, (int64_t)1);
}

/* Shares and leaves -----------------------------------------------------------------------------
 */

static struct pg_result *look_at_shares(void)
{
    return fake_row(fake_result("b"), ours.sharing != SHARES_STEADY);
}

/* At rest, first all others are waited for. */
static struct pg_result *turn(void)
{
    bool at_rest = strcmp(fake_param(3), "true") == 0;
    const char *verdict = "run";

    if (ours.sharing == SHARES_WANTED && at_rest) {
        verdict = "rest";
        ours.sharing = SHARES_RESTED;
    } else if (ours.sharing == SHARES_RESTED && at_rest) {
        ours.sharing = SHARES_STEADY;
        ours.shares = 2;
    } else if (ours.sharing != SHARES_STEADY) {
        verdict = ours.sharing == SHARES_WANTED ? "stop" : "rest";
    }
    fake_database_commits();
    return fake_row(fake_result("tti"), verdict, NULL, ours.shares);
}

static struct pg_result *leaves(void)
{
    struct pg_result *rows = fake_result("i");

    return ours.leaf ? fake_row(rows, 3) : rows;
}

static struct pg_result *truncate(void)
{
    ours.leaf = false;
    fake_database_commits();
    return fake_row(fake_result("t"), "truncated");
}

/* Anything else ---------------------------------------------------------------------------------
 */

static struct pg_result *hello(void)
{
    return fake_row(fake_result("IIbi"), (int64_t)77, (int64_t)5, 0, 1000);
}

static struct pg_result *no_routes(void)
{
    return fake_result("tttbb");
}

static struct pg_result *no_rows(void)
{
    return fake_result("II");
}

static struct pg_result *yes(void)
{
    return fake_row(fake_result("b"), 1);
}

static struct pg_result *committed(void)
{
    fake_database_commits();
    return NULL;
}

static const struct {
    const char *asked;
    struct pg_result *(*answer)(void);
} answers[] = {
    {"relay_planner", nothing},
    {"listen sagapost_outbox_0", nothing},
    {"relay_hello", hello},
    {"relay_patience", nothing},
    {"relay_own", nothing},
    {"relay_own_try", yes},
    {"relay_position_read", position},
    {"relay_take_over", take_over},
    {"relay_timeline", nothing},
    {"relay_routes", no_routes},
    {"relay_share_turn", turn},
    {"relay_share_look", look_at_shares},
    {"relay_share_leave", nothing},
    {"relay_parked_recover", recover},
    {"relay_held", held},
    {"relay_parked_count", counts},
    {"relay_parked_next", next_due},
    {"relay_parked_due", due},
    {"relay_parked_confirm", confirm},
    {"relay_parked_refuse", refuse},
    {"relay_parked_promote", promote},
    {"relay_park", park},
    {"relay_intents", intents},
    {"relay_proof", yes},
    {"relay_begin", begin_reading},
    {"relay_poll", poll},
    {"relay_read_fresh", read_fresh},
    {"relay_read_fresh_share", read_fresh},
    {"relay_read_late", no_rows},
    {"relay_read_late_share", no_rows},
    {"relay_position_write", write_position},
    {"relay_leaves", leaves},
    {"relay_truncate_leaf", truncate},
    {"relay_sleep_try", yes},
    {"relay_sleep_end", nothing},
    {"relay_let_go", yes},
    {"sync", committed},
};

static void fail_batch(void)
{
    struct pg_result *rows = due();

    batches.failed++;
    if (!batches.no_memory) {
        pg_result_free(rows);
        fake_refuse("relay_parked_due", RETRY_LATER, "57014");
        return;
    }
    fault_arm("alloc", 1, ENOMEM);
    fake_answer("relay_parked_due", rows);
    assert_true(fault_disarm());
}

void fake_database_answer(void)
{
    if (strcmp(fake_asked(), "relay_parked_due") == 0 &&
        parts.clock.monotonic_us < batches.until_us) {
        fail_batch();
        return;
    }
    for (size_t i = 0; i < COUNT_OF(answers); i++)
        if (strcmp(answers[i].asked, fake_asked()) == 0) {
            fake_answer(answers[i].asked, answers[i].answer());
            return;
        }
    fail_msg("nobody knows the answer to %s", fake_asked());
}
