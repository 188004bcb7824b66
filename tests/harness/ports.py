"""Ports of the loopback that are nobody else's until this run gives them back."""

import socket


def hold_port():
    """A socket that is bound to a free port of the kernel's choice (`number` says which) and never listens. While it is open, the port goes to nobody
    as a free one, neither to listen on nor as the near end of a connection, also while the server that it is meant for is stopped, and whatever
    net.ipv4.ip_local_port_range says. The server binds the port all the same: both have SO_REUSEADDR, ours from after its own bind, which
    therefore fails where somebody else holds the port."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held


def number(held):
    return held.getsockname()[1]


def hold_ports(folder):
    """Chooses the ports of the servers that docker/sandbox.sh is going to start in `folder`; the sockets that hold them."""
    names = ("PGPORT", "AMQP_PORT", "DIST_PORT", "EPMD_PORT")
    held = [hold_port() for _ in names]
    (folder / "ports").write_text("".join(f"{name}={number(port)}\n" for name, port in zip(names, held)))
    return held
