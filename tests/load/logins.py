"""`make bench NAME=logins`: the effect of a burst of logins on other users, with and without it, over one running API.

A steady client requests a list RATE times a second at a constant rate, and counts from the time when each was due. The burst is
LOGINS users at the same moment, from a process of its own. Memory is the resident set of the API's processes, read every 50 ms.
Nothing is asserted; tests/security/test_logins.py asserts the ratio in short.
"""

import asyncio
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median
from urllib.parse import urlsplit

import psutil
import psycopg

from app.security.passwords import hash_password
from tests.load.harness import PASSWORD, running_api
from tests.load.streams import MemoryWatch, bring_in

RATE = 80.0
"""Requests a second."""


@dataclass(frozen=True)
class Request:
    """The bytes of a request, and its address."""

    host: str
    port: int
    sent: bytes

    @classmethod
    def to(cls, url: str, headers: dict[str, str], body: object = None) -> "Request":
        """GET, or POST with a body as JSON."""
        parts = urlsplit(url)
        payload = b"" if body is None else json.dumps(body).encode()
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [f"{'GET' if body is None else 'POST'} {target} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [] if body is None else ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
        assert parts.hostname
        assert parts.port
        return cls(parts.hostname, parts.port, "\r\n".join([*lines, "", ""]).encode() + payload)


class HttpConnection:
    """One connection that stays open, with little code, so that the server is measured and not the client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, request: Request) -> "HttpConnection":
        return cls(*await asyncio.open_connection(request.host, request.port))

    async def ask(self, request: Request) -> int:
        """The status, once the whole response has arrived."""
        self._writer.write(request.sent)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        await self._reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
        return int(head.split(" ", 2)[1])

    def close(self) -> None:
        self._writer.close()


async def steadily(request: Request, over: Callable[[], bool]) -> list[float]:
    """Seconds from when each request was due to its response, RATE a second until the end.

    A response that is no 200 counts as infinite.
    """
    # One connection after another, or the server would close idle ones.
    free = deque([await HttpConnection.to(request) for _ in range(8)])
    took: list[float] = []

    async def one(due: float) -> None:
        wire = free.popleft() if free else await HttpConnection.to(request)
        try:
            status = await wire.ask(request)
        except (OSError, asyncio.IncompleteReadError):
            took.append(math.inf)
            return
        took.append(time.perf_counter() - due if status == 200 else math.inf)
        free.append(wire)

    started, running = time.perf_counter(), []
    while not over():
        due = started + len(running) / RATE
        await asyncio.sleep(due - time.perf_counter())
        running.append(asyncio.create_task(one(due)))
    await asyncio.gather(*running)
    for wire in free:
        wire.close()
    return took


async def _burst(requests: list[Request]) -> list[tuple[int, float]]:
    async def one(request: Request) -> tuple[int, float]:
        started = time.perf_counter()
        wire = await HttpConnection.to(request)
        status = await wire.ask(request)
        wire.close()
        return status, time.perf_counter() - started

    return await asyncio.gather(*(one(request) for request in requests))


def burst(requests: list[Request]) -> list[tuple[int, float]]:
    """Status and seconds of each, all sent at the same moment."""
    return asyncio.run(_burst(requests))


@contextmanager
def apart() -> Iterator[Callable[[list[Request]], "Future[list[tuple[int, float]]]"]]:
    """`burst` in a process of its own, started before the measurement."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(int).result()
        yield lambda requests: pool.submit(burst, requests)


def people(url: str, count: int, slug: str = "load") -> list[str]:
    """The emails of this number of new users of an organization, all with the PASSWORD."""
    emails, hashed = [f"user{n}@load.test" for n in range(count)], hash_password(PASSWORD)
    with psycopg.connect(url) as connection:
        connection.execute(
            "select set_config('app.organization_id', organization_id::text, true) from app.organizations where slug = %s",
            [slug],
        )
        connection.cursor().executemany(
            "select auth.add_user(%s, 'User', 'claims_processor', null, null, %s)", [(one, hashed) for one in emails]
        )
    return emails


def logins(address: str, emails: list[str]) -> list[Request]:
    """A login for each email."""
    return [Request.to(f"{address}/api/auth/login", {}, {"email": one, "password": PASSWORD}) for one in emails]


def serving(pid: int) -> list[int]:
    """The processes that serve: the children of one that only listens, or the process itself."""
    return [child.pid for child in psutil.Process(pid).children()] or [pid]


def p99(took: list[float]) -> float:
    """In milliseconds."""
    return sorted(took)[int(len(took) * 0.99)] * 1000


def until(at: float) -> Callable[[], bool]:
    """A function that tells whether that time is past."""
    return lambda: time.perf_counter() > at


def main() -> None:
    """Prints a row for each round: 5 s without a burst, then for as long as a burst takes."""
    rounds, count = int(os.environ.get("ROUNDS", "5")), int(os.environ.get("LOGINS", "200"))
    calm, busy, memory = [], [], 0.0
    with running_api() as here, apart() as send:
        bring_in(here, 2000)
        listing = Request.to(f"{here.address}/api/claims?limit=20", here.headers)
        sent = logins(here.address, people(here.settings.database_url or "", count))
        asyncio.run(steadily(listing, until(time.perf_counter() + 3)))
        send(sent[:20]).result()
        print(f"{'p99, ms':>10}{'with':>9}{'ratio':>8}{'worst':>9}{'logins s':>10}{'first':>8}{'ok':>6}{'MiB':>8}")
        for _ in range(rounds):
            calm.append(asyncio.run(steadily(listing, until(time.perf_counter() + 5))))
            with ExitStack() as stack:
                watches = [stack.enter_context(MemoryWatch(pid)) for pid in serving(here.pid)]
                running = send(sent)
                busy.append(asyncio.run(steadily(listing, running.done)))
            done = running.result()
            memory = max(memory, *(watch.peak for watch in watches))
            ok = sum(status == 200 for status, _ in done)
            times = [took for _, took in done]
            print(
                f"{p99(calm[-1]):>10.1f}{p99(busy[-1]):>9.1f}{p99(busy[-1]) / p99(calm[-1]):>8.2f}{max(busy[-1]) * 1000:>9.1f}"
                f"{max(times):>10.1f}{min(times):>8.2f}{ok:>6}{memory:>8.0f}",
                flush=True,
            )
    ratios = [p99(with_) / p99(without) for without, with_ in zip(calm, busy, strict=True)]
    print(
        f"p99 with a burst over p99 without, median of {rounds}: {median(ratios):.2f}; largest process {memory:.0f} MiB"
    )


if __name__ == "__main__":
    main()
