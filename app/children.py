"""Processes that are started again when they end by themselves, and drained when they are told to end."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from app.postgres import end_with_parent

FIRST_WAIT, LONGEST_WAIT, LIVED = 0.5, 30.0, 10.0
"""Seconds: before the first restart, at most, and after how long a life the wait starts over."""
DRAIN = 25.0
"""Seconds that they get to finish what they are doing."""


def say(line: str) -> None:
    """To the terminal, if it is still there."""
    with suppress(OSError):  # what is left to do is still to be done
        print(line, flush=True)


class Child:
    """A process that is started again when it ends by itself, later each time."""

    def __init__(self, name: str, arguments: list[str], environ: dict[str, str]) -> None:
        self.name = name
        self._command = [sys.executable, "-m", *arguments]
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._due = self._wait = 0.0

    def keep(self) -> None:
        """To be called again and again: starts it, and starts it again once it has ended and its wait is over."""
        now = time.monotonic()
        if self._process and (status := self._process.poll()) is not None:
            self._process = None
            lived = now - self._started > LIVED
            self._wait = FIRST_WAIT if lived else max(FIRST_WAIT, min(2 * self._wait, LONGEST_WAIT))
            self._due = now + self._wait
            say(f"{self.name} ended with {status}; starting it again in {self._wait:g} s")
        if self._process is None and now >= self._due:
            self._started = now
            # A session of its own: Ctrl-C reaches the supervisor alone, which ends everything in order. Where that is
            # killed the database goes at the same time, and nobody can finish anything.
            last = end_with_parent(signal.SIGKILL)
            self._process = subprocess.Popen(self._command, env=self._environ, start_new_session=True, preexec_fn=last)

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens where it has ended."""
        if self._process:
            self._process.send_signal(number)

    def has_ended(self) -> bool:
        """Also when it was never started."""
        return self._process is None or self._process.poll() is not None


def end(children: Sequence[Child]) -> None:
    """SIGTERM to all, and SIGKILL to those that do not end in time."""
    for number, seconds in ((signal.SIGTERM, DRAIN), (signal.SIGKILL, 5.0)):
        for child in children:
            child.signal(number)
        limit = time.monotonic() + seconds
        while not all(child.has_ended() for child in children) and time.monotonic() < limit:
            time.sleep(0.02)
