"""The Idempotency-Key of an import: one body, known before a line is stored, and lines that are known by their content."""

import json
from contextlib import suppress

import pytest

from app.http.responses import Responder
from tests.http.test_import_export import NDJSON, bring, counted, line

AGED = "update idempotency_keys set created_at = now() - interval '25 hours' where path = '/api/claims/import'"


async def send(user, *lines, key):
    return await user("POST", "/api/claims/import", content="\n".join(lines), headers=NDJSON | {"Idempotency-Key": key})


async def test_another_body_is_refused_before_anything_is_stored(as_user, as_root, cast):
    alma, before = as_user("alma"), counted(as_root)
    await bring(alma, line(cast), "no json", key="k")
    for other in ([line(cast), "no json", line(cast)], [line(cast)], [line(cast) + " ", "no json"], ["no json"]):
        answer = await send(alma, *other, key="k")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    assert counted(as_root) == before + 1
    assert (await send(alma, line(cast, amount=3), key="other")).status_code == 200  # control
    assert (await send(as_user("ana"), line(cast, amount=4), key="k")).status_code == 200  # another user's key


async def test_a_corrected_file_creates_no_line_twice(as_user, as_root, cast):
    """After the key has expired as well, lines without a number are known by their content."""
    alma, before = as_user("alma"), counted(as_root)
    first = await bring(
        alma, line(cast, amount=1), line(cast, amount=2, diagnosisCode="A00"), line(cast, amount=3), key="k"
    )
    assert [one["result"] for one in first] == ["created", "failed", "created"]
    as_root.execute(AGED)
    fixed = await bring(
        alma,
        line(cast, amount=9),
        line(cast, amount=3),
        line(cast, amount=2, diagnosisCode="i10"),
        line(cast, amount=1),
        key="k",
    )
    assert [one["result"] for one in fixed] == ["created", "duplicate", "created", "duplicate"]
    assert [fixed[3]["id"], fixed[1]["id"]] == [first[0]["id"], first[2]["id"]]
    as_root.execute(AGED)
    next_day = await bring(alma, line(cast, amount=20), line(cast, amount=21), key="k")
    assert [one["result"] for one in next_day] == ["created", "created"]
    assert counted(as_root) == before + 6


async def test_an_import_that_was_cut_off_is_completed(as_user, as_root, cast, monkeypatch):
    lines = [line(cast, amount=1 + n // 2) for n in range(250)]  # every line twice
    before, calls = counted(as_root), 0
    import_rows = Responder.import_rows

    async def end_after_a_batch(self, *given):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionResetError("the process ends here")
        return await import_rows(self, *given)

    with monkeypatch.context() as patch, suppress(Exception):
        patch.setattr(Responder, "import_rows", end_after_a_batch)
        await bring(as_user("alma"), *lines, key="k")
    assert counted(as_root) == before + 100
    done = await bring(as_user("alma"), *lines, key="k")
    assert [one["result"] for one in done] == ["duplicate"] * 100 + ["created"] * 150
    assert counted(as_root) == before + 250
    again = await bring(as_user("alma"), *lines, key="k")
    assert [one["id"] for one in again] == [one["id"] for one in done]
    assert len({one["id"] for one in again}) == 250
    assert (await send(as_user("alma"), *lines[:100], key="k")).status_code == 422


async def test_the_submission_of_a_draft_is_no_duplicate(as_user, as_root, cast):
    alma = as_user("alma")
    (draft,) = await bring(alma, line(cast, claimNumber="D-1", draft=True))
    assert (await bring(alma, line(cast, claimNumber="D-1", draft=True)))[0]["result"] == "duplicate"
    (submitted,) = await bring(alma, line(cast, claimNumber="D-1"))
    assert (submitted["result"], submitted["error"]["code"]) == ("failed", "CONFLICT")
    assert (await alma.get(f"/api/claims/{draft['id']}")).json()["data"]["status"] == "draft"
    await alma.patch(f"/api/claims/{draft['id']}", {"status": "submitted"})
    for again in (line(cast, claimNumber="D-1"), line(cast, claimNumber="D-1", draft=True)):  # both describe it
        assert (await bring(alma, again))[0]["result"] == "duplicate"
    await bring(alma, line(cast, claimNumber="D-2"))
    (late,) = await bring(alma, line(cast, claimNumber="D-2", draft=True))
    assert late["result"] == "failed"
    await alma.patch(f"/api/claims/{draft['id']}", {"status": "under_review"})
    assert (await bring(alma, line(cast, claimNumber="D-1")))[0]["result"] == "duplicate"  # its status is later


@pytest.mark.parametrize("who", ["pia", "tom"])
async def test_a_role_that_may_not_import_reserves_no_key(as_user, as_root, cast, who):
    reserved = "select count(*) from idempotency_keys where path = '/api/claims/import'"
    assert (await send(as_user(who), line(cast), key="k")).status_code == 403
    assert as_root.execute(reserved).fetchone() == (0,)
    await send(as_user("alma"), line(cast), key="k")
    assert as_root.execute(reserved).fetchone() == (1,)  # control


async def test_a_number_loses_white_space_in_an_import(as_user, cast):
    first, again, other = await bring(
        as_user("alma"),
        line(cast, claimNumber="W-1"),
        line(cast, claimNumber="\u3000W-1\t\u2029"),
        json.dumps(json.loads(line(cast)) | {"claimNumber": "W\u200b1"}),
    )
    assert (first["result"], again["result"], again["id"]) == ("created", "duplicate", first["id"])
    assert (other["result"], list(other["error"]["fields"])) == ("failed", ["claimNumber"])
