"""Which faults a run of `make chaos` has, and when."""

import random
from dataclasses import dataclass

KINDS = (
    "kill worker", "freeze worker", "stop worker", "end backends", "cut listener", "crash database", "kill API",
)  # fmt: skip
MOMENTS = ("at any moment", "at work", "at work, undone")
"""Jobs are short, so most faults wait until workers are in the middle of some; undone: what they were doing is rolled back."""
BETWEEN, FROZEN, DOWN = (1.0, 4.5), (9.0, 12.0), (0.2, 4.0)
"""Seconds: from one fault to the next; that a worker stands still (jobs.worker takes it for dead after 8); that the database is down."""
QUIET = 0.15
"""The last part of the time, without faults."""


@dataclass(frozen=True)
class Fault:
    """at: seconds from the start; which: decides whom it hits; lasts: seconds, where it is one that lasts."""

    at: float
    kind: str
    moment: str
    which: int
    lasts: float


def schedule(seed: int, seconds: float) -> list[Fault]:
    """The faults of a run: every kind once in each round, in an order of its own. The same seed gives the same."""
    chance = random.Random(seed)
    faults: list[Fault] = []
    kinds: list[str] = []
    at = 0.0
    while True:
        kinds = kinds or chance.sample(KINDS, len(KINDS))
        at += chance.uniform(*BETWEEN)
        kind, moment, which = kinds.pop(), chance.choice(MOMENTS), chance.getrandbits(32)
        lasts = chance.uniform(*(FROZEN if kind == "freeze worker" else DOWN))
        if at > seconds * (1 - QUIET):
            return faults
        faults.append(Fault(at, kind, moment, which, lasts))
