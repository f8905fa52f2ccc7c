"""Job processing logs: the list of jobs, and the retry of a failed one."""

import asyncio
from uuid import uuid4

import msgspec
import pytest

from app.http.envelope import Envelope
from app.resources.job_processing_logs import Job
from tests.support.databases import until_two_wait_for_a_lock
from tests.support.responses import problem, walk


@pytest.fixture
async def jobs(as_user, as_root, cast):
    """Five more jobs beside toms_job, by name. Discharges are completed and treatments failed."""
    made = {}
    for number, kind in enumerate(
        ("admission", "discharge", "treatment_initiated", "treatment_initiated", "discharge_cancelled")
    ):
        event = {
            "patientId": str(cast.tina_patient),
            "eventType": kind,
            "occurredAt": f"2026-01-0{number + 1}T08:00:00Z",
        }
        made[f"{kind} {number}"] = (await as_user("alma").post("/api/patient-status", event)).json()["data"]["id"]
    for job_type, status in (("patient_discharge", "completed"), ("treatment_initiated", "failed")):
        as_root.execute(
            "update job_processing_logs set status = %s, attempts = 3, error = %s, finished_at = now() where job_type = %s",
            [status, "DataError 22P02" if status == "failed" else None, job_type],
        )
    rows = as_root.execute("select event_id::text, job_id::text from job_processing_logs").fetchall()
    return {name: dict(rows)[event] for name, event in made.items()} | {"toms": str(cast.toms_job)}


def empty_queue(as_root):
    as_root.execute("set search_path = procrastinate; delete from procrastinate_jobs; set search_path = app")


async def test_jobs_are_listed_by_status_and_type(as_user, jobs):
    alma = as_user("alma")
    newest = [*list(jobs)[4::-1], "toms"]
    names = {id_: name for name, id_ in jobs.items()}
    for query, expected in {
        "": newest, "status=failed": newest[1:3], "status=completed": [newest[3]], "jobType=patient_admission": [newest[4], "toms"],
        "status=pending": [newest[0], newest[4], "toms"], "status=failed&jobType=treatment_initiated": newest[1:3],
        "status=failed&jobType=patient_discharge": [], "status=processing": [],
    }.items():  # fmt: skip
        answer = await alma.get(f"/api/jobs?{query}")
        found = msgspec.json.decode(answer.content, type=Envelope[list[Job]], strict=True).data
        assert [names[str(one.id)] for one in found] == expected, query
    assert [names[one["id"]] for one in await walk(alma, "/api/jobs?limit=4")] == newest
    assert [names[one["id"]] for one in await walk(alma, "/api/jobs?limit=1&status=failed")] == newest[1:3]
    for query, field in (("status=dead", "status"), ("jobType=admission", "jobType"), ("type=x", "type")):
        assert problem(await alma.get(f"/api/jobs?{query}")) == (400, [field])


async def test_a_failed_job_runs_again_once(as_user, as_root, cast, other, jobs):
    alma = as_user("alma")
    empty_queue(as_root)
    failed = jobs["treatment_initiated 2"]
    as_root.execute(
        "update job_processing_logs set status = 'processing' where job_id = %s", [jobs["discharge_cancelled 4"]]
    )
    for name in ("admission 0", "discharge 1", "discharge_cancelled 4", "toms"):
        assert problem(await alma.post(f"/api/jobs/{jobs[name]}/retry", None)) == (409, ["status"]), name
    for theirs in (other.toms_job, uuid4(), cast.toms_event):
        assert (await alma.post(f"/api/jobs/{theirs}/retry", None)).status_code == 404
    answer = await alma.post(f"/api/jobs/{failed}/retry", None)
    data = answer.json()["data"]
    assert (answer.status_code, data["id"], data["status"], data["error"]) == (202, failed, "pending", None)
    assert (data["startedAt"], data["finishedAt"]) == (None, None)
    queued = as_root.execute(
        "select queue_name, task_name, lock, args from procrastinate.procrastinate_jobs"
    ).fetchall()
    args = {"organization_id": str(cast.organization), "event_id": data["eventId"]}
    lock = f"{cast.organization}:{cast.tina_patient}"
    assert queued == [("patient_status", "treatment_initiated", lock, args)]
    stored = as_root.execute("select status, error from job_processing_logs where job_id = %s", [failed]).fetchone()
    assert stored == ("pending", None)
    assert (await alma.post(f"/api/jobs/{failed}/retry", None)).status_code == 409


async def test_two_retries_of_a_job_at_once_are_one(as_user, as_root, jobs):
    empty_queue(as_root)
    path = f"/api/jobs/{jobs['treatment_initiated 2']}/retry"
    with as_root.transaction():
        as_root.execute("select from job_processing_logs where job_id = %s for update", [jobs["treatment_initiated 2"]])
        both = asyncio.gather(as_user("alma").post(path, None), as_user("alma").post(path, None))
        await until_two_wait_for_a_lock(as_root)
    assert sorted(answer.status_code for answer in await both) == [202, 409]
    assert as_root.execute("select count(*) from procrastinate.procrastinate_jobs").fetchone() == (1,)
