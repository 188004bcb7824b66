"""A TCP proxy between a program and a server, with the faults of a network: cut, reset, half-closed, silent, slow, in pieces.

One thread serves all connections of a Proxy. A fault is armed for what is open and what will be opened, until `heal`:

    proxy.cut_after(TO_SERVER, 1000)        the connection that carries the 1,000th byte from now that way ends after it
    proxy.cut_before(TO_CLIENT, COMMITTED)  a connection ends instead of carrying these bytes
    proxy.hole_before(TO_SERVER, CONFIRMED) a hole (below) opens instead of carrying these bytes
    proxy.cut_answer(b"write_it")           a connection that carries these bytes to the server ends instead of carrying the answer
    proxy.garble(TO_CLIENT, chance)         what is read next that way is replaced by noise of the same length
    proxy.cut_all()                         all end now
    proxy.hole = True                       nothing is carried and nothing ends: a cable pulled out
    proxy.slow(delay_s=0.02, bytes_per_s=200000, piece=7)

`ended` counts the connections that the proxy has ended or spoiled: each of them is one fault to whoever counts repeats."""

import collections
import math
import selectors
import socket
import struct
import threading
import time

from .wait import patient

TO_SERVER, TO_CLIENT = "to_server", "to_client"

# What a COMMIT that took place is answered with (CommandComplete of PostgreSQL's protocol), and the head of a basic.ack of AMQP.
COMMITTED = b"COMMIT\0"
CONFIRMED = b"\x00\x3c\x00\x50"

_HELD_MOST = 1 << 18  # bytes on their way: beyond this the proxy stops reading, so that the sender feels a slow link


class _Pipe:
    """One direction of one connection."""

    def __init__(self, source, sink, direction):
        self.source, self.sink, self.direction = source, sink, direction
        self.held = collections.deque()  # (when it may go, bytes)
        self.held_bytes = 0
        self.tail = b""  # the last bytes read, for patterns that lie across two reads
        self.ended = False  # the source says no more
        self.shut = False  # and the sink was told
        self.free_at = 0.0  # when the link may carry more
        self.doomed = None  # how it ends at the next bytes that are read


class _Connection:
    def __init__(self, client, server):
        self.client, self.server = client, server
        self.pipes = (_Pipe(client, server, TO_SERVER), _Pipe(server, client, TO_CLIENT))


class Proxy:
    """Listens on `port` for as long as it lives, and carries to 127.0.0.1:server_port."""

    def __init__(self, server_port):
        self.server_port = server_port
        self.lock = threading.RLock()
        self.connections = []
        self.accepted = self.ended = 0
        self.hole = False
        self.heal()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.selector = selectors.DefaultSelector()
        self.failure = None
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    # What a test does ---------------------------------------------------------------------------------------------------------------

    def heal(self):
        """No fault is armed any more. What was ended stays so."""
        with self.lock:
            self.hole = False
            self.delay_s, self.bytes_per_s, self.piece = 0.0, None, None
            self.cuts = []  # [direction, bytes left, how]
            self.pattern = None  # [direction, bytes, how many of them pass, how, whether the answer is meant]
            self.noise = None  # (direction, where its bytes come from)

    def slow(self, delay_s=0.0, bytes_per_s=None, piece=None):
        with self.lock:
            self.delay_s, self.bytes_per_s, self.piece = delay_s, bytes_per_s, piece

    def cut_after(self, direction, count, how="reset"):
        """Counted over all connections together, since one may have nothing to say."""
        assert count > 0
        with self.lock:
            self.cuts.append([direction, count, how])

    def cut_before(self, direction, pattern, passing=0, how="reset"):
        """`passing` pieces that hold the pattern are carried before."""
        with self.lock:
            self.pattern = [direction, pattern, passing, how, False]

    def hole_before(self, direction, pattern):
        self.cut_before(direction, pattern, how="hole")

    def cut_answer(self, pattern, passing=0, how="reset"):
        with self.lock:
            self.pattern = [TO_SERVER, pattern, passing, how, True]

    def garble(self, direction, chance):
        with self.lock:
            self.noise = (direction, chance)

    def cut_all(self, how="reset"):
        """Every connection ends: "reset", "close" (in good order), or "half" (one way is closed, the other goes on)."""
        with self.lock:
            for connection in list(self.connections):
                self.ended += 1
                self._end(connection, how, connection.pipes[1])

    def close(self):
        self.stopping = True
        self.thread.join(patient(30))
        assert not self.thread.is_alive(), "the proxy does not end"
        self.cut_all()
        self.listener.close()
        self.selector.close()
        if self.failure:
            raise self.failure

    # The thread ---------------------------------------------------------------------------------------------------------------------

    def _run(self):
        try:
            while not self.stopping:
                self._turn()
        except Exception as failure:  # pylint: disable=broad-except  # told to the test by close()
            self.failure = failure

    def _turn(self):
        """One look at everything: a few connections, so that nothing cleverer is needed."""
        with self.lock:
            self._watch()
        ready = self.selector.select(0.002)
        with self.lock:
            now = time.monotonic()
            sockets = {key.fileobj for key, _ in ready}
            if self.listener in sockets:
                self._accept()
            if self.hole:
                return
            for connection in list(self.connections):
                for pipe in connection.pipes:
                    if connection in self.connections and pipe.source in sockets:
                        self._read(connection, pipe, now)
                for pipe in connection.pipes:
                    if connection in self.connections:
                        self._write(connection, pipe, now)

    def _watch(self):
        """The selector holds what may be read now; a hole, a full pipe and an ended one are left alone."""
        wanted = {self.listener}
        if not self.hole:
            wanted |= {p.source for c in self.connections for p in c.pipes if not p.ended and p.held_bytes < _HELD_MOST}
        known = {key.fileobj for key in list(self.selector.get_map().values())}
        for gone in known - wanted:
            self.selector.unregister(gone)
        for new in wanted - known:
            self.selector.register(new, selectors.EVENT_READ)

    def _accept(self):
        try:
            client, _ = self.listener.accept()
        except BlockingIOError:
            return
        try:
            server = socket.create_connection(("127.0.0.1", self.server_port), 5)
        except OSError:
            _reset(client)
            return
        for each in (client, server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted += 1
        self.connections.append(_Connection(client, server))

    def _read(self, connection, pipe, now):
        try:
            data = pipe.source.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self._forget(connection)
            return
        if not data:
            pipe.ended = True
            return
        if self._meets_pattern(pipe, data):
            *_, how, answer = self.pattern
            self.pattern = None
            if answer:
                connection.pipes[1].doomed = how
            else:
                pipe.doomed = how
        if pipe.doomed == "hole":
            pipe.doomed = None
            self.hole = True
            return
        if pipe.doomed:
            self.ended += 1
            self._end(connection, pipe.doomed, pipe)
            return
        if self.noise and self.noise[0] == pipe.direction:
            data = self.noise[1].randbytes(len(data))
            self.noise = None
            self.ended += 1
        pipe.held.append((now + self.delay_s, data))
        pipe.held_bytes += len(data)

    def _meets_pattern(self, pipe, data):
        if not self.pattern or self.pattern[0] != pipe.direction:
            pipe.tail = b""
            return False
        pattern = self.pattern[1]
        window, pipe.tail = pipe.tail + data, (pipe.tail + data)[1 - len(pattern) :]
        if pattern not in window:
            return False
        self.pattern[2] -= 1
        return self.pattern[2] < 0

    def _cut_of(self, pipe):
        return next((cut for cut in self.cuts if cut[0] == pipe.direction), None)

    def _write(self, connection, pipe, now):
        while pipe.held and pipe.held[0][0] <= now and pipe.free_at <= now:
            due, data = pipe.held[0]
            most = min(len(data), self.piece or len(data))
            cut = self._cut_of(pipe)
            if cut:
                most = min(most, cut[1])
            try:
                sent = pipe.sink.send(data[:most])
            except BlockingIOError:
                return
            except OSError:
                self._forget(connection)
                return
            pipe.held_bytes -= sent
            if sent < len(data):
                pipe.held[0] = (due, data[sent:])
            else:
                pipe.held.popleft()
            if self.bytes_per_s:
                pipe.free_at = max(pipe.free_at, now - 0.05) + sent / self.bytes_per_s
            if cut:
                cut[1] -= sent
                if cut[1] == 0:
                    self.cuts.remove(cut)
                    self.ended += 1
                    self._end(connection, cut[2], pipe)
                    return
        if pipe.ended and not pipe.held and not pipe.shut:
            pipe.shut = True
            _shut(pipe.sink)
            if all(each.shut for each in connection.pipes):
                self._forget(connection)

    def _end(self, connection, how, pipe):
        if how == "half":
            # This way there comes no more, and the other goes on: what a peer sees whose partner has died behind a firewall.
            pipe.held.clear()
            pipe.held_bytes = 0
            pipe.ended = pipe.shut = True
            _shut(pipe.sink)
            return
        self._forget(connection, how == "reset")

    def _forget(self, connection, by_reset=False):
        if connection in self.connections:
            self.connections.remove(connection)
        for each in (connection.client, connection.server):
            if each in self.selector.get_map():
                self.selector.unregister(each)
            _reset(each) if by_reset else each.close()


def _reset(connection):
    """Closes with RST: what lies unread at the other end is lost with it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _shut(connection):
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it is gone already


class Network:
    """A proxy before each of the two servers, for what goes to one test's database and virtual host."""

    def __init__(self, place):
        self.place = place
        self.postgres = Proxy(place.sandbox.pg_port)
        self.rabbitmq = Proxy(place.sandbox.amqp_port)

    def __getitem__(self, server):
        return {"postgres": self.postgres, "rabbitmq": self.rabbitmq}[server]

    def environment(self):
        """What sends a program through the proxies."""
        sandbox = self.place.sandbox
        return {
            "SAGAPOST_POSTGRES": self.place.conninfo.replace(f"port={sandbox.pg_port}", f"port={self.postgres.port}"),
            "SAGAPOST_AMQP": self.place.amqp_uri.replace(f":{sandbox.amqp_port}/", f":{self.rabbitmq.port}/"),
        }

    def heal(self):
        self.postgres.heal()
        self.rabbitmq.heal()

    def close(self):
        self.postgres.close()
        self.rabbitmq.close()


def random_cut(chance, bytes_most):
    """(direction, bytes, how): small counts are as likely as large ones, from inside a handshake to deep in the traffic.

    bytes_most: for each direction, what passes there in about a second."""
    direction = chance.choice((TO_SERVER, TO_CLIENT))
    return direction, int(2 ** chance.uniform(0, math.log2(bytes_most[direction]))), chance.choice(("reset", "close", "half"))
