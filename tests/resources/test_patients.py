"""Patients and their care relationships: allowed changes, and their effect on access."""

from uuid import uuid4

from tests.support.responses import problem


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
        "dateOfBirth": [None, "2999-01-01", "1800-01-01", "04.03.1981"], "email": ["noaddress", "a b@c", "x" * 250 + "@y.de"],
        "phone": ["1" * 41], "id": [str(uuid4())], "createdAt": ["2026-01-01T00:00:00Z"],
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
