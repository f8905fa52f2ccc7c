"""NDJSON: request bodies that are too large for memory are written to disk, and responses are streamed."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import IO, Any, TypeVar

import msgspec
from litestar.response import Stream

from app.errors import ApiError, Invalid, LineTooLong, RequestTimeout, TooManyLines
from app.http.body_text import parts_without_mark
from app.http.schemas import RequestBody
from app.http.spool import Spool
from app.http.validation import decode_json

B = TypeVar("B", bound=RequestBody)

MEDIA_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
MAX_LINES, MAX_IMPORT_BYTES, MAX_LINE_BYTES = 100_000, 128 * 2**20, 16 * 2**10
"""Limits of an import. A blank line is skipped and is no line of MAX_LINES."""
MAX_LINE_BREAKS, MAX_BLANK_LINES_PER_BATCH = 1_000_000, 5_000
"""Line breaks of an import, those of blank lines included, and blank lines that are read before other requests may run (2 ms)."""
BLANKS = b" \t\r\n"
"""The white space of JSON. A line of nothing else is blank."""
_CONTENT = re.compile(rb"[^ \t\r\n][^\n]*")
BATCH_SIZE, PAGE_SIZE = 100, 250
"""Lines of an import in one transaction, and rows of an export in one query."""
RECEIVE_TIMEOUT_S = 900.0
"""Time limit for receiving a whole body."""
Batch = list[tuple[int, bytes]]


class Lines:
    """The lines of a received body, and the hash of the body."""

    def __init__(self, file: IO[bytes], body_hash: bytes) -> None:
        self._file = file
        self.body_hash = body_hash

    def batches(self) -> Iterator[Batch]:
        """Yields lists of up to BATCH_SIZE pairs (number, line). Numbers start at 1 and count blank lines, which are skipped.

        After many blank lines, it yields the lines so far, or an empty list. The caller then lets other requests run.
        """
        batch: Batch = []
        number = blank = 0
        while line := _read_line(self._file):
            number += 1
            if len(line) > MAX_LINE_BYTES or line.strip(BLANKS):  # a long line may be cut before its content
                batch.append((number, line))
            else:
                blank += 1
            if len(batch) == BATCH_SIZE or blank == MAX_BLANK_LINES_PER_BATCH:
                yield batch
                batch, blank = [], 0
        if batch:
            yield batch


class LineCounter:
    """Counts the lines with content, and all line breaks, of a body that arrives in parts."""

    def __init__(self) -> None:
        self.lines = self.line_breaks = 0
        self._has_content = False
        """Whether the unfinished last line has content, so that it is counted already."""

    def add(self, part: bytes) -> None:
        """Counts the lines that begin in the part. Raises TooManyLines beyond the limits."""
        first, line_break, _ = part.partition(b"\n")
        self.lines += len(_CONTENT.findall(part)) - (self._has_content and bool(first.strip(BLANKS)))
        self.line_breaks += part.count(b"\n")
        self._has_content = bool(part[part.rfind(b"\n") + 1 :].strip(BLANKS)) or (self._has_content and not line_break)
        if self.lines > MAX_LINES:
            raise TooManyLines.fields(body=f"Must have at most {MAX_LINES} lines")
        if self.line_breaks > MAX_LINE_BREAKS:
            raise TooManyLines.fields(body=f"Must have at most {MAX_LINE_BREAKS} lines, blank ones included")


def _read_line(file: IO[bytes]) -> bytes:
    """The next line. A line that is too long is cut after MAX_LINE_BYTES + 1 bytes, so that its length is still detected."""
    line = rest = file.readline(MAX_LINE_BYTES + 1)
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(MAX_LINE_BYTES + 1)
    return line


async def receive(body: AsyncIterator[bytes], spool: Spool) -> Lines:
    """Receives the whole body before any line is processed, so that a client may send everything before it reads.

    A byte order mark at its beginning is dropped. Raises TooManyLines, Invalid for a body without lines or in another encoding than
    UTF-8, RequestTimeout after RECEIVE_TIMEOUT_S, and the errors of Spool.write.
    """
    counter = LineCounter()
    body_hash = hashlib.sha256()
    try:
        async with asyncio.timeout(RECEIVE_TIMEOUT_S):
            async for part in parts_without_mark(body):
                counter.add(part)
                spool.write(part)
                body_hash.update(part)
    except TimeoutError:
        raise RequestTimeout(headers={"Connection": "close"}) from None
    if not counter.lines:
        raise Invalid.fields(body="Must contain at least one line")
    spool.file.seek(0)
    return Lines(spool.file, body_hash.digest())


def decode(
    batch: Batch, shape: type[B], columns: Callable[[B], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[int, bytes]]:
    """The valid lines, as columns with their number, and the results of the invalid ones by number."""
    valid: list[dict[str, Any]] = []
    failed: dict[int, bytes] = {}
    for number, line in batch:
        try:
            if len(line) > MAX_LINE_BYTES:
                raise LineTooLong.fields(body=f"Must have at most {MAX_LINE_BYTES} bytes")
            valid.append({"line": number, **columns(decode_json(shape, line))})
        except ApiError as error:
            failed[number] = failed_line(number, error)
    return valid, failed


def failed_line(number: int, error: ApiError) -> bytes:
    """The result of a line that failed."""
    described: dict[str, Any] = {"code": error.code, "message": str(error), "fields": {}}
    if error.details:
        described |= {"details": error.details, "fields": error.details.get("fields", {})}
    return msgspec.json.encode({"line": number, "result": "failed", "id": None, "error": described})


async def stream(
    parts: AsyncIterator[bytes], media_type: str, *, headers: dict[str, str] | None = None, is_head: bool = False
) -> Stream:
    """A streamed response. Its first part is built before the status is sent, so that an error there gets an error status.

    is_head: ends after the first part, because a response to HEAD has no body.
    """
    first = await anext(parts, b"")

    async def all_parts() -> AsyncIterator[bytes]:
        yield first
        if not is_head:
            async for part in parts:
                yield part

    return Stream(all_parts(), media_type=media_type, headers=headers)


async def rows(pages: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    """One line for each object."""
    async for page in pages:
        yield b"".join(item + b"\n" for item in page)
