"""Exponential backoff, used by the pool, the worker and the supervisor."""

import time


class Backoff:
    """The waits between consecutive attempts. Each wait is twice the one before, from `initial_s` up to `max_s`."""

    def __init__(self, initial_s: float, max_s: float, reset_after_s: float = 0.0) -> None:
        """reset_after_s: an attempt that lasts longer resets the waits. If it is 0, only reset() does."""
        self._initial_s, self._max_s, self._reset_after_s = initial_s, max_s, reset_after_s
        self._next_s = initial_s
        self._started_at = 0.0

    def start(self) -> None:
        """Records the start of an attempt."""
        self._started_at = time.monotonic()

    def reset(self) -> None:
        """Returns to the shortest wait."""
        self._next_s = self._initial_s

    def next_wait_s(self) -> float:
        """The wait before the next attempt, after a failed one."""
        if self._reset_after_s and time.monotonic() - self._started_at > self._reset_after_s:
            self.reset()
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self._max_s)
        return wait_s
