"""Escrow steps through real messages: one hot account, sagas that fail, workers that die; settled, given back, taken back with a child."""

from harness.told import QUICK
from harness.wait import wait_until


def account(told, balance, floor):
    told.place.sql(
        f"""
        create schema shop;
        create table shop.account (id text primary key, balance numeric(12, 2) not null check (balance >= {floor}));
        insert into shop.account values ('hot', {balance});
        select saga.escrow('told.credit', 'shop.account', 'balance', floor => {floor});
        """
    )


def escrow(name):
    return f"""select saga.step('{name}', 'e', via => 'escrow', action => 'told.credit', input => '{{"key": "hot", "amount": "$.input.amount"}}', retry => {QUICK}, undo_retry => {QUICK})"""


def balance(told):
    return float(told.place.value("select balance from shop.account"))


def test_one_hot_account_never_falls_below_its_floor_and_adds_up(told, daemons):
    """Thirty sagas want 3.50 each of 60 above the floor: some are refused, some fail behind it and give back, one worker is killed meanwhile."""
    account(told, balance=80, floor=20)
    patient = "saga.retry_policy(max => 100, base => '50ms', cap => '200ms')"
    told.place.sql(
        f"""
        select saga.define('buy');
        {escrow('buy').replace(QUICK, patient)};
        select saga.step('buy', 'p', action => 'told.act', kind => 'pivot', after => '{{e}}', retry => {patient});
        select saga.publish('buy');
        """
    )
    told.behave("p", "action", "SG001", 1)
    daemons("outbox-relay").wait_ready()
    dies = daemons("saga-worker").wait_ready()
    daemons("saga-worker").wait_ready()
    first = told.start("buy", '{"amount": 60}')
    assert told.end(first) == "COMPENSATED" and balance(told) == 80, "given back"
    told.behave("p", "action", "SG001", 6)
    sagas = [told.start("buy", '{"amount": 3.50}') for _ in range(30)]
    wait_until(lambda: told.place.value("select count(*) from told.effect") > 1, 60)
    dies.kill()
    states = [told.end(saga) for saga in sagas]
    succeeded = states.count("SUCCEEDED")
    assert set(states) == {"SUCCEEDED", "COMPENSATED"}
    assert balance(told) == 80 - 3.50 * succeeded and balance(told) >= 20
    assert told.place.value("select count(*) from saga.reservation") == 0, "all are settled or given back"
    refused = told.place.value("select count(*) from saga.instances where errors #>> '{e,code}' = 'insufficient'")
    failed = states.count("COMPENSATED") - refused
    assert 0 <= failed <= 5, "a call that was told to fail may have died with its worker"
    assert told.place.value("select count(*) from saga.steps where step = 'e_settle' and state = 'SUCCEEDED'") == succeeded


def test_a_child_gives_back_what_it_had_settled(told, programs):
    """It has no pivot: settled as its last step, reopened and released when its parent takes it back."""
    account(told, balance=10, floor=0)
    told.place.sql(
        f"""
        select saga.define('child');
        {escrow('child')};
        select saga.publish('child');
        select saga.define('parent');
        select saga.step('parent', 'c', via => 'saga', child => 'child');
        select saga.step('parent', 'go', via => 'signal', after => '{{c}}');
        select saga.step('parent', 'p', action => 'told.act', kind => 'pivot', after => '{{go}}', retry => {QUICK});
        select saga.publish('parent');
        """
    )
    told.behave("p", "action", "SG001")
    parent = told.start("parent", '{"amount": 7.25}')
    wait_until(lambda: told.steps(parent)["go"] == "PARKED", 60, lambda: told.show(parent))
    assert balance(told) == 2.75 and told.place.value("select count(*) from saga.reservation") == 0
    told.place.value("select saga.signal(%s, 'go')", (parent,))
    assert told.end(parent) == "COMPENSATED"
    assert balance(told) == 10
    assert told.place.value("select count(*) from saga.reservation") == 0
