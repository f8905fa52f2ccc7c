"""What an operator starts and reads: `python -m jobs` (make worker) and sql/operations/queue_status.sql (make jobs)."""

import os
import signal
import subprocess
import sys

import psutil

from app.dev.postgres import binaries
from app.operations import migrate as schema
from tests.conftest import until
from tests.support.workers import listening


def lives(process):
    """Neither gone nor a zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_so_many_workers_run_and_a_dead_one_is_replaced(settings, as_root):
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
    assert as_root.execute(
        "select count(*) from procrastinate.procrastinate_workers where last_heartbeat < 'infinity'"
    ).fetchone() == (1,)  # the killed one's; the others said goodbye


async def test_the_queue_is_told_in_one_look(settings, as_user, as_root, cast):
    event = {"patientId": str(cast.tom_patient), "eventType": "admission", "occurredAt": "2026-11-20T10:00:00Z"}
    assert (
        await as_user("alma").post("/api/patient-status", event | {"notes": "nobody's business"})
    ).status_code == 202
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
        schema.SQL / "operations" / "queue_status.sql",
    ]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "patient_admission|1|0|0|0" in told.stdout
    assert "broken|0|0|0|1" in told.stdout
    assert "broken|3|" in told.stdout.partition("the last ten that failed")[2]
    assert "business" not in told.stdout
