"""Every field of a claim: what create, import, PATCH and bulk update write is what get, list and export return."""

import csv
import io
import json

import msgspec
import pytest

from app.resources.claims.schemas import BulkMove, Claim, ClaimChange, NewClaim
from tests.security.attacks.cases import NDJSON

SAMPLES = {
    "patientId": lambda cast: (str(cast.tina_patient), str(cast.tom_patient)),
    "providerId": lambda cast: (str(cast.ben_provider), str(cast.ana_provider)),
    "diagnosisCode": lambda cast: ("I10", "E11.9"),
    "amount": lambda cast: (10.25, 11.5),
    "serviceDate": lambda cast: ("2026-01-05", "2026-01-06"),
    "notes": lambda cast: ("Follow-up visit", None),
    "claimNumber": lambda cast: ("F-1", "F-2"),
    "draft": lambda cast: (True, False),
}
"""Two values of every field of NewClaim; the first one is not the default."""
READ_AS = {"draft": lambda value: ("status", "draft" if value else "submitted")}
"""The field of a response, and its value, if they are not those of the request."""
NOT_COMPARED = {"claimNumber", "draft"}
"""Fields that may differ between an import line and the claim of its number: the number itself, and the status."""
CHANGES = [
    {"status": "under_review", "notes": "Under review now"},
    {"status": "approved", "approvedAmount": 100.25},
    {"status": "under_review", "reason": "Sent back"},
    {"status": "rejected", "denialReason": "Not covered", "denialCode": "CO-50"},
]
"""Updates of one claim in this order, with every field of ClaimChange."""
BULK = {"status": "rejected", "reason": "All of them", "denialReason": "Not covered"}
"""The fields of a bulk update beside the ids."""


def names(shape):
    """The names of a struct's fields in JSON."""
    return [field.encode_name for field in msgspec.structs.fields(shape) if field.name != "organization_id"]


def samples(cast, shape=NewClaim):
    """The two values of each field."""
    for name in set(names(shape)) - SAMPLES.keys():
        pytest.fail(f"no sample of {name}: add two values to SAMPLES in tests/resources/test_claim_fields.py")
    return {name: SAMPLES[name](cast) for name in names(shape)}


async def create(user, body):
    """The id of the claim, by POST /api/claims."""
    response = await user.post("/api/claims", body)
    assert response.status_code == 201, response.text
    return response.json()["data"]["id"]


async def import_line(user, body):
    """The result of the claim as the one line of an import."""
    response = await user("POST", "/api/claims/import", content=json.dumps(body), headers=NDJSON)
    return json.loads(response.text)


async def import_one(user, body):
    """The id of the claim, by POST /api/claims/import."""
    result = await import_line(user, body)
    assert result["result"] == "created", result
    return result["id"]


WRITERS = {"create": create, "import": import_one}


async def read_everywhere(user, claim_id):
    """The claim as get, list and export as NDJSON return it, by the name of the reader. CSV is compared with NDJSON here."""
    read = {"get": (await user.get(f"/api/claims/{claim_id}")).json()["data"]}
    read["get"].pop("statusHistory")
    of_list = (await user.get("/api/claims?limit=100")).json()["data"]
    exported = (await user("GET", "/api/claims/export", headers={"Accept": NDJSON["Content-Type"]})).text
    read["list"] = next(one for one in of_list if one["id"] == claim_id)
    read["export"] = next(one for one in map(json.loads, exported.splitlines()) if one["id"] == claim_id)
    table = (await user("GET", "/api/claims/export", headers={"Accept": "text/csv"})).text
    row = next(one for one in csv.DictReader(io.StringIO(table)) if one["id"] == claim_id)
    assert row == {name: cell(value) for name, value in read["export"].items()}, "export as CSV"
    return read


def cell(value):
    """A value of JSON as a cell of CSV."""
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


async def check_written(writer, user, cast):
    """Writes a claim with the first sample of every field; fails if a reader returns another value for one of them."""
    body = {name: values[0] for name, values in samples(cast).items()}
    read = await read_everywhere(user, await WRITERS[writer](user, body))
    for reader, claim in read.items():
        for name, value in body.items():
            read_name, expected = READ_AS.get(name, lambda value, name=name: (name, value))(value)
            assert claim.get(read_name) == expected, f"{name} written by {writer} and read by {reader}"


@pytest.mark.parametrize("writer", WRITERS)
async def test_every_field_is_read_as_it_was_written(as_user, cast, writer):
    for field in msgspec.structs.fields(NewClaim):
        if field.name != "organization_id":
            assert samples(cast)[field.encode_name][0] != field.default  # control
    await check_written(writer, as_user("alma"), cast)


async def check_compared(user, cast):
    """Imports a claim again with another value of one field at a time; fails if one of them makes no difference."""
    both = samples(cast)
    body = {name: values[0] for name, values in both.items()} | {"draft": False}
    await import_one(user, body)
    assert (await import_line(user, body))["result"] == "duplicate"  # control
    for name in both.keys() - NOT_COMPARED:
        result = await import_line(user, body | {name: both[name][1]})
        assert (result["result"], (result["error"] or {}).get("code")) == ("failed", "CONFLICT"), name


async def test_every_field_tells_another_claim_from_a_duplicate(as_user, cast):
    await check_compared(as_user("alma"), cast)


async def test_every_field_of_a_response_is_filled_once_and_the_same_everywhere(as_user, cast):
    alma = as_user("alma")
    body = {name: values[0] for name, values in samples(cast).items()} | {"draft": False}
    filled = set()
    for number, (status, more) in enumerate(
        {"approved": {}, "rejected": {"denialReason": "No", "denialCode": "1"}}.items()
    ):
        claim_id = await create(alma, body | {"claimNumber": f"R-{number}"})
        path = f"/api/claims/{claim_id}"
        assert (await alma("PUT", f"{path}/assignment", json={"userId": str(cast.pia)})).status_code == 200
        assert (await alma.patch(path, {"status": status, **more})).status_code == 200
        if status == "approved":
            assert (await alma.patch(path, {"status": "paid"})).status_code == 200
        read = await read_everywhere(alma, claim_id)
        assert read["get"] == read["list"] == read["export"]
        assert list(read["get"]) == names(Claim)
        filled |= {name for name, value in read["get"].items() if value is not None}
    assert filled == set(names(Claim))


async def test_every_field_of_a_change_is_read_as_it_was_written(as_user, cast):
    assert {name for change in CHANGES for name in change} == set(names(ClaimChange)), "add the field to CHANGES"
    alma, path = as_user("alma"), f"/api/claims/{cast.anas_claim}"
    for change in CHANGES:
        assert (await alma.patch(path, change)).status_code == 200
        await check_changed(alma, cast.anas_claim, change)


async def test_every_field_of_a_bulk_update_is_read_as_it_was_written(as_user, cast):
    assert {"claimIds", *BULK} == set(names(BulkMove)), "add the field to BULK"
    alma, ids = as_user("alma"), [str(cast.anas_claim), str(cast.bens_claim)]
    response = await alma.post("/api/claims/bulk-status-update", {"claimIds": ids, **BULK})
    assert sorted(response.json()["data"]["updated"]) == sorted(ids)
    for claim_id in ids:
        await check_changed(alma, claim_id, BULK)


async def check_changed(user, claim_id, change):
    """Fails unless the claim has the values of the change. The reason is in its last history entry."""
    claim = (await user.get(f"/api/claims/{claim_id}")).json()["data"]
    last = claim["statusHistory"][-1]
    assert {name: last["reason"] if name == "reason" else claim[name] for name in change} == change


def replace_in_function(as_root, function, old, new):
    """Replaces text of a function of the test's own database."""
    (source,) = as_root.execute("select pg_get_functiondef(%s::regproc)", [f"app.{function}"]).fetchone()
    assert old in source
    as_root.execute(source.replace(old, new).encode())


async def test_a_field_that_create_omits_is_found(as_user, cast, monkeypatch):
    columns = NewClaim.columns
    monkeypatch.setattr(NewClaim, "columns", lambda claim: {**columns(claim), "notes": None})
    with pytest.raises(AssertionError, match="notes written by create and read by get"):
        await check_written("create", as_user("alma"), cast)


@pytest.mark.parametrize(("function", "old", "new", "named"), [
    ("insert_claim", ", notes", "", "notes written by import and read by get"),
    ("claim_json", "(c).notes", "null::text", "notes written by import and read by get"),
    ("claim_json", "(c).service_date", "(c).created_at::date", "serviceDate written by import and read by get"),
])  # fmt: skip
async def test_a_field_that_sql_omits_is_found(as_user, as_root, cast, function, old, new, named):
    replace_in_function(as_root, function, old, new)
    with pytest.raises(AssertionError, match=named):
        await check_written("import", as_user("alma"), cast)


async def test_a_field_that_is_not_compared_is_found(as_user, as_root, cast):
    replace_in_function(as_root, "is_same_claim", "'claim_number'", "'claim_number', 'notes'")
    with pytest.raises(AssertionError, match="notes"):
        await check_compared(as_user("alma"), cast)


def test_a_field_without_a_sample_is_found(cast):
    longer = msgspec.defstruct("Longer", [("is_new", str)], bases=(NewClaim,), rename="camel", kw_only=True)
    with pytest.raises(
        pytest.fail.Exception, match="isNew: add two values to SAMPLES in tests/resources/test_claim_fields"
    ):
        samples(cast, longer)
