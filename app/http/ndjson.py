"""NDJSON: bodies too large for memory are received to disk, and responses are streamed."""

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

MEDIA_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-seq")
MAX_LINES, MAX_IMPORT_BYTES, MAX_LINE_BYTES = 100_000, 128 * 2**20, 16 * 2**10
BATCH_SIZE, PAGE_SIZE = 100, 250
"""Lines of an import that are one transaction, and rows of an export that are fetched at a time."""
RECEIVE_TIMEOUT_S = 900.0
"""Seconds for the whole of a body."""
Batch = list[tuple[int, bytes]]


class Lines:
    """A received body, line by line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def batches(self) -> Iterator[Batch]:
        """(number, line) from 1 on, BATCH_SIZE at a time."""
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
    """The next line; of one that is too long no more than shows that it is."""
    line = rest = file.readline(MAX_LINE_BYTES + 1)
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(MAX_LINE_BYTES + 1)
    return line


async def receive(body: AsyncIterator[bytes], spool: Spool) -> Lines:
    """The whole body, before anything of it is done: a client that sends first and reads later must not block us.

    PayloadTooLarge past MAX_LINES, Invalid for an empty body, RequestTimeout past RECEIVE_TIMEOUT_S, and what Spool.write raises.
    """
    lines = 0
    try:
        async with asyncio.timeout(RECEIVE_TIMEOUT_S):
            async for part in body:
                lines += part.count(b"\n")
                if lines > MAX_LINES:
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
            if len(line) > MAX_LINE_BYTES:
                raise PayloadTooLarge
            fitting.append({"line": number, **columns(msgspec.json.decode(line, type=shape))})
        except ApiError as error:
            failed[number] = failed_line(number, error)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            failed[number] = failed_line(number, Invalid({"fields": _line_errors(shape, line)}))
    return fitting, failed


def _line_errors(shape: type[RequestBody], line: bytes) -> dict[str, list[str]]:
    try:
        return field_errors(shape, msgspec.json.decode(line))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {"body": ["Is not well-formed JSON"]}


def failed_line(number: int, error: ApiError) -> bytes:
    """The result of a line that failed."""
    about = {"code": error.code, "message": str(error), "fields": (error.details or {}).get("fields", {})}
    return msgspec.json.encode({"line": number, "result": "failed", "id": None, "error": about})


async def stream(parts: AsyncIterator[bytes], media_type: str) -> Stream:
    """A streamed answer; its first part is made before the status goes out, so that an error still is one."""
    first = await anext(parts, b"")

    async def all_parts() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    return Stream(all_parts(), media_type=media_type)


async def rows(pages: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    """An object a line."""
    async for page in pages:
        yield b"".join(item + b"\n" for item in page)
