"""The caller's organization: changes of its name, its slug and its settings."""

import pytest

from tests.support.responses import problem


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
