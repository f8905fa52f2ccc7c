"""The faults of a run of `make chaos`, and their times."""

import random
from dataclasses import dataclass

KINDS = (
    "kill worker", "freeze worker", "stop worker", "end backends", "cut listener", "crash database", "kill API",
)  # fmt: skip
MOMENTS = ("at any moment", "at work", "at work, undone")
"""Jobs are short, so most faults wait until workers are in the middle of some. undone: their transactions are rolled back."""
BETWEEN, FROZEN, DOWN = (1.0, 4.5), (9.0, 12.0), (0.2, 4.0)
"""Seconds: between faults; that a worker is frozen (jobs.worker declares it dead after 8); that the database is down."""
QUIET = 0.15
"""The last part of the time, without faults."""


@dataclass(frozen=True)
class Fault:
    """at: seconds from the start; which: selects the target; lasts: seconds, for a fault with a duration."""

    at: float
    kind: str
    moment: str
    which: int
    lasts: float


def schedule(seed: int, seconds: float) -> list[Fault]:
    """The faults of a run: every kind once in each round, in random order. The same seed gives the same faults."""
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
