"""Releases of ICD-10-CM beside the shipped one: which codes are valid on a day, and the commands that load and remove a release."""

import os
import subprocess
import sys
from datetime import date

import pytest

from app.database.schema_files import ROOT
from app.operations import load_codes, migrate, reference_data
from app.operations.code_files import Code, to_text
from app.operations.load_codes import Refused, Span
from tests.support.responses import problem

ROWS = "select code, valid_from::text, valid_until::text, billable, description from diagnosis_codes order by code, valid_from"
CODES = "select code, billable, description from diagnosis_codes order by code"
NEVER, EVER = "-infinity", "infinity"
YEAR_2023 = Span(date(2022, 10, 1), date(2023, 9, 30))


@pytest.fixture
def shipped(as_root):
    """The codes of the shipped release, of which the template has a part."""
    return [Code(*row) for row in as_root.execute(CODES).fetchall()]


@pytest.fixture
def older(shipped):
    """A release in which E88.81 is billable, E88.A does not exist, and A00.2 does. E10.9 has another description."""
    codes = [code for code in shipped if not code.code.startswith(("E88.81", "E88.A"))]
    codes = [code._replace(description="Type 1 diabetes") if code.code == "E10.9" else code for code in codes]
    return [*codes, Code("E88.81", True, "Metabolic syndrome"), Code("A00.2", True, "Cholera of old")]


def rows(as_root, *codes):
    return [row for row in as_root.execute(ROWS).fetchall() if row[0] in codes]


async def claim(user, cast, code, day):
    body = {"patientId": str(cast.tom_patient), "providerId": str(cast.ana_provider), "amount": 10}
    return await user.post("/api/claims", body | {"diagnosisCode": code, "serviceDate": day})


WRONG = "Must be a billable ICD-10-CM code valid on the service date: "


async def test_the_shipped_release_counts_on_every_day(as_user, cast, shipped):
    assert {"B20", "R99", "U07.1"} <= {code.code for code in shipped}
    ana = as_user("ana")
    for code in ("B20", "r99", "u071"):
        for day in ("2015-10-01", "2026-11-20"):
            assert (await claim(ana, cast, code, day)).status_code == 201, (code, day)
    refused = await claim(ana, cast, "E88.81", "2023-09-30")
    assert problem(refused) == (400, ["diagnosisCode"])
    fields = refused.json()["error"]["details"]["fields"]
    assert fields["diagnosisCode"] == [WRONG + "E88.81 is a header, choose a code below it"]
    unknown = await claim(ana, cast, "A00.2", "2023-09-30")
    assert unknown.json()["error"]["details"]["fields"]["diagnosisCode"] == [WRONG + "there is no code A00.2"]


async def test_a_code_that_begins_with_two_letters_is_accepted(as_user, as_root, cast):
    assert problem(await claim(as_user("ana"), cast, "qa00101", "2026-11-20")) == (
        400,
        ["diagnosisCode"],
    )  # not in the template
    as_root.execute(
        "insert into diagnosis_codes (code, billable, description) values ('QA0.0101', true, 'Developmental disorder')"
    )
    made = await claim(as_user("ana"), cast, "qa00101", "2026-11-20")
    assert (made.status_code, made.json()["data"]["diagnosisCode"]) == (201, "QA0.0101")
    listed = await as_user("ana").get("/api/claims?diagnosisCode=qa0.0101")
    assert [one["diagnosisCode"] for one in listed.json()["data"]] == ["QA0.0101"]


async def test_an_older_release_decides_on_its_days(as_user, as_root, cast, older):
    assert load_codes.load(as_root, older, YEAR_2023)
    ana = as_user("ana")
    below = "E88.810"
    for code, day, error in (
        ("E88.81", "2022-10-01", None),
        ("E88.81", "2023-09-30", None),
        ("E88.81", "2022-09-30", "E88.81 is billable from 2022-10-01 to 2023-09-30, not on 2022-09-30"),
        ("E88.81", "2023-10-01", "E88.81 is billable from 2022-10-01 to 2023-09-30, not on 2023-10-01"),
        (below, "2022-09-30", None),  # of the shipped release, before each loaded one
        (below, "2022-10-01", f"{below} is billable to 2022-09-30 and from 2023-10-01, not on 2022-10-01"),
        (below, "2023-10-01", None),
        ("A00.2", "2023-09-30", None),
        ("A00.2", "2026-11-20", "A00.2 is billable from 2022-10-01 to 2023-09-30, not on 2026-11-20"),
        ("E10.9", "2022-09-30", None),
        ("E10.9", "2022-10-01", None),
        ("E10.9", "2026-11-20", None),
        ("E88", "2023-01-01", "E88 is a header, choose a code below it"),
    ):
        answer = await claim(ana, cast, code, day)
        assert answer.status_code == (400 if error else 201), (code, day, answer.text)
        if error:
            assert answer.json()["error"]["details"]["fields"] == {"diagnosisCode": [WRONG + error]}


async def test_the_search_shows_the_days_of_each_description(as_user, as_root, older):
    load_codes.load(as_root, older, YEAR_2023)
    found = (await as_user("tom").get("/api/diagnosis-codes?search=E88.81")).json()["data"]
    header, syndrome, after = [one for one in found if one["code"] == "E88.81"]
    assert (header["validFrom"], header["validUntil"], header["billable"]) == (None, "2022-10-01", False)
    assert (syndrome["validFrom"], syndrome["validUntil"], syndrome["billable"]) == ("2022-10-01", "2023-10-01", True)
    assert (after["validFrom"], after["validUntil"], after["billable"]) == ("2023-10-01", None, False)
    cholera = (await as_user("tom").get("/api/diagnosis-codes?search=cholera of old")).json()["data"]
    assert [(one["code"], one["validUntil"]) for one in cholera] == [("A00.2", "2023-10-01")]
    first = (await as_user("tom").get("/api/diagnosis-codes?search=E88.81&limit=1")).json()
    rest = await as_user("tom").get("/api/diagnosis-codes", params={
        "search": "E88.81", "cursor": first["meta"]["pagination"]["nextCursor"], "limit": 100})  # fmt: skip
    assert first["data"] + rest.json()["data"] == found  # no row of a code is lost between pages


def test_the_same_release_again_changes_nothing(as_root, shipped, older):
    load_codes.load(as_root, older, YEAR_2023)
    stored, places = as_root.execute(ROWS).fetchall(), "select ctid, xmin from diagnosis_codes"
    before = as_root.execute(places).fetchall()
    assert not load_codes.load(as_root, older, YEAR_2023)
    assert not load_codes.load(as_root, older[::-1], YEAR_2023)
    assert as_root.execute(places).fetchall() == before
    assert load_codes.load(as_root, older, Span(YEAR_2023.first, date(2023, 12, 31)))  # control: other days
    assert as_root.execute(ROWS).fetchall() != stored
    load_codes.load(as_root, older, YEAR_2023)
    assert as_root.execute(ROWS).fetchall() == stored
    load_codes.remove(as_root, YEAR_2023.first)
    assert [Code(*row) for row in as_root.execute(CODES).fetchall()] == shipped
    with pytest.raises(Refused, match="no release begins on 2022-10-01"):
        load_codes.remove(as_root, YEAR_2023.first)


def test_the_release_that_began_last_counts_and_order_does_not(as_root, shipped, older):
    spring = [code for code in older if code.code != "A00.2"]
    releases = [
        (older, YEAR_2023),
        (spring, Span(date(2023, 4, 1), date(2023, 6, 30))),
        (shipped, Span(date(2024, 10, 1), None)),  # until the shipped one begins
        (older, Span(date(2026, 10, 1), None)),
    ]
    expected = [
        ("A00.2", "2022-10-01", "2023-04-01", True, "Cholera of old"),
        ("A00.2", "2023-07-01", "2023-10-01", True, "Cholera of old"),
        ("A00.2", "2026-10-01", EVER, True, "Cholera of old"),
    ]
    for order in (releases, releases[::-1], releases[2:] + releases[:2]):
        for codes, span in order:
            load_codes.load(as_root, codes, span)
        assert rows(as_root, "A00.2") == expected
        unchanged = [code for code in shipped if code.code == "A00.0"]
        assert rows(as_root, "A00.0") == [("A00.0", NEVER, EVER, *unchanged[0][1:])]  # one row where nothing changes
        assert len(load_codes.overview(as_root)) == 8
        for _, span in order:
            load_codes.remove(as_root, span.first)


def test_a_schema_step_loads_missing_codes_and_keeps_other_releases(as_root, settings, older, shipped):
    load_codes.load(as_root, older, YEAR_2023)
    as_root.execute("delete from diagnosis_codes where code in ('B20', 'R99')")
    as_root.execute("update diagnosis_codes set description = 'x' where code = 'E11.9'")
    as_root.execute("update schema_admin.applied_files set digest = '' where path like 'sql/data/icd10cm%'")
    as_root.execute("update schema_admin.state set files = ''")
    migrate.apply(settings)
    assert as_root.execute("select count(*) from diagnosis_codes where valid_until = 'infinity'").fetchone() == (
        98_186,
    )
    assert {row[:3] for row in rows(as_root, "B20", "B99")} == {
        ("B20", NEVER, EVER),
        ("B99", NEVER, "2022-10-01"),  # not in the older release, made of the template's codes
        ("B99", "2023-10-01", EVER),
    }
    assert rows(as_root, "A00.2") == [("A00.2", "2022-10-01", "2023-10-01", True, "Cholera of old")]
    places = as_root.execute("select ctid, xmin from diagnosis_codes").fetchall()
    reference_data.load_diagnosis_codes(as_root)
    assert (
        as_root.execute("select ctid, xmin from diagnosis_codes").fetchall() == places
    )  # a second time changes no row


def test_a_database_of_the_version_before_gets_the_missing_codes(as_root, shipped):
    as_root.execute("delete from schema_admin.diagnosis_releases")
    as_root.execute("delete from diagnosis_codes where code in ('B20', 'B10', 'R99')")
    assert as_root.execute("select count(*) from diagnosis_codes where code ~ '^E1'").fetchone() > (0,)  # control
    reference_data.load_diagnosis_codes(as_root)
    assert as_root.execute("select count(*) from diagnosis_codes").fetchone() == (98_186,)
    assert as_root.execute(
        "select billable from diagnosis_codes where code in ('B20', 'B10') order by code"
    ).fetchall() == [(False,), (True,)]


@pytest.mark.parametrize(
    ("codes", "span", "message"),
    [
        (1, Span(date(2026, 4, 1), None), "the shipped release begins on 2026-04-01"),
        (3, YEAR_2023, "it is no complete release"),
    ],
)
def test_a_release_is_refused_as_a_whole(as_root, older, codes, span, message):
    before = as_root.execute(ROWS).fetchall()
    with pytest.raises(Refused, match=message):
        load_codes.load(as_root, older[::codes], span)
    assert as_root.execute(ROWS).fetchall() == before
    assert as_root.execute("select count(*) from schema_admin.diagnosis_releases").fetchone() == (1,)
    with pytest.raises(Refused, match="the shipped release can't be removed"):
        load_codes.remove(as_root, date(2026, 4, 1))


@pytest.fixture
def run(settings, tmp_path):
    """Runs `make load-codes` or `make unload-codes` with these variables."""

    def command(target, **variables):
        words = [
            "make",
            "--no-print-directory",
            "-o",
            ".venv/.installed",
            target,
            *(f"{name}={text}" for name, text in variables.items()),
        ]
        environ = os.environ | {"DATABASE_URL": settings.database_url}
        done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    assert sys.executable
    return command


def test_the_command_loads_an_order_file_and_removes_it(run, as_root, older, tmp_path):
    file = tmp_path / "icd10cm_order_2023.txt"
    plain = sorted(code._replace(description=code.description.encode("ascii", "ignore").decode()) for code in older)
    file.write_text(
        "".join(
            f"{n:05} {c.code.replace('.', ''):7} {int(c.billable)} {'short':60} {c.description}\r\n"
            for n, c in enumerate(plain, 1)
        ),
        newline="",
    )
    given = {"FILE": str(file), "FROM": "2022-10-01", "UNTIL": "2023-09-30"}
    status, said, problem_said = run("load-codes", **given)
    assert (status, problem_said) == (0, "")
    assert said.splitlines()[0].startswith(f"loaded: {len(older):,} codes")
    assert said.splitlines()[2] == "2022-10-01 .. 2023-09-30  release of 2022-10-01"
    assert rows(as_root, "A00.2") == [("A00.2", "2022-10-01", "2023-10-01", True, "Cholera of old")]
    assert run("load-codes", **given)[1].startswith("already loaded, nothing changed")
    status, said, _ = run("unload-codes", FROM="2022-10-01")
    assert (status, said.splitlines()[0]) == (0, "removed the release of 2022-10-01")
    assert rows(as_root, "A00.2") == []


def test_the_command_refuses_in_one_line_and_changes_nothing(run, as_root, older, tmp_path):
    good, bad = tmp_path / "good.tsv", tmp_path / "bad.tsv"
    good.write_text(to_text(older))
    bad.write_text(to_text(older)[:-9])
    before = as_root.execute(ROWS).fetchall()
    for variables, message in (
        ({}, "codes: usage: "),
        ({"FILE": good}, "codes: FROM must be a day, YYYY-MM-DD"),
        ({"FILE": good, "FROM": "2022-02-30"}, "codes: FROM must be a day, YYYY-MM-DD"),
        ({"FILE": good, "FROM": "2022-10-01", "UNTIL": "20230930"}, "codes: UNTIL must be a day, YYYY-MM-DD"),
        ({"FILE": good, "FROM": "2022-10-01", "UNTIL": "2022-09-30"}, "codes: UNTIL is the last day of the release"),
        ({"FILE": tmp_path / "none", "FROM": "2022-10-01"}, f"codes: {tmp_path / 'none'}: No such file or directory"),
        ({"FILE": tmp_path, "FROM": "2022-10-01"}, f"codes: {tmp_path}: Is a directory"),
        ({"FILE": bad, "FROM": "2022-10-01"}, "codes: the last line does not end with a line break"),
    ):
        status, said, problem_said = run("load-codes", **variables)
        assert (status, said) == (2, ""), variables
        assert problem_said.startswith(message), (variables, problem_said)
        assert "Traceback" not in problem_said
    assert as_root.execute(ROWS).fetchall() == before
    assert run("load-codes", FILE=good, FROM="2022-10-01")[0] == 0  # control
