"""The programs of docker/shop/participants, each serving one participant of the order saga in place of the shop's SQL handlers: successes,
refusals, every command twice, kill -9 between COMMIT and acknowledgement, and the shop's books at the end."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading

import psycopg2
import pytest

from harness.proxy import COMMITTED, CONFIRMED, TO_CLIENT, TO_SERVER, Proxy
from harness.sandbox import BUILD, ROOT
from harness.shop import Shop
from harness.wait import patient, wait_until

FOLDER = ROOT / "docker" / "shop" / "participants"


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory):
    """What payment.js needs. Not in Debian, so its test runs where npm is and reaches a registry, or where NODE_PATH has them."""
    if not shutil.which("node"):
        pytest.skip("no Node here")
    if subprocess.run(["node", "-e", "require('pg'); require('amqplib')"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return os.environ.get("NODE_PATH", "")
    if not shutil.which("npm"):
        pytest.skip("neither npm nor the packages pg and amqplib are here")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(FOLDER / name, folder)
    try:
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=10000"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm reaches no registry")
    if done.returncode != 0:
        pytest.skip(f"npm has no packages for us: {done.stdout[-300:]}")
    return str(folder / "node_modules")


class Provider(http.server.ThreadingHTTPServer):
    """A provider of card payments, with a ledger of its own: it holds the customers' money. Every third charge is made and not answered."""

    def __init__(self, place):
        super().__init__(("127.0.0.1", 0), Asked)
        self.place, self.asked = place, 0
        place.sql("create table provider_charge (key text primary key, charge bigint generated always as identity, answer jsonb not null)")
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def charge(self, key, order):
        with psycopg2.connect(self.place.conninfo) as connection, connection.cursor() as cursor:
            cursor.execute("insert into provider_charge (key, answer) values (%s, '{}') on conflict do nothing returning charge", (key,))
            row = cursor.fetchone()
            if row and order:
                cursor.execute("update shop.customer set balance = balance - %(amount)s where id = %(customer)s and balance >= %(amount)s", order)
                answer = {"charge": row[0]} if cursor.rowcount else {"declined": "no money"}
                cursor.execute("update provider_charge set answer = %s where key = %s", (json.dumps(answer), key))
            cursor.execute("select answer from provider_charge where key = %s", (key,))
            return cursor.fetchone()[0]


class Asked(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):  # pylint: disable=invalid-name
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(self.server.charge(self.path, order))

    def do_DELETE(self):  # pylint: disable=invalid-name
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(self.server.charge(self.path, None))

    def answer(self, what):
        self.server.asked += 1
        if self.server.asked % 3 == 0:
            self.close_connection = True
            return
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass


EXAMPLES = {
    "python": ("payment", lambda: [sys.executable, FOLDER / "payment.py"]),
    "card": ("payment", lambda: [sys.executable, FOLDER / "card.py"]),
    "node": ("payment", lambda: ["node", FOLDER / "payment.js"]),
    "c": ("inventory", lambda: [BUILD / "tests" / "inventory"]),
    "shell": ("fraud", lambda: ["sh", FOLDER / "fraud.sh"]),
}


class Stage:
    """The shop with a relay, a worker for all participants but one, and the program that is this one."""

    def __init__(self, place, daemons, request, name):
        self.place = place
        self.participant, self.command = EXAMPLES[name][0], EXAMPLES[name][1]()
        self.shop = Shop(place)
        place.sql(Shop.text("roles"))
        # Refused: the first order by the stock, the second as fraud; the sixth customer has no money.
        place.sql("update shop.stock set on_hand = 1 where sku = 'A14'")
        place.sql("update shop.pieces_before set pieces = (select sum(on_hand) from shop.stock)")
        place.sql("update shop.customer set flagged = true where id = 15")
        self.log_path = place.sandbox.folder / f"participant-{place.name}.log"
        self.environment = {
            **os.environ, "PYTHONPATH": str(FOLDER),
            "PGHOST": "127.0.0.1", "PGUSER": "shop_participant", "PGDATABASE": place.name,
        }
        if name == "node":
            self.environment["NODE_PATH"] = request.getfixturevalue("node_modules")
        if name == "card":
            self.provider = Provider(place)
            self.environment["PROVIDER"] = f"http://127.0.0.1:{self.provider.server_port}"
            # The provider has the money, and the program needs no right to it.
            place.sql("revoke all on shop.customer from shop_participant")
        place.sagapost("topology", "declare")
        daemons("outbox-relay").wait_ready()
        self.spy = place.channel()
        self.spy.queue_declare("spy")
        self.spy.queue_bind("spy", "saga.commands", f"{self.participant}.#")
        others = sorted({"inventory", "fraud", "payment", "shipping"} - {self.participant})
        daemons("saga-worker", "--actions", ",".join(f"{other}.*" for other in others)).wait_ready()
        self.process = None

    def start(self, amqp_port=None, pg_port=None):
        sandbox = self.place.sandbox
        uri = self.place.amqp_uri.replace(f":{sandbox.amqp_port}/", f":{amqp_port or sandbox.amqp_port}/")
        self.environment["PGPORT"] = str(pg_port or sandbox.pg_port)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                list(map(str, self.command)), env={**self.environment, "AMQP_URI": uri}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait(patient(30))

    def outcomes(self, outcome="%"):
        return self.place.value(
            "select count(*) from saga.outcome where step = %s and outcome like %s",
            ({"payment": "capture", "inventory": "reserve", "fraud": "fraud"}[self.participant], outcome))

    def spied(self):
        """(routing key, body) of every command that the participant was sent."""
        found = []
        while (message := self.spy.basic_get("spy", auto_ack=True))[0]:
            found.append((message[0].routing_key, message[2]))
        return found

    def end(self):
        self.shop.wait_ended()
        self.shop.check()


@pytest.fixture
def stage(place, daemons, request):
    here = Stage(place, daemons, request, request.param)
    yield here
    here.kill()
    print(f"--- {here.log_path.name}\n{here.log_path.read_text()[-3000:] if here.log_path.exists() else ''}")


@pytest.mark.parametrize("stage", EXAMPLES, indirect=True)
def test_participant(stage):
    stage.start()
    stage.shop.place_orders(8)
    stage.end()
    assert stage.outcomes("ok") > 0 and stage.outcomes("failed") == 1
    states = stage.shop.states()
    assert states["SUCCEEDED"] == 5 and states["COMPENSATED"] == 3
    stage.kill()

    # Killed between COMMIT and acknowledgement: what it did is not done again, and what it did not do is.
    proxy = Proxy(stage.place.sandbox.amqp_port)
    try:
        proxy.hole_before(TO_SERVER, CONFIRMED)
        before = stage.outcomes()
        stage.start(proxy.port)
        stage.shop.place_orders(4)
        wait_until(lambda: proxy.hole and stage.outcomes() > before, 30, "an acknowledgement on its way")
        stage.kill()
    finally:
        proxy.close()
    stage.start()
    stage.end()

    # Every command once more. Each is answered with what became of it, and nothing happens.
    commands, before = stage.spied(), stage.outcomes()
    assert len(commands) >= 9
    done = stage.place.value("select last_value from outbox.message_id_seq")
    for key, body in commands:
        stage.spy.basic_publish("saga.commands", key, body)
    wait_until(lambda: stage.place.value("select last_value from outbox.message_id_seq") >= done + len(commands), 30, "an answer to each")
    assert stage.outcomes() == before
    stage.shop.check()


@pytest.mark.parametrize("stage", ["card"], indirect=True)
def test_effect_outside_is_found_out(stage):
    """The program ended between the COMMIT of `started` and its reply. Delivered again, the command is resumed. Lost, the saga's probe finds it in
    doubt, and the provider says what became of it: charged, or not charged and never to be."""
    stage.shop.place_orders(5)
    sagas = dict(stage.place.sql("select id, saga::text from shop.orders"))
    resumed, charged, uncharged = (sagas[f"ORD-{number}"] for number in (3, 4, 5))
    commands = {}

    def all_sent():
        commands.update({json.loads(body)["saga"]["id"]: body.decode() for _, body in stage.spied()})
        return len(commands) == 3

    wait_until(all_sent, 30, lambda: commands)
    for command in commands.values():
        stage.place.sql("select verdict from saga.receive(%s, external => true)", (command,))
    stage.provider.charge(f"/charges/{charged}:capture:0", json.loads(commands[charged])["input"])
    while (taken := stage.spy.basic_get("saga.commands.payment"))[0]:
        if json.loads(taken[2])["saga"]["id"] != resumed:
            stage.spy.basic_ack(taken[0].delivery_tag)
    stage.spy.basic_recover(requeue=True)
    for saga in (charged, uncharged):
        stage.place.sql("select saga.cancel(%s, 'the customer called')", (saga,))
    probes = set()

    def all_probed():
        probes.update(json.loads(body)["saga"]["id"] for _, body in stage.spied() if json.loads(body)["saga"]["operation"] == "probe")
        return probes == {charged, uncharged}

    wait_until(all_probed, 30, lambda: probes)
    stage.start()
    stage.end()
    states = dict(stage.place.sql("select id::text, state from saga.instances"))
    assert (states[resumed], states[charged], states[uncharged]) == ("SUCCEEDED", "SUCCEEDED", "COMPENSATED")
    assert stage.place.value("select count(*) from shop.payment") == 2


@pytest.mark.long
@pytest.mark.parametrize("stage", EXAMPLES, indirect=True)
def test_trouble(stage):
    """What is nobody's business: a right that is missing for a while, a COMMIT whose answer is lost, a message that is no command."""
    needed = {"payment": "insert on shop.payment", "inventory": "insert, select on shop.reservation", "fraud": "select on shop.customer"}[stage.participant]
    stage.place.sql(f"revoke {needed} from shop_participant")
    stage.start()
    stage.spy.basic_publish("saga.commands", f"{stage.participant}.act", b"no command")
    stage.shop.place_orders(3)  # of which the last gets through
    # Tried again and again, then given up for now; the saga's own policy sends the command once more.
    wait_until(lambda: stage.place.value("select count(*) from saga.timeline where event = 'retry' or detail::text like '%%transient%%'"), 60,
               lambda: stage.place.sql("select event, detail from saga.timeline"), every_s=0.2)
    stage.place.sql(f"grant {needed} to shop_participant")
    stage.end()
    wait_until(lambda: stage.spy.basic_get("saga.dead", auto_ack=True)[2] == b"no command", 30, "it is dead-lettered", every_s=0.2)
    assert stage.spy.basic_get("saga.dead", auto_ack=True)[0] is None
    stage.kill()

    proxy = Proxy(stage.place.sandbox.pg_port)
    try:
        stage.start(pg_port=proxy.port)
        stage.shop.place_orders(3)
        stage.end()

        def ended():  # and whoever keeps it running starts it again
            if stage.process.poll() is not None:
                stage.start(pg_port=proxy.port)
            return stage.shop.open() == 0

        # The answer that it took place, and COMMIT itself: what was acknowledged before would be lost with it.
        for number, (direction, word) in enumerate([(TO_CLIENT, COMMITTED), (TO_SERVER, b"commit"), (TO_SERVER, b"COMMIT")], 1):
            proxy.cut_before(direction, word)
            stage.shop.place_orders(3)
            wait_until(ended, 60, "every saga ends", every_s=0.1)
            stage.shop.check()
            assert proxy.ended <= number
        assert proxy.ended >= 2, "one of the two ways to write COMMIT is the program's"
    finally:
        stage.kill()
        proxy.close()
