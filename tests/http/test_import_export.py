"""Imports and exports of claims: one result a line, no claim twice, constant memory."""

import asyncio
import csv
import io
import json

import httpx
import psycopg
import pytest

from app.http import csv as csv_response
from app.http import ndjson
from app.security.tokens import make_token
from tests.load.harness import served
from tests.load.streams import MemoryWatch
from tests.support.cast import KEYS, caller
from tests.support.clients import OtherRequests

NDJSON = {"Content-Type": "application/x-ndjson"}


def line(cast, **more):
    body = {"patientId": str(cast.tom_patient), "providerId": str(cast.ana_provider), "diagnosisCode": "I10", "amount": 10.25,
            "serviceDate": "2026-01-05"}  # fmt: skip
    return json.dumps(body | more)


async def bring(user, *lines, key=None):
    headers = NDJSON | ({"Idempotency-Key": key} if key else {})
    answer = await user("POST", "/api/claims/import", content="\n".join(lines), headers=headers)
    assert answer.status_code == 200, answer.text
    return [json.loads(one) for one in answer.text.splitlines()]


def counted(as_root):
    return as_root.execute("select count(*) from claims").fetchone()[0]


async def test_every_line_has_its_result(as_user, as_root, cast):
    before = counted(as_root)
    results = await bring(
        as_user("alma"),
        line(cast, claimNumber="I-1"),
        line(cast, claimNumber="I-1"),
        line(cast, claimNumber="I-1", amount=11),
        line(cast, amount=0, what=1),
        "no json",
        "",
        line(cast, patientId=str(cast.organization)),
        line(cast, diagnosisCode="A00"),
        line(cast, draft=True),
        line(cast, amount=12.345),
    )
    assert [one["line"] for one in results] == [1, 2, 3, 4, 5, 7, 8, 9, 10]  # line 6 is blank
    assert [one["result"] for one in results] == ["created", "duplicate", *["failed"] * 5, "created", "failed"]
    assert results[0]["id"] == results[1]["id"]
    told = [(one["error"]["code"], sorted(one["error"]["fields"])) for one in results if one["error"]]
    assert told == [
        ("CONFLICT", ["claimNumber"]), ("VALIDATION_ERROR", ["amount", "what"]), ("VALIDATION_ERROR", ["body"]),
        ("VALIDATION_ERROR", ["patientId"]), ("VALIDATION_ERROR", ["diagnosisCode"]),
        ("VALIDATION_ERROR", ["amount"]),
    ]  # fmt: skip
    assert counted(as_root) == before + 2
    history = (await as_user("alma").get(f"/api/claims/{results[0]['id']}")).json()["data"]["statusHistory"]
    assert [one["source"] for one in history] == ["import"]


async def test_a_key_makes_an_import_without_numbers_repeatable(as_user, as_root, cast):
    lines = [line(cast), line(cast), line(cast, claimNumber="I-3")]
    first = await bring(as_user("ana"), *lines, key="batch-1")
    again = await bring(as_user("ana"), *lines, key="batch-1")
    assert [one["result"] for one in first + again] == ["created"] * 3 + ["duplicate"] * 3
    assert [one["id"] for one in first] == [one["id"] for one in again]
    assert len({one["id"] for one in first}) == 3  # two equal claims may be real
    other = await bring(as_user("ana"), *lines, key="batch-2")
    assert [one["result"] for one in other] == ["created", "created", "duplicate"]
    changed = await as_user("ana")(
        "POST", "/api/claims/import", content=line(cast, amount=99), headers=NDJSON | {"Idempotency-Key": "batch-1"}
    )
    assert (changed.status_code, changed.json()["error"]["code"]) == (422, "IDEMPOTENCY_MISMATCH")


async def test_one_import_twice_at_once_creates_nothing_twice(as_user, as_root, cast):
    before = counted(as_root)
    lines = [line(cast, amount=10 + n) for n in range(150)]
    both = await asyncio.gather(*(bring(as_user("alma"), *lines, key="race") for _ in range(2)))
    assert counted(as_root) == before + 150
    made = [one["result"] for results in both for one in results]
    assert (made.count("created"), made.count("failed")) == (150, 0)


async def test_a_provider_imports_its_own_claims_alone(as_user, cast):
    results = await bring(as_user("ana"), line(cast), line(cast, providerId=str(cast.ben_provider)))
    assert [one["result"] for one in results] == ["created", "failed"]
    assert results[1]["error"]["code"] == "FORBIDDEN"
    for who in ("pia", "tom"):
        refused = await as_user(who)("POST", "/api/claims/import", content=line(cast), headers=NDJSON)
        assert refused.status_code == 403


@pytest.mark.parametrize(("content", "type_", "status"), [
    (b"", "application/x-ndjson", 400), (b"{}", "text/csv", 415), (b"x\n" * (ndjson.MAX_LINES + 1), "application/x-ndjson", 413),
])  # fmt: skip
async def test_a_body_that_is_not_an_import(as_user, as_root, content, type_, status):
    before = counted(as_root)
    answer = await as_user("alma")("POST", "/api/claims/import", content=content, headers={"Content-Type": type_})
    assert (answer.status_code, counted(as_root)) == (status, before)


async def test_a_line_too_long_fails_alone(as_user, cast):
    results = await bring(as_user("alma"), line(cast, notes="x" * 20_000), line(cast))
    assert [one["result"] for one in results] == ["failed", "created"]
    assert results[0]["error"]["code"] == "PAYLOAD_TOO_LARGE"


async def test_an_export_contains_the_rows_of_the_list(as_user, cast):
    for who in ("alma", "pia", "ana", "tom"):
        for query in ("", "?status=submitted&sort=amount"):
            listed = (await as_user(who).get(f"/api/claims{query}")).json()["data"]
            out = await as_user(who)("GET", f"/api/claims/export{query}", headers={"Accept": "application/x-ndjson"})
            assert [json.loads(one) for one in out.text.splitlines()] == listed
            table = await as_user(who)("GET", f"/api/claims/export{query}", headers={"Accept": "text/csv"})
            rows = list(csv.DictReader(io.StringIO(table.text)))
            assert [one["id"] for one in rows] == [one["id"] for one in listed]
            assert table.headers["Content-Type"].startswith("text/csv")
            assert [one["amount"] for one in rows] == [f"{one['amount']:.2f}" for one in listed]


async def test_an_export_is_longer_than_a_page_and_is_recorded(as_user, as_root, cast):
    lines = [line(cast, claimNumber=f"E-{n:04}") for n in range(2 * ndjson.PAGE_SIZE)]
    await bring(as_user("alma"), *lines)
    out = await as_user("alma").get("/api/claims/export?claimNumber=E-&sort=serviceDate")
    numbers = [json.loads(one)["claimNumber"] for one in out.text.splitlines()]
    assert sorted(numbers) == [f"E-{n:04}" for n in range(2 * ndjson.PAGE_SIZE)]
    assert as_root.execute("select count(*) from audit_logs where action = 'export'").fetchone() == (1,)


async def test_a_cell_is_not_a_formula(as_user, cast):
    dangerous = ["=1+1", "+1", "-1", "@sum", "\t=1", "fine"]
    await bring(as_user("alma"), *(line(cast, notes=one, claimNumber=f"F-{n}") for n, one in enumerate(dangerous)))
    table = await as_user("alma")("GET", "/api/claims/export?claimNumber=F-", headers={"Accept": "text/csv"})
    cells = {one["claimNumber"]: one["notes"] for one in csv.DictReader(io.StringIO(table.text))}
    assert [cells[f"F-{n}"] for n in range(6)] == ["'=1+1", "'+1", "'-1", "'@sum", "'\t=1", "fine"]


UNSEEN = (
    " \t\n\x0b\x0c\r\x01\x1b\x85\xa0\xad\u034f\u115f\u1680\u180e\u2003\u2009\u200b\u200d\u2028\u202e\u205f\u2060"
    "\u2800\u3000\u3164\ufe0f\ufeff\U000e0001"
)
BEGINNINGS = "=+-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212"


async def test_a_formula_behind_blank_characters_is_not_a_formula(as_user, cast):
    """A spreadsheet may trim characters before a formula, and more of them than Python considers blank."""
    before = ["", *UNSEEN, UNSEEN, UNSEEN * 10]
    dangerous = [one + sign + "1+1" for one in before for sign in ("=" if one else BEGINNINGS)]
    fine = ["a=1", " a=1", "1-1", "\xa01+1", "\ufeffx@y", "   ", "\u200b", "\xe9=1"]
    texts = dangerous + fine
    await bring(as_user("alma"), *(line(cast, notes=one, claimNumber=f"U-{n}") for n, one in enumerate(texts)))
    table = await as_user("alma")("GET", "/api/claims/export?claimNumber=U-", headers={"Accept": "text/csv"})
    cells = {one["claimNumber"]: one["notes"] for one in csv.DictReader(io.StringIO(table.text, newline=""))}
    assert [cells[f"U-{n}"] for n in range(len(texts))] == ["'" + one for one in dangerous] + fine


@pytest.mark.parametrize(("accept", "kind"), [
    ("text/csv", "text/csv"), ("*/*", "application/x-ndjson"), ("application/x-ndjson, text/csv;q=0.5", "application/x-ndjson"),
    ("text/csv, application/x-ndjson;q=0.9", "text/csv"), ("text/csv;q=x", "application/x-ndjson"),
    ("text/csv;q=1.000", "text/csv"), ("text/csv;q=0.001", "text/csv"), ("text/csv;q=0", "application/x-ndjson"),
    ("text/csv;q=0.", "application/x-ndjson"), ("text/csv;q=1.", "text/csv"), ("text/csv;q=1.001", "application/x-ndjson"),
    ("text/csv;q=2", "application/x-ndjson"), ("text/csv;q=0.0001", "application/x-ndjson"), ("text/csv;q=.5", "application/x-ndjson"),
    ("text/csv;q=00.5", "application/x-ndjson"), ("text/csv ; header=present ; Q=0.5", "text/csv"),
    ("text/csv;q=\xb2", "application/x-ndjson"),
])  # fmt: skip
async def test_accept_selects_the_format(as_user, accept, kind):
    out = await as_user("alma")("GET", "/api/claims/export", headers={"Accept": accept.encode("latin-1")})
    assert out.headers["Content-Type"].startswith(kind)


def test_memory_is_constant(settings, cast):
    """Ten times the lines take less than half the memory that storing them would."""
    headers = NDJSON | {"Authorization": f"Bearer {make_token(caller(cast, 'alma'), KEYS)}"}
    many = [(line(cast, claimNumber=f"M-{n}", notes="x" * 900) + "\n").encode() for n in range(10_000)]
    with served(settings) as (address, pid), psycopg.connect(settings.database_url, autocommit=True) as connection:
        # Other tests cover a line's effect in the database; here it only takes time.
        connection.execute("alter table app.claims disable trigger user")

        def bring_in(lines):
            answer = httpx.post(f"{address}/api/claims/import", content=iter(lines), headers=headers, timeout=120)
            assert answer.text.count("created") == len(lines)

        bring_in(many[:1000])
        with MemoryWatch(pid) as watch:
            bring_in(many[1000:])
            httpx.get(f"{address}/api/claims/export", headers=headers, timeout=120)
    held = sum(len(one) for one in many) / 2**20
    assert watch.peak - watch.before < held / 2, (watch.before, watch.peak, held)


async def test_other_requests_run_while_a_page_becomes_csv():
    """The length of the page does not matter: a client that reads fast never blocks the event loop."""

    async def pages():
        yield [b'{"id": "x"}'] * 250

    async with OtherRequests() as others:
        rows = b"".join([part async for part in csv_response.rows(pages(), ["id"])]).count(b"x")
    assert (rows, others.turns >= 250 // csv_response.ROWS_PER_YIELD) == (250, True), others.turns
