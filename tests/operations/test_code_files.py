"""Files of ICD-10-CM: the shipped one against a second source, and the refusal of faulty ones."""

import csv
import lzma
from itertools import pairwise

import pytest

from app.database.schema_files import ROOT
from app.dev.icd10cm import CHAPTERS, Summary, differences, summaries, tabular_codes
from app.operations.code_files import MAX_BYTES, Code, InvalidFile, read_release, to_text
from app.operations.reference_data import SHIPPED_CODES

SECOND_SOURCE = ROOT / "tests" / "operations" / "data" / "icd10cm-order-2026.csv"
"""Counts and digests of the order file of CMS for 2026 (sql/data/SOURCES.md), by letter and chapter. The shipped file is built from the
tabular list of NCHS."""
CHOLERA = Code("A00", False, "Cholera")
HIV = Code("B20", True, "Human immunodeficiency virus [HIV] disease")
CODES = [CHOLERA, Code("A00.0", True, "Cholera due to Vibrio cholerae 01, biovar cholerae"), HIV]


@pytest.fixture(scope="module")
def shipped():
    return read_release(SHIPPED_CODES)


def order_line(number, code, short="short", billable=None, width=60):
    flag = int(code.billable if billable is None else billable)
    return f"{number:05} {code.code.replace('.', ''):7} {flag} {short:{width}} {code.description}\r\n"


def order_file(codes):
    return "".join(order_line(number, code) for number, code in enumerate(codes, 1)).encode()


def test_codes_flags_and_descriptions_are_those_of_the_second_source(shipped):
    with SECOND_SOURCE.open(newline="") as file:
        expected = [
            Summary(part, int(headers), int(billable), digest)
            for part, headers, billable, digest in list(csv.reader(file))[1:]
        ]
    assert len(expected) == 26 + len(CHAPTERS) + 1
    assert (
        sum(one.headers + one.billable for one in expected if one.part in CHAPTERS) == 98_186
    )  # each code is in one chapter
    assert expected[-1][:3] == ("all", 23_467, 74_719)
    assert list(summaries(shipped)) == expected
    without_one = [code for code in shipped if code.code != "B20"]  # control
    assert {found.part for found, held in zip(summaries(without_one), expected, strict=True) if found != held} == {
        "B",
        "A00-B99",
        "all",
    }


def test_a_billable_code_is_one_without_codes_below_it(shipped):
    plain = sorted(code.code.replace(".", "") for code in shipped)
    assert len(set(plain)) == len(plain) == 98_186
    with_children = {before for before, after in pairwise(plain) if after.startswith(before)}
    billable = {code.code.replace(".", "") for code in shipped if code.billable}
    assert billable == set(plain) - with_children
    assert len(billable) == 74_719
    alone = {code for code in billable if len(code) == 3}
    assert len(alone) == 214
    assert {"B20", "F99", "P84", "R99", "Z66", "I10"} <= alone
    assert {"A00", "E11", "B10", "T07"} & billable == set()


@pytest.mark.parametrize("codes", [CODES, None])
def test_both_formats_and_their_compression_give_the_same_codes(shipped, tmp_path, codes):
    codes = codes or shipped
    plain = [Code(code, flag, text.encode("ascii", "ignore").decode()) for code, flag, text in codes]
    for content in (to_text(plain).encode(), order_file(plain), b"\xef\xbb\xbf" + order_file(plain)):
        for written in (content, lzma.compress(content, preset=0)):
            (tmp_path / "file").write_bytes(written)
            assert read_release(tmp_path / "file") == plain


def line(**changes):
    """An order file whose second line is changed."""
    return order_line(1, CODES[0]) + order_line(2, CODES[1]._replace(**changes)) + order_line(3, CODES[2])


GOOD = order_file(CODES)
FAULTS = {
    "empty": (b"", "truncated"),
    "cut within a line": (GOOD[:-20], "truncated"),
    "cut within a line end": (GOOD[:-1], "truncated"),
    "cut at a line end": (order_file(CODES[2:] + CODES[:1]), "A00 is a header without any code below it"),
    "a line is missing": (order_file(CODES).replace(b"00002", b"00003"), "line 2: has the order number 00003"),
    "another width": (
        (order_line(1, CODES[0]) + order_line(2, CODES[1], width=50)).encode(),
        "line 2: does not have the columns",
    ),
    "a short line": (order_line(1, CODES[0]).encode() + b"00002 A000    1\r\n", "line 2: does not have the columns"),
    "a blank line": (GOOD + b"\r\n", "line 4: does not have the columns"),
    "two releases": (GOOD + GOOD, "line 4: has the order number 00001"),
    "a code twice": (order_file([*CODES, CODES[1]]), "line 4: A000 is in line 2 too"),
    "another flag": (GOOD.replace(b"A000    1", b"A000    2"), "line 2: does not have the columns"),
    "no code": (line(code="A0-0").encode(), "line 2: 'A0-0' is no code"),
    "lower case": (line(code="a000").encode(), "line 2: 'a000' is no code"),
    "a code with a blank": (GOOD.replace(b"A000 ", b"A 00 "), "line 2: 'A 00' is no code"),
    "no description": (line(description=" ").encode(), "line 2: A000 has no description"),
    "a control character": (line(description="Cholera\x1b[31m").encode(), "line 2: the description of A000 has"),
    "NUL": (line(description="Cholera\0").encode(), "line 2: the description of A000 has"),
    "a zero-width character": (
        to_text([*CODES[:1], CODES[1]._replace(description="Chol\u200bera")]).encode(),
        "description of A000 has",
    ),
    "not ASCII": (line(description="Cholér\u00e0").encode(), "line 2: an order file is ASCII"),
    "not UTF-8": (line(description="Cholera").encode() + b"00004 A001    1 \xff", "line 4: the byte 0xff is not UTF-8"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "line 1: the byte 0xff is not UTF-8"),
    "a long description": (line(description="x" * 401).encode(), "more than 400 characters"),
    "a billable header": (GOOD.replace(b"A00     0", b"A00     1"), "A00 is billable, yet A00.0 is below it"),
    "no category": (order_file([CODES[2], *CODES[1:2]]), "A00.0 has no header A00"),
    "another format": (b"code,billable,description\nB20,t,HIV\n", "line 1: does not have the columns"),
    "HTML": (b"<!DOCTYPE html>\n<html>\n", "line 1: does not have the columns of an order file: '<!DOCTYPE html>'"),
    "three tabs": (to_text(CODES).replace("\tt\t", "\tt\tx\t").encode(), "line 2: does not have code, t or f"),
    "a longer line than any": (b"x" * (MAX_BYTES + 1), "more than 64 MiB"),
    "xz without an end": (lzma.compress(GOOD)[:-30], "xz compression"),
    "damaged xz": (lzma.compress(GOOD)[:30] + bytes(60), "xz compression is damaged"),
    "xz that expands": (lzma.compress(bytes(MAX_BYTES + 1), preset=0), "more than 64 MiB"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_refused_with_its_line(tmp_path, fault):
    content, message = FAULTS[fault]
    (tmp_path / "file").write_bytes(GOOD)
    assert read_release(tmp_path / "file") == CODES  # control
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidFile) as refused:
        read_release(tmp_path / "file")
    assert message in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


def test_an_endless_file_is_read_to_the_limit(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InvalidFile, match="more than 64 MiB"):
        read_release(tmp_path / "sparse")


TABULAR = """
<ICD10CM.tabular><chapter><name>1</name><desc>Chapter (B20-S99)</desc>
<section id="B20"><desc>Human immunodeficiency virus [HIV] disease (B20)</desc>
  <diag><name>B20</name><desc>Human immunodeficiency virus [HIV] disease</desc></diag></section>
<section id="S00-S99"><desc>Injuries</desc>
  <diag><name>S00</name><desc>Superficial injury</desc><sevenChrDef><extension char="A">initial encounter</extension>
    <extension char="S">sequela</extension></sevenChrDef><diag><name>S00.0</name><desc>Scalp</desc></diag></diag>
  <diag><name>S06</name><desc>Brain</desc><sevenChrDef><extension char="A">initial encounter</extension>
    <extension char="S">sequela</extension></sevenChrDef><diag><name>S06.1</name><desc>Edema</desc>
    <diag><name>S06.1X6</name><desc>coma</desc></diag><diag><name>S06.1X7</name><desc>death</desc></diag></diag></diag>
</section></chapter></ICD10CM.tabular>"""


def test_the_tabular_list_gives_each_code_with_its_seventh_characters(tmp_path):
    (tmp_path / "list.xml").write_text(TABULAR)
    found = list(tabular_codes(tmp_path / "list.xml"))
    billable = "B20 S00.0XXA S00.0XXS S06.1X6A S06.1X6S S06.1X7A"
    assert [code.code for code in found if code.billable] == billable.split()
    assert [code.code for code in found if not code.billable] == ["S00", "S00.0", "S06", "S06.1", "S06.1X6", "S06.1X7"]
    assert found[3] == Code("S00.0XXA", True, "Scalp, initial encounter")


def test_each_kind_of_difference_is_named():
    other = [CODES[0], CODES[1]._replace(billable=False), Code("B99", True, "Other")]
    assert [found.split(":")[0] for found in differences(CODES, other)] == ["A00.0", "B20", "B99"]
    assert differences(CODES, CODES) == []
    accents = [CODES[0]._replace(description="Choléra")]
    assert differences(accents, CODES[:1]) == []
    assert differences(CODES[:1], [CODES[0]._replace(description="Other")]) != []
