"""Lists of claims: filters, orders, both forms of pages; statistics of the claims that the caller sees."""

from datetime import date, timedelta
from itertools import pairwise

import pytest


@pytest.fixture
async def twelve(as_user, as_root, cast):
    """Twelve more claims of north, amounts and service dates in no order, two of each patient and provider alike."""
    alma = as_user("alma")
    for n in range(12):
        body = {
            "patientId": str(cast.tom_patient if n % 2 else cast.tina_patient),
            "providerId": str(cast.ana_provider if n % 3 else cast.ben_provider),
            "diagnosisCode": "I10" if n % 4 else "E11.9",
            "amount": 10 + (n * 7) % 12 + (n % 2) / 2,
            "serviceDate": str(date(2026, 1, 1) + timedelta(days=(n * 5) % 12)),
            "claimNumber": f"L-{n % 2}{n:02}",
            "draft": n == 11,
        }
        assert (await alma.post("/api/claims", body)).status_code == 201
    return as_root.execute(
        "select claim_id::text as id, patient_id::text as patient, provider_id::text as provider, diagnosis_code as code, "
        "amount_cents as cents, service_date as day, claim_number as number, status, assigned_to::text as worker, created_at "
        "from claims where organization_id = %s order by created_at",
        [cast.organization],
    ).fetchall()


PATIENT, PROVIDER, CODE, CENTS, DAY, NUMBER, STATUS, WORKER, CREATED = range(1, 10)


@pytest.mark.parametrize(("query", "keeps"), [
    ("status=draft", lambda row, cast: row[STATUS] == "draft"),
    ("status=draft,submitted", lambda row, cast: True),
    ("patientId={tom_patient}", lambda row, cast: row[PATIENT] == str(cast.tom_patient)),
    ("providerId={ben_provider}", lambda row, cast: row[PROVIDER] == str(cast.ben_provider)),
    ("assignedTo=none", lambda row, cast: row[WORKER] is None),
    ("assignedTo={pia}", lambda row, cast: row[WORKER] == str(cast.pia)),
    ("assignedTo=me", lambda row, cast: False),
    ("serviceDateFrom=2026-01-05&serviceDateTo=2026-01-08", lambda row, cast: date(2026, 1, 5) <= row[DAY] <= date(2026, 1, 8)),
    ("amountMin=12&amountMax=15.5", lambda row, cast: 1200 <= row[CENTS] <= 1550),
    ("diagnosisCode=e119", lambda row, cast: row[CODE] == "E11.9"),
    ("claimNumber=L-1", lambda row, cast: row[NUMBER].startswith("L-1")),
    ("claimNumber=L-%25", lambda row, cast: False),
    ("createdFrom=2999-01-01T00:00:00Z", lambda row, cast: False),
    ("createdTo=2999-01-01T00:00:00Z", lambda row, cast: True),
    ("patientId={tom_patient}&diagnosisCode=I10&amountMax=20", lambda row, cast:
        row[PATIENT] == str(cast.tom_patient) and row[CODE] == "I10" and row[CENTS] <= 2000),
])  # fmt: skip
async def test_a_filter_returns_the_matching_claims(as_user, cast, twelve, query, keeps):
    path = f"/api/claims?{query.format(**cast.ids)}"
    wanted = {row[0] for row in twelve if keeps(row, cast)}
    answer = await as_user("alma").get(f"{path}&limit=100")
    assert {one["id"] for one in answer.json()["data"]} == wanted
    counted = await as_user("alma").get(f"{path}&offset=0")
    assert counted.json()["meta"]["pagination"]["total"] == len(wanted)


async def test_me_is_the_calling_processor(as_user, cast):
    mine = await as_user("pia").get("/api/claims?assignedTo=me")
    assert [one["id"] for one in mine.json()["data"]] == [str(cast.anas_claim)]


@pytest.mark.parametrize(("sort", "key"), [("createdAt", CREATED), ("serviceDate", DAY), ("amount", CENTS)])
@pytest.mark.parametrize("sign", ["", "-"])
async def test_every_order_contains_every_claim_once(as_user, twelve, sort, key, sign):
    alma, by_id = as_user("alma"), {row[0]: row for row in twelve}
    seen, cursor = [], ""
    while cursor is not None:
        page = (await alma.get(f"/api/claims?sort={sign}{sort}&limit=5{cursor and '&cursor=' + cursor}")).json()
        seen += [by_id[one["id"]] for one in page["data"]]
        cursor = page["meta"]["pagination"]["nextCursor"]
    assert len(seen) == len(by_id) == len({row[0] for row in seen})
    ordered = reversed(seen) if sign else seen
    assert all(before[key] <= after[key] for before, after in pairwise(ordered))
    jumped = (await alma.get(f"/api/claims?sort={sign}{sort}&limit=5&offset=7")).json()["data"]
    assert [one["id"] for one in jumped] == [row[0] for row in seen[7:12]]


async def test_pages_stay_consistent_while_claims_are_created(as_user, twelve, cast):
    alma = as_user("alma")
    first = (await alma.get("/api/claims?limit=5")).json()
    body = {"patientId": str(cast.tom_patient), "providerId": str(cast.ana_provider), "diagnosisCode": "I10", "amount": 1,
            "serviceDate": "2026-01-01"}  # fmt: skip
    assert (await alma.post("/api/claims", body)).status_code == 201
    rest = (await alma.get(f"/api/claims?limit=100&cursor={first['meta']['pagination']['nextCursor']}")).json()
    seen = [one["id"] for one in first["data"] + rest["data"]]
    assert sorted(seen) == sorted(row[0] for row in twelve)


async def test_a_total_beyond_ten_thousand_is_capped(as_user, as_root, cast):
    as_root.execute("alter table claims disable trigger user")
    as_root.execute(
        "insert into claims (organization_id, patient_id, provider_id, diagnosis_code, amount_cents, service_date) "
        "select %s, %s, %s, 'I10', 100, '2026-01-01' from generate_series(1, 10000)",
        [cast.organization, cast.tom_patient, cast.ana_provider],
    )
    pagination = (await as_user("alma").get("/api/claims?limit=1&offset=10000")).json()["meta"]["pagination"]
    assert pagination == {"total": 10_000, "totalIsCapped": True, "limit": 1, "offset": 10_000}
    refused = await as_user("alma").get("/api/claims?offset=10001")
    assert "cursor" in refused.json()["error"]["details"]["fields"]["offset"][0]


@pytest.mark.parametrize("query", [
    "unknown=1", "status=null", "patientId=null", "sort=name", "status=submitted&status=draft", "amountMin=1.234", "amountMin=nan",
    "serviceDateFrom=2026-02-30", "createdFrom=2026-01-01T00:00:00", "assignedTo=you", "assignedTo=------------------------------------",
    "amountMax=-1", "claimNumber=",
])  # fmt: skip
async def test_an_invalid_filter_is_refused_and_not_ignored(as_user, query):
    answer = await as_user("alma").get(f"/api/claims?{query}")
    assert (answer.status_code, list(answer.json()["error"]["details"]["fields"])) == (400, [query.split("=")[0]])
    # This one is ignored on purpose.
    assert (await as_user("alma").get("/api/claims?organizationId=anything")).status_code == 200


async def test_statistics_add_up(as_user, as_root, cast, twelve):
    alma = as_user("alma")
    for n, (status, more) in enumerate(
        [("approved", {}), ("approved", {}), ("rejected", {"denialReason": "not covered"}), ("voided", {})]
    ):
        moved = await alma.patch(f"/api/claims/{twelve[n][0]}", {"status": status} | more)
        assert moved.status_code == 200
    await alma.patch(f"/api/claims/{twelve[2][0]}", {"status": "appealed", "reason": "please look again"})
    stats = (await alma.get("/api/claims/stats")).json()["data"]
    rows = as_root.execute(
        "select status, count(*), sum(amount_cents) from claims where organization_id = %s group by 1",
        [cast.organization],
    ).fetchall()
    shown = {name: (one["count"], round(one["amount"] * 100)) for name, one in stats["byStatus"].items()}
    assert {name: one for name, one in shown.items() if one[0]} == {name: (count, cents) for name, count, cents in rows}
    assert len(shown) == 10
    assert stats["total"]["count"] == sum(count for _, count, _ in rows) == 14
    assert stats["approvalRate"] == 0.6667  # two of three: the appeal followed a rejection
    assert 0 <= stats["averageProcessingHours"] < 1


async def test_statistics_are_of_the_claims_that_the_caller_sees(as_user, twelve):
    counts = {
        who: (await as_user(who).get("/api/claims/stats")).json()["data"]["total"]["count"]
        for who in ("alma", "pia", "paul", "tom")
    }
    toms = sum(
        row[PATIENT] == next(one[PATIENT] for one in twelve if one[NUMBER] == "C-ANA") and row[STATUS] != "draft"
        for row in twelve
    )
    assert counts == {"alma": 14, "pia": 1, "paul": 0, "tom": toms}
    none = (await as_user("paul").get("/api/claims/stats")).json()["data"]
    assert (none["approvalRate"], none["averageProcessingHours"]) == (None, None)
    days = (await as_user("alma").get("/api/claims/stats?serviceDateFrom=2026-01-01&serviceDateTo=2026-01-02")).json()[
        "data"
    ]
    assert days["total"]["count"] == sum(row[DAY] <= date(2026, 1, 2) for row in twelve)
