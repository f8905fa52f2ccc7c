"""`make bench NAME=scale`: what a hundred times as many claims change, for an admin of the largest organization (SIZES).

A list, one claim, a deep page and a creation should cost the same; CPU says whether they do. Statistics on two connections: over millions
of claims more would wait for each other longer than the API lets them.
"""

import os
import sys
from collections.abc import Sequence

from tests.load.baseline import CLIENTS
from tests.load.bench import Length, Served, bench
from tests.load.dataset import ground
from tests.load.operations import OPERATIONS

MEASURED = {"list": CLIENTS, "get": CLIENTS, "deep": CLIENTS, "stats": 2, "create": CLIENTS}
"""Connections."""


def measured(claims: int, length: Length) -> dict[str, Served]:
    """One cell of each operation; raises where an answer was no success."""
    with ground(claims) as here, bench(here, length) as one:
        admin = one.world.people[0]
        cells = {}
        for operation in OPERATIONS:
            if connections := MEASURED.get(operation.name):
                one.serve(operation, admin, connections, min(length.seconds, 1))  # warms
                cells[operation.name] = one.serve(operation, admin, connections)
        assert not one.faults, one.faults
        return cells


def line(name: str, values: Sequence[float], places: int = 2) -> str:
    """Values of each size, and the last to the first."""
    return f"{name:<22}" + "".join(f"{value:>14.{places}f}" for value in values) + f"{values[-1] / values[0]:>12.2f}"


def main() -> int:
    """Prints a block of lines for each operation."""
    sizes = [int(size) for size in os.environ.get("SIZES", "100000,1000000,10000000").split(",")]
    by_size = [measured(claims, Length.asked()) for claims in sizes]
    print(f"{'claims':<22}" + "".join(f"{size:>14,}" for size in sizes) + f"{'last/first':>12}")
    for name in MEASURED:
        cells = [one[name] for one in by_size]
        print(line(f"{name}: requests/s", [cell.load.rate for cell in cells], 0))
        print(line("  p50 ms", [cell.load.p50 for cell in cells]))
        print(line("  p99 ms", [cell.load.p99 for cell in cells]))
        print(line("  CPU of the API ms", [cell.api for cell in cells]))
        print(line("  CPU of PostgreSQL ms", [cell.postgres for cell in cells]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
