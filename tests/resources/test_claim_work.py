"""Work on claims: versions, assignment, the next claim, bulk updates."""

import asyncio

import pytest


@pytest.fixture
def body(cast):
    return {"patientId": str(cast.tom_patient), "providerId": str(cast.ana_provider), "diagnosisCode": "I10",
            "amount": 10, "serviceDate": "2026-01-05"}  # fmt: skip


async def test_an_update_of_an_old_version_is_refused(as_user, cast):
    alma, path = as_user("alma"), f"/api/claims/{cast.anas_claim}"
    read = await alma.get(path)
    first = await alma("PATCH", path, json={"notes": "one"}, headers={"If-Match": read.headers["ETag"]})
    assert first.status_code == 200
    late = await alma("PATCH", path, json={"notes": "two"}, headers={"If-Match": read.headers["ETag"]})
    assert (late.status_code, late.json()["error"]["code"]) == (412, "PRECONDITION_FAILED")
    assert (await alma.get(path)).json()["data"]["notes"] == "one"
    for tag, status in [
        (first.headers["ETag"], 200),
        ("*", 200),
        (f'"1", {"x"!r}', 400),
        ('W/"4"', 412),
        ('"9", "10"', 412),
        ("4", 400),
    ]:
        again = await alma("PATCH", path, json={}, headers={"If-Match": tag})
        assert again.status_code == status, tag
    unknown = await alma("PATCH", f"/api/claims/{cast.organization}", json={"notes": "x"}, headers={"If-Match": '"1"'})
    assert unknown.status_code == 404


async def test_of_many_writers_of_one_version_one_succeeds(as_user, as_root, cast):
    alma, path = as_user("alma"), f"/api/claims/{cast.anas_claim}"
    tag = {"If-Match": (await alma.get(path)).headers["ETag"]}
    answers = await asyncio.gather(*(alma("PATCH", path, json={"notes": f"{n}"}, headers=tag) for n in range(8)))
    assert sorted(one.status_code for one in answers) == [200] + [412] * 7
    written = as_root.execute(
        "select count(*) from audit_logs where entity_id = %s and after ? 'notes' and action = 'update'",
        [cast.anas_claim],
    )
    assert written.fetchone() == (1,)


async def test_fields_of_a_status_are_refused_without_it(as_user, cast):
    alma, path = as_user("alma"), f"/api/claims/{cast.anas_claim}"
    before = (await alma.get(path)).json()["data"]
    kept = await alma.patch(path, {})
    assert (kept.status_code, kept.json()["data"]["version"]) == (200, before["version"])
    refused = await alma.patch(path, {"denialReason": "because"})
    assert (refused.status_code, list(refused.json()["error"]["details"]["fields"])) == (400, ["status"])
    emptied = await alma.patch(path, {"notes": None})
    assert (emptied.status_code, emptied.json()["data"]["notes"]) == (200, None)


async def test_a_decided_claim_keeps_its_notes(as_user, cast):
    alma, path = as_user("alma"), f"/api/claims/{cast.anas_claim}"
    assert (await alma.patch(path, {"status": "approved", "notes": "fine"})).json()["data"]["notes"] == "fine"
    refused = await alma.patch(path, {"notes": "not so fine"})
    assert (refused.status_code, list(refused.json()["error"]["details"]["fields"])) == (409, ["notes"])


async def test_a_draft_is_checked_when_it_is_submitted(as_user, as_root, cast, body):
    ana = as_user("ana")
    draft = (await ana.post("/api/claims", body | {"draft": True})).json()["data"]
    assert (draft["status"], draft["submittedAt"]) == ("draft", None)
    as_root.execute("update organizations set claim_amount_limit_cents = 100 where slug = 'north'")
    refused = await ana.patch(f"/api/claims/{draft['id']}", {"status": "submitted"})
    assert (refused.status_code, list(refused.json()["error"]["details"]["fields"])) == (400, ["amount"])
    as_root.execute("update organizations set claim_amount_limit_cents = 100000 where slug = 'north'")
    done = await ana.patch(f"/api/claims/{draft['id']}", {"status": "submitted"})
    assert (done.status_code, done.json()["data"]["submittedAt"] is None) == (200, False)


async def test_a_claim_is_assigned_to_active_processors_only(as_user, as_root, cast, other):
    alma, path = as_user("alma"), f"/api/claims/{cast.bens_claim}/assignment"
    given = await alma("PUT", path, json={"userId": str(cast.paul)})
    assert (given.status_code, given.json()["data"]["assignedTo"]) == (200, str(cast.paul))
    assert [one["id"] for one in (await as_user("paul").get("/api/claims")).json()["data"]] == [str(cast.bens_claim)]
    assert (await alma("PUT", path, json={"userId": str(cast.ana)})).status_code == 409
    theirs = await alma("PUT", path, json={"userId": str(other.paul)})
    unknown = await alma("PUT", path, json={"userId": str(cast.organization)})
    assert theirs.status_code == unknown.status_code == 400
    assert theirs.json()["error"] == unknown.json()["error"]
    assert theirs.json()["error"]["details"]["fields"] == {"userId": ["No such user"]}
    taken = await alma("PUT", path, json={"userId": None})
    assert (taken.status_code, taken.json()["data"]["assignedTo"]) == (200, None)
    as_root.execute("update users set active = false where user_id = %s", [cast.paul])
    assert (await alma("PUT", path, json={"userId": str(cast.paul)})).status_code == 409


async def test_twenty_callers_get_twenty_different_claims(as_user, as_root, cast, body):
    for n in range(22):
        assert (await as_user("alma").post("/api/claims", body | {"claimNumber": f"N-{n:02}"})).status_code == 201
    callers = [as_user("pia" if n % 2 else "paul") for n in range(20)]
    answers = await asyncio.gather(*(one("POST", "/api/claims/next") for one in callers))
    taken = [one.json()["data"]["id"] for one in answers]
    assert [one.status_code for one in answers] == [200] * 20
    assert len(set(taken)) == 20
    held = as_root.execute(
        "select count(*) from claims where assigned_to is not null and claim_id = any (%s::uuid[])", [taken]
    )
    assert held.fetchone() == (20,)
    left = [await as_user("pia")("POST", "/api/claims/next") for _ in range(4)]
    assert [one.status_code for one in left] == [200, 200, 200, 204]  # 22 and bens_claim, oldest first


async def test_the_next_claim_is_the_oldest_open_one(as_user, as_root, cast, body):
    alma, paul = as_user("alma"), as_user("paul")
    younger = (await alma.post("/api/claims", body)).json()["data"]["id"]
    await alma.patch(f"/api/claims/{cast.bens_claim}", {"status": "pending_info", "reason": "a question"})
    await alma.post("/api/claims", body | {"draft": True})
    taken = [(await paul("POST", "/api/claims/next")).json()["data"]["id"] for _ in range(2)]
    assert taken == [str(cast.bens_claim), younger]
    assert (await paul("POST", "/api/claims/next")).status_code == 204


async def test_an_appeal_is_not_assigned_to_the_processor_who_decided(as_user, cast):
    alma, paul = as_user("alma"), as_user("paul")
    path = f"/api/claims/{cast.bens_claim}"
    await alma("PUT", f"{path}/assignment", json={"userId": str(cast.paul)})
    await paul.patch(path, {"status": "rejected", "denialReason": "not covered"})
    await alma.patch(path, {"status": "appealed", "reason": "look again"})
    await alma("PUT", f"{path}/assignment", json={"userId": None})
    assert (await paul("POST", "/api/claims/next")).status_code == 204
    assert (await as_user("pia")("POST", "/api/claims/next")).json()["data"]["id"] == str(cast.bens_claim)  # control


async def test_a_bulk_update_has_a_result_for_each_claim(as_user, cast, other, body):
    alma = as_user("alma")
    fresh = [(await alma.post("/api/claims", body)).json()["data"]["id"] for _ in range(3)]
    await alma.patch(f"/api/claims/{fresh[2]}", {"status": "approved"})
    wanted = [*fresh, fresh[0], str(other.anas_claim), str(cast.organization)]
    answer = await alma.post(
        "/api/claims/bulk-status-update", {"claimIds": wanted, "status": "under_review", "reason": "all"}
    )
    data = answer.json()["data"]
    assert (answer.status_code, sorted(data["updated"])) == (200, sorted(fresh))
    failed = {one.pop("id"): one for one in data["failed"]}
    assert failed[str(other.anas_claim)] == failed[str(cast.organization)]
    assert failed[str(other.anas_claim)]["code"] == "NOT_FOUND"
    history = (await alma.get(f"/api/claims/{fresh[0]}")).json()["data"]["statusHistory"]
    assert [(one["to"], one["source"]) for one in history] == [("submitted", "api"), ("under_review", "bulk")]


async def test_a_bulk_update_names_the_reason_of_each_refusal(as_user, cast, body):
    alma = as_user("alma")
    fine, paid = [(await alma.post("/api/claims", body)).json()["data"]["id"] for _ in range(2)]
    for status in ("approved", "paid"):
        await alma.patch(f"/api/claims/{paid}", {"status": status})
    missing_fixes = (
        await alma.post("/api/claims/bulk-status-update", {"claimIds": [fine, paid], "status": "rejected"})
    ).json()
    assert {one["id"]: one["code"] for one in missing_fixes["data"]["failed"]} == {
        fine: "VALIDATION_ERROR",
        paid: "CONFLICT",
    }
    assert "paid can't become rejected" in next(
        one["message"] for one in missing_fixes["data"]["failed"] if one["id"] == paid
    )
    whole = {"claimIds": [fine, paid], "status": "rejected", "denialReason": "not covered"}
    assert (await alma.post("/api/claims/bulk-status-update", whole)).json()["data"]["updated"] == [fine]


async def test_a_thousand_claims_are_updated_in_one_call(as_user, as_root, cast):
    as_root.execute("alter table claims disable trigger user")
    made = as_root.execute(
        "insert into claims (organization_id, patient_id, provider_id, diagnosis_code, amount_cents, service_date) "
        "select %s, %s, %s, 'I10', 100, '2026-01-01' from generate_series(1, 1000) returning claim_id::text",
        [cast.organization, cast.tom_patient, cast.ana_provider],
    ).fetchall()
    as_root.execute("alter table claims enable trigger user")
    ids = [one for (one,) in made]
    answer = await as_user("alma").post("/api/claims/bulk-status-update", {"claimIds": ids, "status": "under_review"})
    assert (answer.status_code, len(answer.json()["data"]["updated"])) == (200, 1000)
    more = await as_user("alma").post(
        "/api/claims/bulk-status-update", {"claimIds": [*ids, ids[0]], "status": "approved"}
    )
    assert more.status_code == 400
