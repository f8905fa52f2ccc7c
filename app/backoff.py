"""Exponential backoff, as the pool, the worker and the supervisor use it."""

import time


class Backoff:
    """The waits before tries that follow each other: each twice as long as the one before, from `initial_s` to `max_s`."""

    def __init__(self, initial_s: float, max_s: float, reset_after_s: float = 0.0) -> None:
        """reset_after_s: how long a try must last for the waits to start over; 0: they start over only by reset()."""
        self._initial_s, self._max_s, self._reset_after_s = initial_s, max_s, reset_after_s
        self._next_s = initial_s
        self._started_at = 0.0

    def start(self) -> None:
        """Notes the start of a try."""
        self._started_at = time.monotonic()

    def reset(self) -> None:
        """Starts over with the shortest wait."""
        self._next_s = self._initial_s

    def next_wait_s(self) -> float:
        """The wait before the next try, in seconds, after one that failed."""
        if self._reset_after_s and time.monotonic() - self._started_at > self._reset_after_s:
            self.reset()
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self._max_s)
        return wait_s
