"""Three RabbitMQ nodes on the loopback that are one cluster; killed, cut off from each other, and made whole again."""

import atexit
import concurrent.futures

from .ports import hold_ports
from .sandbox import Broker
from .wait import wait_until

# What RabbitMQ's documentation advises for three nodes: a node without a majority stops serving.
CONFIGURATION = "cluster_partition_handling = pause_minority\nnet_ticktime = 5\n"


class Node(Broker):
    def __init__(self, sandbox, folder, *first):
        self.run = sandbox.run
        self.folder = folder
        folder.mkdir()
        folder.chmod(0o755)
        (folder / "rabbitmq.conf.extra").write_text(CONFIGURATION)
        self.held = hold_ports(folder)
        self.run("start-node", folder, *first)
        self.amqp_port = int(dict(line.split("=") for line in (folder / "ports").read_text().splitlines())["AMQP_PORT"])
        self.name = f"sagapost{self.amqp_port}@localhost"

    def eval(self, text):
        return self.rabbitmqctl("eval", text).strip()


class Cluster:
    """`whole` before each test: what the one before it has broken is mended."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.folder = sandbox.folder / "cluster"
        self.folder.mkdir()
        self.folder.chmod(0o755)
        self.nodes = [Node(sandbox, self.folder / "0")]
        atexit.register(self.stop)
        for n in (1, 2):
            self.nodes.append(Node(sandbox, self.folder / str(n), self.nodes[0].folder))
        self.vhosts = 0
        self.down, self.cut = set(), set()

    def vhost(self):
        """The name of a fresh virtual host, on all nodes."""
        self.vhosts += 1
        name = f"c{self.vhosts}"
        self.nodes[0].add_vhosts([name])
        for node in self.nodes:
            wait_until(lambda: name in node.rabbitmqctl("list_vhosts"), 30, "the node knows the virtual host")  # noqa: B023
        return name

    def uris(self, vhost, *order):
        return ",".join(self.nodes[n].amqp_uri(vhost) for n in order)

    def leader(self, vhost, queue, at=0):
        """The number of the node that leads a quorum queue, as the node `at` knows; None: none does."""
        said = self.nodes[at].rabbitmqctl("list_queues", "--quiet", "--no-table-headers", "-p", vhost, "name", "leader")
        name = dict(line.split("\t") for line in said.splitlines() if "\t" in line)[queue]
        return next((n for n, node in enumerate(self.nodes) if node.name == name), None)

    def queues(self, vhost):
        """What a node that is up says of the queues."""
        up = min(set(range(3)) - self.down - self.cut)
        return self.nodes[up].rabbitmqctl(
            "list_queues", "-p", vhost, "--timeout", "10", "name", "leader", "online", "messages", "messages_unacknowledged", "consumers"
        )

    def kill(self, *numbers):
        for n in numbers:
            self.nodes[n].crash_rabbitmq()
            self.down.add(n)

    def stop_node(self, n):
        self.nodes[n].rabbitmq("stop")
        self.down.add(n)

    def go_on_without_majority(self, n):
        """Until the node is started anew: it then leaves what it can serve alone, without the others."""
        self.nodes[n].eval("application:set_env(rabbit, cluster_partition_handling, ignore).")

    def start(self):
        """All that are down, at once: the last one to go may have to be there for the others to start."""
        if self.down:
            with concurrent.futures.ThreadPoolExecutor(len(self.down)) as threads:
                list(threads.map(lambda n: self.nodes[n].rabbitmq("start"), self.down))  # list: a failure is told
        self.down.clear()

    def _cookies(self, n, cookie):
        others = ", ".join(f"'{node.name}'" for node in self.nodes if node is not self.nodes[n])
        return f"[begin erlang:set_cookie(N, {cookie}), erlang:disconnect_node(N) end || N <- [{others}]]."

    def cut_off(self, n):
        """A partition, without any right of root: the node and the others no longer believe each other, and connect no more."""
        self.nodes[n].eval(self._cookies(n, "cut_off"))
        self.cut.add(n)

    def join(self):
        for n in self.cut:
            self.nodes[n].eval(self._cookies(n, "erlang:get_cookie()"))
        self.cut.clear()

    def _is_whole(self):
        return all(node.eval("{rabbit:is_running(), length(rabbit_nodes:all_running())}.") == "{true,3}" for node in self.nodes)

    def whole(self):
        self.join()
        self.start()
        wait_until(self._is_whole, 120, "the cluster is whole", every_s=0.5)

    def stop(self):
        if self.folder.exists():
            for node in reversed(self.nodes):
                node.rabbitmq("kill")
            self.sandbox.run("stop", self.nodes[0].folder)
        atexit.unregister(self.stop)
