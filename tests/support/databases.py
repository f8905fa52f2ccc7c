"""Servers and databases of the tests."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.config import Settings
from app.dev.postgres import Embedded
from app.operations import migrate, reference_data
from tests.support.cast import KEYS, seed_cast

FEW_CODES = """
update schema_admin.diagnosis_releases set codes = (
    select string_agg(line, e'\n') from string_to_table(codes, e'\n') as line where line ~ '^(A0|B20|E0|E1|E88|I1|R99|U07|W0)')"""
"""Makes the shipped release small."""


@contextmanager
def container_server() -> Iterator[str]:
    """An administrator's URL of a server in Docker, which is removed afterwards."""
    from testcontainers.community.postgres import PostgresContainer

    try:
        container = PostgresContainer("postgres:18", driver=None).start()
    except Exception as error:
        pytest.exit(f"TEST_DATABASE=testcontainers: no Docker engine responds ({type(error).__name__})", returncode=2)
    try:
        yield container.get_connection_url()
    finally:
        container.stop()


def _fast_folder() -> str | None:
    """A folder in memory if there is enough: a clone is five hundred files, which can take a disk a third of a second."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30 else None


@contextmanager
def embedded_server() -> Iterator[str]:
    """An administrator's URL of an embedded server, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="claims-test-", dir=_fast_folder()) as folder:
        Path(folder).chmod(0o711)
        server = Embedded(Path(folder) / "postgres", durable=False).start()
        try:
            yield server.url()
        finally:
            server.stop("immediate")


@contextmanager
def any_server() -> Iterator[str]:
    """An administrator's URL of the server that the environment names, by default an embedded one."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    is_container = os.environ.get("TEST_DATABASE") == "testcontainers"
    with container_server() if is_container else embedded_server() as url:
        yield url


def url_for(url: str, database: str, user: str | None = None, password: str | None = None) -> str:
    """The same server, another database, perhaps another login, as a postgresql:// URL."""
    from app.dev.run import login_url

    parts = conninfo_to_dict(make_conninfo(url, dbname=database))
    plain = login_url(
        make_conninfo(url, dbname=database),
        user or str(parts.get("user")),
        password or str(parts.get("password") or ""),
    )
    return plain.replace(":@", "@")


def settings_for(server_url: str, database: str) -> Settings:
    return Settings(
        environment="test",
        database_url=url_for(server_url, database),
        api_database_url=url_for(server_url, database, "claims_api", "api-password"),
        worker_database_url=url_for(server_url, database, "claims_worker", "worker-password"),
        token_keys=KEYS,
        pool_size=8,
        prepared_statements=os.environ.get("PREPARED_STATEMENTS") or "on",
    )


@contextmanager
def template_database(server_url: str) -> Iterator[str]:
    """The name of a database with the schema and the cast."""
    name = f"claims_template_{uuid4().hex[:8]}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database {name}")
        try:
            settings = settings_for(server_url, name)
            # Roles belong to the whole server, and the worker of another run may be creating them.
            admin.execute("select pg_advisory_lock(%s)", [migrate.LOCK])
            migrate.apply(settings)
            admin.execute("select pg_advisory_unlock(%s)", [migrate.LOCK])
            with psycopg.connect(settings.database_url) as connection:
                seed_cast(connection)
                # Applies one of each organization's two changes of totals, so that tests meet both.
                connection.execute("select app.apply_all_total_changes(1)")
                connection.commit()
                connection.execute("select app.seal_audit_logs()")
            with psycopg.connect(settings.database_url, autocommit=True) as connection:
                # All codes would be two thirds of every clone, and few tests need them.
                connection.execute(FEW_CODES)
                connection.execute("select app.rebuild_diagnosis_codes()")
                for table in ("schema_admin.diagnosis_releases", "app.diagnosis_codes"):
                    connection.execute(f"vacuum (full, analyze) {table}")
            yield name
        finally:
            admin.execute(f"drop database {name} with (force)")


def load_all_codes(connection: psycopg.Connection[Any]) -> None:
    """Loads every diagnosis code into the test's database; the template has a few."""
    reference_data.load_diagnosis_codes(connection)


async def until_two_wait_for_a_lock(as_root: psycopg.Connection[Any]) -> None:
    """Waits until two backends wait for a lock, so that their requests run at the same moment."""
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    deadline = time.monotonic() + 5
    while as_root.execute(waiting).fetchone() != (2,):
        assert time.monotonic() < deadline, "two backends did not wait for a lock"
        await asyncio.sleep(0.01)
        as_root.execute("select pg_stat_clear_snapshot()")  # a transaction sees no backend that started later
