"""`make bench NAME=memory`: the memory of one API process after 200,000 requests of every kind (CLAIMS, REQUESTS).

The exit code is 1 if it grew by more than a tenth after the first quarter, or is 100 MiB or more.
"""

import os
import sys

from tests.load.baseline import CLIENTS
from tests.load.bench import Bench, Length, bench
from tests.load.dataset import dataset
from tests.load.operations import OPERATIONS
from tests.load.wrk import Request, load

MIX = {"list": 8, "get": 8, "total": 1, "deep": 1, "create": 1, "move": 1}
"""Requests of each kind in a sequence of twenty; statistics would take most of the time."""
MOST, GROWTH = 100.0, 1.1
"""MiB, and the ratio of the last to the first quarter."""


def mixed(one: Bench) -> list[Request]:
    """Every kind by an admin, until each claim was updated back and forth."""
    admin = one.world.people[0]
    kinds = {each.name: each.requests(one.world, admin) for each in OPERATIONS if each.name in MIX}
    return [
        kinds[name][(row * count + n) % len(kinds[name])]
        for row in range(len(kinds["move"]))
        for name, count in MIX.items()
        for n in range(count)
    ]


def main() -> int:
    """Prints the memory before, at each quarter and after."""
    wanted = int(os.environ.get("REQUESTS", "200000"))
    with dataset(int(os.environ.get("CLAIMS", "100000"))) as here, bench(here, Length.from_environment()) as one:
        admin, done, marks = one.world.people[0], 0, [one.memory_before]
        print(f"{done:>9} requests: {marks[0]:6.1f} MiB", flush=True)
        while done < wanted:
            cell = load(one.world.address, mixed(one), admin.headers(), CLIENTS, one.length.seconds)
            assert cell.refused + cell.broken == 0, cell
            done += cell.requests
            if done >= wanted * len(marks) // 4:
                marks.append(one.api.memory())
                print(f"{done:>9} requests: {marks[-1]:6.1f} MiB", flush=True)
    if marks[-1] < MOST and marks[-1] < marks[1] * GROWTH:
        return 0
    print(f"not flat, or not under {MOST:.0f} MiB")
    return 1


if __name__ == "__main__":
    sys.exit(main())
