"""Workers of sagas: several at once, batches with a culprit, what cannot be written, timers, rights, gauges."""

import pytest

from harness.wait import wait_until


def test_two_workers_share_the_work_and_stop_in_good_order(told, daemons):
    """Stopped by SIGTERM under load: each finishes its batch and exits 0; what it had not taken is the other's."""
    daemons("outbox-relay").wait_ready()
    told.define("load", [("a", "compensable", ""), ("b", "compensable", ""), ("p", "pivot", "a,b")])
    workers = [daemons("saga-worker").wait_ready() for _ in range(3)]
    for worker in workers[:2]:
        told.place.sql("select saga.start('load', '{}') from generate_series(1, 200)")
        assert worker.terminate() == 0, worker.log()
    wait_until(lambda: told.place.value("select count(*) from saga.ended where state = 'SUCCEEDED'") == 400, 60, "all succeeded")
    assert told.place.value("select count(*) from told.effect") == 1200


def test_deadlocks_do_not_stop_it(told, daemons):
    """Handlers without a lock that update two rows in either order, run by two workers: money is conserved, and all of them end."""
    told.place.sql("create table told.account (id integer primary key, balance numeric not null)")
    told.place.sql("insert into told.account select n, 1000 from generate_series(1, 6) n")
    told.place.sql(
        """create function told.move(input jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
        begin
            update told.account set balance = balance - 1 where id = (input ->> 'from')::integer;
            update told.account set balance = balance + 1 where id = (input ->> 'to')::integer;
            return '{}';
        end $$"""
    )
    told.place.sql("select saga.handle('bank.move', 'told.move')")
    bank = {"action": "'bank.move'", "undo": "'bank.move'", "retry": "saga.retry_policy(max => 50, base => '10ms', cap => '200ms')"}
    told.define("bank", [("m", "compensable", "", bank), ("p", "pivot", "m")])
    daemons("outbox-relay").wait_ready()
    drivers = [daemons("saga-worker").wait_ready() for _ in range(2)]
    told.place.sql(
        "select saga.start('bank', jsonb_build_object('from', n % 6 + 1, 'to', n * 7 % 5 % 6 + 1)) from generate_series(1, 400) n"
    )
    wait_until(lambda: told.place.value("select count(*) from saga.ended where state = 'SUCCEEDED'") == 400, 90, lambda: told.place.sql("select state, count(*) from saga.instances group by 1"))
    assert told.place.value("select sum(balance) from told.account") == 6000
    assert all(driver.metric("sagapost_saga_dead_lettered_total") == 0 for driver in drivers)


def test_a_batch_with_a_culprit(told, daemons):
    """One command's handler runs into the statement's time limit: the others of its batch go through."""
    daemons("outbox-relay").wait_ready()
    told.place.sql(
        """create function told.stall(input jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
        begin
            if (input ->> 'n')::integer = 17 then
                perform pg_catalog.pg_sleep(30);
            end if;
            return '{}';
        end $$"""
    )
    told.place.sql("select saga.handle('stall.act', 'told.stall')")
    told.define("culprit", [("a", "compensable", "", {"action": "'stall.act'", "undo": "'stall.act'", "retry": "saga.retry_policy(max => 1)"}), ("p", "pivot", "a")])
    worker = daemons("saga-worker", "--statement-timeout", "2s").wait_ready()
    worker.wait_log("participant=stall")
    told.place.sql("select saga.start('culprit', jsonb_build_object('n', n)) from generate_series(1, 32) n")
    all_ended(told, 32)
    assert told.place.sql("select input ->> 'n' from saga.instances where state <> 'SUCCEEDED'") == [("17",)]
    assert worker.metric("sagapost_saga_batch_failures_total", role="execute") >= 1
    assert worker.metric("sagapost_saga_dead_lettered_total") == 0


def test_an_output_that_is_too_large(told, programs):
    told.place.sql(
        """create function told.large(input jsonb) returns jsonb language sql security definer set search_path = '' as $$
            select pg_catalog.jsonb_build_object('x', pg_catalog.repeat('x', case when (input ->> 'n')::integer = 17 then 3000000 else 1 end)) $$"""
    )
    told.place.sql("select saga.handle('large.act', 'told.large')")
    large = {"action": "'large.act'", "undo": "'large.act'", "timeout": "'1min'", "retry": "saga.retry_policy(max => 2, base => '50ms')"}
    told.define("large", [("a", "compensable", "", large), ("p", "pivot", "a")])
    told.place.sql("select saga.start('large', jsonb_build_object('n', n)) from generate_series(1, 20) n")
    all_ended(told, 20)
    odd = told.place.sql("select input ->> 'n', state, errors -> 'a' ->> 'message' like '%bytes%' from saga.instances where state <> 'SUCCEEDED'")
    assert odd == [("17", "COMPENSATED", True)]


def all_ended(told, count, limit_s=60):
    wait_until(
        lambda: told.place.value("select count(*) from saga.ended") == count, limit_s,
        lambda: told.place.sql("select state, phase, reason, count(*) from saga.instances group by 1, 2, 3"),
    )


def test_a_handler_that_ends_its_connection(told, programs):
    """As often as it is run: found, run alone, and answered for in the end. The others of its batches go through, once each."""
    told.place.sql(
        """create function told.die(input jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
        begin
            if (input ->> 'n')::integer = 17 then
                perform pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid());
            end if;
            return told.run(input);
        end $$"""
    )
    told.place.sql("select saga.handle('die.act', 'told.die')")
    die = {"action": "'die.act'", "undo": "'die.act'", "timeout": "'1min'", "retry": "saga.retry_policy(max => 1)"}
    told.define("die", [("a", "compensable", "", die), ("p", "pivot", "a")])
    told.place.sql("select saga.start('die', jsonb_build_object('n', n)) from generate_series(1, 40) n")
    all_ended(told, 40)
    assert told.place.sql("select input ->> 'n', state from saga.instances where state <> 'SUCCEEDED'") == [("17", "COMPENSATED")]
    assert told.place.value("select count(*) from told.effect") == 39 * 2
    assert programs.metric("sagapost_saga_dead_lettered_total") == 0


TRIP = """
create function told.trip() returns trigger language plpgsql as $$
begin
    if new.input ->> 'n' = '17' and new.state <> 'CLOSED' and exists (select from told.tripwire) then
        raise exception using errcode = (select state from told.tripwire), message = 'tripped';
    end if;
    return new;
end $$;
create table told.tripwire (state text);
create trigger trip before update on saga.instance for each row execute function told.trip();
"""


@pytest.mark.parametrize("state", ["40001", "55P03", "P0001"])
def test_a_saga_that_cannot_be_written_for_a_while(told, daemons, state):
    """The row of one saga refuses every update: the others of its batches go on, and when it is over so does this one."""
    told.place.sql(TRIP)
    told.place.sql("insert into told.tripwire values (%s)", (state,))
    told.define("tripped", [("a", "compensable", ""), ("b", "compensable", ""), ("p", "pivot", "a,b")])
    told.place.sql("select saga.start('tripped', jsonb_build_object('n', n)) from generate_series(1, 40) n")
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker").wait_ready()
    wait_until(lambda: told.place.value("select count(*) from saga.ended") == 39, 60, lambda: told.place.sql("select state, count(*) from saga.instances group by 1"))
    wait_until(lambda: worker.metric("sagapost_saga_batch_failures_total", role="orchestrate") >= 2, 30, "its batches were halved")
    told.place.sql("delete from told.tripwire")
    wait_until(lambda: told.place.value("select count(*) from saga.ended where state = 'SUCCEEDED'") == 40, 60, lambda: told.place.sql("select * from saga.instances"))
    assert worker.metric("sagapost_saga_dead_lettered_total") == 0
    assert told.place.value("select count(*) from told.effect") == 120


def test_a_saga_whose_row_was_damaged(told, programs):
    """Its replies are set apart with the reason, it is named in the log, and nothing else is disturbed."""
    told.define("damaged", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 100, base => '1 hour', cap => '1 hour')"}), ("p", "pivot", "a")])
    told.behave("a", "action", "55P03", times=1)
    saga = told.start("damaged")
    wait_until(lambda: told.steps(saga)["a"] == "RETRY_WAIT", 30, lambda: told.show(saga))
    told.place.sql("update saga.instance set steps = '[{\"s\": \"DANCING\"}]', wake_at = clock_timestamp()")
    programs.wait_log("a saga cannot be driven")
    programs.wait_log(saga)
    assert told.end(told.start("damaged")) == "SUCCEEDED"


def test_worker_with_no_more_rights_than_its_role(told, daemons):
    told.place.sql("do $$ begin create role told_worker login; exception when duplicate_object then null; end $$")
    told.place.sql("grant sagapost_worker to told_worker")
    told.place.sql("grant usage on schema told to sagapost_worker")
    told.place.sql("revoke all on all functions in schema told from public")
    told.place.sql("grant execute on function told.run to sagapost_worker")
    told.define("rights", [("a", "compensable", ""), ("p", "pivot", "a"), ("r", "retriable", "p")], events="true")
    told.behave("p", "action", "SG001", times=1)
    daemons("outbox-relay").wait_ready()
    limited = told.place.conninfo.replace("user=postgres", "user=told_worker")
    worker = daemons("saga-worker", environment={"SAGAPOST_POSTGRES": limited}).wait_ready()
    assert told.end(told.start("rights")) == "COMPENSATED", worker.log()
    assert told.end(told.start("rights")) == "SUCCEEDED", worker.log()
    saga = told.start("rights")
    assert told.end(saga) == "SUCCEEDED"
    assert "permission denied" not in worker.log()


def test_a_saga_that_lost_its_timer_is_woken(told, daemons):
    """What no crash of ours leaves behind, but a hand may: a saga without a timer is found and goes on."""
    daemons("outbox-relay").wait_ready()
    told.define("lost", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 10, base => '1 hour', cap => '1 hour')"}), ("p", "pivot", "a")])
    told.behave("a", "action", "40001", times=1)
    worker = daemons("saga-worker").wait_ready()
    saga = told.start("lost")
    wait_until(lambda: told.steps(saga)["a"] == "RETRY_WAIT", 30, lambda: told.show(saga))
    worker.kill()
    # Its retry is due, as if the hour were over.
    told.place.sql("update saga.instance set wake_at = null, steps = jsonb_set(steps, '{0,d}', to_jsonb((extract(epoch from clock_timestamp()) * 1000000)::bigint))")
    worker = daemons("saga-worker", "--stall-check-interval", "1s").wait_ready()
    assert told.end(saga) == "SUCCEEDED"
    assert worker.metric("sagapost_saga_stalled_total") == 1


def test_timers_fire_in_time(told, programs):
    # The first hundred calls fail, whichever sagas they are of: on a slow machine one saga may be hit several times.
    told.define("timed", [("a", "compensable", "", {"retry": "saga.retry_policy(max => 110, base => '700ms', factor => 1, cap => '700ms', jitter => false)"}), ("p", "pivot", "a")])
    told.behave("a", "action", "55P03", times=100)
    told.place.sql("select saga.start('timed', '{}') from generate_series(1, 100)")
    wait_until(lambda: told.place.value("select count(*) from saga.ended where state = 'SUCCEEDED'") == 100, 60, "all succeeded")
    assert programs.metric("sagapost_saga_timers_total") >= 100


def test_state_gauges(told, daemons):
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker", "--gauges-interval", "1s").wait_ready()
    told.define("gauge", [("p", "pivot", ""), ("last", "retriable", "p", {"retry": "saga.retry_policy(max => 1)"})])
    told.behave("last", "action", "XX000")
    saga = told.start("gauge")
    told.wait_state(saga, "STUCK")
    worker.wait_metric("sagapost_saga_stuck", 1)
    worker.wait_metric("sagapost_saga_sagas", 1, definition="gauge", state="STUCK")
    told.behave("last", "action", "XX000", times=0)
    told.place.sql("select saga.retry(%s)", (saga,))
    told.end(saga)
    worker.wait_metric("sagapost_saga_stuck", 0)
    worker.wait_metric("sagapost_saga_ended_total", 1, definition="gauge", state="SUCCEEDED")
    assert worker.metric("sagapost_saga_step_latency_seconds_count", definition="gauge") >= 2
