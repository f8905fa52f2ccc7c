"""`make bench NAME=rate_limits`: the cost of the rate limits, as the ratio of an API process with them to one without.

Both use one database, alternately. CPU is the API process's own (user and system) for each request; queries are those that the limits
sent to the database.
"""

import asyncio
import statistics
import time

import httpx
import psutil

from tests.load.harness import RunningApi, running_api, served

ROUNDS, REQUESTS, AT_ONCE = 7, 1500, 16


async def load(address: str, headers: dict[str, str]) -> float:
    """Seconds for REQUESTS, AT_ONCE at a time."""
    async with httpx.AsyncClient(headers=headers, limits=httpx.Limits(max_connections=AT_ONCE)) as client:

        async def one_after_another() -> None:
            for _ in range(REQUESTS // AT_ONCE):
                answer = await client.get(f"{address}/api/auth/me")
                assert answer.status_code == 200, answer.text

        started = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
        return time.perf_counter() - started


def measured(address: str, pid: int, headers: dict[str, str]) -> tuple[float, float]:
    """CPU milliseconds and elapsed milliseconds of a request."""
    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])
    elapsed = asyncio.run(load(address, headers))
    done = REQUESTS // AT_ONCE * AT_ONCE
    return (sum(process.cpu_times()[:2]) - before) / done * 1000, elapsed / done * 1000


def compare(here: RunningApi, with_: tuple[str, int], without: tuple[str, int]) -> None:
    """Prints each round's ratio and their medians."""
    rows = []
    for name, one in (("with", with_), ("without", without)):
        measured(*one, here.headers)
        print(f"warmed: {name}")
    for _ in range(ROUNDS):
        limited, free = measured(*with_, here.headers), measured(*without, here.headers)
        rows.append((limited[0] / free[0], limited[1] / free[1], *limited, *free))
        print(
            "CPU x{:.3f}, elapsed x{:.3f}  ({:.3f} and {:.3f} ms with; {:.3f} and {:.3f} ms without)".format(*rows[-1])
        )
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print(f"median of {ROUNDS}: CPU x{medians[0]:.3f}, elapsed x{medians[1]:.3f}")


def main() -> None:
    """Prints the comparison, and the number of queries for the limits."""
    with (
        running_api(RATE_LIMIT_USER="60000", RATE_LIMIT_ADDRESS="120000") as here,
        served(here.settings, RATE_LIMIT_USER="0", RATE_LIMIT_ADDRESS="0") as without,
    ):
        compare(here, (here.address, here.pid), without)
    print(
        f"a limit of 6000 a minute is leased in parts of 300 at most: {sum(1 for _ in parts(6000))} queries for 6000 requests"
    )


def parts(limit: int) -> list[int]:
    """The sizes of the leases for a window of this number of requests."""
    from app.http.rate_limits import PARTS

    taken, left = [max(1, limit // PARTS)], limit - max(1, limit // PARTS)
    while left:
        taken.append(max(1, left // PARTS))
        left -= taken[-1]
    return taken


if __name__ == "__main__":
    main()
