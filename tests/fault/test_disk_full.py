"""A PostgreSQL whose disk is full: a small file system in memory, which root can mount. Ends with the ledger."""

import errno
import os
import subprocess

import pytest

from harness import ledger
from harness.ledger import WINDOW, relay
from harness.sandbox import Place, Postgres
from harness.wait import wait_until

pytestmark = pytest.mark.long

CONFIGURATION = "shared_buffers = 32MB\nmin_wal_size = 32MB\nmax_wal_size = 64MB\n"


@pytest.fixture
def small_disk(sandbox):
    folder = sandbox.folder / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=224m,mode=755", "tmpfs", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {done.stdout.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(path):
    """To the last byte."""
    block = b"x" * 65536
    with open(path, "ab", buffering=0) as file:
        while block:
            try:
                file.write(block)
            except OSError as full:
                assert full.errno == errno.ENOSPC
                block = block[: len(block) // 2]


def test_disk_full_and_free_again(sandbox, small_disk, place, daemons, writers):
    """Writers fail and nothing of theirs is sent; whatever PostgreSQL itself makes of it, all goes on when there is room."""
    folder = small_disk / "server"
    folder.mkdir()
    (folder / "postgresql.conf.extra").write_text(CONFIGURATION)
    server = Postgres(sandbox, "small", folder=folder)
    here = Place(sandbox, server=server)
    here.amqp_uri = place.amqp_uri
    consumer = ledger.Consumer(here).start()
    try:
        daemon = relay(daemons, at=here).wait_ready()
        load = writers(at=here, count=8, limit=10**6)
        load.wait_written(300)
        fill(small_disk / "filler")
        log = folder / "postgres" / "log"
        wait_until(lambda: "No space left on device" in log.read_text(errors="replace"), 120, "PostgreSQL finds its disk full")
        written = load.written
        assert daemon.alive()
        os.remove(small_disk / "filler")
        if subprocess.run(["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(server.pg_port)], check=False).returncode != 0:
            server.postgres("kill")  # it has given up; what is left of it, too
            server.postgres("start")
        load.wait_written(written + 300, 120)
        daemon.wait_ready(60)
        load.stop()
        losses = daemon.metric("sagapost_outbox_connection_losses_total", server="postgres")
        ledger.check(here, consumer, repeated_most=(losses + 1) * WINDOW, limit_s=120)
        assert daemon.alive()
    finally:
        consumer.stop()
        here.close()
        server.stop()
