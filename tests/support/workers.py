"""Workers as real processes, patients and claims in numbers, and faults injected where a job has its effect."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from app.config import Settings
from tests.support.cast import Cast
from tests.support.clients import As, until

_numbers = count(1)

FAULTS = """
set search_path = public;
create table faults (patient_id uuid, what text);
create function fault() returns trigger language plpgsql security definer set search_path = public, pg_catalog as $$
declare
    said text := (select what from faults f where f.patient_id = new.patient_id);
begin
    case
        when said is null then null;
        when said = 'lock' then perform pg_advisory_xact_lock_shared(hashtext(new.patient_id::text));
        when said = 'sleep' then perform pg_sleep(30);
        when said = 'pause' then perform pg_sleep(1);
        when said = 'end' then perform pg_terminate_backend(pg_backend_pid());
        else raise exception using errcode = said, message = 'of ' || new.patient_id, detail = new.event_id;
    end case;
    return new;
end $$;
create trigger zz_fault before update on app.job_processing_logs for each row when (new.status = 'completed')
    execute function fault();
update schema_admin.state set catalog = schema_admin.fingerprint();
set search_path = app, procrastinate
"""
"""Faults for the effects of the patients in `faults`.

An error of this SQLSTATE, a lock that the test holds, a statement without end, or the end of the effect's own backend. The fault
is the effect's last step, so everything before it must be rolled back.
"""

JOBS = """
select j.event_id, j.status, j.attempts, j.error, j.result, q.status, q.attempts
from job_processing_logs j
left join procrastinate.procrastinate_jobs q on q.args ->> 'event_id' = j.event_id::text
where j.event_id = any (%s) order by j.event_id, q.id
"""


def jobs_of(as_root: psycopg.Connection[Any], *events: Any) -> list[Any]:
    """(event, log's status, attempts, error, result, queue's status, its attempts).

    In order of the events; one row for each time that a job was queued.
    """
    return as_root.execute(JOBS, [[UUID(str(event)) for event in events]]).fetchall()


class Workers:
    """Worker processes over a database. Those that still run at the end must exit with 0 after SIGTERM."""

    def __init__(self, settings: Settings) -> None:
        self._environ = os.environ | {
            "WORKER_DATABASE_URL": settings.worker_database_url or "",
            "PROCRASTINATE_APP": "jobs.app",
        }
        self._started: list[tuple[subprocess.Popen[bytes], Any]] = []

    def start(self, module: str = "procrastinate", **environ: str) -> subprocess.Popen[bytes]:
        """Starts one worker. `until(listening(...))` waits until it waits for jobs."""
        output = tempfile.NamedTemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-m", module, "worker"]
        process = subprocess.Popen(command, env=self._environ | environ, stdout=output, stderr=subprocess.STDOUT)
        self._started.append((process, output))
        return process

    def output(self, process: subprocess.Popen[bytes]) -> str:
        """The worker's output so far."""
        output = next(file for one, file in self._started if one is process)
        return Path(output.name).read_text()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *failed: object) -> None:
        running = [process for process, _ in self._started if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        codes = [process.wait(20) for process in running]
        said = [self.output(process) for process, _ in self._started]
        if failed[0]:
            print(*said, sep="\n----\n")
        assert codes == [0] * len(codes), "\n----\n".join(said)
        for _, output in self._started:
            output.close()


def listening(as_root: psycopg.Connection[Any], workers: int = 1) -> Callable[[], Any]:
    """A condition: this number of workers wait for jobs."""

    async def condition() -> bool:
        text = "select count(*) from pg_stat_activity where datname = current_database() and query like 'LISTEN%%'"
        return as_root.execute(text).fetchone() == (workers,)

    return condition


def blocked(as_root: psycopg.Connection[Any], backends: int, query: str = "%process_batch%") -> Callable[[], Any]:
    """A condition: this number of workers' statements like the query wait for a lock. Returns their backends."""

    async def condition() -> list[int]:
        found = as_root.execute(
            "select pid from pg_stat_activity where datname = current_database() and usename = 'claims_worker' "
            "and wait_event_type = 'Lock' and query like %s",
            [query],
        ).fetchall()
        return [pid for (pid,) in found] if len(found) == backends else []

    return condition


OVER = ("succeeded", "failed", "aborted", "cancelled", None)


def ended(
    as_root: psycopg.Connection[Any], events: list[Any], *states: str, queue: tuple[str | None, ...] = OVER
) -> Callable[[], Any]:
    """A condition: the jobs of these events are in one of the states, and of the queue's. Returns their rows."""
    states = states or ("completed", "failed")

    async def condition() -> list[Any]:
        rows = jobs_of(as_root, *events)
        over = all(row[1] in states and row[5] in queue for row in rows)
        return rows if rows and over else []

    return condition


def run(connection: psycopg.Connection[Any], who: Cast, event: Any, more: int = 0) -> tuple[str, int]:
    """Runs a worker's statement, in a transaction that stays open."""
    connection.execute("select set_config('role', context.begin_job(%s, %s), true)", [who.organization, event])
    row = connection.execute("select status, along from app.process_batch(%s, %s)", [event, more]).fetchone()
    assert row
    return row


def as_worker(settings: Settings) -> psycopg.Connection[Any]:
    """A connection with the worker's login."""
    return psycopg.connect(settings.worker_database_url or "")


class World:
    """Patients with a claim each, and their events, as an admin reports them."""

    def __init__(self, admin: As, who: Cast) -> None:
        self.admin = admin
        self.who = who

    async def _create(self, path: str, body: dict[str, Any]) -> str:
        answer = await self.admin.post(path, body)
        assert answer.is_success, answer.text
        return str(answer.json()["data"]["id"])

    async def patient(self, **more: Any) -> str:
        """A new patient."""
        number = f"W-{next(_numbers)}"
        body = {"memberNumber": number, "firstName": "Wil", "lastName": "World", "dateOfBirth": "1990-01-01"}
        return await self._create("/api/patients", body | more)

    async def claim(self, patient: str, **more: Any) -> str:
        """A submitted claim of the patient."""
        body = {"patientId": patient, "providerId": str(self.who.ana_provider), "diagnosisCode": "I10"}
        return await self._create("/api/claims", body | {"amount": 10, "serviceDate": "2026-11-10"} | more)

    async def event(self, patient: str, kind: str = "admission", at: str = "2026-11-10T10:00:00Z", **more: Any) -> str:
        """An event of the patient."""
        body = {"patientId": patient, "eventType": kind, "occurredAt": at} | more
        return await self._create("/api/patient-status", body)

    async def admitted(self, people: int) -> list[tuple[str, str, str]]:
        """New patients, each with a claim and an admission: (patient, claim, event)."""

        async def one() -> tuple[str, str, str]:
            patient = await self.patient()
            return patient, await self.claim(patient), await self.event(patient)

        return [await one() for _ in range(people)]

    async def moves(self, claim: str) -> list[tuple[str, str | None]]:
        """(status, event) of every entry of the claim's history."""
        data = (await self.admin.get(f"/api/claims/{claim}")).json()["data"]
        return [(one["to"], one["eventId"]) for one in data["statusHistory"]]


class Stay(World):
    """A patient's events in the order in which they are reported, each with its job run at once."""

    def __init__(self, admin: As, who, settings, as_root) -> None:
        super().__init__(admin, who)
        self._settings, self._as_root = settings, as_root

    async def report(self, patient: str, kind: str, at: str, **more):
        """The result of the event's job: the updated claims, and the skipped ones with their reasons."""
        event = await self.event(patient, kind, at if "T" in at else f"{at}T12:00:00Z", **more)
        with as_worker(self._settings) as worker:
            assert run(worker, self.who, event) == ("completed", 0)
        text = "select result from job_processing_logs where event_id = %s"
        ((result,),) = self._as_root.execute(text, [event]).fetchall()
        assert result["failed"] == []
        return set(result["updated"]), {one["id"]: one["reason"] for one in result["skipped"]}

    async def status(self, claim: str) -> str:
        return (await self.moves(claim))[-1][0]


async def all_until(*conditions: Any) -> list[Any]:
    """Waits until all conditions are true."""
    return list(await asyncio.gather(*(until(condition) for condition in conditions)))
