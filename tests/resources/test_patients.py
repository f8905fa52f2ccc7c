"""Patients, their care relationships, providers, and the organization: allowed changes and their effects."""

from uuid import uuid4

import pytest


def problem(answer):
    """The status and the fields in an error."""
    return answer.status_code, sorted(answer.json()["error"].get("details", {}).get("fields", {}))


async def test_a_change_of_a_patient_sets_the_sent_fields_alone(as_user, cast, other):
    alma, path = as_user("alma"), f"/api/patients/{cast.tom_patient}"
    before = (await alma.get(path)).json()["data"]
    sent = {"email": "tom@home.test", "phone": "+1 617 555 0100", "organizationId": str(other.organization)}
    changed = await alma.patch(path, sent)
    assert (changed.status_code, changed.json()["data"]) == (
        200,
        before | {"email": sent["email"], "phone": sent["phone"]},
    )
    assert (await alma.patch(path, {})).json()["data"] == changed.json()["data"]
    given = {
        "memberNumber": "M-1b",
        "firstName": "Thomas",
        "lastName": "Nord",
        "dateOfBirth": "1981-03-04",
        "phone": None,
    }
    assert (await alma.patch(path, given)).json()["data"] == before | given | {"email": sent["email"]}
    assert (await as_user("tom").get(path)).json()["data"] == (await alma.get(path)).json()["data"]
    assert (await as_user("alma", "south").get(f"/api/patients/{other.tom_patient}")).json()["data"]["phone"] is None


async def test_a_patients_bad_field_is_named_and_nothing_changed(as_user, cast):
    alma, path = as_user("alma"), f"/api/patients/{cast.tom_patient}"
    before = (await alma.get(path)).json()["data"]
    for field, values in {
        "memberNumber": [None, "", "x" * 65], "firstName": [None, "", "x" * 201, "a\0b"], "lastName": [None, 7],
        "dateOfBirth": [None, "2999-01-01", "1800-01-01", "04.03.1981"], "email": ["", "noaddress", "a b@c", "x" * 250 + "@y.de"],
        "phone": ["", "1" * 41], "id": [str(uuid4())], "createdAt": ["2026-01-01T00:00:00Z"],
    }.items():  # fmt: skip
        for value in values:
            assert problem(await alma.patch(path, {"firstName": "Other", field: value})) == (400, [field]), (
                field,
                value,
            )
    assert problem(await alma.patch(path, {"memberNumber": "M-2"})) == (409, ["memberNumber"])
    assert (await alma.get(path)).json()["data"] == before
    # Control: its own number is not a duplicate.
    assert (await alma.patch(path, {"memberNumber": "M-1"})).status_code == 200


async def test_an_unknown_patient_is_not_changed(as_user, cast, other):
    alma, new = as_user("alma"), {"firstName": "Other"}
    assert (await alma.patch(f"/api/patients/{cast.tom_patient}", new)).status_code == 200  # control
    theirs = await alma.patch(f"/api/patients/{other.tom_patient}", new)
    unknown = await alma.patch(f"/api/patients/{uuid4()}", new)
    assert (theirs.status_code, theirs.json()["error"]) == (404, unknown.json()["error"])
    assert problem(await alma.patch("/api/patients/7", new)) == (400, ["id"])
    kept = await as_user("alma", "south").get(f"/api/patients/{other.tom_patient}")
    assert kept.json()["data"]["firstName"] == "Tom"


async def test_a_provider_sees_a_patient_once_it_is_in_its_care(as_user, cast):
    alma, ben, path = as_user("alma"), as_user("ben"), f"/api/patients/{cast.tom_patient}"
    care = f"{path}/providers/{cast.ben_provider}"
    assert (await ben.get(path)).status_code == 404
    for _ in range(2):  # the second time it exists already
        made = await alma("PUT", care)
        assert (made.status_code, made.content) == (204, b"")
        assert (await ben.get(path)).status_code == 200
    claim = {"patientId": str(cast.tom_patient), "providerId": str(cast.ben_provider), "diagnosisCode": "E11.9",
             "amount": 10, "serviceDate": "2026-01-05"}  # fmt: skip
    history = f"/api/patient-status/history/{cast.tom_patient}"
    assert ((await ben.get(history)).status_code, (await ben.post("/api/claims", claim)).status_code) == (200, 201)
    assert (await alma("DELETE", care)).status_code == 204
    assert [(await ben.get(one)).status_code for one in (path, history)] == [404, 404]
    assert problem(await ben.post("/api/claims", claim)) == (400, ["patientId"])
    assert len((await ben.get("/api/claims")).json()["data"]) == 2  # its own claims stay visible
    assert (await alma("DELETE", care)).status_code == 404


async def test_care_relationships_are_within_one_tenant(as_user, as_root, cast, other):
    alma = as_user("alma")
    count = "select count(*) from care_relationships"
    before = as_root.execute(count).fetchone()
    pairs = [
        (cast.tom_patient, other.ben_provider), (other.tom_patient, cast.ben_provider), (other.tom_patient, other.ana_provider),
        (cast.tom_patient, uuid4()), (uuid4(), cast.ben_provider), (cast.ben_provider, cast.tom_patient),
    ]  # fmt: skip
    for patient, provider in pairs:
        for method in ("PUT", "DELETE"):
            assert (await alma(method, f"/api/patients/{patient}/providers/{provider}")).status_code == 404
    assert problem(await alma("PUT", f"/api/patients/x/providers/{cast.ana_provider}")) == (400, ["id"])
    assert problem(await alma("PUT", f"/api/patients/{cast.tom_patient}/providers/x")) == (400, ["providerId"])
    assert as_root.execute(count).fetchone() == before
    # Control.
    assert (await alma("PUT", f"/api/patients/{cast.tom_patient}/providers/{cast.ben_provider}")).status_code == 204


async def test_a_patient_sees_the_providers_of_its_claims_and_of_its_care(as_user, cast):
    """Each is sufficient: a claim remains when the care has ended, and care needs no claim."""
    tom, alma = as_user("tom"), as_user("alma")
    ana, ben = f"/api/providers/{cast.ana_provider}", f"/api/providers/{cast.ben_provider}"
    care = f"/api/patients/{cast.tom_patient}/providers"
    assert (await alma("DELETE", f"{care}/{cast.ana_provider}")).status_code == 204
    assert [(await tom.get(path)).status_code for path in (ana, ben)] == [200, 404]
    assert (await alma("PUT", f"{care}/{cast.ben_provider}")).status_code == 204
    assert [(await tom.get(path)).status_code for path in (ana, ben)] == [200, 200]
    assert (await as_user("tina").get(ana)).status_code == 404


async def test_an_admin_changes_every_field_of_a_provider(as_user, cast, other):
    alma, path = as_user("alma"), f"/api/providers/{cast.ana_provider}"
    before = (await alma.get(path)).json()["data"]
    given = {"npi": "1679576722", "name": "Dr. Ana", "specialty": "Cardiology", "email": "ana@practice.test"}
    assert (await alma.patch(path, given)).json()["data"] == before | given
    changed = await alma.patch(path, {"specialty": None})
    assert (changed.status_code, changed.json()["data"]) == (200, before | given | {"specialty": None})
    assert (await alma.patch(path, {})).json()["data"] == changed.json()["data"]
    assert problem(await alma.patch(path, {"npi": "1245319599"})) == (409, ["npi"])  # ben's
    for field, values in {
        "npi": ["1679576723", "167957672", None],
        "name": [None, ""],
        "email": ["x"],
        "id": [1],
    }.items():
        for value in values:
            assert problem(await alma.patch(path, {"specialty": "Other", field: value})) == (400, [field]), (
                field,
                value,
            )
    assert (await alma.get(path)).json()["data"] == changed.json()["data"]
    assert (await alma.patch(f"/api/providers/{other.ana_provider}", {"name": "X"})).status_code == 404
    assert (await alma.patch(f"/api/providers/{uuid4()}", {"name": "X"})).status_code == 404


async def test_a_provider_changes_itself_but_not_its_npi(as_user, cast, other):
    ana, own = as_user("ana"), f"/api/providers/{cast.ana_provider}"
    given = {"name": "Dr. Ana", "specialty": "Cardiology", "email": "ana@practice.test"}
    changed = await ana.patch(own, given)
    assert (changed.status_code, changed.json()["data"]["name"]) == (200, "Dr. Ana")
    for npi in ("1679576722", "1234567893"):  # another, and the one it has
        assert (await ana.patch(own, {"name": "Prof. Ana", "npi": npi})).status_code == 403
    for theirs, status in ((cast.ben_provider, 403), (other.ana_provider, 404), (uuid4(), 404)):
        for body in ({"name": "Mine"}, {}):
            assert (await ana.patch(f"/api/providers/{theirs}", body)).status_code == status, (theirs, body)
    assert (await ana.patch(own, {})).json()["data"] == changed.json()["data"]  # nothing of that was stored
    assert (await as_user("ben").get(f"/api/providers/{cast.ben_provider}")).json()["data"]["name"] == "Ben"


async def test_a_change_of_an_organization_sets_the_sent_fields_alone(client, as_user, cast):
    alma, path = as_user("alma"), "/api/organization"
    before = (await alma.get(path)).json()["data"]
    assert before["settings"] == {"claimAmountLimit": 250000.0, "autoApproveLimit": 1000.0, "timezone": "UTC",
                                  "decisionDays": 30, "appealWindowDays": 180}  # fmt: skip
    one = await alma.patch(path, {"settings": {"decisionDays": 14}})
    assert one.json()["data"] == before | {"settings": before["settings"] | {"decisionDays": 14}}
    settings = {"claimAmountLimit": 99.95, "autoApproveLimit": 0, "timezone": "America/New_York", "decisionDays": 365,
                "appealWindowDays": 1}  # fmt: skip
    every = {"name": "Northern", "slug": "far-north", "settings": settings}
    assert (await alma.patch(path, every)).json()["data"] == before | every
    for nothing in ({}, {"settings": {}}):
        assert (await alma.patch(path, nothing)).json()["data"] == before | every
    for who in ("ana", "tom"):
        assert (await as_user(who).get(path)).json()["data"] == before | every | {"settings": None}
    claim = {"patientId": str(cast.tom_patient), "providerId": str(cast.ana_provider), "diagnosisCode": "E11.9",
             "amount": 99.96, "serviceDate": "2026-01-05"}  # fmt: skip
    assert problem(await as_user("ana").post("/api/claims", claim)) == (400, ["amount"])  # the new limit applies
    assert (await as_user("ana").post("/api/claims", claim | {"amount": 99.95})).status_code == 201
    assert (await as_user("alma", "south").get(path)).json()["data"]["name"] == "South"


@pytest.mark.parametrize(("body", "status", "field"), [
    ({"slug": "south"}, 409, "slug"), ({"slug": "North"}, 400, "slug"), ({"slug": "x"}, 400, "slug"), ({"slug": None}, 400, "slug"),
    ({"name": ""}, 400, "name"), ({"name": None}, 400, "name"), ({"suspendedAt": None}, 400, "suspendedAt"),
    ({"settings": None}, 400, "settings"), ({"settings": 1}, 400, "settings"),
])  # fmt: skip
async def test_an_organizations_bad_field_is_named(as_user, body, status, field):
    before = (await as_user("alma").get("/api/organization")).json()["data"]
    answer = await as_user("alma").patch("/api/organization", {"settings": {"decisionDays": 7}} | body)
    assert problem(answer) == (status, [field])
    assert (await as_user("alma").get("/api/organization")).json()["data"] == before


async def test_a_bad_setting_is_named_with_its_path(as_user):
    alma, path = as_user("alma"), "/api/organization"
    before = (await alma.get(path)).json()["data"]
    for name, values in {
        "timezone": ["Mars/Olympus", "", None, "UTC'", 1], "decisionDays": [0, 366, 1.5, None], "appealWindowDays": [0, 3651],
        "claimAmountLimit": [0, 1_000_000.01, 12.345, None, "1"], "autoApproveLimit": [-1, 1_000_000.01, 0.001],
        "currency": ["USD"],
    }.items():  # fmt: skip
        for value in values:
            answer = await alma.patch(path, {"name": "Other", "settings": {name: value}})
            assert problem(answer) == (400, [f"settings.{name}"]), (name, value, answer.text)
    assert (await alma.get(path)).json()["data"] == before
    good = {"timezone": "Europe/Berlin", "claimAmountLimit": 12.34, "autoApproveLimit": 0.01}
    # Control.
    assert (await alma.patch(path, {"settings": good})).json()["data"]["settings"] == before["settings"] | good
