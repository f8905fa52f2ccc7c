"""NDJSON: request bodies that are too large for memory are written to disk, and responses are streamed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import IO, Any, TypeVar

import msgspec
from litestar.response import Stream

from app.errors import ApiError, Invalid, PayloadTooLarge, RequestTimeout
from app.http.schemas import RequestBody
from app.http.spool import Spool
from app.http.validation import field_errors

B = TypeVar("B", bound=RequestBody)

MEDIA_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
MAX_LINES, MAX_IMPORT_BYTES, MAX_LINE_BYTES = 100_000, 128 * 2**20, 16 * 2**10
BATCH_SIZE, PAGE_SIZE = 100, 250
"""Lines of an import in one transaction, and rows of an export in one query."""
RECEIVE_TIMEOUT_S = 900.0
"""Time limit for receiving a whole body."""
Batch = list[tuple[int, bytes]]


class Lines:
    """The lines of a received body."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def batches(self) -> Iterator[Batch]:
        """Yields lists of up to BATCH_SIZE pairs (number, line). Numbers start at 1."""
        batch: Batch = []
        number = 0
        while line := _read_line(self._file):
            number += 1
            batch.append((number, line))
            if len(batch) == BATCH_SIZE:
                yield batch
                batch = []
        if batch:
            yield batch


def _read_line(file: IO[bytes]) -> bytes:
    """The next line. A line that is too long is cut after MAX_LINE_BYTES + 1 bytes, so that its length is still detected."""
    line = rest = file.readline(MAX_LINE_BYTES + 1)
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(MAX_LINE_BYTES + 1)
    return line


async def receive(body: AsyncIterator[bytes], spool: Spool) -> Lines:
    """Receives the whole body before any line is processed, so that a client may send everything before it reads.

    Raises PayloadTooLarge beyond MAX_LINES, Invalid for an empty body, RequestTimeout after RECEIVE_TIMEOUT_S, and the errors of
    Spool.write.
    """
    line_count = 0
    try:
        async with asyncio.timeout(RECEIVE_TIMEOUT_S):
            async for part in body:
                line_count += part.count(b"\n")
                if line_count > MAX_LINES:
                    raise PayloadTooLarge
                spool.write(part)
    except TimeoutError:
        raise RequestTimeout(headers={"Connection": "close"}) from None
    if not spool.file.tell():
        raise Invalid.fields(body="Must contain at least one line")
    spool.file.seek(0)
    return Lines(spool.file)


def decode(
    batch: Batch, shape: type[B], columns: Callable[[B], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[int, bytes]]:
    """The valid lines, as columns with their number, and the results of the invalid ones by number."""
    valid: list[dict[str, Any]] = []
    failed: dict[int, bytes] = {}
    for number, line in batch:
        try:
            if len(line) > MAX_LINE_BYTES:
                raise PayloadTooLarge
            valid.append({"line": number, **columns(msgspec.json.decode(line, type=shape))})
        except ApiError as error:
            failed[number] = failed_line(number, error)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            failed[number] = failed_line(number, Invalid({"fields": _line_errors(shape, line)}))
    return valid, failed


def _line_errors(shape: type[RequestBody], line: bytes) -> dict[str, list[str]]:
    try:
        return field_errors(shape, msgspec.json.decode(line))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {"body": ["Is not well-formed JSON"]}


def failed_line(number: int, error: ApiError) -> bytes:
    """The result of a line that failed."""
    details = {"code": error.code, "message": str(error), "fields": (error.details or {}).get("fields", {})}
    return msgspec.json.encode({"line": number, "result": "failed", "id": None, "error": details})


async def stream(parts: AsyncIterator[bytes], media_type: str) -> Stream:
    """A streamed response. Its first part is built before the status is sent, so that an error there gets an error status."""
    first = await anext(parts, b"")

    async def all_parts() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    return Stream(all_parts(), media_type=media_type)


async def rows(pages: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    """One line for each object."""
    async for page in pages:
        yield b"".join(item + b"\n" for item in page)
