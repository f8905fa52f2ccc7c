"""The embedded server starts and stops without a trace, and `make run` supervises and ends everything it starts."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from app.dev.address import port_file
from app.dev.postgres import SYSTEM_USER, Embedded
from tests.operations.test_process_failures import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A path with a space, and longer than a socket's path may be."""
    with tempfile.TemporaryDirectory(prefix="claims run ") as top:
        folder = Path(top).resolve() / ("deep" * 30)
        folder.mkdir()
        yield folder


@pytest.fixture
def server(folder: Path) -> Iterator[Embedded]:
    server = Embedded(folder / "postgres", durable=False).start()
    yield server
    server.stop("immediate")


def wait_for(what: Callable[[], object], seconds: float = 10) -> None:
    """Waits until the condition is true."""
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


def processes_in(data: Path) -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(data)]


def is_gone(process: psutil.Process) -> bool:
    """Whether the process has ended, also before its exit status was read."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def postmaster(server: Embedded) -> int:
    return int((server.data / "postmaster.pid").read_text().split()[0])


def write(server: Embedded) -> None:
    with psycopg.connect(server.url(), options="-c synchronous_commit=on") as connection:
        connection.execute("create table kept as select 1 as one")


def read(server: Embedded) -> object:
    with psycopg.connect(server.url()) as connection:
        return connection.execute("select one from kept").fetchone()


def test_data_survives_a_stop(server):
    write(server)
    server.stop()
    assert read(server.start()) == (1,)


def test_a_stop_leaves_no_process_and_no_socket(server):
    assert processes_in(server.data)
    assert server.socket.exists()
    server.stop()
    assert not processes_in(server.data)
    assert not server.socket.exists()


def test_the_folders_of_data_and_socket_are_closed_to_other_users(server):
    assert [path.stat().st_mode & 0o777 for path in (server.data, server.socket)] == [0o700, 0o700]


def test_a_killed_server_starts_again(server):
    write(server)
    os.kill(postmaster(server), signal.SIGKILL)
    again = Embedded(server.data).start()
    try:
        assert read(again) == (1,)
    finally:
        again.stop()


def test_a_server_left_over_is_replaced(server):
    write(server)
    left = psutil.Process(postmaster(server))
    again = Embedded(server.data).start()
    try:
        assert read(again) == (1,)
        assert postmaster(again) != left.pid
        assert is_gone(left)
    finally:
        again.stop()


def test_a_process_id_reused_by_another_process_does_no_harm(server):
    write(server)
    server.stop()
    other = subprocess.Popen(["sleep", "60"], user=SYSTEM_USER if os.geteuid() == 0 else None)
    try:
        (server.data / "postmaster.pid").write_text(f"{other.pid}\n{server.data}\n0\n5432\n\n\n\nready\n")
        assert read(server.start()) == (1,)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_failed_start_reports_its_cause_and_leaves_nothing(server):
    server.stop()
    (server.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(RuntimeError, match="not compatible"):
        server.start()
    assert not processes_in(server.data)
    assert not server.socket.exists()


def test_an_interrupted_initdb_is_repeated(folder):
    (folder / "postgres.new").mkdir()
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    server = Embedded(folder / "postgres", durable=False).start()
    server.stop("immediate")
    assert not (folder / "postgres.new").exists()


def environ(**given: str) -> dict[str, str]:
    told = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
    return told | {"ENVIRONMENT": "development"} | given


@pytest.mark.parametrize(
    ("given", "status", "reason"),
    [({"ENVIRONMENT": "production"}, 2, "development only"), ({"PORT": "70000"}, 2, "PORT"), ({}, 1, "choose another")],
)
def test_wrong_settings_are_refused_before_anything_starts(folder, given, status, reason):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = environ(DATA_DIR=str(folder / "data"), PORT=str(taken.getsockname()[1])) | given
        run = subprocess.run([sys.executable, "-m", "app.dev.run"], cwd=ROOT, env=told, capture_output=True, text=True)
    assert run.returncode == status
    assert reason in run.stderr
    assert not (folder / "data").exists()


def test_the_demo_data_is_refused_in_production():
    told = environ(ENVIRONMENT="production") | {"DATABASE_URL": "postgresql://none@/none"}
    seed = subprocess.run([sys.executable, "-m", "app.dev.seed"], cwd=ROOT, env=told, capture_output=True)
    assert seed.returncode == 2


@pytest.fixture
def run(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`make run` and its address, once it is ready."""
    port = free_port()
    told = environ(DATA_DIR=str(folder / "data"), PORT=str(port))
    with (folder / "output").open("w") as output:
        run = subprocess.Popen([sys.executable, "-m", "app.dev.run"], cwd=ROOT, env=told, stdout=output, stderr=output)
    try:
        wait_for(lambda: run.poll() is not None or "ready at" in (folder / "output").read_text(), 40)
        yield run, f"http://127.0.0.1:{port}"
    finally:
        run.kill()
        run.wait()


def children(run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(run.pid).children(recursive=True)


def worker_of(run: subprocess.Popen[bytes]) -> psutil.Process | None:
    for one in children(run):
        with suppress(psutil.NoSuchProcess):  # it may end between the two calls
            if not is_gone(one) and "procrastinate" in one.cmdline():
                return one
    return None


def test_a_dead_worker_is_replaced_and_sigterm_ends_everything(run, folder):
    process, address = run
    output = folder / "output"
    account = {"email": "processor1@healthfirst.com", "password": "Password123!"}
    assert httpx.post(f"{address}/api/auth/login", json=account).status_code == 200, output.read_text()
    assert httpx.get(f"{address}/docs").status_code == 200

    assert port_file(folder / "data").read_text() == address.rpartition(":")[2] + "\n"
    secrets = folder / "data" / "secrets.env"
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert not any(line.split("=", 1)[1] in output.read_text() for line in secrets.read_text().splitlines())

    killed = worker_of(process)
    killed.kill()
    wait_for(lambda: (again := worker_of(process)) and again.pid != killed.pid)
    assert "the worker exited with status -9" in output.read_text()

    started = children(process)
    process.terminate()
    assert process.wait(30) == 0
    assert all(map(is_gone, started))
    assert not Embedded(folder / "data" / "postgres").socket.exists()
    assert not port_file(folder / "data").exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child outlives a killed parent")
def test_no_process_survives_a_killed_supervisor(run):
    process, _ = run
    started = children(process)
    process.kill()
    wait_for(lambda: all(map(is_gone, started)), 20)


def test_testcontainers_without_an_engine_is_reported():
    told = environ(TEST_DATABASE="testcontainers", DOCKER_HOST="tcp://127.0.0.1:1")
    command = [sys.executable, "-m", "pytest", "-q", "tests/database/test_statements.py", "-k", "a_fault_in_a_query"]
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no Docker engine responds" in done.stdout + done.stderr
