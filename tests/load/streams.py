"""`make bench NAME=streams`: the memory of an API process that imports and exports LINES claims (100,000).

Memory is the API process's resident set, read every 50 ms; time is the client's. Nothing is asserted;
tests/http/test_import_export.py asserts the ratio in short.
"""

import os
import threading
import time
from collections.abc import Iterator

import httpx
import psutil
import psycopg

from tests.load.harness import RunningApi, running_api


class MemoryWatch:
    """The largest resident set of a process during the block, in MiB."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self.before = self.now()
        self.peak = self.before

    def now(self) -> float:
        """The resident set now, in MiB."""
        return self._process.memory_info().rss / 2**20

    def __enter__(self) -> "MemoryWatch":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, self.now())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def lines(api: RunningApi, count: int, prefix: str) -> Iterator[bytes]:
    """This number of claims, one a line."""
    for n in range(count):
        yield (
            f'{{"claimNumber":"{prefix}-{n:07}","patientId":"{api.patient}","providerId":"{api.provider}","diagnosisCode":"E11.9",'
            f'"amount":{100 + n % 900}.25,"serviceDate":"2026-01-15","notes":"line {n}"}}\n'
        ).encode()


def bring_in(api: RunningApi, count: int, prefix: str = "IMP") -> dict[str, int]:
    """The numbers of created, duplicate and failed lines."""
    results = {"created": 0, "duplicate": 0, "failed": 0}
    headers = api.headers | {"Content-Type": "application/x-ndjson", "Idempotency-Key": "bench"}
    with httpx.stream(
        "POST", f"{api.address}/api/claims/import", headers=headers, content=lines(api, count, prefix), timeout=900
    ) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            results[line.split('"result" : "')[1].split('"')[0]] += 1
    return results


def take_out(api: RunningApi, accept: str) -> int:
    """The number of exported lines."""
    with httpx.stream(
        "GET", f"{api.address}/api/claims/export", headers=api.headers | {"Accept": accept}, timeout=900
    ) as answer:
        assert answer.status_code == 200
        return sum(1 for _ in answer.iter_lines())


def _warm(here: RunningApi) -> None:
    """Imports and exports once, and reads statistics.

    Plans for an empty table are replaced only after it was analyzed, which autovacuum does within about a minute.
    """
    bring_in(here, 1000, "WARM")
    take_out(here, "text/csv")
    with psycopg.connect(here.settings.database_url or "", autocommit=True) as connection:
        connection.execute("analyze")


def main() -> None:
    """Prints a row for each pass."""
    count = int(os.environ.get("LINES", "100000"))
    with running_api() as here:
        _warm(here)
        print(f"{'':<22}{'lines':>9}{'s':>8}{'lines/s':>9}{'before':>9}{'peak':>8}  MiB")
        passes = {
            "import": lambda: sum(bring_in(here, count).values()),
            "import again": lambda: bring_in(here, count)["duplicate"],
            "export NDJSON": lambda: take_out(here, "application/x-ndjson") - 1000,
            "export CSV": lambda: take_out(here, "text/csv") - 1001,
        }
        for name, run in passes.items():
            started = time.perf_counter()
            with MemoryWatch(here.pid) as watch:
                done = run()
            took = time.perf_counter() - started
            print(
                f"{name:<22}{done:>9}{took:>8.1f}{done / took:>9.0f}{watch.before:>9.1f}{watch.peak:>8.1f}", flush=True
            )


if __name__ == "__main__":
    main()
