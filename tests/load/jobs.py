"""`make bench NAME=jobs`: events a second from request to updated claims, and latency from commit to effect.

An event has five claims. The server is durable (fsync on). A latency is between two commits as the database recorded them
(track_commit_timestamp): that of the event and that of its effect. Rates are of the same events through the same database in one
run.
"""

import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from uuid import UUID

import httpx
import psycopg
from procrastinate.schema import SchemaManager

from app.config import Settings
from app.dev.postgres import Embedded
from app.operations import migrate
from tests.load.harness import PASSWORD, environ_for, seed_dataset, served, settings_at

EVENTS = int(os.environ.get("EVENTS", "1000"))
CLAIMS = 5
ORGANIZATIONS, EACH = 100, 8
"""Where the events are of several organizations: their number, and the events of each."""
SECONDS = 15

SEED = """
insert into app.patients (member_number, first_name, last_name, date_of_birth)
select 'E-' || n, 'Pat', 'Event', '1980-01-01' from generate_series(1, %(events)s) as n;
insert into app.claims (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date)
select p.member_number || '-' || n, p.patient_id, %(provider)s, 'E11.9', 10000 + n, '2026-01-05'
from app.patients p, generate_series(1, %(claims)s) as n where p.member_number like 'E-%%'"""

RESET = """
set session_replication_role = replica;
update app.claims set status = 'submitted', status_by = null, status_event_id = null where status <> 'submitted';
delete from app.job_processing_logs; delete from app.patient_status_events; delete from procrastinate.procrastinate_jobs
where queue_name = 'patient_status'; set session_replication_role = default;
vacuum analyze app.claims; vacuum analyze procrastinate.procrastinate_jobs; vacuum analyze procrastinate.procrastinate_events;
vacuum analyze app.job_processing_logs; vacuum analyze app.patient_status_events"""

EVERY = """
insert into app.patient_status_events (patient_id, event_type, occurred_at) select unnest(%s::uuid[]), 'admission', now()"""
ADMIT = "insert into app.patient_status_events (patient_id, event_type, occurred_at) values (%s, 'admission', now())"
UNDONE = "select count(*) from app.job_processing_logs where status <> 'completed'"
LATENCIES = """
select extract(epoch from pg_xact_commit_timestamp(j.xmin) - pg_xact_commit_timestamp(e.xmin)) * 1000
from app.job_processing_logs j join app.patient_status_events e on e.event_id = j.event_id where j.status = 'completed'"""


@dataclass
class Tenant:
    """An organization, its admin, and its patients."""

    organization: UUID
    user: UUID
    patients: list[UUID] = field(default_factory=list)


class Bench:
    """One organization with EVENTS patients of CLAIMS submitted claims each, and ORGANIZATIONS with EACH."""

    def __init__(self, settings: Settings, admin: psycopg.Connection) -> None:
        self.settings, self.admin = settings, admin
        with admin.transaction():
            _patient, provider = seed_dataset(admin)
        self.tenant = Tenant(*admin.execute("select organization_id, user_id from app.users").fetchone())
        self._people(self.tenant, EVENTS, provider)
        self.others = [self._other(f"other-{number}") for number in range(ORGANIZATIONS)]
        admin.execute("analyze")

    def _other(self, name: str) -> Tenant:
        with self.admin.transaction():
            ((organization,),) = self.admin.execute("select auth.add_organization(%s, %s)", [name, name]).fetchall()
            add_user = "select auth.add_user(%s, 'Admin', 'admin', null, null, 'none')"
            ((user,),) = self.admin.execute(add_user, [f"{name}@load.test"]).fetchall()
        tenant = Tenant(organization, user)
        add_provider = "insert into app.providers (npi, name) values ('1234567893', 'Provider') returning provider_id"
        ((provider,),) = self.act(self.admin, lambda c: c.execute(add_provider).fetchall(), tenant)
        self._people(tenant, EACH, provider)
        return tenant

    def _people(self, tenant: Tenant, many: int, provider: UUID) -> None:
        given = {"events": many, "claims": CLAIMS, "provider": provider}
        self.act(self.admin, lambda c: [c.execute(one, given) for one in SEED.split(";")], tenant)
        found = "select patient_id from app.patients where member_number like 'E-%%' and organization_id = %s"
        tenant.patients = [one for (one,) in self.admin.execute(found, [tenant.organization])]

    def act(self, connection: psycopg.Connection, do, tenant: Tenant | None = None):
        """Calls `do` in one transaction as the organization's admin, and returns its result."""
        who = tenant or self.tenant
        with connection.transaction():
            enter = "select set_config('role', context.begin_request(%s, %s, null, 'bench', '', 'sql', false), true)"
            connection.execute("reset role")
            connection.execute(enter, [who.organization, who.user])
            return do(connection)

    def reset(self) -> None:
        for statement in RESET.split(";"):
            self.admin.execute(statement)

    @contextmanager
    def workers(self, count: int, *without: str) -> Iterator[None]:
        """Worker processes, yielded once all of them have registered."""
        environ = environ_for(self.settings)
        self.admin.execute("delete from procrastinate.procrastinate_workers")
        command = [sys.executable, "-m", "tests.load.job_worker", *without]
        processes = [
            subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(count)
        ]
        try:
            self.await_("select count(*) from procrastinate.procrastinate_workers", count)
            yield
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(30)

    def await_(self, count: str, wanted: int, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while self.admin.execute(count).fetchone()[0] != wanted:
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.01)

    def drained(self, count: int, *without: str, of_many: bool = False) -> float:
        """Events a second for workers with all jobs in the queue. of_many: an organization's jobs after another's."""
        self.reset()
        waiting = [(self.tenant, self.tenant.patients)]
        if of_many:
            waiting = [(one, [one.patients[number]]) for number in range(EACH) for one in self.others]
        # Locked until the workers are up, so that no start of a process is measured.
        with psycopg.connect(self.settings.database_url) as other, self.workers(count, *without):
            with other.transaction():
                for tenant, patients in waiting:
                    self.act(other, lambda c: c.execute(EVERY, [patients]), tenant)  # noqa: B023
            started = time.perf_counter()
            self.await_(UNDONE, 0)
            return sum(len(patients) for _, patients in waiting) / (time.perf_counter() - started)

    def as_procrastinate_fetches(self) -> None:
        """Replaces our function by Procrastinate's own, with its index."""
        self.admin.execute("set search_path = procrastinate")
        for one in (
            r"FUNCTION procrastinate_fetch_job_v2\(.*?\n\$\$;",
            r"INDEX procrastinate_jobs_id_lock_idx_v1 .*?;",
        ):
            theirs = re.search("CREATE " + one, SchemaManager.get_schema(), re.DOTALL)[0]
            self.admin.execute(theirs.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION").encode())
        self.admin.execute("reset search_path")
        # Otherwise no worker would start.
        self.admin.execute("update schema_admin.state set catalog = schema_admin.fingerprint()")

    def latencies(self, rate: float, seconds: float) -> list[float]:
        """Milliseconds from commit to effect, with events at a constant rate; at most EVENTS of them."""
        with psycopg.connect(self.settings.database_url, autocommit=True) as source:
            began = time.perf_counter()
            for number, patient in enumerate(islice(cycle(self.tenant.patients), min(EVENTS, int(rate * seconds)))):
                time.sleep(max(0.0, began + number / rate - time.perf_counter()))
                self.act(source, lambda c: c.execute(ADMIT, [patient]))  # noqa: B023
        self.await_(UNDONE, 0)
        return sorted(float(one) for (one,) in self.admin.execute(LATENCIES))

    def posted(self, count: int) -> tuple[float, float]:
        """Events a second through the API: until accepted, and until the last claim is updated."""
        self.reset()
        with self.workers(count), served(self.settings) as (address, _):
            started = time.perf_counter()
            asyncio.run(self._post(address))
            accepted = time.perf_counter() - started
            self.await_(UNDONE, 0)
            return EVENTS / accepted, EVENTS / (time.perf_counter() - started)

    async def _post(self, address: str) -> None:
        async with httpx.AsyncClient(base_url=address) as client:
            login = await client.post("/api/auth/login", json={"email": "admin@load.test", "password": PASSWORD})
            client.headers["Authorization"] = f"Bearer {login.json()['data']['accessToken']}"
            left = iter(self.tenant.patients)

            async def one_after_another() -> None:
                for patient in left:
                    event = {"patientId": str(patient), "eventType": "admission", "occurredAt": "2026-11-20T10:00:00Z"}
                    answer = await client.post("/api/patient-status", json=event)
                    assert answer.status_code == 202, answer.text

            await asyncio.gather(*(one_after_another() for _ in range(16)))


def said(latencies: list[float]) -> str:
    cut = statistics.quantiles(latencies, n=100)
    return f"p50 {cut[49]:.1f} ms, p99 {cut[98]:.1f} ms, worst {latencies[-1]:.1f} ms (of {len(latencies)})"


@contextmanager
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="claims-load-") as folder:
        Path(folder).chmod(0o711)
        server = Embedded(Path(folder) / "postgres", durable=True).start()
        try:
            url = server.url()
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute("alter system set track_commit_timestamp = on")
            server.stop()
            server.start()
            settings = settings_at(url)
            migrate.apply(settings)
            with psycopg.connect(url, autocommit=True) as admin:
                yield Bench(settings, admin)
        finally:
            server.stop("immediate")


def main() -> None:
    """Prints the figures."""
    with bench() as here:
        print(
            f"{EVENTS} events of {CLAIMS} claims each; two cores are shared by database, workers and source of events"
        )
        here.drained(1)  # warm-up
        rates = {count: here.drained(count) for count in (1, 2)}
        for count, rate in rates.items():
            print(
                f"waiting already, {count} worker process(es): {rate:7.0f} events/s, {rate * CLAIMS:7.0f} claims/s moved"
            )
        for count in (1, 2):
            accepted, moved = here.posted(count)
            print(
                f"posted over HTTP, {count} worker process(es): {accepted:7.0f} posted/s, {moved:7.0f} events/s until moved"
            )
        for name, rate in (("idle, 10 events/s", 10.0), ("half load", rates[1] / 2)):
            here.reset()
            with here.workers(1):
                print(f"commit to effect, {name} ({rate:.0f} events/s): {said(here.latencies(rate, SECONDS))}")
        print("one worker, without one of its parts, against the whole:")
        whole = statistics.median(here.drained(1) for _ in range(3))
        for part, what in (
            ("more", "taking along what waits already"),
            ("pool", "own pool (no check, no BEGIN and COMMIT)"),
        ):
            rate = statistics.median(here.drained(1, part) for _ in range(3))
            print(f"    {what}: x{whole / rate:.2f} ({whole:.0f} to {rate:.0f} events/s)")
        of_many = {part: here.drained(1, *part, of_many=True) for part in ((), ("more",))}
        print(
            f"one worker, {EACH} events each of {ORGANIZATIONS} organizations: {of_many[()]:.0f} events/s, "
            f"without taking along {of_many[('more',)]:.0f}"
        )
        ours = here.drained(1, "more")
        here.as_procrastinate_fetches()
        theirs = here.drained(1, "more")
        print(
            f"one event a job, our fetch against Procrastinate's: x{ours / theirs:.2f} ({theirs:.0f} to {ours:.0f} events/s)"
        )


if __name__ == "__main__":
    main()
