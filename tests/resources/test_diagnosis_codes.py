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
    for bad in ("", "x" * 301, "a\0b"):
        answer = await tom.get("/api/diagnosis-codes", params={"search": bad})
        assert problem(answer) == (400, ["search"]), bad


SPELLINGS = [
    ("COVID-19", "U07.1"), ("covid 19", "U07.1"), ("19 covid", "U07.1"), ("COVID19", "U07.1"), ("covid\u201119", "U07.1"),
    ("  covid-19\t", "U07.1"), ("\u00a0U071\u00a0", "U07.1"), ("u07.1 ", "U07.1"), ("COV", "U07.1"),
    ("HIV", "B20"), ("[HIV] disease", "B20"), ("human immunodefici", "B20"), ("b20", "B20"),
    ("without complica", "E11.9"), ("complicatio mellitus type 2", "E11.9"), ("diabetics", "E11.9"), ("diabetes of the type 2", "E11.9"),
    ("alpha-1-antitrypsin", "E88.01"), ("antitrypsin alpha 1", "E88.01"), ("sjogren", "M35.00"), ("SJ\u00d6GREN\u2019S", "M35.00"),
    ("Sjo\u0308gren's", "M35.00"), ("Sjogrens", "M35.00"), ("monocytic/monoblastic", "C93.00"), ("and/or", "I13.0"),
    ("monoblastic/", "C93.00"), ("the", "E08.352"), ("injury", "S00.00XA"), ("injuries", "T07.XXXA"),
    ("Guillain Barr\u00e9", "G61.0"), ("guillain-barre syndrome", "G61.0"),
]  # fmt: skip
"""A search, and a code that it finds. PostgreSQL's parser alone reads and/or as a path, and -19 as a negative number."""


async def test_words_are_found_in_every_spelling(as_user, as_root):
    load_all_codes(as_root)
    for search, code in SPELLINGS:
        matches = "description_words(description) @@ prefix_tsquery(%(search)s) or code ^@ code_prefix(%(search)s)"
        held = as_root.execute(f"select code from diagnosis_codes where {matches}", {"search": search}).fetchall()
        assert (code,) in held, search
        assert len(held) < 98_000, search  # control: not every code
        assert list(await codes(as_user("tom"), search)) == sorted(found for (found,) in held)[:100], search


def test_every_description_finds_itself(as_root):
    load_all_codes(as_root)
    assert as_root.execute("select count(*), count(*) filter (where billable) from diagnosis_codes").fetchone() == (
        98_186,
        74_719,
    )
    missing = as_root.execute(
        "select code, description from diagnosis_codes where not coalesce(description_words(description) @@ "
        "prefix_tsquery('  ' || upper(description) || E'\\t'), false) limit 5"
    ).fetchall()
    assert missing == []
    lower = "select count(*) from diagnosis_codes where plain_text(description) <> plain_text(upper(description))"
    assert as_root.execute(lower).fetchone() == (0,)  # so each finds itself in lower case too
    longest = as_root.execute("select max(length(description)) from diagnosis_codes").fetchone()[0]
    assert 100 < longest <= 300  # the bound of the search
    backwards = (
        "(select string_agg(word, ' ' order by place desc) "
        "from regexp_split_to_table(description, '[ ,/()-]+') with ordinality as words (word, place))"
    )
    sampled = as_root.execute(
        f"select count(*), count(*) filter (where not description_words(description) @@ prefix_tsquery({backwards})) "
        "from diagnosis_codes where md5(code) < '08'"
    ).fetchone()
    assert sampled[0] > 1000
    assert sampled[1] == 0


async def test_the_longest_description_finds_itself(as_user, as_root):
    longest = "select code, description from diagnosis_codes order by length(description) desc, code"
    code, description = as_root.execute(longest).fetchone()
    assert len(description) > 100
    assert code in await codes(as_user("tom"), description)


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
