"""Indirect access: bulk updates, imports, exports, keys, jobs, the audit log, and races between them."""

import asyncio
import csv
import io
import json
from uuid import uuid4

from app.http import csv as csv_response
from tests.security.attacks.cases import NDJSON, claim, event, patient


async def bring(user, lines, **headers):
    content = "\n".join(json.dumps(one) for one in lines)
    answer = await user("POST", "/api/claims/import", content=content, headers=NDJSON | headers)
    return [json.loads(one) for one in answer.text.splitlines()]


def history(as_root, claim_id):
    found = as_root.execute(
        "select to_status from claim_status_history where claim_id = %s order by version", [claim_id]
    )
    return [status for (status,) in found.fetchall()]


async def test_an_import_line_for_another_tenant_fails_alone(as_user, as_root, cast, other):
    before = as_root.execute("select count(*) from claims where organization_id = %s", [other.organization]).fetchone()
    wrong = [{"patientId": str(other.tom_patient)}, {"providerId": str(other.ana_provider)}, {"patientId": str(uuid4())},
             {"providerId": str(uuid4())}, claim(other)]  # fmt: skip
    given = {"organizationId": str(other.organization)}
    results = await bring(
        as_user("alma"), [claim(cast) | given, *(claim(cast) | one for one in wrong), claim(cast) | given]
    )
    assert [one["result"] for one in results] == ["created", *["failed"] * 5, "created"]
    errors = [one["error"] for one in results[1:6]]
    assert {one["code"] for one in errors} == {"VALIDATION_ERROR"}
    assert [sorted(one["fields"]) for one in errors] == [["patientId"], ["providerId"]] * 2 + [
        ["patientId", "providerId"]
    ]
    assert (errors[0], errors[1]) == (errors[2], errors[3])
    assert (
        as_root.execute("select count(*) from claims where organization_id = %s", [other.organization]).fetchone()
        == before
    )


async def test_no_cell_of_an_export_is_a_formula_or_another_cell(as_user, as_root, cast):
    """Every column with text of users, whatever the text begins with and whatever separates cells."""
    texts = [begin + "cmd|' /C calc'!A0" for begin in csv_response.FORMULA] + [
        '",=1+1,"',
        "x\r\n=1+1,2",
        ';=1;"',
        "\t+1",
        "'=1",
    ]
    lines = [
        claim(cast) | {"notes": text, "claimNumber": f"{''.join(filter(str.isprintable, text))}{n}"[:64]}
        for n, text in enumerate(texts)
    ]
    made = await bring(as_user("alma"), lines)
    for text, one in zip(texts, made, strict=True):
        rejected = {"status": "rejected", "denialReason": text, "denialCode": text[:20]}
        assert (await as_user("alma").patch(f"/api/claims/{one['id']}", rejected)).status_code == 200, text
    table = await as_user("alma").get("/api/claims/export?status=rejected", headers={"Accept": "text/csv"})
    rows = list(csv.reader(io.StringIO(table.text, newline="")))
    assert len(rows) == len(texts) + 1
    for row in rows:
        assert len(row) == len(rows[0]) == 19
        assert not [cell for cell in row if cell.startswith(csv_response.FORMULA)], row
    plain = (await as_user("alma").get("/api/claims/export?status=rejected")).content.decode().split("\n")[:-1]
    assert {json.loads(one)["notes"] for one in plain} == set(texts)  # control: elsewhere the text is unchanged


async def test_a_bulk_update_changes_the_callers_claims_once(as_user, as_root, cast, other):
    """Hundreds of foreign ids and one own id in three spellings: one update, and every other id is unknown."""
    own = str(cast.anas_claim)
    foreign = [str(other.anas_claim), str(other.bens_claim), *(str(uuid4()) for _ in range(300))]
    for who, seen in (("paul", []), ("alma", [own])):
        body = {"claimIds": [*foreign, own, own.upper(), own.replace("-", "")], "status": "under_review"}
        told = (await as_user(who).post("/api/claims/bulk-status-update", body)).json()["data"]
        assert told["updated"] == seen, who
        assert {one["code"] for one in told["failed"]} == {"NOT_FOUND"}
        assert len(told["failed"]) == len(foreign) + (not seen)
        assert len({one["message"] for one in told["failed"]}) == 1
    assert history(as_root, own) == ["submitted", "under_review"]
    assert history(as_root, other.anas_claim) == ["submitted"]


async def test_a_claim_is_approved_and_paid_once_under_concurrent_requests(as_user, as_root, cast):
    alma, pia, path = as_user("alma"), as_user("pia"), f"/api/claims/{cast.anas_claim}"
    approved, rejected = {"status": "approved", "approvedAmount": 100}, {"status": "rejected", "denialReason": "no"}
    bulk = {"claimIds": [str(cast.anas_claim)], "status": "approved"}
    answers = await asyncio.gather(
        *(user.patch(path, body) for user in (alma, pia) for body in (approved, rejected)),
        *(user.post("/api/claims/bulk-status-update", bulk) for user in (alma, pia)),
    )
    moved = [one for one in answers if one.status_code == 200 and one.json()["data"].get("updated") != []]
    assert len(moved) == 1
    assert len(history(as_root, cast.anas_claim)) == 2
    as_root.execute("set session_replication_role = replica")
    as_root.execute(
        "update claims set status = 'approved', approved_cents = 10000 where claim_id = %s", [cast.anas_claim]
    )
    paid = {"claimIds": [str(cast.anas_claim)], "status": "paid"}
    answers = await asyncio.gather(
        *(alma.patch(path, {"status": "paid"}) for _ in range(6)),
        *(alma.post("/api/claims/bulk-status-update", paid) for _ in range(6)),
    )
    assert {one.status_code for one in answers} == {200, 409}
    assert history(as_root, cast.anas_claim).count("paid") == 1


async def test_concurrent_imports_of_the_same_numbers_create_each_claim_once(as_user, as_root, cast):
    """The same numbers in opposite orders cause deadlocks. A refused import reports that line by line."""
    lines = [claim(cast) for _ in range(60)]
    runs = await asyncio.gather(*(bring(as_user("alma"), order) for order in (lines, lines[::-1])))
    told = [(one["result"], (one["error"] or {}).get("code")) for run in runs for one in run]
    assert set(told) <= {("created", None), ("duplicate", None), ("failed", "UNAVAILABLE")}
    again = await bring(as_user("alma"), lines)
    assert {one["result"] for one in again} <= {"created", "duplicate"}
    numbers = [one["claimNumber"] for one in lines]
    stands = as_root.execute("select count(*) from claims where claim_number = any (%s)", [numbers]).fetchone()
    assert stands == (60,)
    assert told.count(("created", None)) + [one["result"] for one in again].count("created") == 60


async def test_concurrent_bulk_requests_cause_no_server_error(as_user, as_root, cast):
    """Updates, assignments, reassignments and take-next over the same claims at once."""
    ids = [one["id"] for one in await bring(as_user("alma"), [claim(cast) for _ in range(30)])]
    alma, pia, paul = (as_user(name) for name in ("alma", "pia", "paul"))
    for status in ("under_review", "approved"):
        answers = await asyncio.gather(
            *(
                alma.post("/api/claims/bulk-status-update", {"claimIds": order, "status": status})
                for order in (ids, ids[::-1])
            ),
            *(user("POST", "/api/claims/next") for user in (pia, paul) * 3),
            *(alma("PUT", f"/api/claims/{one}/assignment", json={"userId": str(cast.pia)}) for one in ids[::7]),
            alma.post(f"/api/users/{cast.pia}/reassign-claims", {"toUserId": str(cast.paul)}),
            alma.post(f"/api/users/{cast.paul}/reassign-claims", {"toUserId": str(cast.pia)}),
        )
        assert {one.status_code for one in answers} <= {200, 204, 409}, [
            one.text for one in answers if one.status_code > 409
        ]
    for one in ids:
        assert history(as_root, one) == ["submitted", "under_review", "approved"]


async def test_one_of_two_concurrent_bodies_with_a_key_has_an_effect(as_user, as_root, cast):
    bodies = [claim(cast), claim(cast)]
    sends = [
        as_user("alma")("POST", "/api/claims", json=bodies[n % 2], headers={"Idempotency-Key": "two"})
        for n in range(12)
    ]
    answers = await asyncio.gather(*sends)
    assert {one.status_code for one in answers} == {201, 422}
    assert len({one.content for one in answers if one.status_code == 201}) == 1
    numbers = [one["claimNumber"] for one in bodies]
    assert as_root.execute("select count(*) from claims where claim_number = any (%s)", [numbers]).fetchone() == (1,)
    as_root.execute("update auth.sessions set ended_at = now() where user_id = %s", [cast.alma])
    again = await as_user("alma")("POST", "/api/claims", json=bodies[0], headers={"Idempotency-Key": "two"})
    assert again.status_code == 401  # a stored response is for a user with a valid session


async def test_an_events_key_reveals_no_event_of_another_patient(as_user, as_root, cast):
    """Ben uses a key that ana used for a patient he does not treat. Keys are those of their sender, so his event is a new one."""
    taken = event(cast)
    assert (await as_user("ana").post("/api/patient-status", taken)).status_code == 202
    assert (await as_user("ana").post("/api/patient-status", taken)).status_code == 200  # control
    about = {"patientId": str(cast.tina_patient), "providerId": str(cast.ben_provider)}
    told = [await as_user("ben").post("/api/patient-status", taken | about | more) for more in ({}, {"notes": "x"})]
    assert [one.status_code for one in told] == [202, 422]
    keys = "select count(*) from patient_status_events where idempotency_key = %s"
    assert as_root.execute(keys, [taken["idempotencyKey"]]).fetchone() == (2,)
    answers = await asyncio.gather(*(as_user(who).post("/api/patient-status", event(cast) | {"idempotencyKey": "race", "notes": text})
                                     for who in ("alma", "ana") for text in "ab" * 3))  # fmt: skip
    assert {one.status_code for one in answers} == {202, 200, 422}
    assert [one.status_code for one in answers].count(202) == 2  # alma, of the staff, and ana, of a provider
    jobs = "select count(*) from job_processing_logs j join patient_status_events e using (event_id) where e.idempotency_key = 'race'"
    assert as_root.execute(jobs).fetchone() == (2,)


async def test_a_failed_job_with_many_retries_runs_once(as_user, as_root, cast, other):
    as_root.execute("update job_processing_logs set status = 'failed', finished_at = now()")
    queued = "select count(*) from procrastinate.procrastinate_jobs where args ->> 'organization_id' = %s"
    answers = await asyncio.gather(*(as_user("alma")("POST", f"/api/jobs/{cast.toms_job}/retry") for _ in range(8)))
    assert sorted(one.status_code for one in answers) == [202] + [409] * 7
    assert as_root.execute(queued, [str(cast.organization)]).fetchone() == (1,)
    assert as_root.execute(queued, [str(other.organization)]).fetchone() == (0,)
    for who, status in (("pia", 403), ("ana", 403), ("tom", 403)):
        assert (await as_user(who)("POST", f"/api/jobs/{cast.toms_job}/retry")).status_code == status


async def test_a_patient_reads_no_draft_in_the_audit_log(as_user, as_root, cast):
    """The audit log contains whole rows. A patient must not read there what it may not see of a claim."""
    draft = await as_user("ana").post("/api/claims", claim(cast) | {"draft": True, "notes": "a guess"})
    path = draft.headers["Location"]
    assert (await as_user("ana").patch(path, {"notes": "another guess"})).status_code == 200

    async def read(who):
        entries = (await as_user(who).get("/api/audit-logs?limit=100&entity=claims")).json()["data"]
        return [one["action"] for one in entries if one["entityId"] == path.rpartition("/")[2]]

    assert (await as_user("tom").get(path)).status_code == 404
    assert await read("tom") == []
    assert await read("alma") == ["denied", "update", "create"]  # control; the first is tom's try
    assert (await as_user("ana").patch(path, {"status": "submitted"})).status_code == 200
    assert "update" in await read("tom")  # control: of a submitted claim it reads the entries


async def test_of_concurrent_requests_for_one_number_one_succeeds(as_user, as_root, cast):
    """Claims, patients and providers. The others get a conflict, and none causes an error of the server."""
    for path, body in (
        ("/api/claims", claim(cast)),
        ("/api/patients", patient()),
        ("/api/providers", {"npi": "1679576722", "name": "C"}),
    ):
        answers = await asyncio.gather(*(as_user("alma").post(path, body) for _ in range(10)))
        assert sorted(one.status_code for one in answers) == [201] + [409] * 9, path
