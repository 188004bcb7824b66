/* Histories of chance: writers, the relays of several shares, crashes of either, changes of the
 * number of shares, and the log on another server. Reading, the windows, the flow and the writer of
 * the position are the relay's own; PostgreSQL is history_world.h. What is promised is checked at
 * every row sent and every position written; in the end every row that committed was sent. */
#include "outbox/relay/rows/chunk.h"
#include "outbox/relay/settling/position.h"
#include "tests/unit/relay/history_world.h"
#include "tests/unit/relay/relay_parts_test.h"

#include <inttypes.h>

#define FLOW_ROWS 16
#define STEPS_MAX 200000

static struct world *world;
static struct routes *routes;
static const struct publish_after here_alone;
static bool over; /* the writers have gone home */

/* The relay that is alive; one at a time. */
static struct {
    struct keys *held;
    struct flow *flow;
    struct windows *windows;
    struct source *source;
    struct position_writer *writer;
    int share;
    uint32_t in_flight[FLOW_ROWS];
    int in_flight_count, windows_read;
    /* Of the position that is being written. */
    bool writing;
    uint64_t xact;
    char t1[4096], t2[4096];
    int64_t last_id, highest_id, bound;
} relay;

/* PostgreSQL's answers ------------------------------------------------------------------------- */

static int64_t param(int number)
{
    return strtoll(fake_param(number), NULL, 10);
}

static struct pg_result *poll(void)
{
    char snapshot[4096];

    snprintf(snapshot, sizeof(snapshot), "%s", world_snapshot(world));
    if (!over)
        world_write(world); /* its rows are made after its snapshot */
    world->sequence_seen = world->sequence;
    return fake_row(fake_result("tIII"), snapshot, world->lsn, world->flushed, world->sequence);
}

static struct pg_result *begin(void)
{
    int64_t highest = 0;

    for (int i = 0; i < world->row_count; i++)
        if (world_committed(world, &world->rows[i]) && world->rows[i].id > highest)
            highest = world->rows[i].id;
    world->sequence_seen = world->sequence;
    return fake_row(fake_result("III"), world->sequence, highest, (int64_t)1);
}

static struct pg_result *add_row(struct pg_result *rows, struct world_row *row)
{
    struct uuid message_id = {0};
    char key[16];

    assert_false(row->settled); /* what a persisted position says is settled is not read again */
    snprintf(key, sizeof(key), "k%d", row->key);
    return fake_row(rows, row->id, &message_id, (int64_t)0, "t", row->key ? key : NULL, "x", "k",
                    NULL, "{}", NULL, NULL, NULL, NULL, 1, 1);
}

static bool is_among(const char *list, uint64_t xid)
{
    while (*list && *list != '}') {
        char *end;

        if (strtoull(list + 1, &end, 10) == xid)
            return true;
        list = end;
    }
    return false;
}

struct reading {
    bool late;
    char text[4096]; /* the transactions, or the window's end */
    struct snapshot *t2;
    uint64_t xmax;
    int64_t after, up_to;
    int shares;
};

static bool is_read(const struct reading *reading, const struct world_row *row)
{
    if (!world_committed(world, row) || row->id <= reading->after || row->id > reading->up_to ||
        world_share_of(row, reading->shares) != relay.share)
        return false;
    return reading->late ? is_among(reading->text, row->xid)
                         : row->xid >= reading->xmax && world_visible(reading->t2, row->xid);
}

/* In the order of the ids, which is not that of the array after a crash: ids of the past stay. */
static struct pg_result *read_rows(const struct reading *reading, int64_t rows_max)
{
    struct pg_result *rows = fake_result("IuTttttttttttbi");
    int64_t after = reading->after;

    for (int64_t count = 0; count < rows_max; count++) {
        struct world_row *next = NULL;

        for (int i = 0; i < world->row_count; i++) {
            struct world_row *row = &world->rows[i];

            if (row->id > after && (!next || row->id < next->id) && is_read(reading, row))
                next = row;
        }
        if (!next)
            break;
        add_row(rows, next);
        after = next->id;
    }
    return rows;
}

static struct pg_result *read_fresh(bool of_share)
{
    struct reading reading = {.after = param(1), .up_to = param(2), .shares = 1};
    int64_t rows_max = param(5);
    struct pg_result *rows;

    reading.xmax = strtoull(fake_param(3), NULL, 10);
    assert_int_equal(snapshot_parse(&reading.t2, fake_param(4), NULL), 0);
    if (of_share)
        reading.shares = (int)param(7);
    rows = read_rows(&reading, rows_max);
    snapshot_release(reading.t2);
    return rows;
}

static struct pg_result *read_late(bool of_share)
{
    struct reading reading = {.late = true, .after = param(2), .up_to = INT64_MAX, .shares = 1};

    snprintf(reading.text, sizeof(reading.text), "%s", fake_param(1));
    if (of_share) {
        reading.up_to = param(5);
        reading.shares = (int)param(6);
    }
    return read_rows(&reading, param(3));
}

static struct pg_result *write_position(void)
{
    char xact[24];

    snprintf(relay.t1, sizeof(relay.t1), "%s", fake_param(4));
    snprintf(relay.t2, sizeof(relay.t2), "%s", fake_param(5));
    relay.last_id = param(6);
    relay.highest_id = param(7);
    relay.bound = param(8);
    relay.xact = world_take_xid(world);
    relay.writing = true;
    snprintf(xact, sizeof(xact), "%" PRIu64, relay.xact);
    return fake_row(fake_result("tt"), "(0,1)", xact);
}

static void commit(void)
{
    if (!relay.writing)
        return;
    relay.writing = false;
    world_completed(world, relay.xact);
    world_flush(world);
    world_position_set(world, relay.share, relay.t1,
                       strcmp(relay.t2, "null") == 0 ? NULL : relay.t2, relay.last_id,
                       relay.highest_id, relay.bound);
}

static void answer(void)
{
    const char *asked = fake_asked();

    if (strcmp(asked, "relay_begin") == 0) {
        fake_answer("relay_begin", begin());
    } else if (strcmp(asked, "relay_poll") == 0) {
        fake_answer("relay_poll", poll());
    } else if (strcmp(asked, "relay_read_fresh") == 0) {
        fake_answer("relay_read_fresh", read_fresh(false));
    } else if (strcmp(asked, "relay_read_fresh_share") == 0) {
        fake_answer("relay_read_fresh_share", read_fresh(true));
    } else if (strcmp(asked, "relay_read_late") == 0) {
        fake_answer("relay_read_late", read_late(false));
    } else if (strcmp(asked, "relay_read_late_share") == 0) {
        fake_answer("relay_read_late_share", read_late(true));
    } else if (strcmp(asked, "relay_flushed") == 0) {
        fake_answer("relay_flushed", fake_row(fake_result("I"), world->flushed));
    } else if (strcmp(asked, "relay_nudge") == 0) {
        world_flush(world);
        fake_answer("relay_nudge", fake_row(fake_result("I"), world->flushed));
    } else if (strcmp(asked, "relay_position_write") == 0) {
        if (chance_below(&world->chance, 20) == 0)
            fake_refuse("relay_position_write", RETRY_LATER, "40001");
        else
            fake_answer("relay_position_write", write_position());
    } else if (strcmp(asked, "relay_park") == 0 || strcmp(asked, "relay_parked_promote") == 0) {
        fake_answer(asked, fake_result("i"));
    } else if (strcmp(asked, "sync") == 0) {
        commit();
        fake_answer("sync", NULL);
    } else {
        assert_string_equal(asked, "");
    }
}

/* The relay ------------------------------------------------------------------------------------ */

static void on_window(void *data, uint64_t rows)
{
    (void)data;
    (void)rows;
    relay.windows_read++;
}

static void on_written(void *data, uint32_t rows_aside)
{
    (void)data;
    (void)rows_aside;
}

static void relay_start(int share, const char *barrier)
{
    const struct world_position *at = &world->positions[share];
    struct position begin = {.t1 = NULL};
    struct snapshot *end = NULL;

    fake_session_up(true);
    relay.share = share;
    world->sequence_seen = -1;
    relay.in_flight_count = relay.windows_read = 0;
    relay.writing = false;
    assert_int_equal(keys_create(&relay.held, 1000, NULL), 0);
    assert_int_equal(flow_create(&relay.flow, FLOW_ROWS, relay.held, NULL), 0);
    assert_int_equal(windows_create(&relay.windows, NULL), 0);
    flow_set_window(relay.flow, 1 + chance_below(&world->chance, FLOW_ROWS));

    struct source_options reading = {.loop = parts.loop,
                                     .session = fake_session(),
                                     .windows = relay.windows,
                                     .flow = relay.flow,
                                     .routes = routes,
                                     .stats = &parts.stats,
                                     .publish_after = &here_alone,
                                     .rows_max = FLOW_ROWS,
                                     .bytes_max = 1 << 20,
                                     .on_window = on_window,
                                     .on_failure = parts_on_failure};
    assert_int_equal(source_create(&relay.source, &reading, NULL), 0);
    struct position_writer_options writing = {.loop = parts.loop,
                                              .session = fake_session(),
                                              .flow = relay.flow,
                                              .windows = relay.windows,
                                              .source = relay.source,
                                              .routes = routes,
                                              .stats = &parts.stats,
                                              .share = share,
                                              .retry_base_us = US_PER_MS,
                                              .retry_cap_us = US_PER_S,
                                              .on_written = on_written,
                                              .on_failure = parts_on_failure};
    assert_int_equal(position_writer_create(&relay.writer, &writing, NULL), 0);

    /* As lease.c reads it. */
    assert_int_equal(snapshot_parse(&begin.t1, at->t1->text, NULL), 0);
    begin.t1->bound = at->bound;
    if (at->t2) {
        assert_int_equal(snapshot_parse(&begin.t2, at->t2->text, NULL), 0);
        begin.t2->bound = at->bound;
        begin.last_id = at->last_id;
    }
    windows_start(relay.windows, &begin);
    snapshot_release(begin.t1);
    snapshot_release(begin.t2);
    position_writer_start(relay.writer, "(0,1)", 1);
    if (barrier)
        assert_int_equal(snapshot_parse(&end, barrier, NULL), 0);
    source_set_share(relay.source, share, world->shares, end);
    snapshot_release(end);
    source_start(relay.source);
}

/* Whatever it was about to do; what it asked last may still come to be. */
static void relay_dies(void)
{
    while (chance_below(&world->chance, 2) == 0 && *fake_asked())
        answer();
    if (relay.writing) { /* rolled back */
        world_completed(world, relay.xact);
        relay.writing = false;
    }
    fake_loses_connection();
    world->sequence_seen = -1;
    source_stop(relay.source);
    position_writer_stop(relay.writer);
    flow_clear(relay.flow, chunk_release_row, NULL);
    position_writer_destroy(relay.writer);
    source_destroy(relay.source);
    windows_destroy(relay.windows);
    flow_destroy(relay.flow);
    keys_destroy(relay.held);
}

/* Of two rows with one id, in the log of commits and before a crash, the one that is there. */
static struct world_row *row_of(int64_t id)
{
    for (int i = world->row_count - 1; i >= 0; i--)
        if (world->rows[i].id == id && world_committed(world, &world->rows[i]))
            return &world->rows[i];
    fail_msg("no row %" PRId64, id);
    return NULL;
}

static void check_sent(const struct world_row *sent)
{
    if (sent->tx >= 0) /* a crash must not take it back */
        assert_true(world->txs[sent->tx].commit_lsn <= world->flushed);
    for (int i = 0; i < world->row_count; i++) {
        const struct world_row *row = &world->rows[i];

        if (sent->key && row->key == sent->key && row->id < sent->id &&
            world_committed(world, row) && !sent->confirmed)
            assert_true(row->confirmed);
    }
}

static void send(void)
{
    uint32_t place = flow_next(relay.flow);

    if (place == FLOW_NONE)
        return;
    check_sent(row_of(flow_item(relay.flow, place)->id));
    flow_sent(relay.flow, place);
    relay.in_flight[relay.in_flight_count++] = place;
}

static void settle(void)
{
    uint32_t which, place;

    if (relay.in_flight_count == 0)
        return;
    which = chance_below(&world->chance, (uint32_t)relay.in_flight_count);
    place = relay.in_flight[which];
    relay.in_flight[which] = relay.in_flight[--relay.in_flight_count];
    row_of(flow_item(relay.flow, place)->id)->confirmed = true;
    if (chance_below(&world->chance, 20) == 0)
        flow_set_aside(relay.flow, place, FLOW_PARKED);
    else
        flow_done(relay.flow, place);
}

static void persist(void)
{
    bool moves = flow_rows(relay.flow) == 0 && !windows_t2(relay.windows) &&
                 chance_below(&world->chance, 5) == 0;

    if (!position_writer_is_busy(relay.writer) && (flow_settled(relay.flow) > 0 || moves))
        position_writer_write(relay.writer);
}

static void relay_step(void)
{
    uint32_t what = chance_below(&world->chance, 100);

    if (what < 40) {
        answer();
    } else if (what < 55) {
        source_turn(relay.source);
    } else if (what < 62) {
        if (source_can_poll(relay.source))
            source_poll(relay.source);
    } else if (what < 75) {
        send();
    } else if (what < 88) {
        settle();
    } else if (what < 93) {
        persist();
    } else if (what < 94) {
        flow_lost(relay.flow);
        relay.in_flight_count = 0;
    } else {
        parts_advance(US_PER_MS * (1 + chance_below(&world->chance, 30)));
    }
}

static bool relay_is_idle(void)
{
    return flow_rows(relay.flow) == 0 && windows_count(relay.windows) == 0 && !*fake_asked();
}

/* Until all that is there is sent and persisted, or all that the barrier sees. */
static void relay_runs_dry(int share, const char *barrier)
{
    relay_start(share, barrier);
    for (int steps = 0;; steps++) {
        const struct world_position *at = &world->positions[share];

        if (steps > STEPS_MAX)
            fail_msg("it stands still");
        relay_step();
        if (barrier && chance_below(&world->chance, 20) == 0)
            world_write(world);
        if (barrier ? !at->t2 && strcmp(at->t1->text, barrier) == 0
                    : relay.windows_read > 2 && relay_is_idle())
            break;
        if (barrier && source_is_through(relay.source) && flow_rows(relay.flow) == 0 &&
            windows_count(relay.windows) == 0 && !position_writer_is_busy(relay.writer))
            position_writer_write(relay.writer);
    }
    relay_dies();
}

/* Histories ------------------------------------------------------------------------------------ */

static void live(uint32_t steps)
{
    relay_start((int)chance_below(&world->chance, (uint32_t)world->shares), NULL);
    for (uint32_t i = 0; i < steps; i++) {
        if (chance_below(&world->chance, 4) == 0)
            world_write(world);
        relay_step();
    }
    relay_dies();
}

static void change_shares(void)
{
    int wanted = 1 + (int)chance_below(&world->chance, WORLD_SHARES);
    char barrier[4096];

    if (wanted % world->shares != 0) {
        snprintf(barrier, sizeof(barrier), "%s", world_snapshot(world));
        for (int share = 0; share < world->shares; share++) {
            if (chance_below(&world->chance, 8) == 0)
                return; /* taken back */
            relay_runs_dry(share, barrier);
        }
        assert_true(world_is_at(world, barrier));
    }
    world_set_shares(world, wanted);
}

static void move(void)
{
    world_move(world);
    for (uint32_t i = chance_below(&world->chance, 60); i > 0; i--)
        world_write(world);
    world_rebase(world);
}

static void run_history(uint64_t seed)
{
    world = malloc(sizeof(*world));
    world_create(world, seed);
    over = false;
    for (uint32_t i = 10 + chance_below(&world->chance, 20); i > 0; i--) {
        uint32_t what = chance_below(&world->chance, 20);

        live(20 + chance_below(&world->chance, 400));
        if (what < 3)
            world_crash(world);
        else if (what < 8)
            change_shares();
        else if (what < 10)
            move();
    }
    world_end_all(world, false);
    over = true;
    for (int share = 0; share < world->shares; share++)
        relay_runs_dry(share, NULL);
    for (int i = 0; i < world->row_count; i++)
        assert_true(world->rows[i].confirmed || !world_committed(world, &world->rows[i]));
    assert_int_equal(parts.failures, 0);
    assert_true(!strstr(parts_logged(), "the sequence of message ids") || world->sets_back);
    world_destroy(world);
    free(world);
}

static int setup(void **state)
{
    struct pg_result *table;

    parts_setup(state);
    table = fake_row(fake_result("tttbb"), "t", "x", "k", 0, 0); /* what fails holds no key */
    assert_int_equal(routes_create(&routes, "", false, NULL), 0);
    assert_int_equal(routes_load(routes, table, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    routes_destroy(routes);
    return parts_teardown(state);
}

static void test_histories(void **state)
{
    const char *from = getenv("SAGAPOST_TEST_SEED"), *count = getenv("SAGAPOST_TEST_SEEDS");
    uint64_t first = from ? strtoull(from, NULL, 10) : 1;
    uint64_t last = first + (count ? strtoull(count, NULL, 10) : from ? 1 : 100) - 1;

    (void)state;
    for (uint64_t seed = first; seed <= last; seed++) {
        print_message("seed %" PRIu64 "\n", seed);
        run_history(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_histories, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
