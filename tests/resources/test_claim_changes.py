"""Changes of a claim: fields that belong to one status, decisions that jobs leave alone, assignments, appeals and possible duplicates."""

import asyncio

import psycopg
import pytest

from tests.http.test_import_export import bring, line
from tests.support.responses import problem

REJECT = {"status": "rejected", "denialReason": "not covered"}
APPEAL = {"status": "appealed", "reason": "look again"}
BACK = {"status": "under_review", "reason": "once more"}


@pytest.fixture
def body(cast):
    return {"patientId": str(cast.tom_patient), "providerId": str(cast.ana_provider), "diagnosisCode": "I10",
            "amount": 10, "serviceDate": "2026-01-05"}  # fmt: skip


def path(claim):
    return f"/api/claims/{claim}"


@pytest.mark.parametrize(("change", "fields"), [
    ({"approvedAmount": 0}, ["status"]), ({"approvedAmount": 5}, ["status"]), ({"approvedAmount": 0.0, "notes": "x"}, ["status"]),
    ({"reason": "x"}, ["status"]), ({"denialReason": "x"}, ["status"]), ({"denialCode": "x"}, ["status"]),
    ({"status": "approved", "denialReason": "x"}, ["denialReason"]), ({"status": "approved", "denialCode": "x"}, ["denialCode"]),
    ({"status": "approved", "denialReason": "x", "denialCode": "x"}, ["denialCode", "denialReason"]),
    (REJECT | {"approvedAmount": 5}, ["approvedAmount"]), (REJECT | {"approvedAmount": 0}, ["approvedAmount"]),
    ({"status": "under_review", "approvedAmount": 0}, ["approvedAmount"]),
    ({"status": "under_review", "denialReason": "x"}, ["denialReason"]), ({"status": "voided", "denialCode": "x"}, ["denialCode"]),
    ({"status": "pending_info", "reason": " "}, ["reason"]), ({"status": "rejected", "denialReason": "\u3000"}, ["denialReason"]),
    ({"status": "rejected", "denialReason": ""}, ["denialReason"]), ({"status": "pending_info", "reason": ""}, ["reason"]),
])  # fmt: skip
async def test_a_field_without_its_status_is_refused(as_user, cast, change, fields):
    alma = as_user("alma")
    before = (await alma.get(path(cast.anas_claim))).json()["data"]
    assert problem(await alma.patch(path(cast.anas_claim), change)) == (400, fields)
    assert (await alma.get(path(cast.anas_claim))).json()["data"] == before


@pytest.mark.parametrize("change", [
    {"status": "approved", "approvedAmount": 0, "reason": "r"}, REJECT | {"denialCode": "CO-50", "reason": "r"},
    {"status": "approved", "denialReason": "", "denialCode": None, "approvedAmount": ""},
    {"status": "under_review", "approvedAmount": None, "reason": ""}, {"notes": "", "approvedAmount": "", "reason": ""},
])  # fmt: skip
async def test_a_field_with_its_status_is_accepted(as_user, cast, change):
    answer = await as_user("alma").patch(path(cast.anas_claim), change)
    assert answer.status_code == 200, answer.text


async def test_a_bulk_update_has_the_same_rule(as_user, cast):
    alma, ids = as_user("alma"), [str(cast.anas_claim)]
    bulk = {"claimIds": ids, "status": "approved", "denialReason": "x"}
    assert problem(await alma.post("/api/claims/bulk-status-update", bulk)) == (400, ["denialReason"])
    done = await alma.post("/api/claims/bulk-status-update", bulk | {"status": "rejected", "reason": ""})
    assert done.json()["data"]["updated"] == ids


async def decided_by_job(stay, patient, visit):
    """A discharge of this visit; the claims that its job updated, and the reasons of those it skipped."""
    return await stay.report(patient, "discharge", "2026-11-12", visitNumber=visit)


@pytest.mark.parametrize("steps", [
    [{"status": "approved"}, BACK], [REJECT, APPEAL, {"status": "under_review"}],
    [{"status": "approved", "approvedAmount": 1}, APPEAL, {"status": "under_review"}],
    [{"status": "under_review"}, {"status": "pending_info", "reason": "a question"}, {"status": "under_review"}],
])  # fmt: skip
@pytest.mark.parametrize("assigned", [True, False])
async def test_a_claim_that_a_person_decided_or_returned_is_left_to_people(
    stay, as_user, as_root, cast, steps, assigned
):
    patient = await stay.patient()
    claim, untouched = await stay.claim(patient), await stay.claim(patient)
    alma = as_user("alma")
    for step in steps:
        assert (await alma.patch(path(claim), step)).status_code == 200
        as_root.execute(
            "update claims set decided_by = null where claim_id = %s", [claim]
        )  # as if another user had decided
    if assigned:
        assert (await alma("PUT", path(claim) + "/assignment", json={"userId": str(cast.pia)})).status_code == 200
        assert (await alma("PUT", path(claim) + "/assignment", json={"userId": None})).status_code == 200
    updated, skipped = await decided_by_job(stay, patient, "V")
    assert (updated, list(skipped)) == ({untouched}, [claim])  # control: a job decides the other one
    assert await stay.status(claim) == "under_review"


async def test_an_automatic_approval_that_a_person_sent_back_is_left_to_people(stay, as_user):
    patient = await stay.patient()
    claim = await stay.claim(patient)
    assert (await decided_by_job(stay, patient, "V"))[0] == {claim}
    assert (await as_user("alma").patch(path(claim), BACK)).status_code == 200
    assert (await decided_by_job(stay, patient, "W"))[0] == set()
    assert await stay.status(claim) == "under_review"


async def test_an_automatic_approval_that_was_undone_is_forgotten(stay, as_user, as_root):
    alma = as_user("alma")
    before = (await alma.get("/api/claims/stats")).json()["data"]
    patient = await stay.patient()
    claim = await stay.claim(patient)
    await decided_by_job(stay, patient, "V")
    approved = (await alma.get("/api/claims/stats")).json()["data"]
    assert (approved["approvalRate"], approved["averageProcessingHours"] is None) == (1, False)  # control
    assert (await stay.report(patient, "discharge_cancelled", "2026-11-13", visitNumber="V"))[0] == {claim}
    data = (await alma.get(path(claim))).json()["data"]
    assert (data["status"], data["processedAt"], data["approvedAmount"]) == ("under_review", None, None)
    after = (await alma.get("/api/claims/stats")).json()["data"]
    assert (after["approvalRate"], after["averageProcessingHours"]) == (None, None)
    assert after["total"]["count"] == before["total"]["count"] + 1
    for text in ("select apply_all_total_changes()", "select from claim_totals"):
        as_root.execute(text)
    assert (await alma.get("/api/claims/stats")).json()["data"] == after
    assert (await decided_by_job(stay, patient, "W"))[0] == {claim}  # a job may decide it again


def test_sql_as_a_job_decides_no_claim_twice(settings, as_root, cast):
    for decided, moved in (("null", True), ("now()", False)):
        as_root.execute("alter table claims disable trigger user")
        as_root.execute(f"update claims set first_decided_at = {decided} where claim_id = %s", [cast.anas_claim])
        as_root.execute("alter table claims enable trigger user")
        with psycopg.connect(settings.worker_database_url) as worker:
            worker.execute(
                "select set_config('role', context.begin_job(%s, %s), true), set_config('search_path', 'app', true)",
                [cast.organization, cast.toms_event],
            )
            update = "update claims set status = 'approved' where claim_id = %s"
            if moved:
                assert worker.execute(update, [cast.anas_claim]).rowcount == 1
            else:
                with pytest.raises(psycopg.Error) as caught:
                    worker.execute(update, [cast.anas_claim])
                assert caught.value.sqlstate == "TRANS"
            worker.rollback()


async def test_a_draft_or_voided_claim_is_not_assigned(as_user, cast, body):
    alma = as_user("alma")
    draft = (await alma.post("/api/claims", body | {"draft": True})).json()["data"]["id"]
    voided = (await alma.post("/api/claims", body)).json()["data"]["id"]
    await alma.patch(path(voided), {"status": "voided"})
    for claim, status in ((draft, "draft"), (voided, "voided")):
        answer = await alma("PUT", path(claim) + "/assignment", json={"userId": str(cast.pia)})
        assert problem(answer) == (409, ["status"])
        assert answer.json()["error"]["message"] == f"status: A claim that is {status} can't be assigned."
        assert (await alma("PUT", path(claim) + "/assignment", json={"userId": None})).status_code == 200
    await alma.patch(path(draft), {"status": "submitted"})
    assert (
        await alma("PUT", path(draft) + "/assignment", json={"userId": str(cast.pia)})
    ).status_code == 200  # control


@pytest.mark.parametrize("change", [
    {"active": False}, {"role": "admin"}, {"role": "provider"}, {"role": "admin", "active": False},
])  # fmt: skip
async def test_the_claims_of_a_processor_who_leaves_return_to_the_queue(as_user, as_root, cast, body, change):
    alma = as_user("alma")
    ids = [(await alma.post("/api/claims", body)).json()["data"]["id"] for _ in range(3)]
    for claim in ids:
        await alma("PUT", path(claim) + "/assignment", json={"userId": str(cast.pia)})
    await alma.patch(path(ids[2]), {"status": "voided"})
    if change.get("role") == "provider":
        change = change | {"providerId": str(cast.ana_provider)}
    same = await alma.patch(f"/api/users/{cast.pia}", {"role": "claims_processor", "active": True})
    assert same.json()["data"]["releasedClaims"] == 0  # control
    answer = await alma.patch(f"/api/users/{cast.pia}", change)
    assert (answer.status_code, answer.json()["data"]["releasedClaims"]) == (200, 3)  # anas_claim and two of ids
    left = as_root.execute("select claim_id::text from claims where assigned_to = %s", [cast.pia]).fetchall()
    assert left == [(ids[2],)]
    taken = [(await as_user("paul")("POST", "/api/claims/next")).json()["data"]["id"] for _ in range(4)]
    assert set(taken) == {str(cast.anas_claim), str(cast.bens_claim), *ids[:2]}
    assert (await alma.patch(f"/api/users/{cast.paul}", {})).json()["data"]["releasedClaims"] == 0


@pytest.mark.parametrize("change", ["active = false", "role = 'admin'"])
def test_sql_returns_them_too(as_root, as_role, cast, change):
    alma = as_role("alma")
    alma.execute(f"update users set {change} where user_id = %s", [cast.pia])
    of_pia = "select count(*) from claims where assigned_to = %s"
    assert alma.execute(of_pia, [cast.pia]).fetchone() == (0,)
    alma.rollback()
    assert as_root.execute(of_pia, [cast.pia]).fetchone() == (1,)  # control
    as_root.execute(f"update users set {change} where user_id = %s", [cast.pia])  # without a context
    assert as_root.execute(of_pia, [cast.pia]).fetchone() == (0,)


async def test_an_assignment_during_a_deactivation_leaves_no_claim_behind(as_user, as_root, cast, body):
    """Whichever comes first, no claim stays with an inactive processor."""
    alma = as_user("alma")
    of_paul = "select count(*) from claims where assigned_to = %s"
    for _ in range(5):
        claims = [(await alma.post("/api/claims", body)).json()["data"]["id"] for _ in range(8)]
        assign = [alma("PUT", path(one) + "/assignment", json={"userId": str(cast.paul)}) for one in claims]
        *given, changed = await asyncio.gather(*assign, alma.patch(f"/api/users/{cast.paul}", {"active": False}))
        assert {one.status_code for one in given} <= {200, 409}
        assert changed.json()["data"]["releasedClaims"] == sum(one.status_code == 200 for one in given)
        assert as_root.execute(of_paul, [cast.paul]).fetchone() == (0,)
        assert (await alma.patch(f"/api/users/{cast.paul}", {"active": True})).status_code == 200


@pytest.mark.parametrize("way", ["api", "bulk", "sql"])
async def test_an_appeal_goes_to_another_processor(as_user, as_role, as_root, cast, way):
    pia, paul, ana, claim = as_user("pia"), as_user("paul"), as_user("ana"), cast.anas_claim
    assert (await pia.patch(path(claim), REJECT)).status_code == 200
    if way == "api":
        answer = await ana.patch(path(claim), APPEAL)
        assert (answer.status_code, answer.json()["data"]["assignedTo"]) == (200, None)
    elif way == "bulk":
        await as_user("alma").post("/api/claims/bulk-status-update", {"claimIds": [str(claim)]} | APPEAL)
    else:
        connection = as_role("alma")
        connection.execute("update claims set status = 'appealed', status_reason = 'r' where claim_id = %s", [claim])
        connection.commit()
    assert as_root.execute("select status, assigned_to from claims where claim_id = %s", [claim]).fetchone() == (
        "appealed",
        None,
    )
    taken = await pia("POST", "/api/claims/next")
    assert taken.json()["data"]["id"] == str(cast.bens_claim)
    assert (await pia("POST", "/api/claims/next")).status_code == 204
    back = await as_user("alma")("PUT", path(claim) + "/assignment", json={"userId": str(cast.pia)})
    assert problem(back) == (409, ["userId"])
    assert (await paul("POST", "/api/claims/next")).json()["data"]["id"] == str(claim)
    assert (await paul.patch(path(claim), {"status": "under_review"})).status_code == 200


async def test_appeals_are_not_reassigned_to_their_decider(as_user, as_root, cast, body):
    alma, pia = as_user("alma"), as_user("pia")
    assert (await pia.patch(path(cast.anas_claim), REJECT)).status_code == 200
    await as_user("ana").patch(path(cast.anas_claim), APPEAL)
    for claim in (cast.anas_claim, cast.bens_claim):
        await alma("PUT", path(claim) + "/assignment", json={"userId": str(cast.paul)})
    moved = await alma.post(f"/api/users/{cast.paul}/reassign-claims", {"toUserId": str(cast.pia)})
    assert moved.json()["data"] == {"reassigned": 1}
    of_paul = as_root.execute("select claim_id from claims where assigned_to = %s", [cast.paul]).fetchall()
    assert of_paul == [(cast.anas_claim,)]


async def test_a_refusal_says_what_keeps_the_caller(as_user, as_root, cast, body):
    alma, ana = as_user("alma"), as_user("ana")

    def told(answer):
        return answer.status_code, answer.json()["error"]["message"]

    assert told(await ana.patch(path(cast.anas_claim), {"status": "approved"})) == (
        403, "Your role may not make this change of status. Allowed roles: admin, claims_processor, system.")  # fmt: skip
    assert (await alma.patch(path(cast.anas_claim), REJECT)).status_code == 200
    assert (await ana.patch(path(cast.anas_claim), APPEAL)).status_code == 200
    decider = "You decided this claim. Another user must take up its appeal."
    assert told(await alma.patch(path(cast.anas_claim), {"status": "under_review"})) == (403, decider)
    bulk = await alma.post(
        "/api/claims/bulk-status-update", {"claimIds": [str(cast.anas_claim)], "status": "under_review"}
    )
    (failed,) = bulk.json()["data"]["failed"]
    assert (failed["code"], failed["message"]) == ("FORBIDDEN", decider)
    nowhere = await alma.patch(path(cast.anas_claim), {"status": "paid"})
    assert nowhere.json()["error"]["details"]["allowed"] == []  # the decider may not take up the appeal
    assert told(await ana.post("/api/claims", body | {"providerId": str(cast.ben_provider)})) == (
        403, "You may create records only for your own provider.")  # fmt: skip
    (own,) = await bring(ana, line(cast, providerId=str(cast.ben_provider)))
    assert own["error"]["message"] == "You may create records only for your own provider."
    assert told(await ana.patch(f"/api/providers/{cast.ben_provider}", {"name": "B"})) == (
        403, "You may read this record, but change only your own.")  # fmt: skip


async def test_a_conflict_names_its_cause(as_user, as_root, cast, body):
    alma, ana = as_user("alma"), as_user("ana")

    async def told(call):
        answer = await call
        assert answer.status_code == 409, answer.text
        return answer.json()["error"]["message"]

    assert await told(alma.post("/api/claims", body | {"claimNumber": "C-ANA"})) == "claimNumber: Is taken."
    assert (
        await told(alma.patch(path(cast.anas_claim), {"status": "paid"}))
        == "A claim that is submitted can't become paid."
    )
    assert await told(alma("PUT", path(cast.anas_claim) + "/assignment", json={"userId": str(cast.ana)})) == (
        "userId: Must be an active claims processor."
    )
    await alma.patch(path(cast.anas_claim), {"status": "approved"})
    assert (
        await told(alma.patch(path(cast.anas_claim), {"notes": "x"}))
        == "notes: Can't be changed once a claim is decided."
    )
    full = "The claim was approved in full. Only a smaller approval or a rejection can be appealed."
    assert await told(ana.patch(path(cast.anas_claim), APPEAL)) == full
    bulk = await alma.post("/api/claims/bulk-status-update", {"claimIds": [str(cast.anas_claim)]} | APPEAL)
    assert [one["message"] for one in bulk.json()["data"]["failed"]] == [full]
    refused = await alma.patch(path(cast.anas_claim), {"status": "submitted"})
    assert refused.json()["error"]["details"]["allowed"] == ["paid", "under_review", "voided"]  # without appealed


async def create(user, body, **headers):
    answer = await user("POST", "/api/claims", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]["id"], answer.json()["meta"].get("warnings"), answer


async def test_the_same_claim_again_is_created_with_a_warning(as_user, cast, body):
    alma, ana = as_user("alma"), as_user("ana")
    first, warnings, _ = await create(ana, body | {"claimNumber": "W-1"})
    assert warnings is None
    second, warnings, _ = await create(ana, body | {"diagnosisCode": "i10", "notes": "n"})
    assert [(one["code"], one["claimIds"]) for one in warnings] == [("POSSIBLE_DUPLICATE", [first])]
    third, warnings, answer = await create(alma, body, **{"Idempotency-Key": "k"})
    assert sorted(warnings[0]["claimIds"]) == sorted([second, first])
    replay = await alma("POST", "/api/claims", json=body, headers={"Idempotency-Key": "k"})
    assert (replay.content, replay.headers["Idempotent-Replayed"]) == (answer.content, "true")
    for other in (
        {"claimNumber": "W-2"}, {"draft": True}, {"amount": 10.01}, {"serviceDate": "2026-01-06"}, {"diagnosisCode": "E11.9"},
        {"patientId": str(cast.tina_patient)}, {"providerId": str(cast.ben_provider)},
    ):  # fmt: skip
        _, warnings, _ = await create(alma, body | other)
        assert warnings is None, other
    for claim in (first, second, third):
        await alma.patch(path(claim), {"status": "voided"})
    _, warnings, _ = await create(alma, body | {"patientId": str(cast.tom_patient)})
    assert len(warnings[0]["claimIds"]) == 1  # W-2: neither the draft nor voided claims


async def test_an_import_has_the_same_warnings(as_user, cast):
    first, second, third, numbered = await bring(
        as_user("ana"), line(cast), line(cast), line(cast, amount=3), line(cast, claimNumber="W-1"), key="k"
    )
    assert ["warnings" in one for one in (first, second, third, numbered)] == [False, True, False, False]
    assert second["warnings"][0]["claimIds"] == [first["id"]]


async def test_a_warning_names_only_visible_claims(as_user, as_root, cast, other, body):
    """Ten at most, and none of another tenant."""
    assert (await as_user("alma", "south").post("/api/claims", body | {
        "patientId": str(other.tom_patient), "providerId": str(other.ana_provider)})).status_code == 201  # fmt: skip
    _, warnings, _ = await create(as_user("ana"), body)
    assert warnings is None
    ids = [(await create(as_user("ana"), body))[0] for _ in range(12)]
    _, warnings, _ = await create(as_user("ana"), body)
    assert len(set(warnings[0]["claimIds"]) & set(ids)) >= 9
    assert len(warnings[0]["claimIds"]) == 10
