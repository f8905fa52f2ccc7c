"""The whole path with a real worker: an event arrives over HTTP, the worker updates the claim, other tenants see nothing."""

import psycopg
import pytest

from tests.support.clients import until
from tests.support.workers import Workers


@pytest.fixture
def worker(settings):
    with Workers(settings) as workers:
        yield workers.start()


def event(cast, kind, **more):
    return {"patientId": str(cast.tom_patient), "eventType": kind, "occurredAt": "2026-11-20T10:00:00Z"} | more


async def done(user, cast, made):
    async def completed():
        history = (await user.get(f"/api/patient-status/history/{cast.tom_patient}")).json()["data"]
        return next(
            (one for one in history if one["id"] == made["id"] and one["jobStatus"] in ("completed", "failed")), None
        )

    return await until(completed)


async def test_an_admission_moves_the_claim_once(as_user, as_root, cast, casts, worker):
    ana = as_user("ana")
    answer = await ana.post("/api/patient-status", event(cast, "admission", idempotencyKey="a-1"))
    assert (answer.status_code, answer.json()["data"]["jobStatus"]) == (202, "pending")
    finished = await done(ana, cast, answer.json()["data"])
    assert finished["jobResult"] == {"updated": [str(cast.anas_claim)], "skipped": [], "failed": [],
                                     "updatedCount": 1, "skippedCount": 0, "failedCount": 0}  # fmt: skip
    claim = (await ana.get(f"/api/claims/{cast.anas_claim}")).json()["data"]
    assert claim["status"] == "under_review"
    last = claim["statusHistory"][-1]
    assert (last["byRole"], last["source"], last["eventId"], last["byUserId"]) == (
        "system",
        "job",
        finished["id"],
        None,
    )
    again = await ana.post("/api/patient-status", event(cast, "admission", idempotencyKey="a-1"))
    assert (again.status_code, again.json()["data"]["id"]) == (200, finished["id"])
    other = await ana.post("/api/patient-status", event(cast, "discharge", idempotencyKey="a-1"))
    assert (other.status_code, other.json()["error"]["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    queued = "select count(*) from procrastinate.procrastinate_jobs where queue_name = 'patient_status'"
    assert as_root.execute(queued).fetchone() == (1,)
    south = (await as_user("alma", "south").get("/api/claims?status=under_review")).json()["data"]
    assert south == []
    untouched = (await as_user("alma").get(f"/api/claims/{cast.bens_claim}")).json()["data"]
    assert untouched["status"] == "submitted"


async def test_a_job_that_runs_twice_has_one_effect(as_user, as_root, cast, worker):
    ana = as_user("ana")
    made = (await ana.post("/api/patient-status", event(cast, "admission"))).json()["data"]
    await done(ana, cast, made)
    as_root.execute("set search_path = procrastinate")
    as_root.execute(
        "insert into procrastinate_jobs (queue_name, task_name, args) select queue_name, task_name, args from procrastinate_jobs"
    )

    async def drained():
        return as_root.execute("select count(*) from procrastinate_jobs where status <> 'succeeded'").fetchone() == (0,)

    await until(drained)
    history = (await ana.get(f"/api/claims/{cast.anas_claim}")).json()["data"]["statusHistory"]
    assert [one["to"] for one in history] == ["submitted", "under_review"]


async def test_a_discharge_settles_the_visit(as_user, as_root, cast, worker):
    alma = as_user("alma")
    new = {
        "patientId": str(cast.tom_patient),
        "providerId": str(cast.ana_provider),
        "diagnosisCode": "I10",
        "amount": 999.99,
    }
    made = {}
    for name, amount, day in [
        ("small", 999.99, "2026-11-10"),
        ("large", 1000.01, "2026-11-12"),
        ("before", 10, "2026-11-09"),
    ]:
        answer = await alma.post("/api/claims", new | {"amount": amount, "serviceDate": day})
        made[name] = answer.json()["data"]["id"]
    stay = {"visitNumber": "V-1"}
    await alma.post("/api/patient-status", event(cast, "admission", **stay) | {"occurredAt": "2026-11-10T14:00:00Z"})
    left = await alma.post(
        "/api/patient-status", event(cast, "discharge", **stay) | {"occurredAt": "2026-11-12T09:00:00Z"}
    )
    finished = await done(alma, cast, left.json()["data"])
    assert finished["jobResult"]["updated"] == [made["small"]]
    assert finished["jobResult"]["skipped"] == [{"id": made["large"], "reason": "under review already"}]
    status = {name: (await alma.get(f"/api/claims/{id_}")).json()["data"]["status"] for name, id_ in made.items()}
    assert status == {"small": "approved", "large": "under_review", "before": "under_review"}
    undone = await alma.post("/api/patient-status", event(cast, "discharge_cancelled", **stay))
    assert (await done(alma, cast, undone.json()["data"]))["jobResult"]["updated"] == [made["small"]]


async def test_a_discharge_does_not_touch_claims_in_review(as_user, cast, worker):
    alma, pia = as_user("alma"), as_user("pia")
    for status in ("pending_info", "under_review"):
        await pia.patch(f"/api/claims/{cast.anas_claim}", {"status": status, "reason": "a question"})
    day = (await pia.get(f"/api/claims/{cast.anas_claim}")).json()["data"]["serviceDate"]
    made = await alma.post("/api/patient-status", event(cast, "discharge") | {"occurredAt": f"{day}T20:00:00Z"})
    result = (await done(alma, cast, made.json()["data"]))["jobResult"]
    assert result == {
        "updatedCount": 0,
        "skippedCount": 1,
        "failedCount": 0,
        "updated": [],
        "skipped": [{"id": str(cast.anas_claim), "reason": "a person is working on it"}],
        "failed": [],
    }


async def test_a_discharge_approves_what_is_assigned_but_not_begun(as_user, cast, worker):
    alma = as_user("alma")
    day = (await alma.get(f"/api/claims/{cast.anas_claim}")).json()["data"]["serviceDate"]
    made = await alma.post("/api/patient-status", event(cast, "discharge") | {"occurredAt": f"{day}T20:00:00Z"})
    assert (await done(alma, cast, made.json()["data"]))["jobResult"]["updated"] == [str(cast.anas_claim)]


async def test_a_treatment_moves_only_its_providers_claims(as_user, cast, worker):
    alma = as_user("alma")
    made = await alma.post("/api/patient-status", event(cast, "treatment_initiated", providerId=str(cast.ben_provider)))
    assert (await done(alma, cast, made.json()["data"]))["jobResult"]["updated"] == []
    made = await alma.post("/api/patient-status", event(cast, "treatment_initiated", providerId=str(cast.ana_provider)))
    assert (await done(alma, cast, made.json()["data"]))["jobResult"]["updated"] == [str(cast.anas_claim)]


async def test_an_event_and_its_job_are_committed_together(as_role, as_root, cast):
    count = (
        "select (select count(*) from patient_status_events), (select count(*) from procrastinate.procrastinate_jobs)"
    )
    before = as_root.execute(count).fetchone()
    ana = as_role("ana")
    insert = "insert into patient_status_events (patient_id, event_type, occurred_at) values (%s, 'admission', now())"
    ana.execute(insert, [cast.tom_patient])
    ana.rollback()
    assert as_root.execute(count).fetchone() == before
    ana = as_role("ana")
    ana.execute(insert, [cast.tom_patient])
    ana.commit()
    assert as_root.execute(count).fetchone() == (before[0] + 1, before[1] + 1)


async def test_a_job_of_another_tenants_event_does_nothing(settings, cast, other):
    with psycopg.connect(settings.worker_database_url) as connection:
        connection.execute("select context.begin_job(%s, %s)", [cast.organization, cast.toms_event])  # control
        connection.rollback()
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
            connection.execute("select context.begin_job(%s, %s)", [cast.organization, other.toms_event])


async def test_only_a_treating_provider_reports_events_of_a_patient(as_user, cast, other):
    assert (await as_user("ana").post("/api/patient-status", event(cast, "admission"))).status_code == 202  # control
    assert (await as_user("ben").post("/api/patient-status", event(cast, "admission"))).status_code == 400
    assert (await as_user("pia").post("/api/patient-status", event(cast, "admission"))).status_code == 403
    assert (await as_user("tom").post("/api/patient-status", event(cast, "admission"))).status_code == 403
    theirs = await as_user("alma").post("/api/patient-status", event(other, "admission"))
    assert (theirs.status_code, list(theirs.json()["error"]["details"]["fields"])) == (400, ["patientId"])
