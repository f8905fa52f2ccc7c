"""CSV responses, and whether a client prefers them."""

import asyncio
import csv
import io
import re
import unicodedata
from collections.abc import AsyncIterator

import msgspec

from app.http import ndjson

MEDIA_TYPE = "text/csv"
ROWS_PER_YIELD = 10
"""Rows that are written as CSV before other requests have a turn: half a millisecond. A request needs several turns."""
FORMULA = ("=", "+", "-", "@")
"""The beginnings of a formula to a spreadsheet, in full width and other compatible forms too."""
BREAKS = ("\t", "\r", "\n")
"""Neutralised even where text follows, as OWASP has it."""
MAX_ACCEPT_TYPES = 100
"""Of Accept; what comes after so many is not looked at."""
INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters that show nothing although Unicode calls them letters or symbols."""

_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
"""RFC 9110, 12.4.2."""


async def rows(pages: AsyncIterator[list[bytes]], columns: list[str]) -> AsyncIterator[bytes]:
    """A header of wire names and a row an object (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
    async for page in pages:
        for at in range(0, len(page), ROWS_PER_YIELD):
            for item in page[at : at + ROWS_PER_YIELD]:
                row = decoder.decode(item)
                writer.writerow([_cell(bytes(row[name])) for name in columns])
            await asyncio.sleep(0)
        yield out.getvalue().encode()
        out.seek(0)
        out.truncate()


def _cell(raw: bytes) -> str:
    """A JSON value as a cell; text that a spreadsheet would take for a formula gets an apostrophe in front."""
    if not raw.startswith(b'"'):
        return "" if raw == b"null" else raw.decode()
    text = msgspec.json.decode(raw, type=str)
    return "'" + text if text.startswith(BREAKS) or _is_formula(text) else text


def _is_formula(text: str) -> bool:
    """Whether the first character that shows is one that begins a formula: a spreadsheet may drop what stands before it."""
    first = next((one for one in text if not _is_invisible(one)), "")
    return unicodedata.normalize("NFKC", first).startswith(FORMULA) or first == "\u2212"


def _is_invisible(character: str) -> bool:
    """Separators, what is no character of its own (control, zero width, byte order mark), marks, and others without a glyph."""
    return unicodedata.category(character)[0] in "ZCM" or character in INVISIBLE


def is_preferred(accept: str) -> bool:
    """Whether text/csv has a higher weight in Accept than every media type of NDJSON.

    Litestar's best_match returns a type with the weight 0, and the first one named where weights are equal.
    """
    weights: dict[str, float] = {}
    for part in accept.lower().split(",", MAX_ACCEPT_TYPES)[:MAX_ACCEPT_TYPES]:
        media_type = part.partition(";")[0].strip()
        if media_type == MEDIA_TYPE or media_type in ndjson.MEDIA_TYPES:
            weights.setdefault(media_type, _weight(part))
    return weights.get(MEDIA_TYPE, 0.0) > max((weights.get(one, 0.0) for one in ndjson.MEDIA_TYPES), default=0.0)


def _weight(part: str) -> float:
    """The weight of an element of Accept; 0, which is not acceptable, where it is malformed."""
    parameters = (one.strip() for one in part.split(";")[1:])
    weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    return float(weight) if _WEIGHT.fullmatch(weight) else 0.0
