"""An upgrade to the next version while processes of this version serve: no request fails, and every event has its effect once."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from app.config import Settings
from app.database.schema_check import BY_HAND, DIFFERENCES, compare
from app.database.schema_files import ROOT, VERSION
from app.database.server_version import UnsafeDatabase
from app.operations import apply_files, migrate
from tests.database.test_pool import is_
from tests.http.test_rate_limits import bearer
from tests.operations.test_process_failures import free_port
from tests.support.cast import KEYS
from tests.support.clients import until
from tests.support.workers import jobs_of

REQUESTS_PER_S = 100
MIGRATION = """set local search_path = app;
alter table claims add column channel text constraint claims_channel_check check (channel in ('portal', 'paper'));
create table channels (channel text primary key);
"""


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, (path, old)
    path.write_text(text.replace(old, new, 1))


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """A copy of the code that is one version newer: another field, another signature, and a change in every file of the schema."""
    folder = tmp_path / "next"
    for name in ("app", "jobs", "sql", "migrations"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    replace(folder / "app/database/schema_files.py", f"\nVERSION = {VERSION}\n", f"\nVERSION = {VERSION + 1}\n")
    (folder / "migrations/9999-channel.sql").write_text(MIGRATION)
    (folder / "migrations/9999-channel.rollback.sql").write_text(
        "drop table app.channels; alter table app.claims drop column channel;"
    )
    (folder / "sql/policies/channels.sql").write_text("select schema_admin.close_table('app.channels');\n")
    fields = folder / "sql/functions/claims_fields.sql"
    replace(fields, "version integer')", "version integer, channel text')")
    replace(fields, "c.version)::claim_response", "c.version, c.channel)::claim_response")
    # The worker of the next version calls process_batch with a third argument; that of this version with two.
    jobs = folder / "sql/functions/job_processing_logs.sql"
    replace(jobs, "app.process_batch, ", "app.process_batch(uuid, integer), ")
    jobs.write_text(
        jobs.read_text()
        + """
create or replace function app.process_batch(p_event_id uuid, p_more integer, p_note text,
    out status text, out along integer, out is_followed boolean)
language sql security invoker set search_path = app, pg_catalog, pg_temp as $$
    select b.status, b.along, b.is_followed from app.process_batch(p_event_id, p_more) b
$$;
grant execute on function app.process_batch(uuid, integer, text) to claims_system;
"""
    )
    replace(
        folder / "sql/queries/queue.sql", "process_batch(:event_id, :more)", "process_batch(:event_id, :more, 'next')"
    )
    for path in (folder / "sql").rglob("*.sql"):
        if path.parent.name not in ("queries", "audit", "operations"):
            path.write_text(path.read_text() + "\n-- Changed in the next version.\n")
    return folder


class Deployment:
    """Processes of a version of the code, started from its folder."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._environ = os.environ | {
            "DATABASE_URL": settings.database_url or "",
            "API_DATABASE_URL": settings.api_database_url or "",
            "WORKER_DATABASE_URL": settings.worker_database_url or "",
            "TOKEN_KEYS": f"test:{KEYS['test'].decode()}",
            "PORT": str(self.port),
            "RATE_LIMIT_USER": "0",
            "RATE_LIMIT_ADDRESS": "0",
            "PYTHONPATH": str(folder),
            "PROCRASTINATE_APP": "jobs.app",
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *module: str) -> None:
        """Starts the API or a worker."""
        command = [sys.executable, "-m", *module]
        self._running.append(subprocess.Popen(command, cwd=self.folder, env=self._environ, stdout=subprocess.DEVNULL))

    async def run(self, *module: str) -> tuple[int, str]:
        """Runs a command to its end; returns its exit status and output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *module, cwd=self.folder, env=self._environ,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    async def readiness(self) -> dict[str, Any]:
        """The body of /health/ready; empty if the process does not respond."""
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient(timeout=5) as client:
                return dict((await client.get(f"{self.address}/health/ready")).json())
        return {}

    async def is_ready(self) -> bool:
        """Whether the process serves with a schema that it supports."""
        return (await self.readiness()).get("schema") == "ok"

    async def stop(self) -> None:
        """Ends all of them by SIGTERM; each exits with 0."""
        running, self._running = self._running, []
        for process in running:
            process.terminate()
        codes = [await asyncio.to_thread(process.wait, 30) for process in running]
        assert set(codes) <= {0, -15}, codes


class Load:
    """Requests at a fixed rate, whatever their responses take, to the addresses in `targets`, one after the other."""

    def __init__(self, cast: Any, *targets: str) -> None:
        self.targets = list(targets)
        self.sent = 0
        self.responses: Counter[str] = Counter()
        self.failed: list[str] = []
        self.events: dict[str, str] = {}
        """Claim by event: each event is an admission of the claim's patient, who has no other claim."""
        self._cast, self._headers = cast, bearer(cast, "alma")
        self._claims: list[str] = []
        self._ends = False

    async def run(self) -> None:
        """Runs until stop(), and until every request has its response."""
        # The API drops idle connections of an address beyond a hundred.
        limits = httpx.Limits(max_connections=40, keepalive_expiry=2)
        async with (
            httpx.AsyncClient(timeout=20, limits=limits, headers=self._headers) as client,
            asyncio.TaskGroup() as group,
        ):
            began = time.monotonic()
            while not self._ends:
                kind = (self._list, self._get, self._post_event, self._patch)[self.sent % 4]
                group.create_task(kind(client, self.targets[self.sent // 4 % len(self.targets)]))
                self.sent += 1
                await asyncio.sleep(max(0.0, began + self.sent / REQUESTS_PER_S - time.monotonic()))

    async def wait_for(self, requests: int) -> None:
        """Waits until this number of further requests was sent."""
        aim = self.sent + requests

        async def condition() -> bool:
            return self.sent >= aim

        await until(condition)

    def stop(self) -> None:
        """Sends no more requests."""
        self._ends = True

    async def _call(self, client: httpx.AsyncClient, method: str, url: str, **options: Any) -> Any:
        path = url.split("/api")[1].split("?")[0].split("/")[1]
        try:
            response = await client.request(method, url, **options)
        except httpx.TransportError as error:
            self.failed.append(f"{method} {path}: {error!r}")
            return None
        self.responses[f"{method} {path} {response.status_code}"] += 1
        if not response.is_success:
            self.failed.append(f"{method} {path}: {response.status_code} {response.text}")
            return None
        return response.json()["data"]

    async def _list(self, client: httpx.AsyncClient, address: str) -> None:
        await self._call(client, "GET", f"{address}/api/claims?limit=20&status=submitted")

    async def _get(self, client: httpx.AsyncClient, address: str) -> None:
        claim = self._claims[-1] if self._claims else str(self._cast.bens_claim)
        await self._call(client, "GET", f"{address}/api/claims/{claim}")

    async def _patch(self, client: httpx.AsyncClient, address: str) -> None:
        if self._claims:
            body = {"notes": f"note {self.sent}"}
            await self._call(client, "PATCH", f"{address}/api/claims/{self._claims[-1]}", json=body)

    async def _post_event(self, client: httpx.AsyncClient, address: str) -> None:
        """A patient, a claim and the patient's admission, each by a request."""
        body = {
            "memberNumber": f"R-{uuid4().hex[:12]}",
            "firstName": "Rolf",
            "lastName": "Roll",
            "dateOfBirth": "1990-01-01",
        }
        if not (patient := await self._call(client, "POST", f"{address}/api/patients", json=body)):
            return
        body = {"patientId": patient["id"], "providerId": str(self._cast.ana_provider), "diagnosisCode": "I10",
                "amount": 10, "serviceDate": "2026-11-10"}  # fmt: skip
        if not (claim := await self._call(client, "POST", f"{address}/api/claims", json=body)):
            return
        self._claims.append(claim["id"])
        body = {"patientId": patient["id"], "eventType": "admission", "occurredAt": "2026-11-10T10:00:00Z"}
        if event := await self._call(client, "POST", f"{address}/api/patient-status", json=body):
            self.events[event["id"]] = claim["id"]


async def never_unready(deployment: Deployment, stopped: asyncio.Event) -> list[dict[str, Any]]:
    """The responses of /health/ready that report a problem of the schema, until stopped."""
    found = []
    while not stopped.is_set():
        parts = await deployment.readiness()
        if parts.get("schema") != "ok":
            found.append(parts)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), 0.1)
    return found


async def test_an_upgrade_under_load_fails_no_request_and_loses_no_job(settings, as_root, cast, next_version):
    old, new = Deployment(ROOT, settings), Deployment(next_version, settings)
    load = Load(cast, old.address)
    stopped = asyncio.Event()
    watch: asyncio.Task[list[dict[str, Any]]] | None = None
    try:
        old.start("app")
        old.start("procrastinate", "worker")
        await until(old.is_ready, 30)
        loading = asyncio.create_task(load.run())
        watch = asyncio.create_task(never_unready(old, stopped))
        await load.wait_for(100)

        status, output = await new.run("app.operations.migrate")
        assert (status, output) == (0, "the schema is applied\n"), output
        assert as_root.execute("select version, compatible_version from schema_admin.state").fetchone() == (
            VERSION + 1,
            VERSION,
        )
        new.start("app")
        new.start("procrastinate", "worker")
        await until(new.is_ready, 30)
        load.targets.append(new.address)
        await load.wait_for(100)  # both versions serve
        load.targets.remove(old.address)
        await load.wait_for(100)
        stopped.set()
        assert await watch == []
        assert (await old.run("app.operations.migrate"))[
            0
        ] == 2  # the old code does not apply its schema over the new one

        # The old process still finds a change by hand.
        as_root.execute("grant delete on app.claims to claims_admin")
        await until(lambda: _is_unready(old), 15)
        as_root.execute("revoke delete on app.claims from claims_admin")
        await until(old.is_ready, 15)
        await old.stop()
        load.stop()
        await loading
        assert load.failed == []
        assert load.sent > 300  # control
        await until(lambda: _all_processed(as_root, load), 30)
        rows = jobs_of(as_root, *load.events)
        assert len(rows) == len(load.events) > 50
        assert {row[1] for row in rows} == {"completed"}
        moves = as_root.execute(
            "select claim_id::text, count(*) from claim_status_history where event_id is not null and claim_id = any (%s) group by 1",
            [list(load.events.values())],
        ).fetchall()
        assert sorted(moves) == sorted((claim, 1) for claim in load.events.values())
    finally:
        load.stop()
        stopped.set()
        await old.stop()
        await new.stop()


async def _is_unready(deployment: Deployment) -> bool:
    return "changed by hand" in (await deployment.readiness()).get("schema", "")


async def _all_processed(as_root: Any, load: Load) -> bool:
    waiting = "select count(*) from procrastinate.procrastinate_jobs where queue_name = 'patient_status' and status in ('todo', 'doing')"
    return bool(as_root.execute(waiting).fetchone() == (0,))


@pytest.fixture
def changed_policies(as_root):
    """The database has other policies of claims than the file."""
    as_root.execute(
        "update schema_admin.state set files = 'of yesterday'; "
        "update schema_admin.applied_files set digest = 'of yesterday' where path = 'sql/policies/claims.sql'"
    )


async def test_the_step_waits_for_a_long_transaction_and_blocks_no_request(
    settings, as_root, as_user, changed_policies
):
    """A lock that waits blocks all requests behind it; so it waits briefly, and is tried again."""
    with psycopg.connect(settings.database_url) as reader:
        reader.execute("select from app.claims")
        step = asyncio.create_task(asyncio.to_thread(migrate.apply, settings))
        waiting = "select 1 from pg_locks where relation = 'app.claims'::regclass and not granted and mode = 'AccessExclusiveLock'"
        await until(is_(lambda: as_root.execute(waiting).fetchone()))  # control: the step needs the lock
        for _ in range(20):
            began = time.monotonic()
            assert (await as_user("alma").get("/api/claims")).status_code == 200
            assert time.monotonic() - began < 1.5
        assert not step.done()
        reader.rollback()
        await step
    assert migrate.check(settings) == []


async def test_a_step_that_gets_no_lock_names_the_transaction_and_can_be_repeated(
    settings, as_root, changed_policies, monkeypatch
):
    monkeypatch.setattr(apply_files, "RETRY_FOR_S", 0.5)
    with psycopg.connect(settings.database_url, application_name="a long report") as reader:
        reader.execute("select from app.claims")
        await until(is_(lambda: as_root.execute("select 1 from pg_stat_activity where xact_start < clock_timestamp() - interval '1 s' "
                                                "and application_name = 'a long report'").fetchone()))  # fmt: skip
        with pytest.raises(UnsafeDatabase, match=r"sql/policies/claims.sql: could not lock .* a long report \(pid \d+"):
            migrate.apply(settings)
        # Processes of the previous version still find the catalog that they expect.
        row = as_root.execute(DIFFERENCES).fetchone()
        assert row[0] == "of yesterday"
        assert row[1]
        assert not row[5]
    migrate.apply(settings)
    assert migrate.check(settings) == []


async def test_a_failed_step_does_not_accept_a_change_by_hand(settings, as_root, changed_policies, monkeypatch):
    monkeypatch.setattr(apply_files, "RETRY_FOR_S", 0.5)
    as_root.execute("grant delete on app.claims to claims_admin")
    with psycopg.connect(settings.database_url) as reader:
        reader.execute("select from app.claims")
        with pytest.raises(UnsafeDatabase):
            migrate.apply(settings)
    assert "changed by hand: grant on table app.claims to claims_admin" in migrate.check(settings)
    migrate.apply(settings)
    assert migrate.check(settings) == []


def test_only_files_that_differ_are_applied(settings, as_root, changed_policies):
    places = "select {key}, ctid::text from {table} order by 1"
    policies = places.format(key="format('%s %s', polrelid::regclass, polname)", table="pg_policy")
    functions = places.format(key="oid::regprocedure::text", table="pg_proc where pronamespace = 'app'::regnamespace")
    triggers = places.format(key="oid::text", table="pg_trigger")
    before = [dict(as_root.execute(text).fetchall()) for text in (policies, functions, triggers)]
    migrate.apply(settings)
    after = [dict(as_root.execute(text).fetchall()) for text in (policies, functions, triggers)]
    assert after[1:] == before[1:]
    changed = {name for name, place in after[0].items() if before[0][name] != place}
    assert changed == {name for name in before[0] if name.startswith(("claims ", "app.claims "))} != set()


@pytest.mark.parametrize(
    ("version", "compatible", "supported"), [(1, 0, True), (1, 1, False), (0, 0, False), (-1, -1, False)]
)
def test_a_process_accepts_a_newer_schema_that_supports_its_version(as_root, version, compatible, supported):
    as_root.execute(
        "update schema_admin.state set files = 'of another version', version = %s, compatible_version = %s",
        [VERSION + version, VERSION + compatible],
    )
    row = as_root.execute(DIFFERENCES).fetchone()
    assert (compare(row) == []) is supported
    assert compare(row, exactly=True) == ["it was applied from other files"]


def test_an_expired_change_no_longer_hides_a_change_by_hand(as_root):
    as_root.execute(
        "grant delete on app.claims to claims_admin; update schema_admin.state set changing_until = now() + '1 minute'"
    )
    assert compare(as_root.execute(DIFFERENCES).fetchone()) == []  # control: a step is changing the catalog
    as_root.execute("update schema_admin.state set changing_until = now() - interval '1 second'")
    assert compare(as_root.execute(DIFFERENCES).fetchone()) == [BY_HAND]
