"""Claims: the state machine, row by row of the contract's table, and the claims that each role sees."""

import csv
import json
from pathlib import Path

import psycopg
import pytest

from app.vocabulary import CLAIM_STATUSES

ROOT = Path(__file__).parents[2]
TRANSITIONS = list(csv.DictReader((ROOT / "sql" / "data" / "claim-transitions.csv").read_text().splitlines()))
WHO = {"admin": "alma", "claims_processor": "pia", "provider": "ana"}
MOVE = (
    "update claims set status = %s, status_reason = 'because', denial_reason = 'not covered', approved_cents = null "
    "where claim_id = %s"
)
LEGAL = {(row["from_status"], row["to_status"]): row for row in TRANSITIONS}


def arrange(as_root, claim, status):
    """Sets a claim's status without any rule, as if another user had approved a part of its amount."""
    as_root.execute("alter table claims disable trigger user")
    as_root.execute(
        "update claims set status = %s, submitted_at = now(), processed_at = now(), decided_by = null, "
        "approved_cents = case when %s in ('approved', 'paid') then 100 end, status_by = null where claim_id = %s",
        [status, status, claim],
    )
    as_root.execute("alter table claims enable trigger user")


@pytest.mark.parametrize("role", WHO)
def test_every_pair_of_statuses_is_as_documented(as_root, as_role, cast, role):
    for old in CLAIM_STATUSES:
        for new in CLAIM_STATUSES:
            arrange(as_root, cast.anas_claim, old)
            row = LEGAL.get((old, new))
            connection = as_role(WHO[role])
            try:
                done = connection.execute(MOVE, [new, cast.anas_claim]).rowcount
                outcome = "moved" if done else "hidden"
            except psycopg.Error as error:
                outcome = error.sqlstate
            finally:
                connection.rollback()
                connection.close()
            if role == "claims_processor" and old == "draft":
                expected = "hidden"
            elif row is None:
                expected = "TRANS"
            else:
                expected = "moved" if row[role] != "no" else "42501"
            assert outcome == expected, (role, old, new)


def test_a_patient_updates_no_claim(as_role, cast):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("tom").execute(MOVE, ["voided", cast.anas_claim])


@pytest.mark.parametrize(("old", "new", "missing", "field"), [
    ("submitted", "pending_info", "status_reason", "reason"),
    ("submitted", "rejected", "denial_reason", "denialReason"),
    ("paid", "reversed", "status_reason", "reason"),
    ("rejected", "appealed", "status_reason", "reason"),
])  # fmt: skip
def test_a_refused_update_names_the_missing_field(as_root, as_role, cast, old, new, missing, field):
    arrange(as_root, cast.anas_claim, old)
    alma = as_role("alma")
    with pytest.raises(psycopg.Error) as caught:
        alma.execute(MOVE.replace(f"{missing} = ", f"{missing} = null, notes = "), [new, cast.anas_claim])
    assert (caught.value.sqlstate, list(json.loads(caught.value.diag.message_detail))) == ("INVAL", [field])


def _as_root_set(as_root, claim, column, value):
    as_root.execute("alter table claims disable trigger user")
    as_root.execute(f"update claims set {column} = %s where claim_id = %s", [value, claim])
    as_root.execute("alter table claims enable trigger user")


def test_an_appeal_after_the_window_is_refused(as_root, as_role, cast):
    arrange(as_root, cast.anas_claim, "rejected")
    in_time = as_role("ana")
    assert in_time.execute(MOVE, ["appealed", cast.anas_claim]).rowcount == 1  # control
    in_time.rollback()
    _as_root_set(as_root, cast.anas_claim, "processed_at", "2020-01-01")
    with pytest.raises(psycopg.Error) as caught:
        as_role("ana").execute(MOVE, ["appealed", cast.anas_claim])
    assert caught.value.sqlstate == "TRANS"


def test_an_appeal_of_full_approval_is_refused(as_root, as_role, cast):
    arrange(as_root, cast.anas_claim, "approved")
    _as_root_set(as_root, cast.anas_claim, "approved_cents", 12550)
    with pytest.raises(psycopg.Error) as caught:
        as_role("ana").execute(MOVE, ["appealed", cast.anas_claim])
    assert caught.value.sqlstate == "TRANS"


def test_the_processor_who_decided_cannot_review_the_appeal(as_root, as_role, cast):
    arrange(as_root, cast.anas_claim, "appealed")
    _as_root_set(as_root, cast.anas_claim, "decided_by", cast.alma)
    pia = as_role("pia")
    assert pia.execute(MOVE, ["under_review", cast.anas_claim]).rowcount == 1  # control: another processor can
    pia.rollback()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("alma").execute(MOVE, ["under_review", cast.anas_claim])


@pytest.mark.parametrize(("who", "claims", "patients", "events"), [
    ("alma", {"anas_claim", "bens_claim"}, {"tom_patient", "tina_patient"}, 1),
    ("pia", {"anas_claim"}, {"tom_patient"}, 1),
    ("paul", set(), set(), 0),
    ("ana", {"anas_claim"}, {"tom_patient"}, 1),
    ("ben", {"bens_claim"}, {"tina_patient"}, 0),
    ("tom", {"anas_claim"}, {"tom_patient"}, 1),
    ("tina", {"bens_claim"}, {"tina_patient"}, 0),
])  # fmt: skip
async def test_every_role_sees_its_own_claims(as_user, cast, who, claims, patients, events):
    user = as_user(who)
    listed = {one["id"] for one in (await user.get("/api/claims")).json()["data"]}
    assert listed == {str(cast.ids[name]) for name in claims}
    for name in ("anas_claim", "bens_claim"):
        assert (await user.get(f"/api/claims/{cast.ids[name]}")).status_code == (200 if name in claims else 404)
    listed = {one["id"] for one in (await user.get("/api/patients")).json()["data"]}
    assert listed == {str(cast.ids[name]) for name in patients}
    history = await user.get(f"/api/patient-status/history/{cast.tom_patient}")
    assert history.status_code == (200 if "tom_patient" in patients else 404)
    if history.status_code == 200:
        assert len(history.json()["data"]) == events


async def test_a_claim_of_another_tenant_is_not_found(as_user, other):
    control = await as_user("alma", "south").get(f"/api/claims/{other.anas_claim}")
    theirs = await as_user("alma").get(f"/api/claims/{other.anas_claim}")
    unknown = await as_user("alma").get("/api/claims/01890000-0000-7000-8000-000000000000")
    assert (control.status_code, theirs.status_code, unknown.status_code) == (200, 404, 404)
    assert theirs.json()["error"] == unknown.json()["error"]
    change = await as_user("alma").patch(f"/api/claims/{other.anas_claim}", {"status": "under_review"})
    assert change.status_code == 404


async def test_a_provider_cannot_claim_for_another_provider(as_user, cast):
    body = {"patientId": str(cast.tom_patient), "providerId": str(cast.ana_provider), "diagnosisCode": "E11.9",
            "amount": 10, "serviceDate": "2026-01-05"}  # fmt: skip
    assert (await as_user("ana").post("/api/claims", body)).status_code == 201  # control
    assert (await as_user("ana").post("/api/claims", body | {"providerId": str(cast.ben_provider)})).status_code == 403
    assert (await as_user("tom").post("/api/claims", body)).status_code == 403
    assert (await as_user("pia").post("/api/claims", body)).status_code == 403


async def test_a_refused_transition_lists_the_allowed_ones(as_user, cast):
    answer = await as_user("alma").patch(f"/api/claims/{cast.anas_claim}", {"status": "paid"})
    assert answer.status_code == 409
    details = answer.json()["error"]["details"]
    assert (details["from"], details["to"]) == ("submitted", "paid")
    assert details["allowed"] == ["approved", "pending_info", "rejected", "under_review", "voided"]


async def test_a_claim_contains_its_history(as_user, cast):
    alma = as_user("alma")
    await alma.patch(f"/api/claims/{cast.anas_claim}", {"status": "under_review"})
    answer = await alma.patch(f"/api/claims/{cast.anas_claim}", {"status": "approved", "approvedAmount": 100.25})
    assert (answer.status_code, answer.json()["data"]["approvedAmount"]) == (200, 100.25)
    history = (await alma.get(f"/api/claims/{cast.anas_claim}")).json()["data"]["statusHistory"]
    assert [(one["from"], one["to"], one["byRole"], one["source"]) for one in history] == [
        (None, "submitted", "admin", "sql"),
        ("submitted", "under_review", "admin", "api"),
        ("under_review", "approved", "admin", "api"),
    ]
