"""A program that draws a live screen, on a terminal of its own: what it draws is read as frames."""

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios

from .sandbox import PROGRAMS
from .wait import patient, wait_until

OPENING, CLOSING = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


class Terminal:
    """`sagapost` on a terminal of its own, at a live screen."""

    def __init__(self, place, *arguments, columns=120, rows=40):
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [PROGRAMS["sagapost"], *map(str, arguments), "--interval", "100ms"],
            env=place.environment(), stdin=self.slave, stdout=self.slave, stderr=subprocess.PIPE, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.seen, self.decoder = "", codecs.getincrementaldecoder("utf-8")()  # a read may end in the middle of a character

    def resize(self, columns, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            self.seen += self.decoder.decode(os.read(self.master, 65536))

    def frames(self):
        """Every screen that was drawn to its end, as lines."""
        self.read()
        return [frame.split("\x1b[J")[0].replace("\x1b[K", "").replace("\r", "").split("\n") for frame in self.seen.split("\x1b[H")[1:] if "\x1b[J" in frame]

    def wait_for(self, pattern, old=None):
        """A new screen with a line like that; `old`: how many there were when it began."""
        old = len(self.frames()) if old is None else old
        return wait_until(
            lambda: next((m for frame in self.frames()[old:] for line in frame if (m := re.search(pattern, line))), None),
            30, lambda: f"{pattern!r} on the screen:\n" + "\n".join((self.frames() or [[self.seen]])[-1]),
        )

    def ended(self):
        status = wait_until(lambda: (self.read(), self.process.poll())[1] is not None and [self.process.poll()], 30, "it ends")[0]
        self.read()
        assert self.seen.startswith(OPENING) and self.seen.endswith(CLOSING)
        assert termios.tcgetattr(self.slave) == self.before
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(patient(30))
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)
