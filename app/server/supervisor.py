"""Processes that are started again when they end by themselves, and drained when they are told to end."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from app.backoff import Backoff

INITIAL_BACKOFF_S, MAX_BACKOFF_S, RESET_BACKOFF_AFTER_S = 0.5, 30.0, 10.0
"""Seconds: before the first restart, at most, and after how long a life the wait starts over."""
DRAIN_TIMEOUT_S = 25.0
"""Seconds that they get to finish what they are doing."""
EXIT_STARTUP_FAILED = 3
"""The status of a process that could not start to serve, as uvicorn has it."""


def print_line(line: str) -> None:
    """To the terminal, if it is still there."""
    with suppress(OSError):  # what is left to do is still to be done
        print(line, flush=True)


def die_with_parent(last_signal: signal.Signals) -> Callable[[], object] | None:
    """A preexec_fn: the child gets the signal when the thread that started it ends, however it ends. Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # found before the fork: nothing between fork and exec may wait for a lock
    parent = os.getpid()

    def promise() -> None:
        prctl(1, int(last_signal))  # 1: PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it has ended already
            os.kill(os.getpid(), last_signal)

    return promise


class Child:
    """A process that is started again when it ends by itself, later each time. inherits: open files that it gets as well."""

    def __init__(self, name: str, arguments: list[str], environ: dict[str, str], inherits: Sequence[int] = ()) -> None:
        self.name = name
        self.failed_to_start = False
        """Whether it could not start when it was first started."""
        self._command = [sys.executable, "-m", *arguments]
        self._environ = environ
        self._inherits = inherits
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff = Backoff(INITIAL_BACKOFF_S, MAX_BACKOFF_S, RESET_BACKOFF_AFTER_S)
        self._was_started_again = False
        self._due = 0.0

    def ensure_running(self) -> None:
        """To be called again and again: starts it, and starts it again once it has ended and its wait is over."""
        now = time.monotonic()
        if self._process and (status := self._process.poll()) is not None:
            self._process = None
            self.failed_to_start = status == EXIT_STARTUP_FAILED and not self._was_started_again
            self._was_started_again = True
            wait_s = self._backoff.next_wait_s()
            self._due = now + wait_s
            print_line(f"{self.name} ended with {status}; starting it again in {wait_s:g} s")
        if self._process is None and now >= self._due:
            self._backoff.start()
            # A session of its own: Ctrl-C reaches the supervisor alone, which ends everything in order. Where that is
            # killed nobody would start, drain or end it any more, and `make run`'s database goes at the same time.
            self._process = subprocess.Popen(
                self._command,
                env=self._environ,
                pass_fds=self._inherits,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens where it has ended."""
        if self._process:
            self._process.send_signal(number)

    def has_ended(self) -> bool:
        """Also when it was never started."""
        return self._process is None or self._process.poll() is not None


def terminate(children: Sequence[Child]) -> None:
    """SIGTERM to all, and SIGKILL to those that do not end in time."""
    for number, seconds in ((signal.SIGTERM, DRAIN_TIMEOUT_S), (signal.SIGKILL, 5.0)):
        for child in children:
            child.signal(number)
        limit = time.monotonic() + seconds
        while not all(child.has_ended() for child in children) and time.monotonic() < limit:
            time.sleep(0.02)


def supervise(children: Sequence[Child], before_end: Callable[[], object] = lambda: None) -> None:
    """Keeps them until SIGINT, SIGTERM or SIGHUP, then drains them. before_end: what comes before that.

    Where none of them could start in the first place it ends with REFUSED, as one of them alone would.
    """
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    while not stopping and not all(child.failed_to_start for child in children):
        for child in children:
            child.ensure_running()
        time.sleep(0.05)
    before_end()
    terminate(children)
    if not stopping:
        raise SystemExit(EXIT_STARTUP_FAILED)
