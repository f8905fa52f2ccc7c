"""`python -m app.dev.icd10cm`: builds the diagnosis codes of sql/data, and compares them with a second source. For development only.

- `build TABULAR`: from the tabular list of NCHS (icd10c-tabular-April-1-2026.xml).
- `compare ORDER`: with the order file of CMS. Prints each difference, and exits with 1 if there is one.
- `digests ORDER`: prints counts and digests of the order file, for tests/operations/data.
"""

import csv
import hashlib
import lzma
import sys
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from app.operations.code_files import Code, dotted, parse_release, read_release, to_text
from app.operations.reference_data import SHIPPED_CODES

CHAPTERS = [
    "A00-B99", "C00-D49", "D50-D89", "E00-E89", "F01-F99", "G00-G99", "H00-H59", "H60-H95", "I00-I99",
    "J00-J99", "K00-K95", "L00-L99", "M00-M99", "N00-N99", "O00-O9A", "P00-P96", "Q00-QA0", "R00-R99",
    "S00-T88", "U00-U85", "V00-Y99", "Z00-Z99",
]  # fmt: skip
"""The first and last category of each chapter, as the titles of the chapters give them."""
SeventhCharacters = dict[str, str]


class Summary(NamedTuple):
    """Counts of one part of a release, and the digest of its codes, flags and descriptions without accents."""

    part: str
    headers: int
    billable: int
    sha256: str


def tabular_codes(path: Path) -> Iterator[Code]:
    """All codes of the tabular list.

    A code without codes below it is billable. Where seventh characters are defined, it is a header of one billable code for each. A
    block has the same name as its only category (B20, R99, Z66); only `diag` elements are codes, so none is confused with a block.
    """
    for section in ET.parse(path).getroot().iterfind("chapter/section"):  # noqa: S314  (a file of NCHS, chosen by the developer)
        for element in section.iterfind("diag"):
            yield from _below(element, {})


def _below(element: ET.Element, inherited: SeventhCharacters) -> Iterator[Code]:
    """The code of a `diag` element, and those below it. inherited: the seventh characters that an element above defines."""
    code, description = _text(element, "name"), _text(element, "desc")
    defined = {
        extension.get("char", ""): (extension.text or "").strip()
        for extension in element.iterfind("sevenChrDef/extension")
    }
    seventh, below = defined or inherited, element.findall("diag")
    yield Code(code, not below and not seventh, description)
    for child in below:
        yield from _below(child, seventh)
    if not below:
        plain = code.replace(".", "").ljust(6, "X")
        for character, meaning in seventh.items():
            if _applies(plain, character):
                yield Code(dotted(plain + character), True, f"{description}, {meaning}")


def _applies(plain: str, character: str) -> bool:
    """Whether the code has this seventh character.

    A note of category S06 excludes D and S where the sixth character is 7 or 8: the patient died before regaining consciousness.
    """
    return not (plain.startswith("S06") and plain[5] in "78" and character in "DS")


def _text(element: ET.Element, tag: str) -> str:
    """The text of a child element, with single spaces."""
    return " ".join((element.findtext(tag) or "").split())


def without_accents(text: str) -> str:
    """The order file is ASCII; the tabular list has accents."""
    return "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))


def summaries(codes: Iterable[Code]) -> Iterator[Summary]:
    """A summary of each letter, of each chapter and of all codes. The codes of a part are sorted."""
    lines = sorted(code._replace(description=without_accents(code.description)) for code in codes)
    for letter in sorted({code.code[0] for code in lines}):
        yield _summary(letter, lines, lambda code, letter=letter: code[0] == letter)  # type: ignore[misc]
    for chapter in CHAPTERS:
        yield _summary(chapter, lines, lambda code, chapter=chapter: chapter[:3] <= code[:3] <= chapter[4:])  # type: ignore[misc]
    yield _summary("all", lines, lambda _code: True)


def _summary(part: str, codes: list[Code], belongs: Callable[[str], bool]) -> Summary:
    own = [code for code in codes if belongs(code.code)]
    billable = sum(code.billable for code in own)
    return Summary(part, len(own) - billable, billable, hashlib.sha256(to_text(own).encode()).hexdigest())


def differences(ours: list[Code], others: list[Code]) -> list[str]:
    """One line for each code that is only in one of both, or has another flag or, accents aside, another description."""
    left, right = (
        {code.code: code._replace(description=without_accents(code.description)) for code in codes}
        for codes in (ours, others)
    )
    lines = [f"{code}: only here" for code in left.keys() - right.keys()]
    lines += [f"{code}: only there" for code in right.keys() - left.keys()]
    lines += [
        f"{code}: {left[code]} here, {right[code]} there"
        for code in left.keys() & right.keys()
        if left[code] != right[code]
    ]
    return sorted(lines)


def build(path: Path) -> int:
    """Writes the file of sql/data."""
    codes = sorted(tabular_codes(path))
    text = to_text(codes).encode()
    parse_release(text)
    SHIPPED_CODES.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    print(f"{SHIPPED_CODES.name}: {len(codes):,} codes, {sum(code.billable for code in codes):,} of them billable")
    return 0


def compare(path: Path) -> int:
    """Prints the differences between the file of sql/data and the order file."""
    ours, others = read_release(SHIPPED_CODES), read_release(path)
    lines = differences(ours, others)
    print(*lines, f"{len(ours):,} codes here, {len(others):,} there, {len(lines)} differences", sep="\n")
    return 1 if lines else 0


def digests(path: Path) -> int:
    """Prints counts and digests of the order file."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(Summary._fields)
    writer.writerows(summaries(read_release(path)))
    return 0


if __name__ == "__main__":
    sys.exit({"build": build, "compare": compare, "digests": digests}[sys.argv[1]](Path(sys.argv[2])))
