"""The data set of the benchmarks: a server of their own with the rows of dataset.sql, kept in BENCH_DIR if that is set.

It is built without durability and with indexes created last. It runs with PostgreSQL's own settings, except for the memory.
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
from app.database.schema_files import MIGRATIONS
from app.dev.postgres import Embedded
from app.operations import migrate
from tests.load.baseline import ACTING
from tests.load.harness import settings_at

DATA = Path(__file__).with_name("dataset.sql")
MEMORY = {5_000_000: "4GB", 50_000: "2GB", 0: "128MB"}
"""shared_buffers by the least number of claims."""
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
class Dataset:
    """A server with the data set."""

    settings: Settings
    server: Embedded
    claims: int
    built: dict[str, Any]

    @property
    def url(self) -> str:
        """An administrator's URL."""
        return self.server.url()

    @property
    def postmaster(self) -> int:
        """The process id of the server, the parent of all its other processes."""
        return int((self.server.data / "postmaster.pid").read_text().split()[0])


def claim_count() -> int:
    """The number of claims in the data set."""
    return int(os.environ.get("CLAIMS", "1000000"))


@contextmanager
def dataset(claims: int) -> Iterator[Dataset]:
    """The server with the data set, which exists already or is built now."""
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
                yield Dataset(settings, server, claims, json.loads(ready.read_text()))
                tidy(admin)
        finally:
            server.stop()


@contextmanager
def _folder(claims: int) -> Iterator[Path]:
    """The folder for the data set of these files, or a temporary one."""
    if kept := os.environ.get("BENCH_DIR"):
        # Functions and policies are replaced at every start; only what defines the rows is part of the key.
        made_from = [DATA, *sorted(MIGRATIONS.glob("*.sql"))]
        key = hashlib.sha256(b"".join(path.read_bytes() for path in made_from)).hexdigest()[:12]
        folder = Path(kept) / f"claims-{claims}-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Two runs would stop each other's server.
                raise SystemExit(f"bench: another run uses {folder}") from None
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="claims-bench-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _build(folder: Path, claims: int) -> dict[str, Any]:
    """Builds the data set. Returns the seconds of each phase, and the size."""
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
        with timed(took, "base"):
            _run(server, claims, phases["base"])
        for name in ("claims", "history"):
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
            # No job is measured, and readiness requires a live worker.
            admin.execute("insert into procrastinate.procrastinate_workers (last_heartbeat) values ('infinity')")
        _configure(server, memory, reset=True)
    finally:
        server.stop()
    return {"seconds": {name: round(one, 1) for name, one in took.items()}, "size": size}


def _configure(server: Embedded, settings: dict[str, str], *, reset: bool = False) -> None:
    """Restarts the server with these settings. reset: and with no others."""
    with psycopg.connect(server.url(), autocommit=True) as admin:
        if reset:
            admin.execute("alter system reset all")
        for name, value in settings.items():
            admin.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), value))
    server.stop()
    server.start()


def _run(server: Embedded, claims: int, script: str, part: int = 0) -> None:
    with psycopg.connect(server.url(), autocommit=True) as admin:
        # No trigger runs: their rows are inserted too.
        admin.execute("set search_path = app; set session_replication_role = replica")
        admin.execute(f"set bench.claims = {claims}; set bench.part = {part}")
        admin.execute(script.encode())


def _indexes(server: Embedded) -> list[str]:
    """The statements for the indexes that the data set's script dropped, and for their constraints."""
    with psycopg.connect(server.url()) as admin:
        later = admin.execute(
            "select definition, on_table, constraint_name, constraint_kind from bench.later order by on_table <> 'app.claims', name"
        )
        return [
            f"{definition}; alter table {table} add constraint {name} {kind} using index {name}" if name else definition
            for definition, table, name, kind in later
        ]


def both(work: list[Callable[[], None]]) -> None:
    """Runs all functions, two at a time."""
    with ThreadPoolExecutor(2) as hands:
        for done in [hands.submit(one) for one in work]:
            done.result()


@contextmanager
def timed(took: dict[str, float], name: str) -> Iterator[None]:
    """Records the seconds of a phase."""
    started = time.perf_counter()
    yield
    took[name] = time.perf_counter() - started
    print(f"built {name}: {took[name]:.1f} s", flush=True)


def warm(admin: psycopg.Connection[Any]) -> None:
    """Reads claims and related rows into memory, as on a server that has run for a while."""
    admin.execute("create extension if not exists pg_prewarm")
    admin.execute(
        "select sum(pg_prewarm(c.oid::regclass)) from pg_class c "
        "where c.relnamespace in ('app'::regnamespace, 'auth'::regnamespace) and c.relkind in ('r', 'i')"
    )


def tidy(admin: psycopg.Connection[Any]) -> None:
    """Deletes the rows that runs added, also those of a killed run, so that a kept data set stays the same.

    Updated claims stay updated.
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
