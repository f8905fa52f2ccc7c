"""The API under measurement: an embedded server, the schema, one organization, and a real API process."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

from app.config import Settings
from app.dev.postgres import Embedded
from app.dev.run import login_url
from app.operations import migrate
from app.security.passwords import hash_password

PASSWORD = "correct horse battery staple"
KEYS = {"bench": b"a secret of the measurements; 32 bytes"}


@dataclass
class RunningApi:
    """A running API, and the facts that a client needs to use it as an admin."""

    address: str
    pid: int
    headers: dict[str, str]
    patient: str
    provider: str
    settings: Settings


def settings_at(url: str) -> Settings:
    """The settings of API and worker for the database at an administrator's URL."""
    return Settings(
        environment="test",
        database_url=url,
        api_database_url=login_url(url, "claims_api", "api-password"),
        worker_database_url=login_url(url, "claims_worker", "worker-password"),
        token_keys=KEYS,
    )


def environ_for(settings: Settings) -> dict[str, str]:
    """The same as environment variables, with a free port of 127.0.0.1 and rate limits that are never reached."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert settings.api_database_url
    assert settings.worker_database_url
    return os.environ | {
        "API_DATABASE_URL": settings.api_database_url,
        "WORKER_DATABASE_URL": settings.worker_database_url,
        "TOKEN_KEYS": ",".join(f"{kid}:{secret.decode()}" for kid, secret in settings.token_keys.items()),
        "PROCRASTINATE_APP": "jobs.app",
        "PORT": str(port),
        "RATE_LIMIT_USER": "100000000",
        "RATE_LIMIT_ADDRESS": "100000000",
    }


@contextmanager
def served(settings: Settings, **environ: str) -> Iterator[tuple[str, int]]:
    """The API as its operators start it, on a free port of 127.0.0.1: its address and process id."""
    told = environ_for(settings)
    process = subprocess.Popen([sys.executable, "-m", "app"], env=told | environ)
    address = f"http://127.0.0.1:{told['PORT']}"
    try:
        deadline = time.monotonic() + 20
        while not _is_ready(address):
            assert process.poll() is None, "the API ended"
            assert time.monotonic() < deadline, "the API never was ready"
            time.sleep(0.05)
        yield address, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/ready", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def prepared_server() -> Iterator[tuple[Settings, str, str]]:
    """A server with the schema and an organization with an admin, a provider and a patient, without an API process."""
    with tempfile.TemporaryDirectory(prefix="claims-load-") as folder:
        Path(folder).chmod(0o711)
        server = Embedded(Path(folder) / "postgres", durable=False).start()
        try:
            settings = settings_at(server.url())
            migrate.apply(settings)
            with psycopg.connect(server.url()) as connection:
                # No job is measured, and readiness requires a live worker.
                connection.execute(
                    "insert into procrastinate.procrastinate_workers (last_heartbeat) values ('infinity')"
                )
                patient, provider = seed_dataset(connection)
            yield settings, patient, provider
        finally:
            server.stop("immediate")


def headers_at(address: str) -> dict[str, str]:
    """The headers of the admin, with a token of a login at this address."""
    login = httpx.post(f"{address}/api/auth/login", json={"email": "admin@load.test", "password": PASSWORD})
    return {"Authorization": f"Bearer {login.json()['data']['accessToken']}"}


@contextmanager
def running_api(**environ: str) -> Iterator[RunningApi]:
    """A prepared server with one API process."""
    with prepared_server() as (settings, patient, provider), served(settings, **environ) as (address, pid):
        yield RunningApi(address, pid, headers_at(address), patient, provider, settings)


def seed_dataset(connection: psycopg.Connection[Any]) -> tuple[str, str]:
    """An organization with an admin, and the ids of its patient and its provider."""

    def one(statement: str, *given: Any) -> Any:
        return connection.execute(statement, given).fetchone()[0]

    organization = one("select auth.add_organization('load', 'Load')")
    admin = one("select auth.add_user('admin@load.test', 'Admin', 'admin', null, null, %s)", hash_password(PASSWORD))
    connection.execute("set local search_path = app")
    one(
        "select set_config('role', context.begin_request(%s, %s, null, 'load', '', 'sql', false), true)",
        organization,
        admin,
    )
    provider = one("insert into providers (npi, name) values ('1234567893', 'Provider') returning provider_id")
    patient = one(
        "insert into patients (member_number, first_name, last_name, date_of_birth) "
        "values ('M-1', 'Pat', 'Load', '1980-01-01') returning patient_id"
    )
    return str(patient), str(provider)
