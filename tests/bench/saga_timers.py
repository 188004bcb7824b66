"""How late timers fire while many sagas live."""

from harness.sandbox import Place
from harness.wait import wait_until

from saga_load import daemons, p99

RATE = 200  # timers a second
SECONDS = 10

DEFINITIONS = """
select saga.define('sleeper');
select saga.step('sleeper', 'rest', action => null, undo => null, kind => null, via => 'timer', timeout => '1 day');
select * from saga.publish('sleeper');
select saga.define('ticker');
select saga.step('ticker', 'rest', action => null, undo => null, kind => null, via => 'timer', timeout => '{seconds} s');
select * from saga.publish('ticker');
"""

SLEEPERS = "do $$ begin for n in 1 .. {count} loop perform saga.start('sleeper', '{{}}'); if n % 1000 = 0 then commit; end if; end loop; end $$"

# A tenth of a second's worth at a time; none is due before the last is started.
TICKERS = """
do $$ begin
    for tenth in 1 .. {tenths} loop
        perform saga.start('ticker', '{{}}') from generate_series(1, {each});
        commit;
        perform pg_sleep(0.1);
    end loop;
end $$
"""


def bench_timers(sandbox, report, options):
    place = Place(sandbox)
    place.sql(DEFINITIONS.format(seconds=SECONDS + 5))
    place.sql(SLEEPERS.format(count=options.live))
    with daemons(place):
        place.sql(TICKERS.format(tenths=SECONDS * 10, each=RATE // 10))
        wait_until(lambda: place.value("select count(*) from saga.instances where definition = 'ticker' and ended_at is not null") == RATE * SECONDS,
                   120, "all timers fire", every_s=1)
    late = [
        row[0] for row in place.sql(
            "select extract(epoch from ended_at - started_at)::float8 * 1000 - %s from saga.instances where definition = 'ticker'",
            ((SECONDS + 5) * 1000,),
        )
    ]
    report.goal(f"timers fired late, p99, {RATE}/s, {options.live} live sagas", "<= 100 ms", [p99(late)], p99(late) <= 100, " ms")
    report.figure("timers fired late, most", [max(late)], " ms")
    place.close()
