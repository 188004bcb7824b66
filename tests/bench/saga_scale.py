"""What does not slow sagas down: others that ended long ago. And what makes them faster: a second worker."""

import statistics
import time

from harness.sandbox import Place

from saga_load import THREE_STEPS, all_succeeded, daemons, run_three

# As many ended sagas as wanted, each with the history of one that did end.
ENDED = """
with copied as (
    insert into saga.ended ({columns}) select outbox.uuid_v7(), {others} from (select * from saga.ended limit 1) as e, generate_series(1, {count})
    returning id
)
insert into saga.history (saga_id, at, event, step, detail)
select copied.id, h.at, h.event, h.step, h.detail from copied, (select * from saga.history where saga_id = (select id from saga.ended limit 1)) as h
"""

# Steps whose time is not the servers' CPU: each waits, with a row of its own locked; or none waits, and all lock the same 20 rows.
ACCOUNTS = """
create table bench.account (id integer primary key, balance integer not null);
insert into bench.account select n, 0 from generate_series(0, {most}) n;
create or replace function bench.work(input jsonb) returns jsonb language plpgsql as $$
begin
    perform pg_sleep({wait_s});
    update bench.account set balance = balance + 1 where id = (input ->> 'n')::integer;
    return jsonb_build_object('id', input -> 'n');
end $$;
select saga.handle('bench.reserve', 'bench.work', lock => '$.n'), saga.handle('bench.capture', 'bench.work', lock => '$.n'),
       saga.handle('bench.ship', 'bench.work', lock => '$.n');
"""
HOT_ROWS = 20


def rate(place, count, workers=1, accounts=1000000000):
    with daemons(place, workers), place.connect().cursor() as cursor:
        run_three(cursor, 50, accounts)
        begun = time.monotonic()
        run_three(cursor, count, accounts)
        return count / (time.monotonic() - begun)


def fill(place, count):
    columns = [row[0] for row in place.sql("select attname from pg_attribute where attrelid = 'saga.ended'::regclass and attnum > 0 and not attisdropped order by attnum")]
    others = [name for name in columns if name != "id"]
    each = 50000
    for _ in range(0, count, each):
        place.sql(ENDED.format(columns=", ".join(["id", *others]), others=", ".join(f"e.{name}" for name in others), count=min(each, count)))
    place.sql("vacuum analyze saga.ended, saga.history")


def bench_history(sandbox, report, options):
    empty, full = Place(sandbox), Place(sandbox)
    for place in (empty, full):
        place.sql(THREE_STEPS)
        rate(place, 50)
    fill(full, options.ended)
    ratios = [rate(full, options.sagas) / rate(empty, options.sagas) for _ in range(options.rounds)]
    report.figure(f"sagas/s with {options.ended} ended ones in the tables / without", ratios)
    for place in (empty, full):
        place.close()


def two_to_one(sandbox, options, count, wait_s, accounts):
    """(sagas/s of two workers / of one, deadlocks)"""
    place = Place(sandbox)
    place.sql(THREE_STEPS)
    place.sql(ACCOUNTS.format(most=count, wait_s=wait_s))
    ratios = [rate(place, count, 2, accounts) / rate(place, count, 1, accounts) for _ in range(options.rounds)]
    all_succeeded(place)
    deadlocks = place.value("select deadlocks from pg_stat_database where datname = current_database()")
    place.close()
    return ratios, deadlocks


def bench_workers(sandbox, report, options):
    ratios, _ = two_to_one(sandbox, options, options.sagas // 8, 0.005, options.sagas)
    report.goal("sagas/s of two workers / of one, steps that wait 5 ms", ">= 1.5", ratios, statistics.median(ratios) >= 1.5)
    ratios, deadlocks = two_to_one(sandbox, options, options.sagas, 0, HOT_ROWS)
    report.figure(f"the same, steps that wait for nothing and lock {HOT_ROWS} rows", ratios)
    report.goal("deadlocks meanwhile", "0", [deadlocks], deadlocks == 0, digits=0)
