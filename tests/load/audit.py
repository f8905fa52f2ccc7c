"""`make bench NAME=audit`: the cost of the audit log.

Measures a recorded read, writers while the sealer runs, sealing, verifying, and a round of the sealer over organizations without new
entries. Ratios are of alternating rounds within one run, over one API process and one database.
"""

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import httpx
import psutil
import psycopg

from tests.load.harness import RunningApi, running_api

ROUNDS, REQUESTS, AT_ONCE = 7, 1200, 16
ENTRIES = 200_000
IDLE = 10_000
A_DAY_LATER = "update auth.organization_lookup set daily_seal_at = daily_seal_at - interval '1 day'"
NOTHING = """
create or replace function app.record_access(
    p_action text, p_entity text, p_entity_id uuid default null, p_patient_id uuid default null)
returns void language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$ begin end $$"""


async def load(here: RunningApi, send) -> float:
    """Seconds for REQUESTS, AT_ONCE at a time."""
    async with httpx.AsyncClient(headers=here.headers, limits=httpx.Limits(max_connections=AT_ONCE)) as client:

        async def one_after_another() -> None:
            for _ in range(REQUESTS // AT_ONCE):
                answer = await send(client)
                assert answer.is_success, answer.text

        started = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
        return time.perf_counter() - started


def database_cpu() -> float:
    """CPU seconds of every PostgreSQL process started by this one, ended processes included."""
    total = 0.0
    for process in psutil.Process().children():
        if process.name() == "postgres":
            total += sum(process.cpu_times())  # ended children included
            for one in process.children():
                with suppress(psutil.NoSuchProcess):
                    total += sum(one.cpu_times()[:2])
    return total


def measured(here: RunningApi, send) -> tuple[float, float, float]:
    """Milliseconds of a request: elapsed, CPU of the API, CPU of PostgreSQL."""
    api = psutil.Process(here.pid)
    before = sum(api.cpu_times()[:2]), database_cpu()
    elapsed = asyncio.run(load(here, send))
    after = sum(api.cpu_times()[:2]), database_cpu()
    return elapsed / REQUESTS * 1000, (after[0] - before[0]) / REQUESTS * 1000, (after[1] - before[1]) / REQUESTS * 1000


def compare(name: str, here: RunningApi, send, with_, without) -> None:
    """Prints the ratio of the medians. with_ and without: context managers that switch it on and off."""
    rounds = {with_: [], without: []}
    for _ in range(ROUNDS):
        for way, results in rounds.items():
            with way():
                results.append(measured(here, send))
    on, off = ([statistics.median(column) for column in zip(*results, strict=True)] for results in rounds.values())
    what = ("elapsed", "CPU of the API", "CPU of PostgreSQL")
    said = ", ".join(f"{w} x{a / b:.2f} ({a:.3f} to {b:.3f} ms)" for w, a, b in zip(what, on, off, strict=True))
    print(f"{name}: {said}")


def recording(admin: psycopg.Connection, function: str):
    @contextmanager
    def way() -> Iterator[None]:
        admin.execute(function)
        yield

    return way


def sealing(here: RunningApi, seconds: float | None):
    """A sealer with this interval, in a thread of its own."""

    @contextmanager
    def way() -> Iterator[None]:
        stop = threading.Event()

        def run() -> None:
            with psycopg.connect(here.settings.worker_database_url, autocommit=True) as worker:
                while not stop.wait(seconds):
                    worker.execute("select app.seal_audit_logs()")

        thread = threading.Thread(target=run)
        if seconds:
            thread.start()
        yield
        stop.set()
        if seconds:
            thread.join()

    return way


def timed(admin: psycopg.Connection, statement: str) -> float:
    started = time.perf_counter()
    admin.execute(statement)
    return time.perf_counter() - started


def main() -> None:
    """Prints the figures."""
    with running_api() as here, psycopg.connect(here.settings.database_url, autocommit=True) as admin:
        numbers = count()

        def claim(client: httpx.AsyncClient):
            body = {
                "patientId": here.patient, "providerId": here.provider, "diagnosisCode": "E11.9", "amount": 125.50,
                "serviceDate": "2026-01-05", "claimNumber": f"B-{next(numbers)}",
            }  # fmt: skip
            return client.post(f"{here.address}/api/claims", json=body)

        ((definition,),) = admin.execute("select pg_get_functiondef('app.record_access'::regproc)").fetchall()
        first = asyncio.run(_first(here, claim))
        admin.execute("analyze")

        def read(client: httpx.AsyncClient):
            return client.get(f"{here.address}/api/claims/{first}")

        asyncio.run(load(here, read))  # warm
        compare("a recorded read of a claim against one that is not", here, read,
                recording(admin, definition), recording(admin, NOTHING))  # fmt: skip
        admin.execute(definition)
        compare("creating claims while the sealer runs every second against without it", here, claim,
                sealing(here, 1.0), sealing(here, None))  # fmt: skip
        admin.execute(
            "insert into app.audit_logs (organization_id, actor_role, action, entity, before, after) "
            "select organization_id, 'admin', 'update', 'patients', jsonb_build_object('first_name', n::text), "
            f"jsonb_build_object('first_name', 'x') from app.organizations, generate_series(1, {ENTRIES}) as n"
        )
        admin.execute(
            "insert into auth.unsealed_entries (organization_id) select organization_id from auth.organization_lookup"
        )
        took = timed(admin, "select app.seal_audit_logs()")
        print(f"sealing {ENTRIES:,} entries at once: {took:.2f} s, {took / ENTRIES * 1e6:.1f} us each")
        total = admin.execute("select count(*) from app.audit_logs").fetchone()[0]
        took = timed(admin, "select * from app.verify_audit_logs()")
        print(f"verifying {total:,} entries: {took:.2f} s, {took / total * 1e6:.1f} us each")
        ((rows, seals),) = admin.execute(
            "select pg_total_relation_size('app.audit_logs'), pg_total_relation_size('app.audit_seals')"
        ).fetchall()
        print(f"the seals take x{seals / rows:.2f} of the audit log's space ({seals / total:.0f} bytes an entry)")
        idle_rounds(admin)


def idle_rounds(admin: psycopg.Connection) -> None:
    """Prints the duration of a round over idle organizations, without and with some that are due for their daily seal."""
    admin.execute("select auth.add_organization('idle-' || n, 'Idle') from generate_series(1, %s) n", [IDLE])
    admin.execute("select app.seal_audit_logs()")
    admin.execute("vacuum analyze")
    for what, arrange in (("none of them due", "select 1"), ("some due for their daily seal", A_DAY_LATER)):
        admin.execute(arrange)
        rounds = [timed(admin, "select app.seal_audit_logs()") for _ in range(ROUNDS)]
        print(f"a round beside {IDLE:,} idle organizations, {what}: {statistics.median(rounds) * 1000:.1f} ms")


async def _first(here: RunningApi, claim) -> str:
    async with httpx.AsyncClient(headers=here.headers) as client:
        return (await claim(client)).json()["data"]["id"]


if __name__ == "__main__":
    main()
