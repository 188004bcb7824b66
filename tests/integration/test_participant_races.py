"""A participant under commands that are repeated, reordered and met by several sessions at once: batches of SQL handlers beside programs that
call saga.receive and saga.reply, with transactions that are given up before COMMIT. Whatever the order: an effect happens at most once, is
undone at most once, never happens after its undo, and every answer tells what really happened."""

import json
import random
import threading
import uuid

import psycopg2

SAGAS = 150
HOT_ROWS = 3

SETUP = """
create schema shop;
create table shop.effect (n bigint generated always as identity, saga uuid, operation text);
create table shop.stock (sku integer primary key, n integer not null);
insert into shop.stock select g, 0 from generate_series(0, %d) g;
create function shop.act(input jsonb) returns jsonb language plpgsql as $$
begin
    insert into shop.effect (saga, operation) values (current_setting('saga.id')::uuid, current_setting('saga.operation'));
    update shop.stock set n = n + case current_setting('saga.operation') when 'action' then -1 else 1 end where sku = (input ->> 'sku')::integer;
    if (input ->> 'refused')::boolean and current_setting('saga.operation') = 'action' then
        perform saga.fail('refused', 'refused');
    elsif random() < 0.05 then
        raise exception 'a bug that comes and goes';
    end if;
    return jsonb_build_object('sku', input -> 'sku');
end
$$;
select saga.handle('p.act', 'shop.act', lock => '$.sku');
""" % HOT_ROWS


def command(saga, operation, attempt, sku, refused):
    return json.dumps({
        "saga": {"id": saga, "definition": "race", "version": 1, "step": "act", "element": 0, "operation": operation, "round": 1,
                 "attempt": attempt, "reply_to": "race", "action": "p.act"},
        "input": {"sku": sku, "refused": refused}})


def all_commands(rng, place):
    """Every saga's commands several times, nearly in the order in which an orchestrator could have sent them."""
    commands = []
    for at in range(SAGAS):
        saga = place.value("select outbox.uuid_v7()::text")
        refused = rng.random() < 0.2
        wanted = ["action"] * rng.randint(1, 3)
        wanted += rng.choice([[], ["probe"], ["undo"], ["probe", "undo"], ["undo", "undo", "probe"]])
        for attempt, operation in enumerate(wanted, 1):
            commands.append((at + rng.random() * 12, command(saga, operation, attempt, rng.randint(0, HOT_ROWS), refused)))
    return [text for _, text in sorted(commands)]


def execute(connection, batch, rng):
    """What saga-worker does: one transaction; an error cuts the batch in two; now and then the COMMIT is never reached."""
    cursor = connection.cursor()
    try:
        cursor.execute("select verdict from saga.execute_batch(%s::jsonb[])", (batch,))
        verdicts = [row[0] for row in cursor.fetchall()]
        assert "unreadable" not in verdicts
        if rng.random() < 0.1:
            connection.rollback()
            execute(connection, batch, rng)
        else:
            connection.commit()
    except psycopg2.extensions.TransactionRollbackError:
        connection.rollback()
        middle = (len(batch) + 1) // 2
        for half in (batch[:middle], batch[middle:]):
            if half:
                execute(connection, half, rng)


def take_part(connection, text, rng):
    """A program: receive, work, reply."""
    cursor = connection.cursor()
    message = json.loads(text)
    try:
        cursor.execute("select verdict from saga.receive(%s)", (text,))
        if cursor.fetchone()[0] == "execute":
            cursor.execute("savepoint work")
            cursor.execute("insert into shop.effect (saga, operation) values (%s, %s)", (message["saga"]["id"], message["saga"]["operation"]))
            cursor.execute("update shop.stock set n = n + %s where sku = %s",
                           (-1 if message["saga"]["operation"] == "action" else 1, message["input"]["sku"]))
            if message["input"]["refused"] and message["saga"]["operation"] == "action":
                cursor.execute("rollback to work")
                cursor.execute("select saga.reply(%s, 'failed', '{\"code\": \"refused\"}')", (text,))
            else:
                cursor.execute("select saga.reply(%s, 'ok', '{\"by\": \"program\"}')", (text,))
        if rng.random() < 0.1:
            connection.rollback()
            take_part(connection, text, rng)
        else:
            connection.commit()
    except psycopg2.extensions.TransactionRollbackError:
        connection.rollback()
        take_part(connection, text, rng)


def run(place, commands, seed, failures):
    lock = threading.Lock()

    def worker(number):
        rng = random.Random(seed * 100 + number)
        connection = place.connect(autocommit=False)
        try:
            while True:
                with lock:
                    size = rng.choice([1, 4, 16]) if number % 2 == 0 else 1
                    batch, commands[:] = commands[:size], commands[size:]
                if not batch:
                    break
                rng.shuffle(batch)
                if number % 2 == 0:
                    execute(connection, batch, rng)
                else:
                    take_part(connection, batch[0], rng)
        except Exception as problem:  # pylint: disable=broad-except
            failures.append(repr(problem))
        finally:
            connection.close()

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_an_effect_happens_once_and_is_undone_once(place, request):
    seed = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(10000) if seed is None else seed
    print(f"seed {seed}")
    rng = random.Random(seed)
    place.sql(SETUP)
    commands = all_commands(rng, place)
    sent = len(commands)
    failures = []
    run(place, commands, seed, failures)
    assert failures == []

    effects, answers = {}, {}
    for saga, operation in place.sql("select saga::text, operation from shop.effect order by n"):
        effects.setdefault(saga, []).append(operation)
    for saga, operation, outcome, empty in place.sql(
            "select correlation_id, payload -> 'saga' ->> 'operation', payload ->> 'outcome', payload ->> 'empty' from outbox.message"):
        answers.setdefault(saga, set()).add(f"{operation} {outcome}{' empty' if empty else ''}")
        uuid.UUID(saga)
    assert place.value("select count(*) from outbox.message") == sent, "every command is answered once"
    assert all(done in (["action"], ["action", "undo"]) for done in effects.values()), "once each, and the undo after the action"
    for saga, heard in answers.items():
        heard -= {"action error", "undo error"}
        done = effects.get(saga, [])
        assert ("action ok" in heard) <= ("action" in done), (saga, heard)
        assert ("undo ok" in heard) == ("undo" in done), (saga, heard)
        assert ("probe executed" in heard) <= ("action" in done), (saga, heard)
        assert not (heard & {"probe not_executed", "undo ok empty", "action failed", "action not_executed"}) or not done, (saga, heard)
    assert place.value("select count(*) from saga.outcome where outcome not in ('ok', 'failed', 'fenced')") == 0
    stock = place.value("select sum(n) from shop.stock")
    assert stock == -sum(1 for done in effects.values() if done == ["action"]), "stock balances"
    assert any(done == ["action", "undo"] for done in effects.values()) and any("undo ok empty" in heard for heard in answers.values())
