"""The deployment of `make chaos`: a durable server, one API, two workers, their supervision and their faults."""

import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg

from app.config import Settings
from app.dev.postgres import Embedded
from app.operations import migrate
from app.security.passwords import hash_password
from app.server.supervisor import Child
from tests.load.clients import Tenant
from tests.load.faults import MOMENTS, Fault
from tests.load.harness import PASSWORD, environ_for, settings_at

READY_LIMIT, TRIED, STOPPED = 30.0, 5.0, 10.0
"""Seconds: until the API is ready; that a fault waits for a target; that processes have for a graceful stop."""


class Process(Child):
    """A process that faults may kill or freeze, and that is restarted. Its output is written to a file."""

    def __init__(self, name: str, arguments: list[str], environ: dict[str, str], log: Path) -> None:
        super().__init__(name, arguments, environ)
        self._command = ["/bin/sh", "-c", 'exec "$@" >> "$0" 2>&1', str(log), *self._command]
        self._thaws = 0.0
        self.starts = 0

    def ensure_running(self) -> None:
        if self._thaws and time.monotonic() >= self._thaws:
            self.thaw()
        before = self._process
        super().ensure_running()
        if self._process not in (None, before):
            self.starts += 1
            self._thaws = 0.0

    def fail(self, number: signal.Signals) -> bool:
        """Sends the signal. Returns whether the process was running."""
        if self.has_ended():
            return False
        self.signal(number)
        return True

    def freeze(self, seconds: float) -> bool:
        if self._thaws or not self.fail(signal.SIGSTOP):
            return False
        self._thaws = time.monotonic() + seconds
        return True

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)
        self._thaws = 0.0


class Deployment:
    """The processes, their faults and their restarts. Used by one thread, because the processes end with it."""

    def __init__(self, server: Embedded, settings: Settings, tenants: list[Tenant], folder: Path) -> None:
        self.server, self.settings, self.tenants = server, settings, tenants
        environ = environ_for(settings)
        self.address = f"http://127.0.0.1:{environ['PORT']}"
        self.api = Process("the API", ["app"], environ, folder / "api.log")
        self.workers = [
            Process(f"worker {number}", ["procrastinate", "worker"], environ, folder / f"worker-{number}.log")
            for number in (1, 2)
        ]
        self.processes = [self.api, *self.workers]
        self.hits: Counter[str] = Counter()
        self.missed = 0
        self._up_at = 0.0

    def ensure_running(self) -> None:
        """One step of supervision, to be called repeatedly."""
        if self._up_at and time.monotonic() >= self._up_at:
            self.server.start()
            self._up_at = 0.0
        for process in self.processes:
            process.ensure_running()
        time.sleep(0.02)

    def keep_until(self, at: float) -> None:
        while time.monotonic() < at:
            self.ensure_running()

    def await_ready(self) -> None:
        limit = time.monotonic() + READY_LIMIT
        while not self._is_ready():
            assert time.monotonic() < limit, "the API did not become ready"
            self.ensure_running()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/health/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def act(self, fault: Fault) -> None:
        """Executes the fault as soon as it has a target, and counts it.

        Without a target for TRIED seconds it is counted as missed.
        """
        limit = time.monotonic() + TRIED
        while not (hit := self._act(fault)) and time.monotonic() < limit:
            self.ensure_running()
        if hit:
            self.hits[fault.kind] += 1
        else:
            self.missed += 1
        print(f"{fault.at:7.1f} s  {fault.kind} {fault.moment}{'' if hit else ', missed'}", flush=True)

    def _act(self, fault: Fault) -> bool:
        holder = None if fault.moment == MOMENTS[0] else self._block_work()
        hit = self._fail(fault)
        if hit and fault.moment == MOMENTS[2]:
            self._terminate(AT_WORK, fault.which, 100)
        if holder:
            holder.close()
        return hit

    def _fail(self, fault: Fault) -> bool:
        worker = self.workers[fault.which % len(self.workers)]
        match fault.kind:
            case "kill worker":
                return worker.fail(signal.SIGKILL)
            case "stop worker":
                return worker.fail(signal.SIGTERM)
            case "freeze worker":
                return worker.freeze(fault.lasts)
            case "kill API":
                return self.api.fail(signal.SIGKILL)
            case "end backends":
                return self._terminate(BACKENDS, fault.which, 1 + fault.which % 5)
            case "cut listener":
                return self._terminate(LISTENERS, fault.which, 1)
            case _:
                return self._crash(fault.lasts)

    def _block_work(self) -> psycopg.Connection[Any] | None:
        """A connection whose lock blocks several jobs in the middle of their effects, after a second at most.

        None without a database.
        """
        limit = time.monotonic() + 1.0
        with ExitStack() as stack, suppress(psycopg.OperationalError):
            holder = self.admin()
            stack.callback(holder.close)
            holder.execute(HOLD)
            while len(holder.execute(AT_WORK).fetchall()) < 4 and time.monotonic() < limit:
                self.ensure_running()
            stack.pop_all()
            return holder
        return None

    def _terminate(self, which: str, seed: int, count: int) -> bool:
        """Terminates some of the backends that the query finds."""
        try:
            with self.admin() as connection:
                pids = [pid for (pid,) in connection.execute(which)]
                chosen = random.Random(seed).sample(pids, min(count, len(pids)))
                connection.execute("select pg_terminate_backend(pid) from unnest(%s::integer[]) as pid", [chosen])
        except psycopg.OperationalError:
            return False
        return bool(chosen)

    def _crash(self, seconds: float) -> bool:
        if self._up_at:
            return False
        self.server.stop("immediate")
        self._up_at = time.monotonic() + seconds
        return True

    def admin(self) -> psycopg.Connection[Any]:
        """An administrator's connection."""
        assert self.settings.database_url
        return psycopg.connect(self.settings.database_url, autocommit=True)

    def recover(self) -> None:
        """Restarts the server and resumes frozen workers."""
        self._up_at = 0.0
        self.server.start()
        for worker in self.workers:
            worker.thaw()

    def drained(self) -> bool:
        """Whether every event's job has ended, and the queue is empty."""
        try:
            with self.admin() as connection:
                return connection.execute(DRAINED).fetchone() == (True,)
        except psycopg.OperationalError:
            return False

    def stop(self) -> None:
        """Stops API and workers gracefully. The server stays."""
        for number, seconds in ((signal.SIGTERM, STOPPED), (signal.SIGKILL, 5.0)):
            for process in self.processes:
                process.thaw()
                process.signal(number)
            limit = time.monotonic() + seconds
            while not all(process.has_ended() for process in self.processes) and time.monotonic() < limit:
                time.sleep(0.02)


BACKENDS = "select pid from pg_stat_activity where usename in ('claims_api', 'claims_worker') order by pid"
HOLD = "begin; set local lock_timeout = '1s'; lock table app.claim_status_history in exclusive mode"
AT_WORK = "select pid from pg_stat_activity where usename = 'claims_worker' and wait_event_type = 'Lock' order by pid"
LISTENERS = """
select pid from pg_stat_activity where usename = 'claims_worker' and (query ilike 'listen %' or query = 'SELECT 1') order by pid"""
DRAINED = """
select not exists (select from app.job_processing_logs where status not in ('completed', 'failed'))
   and not exists (select from procrastinate.procrastinate_jobs
                   where queue_name = 'patient_status' and status in ('todo', 'doing'))"""


@contextmanager
def deployed(*, durable: bool = True, folder: Path | None = None) -> Iterator[Deployment]:
    """A server with two organizations, a ready API and two workers. folder: is kept, with the data and the logs."""
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="claims-chaos-")))
            folder.chmod(0o711)
        server = Embedded(folder / "postgres", durable=durable).start()
        stack.callback(server.stop, "immediate")
        url = server.url()
        settings = settings_at(url)
        migrate.apply(settings)
        with psycopg.connect(url) as connection:
            tenants = [_seed(connection, slug) for slug in ("chaos-east", "chaos-west")]
        deployment = Deployment(server, settings, tenants, folder)
        stack.callback(deployment.stop)
        deployment.await_ready()
        yield deployment


def _seed(connection: psycopg.Connection[Any], slug: str) -> Tenant:
    """An organization with an admin and a provider who treats all of its patients."""

    def one(statement: str, *given: Any) -> Any:
        return connection.execute(statement, given).fetchone()[0]

    organization = one("select auth.add_organization(%s, %s)", slug, slug.title())
    connection.execute("update app.organizations set auto_approve_limit_cents = 100000 where slug = %s", [slug])
    add_user = "select auth.add_user(%s, %s, %s, %s, null, %s)"
    admin = one(add_user, f"admin@{slug}.test", "Admin", "admin", None, hash_password(PASSWORD))
    begin = "select set_config('role', context.begin_request(%s, %s, null, 'chaos', '', 'sql', false), true)"
    connection.execute("set local search_path = app")
    one(begin, organization, admin)
    provider = one("insert into providers (npi, name) values ('1234567893', 'Provider') returning provider_id")
    connection.execute("reset role")
    user = one(add_user, f"provider@{slug}.test", "Provider", "provider", provider, hash_password(PASSWORD))
    one(begin, organization, user)
    connection.execute(
        "insert into patients (member_number, first_name, last_name, date_of_birth) "
        "select 'M-' || number, 'Pat', 'Chaos', '1980-01-01' from generate_series(1, 6) as number"
    )
    patients = [patient for (patient,) in connection.execute("select patient_id from patients order by member_number")]
    connection.execute("reset role")
    logins = [f"admin@{slug}.test", f"provider@{slug}.test"]
    return Tenant(str(organization), logins, str(provider), [str(patient) for patient in patients])
