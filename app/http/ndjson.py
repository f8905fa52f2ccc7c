"""Bodies too large to hold: received to disk, answered in parts. Memory stays flat however long they are."""

import asyncio
import csv as csv_module
import io
import re
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator
from typing import IO, Any, TypeVar

import msgspec
from litestar.response import Stream

from app.errors import ApiError, Invalid, PayloadTooLarge, RequestTimeout
from app.http.schemas import Body, problems
from app.http.spool import Spool

B = TypeVar("B", bound=Body)

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-seq")
MOST_LINES, MOST_BYTES, LONGEST_LINE = 100_000, 128 * 2**20, 16 * 2**10
BATCH, PAGE = 100, 250
"""Lines of an import that are one transaction, and rows of an export that are fetched at a time."""
AT_A_TIME = 10
"""Rows that are written as CSV before other requests have a turn: half a millisecond. A request needs several turns."""
RECEIVED_WITHIN = 900.0
"""Seconds for the whole of a body."""
FORMULA = ("=", "+", "-", "@")
"""The beginnings of a formula to a spreadsheet, in full width and other compatible forms too."""
BREAKS = ("\t", "\r", "\n")
"""Neutralised even where text follows, as OWASP has it."""
MOST_KINDS = 100
"""Of Accept; what comes after so many is not looked at."""
UNSEEN = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters that show nothing although Unicode calls them letters or symbols."""

_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
"""RFC 9110, 12.4.2."""

Batch = list[tuple[int, bytes]]


class Lines:
    """A received body, line by line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def batches(self) -> Iterator[Batch]:
        """(number, line) from 1 on, BATCH at a time."""
        batch: Batch = []
        number = 0
        while line := _read_line(self._file):
            number += 1
            batch.append((number, line))
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


def _read_line(file: IO[bytes]) -> bytes:
    """The next line; of one that is too long no more than shows that it is."""
    line = rest = file.readline(LONGEST_LINE + 1)
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(LONGEST_LINE + 1)
    return line


async def receive(body: AsyncIterator[bytes], spool: Spool) -> Lines:
    """The whole body, before anything of it is done: a client that sends first and reads later must not block us.

    PayloadTooLarge past MOST_LINES, Invalid where there is nothing, RequestTimeout past RECEIVED_WITHIN, and what Spool.write raises.
    """
    lines = 0
    try:
        async with asyncio.timeout(RECEIVED_WITHIN):
            async for part in body:
                lines += part.count(b"\n")
                if lines > MOST_LINES:
                    raise PayloadTooLarge
                spool.write(part)
    except TimeoutError:
        raise RequestTimeout(headers={"Connection": "close"}) from None
    if not spool.file.tell():
        raise Invalid.fields(body="Must hold a line at least")
    spool.file.seek(0)
    return Lines(spool.file)


def decode(
    batch: Batch, shape: type[B], columns: Callable[[B], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[int, bytes]]:
    """The lines that fit, as columns with their number; and the results of those that don't, by number."""
    fitting: list[dict[str, Any]] = []
    failed: dict[int, bytes] = {}
    for number, line in batch:
        try:
            if len(line) > LONGEST_LINE:
                raise PayloadTooLarge
            fitting.append({"line": number, **columns(msgspec.json.decode(line, type=shape))})
        except ApiError as error:
            failed[number] = failure(number, error)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            failed[number] = failure(number, Invalid({"fields": _problems(shape, line)}))
    return fitting, failed


def _problems(shape: type[Body], line: bytes) -> dict[str, list[str]]:
    try:
        return problems(shape, msgspec.json.decode(line))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {"body": ["Is not well-formed JSON"]}


def failure(number: int, error: ApiError) -> bytes:
    """The result of a line that failed."""
    about = {"code": error.code, "message": str(error), "fields": (error.details or {}).get("fields", {})}
    return msgspec.json.encode({"line": number, "result": "failed", "id": None, "error": about})


async def answer(parts: AsyncIterator[bytes], media_type: str) -> Stream:
    """A streamed answer; its first part is made before the status goes out, so that an error still is one."""
    first = await anext(parts, b"")

    async def all_parts() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    return Stream(all_parts(), media_type=media_type)


async def ndjson(pages: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    """An object a line."""
    async for page in pages:
        yield b"".join(item + b"\n" for item in page)


async def csv(pages: AsyncIterator[list[bytes]], columns: list[str]) -> AsyncIterator[bytes]:
    """A header of wire names and a row an object (RFC 4180)."""
    out = io.StringIO()
    writer = csv_module.writer(out)
    writer.writerow(columns)
    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
    async for page in pages:
        for at in range(0, len(page), AT_A_TIME):
            for item in page[at : at + AT_A_TIME]:
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
    first = next((one for one in text if not _is_unseen(one)), "")
    return unicodedata.normalize("NFKC", first).startswith(FORMULA) or first == "\u2212"


def _is_unseen(character: str) -> bool:
    """Separators, what is no character of its own (control, zero width, byte order mark), marks, and others without a glyph."""
    return unicodedata.category(character)[0] in "ZCM" or character in UNSEEN


def prefers_csv(accept: str) -> bool:
    """Whether text/csv stands before every kind of NDJSON in Accept, by weight and then by place."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(",", MOST_KINDS)[:MOST_KINDS]:
        kind = part.partition(";")[0].strip()
        if kind == "text/csv" or kind in NDJSON:
            weights.setdefault(kind, _weight(part))
    return weights.get("text/csv", 0.0) > max((weights.get(kind, 0.0) for kind in NDJSON), default=0.0)


def _weight(part: str) -> float:
    """The weight of an element of Accept; 0, which is not acceptable, where it is malformed."""
    parameters = (one.strip() for one in part.split(";")[1:])
    weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    return float(weight) if _WEIGHT.fullmatch(weight) else 0.0
