"""Every figure that the daemons export, against the ledger: what was written, what arrived, and what lies in the tables."""

import json

import pytest

from harness.metrics import Metrics
from harness.proxy import Network
from harness.shop import Shop
from harness.wait import wait_until

RELAY = "sagapost_outbox_"
WORKER = "sagapost_saga_"


def wait_equal(figures, limit_s=60):
    """`figures()` gives {name: (exported, expected)}; waits until all agree, and says which do not."""
    wrong = {}

    def agree():
        wrong.clear()
        wrong.update({name: pair for name, pair in figures().items() if pair[0] != pair[1]})
        return not wrong

    wait_until(agree, limit_s, lambda: f"exported, expected: {wrong}", every_s=0.1)


def set_aside(place):
    return {
        (state, reason): (rows, attempts)
        for state, reason, rows, attempts in place.sql(
            "select state, reason, count(*)::float8, sum(attempts)::float8 from outbox.parked group by state, reason"
        )
    }


def relay_figures(place, relay, written, arrived):
    """What must hold of a relay that has owned the share from the first message on, with `arrived` deliveries, once it is idle."""
    exported, aside = Metrics.of(relay), set_aside(place)
    get = lambda name, **labels: exported(RELAY + name, **labels)  # noqa: E731
    backlog, oldest = place.sql("select rows, extract(epoch from oldest_age) from outbox.backlog")[0]
    by_state = {
        f"parked {state}": (get("parked", state=state), sum(rows for (its, _), (rows, _) in aside.items() if its == state))
        for state in ("waiting", "parked", "behind")
    }
    by_reason = {
        name: (get(f"{name}_total"), sum(attempts for (_, reason), (_, attempts) in aside.items() if reason == name))
        for name in ("returned", "nacked")
    }
    return {
        **by_state,
        **by_reason,
        "read": (get("read_total"), written()),
        "confirmed": (get("confirmed_total"), arrived()),
        "published": (get("published_total"), sum(get(f"{name}_total") for name in ("confirmed", "returned", "nacked", "unknown")) + get("in_flight")),
        "set aside": (get("set_aside_total"), sum(rows for rows, _ in aside.values()) + get("parked_confirmed_total")),
        "send to confirm": (get("confirm_latency_seconds_count"), get("confirmed_total")),
        "insert to confirm": (get("commit_to_confirm_seconds_count"), get("confirmed_total")),
        "in flight": (get("in_flight"), 0),
        "unpersisted": (get("unpersisted"), 0),
        "backlog": ((get("backlog_rows"), get("backlog_oldest_age_seconds")), (backlog, oldest)),
        "epoch": (get("lease_epoch"), place.value("select epoch from outbox.position")),
        "role": ((get("role", role="owner"), get("role", role="standby")), (1, 0)),
        "blocked": ((get("stalled"), get("blocked_seconds_total")), (0, 0)),
    }


def test_the_relay_with_bad_messages(place, daemons):
    """Confirmed, returned, refused, without an exchange, behind another: each is counted once, and again when it is tried again."""
    channel = place.channel()
    for name, arguments in (("order", {"x-queue-type": "quorum"}), ("full", {"x-max-length": 5, "x-overflow": "reject-publish"})):
        channel.queue_declare(name, durable=True, arguments=arguments)
    relay = daemons(
        "outbox-relay", "--unroutable-grace", "0ms", "--retry-base", "1min", "--retry-cap", "1min", "--fallback-interval", "100ms"
    ).wait_ready()
    place.sql("insert into outbox.route (type, order_mode) values ('full', 'pipelined')")
    in_queues = lambda: sum(channel.queue_declare(name, passive=True).method.message_count for name in ("order", "full"))  # noqa: E731
    place.sql(
        "insert into outbox.message (type, key, payload)"
        " select case when n % 10 = 3 then 'nobody' when n % 10 = 5 then 'full' else 'order' end, case when n % 2 = 1 then 'k' || n % 40 end,"
        " '{}' from generate_series(1, 990) n"
    )
    wait_equal(lambda: relay_figures(place, relay, lambda: 990, in_queues))
    # The channel is closed over the first of these, while nothing else is in flight that would have to be sent again.
    place.sql("insert into outbox.message (type, exchange, payload) select 'order', 'nowhere', '{}' from generate_series(1, 10)")
    wait_equal(lambda: relay_figures(place, relay, lambda: 1000, in_queues))
    aside = set_aside(place)
    assert {("parked", "returned"), ("waiting", "nacked"), ("parked", "no_exchange"), ("behind", "behind")} <= aside.keys(), aside
    aside_first = sum(rows for rows, _ in aside.values())
    refused = {name: Metrics.of(relay)(RELAY + f"{name}_total") for name in ("returned", "nacked")}

    # The causes are mended: all that was set aside arrives.
    taken = channel.queue_purge("full").method.message_count
    channel.queue_delete("full")
    for name in ("full", "nobody"):
        channel.queue_declare(name, durable=True)
    channel.exchange_declare("nowhere", "fanout", durable=True)
    channel.queue_bind("order", "nowhere")

    def all_arrived():
        place.sql("select outbox.requeue(message_id) from outbox.parked where state <> 'behind' and not exists (select from outbox.intent where answer is null)")
        return place.value("select count(*) from outbox.parked") == 0

    wait_until(all_arrived, 60, lambda: place.sql("select state, reason, count(*) from outbox.parked group by 1, 2"), every_s=0.2)
    arrived = lambda: taken + in_queues() + channel.queue_declare("nobody", passive=True).method.message_count  # noqa: E731
    assert arrived() == 1000
    wait_equal(
        lambda: {
            **relay_figures(place, relay, lambda: 1000, arrived),
            **{name: (Metrics.of(relay)(RELAY + f"{name}_total"), count) for name, count in refused.items()},  # nothing was refused again
            "all that was set aside": (Metrics.of(relay)(RELAY + "parked_confirmed_total"), aside_first),
        }
    )


def test_the_relay_with_a_broker_that_falls_silent(place, daemons):
    """In flight, backlog and age while nothing is confirmed; and after it, that everything was counted once."""
    queue = place.channel()
    queue.queue_declare("order")
    network = Network(place)
    try:
        relay = daemons(
            "outbox-relay", "--window", 100, "--fallback-interval", "100ms", "--confirm-timeout", "5min", environment=network.environment()
        ).wait_ready()
        relay.wait_log('msg="publishing"')  # it is ready before RabbitMQ has answered for its queue, and sends nothing until then
        network["rabbitmq"].hole = True
        place.sql("select outbox.publish('order', '{}') from generate_series(1, 500)")

        def silent():
            exported = Metrics.of(relay)
            get = lambda name: exported(RELAY + name)  # noqa: E731
            rows, oldest = place.sql("select rows, extract(epoch from oldest_age)::float8 from outbox.backlog")[0]
            sent = get("published_total")
            return {
                "in flight": (get("in_flight"), sent), "unpersisted": (get("unpersisted"), sent), "the window bounds it": (0 < sent <= 100, True),
                "confirmed": (get("confirmed_total"), 0), "backlog": ((get("backlog_rows"), rows), (500, 500)),
                "age": (0 < get("backlog_oldest_age_seconds") <= oldest, True),
            }

        wait_equal(silent)
        network["rabbitmq"].heal()
        wait_equal(lambda: relay_figures(place, relay, lambda: 500, lambda: queue.queue_declare("order", passive=True).method.message_count))
    finally:
        network.close()


# The worker ------------------------------------------------------------------------------------------------------------------------


def commands(place, where):
    return place.value(f"select count(*)::float8 from (select payload::jsonb -> 'saga' as c from outbox.message where type = 'saga.command') m where {where}")


def worker_figures(place, worker):
    exported = Metrics.of(worker)
    get = lambda name, **labels: exported(WORKER + name, **labels)  # noqa: E731
    ended = place.sql("select definition, state, count(*) from saga.instances where ended_at is not null group by 1, 2")
    running = place.sql("select definition, state, count(*) from saga.instances where ended_at is null group by 1, 2")
    intents = dict(place.sql("select answer, count(*) from saga.intent group by answer"))
    roots = place.value(
        "select coalesce(sum(cardinality(d.root_steps)), 0)::float8 from saga.instances i join saga.definition d on d.name = i.definition and d.version = i.version"
    )
    outcomes = dict(place.sql("select outcome, count(*) from saga.outcome group by outcome"))
    replies = place.value("select count(*)::float8 from outbox.message where type = 'saga.reply'")
    return {
        **{f"ended {d} {s}": (get("ended_total", definition=d, state=s), n) for d, s, n in ended},
        **{f"running {d} {s}": (get("sagas", definition=d, state=s), n) for d, s, n in running},
        "ended in all": (get("ended_total"), sum(n for *_, n in ended)),
        "running in all": (get("sagas"), sum(n for *_, n in running)),
        "stuck": (get("stuck"), sum(n for _, state, n in running if state == "STUCK")),
        # saga.start sends the roots, the worker all that follows.
        "sent": (get("commands_sent_total") + roots, commands(place, "true")),
        "undos": (get("undos_total"), commands(place, "c ->> 'operation' = 'undo' and (c ->> 'attempt')::int = 1")),
        "retries": (get("retries_total"), commands(place, "c ->> 'operation' <> 'probe' and (c ->> 'attempt')::int > 1")),
        "carried out": (get("commands_total"), commands(place, "true")),
        "did": (get("commands_total", verdict="execute", outcome="ok"), outcomes.get("ok", 0)),
        "refused": (get("commands_total", verdict="execute", outcome="failed"), outcomes.get("failed", 0)),
        "command latency": (get("command_latency_seconds_count"), get("commands_total")),
        "command batches": (get("batch_size_sum", role="execute"), get("commands_total")),
        "replies": (get("replies_total"), replies),
        "reply batches": (get("batch_size_sum", role="orchestrate"), replies),
        "step latency": (get("step_latency_seconds_count"), replies - get("replies_ignored_total") - get("replies_unknown_saga_total")),
        "intents": ((get("intents_total", answer="applied"), get("intents_total", answer="refused")), (intents.get("applied", 0), intents.get("refused", 0))),
        "not mapped": (get("unmappable_total"), place.value("select count(*) from saga.instances where definition = 'odd'")),
        "trouble": (sum(get(n) for n in ("dead_lettered_total", "batch_failures_total", "stalled_total", "deadlocks_total", "busy_total")), 0),
    }


ODD = """
create function public.echo(input jsonb) returns jsonb language sql as 'select input';
select saga.handle('odd.act', 'public.echo');
select saga.define('odd');
select saga.step('odd', 'decide', action => 'odd.act', kind => 'pivot');
select saga.step('odd', 'follow', action => 'odd.act', kind => 'retriable', after => '{decide}', input => '{"x": "$.steps.decide.nothing"}');
select saga.publish('odd');
"""


def test_the_worker_with_the_shop(place, daemons):
    place.sql("select outbox.configure(ring_period => '7 days')")  # nothing of the log goes while it is counted
    shop = Shop(place)
    place.sql(ODD)
    daemons("outbox-relay").wait_ready()
    worker = daemons("saga-worker", "--gauges-interval", "1s").wait_ready()
    shop.place_orders(100)
    shop.wait_ended()
    shop.check()
    # One that gets stuck past its pivot, and a cancel that is refused for that reason.
    stuck = place.value("select saga.start('odd', '{}')")
    wait_until(lambda: place.value("select state from saga.instances where id = %s", (stuck,)) == "STUCK", 60, "stuck")
    place.sagapost("saga", "cancel", stuck, "--wait", "3min", expect=4)
    wait_equal(lambda: worker_figures(place, worker))
    states = shop.states()
    assert states["SUCCEEDED"] and states["COMPENSATED"] and states["STUCK"] == 1  # the shop's own mix has both
    lateness = Metrics.of(worker)
    assert lateness(WORKER + "timer_lateness_seconds_count") <= lateness(WORKER + "timers_total")
    assert lateness(WORKER + "timers_late_total") <= lateness(WORKER + "timers_total")


# Names -------------------------------------------------------------------------------------------------------------------------------

PROMISED = {
    "outbox-relay": {
        "backlog_rows": "gauge", "backlog_oldest_age_seconds": "gauge", "published_total": "counter", "confirmed_total": "counter",
        "returned_total": "counter", "nacked_total": "counter", "parked": "gauge", "in_flight": "gauge", "confirm_latency_seconds": "histogram",
        "commit_to_confirm_seconds": "histogram", "blocked_seconds_total": "counter", "lease_epoch": "gauge", "role": "gauge",
    },
    "saga-worker": {
        "sagas": "gauge", "step_latency_seconds": "histogram", "retries_total": "counter", "undos_total": "counter", "stuck": "gauge",
        "timers_late_total": "counter", "batch_size": "histogram",
    },
}
UNITS = {"histogram": ("_seconds", "_size"), "counter": ("_total",)}


@pytest.mark.parametrize("program", PROMISED)
def test_names_types_and_help(place, daemons, program):
    prefix = RELAY if program == "outbox-relay" else WORKER
    daemon = daemons(program, *(("--gauges-interval", "1s") if program == "saga-worker" else ()))
    place.sql(ODD)
    place.value("select saga.start('odd', '{}')")  # series by definition come with the first saga
    if program == "saga-worker":
        daemons("outbox-relay").wait_ready()
    daemon.wait_ready()
    wanted = {prefix + name: kind for name, kind in PROMISED[program].items()}
    wait_until(lambda: wanted.items() <= Metrics.of(daemon).types.items(), 60, lambda: json.dumps(Metrics.of(daemon).types, indent=1))
    exported = Metrics.of(daemon)
    for name, kind in exported.types.items():
        assert name.startswith(prefix), name
        assert len(exported.help[name]) > 8, name
        assert name.endswith(UNITS.get(kind, ("",))) and not (kind == "gauge" and name.endswith("_total")), (name, kind)
    assert exported.help.keys() == exported.types.keys()
