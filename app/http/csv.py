"""CSV responses, and their negotiation by Accept."""

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
"""Rows written as CSV, which takes 0.5 ms, before the event loop may run other requests. A request needs several such iterations."""
FORMULA = ("=", "+", "-", "@")
"""Characters with which a spreadsheet formula begins, also in full width and other compatible forms."""
BREAKS = ("\t", "\r", "\n")
"""First characters that are escaped even if text follows, as OWASP recommends."""
MAX_ACCEPT_TYPES = 100
"""Media types of Accept that are read. The rest is ignored."""
INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters without a glyph that Unicode classifies as letters or symbols."""

_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
"""A qvalue of RFC 9110, 12.4.2."""


async def rows(pages: AsyncIterator[list[bytes]], columns: list[str]) -> AsyncIterator[bytes]:
    """A header line with the field names, and one line for each object (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
    async for page in pages:
        for start in range(0, len(page), ROWS_PER_YIELD):
            for item in page[start : start + ROWS_PER_YIELD]:
                row = decoder.decode(item)
                writer.writerow([_cell(bytes(row[name])) for name in columns])
            await asyncio.sleep(0)
        yield out.getvalue().encode()
        out.seek(0)
        out.truncate()


def _cell(raw: bytes) -> str:
    """A JSON value as a cell. Text that a spreadsheet would evaluate as a formula gets an apostrophe in front."""
    if not raw.startswith(b'"'):
        return "" if raw == b"null" else raw.decode()
    text = msgspec.json.decode(raw, type=str)
    return "'" + text if text.startswith(BREAKS) or _is_formula(text) else text


def _is_formula(text: str) -> bool:
    """Whether the first visible character begins a formula. A spreadsheet may drop invisible characters before it."""
    first = next((character for character in text if not _is_invisible(character)), "")
    return unicodedata.normalize("NFKC", first).startswith(FORMULA) or first == "\u2212"


def _is_invisible(character: str) -> bool:
    """Whether it is a separator, a control or format character (zero width, byte order mark), a mark, or has no glyph."""
    return unicodedata.category(character)[0] in "ZCM" or character in INVISIBLE


def is_preferred(accept: str) -> bool:
    """Whether text/csv has a higher weight in Accept than every media type of NDJSON.

    Litestar's best_match is not used: it also returns a type of weight 0, and the first type named if weights are equal.
    """
    weights: dict[str, float] = {}
    for part in accept.lower().split(",", MAX_ACCEPT_TYPES)[:MAX_ACCEPT_TYPES]:
        media_type = part.partition(";")[0].strip()
        if media_type == MEDIA_TYPE or media_type in ndjson.MEDIA_TYPES:
            weights.setdefault(media_type, _weight(part))
    return weights.get(MEDIA_TYPE, 0.0) > max((weights.get(other, 0.0) for other in ndjson.MEDIA_TYPES), default=0.0)


def _weight(part: str) -> float:
    """The weight of an element of Accept; 0 ("not acceptable") if it is malformed."""
    parameters = (parameter.strip() for parameter in part.split(";")[1:])
    weight = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
    return float(weight) if _WEIGHT.fullmatch(weight) else 0.0
