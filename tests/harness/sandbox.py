"""A private PostgreSQL and RabbitMQ (docker/sandbox.sh), and in them a database and a virtual host for each test."""

import atexit
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

import pika
import psycopg2

from .ports import hold_ports
from .wait import patient

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docker" / "sandbox.sh"
BUILD = pathlib.Path(os.environ.get("SAGAPOST_BUILD", ROOT / "build" / "test"))

PROGRAMS = {
    "outbox-relay": BUILD / "outbox" / "relay" / "outbox-relay",
    "saga-worker": BUILD / "saga" / "worker" / "saga-worker",
    "sagapost": BUILD / "saga" / "cli" / "sagapost",
}


VHOSTS_AT_A_TIME = 20


def amqp_parameters(uris):
    """Of a list as the programs take it: pika tries them in turn, too."""
    return [pika.URLParameters(uri) for uri in uris.split(",")]


TEMPLATE = "sagapost_template"


def sagapost_migrate(conninfo):
    subprocess.run(
        [PROGRAMS["sagapost"], "migrate", "--postgres", conninfo], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=patient(60), check=True
    )


def lost(connection, failure):
    """Whether an error of psycopg2 is one of its connection's end, or of a server that is not there yet. It does not always say so by its class."""
    return isinstance(failure, (psycopg2.OperationalError, psycopg2.InterfaceError)) or (connection is not None and connection.closed != 0)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), patient(10)).close()
    except OSError:
        return False
    return True


class Server:
    """A private PostgreSQL, at `pg_port`, in a `folder` of docker/sandbox.sh."""

    has_template = False

    def run(self, *arguments):
        done = subprocess.run(
            ["sh", str(SCRIPT), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patient(300),
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"sandbox.sh {arguments}: {done.stdout}")
        return done.stdout

    def postgres(self, verb):
        """start, stop or kill"""
        self.run("postgres", verb, self.folder)

    def value(self, text):
        """The one value that a statement gives, asked in the database postgres."""
        connection = psycopg2.connect(self.conninfo())
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(text)
                return cursor.fetchone()[0]
        finally:
            connection.close()

    def execute(self, text, database="postgres"):
        connection = psycopg2.connect(self.conninfo(database))
        try:
            connection.autocommit = True
            connection.cursor().execute(text)
        finally:
            connection.close()

    def create_database(self, name, migrate):
        """A migrated one is a copy: ten times as fast as all migrations. What names its database is told the copy's name."""
        if not migrate:
            self.execute(f"create database {name}")
            return
        if not self.has_template:
            self.execute(f"create database {TEMPLATE}")
            sagapost_migrate(self.conninfo(TEMPLATE))
            self.has_template = True
        self.execute(f"create database {name} template {TEMPLATE}")
        self.execute(
            "update outbox.position set database_oid = (select oid from pg_database where datname = current_database());"
            "update saga.setting set orchestrator = current_database()",
            name,
        )

    def conninfo(self, database="postgres", user="postgres"):
        return f"host=127.0.0.1 port={self.pg_port} user={user} dbname={database}"


class Broker:
    """A private RabbitMQ, at `amqp_port`, in a `folder` of docker/sandbox.sh, whose verbs `run` knows."""

    def rabbitmq(self, verb):
        """start, stop or kill"""
        self.run("rabbitmq", verb, self.folder)

    def crash_rabbitmq(self):
        """kill -9, of a broker that knows its queues.

        RabbitMQ 3.10 confirms the declaration of a quorum queue before the file that names the queue's log is on disk (dets, saved now and
        then). A queue declared a second before the crash may never have a leader again, whatever a publisher does."""
        self.rabbitmqctl("eval", "[dets:sync(Table) || Table <- dets:all()].")
        self.rabbitmq("kill")

    def rabbitmqctl(self, *arguments):
        return self.run("ctl", self.folder, *arguments)

    def amqp_uri(self, vhost="/"):
        return f"amqp://guest:guest@127.0.0.1:{self.amqp_port}/{'%2f' if vhost == '/' else vhost}"

    def add_vhosts(self, names):
        """All at once: rabbitmqctl takes a second to start."""
        self.rabbitmqctl(
            "eval",
            f'[begin rabbit_vhost:add(V, <<"test">>), rabbit_auth_backend_internal:set_permissions(<<"guest">>, V, <<".*">>, <<".*">>, <<".*">>,'
            f' <<"test">>) end || V <- [{", ".join(f"<<{chr(34)}{name}{chr(34)}>>" for name in names)}]].',
        )


class Sandbox(Server, Broker):
    """The servers of one test run. `stop` is called however the run ends. `postgresql_conf`: lines for PostgreSQL's configuration."""

    def __init__(self, postgresql_conf=""):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sagapost-test-"))
        self.folder.chmod(0o755)
        (self.folder / "postgresql.conf.extra").write_text(postgresql_conf)
        self.held = hold_ports(self.folder)
        self.counter = 0
        self.vhosts, self.vhosts_made = [], 0
        self.servers = []  # further ones of PostgreSQL
        self.away = set()  # those of the two that a test has stopped or killed
        atexit.register(self.stop)
        self.run("start", self.folder)
        env = dict(
            line.split("=", 1) for line in (self.folder / "env").read_text().splitlines() if not line.startswith("export")
        )
        self.pg_port = int(env["PGPORT"])
        self.amqp_port = int(env["AMQP_PORT"])

    def postgres(self, verb):
        if verb != "start":
            self.away.add("postgres")  # also when it goes wrong half-way
        super().postgres(verb)
        if verb == "start":
            self.away.discard("postgres")

    def rabbitmq(self, verb):
        if verb != "start":
            self.make_vhosts()  # a place that asks for its own while the broker is away gets one
            self.away.add("rabbitmq")
        super().rabbitmq(verb)
        if verb == "start":
            self.away.discard("rabbitmq")

    def bring_back(self):
        """What a test that failed in the middle has left stopped, or a server that has ended by itself, would fail all tests after it: both are
        started again, and the latter fails this one, with what the server said last."""
        said = ""
        for server, port, log in (("postgres", self.pg_port, "postgres/log"), ("rabbitmq", self.amqp_port, "rabbitmq/console.log")):
            if server in self.away or not listens(port):
                if server not in self.away:
                    said += f"{server} has ended by itself:\n{(self.folder / log).read_text(errors='replace')[-3000:]}\n"
                self.run(server, "kill", self.folder)  # what is half stopped, or half started
                getattr(self, server)("start")
        assert not said, said

    def make_vhosts(self):
        """So that there is one more than none."""
        if not self.vhosts and "rabbitmq" not in self.away:
            self.vhosts_made += VHOSTS_AT_A_TIME
            self.vhosts = [f"v{n}" for n in range(self.vhosts_made - VHOSTS_AT_A_TIME, self.vhosts_made)]
            self.add_vhosts(self.vhosts)

    def take_vhost(self):
        """The name of a fresh virtual host."""
        self.make_vhosts()
        return self.vhosts.pop(0)

    def stop(self):
        """Each of them, even if another does not end."""
        if not self.folder.exists():
            return
        with contextlib.ExitStack() as steps:  # the last one first
            if "SAGAPOST_KEEP" not in os.environ:
                steps.callback(shutil.rmtree, self.folder, ignore_errors=True)
            steps.callback(self.run, "stop", self.folder)
            steps.callback(Server.postgres, self, "kill")  # in good order it takes a checkpoint of what is thrown away,
            steps.callback(Broker.rabbitmq, self, "kill")  # and here a second for each virtual host
            for server in self.servers:
                steps.callback(server.postgres, "kill")


class Postgres(Server):
    """One more private PostgreSQL, in a folder of the sandbox's: empty, or with `standby_of` another server (a Sandbox or a Postgres) a
    streaming standby that is known by `name`. `folder`: another than one of its own. `stop` when the test ends."""

    def __init__(self, sandbox, name, standby_of=None, folder=None):
        sandbox.counter += 1
        self.sandbox = sandbox
        self.name = name
        self.folder = folder or sandbox.folder / f"{name}{sandbox.counter}"
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o755)  # its user has to pass through
        self.held = hold_ports(self.folder)
        sandbox.servers.append(self)
        if standby_of:
            self.run("start-standby", self.folder, standby_of.folder, name)
        else:
            self.run("start-postgres", self.folder)
        ports = dict(line.split("=") for line in (self.folder / "ports").read_text().splitlines())
        self.pg_port = int(ports["PGPORT"])

    def stop(self):
        self.postgres("kill")
        self.sandbox.servers.remove(self)
        for port in self.held:
            port.close()
        if "SAGAPOST_KEEP" not in os.environ:
            shutil.rmtree(self.folder, ignore_errors=True)


class Place:
    """A fresh, migrated database and a fresh virtual host: what one test works in. `server`: another PostgreSQL than the sandbox's."""

    def __init__(self, sandbox, migrate=True, server=None):
        sandbox.counter += 1
        self.sandbox = sandbox
        self.server = server or sandbox
        self.name = f"t{sandbox.counter}"
        self.server.create_database(self.name, migrate)
        self.conninfo = self.server.conninfo(self.name)
        self._amqp_uri = None
        self.closers = []

    @property
    def amqp_uri(self):
        """A virtual host of its own, taken when it is first asked for: many tests need none."""
        if self._amqp_uri is None:
            self._amqp_uri = self.sandbox.amqp_uri(self.sandbox.take_vhost())
        return self._amqp_uri

    @amqp_uri.setter
    def amqp_uri(self, uri):
        self._amqp_uri = uri

    def environment(self):
        return {**os.environ, "SAGAPOST_POSTGRES": self.conninfo, "SAGAPOST_AMQP": self.amqp_uri}

    def sagapost(self, *arguments, expect=0):
        """Runs the command line and returns its standard output."""
        done = subprocess.run(
            [PROGRAMS["sagapost"], *map(str, arguments)],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=patient(60),
            check=False,
        )
        assert done.returncode == expect, f"sagapost {arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if expect == 0 else done.stderr

    def connect(self, autocommit=True, user="postgres"):
        connection = psycopg2.connect(self.server.conninfo(self.name, user))
        connection.autocommit = autocommit
        self.closers.append(connection)
        return connection

    def sql(self, text, parameters=None):
        """One statement on a connection of its own; rows, or None."""
        connection = psycopg2.connect(self.conninfo)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(text, parameters)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def value(self, text, parameters=None):
        return self.sql(text, parameters)[0][0]

    def channel(self):
        parameters = amqp_parameters(self.amqp_uri)
        for each in parameters:
            each.heartbeat = 0  # nobody answers one while the test is busy with something else
        connection = pika.BlockingConnection(parameters)
        self.closers.append(connection)
        return connection.channel()

    def close(self):
        for closer in self.closers:
            try:
                closer.close()
            except Exception:  # pylint: disable=broad-except  # a connection that a test has killed
                pass
