"""The command line: migrations on every kind of database, tables and JSON, exit statuses, the doctor's findings."""

import contextlib
import json
import subprocess
import threading

import psycopg2
import pytest

from harness.sandbox import PROGRAMS, ROOT, Place
from harness.shop import Shop
from harness.wait import patient, wait_until

MIGRATIONS = sorted((ROOT / "migrations").glob("[0-9]*.sql"))
NOBODY = "01234567-89ab-7def-8123-456789abcdef"


@pytest.fixture
def empty(sandbox):
    here = Place(sandbox, migrate=False)
    yield here
    here.close()


def tables(place):
    return place.value(
        "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where nspname in ('outbox', 'inbox', 'saga') and relkind in ('r', 'p')"
    )


def test_migrate_twice_does_nothing(empty):
    assert "0001" not in empty.sagapost("migrate", "--json")
    applied = empty.sql("select number, checksum, applied_at from outbox.migration order by number")
    assert len(applied) == len(MIGRATIONS)
    assert "up to date" in empty.sagapost("migrate")
    assert empty.sql("select number, checksum, applied_at from outbox.migration order by number") == applied


def test_migrate_carries_an_older_database_forward(empty):
    for number in (1, 2, 5):
        empty.sagapost("migrate", "--to", number)
        assert empty.value("select max(number) from outbox.migration") == number
    empty.sql("insert into outbox.message (type, payload) values ('before', '{}')")
    applied = json.loads(empty.sagapost("migrate", "--json"))
    assert [row["number"] for row in applied] == list(range(6, len(MIGRATIONS) + 1))
    assert empty.value("select count(*) from outbox.message") == 1


def test_migrate_some_parts_and_the_others_later(empty):
    empty.sagapost("migrate", "--parts", "participant")
    parts = {row[0] for row in empty.sql("select distinct part from outbox.migration")}
    assert parts == {"base", "outbox", "participant"}
    assert empty.value("select to_regclass('saga.instance') is null")
    empty.sagapost("migrate")
    assert empty.value("select count(*) from outbox.migration") == len(MIGRATIONS)


def test_migrate_refuses_a_newer_database_and_a_changed_migration(place):
    place.sql("insert into outbox.migration (number, name, part, checksum) values (9999, 'of_tomorrow', 'saga', 'x')")
    assert "9999 (of_tomorrow)" in place.sagapost("migrate", expect=4)
    place.sql("delete from outbox.migration where number = 9999")
    place.sql("update outbox.migration set checksum = 'another' where number = 2")
    assert "migration 2 (outbox)" in place.sagapost("migrate", expect=4)


@pytest.mark.parametrize(
    "arguments, names",
    [
        (["--parts", "outbox,nonsense"], "nonsense"),
        (["--parts", ""], "parts"),
        (["--to", "9998"], "9998"),
        (["--to", "x"], "--to"),
        (["extra"], "usage: sagapost migrate"),
    ],
)
def test_migrate_bad_usage(empty, arguments, names):
    assert names in empty.sagapost("migrate", *arguments, expect=2)
    assert tables(empty) == 0


def test_migrate_at_the_same_time(empty):
    failures = []

    def migrate():
        try:
            empty.sagapost("migrate")
        except AssertionError as failure:
            failures.append(failure)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert empty.value("select count(*) from outbox.migration") == len(MIGRATIONS)


def test_migrate_that_fails_changes_nothing_and_goes_on_later(empty):
    empty.sagapost("migrate", "--to", 2)
    empty.sql("create table inbox.occupied (); alter table inbox.occupied rename to message")
    name = MIGRATIONS[2].read_text().split("create table inbox.")[1].split()[0].strip("(")
    empty.sql(f"alter table inbox.message rename to {name}")
    assert "migration 3 (inbox)" in empty.sagapost("migrate", expect=1)
    assert empty.value("select max(number) from outbox.migration") == 2
    empty.sql(f"drop table inbox.{name}")
    empty.sagapost("migrate")
    assert empty.value("select count(*) from outbox.migration") == len(MIGRATIONS)


def test_migrate_as_the_owner_of_the_database_without_superuser(sandbox, empty):
    owner = f"owner_{empty.name}"
    empty.sql(f"create role {owner} login createrole; alter database {empty.name} owner to {owner}; grant pg_monitor to {owner}")
    subprocess.run(
        [PROGRAMS["sagapost"], "migrate"],
        env={**empty.environment(), "SAGAPOST_POSTGRES": sandbox.conninfo(empty.name, owner)},
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=patient(60),
    )
    assert empty.value("select count(*) from outbox.migration") == len(MIGRATIONS)


@pytest.mark.parametrize(
    "arguments, status, names",
    [
        ([], 2, "sagapost --help"),
        (["nonsense"], 2, "nonsense"),
        (["saga"], 2, "saga"),
        (["saga", "show"], 2, "saga show SAGA"),
        (["saga", "show", "ORD-1"], 3, "ORD-1"),
        (["saga", "show", NOBODY], 3, NOBODY),
        (["saga", "timeline", NOBODY], 3, NOBODY),
        (["saga", "cancel", NOBODY], 3, NOBODY),
        (["saga", "retry", NOBODY, "step"], 3, NOBODY),
        (["saga", "graph", "order"], 3, "order"),
        (["outbox", "parked", "show", NOBODY], 3, NOBODY),
        (["outbox", "parked", "requeue", NOBODY], 3, NOBODY),
        (["outbox", "parked", "discard", "17"], 2, "17"),
        (["saga", "list", "--limit", "0"], 2, "--limit"),
        (["saga", "frob"], 2, '"saga frob"; saga has list, show, '),
        ([], 2, "no command;"),
        (["migrate", "--dry-run"], 2, "--dry-run: sagapost migrate does not have it"),
        (["outbox", "shares", "2", "--dry-run"], 2, "does not have it"),
        (["saga", "list", "--nonsense", "1"], 2, "--nonsense"),
    ],
)
def test_exit_statuses(place, arguments, status, names):
    assert names in place.sagapost(*arguments, expect=status)


def test_a_message_of_failure_does_not_drive_the_terminal(place):
    key = "a\x1b]0;owned\x07\x9b ü"
    done = subprocess.run(
        [PROGRAMS["sagapost"], "saga", "show", key], env=place.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patient(60),
        check=False,
    )
    assert done.returncode == 3 and r'"a\u001b]0;owned\u0007\u009b ü"' in done.stderr


@pytest.mark.parametrize("target", [">/dev/full", ">&-"])
@pytest.mark.parametrize("words", ["status", "saga list --json", "--help"])
def test_output_that_is_lost(place, words, target):
    """A script must not take half a list for the whole of it."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" {words} {target}', PROGRAMS["sagapost"]], env=place.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=patient(60), check=False,
    )
    assert done.returncode == 1 and "not all of the output could be written" in done.stderr


def test_postgres_away(place):
    place.conninfo = place.conninfo.replace(f"port={place.sandbox.pg_port}", "port=1")
    assert "port" in place.sagapost("status", expect=1)


def test_postgres_without_tls(place):
    """As it is asked for by itself beyond this machine: the message says by what, and how one does without."""
    said = place.sagapost("status", "--postgres", f"{place.conninfo} sslmode=require", expect=1)
    assert "sslmode in the connection string, or PGSSLMODE" in said
    assert "sslmode" not in place.sagapost("status", "--postgres", place.conninfo.replace(f"port={place.sandbox.pg_port}", "port=1"), expect=1)


def test_a_password_on_the_command_line_is_refused_and_not_repeated(place):
    said = place.sagapost("status", "--postgres", "host=127.0.0.1 password=hunter2", expect=2)
    assert "SAGAPOST_POSTGRES" in said and "hunter2" not in said
    said = place.sagapost("doctor", "--amqp", "amqp://user:hunter2@127.0.0.1/", expect=2)
    assert "SAGAPOST_AMQP" in said and "hunter2" not in said


def test_status_and_lists_as_json(place):
    shop = Shop(place)
    shop.place_orders(3)
    status = json.loads(place.sagapost("status", "--json"))
    assert {"schema", "outbox", "sagas"} <= set(status)
    assert status["outbox"][0]["backlog_rows"] == 6
    sagas = json.loads(place.sagapost("saga", "list", "--json"))
    assert {saga["key"] for saga in sagas} == {"ORD-1", "ORD-2", "ORD-3"}
    assert json.loads(place.sagapost("saga", "list", "--json", "--state", "stuck")) == []
    assert len(json.loads(place.sagapost("saga", "list", "--json", "--key", "ORD-2"))) == 1
    shown = json.loads(place.sagapost("saga", "show", "ORD-2", "--json"))
    assert shown["saga"]["state"] == "RUNNING" and [step["step"] for step in shown["steps"]] == ["reserve", "fraud", "capture", "ship"]
    assert json.loads(place.sagapost("saga", "timeline", "ORD-2", "--json"))[0]["event"] == "started"
    assert place.sagapost("saga", "graph", "order").startswith("flowchart")
    assert json.loads(place.sagapost("outbox", "parked", "list", "--json")) == []


def findings(place, expect):
    done = subprocess.run(
        [PROGRAMS["sagapost"], "doctor", "--json"], env=place.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=patient(60), check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return {row["subject"]: row for row in json.loads(done.stdout)}


def test_doctor_names_what_is_wrong(place, daemons):
    shop = Shop(place)
    found = findings(place, 1)
    assert found["relay of share 0"]["verdict"] == "FAIL"
    assert found["workers"]["verdict"] == "FAIL"
    assert found["exchange saga.commands"]["verdict"] == "FAIL"
    assert "payment.capture" in found["queue saga.commands.payment"]["advice"]
    daemons("outbox-relay").wait_ready()
    daemons("saga-worker").wait_ready()
    found = wait_until(lambda: (f := findings_any(place)) and all(r["verdict"] != "FAIL" for r in f.values()) and f, 30, lambda: findings_any(place))
    assert found["queue saga.commands.payment"]["verdict"] == "ok"
    assert "holds outbox.relay." in found["fence of share 0"]["finding"]
    # An action of a participant that is here, without a handler.
    place.sql("delete from saga.handler where action = 'inventory.release'")
    assert "inventory.release" in findings(place, 0)["queue saga.commands.inventory"]["finding"] or any(
        "inventory.release" in row["finding"] for row in json.loads(json.dumps(list(findings(place, 0).values())))
    )
    shop.place_orders(1)
    shop.wait_ended()
    assert found["queue saga.dead"]["verdict"] == "ok"
    place.channel().basic_publish("saga.commands", "inventory.reserve", b"no JSON")
    wait_until(lambda: findings_any(place)["queue saga.dead"]["finding"] == "1 messages that no worker could read", 30, lambda: findings_any(place), every_s=0.3)


def test_doctor_names_who_keeps_the_server_from_moving_on(place):
    """A transaction that writes, one that was prepared, a slot that nobody reads: by pid and name, as one types them."""
    name = f"forgotten {place.name}"
    with contextlib.closing(psycopg2.connect(place.conninfo, application_name="night job")) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("begin")
        cursor.execute("select pg_backend_pid(), pg_current_xact_id()")
        pid = cursor.fetchone()[0]
        found = findings_any(place)["long transactions"]
        assert f"pid {pid}, user postgres, night job, idle in transaction" in found["finding"], found
        cursor.execute(f"prepare transaction '{name}'")
        try:
            found = findings_any(place)["prepared transactions"]
            assert f"'{name}' in database {place.name}" in found["finding"], found
        finally:
            cursor.execute(f"rollback prepared '{name}'")
        slot = f"slot_{place.name}"
        cursor.execute("select pg_create_physical_replication_slot(%s, true)", (slot,))
        try:
            assert f"{slot} keeps " in findings_any(place)["replication slots"]["finding"]
        finally:
            cursor.execute("select pg_drop_replication_slot(%s)", (slot,))


def test_doctor_serves_who_only_looks(place):
    """A reader has no right to the handlers' schemas, and is told of sagas all the same; of a handler whose function is gone too."""
    Shop(place)
    place.sql("update saga.handler set function = 'shop.gone(jsonb)' where action = 'shipping.book'")
    with contextlib.closing(place.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("set role sagapost_reader")
        cursor.execute((ROOT / "saga" / "cli" / "sql" / "doctor_saga.sql").read_text())
        found = {row[0]: row for row in cursor.fetchall()}
    assert found["stuck sagas"][1] == "ok" and found["handler of inventory.reserve"][1] == "ok"
    assert found["handler of shipping.book"][2] == "there is no function shop.gone(jsonb) any more"


def test_states_that_there_are_not_are_named(place):
    for words, known in ((("saga", "list"), "RUNNING, COMPLETING"), (("saga", "retry"), "STUCK"), (("outbox", "parked", "list"), "waiting, parked, behind"),
                         (("outbox", "parked", "requeue"), "waiting, parked, behind")):
        said = place.sagapost(*words, "--state", "STUCKED", expect=2)
        assert 'there is no "STUCKED"' in said and known in said, said
    place.sagapost("saga", "list", "--state", "stuck,RUNNING")


def test_doctor_sees_an_owner_that_publishes_nothing(place, sandbox, daemons):
    """It owns the share in PostgreSQL, and is in another virtual host than the one that is looked at."""
    elsewhere = {"SAGAPOST_AMQP": sandbox.amqp_uri(sandbox.take_vhost())}
    daemons("outbox-relay", environment=elsewhere).wait_ready()
    fence = findings(place, 1)["fence of share 0"]
    assert fence["verdict"] == "FAIL" and "publishes nothing" in fence["finding"] and "virtual host" in fence["advice"]


def findings_any(place):
    done = subprocess.run(
        [PROGRAMS["sagapost"], "doctor", "--json"], env=place.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=patient(60), check=False,
    )
    return {row["subject"]: row for row in json.loads(done.stdout)}


def test_doctor_without_servers_and_without_schema(place, empty):
    assert findings(empty, 1)["schema"]["advice"] == "run: sagapost migrate"
    place.amqp_uri = "amqp://guest:guest@127.0.0.1:1/"
    assert findings(place, 1)["RabbitMQ"]["verdict"] == "FAIL"
    place.amqp_uri = place.sandbox.amqp_uri("no_such_vhost")
    assert "no_such_vhost" in findings(place, 1)["RabbitMQ"]["finding"]
    place.conninfo = place.conninfo.replace(f"port={place.sandbox.pg_port}", "port=1")
    assert findings(place, 1)["PostgreSQL"]["verdict"] == "FAIL"
