"""How the relay's statements go through the log where the planner's statistics are older than a burst of rows: by the indexes, in order, no further than
they were asked to."""

import json
import pathlib

import pytest

SQL = pathlib.Path(__file__).resolve().parents[2] / "outbox" / "relay" / "sql"
TRANSACTIONS, ROWS = 40, 1000  # of the burst
LEAVES = 8
CHUNK = 500
MANY_BYTES = 1 << 30


def statement(name):
    return (SQL / f"{name}.sql").read_text()


@pytest.fixture
def cursor(place):
    """A connection that plans as the relay's does, to a log with a burst that nobody has analyzed."""
    place.sql("insert into outbox.message (type, key, payload) select 't', 'k' || n, '{}' from generate_series(1, 100) as n")
    place.sql("analyze outbox.message")
    for _ in range(TRANSACTIONS):
        place.sql(f"""insert into outbox.message (slot, type, key, payload)
                      select n % {LEAVES}, 't', 'k' || n, '{{}}' from generate_series(1, {ROWS}) as n""")
    with place.connect().cursor() as cursor:
        cursor.execute(statement("planner"))
        yield cursor


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def run(cursor, name, arguments):
    """(rows, rows looked at in the log, what was sorted at most) of one of the relay's statements."""
    cursor.execute(f"prepare {name} as {statement(name)}")
    cursor.execute(f"explain (analyze, costs off, timing off, summary off, format json) execute {name} ({', '.join(map(str, arguments))})")
    plan = cursor.fetchone()[0]
    plan = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    scans = [node for node in nodes(plan) if "Relation Name" in node]
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan"}
    seen = sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans)
    sorts = [node["Actual Rows"] for node in nodes(plan) if "Sort" in node["Node Type"]]
    return plan["Actual Rows"], seen, max(sorts, default=0)


def burst(cursor):
    """(ids below it, last id, xids, a snapshot that sees it)"""
    cursor.execute("select xid::text from outbox.message group by xid order by xid")
    xids = [row[0] for row in cursor][1:]
    assert len(xids) == TRANSACTIONS
    cursor.execute("select max(id) filter (where xid < %s::xid8), max(id), pg_current_snapshot()::text from outbox.message", (xids[0],))
    return *cursor.fetchone(), xids


def quoted(value, type_name):
    return f"'{value}'::{type_name}"


@pytest.mark.parametrize("shares", [1, 2])
def test_a_chunk_of_a_burst_costs_a_chunk(cursor, shares):
    below, last, snapshot, xids = burst(cursor)
    arguments = [below, last, quoted(xids[0], "xid8"), quoted(snapshot, "pg_snapshot"), CHUNK, MANY_BYTES]
    rows, seen, sorted_rows = run(cursor, "read_fresh" if shares == 1 else "read_fresh_share", arguments + ([2, 0] if shares == 2 else []))
    assert rows == CHUNK
    assert CHUNK <= seen <= 3 * shares * (CHUNK + LEAVES)  # half of the rows are another share's; each leaf shows its next row
    assert sorted_rows == 0


def test_what_late_transactions_wrote_is_found_by_them(cursor):
    _, _, _, xids = burst(cursor)
    late = xids[3::10]
    rows, seen, sorted_rows = run(cursor, "read_late", [quoted("{" + ",".join(late) + "}", "xid8[]"), 0, CHUNK, MANY_BYTES])
    assert rows == CHUNK
    assert CHUNK <= seen <= len(late) * (CHUNK + LEAVES) + CHUNK  # of each at most a chunk, by (xid, id); and the chunk by its ids
    assert sorted_rows <= CHUNK
