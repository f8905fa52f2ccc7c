"""A supervisor of child processes: it restarts those that exit, and drains all of them at the end."""

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
"""The wait before the first restart, the longest wait, and the run time that resets the waits."""
DRAIN_TIMEOUT_S = 25.0
"""How long children may take to finish their work after SIGTERM."""
EXIT_STARTUP_FAILED = 3
"""The exit status of a process that failed to start, as defined by uvicorn."""


def print_line(line: str) -> None:
    """Prints to the terminal, if it is still open."""
    with suppress(OSError):  # a closed terminal must not stop the supervisor
        print(line, flush=True)


def die_with_parent(last_signal: signal.Signals) -> Callable[[], object] | None:
    """A preexec_fn that sends the child the signal when the thread that started it ends in any way. Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(
        None
    ).prctl  # looked up before the fork, because code between fork and exec must not wait for a lock
    parent = os.getpid()

    def set_death_signal() -> None:
        prctl(1, int(last_signal))  # 1: PR_SET_PDEATHSIG
        if os.getppid() != parent:  # the parent has already ended
            os.kill(os.getpid(), last_signal)

    return set_death_signal


class Child:
    """A process that is restarted when it exits, with backoff. inherits: file descriptors that it inherits."""

    def __init__(self, name: str, arguments: list[str], environ: dict[str, str], inherits: Sequence[int] = ()) -> None:
        self.name = name
        self.failed_to_start = False
        """Whether its first start failed."""
        self._command = [sys.executable, "-m", *arguments]
        self._environ = environ
        self._inherits = inherits
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff = Backoff(INITIAL_BACKOFF_S, MAX_BACKOFF_S, RESET_BACKOFF_AFTER_S)
        self._was_restarted = False
        self._start_at = 0.0

    def ensure_running(self) -> None:
        """Starts the process if it does not run and its wait is over. Must be called periodically."""
        now = time.monotonic()
        if self._process and (status := self._process.poll()) is not None:
            self._process = None
            self.failed_to_start = status == EXIT_STARTUP_FAILED and not self._was_restarted
            self._was_restarted = True
            wait_s = self._backoff.next_wait_s()
            self._start_at = now + wait_s
            print_line(f"{self.name} exited with status {status}; restarting it in {wait_s:g} s")
        if self._process is None and now >= self._start_at:
            self._backoff.start()
            # A new session, so that Ctrl-C reaches only the supervisor, which ends all processes in order. If the supervisor
            # is killed, the child is killed too: it could no longer be restarted or drained.
            self._process = subprocess.Popen(
                self._command,
                env=self._environ,
                pass_fds=self._inherits,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    def signal(self, number: signal.Signals) -> None:
        """Sends the signal. Does nothing if the process has ended."""
        if self._process:
            self._process.send_signal(number)

    def has_ended(self) -> bool:
        """Whether the process has ended or was never started."""
        return self._process is None or self._process.poll() is not None


def terminate(children: Sequence[Child]) -> None:
    """Sends SIGTERM to all children, and SIGKILL to those that do not end within DRAIN_TIMEOUT_S."""
    for number, timeout_s in ((signal.SIGTERM, DRAIN_TIMEOUT_S), (signal.SIGKILL, 5.0)):
        for child in children:
            child.signal(number)
        deadline = time.monotonic() + timeout_s
        while not all(child.has_ended() for child in children) and time.monotonic() < deadline:
            time.sleep(0.02)


def supervise(children: Sequence[Child], before_end: Callable[[], object] = lambda: None) -> None:
    """Keeps the children running until SIGINT, SIGTERM or SIGHUP, then drains them. before_end: called before draining.

    If the first start of every child failed, exits with EXIT_STARTUP_FAILED, as a single child would.
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
