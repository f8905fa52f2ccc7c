"""The rotation of TOKEN_KEYS in app/operations/README.md, on running processes: a client goes on working and no request fails."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import psycopg

from app.config import Settings
from tests.load.logins import HttpConnection, Request
from tests.operations.test_process_failures import free_port
from tests.support.cast import KEYS, PASSWORD
from tests.support.clients import until

OLD, NEW = f"test:{KEYS['test'].decode()}", "new:another secret of the tests; 32 bytes and more"


class Installation:
    """Two API processes, one of which serves while the other restarts."""

    def __init__(self, settings: Settings) -> None:
        self.environ = os.environ | {
            "DATABASE_URL": settings.database_url or "",
            "API_DATABASE_URL": settings.api_database_url or "",
        }
        self.ports = [free_port(), free_port()]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.statuses: Counter[int] = Counter()
        self.headers: dict[str, str] = {}

    async def apply_schema(self, keys: str) -> tuple[int, str]:
        """Runs `make schema`; returns its exit status and its output."""
        return await asyncio.to_thread(self._apply_schema, keys)

    def _apply_schema(self, keys: str) -> tuple[int, str]:
        command, environ = [sys.executable, "-m", "app.operations.migrate"], self.environ | {"TOKEN_KEYS": keys}
        run = subprocess.run(command, env=environ, capture_output=True, text=True)
        return run.returncode, run.stdout + run.stderr

    async def restart(self, keys: str) -> None:
        """Restarts the processes, one after the other, each until it is ready. The client is served at every moment."""
        for port in self.ports:
            if process := self.processes.get(port):
                process.terminate()
                await asyncio.to_thread(process.wait, 30)
            environ = self.environ | {"TOKEN_KEYS": keys, "PORT": str(port)}
            self.processes[port] = subprocess.Popen([sys.executable, "-m", "app"], env=environ)

            async def is_ready(url: str = f"http://127.0.0.1:{port}/health/ready") -> bool:
                try:
                    async with httpx.AsyncClient() as client:
                        return (await client.get(url)).status_code == 200
                except httpx.TransportError:
                    return False

            await until(is_ready, 40)

    async def log_in(self) -> None:
        """Gives the client a new access token."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.ports[0]}") as client:
            response = await client.post("/api/auth/login", json={"email": "alma@north.test", "password": PASSWORD})
        self.headers = {"Authorization": f"Bearer {response.json()['data']['accessToken']}"}

    async def request(self) -> int:
        """The status of a list, from the first process that accepts a connection, as a proxy requests it."""
        for port in self.ports:
            listing = Request.to(f"http://127.0.0.1:{port}/api/claims", self.headers | {"Connection": "close"})
            try:
                connection = await HttpConnection.to(listing)
            except ConnectionError:  # refused, or reset before it was accepted: nothing was sent
                continue
            status = await connection.ask(listing)
            connection.close()
            return status
        raise AssertionError("no process accepts connections")

    async def request_until(self, end: asyncio.Event) -> None:
        """Sends one request after the other and counts the statuses."""
        while not end.is_set():
            self.statuses[await self.request()] += 1

    @asynccontextmanager
    async def working_client(self) -> AsyncIterator[None]:
        """Requests of four clients while the block runs. All of them succeed, and there are some."""
        self.statuses.clear()
        end = asyncio.Event()
        async with asyncio.TaskGroup() as clients:
            for _ in range(4):
                clients.create_task(self.request_until(end))
            yield
            end.set()
        assert self.statuses.keys() == {200}
        assert self.statuses[200] > 20


def kids(as_root: psycopg.Connection) -> list[str]:
    """The kids of the keys in the database."""
    return [kid for (kid,) in as_root.execute("select kid from context.keys where kid <> 'self' order by kid")]


async def test_a_rotation_fails_no_request(settings, as_root, cast):
    api = Installation(settings)
    try:
        await api.restart(OLD)
        await api.log_in()
        first = api.headers
        async with api.working_client():  # step 1
            assert (await api.apply_schema(f"{OLD},{NEW}"))[0] == 0
            await api.restart(f"{OLD},{NEW}")
        assert kids(as_root) == ["new", "test"]
        assert (await api.apply_schema(NEW))[0] == 2  # the running processes sign with the old key
        assert kids(as_root) == ["new", "test"]
        async with api.working_client():  # step 2, with the token that the old key signed
            await api.restart(f"{NEW},{OLD}")
        await api.log_in()  # the client renews its token within the 15 minutes
        async with api.working_client():  # step 3
            assert (await api.apply_schema(NEW))[0] == 0
            await api.restart(NEW)
        assert kids(as_root) == ["new"]
        assert await api.request() == 200  # control
        api.headers = first
        assert await api.request() == 401
    finally:
        for process in api.processes.values():
            process.terminate()
        for process in api.processes.values():
            process.wait(30)
