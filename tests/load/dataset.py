"""What the benchmarks run on: a server of their own with the data set of dataset.sql, built once where BENCH_DIR says where to keep it.

It is built without any care for a crash and with indexes made last; it is served with PostgreSQL's own settings but for the memory.
"""

import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from app.config import Settings
from app.dev.postgres import Embedded
from app.operations import migrate
from tests.load.baseline import ACTING
from tests.load.harness import settings_at

DATA = Path(__file__).with_name("dataset.sql")
MEMORY = {5_000_000: "4GB", 50_000: "2GB", 0: "128MB"}
"""shared_buffers, from so many claims on."""
BUILDING = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "60GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "maintenance_work_mem": "1GB",
    "max_parallel_maintenance_workers": "0",
    "work_mem": "256MB",
}


@dataclass
class Ground:
    """A server with the data set, and where it is."""

    settings: Settings
    server: Embedded
    claims: int
    built: dict[str, Any]

    @property
    def url(self) -> str:
        """An administrator's."""
        return self.server.url()

    @property
    def postmaster(self) -> int:
        """The process id of the server, whose children all its other processes are."""
        return int((self.server.data / "postmaster.pid").read_text().split()[0])


def claims_asked() -> int:
    """How many claims the data set shall have."""
    return int(os.environ.get("CLAIMS", "1000000"))


@contextmanager
def ground(claims: int) -> Iterator[Ground]:
    """The server, with a data set that is there already or is built now."""
    with _folder(claims) as folder:
        server = Embedded(folder / "postgres")
        ready = folder / "ready.json"
        if not ready.exists():
            ready.write_text(json.dumps(_build(folder, claims)))
        try:
            settings = settings_at(server.start().url())
            migrate.apply(settings)
            with psycopg.connect(server.url(), autocommit=True) as admin:
                tidy(admin)
                warm(admin)
                yield Ground(settings, server, claims, json.loads(ready.read_text()))
                tidy(admin)
        finally:
            server.stop()


@contextmanager
def _folder(claims: int) -> Iterator[Path]:
    """Where the data set of these files is, or a temporary place."""
    if kept := os.environ.get("BENCH_DIR"):
        # Functions and policies are made anew at every start; what the rows stand in decides.
        made_from = [DATA, *sorted(migrate.MIGRATIONS.glob("*.sql"))]
        key = hashlib.sha256(b"".join(path.read_bytes() for path in made_from)).hexdigest()[:12]
        folder = Path(kept) / f"claims-{claims}-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Two would end each other's server.
                raise SystemExit(f"bench: another run uses {folder}") from None
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="claims-bench-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _build(folder: Path, claims: int) -> dict[str, Any]:
    """Builds the data set there; how long each phase took, and how large it is."""
    took: dict[str, float] = {}
    memory = {"shared_buffers": next(size for least, size in MEMORY.items() if claims >= least)}
    server = Embedded(folder / "postgres", durable=False).start()
    try:
        _configure(server, memory | BUILDING)
        migrate.apply(settings_at(server.url()))
        phases = dict(
            re.findall(r"^-- phase: (\w+)\n(.*?)(?=^-- phase: |\Z)", DATA.read_text(), re.MULTILINE | re.DOTALL)
        )
        tables = ["claims", "claim_status_history", "audit_logs", "patients, users, providers, care_relationships"]
        with timed(took, "ground"):
            _run(server, claims, phases["ground"])
        for name in ("claims", "trail"):
            with timed(took, name):
                both([lambda part=part, name=name: _run(server, claims, phases[name], part) for part in (0, 1)])  # type: ignore[misc]
        with timed(took, "indexes"):
            both([lambda index=index: _run(server, claims, index) for index in _indexes(server)])  # type: ignore[misc]
        with timed(took, "vacuum"):
            both([lambda table=table: _run(server, claims, f"vacuum (analyze) {table}") for table in tables])  # type: ignore[misc]
        with timed(took, "counts"):
            _run(server, claims, phases["counts"] + "\nselect 1")
            _run(server, claims, "vacuum (analyze)")
        with psycopg.connect(server.url()) as admin:
            (size,) = admin.execute("select pg_database_size(current_database())").fetchone() or (0,)
            # No job is measured here, and readiness wants a worker that lives.
            admin.execute("insert into procrastinate.procrastinate_workers (last_heartbeat) values ('infinity')")
        _configure(server, memory, reset=True)
    finally:
        server.stop()
    return {"seconds": {name: round(one, 1) for name, one in took.items()}, "size": size}


def _configure(server: Embedded, settings: dict[str, str], *, reset: bool = False) -> None:
    """Restarts the server with these settings; reset: and no other."""
    with psycopg.connect(server.url(), autocommit=True) as admin:
        if reset:
            admin.execute("alter system reset all")
        for name, value in settings.items():
            admin.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), value))
    server.stop()
    server.start()


def _run(server: Embedded, claims: int, script: str, part: int = 0) -> None:
    with psycopg.connect(server.url(), autocommit=True) as admin:
        # No trigger runs: what they would have written is planted too.
        admin.execute("set search_path = app; set session_replication_role = replica")
        admin.execute(f"set bench.claims = {claims}; set bench.part = {part}")
        admin.execute(script.encode())


def _indexes(server: Embedded) -> list[str]:
    """What makes each index that the data set's script dropped, and the constraint that it stands for."""
    with psycopg.connect(server.url()) as admin:
        later = admin.execute(
            "select definition, on_table, constraint_name, constraint_kind from bench.later order by on_table <> 'app.claims', name"
        )
        return [
            f"{definition}; alter table {table} add constraint {name} {kind} using index {name}" if name else definition
            for definition, table, name, kind in later
        ]


def both(work: list[Callable[[], None]]) -> None:
    """Does everything, two at a time."""
    with ThreadPoolExecutor(2) as hands:
        for done in [hands.submit(one) for one in work]:
            done.result()


@contextmanager
def timed(took: dict[str, float], name: str) -> Iterator[None]:
    """Notes the seconds that it took."""
    started = time.perf_counter()
    yield
    took[name] = time.perf_counter() - started
    print(f"built {name}: {took[name]:.1f} s", flush=True)


def warm(admin: psycopg.Connection[Any]) -> None:
    """Reads the claims and what belongs to them into memory, as a server that has run for a while has them."""
    admin.execute("create extension if not exists pg_prewarm")
    admin.execute(
        "select sum(pg_prewarm(c.oid::regclass)) from pg_class c "
        "where c.relnamespace in ('app'::regnamespace, 'auth'::regnamespace) and c.relkind in ('r', 'i')"
    )


def tidy(admin: psycopg.Connection[Any]) -> None:
    """Takes away what runs added, this one or one that was killed, so that a data set that is kept stays the same.

    Moved claims stay moved.
    """
    for role in ACTING:
        admin.execute(f"alter role {role} nobypassrls")
    admin.execute("set session_replication_role = replica")
    added = [
        admin.execute(
            f"delete from app.{table} where {at} > (select since + interval '730 days' from bench.plan)"
        ).rowcount
        for table, at in (("claims", "created_at"), ("claim_status_history", "at"), ("audit_logs", "at"))
    ]
    admin.execute("truncate app.claim_total_changes")
    admin.execute("reset session_replication_role")
    if any(added):
        admin.execute("vacuum (analyze) app.claims, app.claim_status_history, app.audit_logs")
