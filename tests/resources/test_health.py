"""Readiness, and an operator's suspension of an organization."""

import os
import subprocess

import pytest

from app.dev.postgres import binaries


async def test_readiness_reports_a_job_that_waits_too_long(client, as_user, as_root, cast):
    """The status stays 200, because another API process would respond no better."""
    event = {"patientId": str(cast.tom_patient), "eventType": "admission", "occurredAt": "2026-11-20T10:00:00Z"}
    assert (await as_user("alma").post("/api/patient-status", event)).status_code == 202
    assert (await client.get("/health/ready")).json()["queue"] == "ok"  # control: it was enqueued just now
    as_root.execute("update procrastinate.procrastinate_events set at = now() - interval '2 minutes'")
    client._transport.app.state.health = (0.0, ("", "", ""))
    answer = await client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["queue"].startswith("a job has been ready for 1")


async def test_readiness_reports_that_no_worker_lives(client, as_root):
    assert (await client.get("/health/ready")).json()["workers"] == "ok"  # control
    as_root.execute("update procrastinate.procrastinate_workers set last_heartbeat = now() - interval '31 seconds'")
    client._transport.app.state.health = (0.0, ("", "", ""))
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["workers"]) == (200, "no worker is running")


async def test_readiness_is_503_where_the_schema_differs(client, as_root):
    assert (await client.get("/health/ready")).status_code == 200  # control
    as_root.execute("alter table claims add column extra integer")
    client._transport.app.state.health = (0.0, ("", "", ""))
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "changed by hand" in answer.json()["schema"]


def operate(settings, slug, at):
    """Runs the command of `make suspend` and `make resume`."""
    command = [
        binaries() / "psql",
        settings.database_url,
        "-qXv",
        f"slug={slug}",
        "-v",
        f"at={at}",
        "-f",
        "sql/operations/suspend_organization.sql",
    ]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("slug", ["nowhere", "north' or 'a'='a"])
def test_suspending_an_unknown_organization_is_an_error(settings, as_root, slug):
    done = operate(settings, slug, "now()")
    assert done.returncode != 0
    assert done.stderr.startswith(f"no organization has the slug '{slug.replace(chr(39), chr(39) * 2)}'\n")
    assert as_root.execute("select count(*) from organizations where suspended_at is not null").fetchone() == (0,)


async def test_a_suspended_organization_is_refused_until_it_is_resumed(settings, as_user, as_root):
    assert operate(settings, "north", "now()").stdout.startswith("north is suspended since")
    assert (await as_user("alma").get("/api/auth/me")).status_code == 401
    assert (await as_user("alma", "south").get("/api/auth/me")).status_code == 200  # control
    assert operate(settings, "north", "null").stdout == "north is not suspended\n"
    assert (await as_user("alma").get("/api/auth/me")).status_code == 200
    entries = as_root.execute(
        "select count(*) from audit_logs where entity = 'organizations' and action = 'update' and after ? 'suspended_at'"
    )
    assert entries.fetchone() == (2,)
