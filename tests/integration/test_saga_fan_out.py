"""Steps that are fanned out over a list: elements that succeed, fail, are undone, stuck, repeated and late; and workers that die meanwhile.

The ledger is a store: what an order's lines took is taken once, and given back once or not at all."""

import json

import pytest

from harness.told import ENDED
from harness.wait import wait_until

QUICK = "saga.retry_policy(max => 3, base => '20ms', factor => 1, cap => '20ms', jitter => false)"
MANY = "saga.retry_policy(max => 1000, base => '50ms', factor => 1, cap => '50ms', jitter => false)"

STORE = """
create schema store;
create table store.stock (sku text primary key, n integer not null check (n >= 0));
create table store.move (id bigint generated always as identity, saga uuid not null, i integer not null, operation text not null, sku text not null, n integer not null,
                         primary key (saga, i, operation));
create table store.trouble (i integer not null, operation text not null, state text not null, primary key (i, operation));

create function store.take(input jsonb) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
    op     text := current_setting('saga.operation');
    amount integer := (input ->> 'n')::integer * case op when 'undo' then -1 else 1 end;
    how    text := (select t.state from store.trouble t where t.i = (input ->> 'i')::integer and t.operation = op);
begin
    if (input ->> 'i')::integer >= 0 and input ->> 'i' <> current_setting('saga.element') then
        raise exception 'element % is told that it is %', input ->> 'i', current_setting('saga.element');
    end if;
    if how = 'SG001' then
        perform saga.fail('told', 'to fail');
    elsif how is not null then
        raise exception using errcode = how, message = 'as told';
    end if;
    update store.stock s set n = s.n - amount where s.sku = input ->> 'sku' and s.n >= amount;
    if not found then
        perform saga.fail('no_stock', 'none left of ' || (input ->> 'sku'));
    end if;
    insert into store.move (saga, i, operation, sku, n) values (current_setting('saga.id')::uuid, (input ->> 'i')::integer, op, input ->> 'sku', amount);
    return jsonb_build_object('took', amount, 'i', input -> 'i');
end
$$;
"""


class Store:
    def __init__(self, place):
        self.place = place
        place.sql(STORE)
        place.sql("select saga.handle('store.take', 'store.take', lock => '$.sku'), saga.handle('store.give', 'store.take', lock => '$.sku'), saga.handle('store.see', 'store.take')")

    def define(self, name="order", kind="compensable", more="", behind=""):
        undo = "undo => 'store.give'," if kind == "compensable" else ""
        pivot = f"select saga.step('{name}', 'go', action => 'store.see', kind => 'pivot', input => '{{\"i\": -1, \"n\": 0, \"sku\": \"A\"}}');" if kind == "retriable" else ""
        after = "after => '{go}'," if kind == "retriable" else ""
        self.place.sql(
            f"""
            select saga.define('{name}');
            {pivot}
            select saga.step('{name}', 'pick', action => 'store.take', {undo} {after} kind => '{kind}', for_each => '$.input.lines',
                             input => '{{"sku": "$.item.sku", "n": "$.item.n", "i": "$.index"}}', retry => {QUICK}, undo_retry => {QUICK if kind == "compensable" else "null"},
                             timeout => '2min' {more});
            {behind}
            select saga.publish('{name}');
            """
        )

    def fill(self, **stock):
        for sku, n in stock.items():
            self.place.sql("insert into store.stock values (%s, %s) on conflict (sku) do update set n = excluded.n", (sku, n))

    def trouble(self, i, operation, state):
        self.place.sql("insert into store.trouble values (%s, %s, %s) on conflict (i, operation) do update set state = excluded.state", (i, operation, state))

    def peace(self):
        self.place.sql("delete from store.trouble")

    def start(self, *lines, name="order"):
        given = json.dumps({"lines": [{"sku": sku, "n": n} for sku, n in lines]})
        return self.place.value("select saga.start(%s, %s::jsonb)", (name, given))

    def column(self, saga, name):
        return self.place.value(f"select {name} from saga.instances where id = %s", (saga,))

    def elements(self, saga):
        return [state for (state,) in self.place.sql("select state from saga.elements where saga_id = %s order by element", (saga,))]

    def step(self, saga, step="pick"):
        return self.place.value("select state from saga.steps where saga_id = %s and step = %s", (saga, step))

    def show(self, saga):
        rows = self.place.sql("select at, event, step, detail from saga.timeline where saga_id = %s order by id", (saga,))
        return f"{self.column(saga, 'state')} {self.column(saga, 'reason')} {self.step(saga)} {self.elements(saga)}\n" + "\n".join(map(str, rows))

    def wait(self, saga, *states):
        return wait_until(lambda: self.column(saga, "state") in states and self.column(saga, "state"), 60, lambda: self.show(saga))

    def moves(self, saga):
        return self.place.sql("select i, operation from store.move where saga = %s and i >= 0 order by i, operation", (saga,))

    def stock(self):
        return dict(self.place.sql("select sku, n from store.stock"))


@pytest.fixture
def store(place):
    return Store(place)


@pytest.fixture
def programs(store, daemons):
    """A relay and a worker."""
    return daemons("outbox-relay").wait_ready(), daemons("saga-worker").wait_ready()


def test_each_element_is_a_command_and_outputs_are_collected(store, programs):
    store.define(behind="select saga.step('order', 'last', action => 'store.see', kind => 'read_only', after => '{pick}', input => '{\"i\": -1, \"n\": 0, \"sku\": \"A\", \"all\": \"$.steps.pick\", \"two\": \"$.steps.pick[1].took\"}');")
    store.fill(A=10, B=10)
    saga = store.start(("A", 1), ("B", 2), ("A", 3))
    assert store.wait(saga, *ENDED) == "SUCCEEDED"
    assert store.column(saga, "outputs")["pick"] == [{"took": 1, "i": 0}, {"took": 2, "i": 1}, {"took": 3, "i": 2}]
    assert store.stock() == {"A": 6, "B": 8} and store.elements(saga) == ["SUCCEEDED"] * 3
    sent = store.place.sql("select detail ->> 'element' from saga.timeline where saga_id = %s and step = 'pick' and event = 'succeeded' order by 1", (saga,))
    assert [element for (element,) in sent] == ["0", "1", "2", None]
    shown = store.place.sagapost("saga", "show", saga)
    assert "SUCCEEDED, 3 of 3 done" in shown
    assert "pick[2]" in store.place.sagapost("saga", "timeline", saga)


@pytest.mark.parametrize("at_once", ["", ", for_each_at_once => 2"])
def test_one_that_fails_has_the_others_undone(store, programs, at_once):
    store.define(more=at_once)
    store.fill(A=100, B=0)
    saga = store.start(("A", 1), ("A", 2), ("B", 1), ("A", 3), ("A", 4), ("A", 5))
    assert store.wait(saga, *ENDED) == "COMPENSATED"
    assert store.stock() == {"A": 100, "B": 0}
    moves = store.moves(saga)
    assert (2, "action") not in moves and all(((i, "action") in moves) == ((i, "undo") in moves) for i in range(6)), store.show(saga)
    assert store.step(saga) == "UNDONE" and store.elements(saga)[2] == "FAILED"
    assert "pick[2]: no_stock" in store.column(saga, "reason") and store.column(saga, "errors")["pick"]["element"] == 2


def test_lists_that_are_none(store, programs):
    store.define(more=", for_each_max => 2")
    store.fill(A=10)
    empty = store.start()
    assert store.wait(empty, *ENDED) == "SUCCEEDED" and store.column(empty, "outputs")["pick"] == []
    for given, why in [
        ("{}", "the path $.input.lines finds nothing"),
        ('{"lines": "A"}', "finds no array but a string"),
        ('{"lines": [1, 2, 3]}', "the list has 3 elements, allowed are 2"),
    ]:
        saga = store.place.value("select saga.start('order', %s::jsonb)", (given,))
        assert store.wait(saga, *ENDED) == "COMPENSATED"
        assert why in store.column(saga, "reason") and store.step(saga) == "FAILED"
    half = store.place.value("""select saga.start('order', '{"lines": [{"sku": "A", "n": 1}, {"sku": "A"}]}')""")
    assert store.wait(half, *ENDED) == "COMPENSATED"
    assert "element 1: the path $.item.n finds nothing" in store.column(half, "reason") and store.stock() == {"A": 10}


def test_a_retriable_list_that_is_none_is_stuck(store, programs):
    store.define(kind="retriable")
    store.fill(A=10)
    saga = store.place.value("select saga.start('order', '{}')")
    assert store.wait(saga, "STUCK") and "the path $.input.lines finds nothing" in store.column(saga, "reason")
    store.place.sagapost("saga", "skip", saga, "pick")
    assert store.wait(saga, *ENDED) == "SUCCEEDED"


def test_retriable_elements_and_an_operator(store, programs):
    """One element is refused until it is out of retries; the others do not wait for it. Retried by name, it is done."""
    store.define(kind="retriable", more=", for_each_at_once => 1")
    store.fill(A=10, B=0)
    store.fill(A=50)
    saga = store.start(("A", 1), ("B", 1), ("A", 2), *[("A", 1)] * 17)
    assert store.wait(saga, "STUCK") and "pick[1]: no_stock" in store.column(saga, "reason")
    assert store.elements(saga) == ["SUCCEEDED", "FAILED", *["SUCCEEDED"] * 18]
    run = store.place.sagapost
    shown = json.loads(run("saga", "show", saga, "--json"))
    assert shown["fan_outs"] == [{"step": "pick", "elements": 20, "done": 19, "in_flight": 0, "waiting": 0, "failed": 0, "stuck": 1, "undone": 0, "cancelled": 0}]
    assert [(row["element"], row["state"]) for row in shown["elements"]] == [("pick[1]", "FAILED")]
    assert "pick[1]" in run("saga", "show", saga).split("elements that are not over")[1]
    text = run("saga", "timeline", saga)
    assert "pick[1]" in text and "pick, 14 more" in text and text.count("succeeded") == 1 + 5 + 1, text  # go, five elements, the others
    assert len([row for row in json.loads(run("saga", "timeline", saga, "--json")) if row["event"] == "succeeded"]) == 1 + 19
    (top,) = json.loads(run("saga", "top", "--json"))["definitions"]
    assert (top["elements_in_flight"], top["elements_failed"]) == (0, 1)
    assert "it is not stuck" in store.place.sagapost("saga", "retry", saga, "pick[0]", expect=4)
    store.fill(B=1)
    store.place.sagapost("saga", "retry", saga, "pick[1]")
    assert store.wait(saga, *ENDED) == "SUCCEEDED"
    assert store.stock() == {"A": 30, "B": 0} and store.column(saga, "outputs")["pick"][1] == {"took": 1, "i": 1}


def test_an_undo_that_is_stuck_and_an_operator(store, programs):
    store.define()
    store.fill(A=10, B=0)
    for i in (0, 1):
        store.trouble(i, "undo", "SG001")
    saga = store.start(("A", 1), ("A", 2), ("A", 4), ("B", 1))
    assert store.wait(saga, "STUCK") == "STUCK"
    wait_until(lambda: store.elements(saga) == ["UNDO_STUCK", "UNDO_STUCK", "UNDONE", "FAILED"], 60, lambda: store.show(saga))
    assert store.step(saga) == "UNDO_STUCK" and "1 of 4 undone" in store.place.sagapost("saga", "show", saga)
    shown = json.loads(store.place.sagapost("saga", "show", saga, "--json"))
    assert [row["element"] for row in shown["elements"]] == ["pick[0]", "pick[1]", "pick[3]"], "stuck before failed"
    store.place.sagapost("saga", "mark-undone", saga, "pick[0]")
    wait_until(lambda: store.elements(saga)[0] == "UNDONE", 60, lambda: store.show(saga))
    store.peace()
    store.place.sagapost("saga", "retry", saga, "pick")
    assert store.wait(saga, *ENDED) == "COMPENSATED"
    assert store.stock() == {"A": 9, "B": 0}, "what an operator marked was given back by nobody"


def test_answers_again_and_late(store, place, daemons):
    """A participant of the test's own: every answer comes twice, some for elements that do not exist, one after its saga has given up."""
    daemons("outbox-relay").wait_ready()
    daemons("saga-worker", "--roles", "orchestrate").wait_ready()
    place.sql(
        f"""select saga.define('far'), saga.step('far', 'pick', action => 'far.take', undo => 'far.give', for_each => '$.input.lines', input => '{{"x": "$.item"}}',
                   retry => saga.retry_policy(max => 1), undo_retry => {MANY}, timeout => '500ms'), saga.publish('far')"""
    )
    place.sagapost("topology", "declare")
    channel = place.channel()
    saga = place.value("""select saga.start('far', '{"lines": ["a", "b", "c"]}')""")
    seen, silent = [], []

    def answer(command, outcome, times=1, **more):
        about = {**command["saga"], **more}
        for _ in range(times):
            channel.basic_publish("saga.replies", about["reply_to"], json.dumps({"saga": about, "outcome": outcome, "output": {"x": command["input"]["x"]}}))

    def serve(command):
        about = command["saga"]
        seen.append((about["element"], about["operation"]))
        if about["operation"] == "action" and about["element"] == 1:
            silent.append(command)
        elif about["operation"] == "probe":
            answer(command, "not_executed", times=2)
            answer(silent[0], "transient")
        else:
            answer(command, "ok", times=2)
            answer(command, "ok", element=7)

    def ended():
        method, _, body = channel.basic_get("saga.commands.far", auto_ack=True)
        if method:
            serve(json.loads(body))
        return store.column(saga, "state") in ENDED

    wait_until(ended, 60, lambda: f"{seen}\n{store.show(saga)}")
    assert store.column(saga, "state") == "COMPENSATED"
    assert store.elements(saga) == ["UNDONE", "UNDO_EMPTY", "UNDONE"] and store.column(saga, "outputs")["pick"][2] == {"x": "c"}
    assert (1, "undo") not in seen and (1, "probe") in seen


@pytest.mark.parametrize(
    "point",
    [
        "orchestrate-between-write-and-commit",
        pytest.param("orchestrate-before-ack", marks=pytest.mark.long),
        pytest.param("execute-after-commit", marks=pytest.mark.long),
    ],
)
def test_a_worker_killed_in_the_middle(store, daemons, point):
    """The stock is conserved: what was taken is what succeeded, and nothing else."""
    daemons("outbox-relay").wait_ready()
    store.define(more=", for_each_at_once => 3", behind="select saga.step('order', 'go', action => 'store.see', kind => 'pivot', after => '{pick}', input => '{\"i\": -1, \"n\": 0, \"sku\": \"A\"}');")
    store.fill(A=400, B=30)
    victim = daemons("saga-worker", environment={"SAGAPOST_FAILPOINT": f"{point}:4"})
    sagas = [store.start(*[("A", 1)] * 8, ("B", 1), *[("A", 1)] * 3) for _ in range(40)]
    assert victim.wait_exit(60) == -9, victim.log()
    for _ in range(2):
        daemons("saga-worker").wait_ready()
    states = [store.wait(saga, *ENDED) for saga in sagas]
    assert set(states) <= {"SUCCEEDED", "COMPENSATED"} and "COMPENSATED" in states
    done = states.count("SUCCEEDED")
    assert store.stock() == {"A": 400 - 11 * done, "B": 30 - done}
    left = store.place.sql("select saga, count(*) filter (where operation = 'action') - count(*) filter (where operation = 'undo') from store.move where i >= 0 group by saga")
    assert {n for _, n in left} <= {0, 12} and len([n for _, n in left if n == 12]) == done
