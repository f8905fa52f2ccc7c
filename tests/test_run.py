"""`make run` as a newcomer meets it: everything starts, a dead worker comes back, SIGTERM leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys

import httpx

from tests.test_faults import free_port
from tests.test_slice import until


def children(parent: int) -> dict[int, str]:
    """The command lines of a process's direct children."""
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True, check=False
    )
    return {int(line.split(None, 1)[0]): line.split(None, 1)[1] for line in found.stdout.splitlines()}


async def test_everything_starts_and_everything_stops(tmp_path):
    tmp_path.chmod(0o711)
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environ |= {"DATA_DIR": str(tmp_path / "data"), "PORT": str(port)}
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, "-m", "app.run"], env=environ, stdout=output, stderr=output)

    async def ready():
        assert process.poll() is None, log.read_text()
        return "ready at" in log.read_text()

    try:
        await until(ready, seconds=60)
        running = children(process.pid)
        worker = next(pid for pid, command in running.items() if "procrastinate" in command)
        os.kill(worker, signal.SIGKILL)

        async def came_back():
            return any("procrastinate" in command for pid, command in children(process.pid).items() if pid != worker)

        await until(came_back)
        login = {"email": "processor1@healthfirst.com", "password": "Password123!"}
        assert httpx.post(f"http://127.0.0.1:{port}/api/auth/login", json=login).status_code == 200
        secrets = tmp_path / "data" / "secrets.env"
        assert secrets.stat().st_mode & 0o777 == 0o600
        assert not any(line.split("=", 1)[1] in log.read_text() for line in secrets.read_text().splitlines())
    finally:
        started = children(process.pid)
        process.terminate()
        process.wait(40)
    assert not any(alive(pid) for pid in started)
    assert not (tmp_path / "data" / "postgres" / "postmaster.pid").exists()
    assert re.search(r"stopped\s*$", log.read_text())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_is_refused_in_production():
    done = subprocess.run(
        [sys.executable, "-m", "app.run"], env={"ENVIRONMENT": "production"}, capture_output=True, timeout=20
    )
    seed = subprocess.run(
        [sys.executable, "-m", "app.seed"],
        env={"ENVIRONMENT": "production", "DATABASE_URL": "postgresql://nobody@/none"},
        capture_output=True,
        timeout=20,
    )
    assert (done.returncode, seed.returncode) == (2, 2)


def test_testcontainers_without_an_engine_says_so():
    environ = os.environ | {"TEST_DATABASE": "testcontainers", "DOCKER_HOST": "tcp://127.0.0.1:1"}
    environ.pop("TEST_DATABASE_URL", None)
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_sql.py", "-k", "a_fault_in_a_query"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no Docker engine answers" in done.stdout + done.stderr
