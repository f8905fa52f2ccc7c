"""Pages of lists: by cursor, which costs the same at any depth, or by offset with a total."""

import base64
import hmac
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

from msgspec import Meta

from app.errors import Invalid
from app.http.envelope import envelope
from app.http.schemas import QueryParams

MAX_COUNTED = 10_000
"""How far totals are counted, and how far an offset may go."""
OFFSET = "Jumps to a place and counts; not together with cursor."


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Cursors:
    """Signs where a page ended, bound to caller, list and filters: an edited or a borrowed cursor is Invalid.

    keys: the first signs, all verify, so that a cursor outlives the rotation of its key.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._hmacs = [hmac.new(key, digestmod="sha256") for key in keys]

    def _signatures(self, place: bytes, bound: str) -> Iterator[bytes]:
        """The signature by each key. Copies of an HMAC with its key set up cost less than a new HMAC."""
        for keyed in self._hmacs:
            signed = keyed.copy()
            signed.update(bound.encode() + b"\0" + place)
            yield signed.digest()[:16]

    def write(self, place: bytes, bound: str) -> str:
        """place: the JSON array of the last row's sort key."""
        return _text(next(self._signatures(place, bound)) + place)

    def read(self, cursor: str, bound: str) -> str:
        """The place that write was given."""
        try:
            raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raw = b""
        fits = [hmac.compare_digest(raw[:16], one) for one in self._signatures(raw[16:], bound)]
        # The last character has bits to spare, and padding says nothing: only the spelling that write gives is one.
        if len(raw) < 17 or not any(fits) or _text(raw) != cursor:
            raise Invalid.fields(cursor="Is not a cursor of this list")
        return raw[16:].decode()


class Page(QueryParams, frozen=True):
    """What part of a list is asked for."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    cursor: (
        Annotated[str, Meta(max_length=1000, description="meta.pagination.nextCursor of the page before.")] | None
    ) = None
    offset: Annotated[int, Meta(ge=0, description=OFFSET, extra_json_schema={"maximum": MAX_COUNTED})] | None = None

    def __post_init__(self) -> None:
        if self.cursor is not None and self.offset is not None:
            raise Invalid.fields(offset="Can't go together with cursor")
        if self.offset is not None and self.offset > MAX_COUNTED:
            raise Invalid.fields(offset=f"Must be at most {MAX_COUNTED}; page with cursor beyond it")

    def by_offset(self, items: Sequence[bytes], total: int, request_id: str) -> bytes:
        """The page with its total, exact up to CAPPED."""
        pagination: dict[str, Any] = {"total": min(total, MAX_COUNTED), "limit": self.limit, "offset": self.offset}
        if total > MAX_COUNTED:
            pagination["totalIsCapped"] = True
        return envelope(b"[" + b",".join(items[: self.limit]) + b"]", request_id, pagination)

    def by_cursor(self, rows: Sequence[tuple[bytes, bytes]], sign: Callable[[bytes], str], request_id: str) -> bytes:
        """The page with the cursor of the next; rows: up to limit + 1 of (sort key, item)."""
        more = len(rows) > self.limit
        shown = rows[: self.limit]
        pagination = {"limit": self.limit, "nextCursor": sign(shown[-1][0]) if more else None, "hasMore": more}
        return envelope(b"[" + b",".join([item for _, item in shown]) + b"]", request_id, pagination)
