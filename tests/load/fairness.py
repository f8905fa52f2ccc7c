"""`make bench NAME=fairness`: the effect of one user's load over CONNECTIONS (64) connections on a user of another organization.

It uses the data set of `make bench` with CLAIMS (1,000,000, a fifth of them of the loading user's organization) and one API
process without rate limits. The other user requests a list and a claim, RATE times a second in all, at a constant rate. For each
load: SECONDS (8) without it, then as long with it, which is the ratio of a row. Arguments are names of loads to select some.
refused: responses to the other user that are no 200, 503 included; its 429 and the responses to the loading user are in `load`.
Nothing is asserted; tests/http/test_fairness.py asserts the ratio in short.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import psycopg

from app.security.passwords import hash_password
from app.security.tokens import Caller, make_token
from tests.load.bench import UNLIMITED
from tests.load.dataset import claim_count, dataset
from tests.load.harness import KEYS, PASSWORD, served
from tests.load.logins import HttpConnection, Request, p99, steadily
from tests.load.operations import Walk, World, cast, claiming

LINES = 100_000
CONNECTIONS = int(os.environ.get("CONNECTIONS", "64"))
SETTLES = 1.5
"""Seconds that a load runs before measurement."""


@dataclass(frozen=True)
class Load:
    """Requests of one kind, repeated by each connection. trickles: seconds between two bytes of a body."""

    name: str
    requests: list[bytes]
    streams: bool = False
    trickles: float = 0.0
    host: str = ""
    port: int = 0


@dataclass
class Outcome:
    """The result of a load: responses by status, 0 for connections that ended without one."""

    statuses: Counter[int] = field(default_factory=Counter)

    def words(self) -> str:
        """The statuses, most frequent first."""
        return " ".join(f"{status or 'cut'}:{count}" for status, count in self.statuses.most_common())


def raw(method: str, path: str, headers: dict[str, str], body: bytes = b"", kind: str = "application/json") -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _asked(load: Load, sent: bytes) -> int:
    """The status, once the connection has ended."""
    reader, writer = await asyncio.open_connection(load.host, load.port, limit=2**20)
    try:
        head, _, body = sent.partition(b"\r\n\r\n")
        if load.trickles:
            writer.write(head + b"\r\n\r\n")
            for at in range(len(body)):
                writer.write(body[at : at + 1])
                await asyncio.wait([asyncio.create_task(reader.read(1))], timeout=load.trickles) if not at else None
                await asyncio.sleep(load.trickles)
                if reader.at_eof() or writer.is_closing():
                    break
        else:
            writer.write(sent)
        line = await reader.readline()
        while await reader.read(2**20):
            pass
        return int(line.split(b" ", 2)[1]) if line else 0
    except (OSError, asyncio.IncompleteReadError):
        return 0
    finally:
        writer.close()


async def _repeated(load: Load, number: int, statuses: Counter[int]) -> None:
    """Repeats requests over one connection while it is open, or over a new one for each."""
    at = number
    while True:
        if load.streams or load.trickles:
            statuses[await _asked(load, load.requests[at % len(load.requests)])] += 1
            at += 1
            continue
        try:
            connection = await HttpConnection.to(Request(load.host, load.port, b""))
            while True:
                statuses[
                    await connection.ask(Request(load.host, load.port, load.requests[at % len(load.requests)]))
                ] += 1
                at += CONNECTIONS
        except (OSError, asyncio.IncompleteReadError, IndexError):
            statuses[0] += 1
            await asyncio.sleep(0.05)  # a server that refuses connections is not tried again at once


async def _run_load(load: Load, seconds: float) -> Counter[int]:
    statuses: Counter[int] = Counter()
    running = [asyncio.create_task(_repeated(load, number, statuses)) for number in range(CONNECTIONS)]
    await asyncio.sleep(seconds)
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return statuses


def run_load(load: Load, seconds: float) -> Counter[int]:
    """The load for this time, in a process of its own."""
    return asyncio.run(_run_load(load, seconds))


def _bulk(world: World, walk: Walk, headers: dict[str, str]) -> list[bytes]:
    """A thousand claims each, back and forth."""
    claims = [str(claim) for claim, _ in world.claims(walk, "i")]
    batches = [claims[at : at + 1000] for at in range(0, len(claims) - 999, 1000)]
    moves = [{"status": "under_review"}, {"status": "pending_info", "reason": "More is needed"}]
    bodies = [json.dumps({"claimIds": batch} | move).encode() for move in moves for batch in batches]
    return [raw("POST", "/api/claims/bulk-status-update", headers, body) for body in bodies]


def _import(world: World, number: int, person: Any) -> bytes:
    (patient, provider), *_ = world.admin.execute(
        "select bench.patient_id(n), bench.provider_id(%(of)s + n %% %(spread)s) from generate_series(1, %(patients)s) as n",
        claiming(world, person),
    ).fetchall()
    line = (
        f'{{"claimNumber":"FAIR-{number}-%07d","patientId":"{patient}","providerId":"{provider}",'
        '"diagnosisCode":"E11.9","amount":100.25,"serviceDate":"2026-01-15"}\n'
    )
    return "".join(line % n for n in range(LINES)).encode()


def loads(world: World) -> list[Load]:
    """Every kind of load by one user."""
    by_name = {person.name: person for person in world.people}
    admin, processor = by_name["admin"], by_name["processor, recent"]
    headers = admin.headers()
    headers.pop("Content-Type")
    working = processor.headers() | {}
    working.pop("Content-Type")
    close = headers | {"Connection": "close"}
    email, slug = world.admin.execute(
        "select u.email, o.slug from app.users u join app.organizations o using (organization_id) where u.user_id = %s",
        [admin.caller.user_id],
    ).fetchone()  # type: ignore[misc]
    world.admin.execute(
        "insert into auth.credentials (email, organization_id, password_hash) values (%s, %s, %s) on conflict do nothing",
        [email, admin.caller.organization_id, hash_password(PASSWORD)],
    )
    login = json.dumps({"email": email, "password": PASSWORD, "organizationSlug": slug}).encode()
    deepest = [
        raw("GET", f"/api/claims?offset=10000&limit=100&sort={sort}", headers)
        for sort in ("-createdAt", "amount", "-amount", "serviceDate", "-serviceDate", "createdAt")
    ]
    stats = [
        raw("GET", f"/api/claims/stats{day}", who)
        for who in (headers, working)
        for day in ("", "?serviceDateFrom=2020-01-01")
    ]
    body = _import(world, time.time_ns(), admin)
    slow = json.dumps({"notes": "x" * 4000}).encode()
    return [
        Load("deep offset", deepest),
        Load("bulk of 1,000", _bulk(world, admin.moves or admin.sees, headers)),
        Load(
            f"import of {LINES:,}",
            [raw("POST", "/api/claims/import", close, body, "application/x-ndjson")],
            streams=True,
        ),
        Load("export", [raw("GET", "/api/claims/export", close | {"Accept": "text/csv"})], streams=True),
        Load("logins", [raw("POST", "/api/auth/login", {}, login)]),
        Load("statistics", stats),
        Load("slow bodies", [raw("POST", "/api/claims", headers, slow)], trickles=0.05),
    ]


def others(world: World) -> list[Request]:
    """Requests of an admin of another organization: a list and a claim."""
    organization_id, user_id = world.admin.execute(
        "insert into auth.sessions (organization_id, session_id, user_id) "
        "select u.organization_id, u.user_id, u.user_id from app.users u join bench.tenants t using (organization_id) "
        "where t.n = 2 and u.user_id = bench.id(t.since_ms, 4, t.base + 1) "
        "on conflict (organization_id, session_id) do update set ended_at = null returning organization_id, user_id"
    ).fetchone()  # type: ignore[misc]
    (claim,) = world.admin.execute(
        "select claim_id from app.claims where organization_id = %s and status <> 'draft' limit 1", [organization_id]
    ).fetchone()  # type: ignore[misc]
    token = make_token(Caller(organization_id, user_id, user_id, "admin"), KEYS)
    headers = {"Authorization": f"Bearer {token}"}
    return [Request.to(world.address + path, headers) for path in ("/api/claims?limit=20", f"/api/claims/{claim}")]


async def measured(requests: list[Request], seconds: float, during: Callable[[], Awaitable[Any]]) -> list[float]:
    """Seconds of the other user's requests while something else runs."""
    running = asyncio.ensure_future(during())
    await asyncio.sleep(SETTLES)
    over = time.perf_counter() + seconds
    took = await asyncio.gather(*(steadily(one, lambda: time.perf_counter() > over) for one in requests))
    await running
    return [one for each in took for one in each]


async def _settled(world: World, requests: list[Request]) -> None:
    """Waits until the API has finished the load's requests, and both users' requests are quick again."""
    busy = "select count(*) from pg_stat_activity where usename = 'claims_api' and state <> 'idle'"
    quiet = 0
    while quiet < 10:
        quiet = quiet + 1 if world.admin.execute(busy).fetchone() == (0,) else 0
        await asyncio.sleep(0.1)
    over = time.perf_counter() + 1
    await steadily(requests[0], lambda: time.perf_counter() > over)


async def _matches(world: World, load: Load, requests: list[Request], seconds: float, pool: ProcessPoolExecutor) -> str:
    async def nothing() -> None:
        return None

    statuses: Counter[int] = Counter()

    async def pressed() -> None:
        loop = asyncio.get_running_loop()
        statuses.update(await loop.run_in_executor(pool, run_load, load, seconds + SETTLES + 0.5))

    await _settled(world, requests)
    alone = await measured(requests, seconds, nothing)
    loaded = await measured(requests, seconds, pressed)
    refused = sum(one == float("inf") for one in loaded)
    return (
        f"{load.name:<20}{p99(alone):>10.1f}{p99(loaded):>10.1f}{p99(loaded) / p99(alone):>8.1f}"
        f"{sorted(loaded)[len(loaded) // 2] * 1000:>10.1f}{refused:>9}  {Outcome(statuses).words()}"
    )


def main(names: list[str]) -> None:
    """Prints a row for each load."""
    seconds = float(os.environ.get("SECONDS", "8"))
    with (
        dataset(claim_count()) as here,
        served(here.settings, **UNLIMITED) as (address, _),
        psycopg.connect(here.url, autocommit=True) as admin,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        admin.execute("set search_path = app")
        world = World(address, admin, cast(admin))
        requests = others(world)
        pool.submit(int).result()
        print(
            f"{'load':<20}{'alone p99':>10}{'with p99':>10}{'ratio':>8}{'with p50':>10}{'refused':>9}  load's own answers"
        )
        for load in loads(world):
            if names and not any(load.name.startswith(name) for name in names):
                continue
            host, port = address.removeprefix("http://").split(":")
            at = Load(load.name, load.requests, load.streams, load.trickles, host, int(port))
            print(asyncio.run(_matches(world, at, requests, seconds, pool)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
