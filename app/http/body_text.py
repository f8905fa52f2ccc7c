"""The encoding of request bodies: UTF-8, with at most one byte order mark, which is dropped."""

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import AsyncIterator

from app.errors import Invalid


def without_mark(body: bytes) -> bytes:
    """The body, or its beginning, without a byte order mark. Raises Invalid if it begins as UTF-16 or UTF-32 does."""
    if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in body[:2]:
        raise Invalid.fields(body="Must be UTF-8")
    return body.removeprefix(BOM_UTF8)


async def parts_without_mark(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The parts of a body, the first of them as by without_mark. They may be of any length."""
    beginning: bytes | None = b""
    async for part in body:
        if beginning is None:
            yield part
        elif len(beginning := beginning + part) > len(BOM_UTF8):
            yield without_mark(beginning)
            beginning = None
    if beginning:
        yield without_mark(beginning)
