"""Failures of processes and servers: real processes, real signals."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psycopg
import pytest

from app.dev.postgres import Embedded
from app.operations import migrate
from tests.support.cast import KEYS, seed_cast
from tests.support.clients import until
from tests.support.databases import settings_for


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def own_server():
    """A server of the test's own, with the schema and the cast, which the test may stop."""
    with tempfile.TemporaryDirectory(prefix="claims test ") as folder:  # a path with a space in it
        Path(folder).chmod(0o711)
        server = Embedded(Path(folder) / "data", durable=True).start()
        try:
            settings = settings_for(server.url(), "postgres")
            migrate.apply(settings)
            with psycopg.connect(settings.database_url) as connection:
                seed_cast(connection)
            yield server, settings
        finally:
            server.stop("immediate")


@pytest.fixture
async def api(own_server):
    """A real API process over that server: its address and the process."""
    _, settings = own_server
    port = free_port()
    environ = {
        "API_DATABASE_URL": settings.api_database_url,
        "TOKEN_KEYS": f"test:{KEYS['test'].decode()}",
        "PORT": str(port),
    }
    process = subprocess.Popen([sys.executable, "-m", "app"], env=os.environ | environ)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:

        async def ready():
            try:
                return (await client.get("/health/ready")).status_code == 200
            except httpx.TransportError:
                return False

        await until(ready)
        yield client, process
    process.terminate()
    process.wait(20)


async def token(client: httpx.AsyncClient) -> dict[str, str]:
    login = {"email": "alma@north.test", "password": "correct horse battery staple"}
    answer = await client.post("/api/auth/login", json=login)
    return {"Authorization": f"Bearer {answer.json()['data']['accessToken']}"}


async def test_without_a_database_it_is_503_at_once_and_recovers(own_server, api):
    server, _ = own_server
    client, _ = api
    headers = await token(client)
    assert (await client.get("/api/claims", headers=headers)).status_code == 200  # control
    server.stop("immediate")
    for _ in range(3):
        started = time.monotonic()
        answer = await client.get("/api/claims", headers=headers)
        took = time.monotonic() - started
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
        assert answer.headers["Retry-After"] == "1"
        assert took < 1.0
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/health/ready")).status_code == 503
    server.start()

    async def back():
        return (await client.get("/api/claims", headers=headers)).status_code == 200

    await until(back, seconds=10)


async def test_the_api_recovers_soon_after_a_long_outage(own_server, api):
    server, _ = own_server
    client, _ = api
    headers = await token(client)
    server.stop("immediate")
    stopped = time.monotonic()
    # Long enough for an exponential backoff without a bound to wait for a while more.
    while time.monotonic() < stopped + 4:
        assert (await client.get("/api/claims", headers=headers)).status_code == 503
    server.start()
    started = time.monotonic()

    async def back():
        return (await client.get("/api/claims", headers=headers)).status_code == 200

    await until(back)
    assert time.monotonic() - started < 2.5


async def test_sigterm_finishes_the_running_requests(own_server, api):
    _, settings = own_server
    client, process = api
    headers = await token(client)
    with psycopg.connect(settings.database_url) as holder:
        holder.execute("lock table app.claims in access exclusive mode")
        waiting = asyncio.create_task(client.get("/api/claims", headers=headers))

        async def blocked():
            with psycopg.connect(settings.database_url) as looking:
                row = looking.execute("select count(*) from pg_stat_activity where wait_event_type = 'Lock'").fetchone()
            return row[0] > 0

        await until(blocked)
        process.send_signal(signal.SIGTERM)

        async def refuses():
            try:
                async with httpx.AsyncClient() as other:
                    await other.get(client.base_url.join("/health"))
            except httpx.TransportError:
                return True
            return False

        await until(refuses)
        holder.rollback()
    assert (await waiting).status_code == 200
    assert process.wait(10) in (0, -signal.SIGTERM)


async def test_a_killed_server_is_replaced_and_keeps_its_data(own_server):
    server, settings = own_server
    pid = int((server.data / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)

    async def gone():
        return not server.running()

    await until(gone)
    server.start()
    with psycopg.connect(settings.database_url) as connection:
        assert connection.execute("select count(*) from app.users").fetchone() == (14,)
    assert server.start().running()  # starting it again adopts it
