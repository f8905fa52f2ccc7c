"""CPU and memory of a process and its children, from /proc."""

import os
import time
from pathlib import Path

import psutil

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds: the resolution of the kernel's count."""


class Cpu:
    """The CPU seconds of a process and all its children, ended ones included."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def spent(self) -> float:
        """User and system seconds so far."""
        return sum(_spent(one.pid) for one in (self._process, *self._process.children(recursive=True)))

    def quiet(self) -> float:
        """The same, once no child is ending: the CPU of a client is counted when the last of its backends has ended."""
        before = -1
        while (now := len(self._process.children())) != before:
            before = now
            time.sleep(0.02)
        return self.spent()

    def memory(self) -> float:
        """MiB in memory of the process and its children; shared pages count once."""
        return sum(_memory(one.pid) for one in (self._process, *self._process.children(recursive=True)))


def _spent(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) * TICK


def _memory(pid: int) -> float:
    """MiB, with a process's part of shared pages; the resident set if that cannot be read."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except PermissionError:
        return float(psutil.Process(pid).memory_info().rss / 2**20)
    return int(rollup.partition("\nPss:")[2].split()[0]) / 1024
