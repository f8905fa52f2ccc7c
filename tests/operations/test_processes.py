"""`PROCESSES=2 make api`: several API processes behind one socket act as one; a stop or a restart fails no request."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import psutil
import pytest

from app.config import Settings
from app.database.pool import MAX_QUICK_CALLS
from app.http.login_throttle import MAX_ATTEMPTS_PER_ACCOUNT
from tests.http.test_idempotency import counted, is_replay, keyed
from tests.http.test_rate_limits import bearer, passed, spent
from tests.load.logins import HttpConnection, Request
from tests.operations.test_process_failures import free_port
from tests.operations.test_run import is_gone
from tests.resources.test_auth import is_in, seed_login
from tests.security.attacks.cases import claim
from tests.support.cast import KEYS
from tests.support.clients import until

LIMIT = 60


def environ_for(settings: Settings, **more: str) -> dict[str, str]:
    told = {"API_DATABASE_URL": settings.api_database_url or "", "TOKEN_KEYS": f"test:{KEYS['test'].decode()}"}
    return os.environ | told | {"PORT": str(free_port()), "PROCESSES": "2"} | more


class Api:
    """A started API: the process that listens, and those that serve."""

    def __init__(self, supervisor: subprocess.Popen[bytes], address: str) -> None:
        self.supervisor, self.address = supervisor, address

    def serving(self) -> list[psutil.Process]:
        """The processes that accept connections."""
        return [one for one in psutil.Process(self.supervisor.pid).children() if not is_gone(one)]

    async def answers(self, path: str = "/health") -> bool:
        """Whether a new connection is accepted."""
        try:
            async with httpx.AsyncClient(timeout=20) as client:
                return (await client.get(self.address + path)).status_code == 200
        except httpx.TransportError:
            return False

    async def clients(self, stack: AsyncExitStack, each: int) -> list[list[httpx.AsyncClient]]:
        """Clients for each of two processes, with one open connection each; every request succeeds."""
        found: dict[int, list[httpx.AsyncClient]] = {}
        limit = time.monotonic() + 40
        while len(found) < 2 or min(map(len, found.values())) < each:
            assert time.monotonic() < limit, found
            more = [httpx.AsyncClient(base_url=self.address, limits=ONE, timeout=30) for _ in range(8)]
            for client in more:
                stack.push_async_callback(client.aclose)
            answers = await asyncio.gather(*(client.get("/health") for client in more))
            assert [answer.status_code for answer in answers] == [200] * len(more)
            theirs = {
                connection.raddr.port: process.pid
                for process in self.serving()
                for connection in process.net_connections("tcp")
                if connection.raddr
            }
            for client, answer in zip(more, answers, strict=True):
                pid = theirs[answer.extensions["network_stream"].get_extra_info("client_addr")[1]]
                found.setdefault(pid, []).append(client)
        return [clients[-each:] for clients in found.values()]  # the youngest connections: none was idle for long


ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=60)


@asynccontextmanager
async def started(settings: Settings, **more: str) -> AsyncIterator[Api]:
    """`make api` with two processes (PROCESSES), both of which serve. It is drained at the end."""
    environ = environ_for(settings, **more)
    supervisor = subprocess.Popen([sys.executable, "-m", "app"], env=environ)
    api = Api(supervisor, f"http://127.0.0.1:{environ['PORT']}")
    try:
        await until(api.answers, 40)
        if environ["PROCESSES"] == "2":
            async with AsyncExitStack() as stack:
                await api.clients(stack, 1)
        yield api
    finally:
        supervisor.terminate()
        assert supervisor.wait(40) in (0, -signal.SIGTERM, -signal.SIGKILL)


async def test_a_limit_is_one_for_all_processes(settings, as_root, cast):
    async with (
        started(settings, RATE_LIMIT_USER=str(LIMIT), RATE_LIMIT_ADDRESS=str(5 * LIMIT)) as api,
        AsyncExitStack() as stack,
    ):
        one, two = await api.clients(stack, 5)

        async def ask(clients: list[httpx.AsyncClient], headers: dict[str, str], times: int) -> list[httpx.Response]:
            """Requests, as many at a time as there are clients."""
            asking = [client.get("/api/auth/me", headers=headers) for client in clients * (times // len(clients))]
            return list(await asyncio.gather(*asking))

        for headers, subject, limit, before in [
            (bearer(cast, "alma"), f"user:{cast.alma}", LIMIT, 0),
            ({}, "address:127.0.0.1", 5 * LIMIT, LIMIT // 3 * 2 + 2 * LIMIT),
        ]:
            first = await asyncio.gather(*(ask(clients, headers, LIMIT // 3) for clients in (one, two)))
            # Control: both served, and the limit was not reached.
            assert [passed(answers) for answers in first] == [LIMIT // 3] * 2
            both = await asyncio.gather(*(ask(clients, headers, limit) for clients in (one, two)))
            assert passed([answer for answers in both for answer in answers]) == limit - before - 2 * (LIMIT // 3)
            assert spent(as_root, subject)[0] == limit


async def test_processes_share_login_attempts_keys_and_sessions(settings, as_root, cast):
    async with started(settings) as api, AsyncExitStack() as stack:
        processes = await api.clients(stack, 10)
        clients = [client for process in processes for client in process]
        wrong = {"email": "ben@north.test", "password": "wrong"}
        tried = await asyncio.gather(*(client.post("/api/auth/login", json=wrong) for client in clients))
        assert sorted(answer.status_code for answer in tried) == [401] * MAX_ATTEMPTS_PER_ACCOUNT + [429] * 10

        headers, before = bearer(cast, "alma") | keyed(), counted(as_root, "claims")
        body = claim(cast) | {"claimNumber": None}
        answers = await asyncio.gather(*(client.post("/api/claims", json=body, headers=headers) for client in clients))
        done = [answer for answer in answers if answer.is_success]
        assert {answer.status_code for answer in answers if answer not in done} <= {409}  # running for too long
        assert len({answer.content for answer in done}) == 1
        assert [is_replay(answer) for answer in done].count(False) == 1
        assert counted(as_root, "claims") == before + 1

        tokens, (one, two) = seed_login(as_root, cast, "ana"), [process[0] for process in processes]
        assert [await is_in(client, tokens) for client in (one, two)] == [True, True]  # control
        ended = await one.post("/api/auth/logout", headers={"Authorization": f"Bearer {tokens['accessToken']}"})
        assert ended.status_code == 204
        assert [await is_in(client, tokens) for client in (one, two)] == [False, False]


async def test_sigterm_finishes_the_running_requests_of_every_process(settings, as_root, cast):
    # Five seconds instead of two.
    as_root.execute(f"alter role claims_api in database {as_root.info.dbname} set lock_timeout = '5s'")
    as_root.execute("update schema_admin.state set catalog = schema_admin.fingerprint()")
    async with started(settings) as api, AsyncExitStack() as stack:
        processes, headers = await api.clients(stack, 8), bearer(cast, "alma")
        clients = [client for process in processes for client in process]
        serving = api.serving()
        with as_root.transaction():
            as_root.execute("lock table claims in access exclusive mode")
            waiting = [asyncio.create_task(client.get("/api/claims", headers=headers)) for client in clients]

            async def all_wait():
                """As many wait for the lock as one user's quick calls may have connections; the others wait for those."""
                return as_root.execute(
                    "select count(*) from pg_locks where not granted and database = "
                    "(select oid from pg_database where datname = current_database())"
                ).fetchone() == (MAX_QUICK_CALLS * len(processes),)

            await until(all_wait, 5)
            api.supervisor.terminate()
            await until(refused(api), 5)
            assert not any(one.done() for one in waiting)  # control: no request ends before
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * len(clients)
        assert api.supervisor.wait(20) == 0
        assert all(map(is_gone, serving))


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_sigterm_under_load_fails_no_request(settings, cast, processes):
    """Each request on its own connection, as proxies send them: it succeeds, or is refused before it was sent."""
    async with started(settings, PROCESSES=processes) as api:
        listing = Request.to(f"{api.address}/api/claims", bearer(cast, "alma") | {"Connection": "close"})
        answered: list[int] = []

        async def one_after_another() -> None:
            while True:
                try:
                    connection = await HttpConnection.to(listing)
                except ConnectionError:  # refused, or reset before it was accepted: nothing was sent
                    return
                answered.append(await connection.ask(listing))
                connection.close()

        clients = [asyncio.create_task(one_after_another()) for _ in range(24)]

        async def under_load() -> bool:
            return len(answered) > 100

        await until(under_load, 30)
        api.supervisor.terminate()
        await asyncio.gather(*clients)
        assert set(answered) == {200}
        assert api.supervisor.wait(20) in (0, -signal.SIGTERM)


def refused(api: Api) -> Callable[[], object]:
    """A condition: no connection is accepted any more."""

    async def condition() -> bool:
        return not await api.answers()

    return condition


async def test_a_killed_process_is_replaced_and_no_request_is_refused_meanwhile(settings):
    async with started(settings) as api, AsyncExitStack() as stack:
        killed, other = api.serving()
        killed.kill()

        async def gone() -> bool:
            return is_gone(killed)

        await until(gone)
        assert killed not in api.serving()  # control: one is left, and every request succeeds
        await api.clients(stack, 1)
        assert len(api.serving()) == 2
        assert other in api.serving()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child outlives a killed parent")
async def test_no_process_survives_a_killed_supervisor(settings):
    async with started(settings) as api:
        serving = api.serving()
        api.supervisor.kill()

        async def gone() -> bool:
            return all(map(is_gone, serving))

        await until(gone)
        assert not await api.answers()


def refusal(environ: dict[str, str]) -> tuple[int, str]:
    """The exit code, and the output."""
    run = subprocess.run([sys.executable, "-m", "app"], env=environ, capture_output=True, text=True, timeout=60)
    return run.returncode, run.stdout + run.stderr


def test_a_wrong_setting_is_reported_once(settings):
    for wrong in ("0", "65", "two"):
        status, said = refusal(environ_for(settings, PROCESSES=wrong))
        assert (status, said.count("\n"), "configuration: PROCESSES" in said) == (2, 1, True), said


def test_it_exits_if_none_of_its_processes_can_start(settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, said = refusal(environ_for(settings, PORT=str(taken.getsockname()[1])))
        assert (status, said.count("\n"), "can't listen" in said) == (3, 1, True), said
    status, said = refusal(environ_for(settings, API_DATABASE_URL=settings.database_url or ""))  # could bypass RLS
    failed = [f"API process {n} exited with status 3" in said for n in (1, 2)]
    assert (status, failed) == (3, [True, True]), said


def test_one_process_has_no_supervisor(settings):
    environ = environ_for(settings, PROCESSES="1")
    with subprocess.Popen([sys.executable, "-m", "app"], env=environ) as process:
        limit = time.monotonic() + 30
        while not [one for one in psutil.Process(process.pid).net_connections("tcp") if one.status == "LISTEN"]:
            assert time.monotonic() < limit
            time.sleep(0.05)
        assert psutil.Process(process.pid).children() == []
        process.terminate()
