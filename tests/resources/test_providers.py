"""Providers: changes by admins and by themselves, and the providers that a patient sees."""

from uuid import uuid4

from tests.support.responses import problem


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
