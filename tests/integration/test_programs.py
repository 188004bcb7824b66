"""What every daemon does the same way: settings, exit statuses, servers that are away at the start, the HTTP window."""

import os
import signal
import subprocess

import pytest

from harness.sandbox import PROGRAMS, Place
from harness.wait import patient, wait_until

DAEMONS = ["outbox-relay", "saga-worker"]
ALL = [*DAEMONS, "sagapost"]


def run(program, *arguments, environment=None):
    return subprocess.run(
        [PROGRAMS[program], *arguments], env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=patient(30), check=False,
    )


@pytest.mark.parametrize("program", ALL)
def test_help_and_version(program):
    assert run(program, "--version").stdout.split()[0] == program
    said = run(program, "--help")
    assert said.returncode == 0 and "--config" in said.stdout and "--postgres" in said.stdout


@pytest.mark.parametrize("program", DAEMONS)
@pytest.mark.parametrize(
    "arguments, environment, names",
    [
        (["--nonsense", "1"], {}, ["--nonsense"]),
        (["--listen", "nowhere"], {}, ["listen", "nowhere"]),
        (["--log-level", "loud"], {}, ["log-level", "loud", "debug"]),
        (["--amqp", "http://x/"], {}, ["amqp"]),
        ([], {"SAGAPOST_LOG_FORMAT": "xml"}, ["SAGAPOST_LOG_FORMAT", "xml", "logfmt"]),
        (["--config", "/no/such/file"], {}, ["/no/such/file"]),
        (["word"], {}, ["word"]),
    ],
)
def test_bad_settings_name_key_value_and_what_is_allowed(program, arguments, environment, names):
    done = run(program, *arguments, environment=environment)
    assert done.returncode == 2
    for name in names:
        assert name in done.stderr, done.stderr


@pytest.mark.parametrize("program", DAEMONS)
def test_bad_key_in_the_file(program, tmp_path):
    path = tmp_path / "sagapost.ini"
    path.write_text("log-level = info\nwindwo = 17\n")
    done = run(program, "--config", str(path))
    assert done.returncode == 2 and "windwo" in done.stderr and str(path) in done.stderr


@pytest.mark.parametrize("program", DAEMONS)
def test_closed_standard_streams_are_not_taken_by_a_connection(program, daemons):
    daemon = daemons(program, wrapper=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")).wait_ready()
    assert [os.readlink(f"/proc/{daemon.process.pid}/fd/{number}") for number in range(3)] == ["/dev/null"] * 3
    assert daemon.terminate() == 0


@pytest.mark.parametrize("program", DAEMONS)
def test_a_database_that_ends_idle_connections_leaves_these(program, place, daemons):
    place.sql(f"alter database {place.name} set idle_session_timeout = '300ms'")
    daemons(program).wait_ready()
    ages = "select min(clock_timestamp() - backend_start) > '1.5 s' from pg_stat_activity where datname = current_database() and application_name like %s"
    wait_until(lambda: place.value(ages, (program + "%",)), 15, lambda: place.value("select json_agg(a) from pg_stat_activity a where datname = current_database()"))


@pytest.mark.parametrize("program", DAEMONS)
def test_without_the_schema_it_says_which_command_to_run(program, sandbox, daemons):
    empty = Place(sandbox, migrate=False)
    done = run(program, environment=empty.environment())
    empty.close()
    assert done.returncode == 2 and "sagapost migrate" in done.stderr


@pytest.mark.parametrize("program", DAEMONS)
def test_with_an_older_schema_it_says_which_command_to_run(program, sandbox):
    older = Place(sandbox, migrate=False)
    older.sagapost("migrate", "--to", "1")
    done = run(program, environment=older.environment())
    older.close()
    assert done.returncode == 2 and "sagapost migrate" in done.stderr


@pytest.mark.parametrize("program", DAEMONS)
def test_stops_in_good_order(program, daemons):
    daemon = daemons(program).wait_ready()
    assert daemon.terminate() == 0, daemon.log()


@pytest.mark.parametrize("program", DAEMONS)
def test_stops_on_int_too(program, daemons):
    daemon = daemons(program).wait_ready()
    daemon.signal(signal.SIGINT)
    assert daemon.wait_exit() == 0


@pytest.mark.parametrize("program", DAEMONS)
def test_http_window(program, daemons):
    daemon = daemons(program).wait_ready()
    assert daemon.http("/livez")[0] == 200
    status, metrics = daemon.http("/metrics")
    assert status == 200 and "# TYPE sagapost_" in metrics
    assert daemon.http("/nonsense")[0] == 404


@pytest.mark.parametrize("program", DAEMONS)
def test_hup_reloads(program, daemons, tmp_path):
    path = tmp_path / "sagapost.ini"
    path.write_text("log-level = info\n")
    daemon = daemons(program, "--config", path).wait_ready()
    path.write_text("log-level = debug\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("settings reloaded")
    path.write_text("log-level = loud\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("loud")
    assert daemon.alive()


@pytest.mark.parametrize("program", DAEMONS)
def test_servers_away_at_the_start_and_then_there(program, place, sandbox, daemons):
    sandbox.rabbitmq("stop")
    sandbox.postgres("stop")
    daemon = daemons(program)
    wait_until(lambda: daemon.http("/readyz")[0] == 503, 30, lambda: daemon.log())
    assert daemon.alive()
    sandbox.postgres("start")
    sandbox.rabbitmq("start")
    daemon.wait_ready(60)
    # One line when a server is away, one when it is back: not one per attempt.
    assert daemon.log().count("level=error") + daemon.log().count(" error ") < 12, daemon.log()


@pytest.mark.parametrize("program", DAEMONS)
def test_wrong_vhost_is_said_and_retried(program, place, daemons):
    daemon = daemons(program, environment={"SAGAPOST_AMQP": place.sandbox.amqp_uri("no_such_vhost")})
    daemon.wait_log("no_such_vhost")
    assert daemon.alive() and "guest:guest" not in daemon.log()


@pytest.mark.parametrize("program", DAEMONS)
def test_wrong_amqp_password_is_said_and_not_shown(program, place, daemons):
    daemon = daemons(program, environment={"SAGAPOST_AMQP": place.amqp_uri.replace("guest:guest", "guest:hunter2")})
    daemon.wait_log("guest")
    wait_until(lambda: "403" in daemon.log() or "ACCESS_REFUSED" in daemon.log(), 30, daemon.log)
    assert daemon.alive() and "hunter2" not in daemon.log()


@pytest.mark.parametrize("program", DAEMONS)
def test_no_such_database_is_said_and_retried(program, place, daemons):
    daemon = daemons(program, environment={"SAGAPOST_POSTGRES": place.sandbox.conninfo("no_such_database")})
    daemon.wait_log("no_such_database")
    assert daemon.alive()


def test_a_worker_keeps_the_inbox(place, daemons):
    """Ids of no time are forgotten after the retention, and partitions are ready for the time to come."""
    place.sql(
        "insert into inbox.seen_untimed (message_id, consumer, seen_at) values (gen_random_uuid(), 'c', now() - interval '30 days'),"
        " (gen_random_uuid(), 'c', now())"
    )
    daemons("saga-worker").wait_ready()
    wait_until(lambda: place.value("select count(*) from inbox.seen_untimed") == 1, 30, "the old id is forgotten")
    assert place.value("select max(ends_at) > now() + interval '1 day' from inbox.period")
