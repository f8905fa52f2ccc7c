"""A burst of logins: users with a session are not slowed down, and every login succeeds."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path

import httpx
import pytest

from app.http import concurrency
from app.security import passwords
from tests.http.test_rate_limits import bearer, spent
from tests.load.logins import Request, apart, logins, people, steadily
from tests.load.streams import MemoryWatch
from tests.operations.test_processes import environ_for
from tests.resources.test_auth import instance
from tests.security.test_passwords import try_login
from tests.support.cast import PASSWORD
from tests.support.clients import until

SHORT = 60
"""Logins; `make bench NAME=logins` has 200."""
UNLIMITED = """
from concurrent.futures import ThreadPoolExecutor
from app.security import passwords
from app.http import concurrency
from app.__main__ import main
concurrency.MAX_HASHING, passwords._threads = 1000, ThreadPoolExecutor(2)
main([])
"""
"""The API without the hashing limit, with two hashes at a time."""


@pytest.fixture
def emails(settings) -> list[str]:
    return people(settings.database_url, SHORT, "north")


async def test_waiting_logins_use_no_connection_and_are_served_in_order(client, as_user, as_root, emails, monkeypatch):
    released, compared, ended = threading.Event(), passwords._matches, []
    monkeypatch.setattr(passwords, "_matches", lambda *given: released.wait(30) and compared(*given))

    async def log_in(email: str) -> int:
        status = await try_login(client, email, PASSWORD)
        ended.append(email)
        return status

    async def first_are_in():
        return spent(as_root, "login from:127.0.0.1") is not None

    running = [asyncio.create_task(log_in(email)) for email in emails]
    try:
        await until(first_are_in)
        for _ in range(20):
            assert (await as_user("alma").get("/api/claims")).status_code == 200
        assert spent(as_root, "login from:127.0.0.1")[0] == concurrency.MAX_HASHING  # only these have run a query
        assert not ended  # control: all of them were waiting
    finally:
        released.set()
    assert await asyncio.gather(*running) == [200] * SHORT
    assert max(abs(ended.index(email) - n) for n, email in enumerate(emails)) <= concurrency.MAX_HASHING


async def test_a_login_that_waits_too_long_is_refused(settings, emails, monkeypatch):
    """429 if it waits for others of its address, and 503 if it is the only one of its own."""
    released, compared = threading.Event(), passwords._matches
    monkeypatch.setattr(passwords, "_matches", lambda *given: released.wait(30) and compared(*given))
    monkeypatch.setattr(concurrency, "MAX_HASHING_WAIT_S", 0.1)
    async with instance(settings) as client, instance(settings, "192.0.2.1") as other:
        other._transport.app = client._transport.app  # another address of the same process
        running = [asyncio.create_task(try_login(client, email, PASSWORD)) for email in emails[:5]]
        try:
            done, _ = await asyncio.wait(running[concurrency.MAX_HASHING :])
            assert {task.result() for task in done} == {429}
            assert await try_login(other, emails[-1], PASSWORD) == 503
        finally:
            released.set()
        assert await asyncio.gather(*running[: concurrency.MAX_HASHING]) == [200] * concurrency.MAX_HASHING
        assert await try_login(client, emails[-1], PASSWORD) == 200


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
async def test_hashing_has_a_lower_priority_and_nothing_else_has(client):
    def nice() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = nice()
    assert await passwords._run_in_thread(nice) == min(before + passwords.NICE, 19)
    assert nice() == before


async def test_processes_hash_one_at_a_time(tmp_path):
    """Also if one was killed while hashing."""
    file = (tmp_path / "file").open("w+")
    script = "import fcntl, sys, time; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX); print('locked', flush=True); time.sleep(60)"
    given = file.fileno()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(given)], pass_fds=[given], stdout=subprocess.PIPE
    ) as other:
        passwords.use_interprocess_lock(given)
        try:
            assert other.stdout.readline() == b"locked\n"
            hashing = asyncio.create_task(passwords.make_hash(PASSWORD))
            await asyncio.wait([hashing], timeout=0.5)
            assert not hashing.done()
            other.kill()
            assert (await asyncio.wait_for(hashing, 20)).startswith("$argon2id$")
        finally:
            other.kill()
            passwords._lock_file = None
            file.close()


@contextmanager
def served(environ: dict[str, str], *command: str) -> Iterator[tuple[str, int]]:
    """An API process that is ready: its address and process id."""
    address = f"http://127.0.0.1:{environ['PORT']}"
    process = subprocess.Popen([sys.executable, *command], env=environ)
    try:
        limit = time.monotonic() + 40
        while not is_up(address):
            assert time.monotonic() < limit
            time.sleep(0.1)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(40)


def is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class Burst:
    """The result of SHORT logins at the same moment: their statuses, the API's memory and cores, and whether others succeeded."""

    statuses: list[int]
    mib: float
    cores: float
    others_answered: bool


def core_seconds(pid: int) -> float:
    """Seconds that the threads of a process ran or waited to run, so that other load of the machine makes no difference."""
    told = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(ran) + int(waited) for ran, waited, _ in told) / 1e9


def burst_over(settings, cast, emails, *command: str) -> Burst:
    told = environ_for(settings, RATE_LIMIT_USER="0", RATE_LIMIT_ADDRESS="0", PROCESSES="1")
    with apart() as send, served(told, *command) as (address, pid):
        send(logins(address, emails[:10])).result()  # so that it has hashed once
        listing = Request.to(f"{address}/api/claims?limit=20", bearer(cast, "alma"))
        with MemoryWatch(pid) as watch:
            before, began = core_seconds(pid), time.perf_counter()
            running = send(logins(address, emails))
            took = asyncio.run(steadily(listing, running.done))
            cores = (core_seconds(pid) - before) / (time.perf_counter() - began)
        return Burst([status for status, _ in running.result()], watch.peak, cores, max(took) < inf)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not say how long threads wait to run")
def test_a_burst_of_logins_leaves_cores_to_others(settings, cast, emails):
    """It uses a third less than without the limit, at least: about half of a core against one and a quarter.

    `make bench NAME=logins` measures the effect on others, because no test that shares their cores can.
    """
    kept = burst_over(settings, cast, emails, "-m", "app")
    assert kept.statuses == [200] * SHORT
    assert kept.others_answered
    assert kept.mib < 300
    free = burst_over(settings, cast, emails, "-c", UNLIMITED)
    assert kept.cores * 1.3 < free.cores


def test_a_login_succeeds_while_every_core_is_busy(settings, emails):
    told = environ_for(settings, PROCESSES="1")
    with served(told, "-m", "app") as (address, _):
        spinning = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))
        ]
        try:
            body = {"email": emails[0], "password": PASSWORD}
            answers = [httpx.post(f"{address}/api/auth/login", json=body, timeout=10) for _ in range(3)]
        finally:
            for one in spinning:
                one.kill()
                one.wait()
    assert [answer.status_code for answer in answers] == [200] * 3
