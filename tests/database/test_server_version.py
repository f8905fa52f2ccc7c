"""Server versions: one that lacks security fixes is warned about once a process; one that is too old is refused."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.database import server_version
from app.database.server_version import UnsafeDatabase, missing_fixes
from app.dev.postgres import Embedded
from app.main import create_app
from app.operations import migrate
from tests.operations.test_process_failures import free_port
from tests.operations.test_run import wait_for
from tests.support.cast import KEYS
from tests.support.databases import settings_for

INSTALLED = Path("/usr/lib/postgresql")


@pytest.mark.parametrize(
    ("patched", "needed"), [(150019, "15.19"), (160015, "16.15"), (170011, "17.11"), (180006, "18.6")]
)
def test_the_minor_version_with_the_fixes_is_named(patched, needed):
    assert missing_fixes(patched) is None
    assert missing_fixes(patched + 1) is None
    for behind in (patched - 1, patched // 10_000 * 10_000):
        said = missing_fixes(behind)
        assert said
        assert f"{needed} or newer is needed" in said


def test_a_major_version_of_the_future_is_not_warned_about():
    assert missing_fixes(190000) is None


@pytest.mark.parametrize("version", [140023, 90624])
def test_a_major_version_before_15_is_refused(version):
    with pytest.raises(UnsafeDatabase, match="too old: 15 or newer is needed"):
        missing_fixes(version)


async def test_schema_step_and_api_refuse_a_server_that_is_too_old(settings, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    assert migrate.main(["--check"]) == 0  # control
    monkeypatch.setattr(server_version, "OLDEST", 99)
    assert migrate.main(["--check"]) == 2
    assert "too old: 99 or newer is needed" in capsys.readouterr().err
    with pytest.RaisesGroup(pytest.RaisesExc(UnsafeDatabase, match="too old")):
        async with create_app(settings).lifespan():
            pass


def behind() -> Path | None:
    """The binaries of an installed server that lacks fixes."""
    for folder in sorted(INSTALLED.glob("*/bin")):
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True).stdout
        major, minor = map(int, re.findall(r"\d+", said)[:2])
        if major >= server_version.OLDEST and missing_fixes(major * 10_000 + minor):
            return folder
    return None


@pytest.fixture
def warnings_of(monkeypatch) -> Iterator[dict[str, str]]:
    """The warnings of processes that use a real server which lacks fixes."""
    if not (folder := behind()):
        pytest.skip(f"no server that lacks security fixes is installed in {INSTALLED}")
    monkeypatch.setenv("POSTGRES_BIN", str(folder))
    with tempfile.TemporaryDirectory(prefix="claims-behind-") as name:
        Path(name).chmod(0o711)
        server = Embedded(Path(name) / "data", durable=False).start()
        try:
            settings = settings_for(server.url(), "postgres")
            yield os.environ | {
                "DATABASE_URL": settings.database_url,
                "API_DATABASE_URL": settings.api_database_url,
                "WORKER_DATABASE_URL": settings.worker_database_url,
                "TOKEN_KEYS": f"test:{KEYS['test'].decode()}",
                "PROCRASTINATE_APP": "jobs.app",
                "PORT": str(free_port()),
            }
        finally:
            server.stop("immediate")


@contextmanager
def running(warnings_of: dict[str, str], log: Path, *module: str) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, "-m", *module], env=warnings_of, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_a_real_server_that_lacks_fixes_is_warned_about_once_a_process(warnings_of, tmp_path):
    step = subprocess.run(
        [sys.executable, "-m", "app.operations.migrate"], env=warnings_of, capture_output=True, text=True
    )
    assert (step.returncode, step.stdout) == (0, "the schema is applied\n")
    logs = {name: tmp_path / name for name in ("API", "worker")}
    address = f"http://127.0.0.1:{warnings_of['PORT']}/health/ready"

    def ready() -> bool:
        try:
            return httpx.get(address, timeout=5).json()["schema"] == "ok"  # no worker is running yet
        except httpx.TransportError:
            return False

    with running(warnings_of, logs["API"], "app"):
        wait_for(ready, 30)
        assert ready()  # checks the schema again, and logs nothing
    with running(warnings_of, logs["worker"], "procrastinate", "worker"):
        wait_for(lambda: "lacks" in logs["worker"].read_text(), 30)
    for said in (step.stderr, *(log.read_text() for log in logs.values())):
        assert len(re.findall(r"PostgreSQL [\d.]+ lacks security fixes: [\d.]+ or newer is needed", said)) == 1, said
