"""Reads a file with one release of ICD-10-CM, and refuses it as a whole unless it is complete and consistent.

Two formats: the order file that CMS publishes (icd10cm_order_2025.txt, fixed width), and the tab-separated text of sql/data. Either may
be compressed with xz.
"""

import lzma
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 64 << 20
"""More than four times an order file. Nothing beyond it is read or decompressed."""
XZ_MAGIC = b"\xfd7zXZ\0"
CODE = re.compile(r"[A-Z][0-9A-Z]{2,6}")
ORDER_LINE = re.compile(r"(?P<number>[0-9]{5}) (?P<code>.{7}) (?P<billable>[01]) .{60} (?P<description>.+)")
"""Columns 1-5, 7-13, 15, 17-76 (the short description) and from 78 on."""
TAB_LINE = re.compile(r"(?P<code>[^\t]+)\t(?P<billable>[tf])\t(?P<description>[^\t]+)")
MAX_DESCRIPTION = 400
SHOWN = 40
"""Characters of a faulty line that a message repeats."""


class InvalidFile(Exception):
    """The file is no complete release. The message has one line, for the operator."""


class Code(NamedTuple):
    """A code of a release. Its code has a dot after the third character."""

    code: str
    billable: bool
    description: str


def read_release(path: Path) -> list[Code]:
    """The codes of the file, in its order. Raises InvalidFile, and OSError if the file can't be read."""
    return parse_release(_content(path))


def parse_release(content: bytes) -> list[Code]:
    """The codes of the content of a file, in its order. Raises InvalidFile."""
    text = _text(content.removeprefix(BOM_UTF8))
    if not text.endswith("\n"):
        raise InvalidFile("the last line does not end with a line break: the file is empty or truncated")
    codes = list(_codes(text.removesuffix("\n").split("\n"), is_order="\t" not in text))
    _check_hierarchy(codes)
    return codes


def to_text(codes: list[Code]) -> str:
    """The codes as lines of sql/data: code, t or f, description."""
    return "".join(f"{code}\t{'t' if billable else 'f'}\t{description}\n" for code, billable, description in codes)


def _content(path: Path) -> bytes:
    """The content of the file, decompressed. Reads and decompresses MAX_BYTES at most."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if content.startswith(XZ_MAGIC):
        try:
            decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=256 << 20)
            content = decompressor.decompress(content, MAX_BYTES + 1)
        except lzma.LZMAError as error:
            raise InvalidFile(f"the xz compression is damaged: {error}") from None
        if len(content) <= MAX_BYTES and not decompressor.eof:
            raise InvalidFile("the xz compression has no end: the file is truncated")
    if len(content) > MAX_BYTES:
        raise InvalidFile(f"the file has more than {MAX_BYTES >> 20} MiB: no release has")
    return content


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidFile(f"line {line}: the byte 0x{content[error.start]:02x} is not UTF-8") from None


def _codes(lines: list[str], *, is_order: bool) -> Iterator[Code]:
    """The codes of the lines. is_order: whether the file is an order file."""
    seen: dict[str, int] = {}
    for number, raw in enumerate(lines, 1):
        line = raw.removesuffix("\r")
        match = (ORDER_LINE if is_order else TAB_LINE).fullmatch(line)
        if not match:
            what = "the columns of an order file" if is_order else "code, t or f, and description, separated by tabs"
            raise InvalidFile(f"line {number}: does not have {what}: {_shown(line)}")
        code, description = match["code"].rstrip(" "), match["description"]
        if is_order:
            if int(match["number"]) != number:
                raise InvalidFile(
                    f"line {number}: has the order number {match['number']}: a line is missing or doubled"
                )
            if not line.isascii():
                raise InvalidFile(f"line {number}: an order file is ASCII: {_shown(line)}")
            description = description.rstrip(" ")
        else:
            code = code.replace(".", "", 1) if code[3:4] == "." else code
        if not CODE.fullmatch(code):
            raise InvalidFile(f"line {number}: {_shown(code)} is no code of ICD-10-CM")
        if not description.isprintable() or description != description.strip() or len(description) > MAX_DESCRIPTION:
            raise InvalidFile(
                f"line {number}: the description of {code} has outer blanks, control characters, "
                f"or more than {MAX_DESCRIPTION} characters"
            )
        if not description:
            raise InvalidFile(f"line {number}: {code} has no description")
        if code in seen:
            raise InvalidFile(f"line {number}: {code} is in line {seen[code]} too")
        seen[code] = number
        yield Code(dotted(code), match["billable"] in "1t", description)


def dotted(code: str) -> str:
    """The code with a dot after its third character."""
    return code if len(code) == 3 else f"{code[:3]}.{code[3:]}"


def _shown(text: str) -> str:
    """The beginning of the text in ASCII without control characters."""
    return ascii(text[:SHOWN]) + ("..." if len(text) > SHOWN else "")


def _check_hierarchy(codes: list[Code]) -> None:
    """Refuses a release in which a billable code has codes below it, a header has none, or a code has no header."""
    billable = {code.code.replace(".", ""): code.billable for code in codes}
    childless = {code for code, is_billable in billable.items() if not is_billable}
    for code in billable:
        above = [code[:length] for length in range(3, len(code)) if code[:length] in billable]
        if leaf := next((header for header in above if billable[header]), None):
            raise InvalidFile(f"{dotted(leaf)} is billable, yet {dotted(code)} is below it")
        if len(code) > 3 and code[:3] not in above:
            raise InvalidFile(f"{dotted(code)} has no header {code[:3]}: a line is missing")
        childless.difference_update(above)
    if childless:
        raise InvalidFile(f"{dotted(min(childless))} is a header without any code below it: the file is truncated")
