"""Instants of requests are cut to microseconds, never rounded."""

import pytest

from app.http.schemas import SentInstant, read_custom
from tests.support.responses import problem

LAST = "2026-01-05T23:59:59.999999Z"


@pytest.mark.parametrize(("sent", "read"), [
    ("2026-01-05T23:59:59.9999999Z", LAST), ("2026-01-05T23:59:59.99999950Z", LAST), ("2026-01-05T23:59:59.999999999999Z", LAST),
    ("2026-01-05t23:59:59.9999999z", LAST), ("2026-01-06T05:29:59.9999999+05:30", LAST), ("2026-01-05T19:59:59.9999999-04:00", LAST),
    ("2026-01-05T23:59:60Z", LAST), ("2026-01-05T23:59:60.5Z", LAST), ("2026-01-06T01:59:60+02:00", LAST),
    ("2026-01-05T10:00:00.0000009Z", "2026-01-05T10:00:00.000000Z"), ("2026-01-05T10:00:00.1234565Z", "2026-01-05T10:00:00.123456Z"),
    ("2026-01-05T10:00:00.5Z", "2026-01-05T10:00:00.500000Z"),
])  # fmt: skip
async def test_an_event_occurs_on_its_day(as_user, cast, sent, read):
    body = {"patientId": str(cast.tom_patient), "eventType": "admission", "occurredAt": sent, "idempotencyKey": "k"}
    alma = as_user("alma")
    made = await alma.post("/api/patient-status", body)
    assert (made.status_code, made.json()["data"]["occurredAt"]) == (202, read)
    assert (await alma.post("/api/patient-status", body | {"occurredAt": read})).status_code == 200  # the same instant


@pytest.mark.parametrize("sent", [
    "2026-01-05T10:00:60Z", "2026-01-05T23:58:60Z", "2026-01-05T23:59:60+02:00", "2026-01-05T23:59:61Z", "2026-01-05T24:00:00Z",
    "2026-01-05T10:00:00", "2026-01-05", "2026-02-30T10:00:00Z", "2026-01-05T10:00:00.Z", "", 5, None, "1767607200",
    "9999-12-31T23:59:60-23:00",
])  # fmt: skip
async def test_what_is_no_instant_is_refused(as_user, cast, sent):
    body = {"patientId": str(cast.tom_patient), "eventType": "admission", "occurredAt": sent}
    assert problem(await as_user("alma").post("/api/patient-status", body)) == (400, ["occurredAt"])


async def test_filters_are_cut_too(as_user, as_root, cast):
    as_root.execute("alter table claims disable trigger user")
    as_root.execute("update claims set created_at = '2026-01-06T00:00:00Z' where claim_id = %s", [cast.anas_claim])
    as_root.execute(
        "update claims set created_at = '2026-01-05T23:59:59.999999Z' where claim_id = %s", [cast.bens_claim]
    )
    for filters, found in (
        ("createdTo=2026-01-05T23:59:59.9999999Z", [cast.bens_claim]),
        ("createdTo=2026-01-05T23:59:60Z", [cast.bens_claim]),
        (
            "createdFrom=2026-01-05T23:59:59.9999999Z&createdTo=2026-01-06T00:00:00.0000001Z",
            [cast.anas_claim, cast.bens_claim],
        ),
    ):
        listed = (await as_user("alma").get(f"/api/claims?{filters}")).json()["data"]
        assert [one["id"] for one in listed] == [str(one) for one in found], filters
    count = len((await as_user("alma").get("/api/audit-logs?atTo=2999-01-01T00:00:00.9999999Z")).json()["data"])
    assert count > 0  # control
    assert (await as_user("alma").get("/api/audit-logs?atTo=1970")).status_code == 400


@pytest.mark.parametrize(
    "number", ["1e2", "%2B5", "+5", "%205", "5%20", "5.0", "0x5", "%D9%A5", "1_0", "", "-", "5e0", "1,0"]
)
@pytest.mark.parametrize("name", ["limit", "offset"])
async def test_an_integer_has_decimal_digits(as_user, name, number):
    for path in ("/api/claims", "/api/users"):
        assert problem(await as_user("alma").get(f"{path}?{name}={number}")) == (400, [name])
        assert (await as_user("alma").get(f"{path}?{name}=5")).status_code == 200  # control


def test_an_instant_keeps_its_offset():
    read = read_custom(SentInstant, "2026-01-05T10:00:00.12345678+05:30")
    assert read.isoformat() == "2026-01-05T10:00:00.123456+05:30"
