"""Diagnosis codes: search by code and by words, and the pages of a result."""

import msgspec
import pytest

from app.http.envelope import Envelope
from app.resources.diagnosis_codes import DiagnosisCode
from tests.support.databases import load_all_codes
from tests.support.responses import problem, walk


async def codes(user, search):
    answer = await user.get("/api/diagnosis-codes", params={"search": search, "limit": 100})
    assert answer.status_code == 200, (search, answer.text)
    msgspec.json.decode(answer.content, type=Envelope[list[DiagnosisCode]], strict=True)
    return {one["code"]: one for one in answer.json()["data"]}


async def test_a_code_is_found_by_its_prefix_in_any_spelling(as_user):
    ana = as_user("ana")
    for search in ("E11.9", "e11.9", "E119", "e119"):
        assert list(await codes(ana, search)) == ["E11.9"], search
    for search in ("E11.6", "e116"):
        found = await codes(ana, search)
        assert {"E11.6", "E11.69"} <= set(found), search
        assert all(code.startswith("E11.6") for code in found), search
    found = await codes(ana, "e08")
    assert (next(iter(found)), list(found)) == ("E08", sorted(found))
    assert (found["E08"]["billable"], found["E08.0"]["billable"], found["E08.00"]["billable"]) == (False, False, True)
    assert await codes(ana, "E08.") == found


async def test_a_code_is_found_by_words_of_its_description(as_user):
    tom = as_user("tom")
    found = await codes(tom, "WITHOUT complications type 2 Diabetes")
    assert "E11.9" in found
    assert "E10.9" not in found  # that is type 1: all of the words must match
    assert "E10.9" in await codes(tom, "type 1 diabetes without complications")  # control
    assert "E11.9" in await codes(tom, "diab mell compl 2")  # prefixes of words
    assert await codes(tom, "diabetes unicorn") == {}
    for odd in ("%", "_", "'", "\\", "&|!():*", "a & b", "<->", " ", "ÄÖ", "e11%", "' or 1=1 --"):
        assert "E11.9" not in await codes(tom, odd), odd
    for bad in ("", "x" * 101, "a\0b"):
        answer = await tom.get("/api/diagnosis-codes", params={"search": bad})
        assert problem(answer) == (400, ["search"]), bad


@pytest.mark.parametrize(("search", "which"), [("e10", "code like 'E10%'"), ("measles", r"description ~* '\mmeasles'")])
async def test_no_code_is_missing_between_pages(as_user, as_root, search, which):
    load_all_codes(as_root)
    paged = await walk(as_user("pia"), f"/api/diagnosis-codes?limit=9&search={search}")
    held = as_root.execute(f"select code from diagnosis_codes where {which} order by code").fetchall()
    assert [one["code"] for one in paged] == [code for (code,) in held]
    assert len(paged) > 9  # more than a page


async def test_all_codes_are_listed_without_a_search(as_user, as_root):
    load_all_codes(as_root)
    page = (await as_user("tom").get("/api/diagnosis-codes?offset=9990&limit=10")).json()
    first = "select code from diagnosis_codes order by code, valid_from offset 9990 limit 10"
    assert [one["code"] for one in page["data"]] == [code for (code,) in as_root.execute(first).fetchall()]
    assert page["meta"]["pagination"] == {"total": 10_000, "limit": 10, "offset": 9990, "totalIsCapped": True}
