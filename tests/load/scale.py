"""`make bench NAME=scale`: the effect of a hundred times as many claims, for an admin of the largest organization (SIZES).

A list, one claim, a deep page and a creation should cost the same; CPU is the measure. Statistics use two connections, because
over millions of claims more would wait for each other longer than the API allows.
"""

import os
import sys
from collections.abc import Sequence

from tests.load.baseline import CLIENTS
from tests.load.bench import Length, Served, bench
from tests.load.dataset import dataset
from tests.load.operations import OPERATIONS

MEASURED = {"list": CLIENTS, "get": CLIENTS, "deep": CLIENTS, "stats": 2, "create": CLIENTS}
"""Connections."""


def measured(claims: int, length: Length) -> dict[str, Served]:
    """One measurement of each operation; raises if a response was no success."""
    with dataset(claims) as here, bench(here, length) as one:
        admin = one.world.people[0]
        cells = {}
        for operation in OPERATIONS:
            if connections := MEASURED.get(operation.name):
                one.serve(operation, admin, connections, min(length.seconds, 1))  # warm-up
                cells[operation.name] = one.serve(operation, admin, connections)
        assert not one.faults, one.faults
        return cells


def line(name: str, values: Sequence[float], places: int = 2) -> str:
    """Values of each size, and the ratio of the last to the first."""
    return f"{name:<22}" + "".join(f"{value:>14.{places}f}" for value in values) + f"{values[-1] / values[0]:>12.2f}"


def main() -> int:
    """Prints a block of lines for each operation."""
    sizes = [int(size) for size in os.environ.get("SIZES", "100000,1000000,10000000").split(",")]
    by_size = [measured(claims, Length.from_environment()) for claims in sizes]
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
