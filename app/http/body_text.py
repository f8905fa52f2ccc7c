"""The encoding of request bodies: UTF-8, with at most one byte order mark, which is dropped."""

from collections.abc import AsyncIterator

from app.errors import Invalid

MARK = b"\xef\xbb\xbf"
"""The byte order mark in UTF-8. Spreadsheets and editors on Windows write it."""
_OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff")


def without_mark(body: bytes) -> bytes:
    """The body, or its beginning, without a byte order mark. Raises Invalid if it begins as UTF-16 or UTF-32 does."""
    if body.startswith(_OTHER_MARKS) or b"\0" in body[:2]:
        raise Invalid.fields(body="Must be UTF-8")
    return body.removeprefix(MARK)


async def parts_without_mark(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The parts of a body, the first of them as by without_mark. They may be of any length."""
    beginning: bytes | None = b""
    async for part in body:
        if beginning is None:
            yield part
        elif len(beginning := beginning + part) > len(MARK):
            yield without_mark(beginning)
            beginning = None
    if beginning:
        yield without_mark(beginning)
