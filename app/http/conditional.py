"""If-None-Match: 304 instead of a response whose ETag the client has already (RFC 9110, 13.1.2 and 15.4.5)."""

import re

from litestar.types import HTTPResponseStartEvent

_TAG = re.compile(rb'"([^"]*)"')
"""The opaque part of an entity tag. The comparison is weak, so W/ before it does not matter."""
OF_BODY = frozenset(
    (
        b"content-type",
        b"content-length",
        b"content-disposition",
        b"content-encoding",
        b"content-language",
        b"last-modified",
    )
)
"""Headers that describe a body. A 304 has none."""


def is_not_modified(if_none_match: bytes, response: HTTPResponseStartEvent) -> bool:
    """Whether the response has an ETag that the header names. `*` names every ETag; a malformed header names none."""
    if response["status"] != 200:
        return False
    tag = next((value for name, value in response["headers"] if name.lower() == b"etag"), None)
    if tag is None:
        return False
    return if_none_match.strip() == b"*" or _opaque(tag) in _TAG.findall(if_none_match)


def _opaque(tag: bytes) -> bytes:
    return tag.removeprefix(b"W/").strip(b'"')


def make_not_modified(response: HTTPResponseStartEvent) -> None:
    """Changes the response to 304. Its body must not be sent."""
    response["status"] = 304
    response["headers"] = [pair for pair in response["headers"] if pair[0].lower() not in OF_BODY]
