"""Pages of lists: by cursor, which costs the same at any depth, or by offset, with a total."""

import base64
import hmac
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

from msgspec import Meta

from app.errors import Invalid
from app.http.envelope import envelope
from app.http.schemas import QueryParams

MAX_COUNTED = 10_000
"""The largest exact total, and the largest offset."""
OFFSET = "Skips this many items and counts the total. Can't be combined with cursor."


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Cursors:
    """Creates and verifies cursors: the position of the last row, signed together with caller, list and filters.

    An edited cursor, or one of another caller, list or filter, is Invalid. keys: the first one signs and all verify, so that a cursor
    stays valid while keys are rotated.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._hmacs = [hmac.new(key, digestmod="sha256") for key in keys]

    def _signatures(self, position: bytes, scope: str) -> Iterator[bytes]:
        """The signature by each key. Copying a keyed HMAC costs less than creating one."""
        for keyed in self._hmacs:
            signature = keyed.copy()
            signature.update(scope.encode() + b"\0" + position)
            yield signature.digest()[:16]

    def write(self, position: bytes, scope: str) -> str:
        """Creates a cursor. position: the last row's sort key as a JSON array. scope: caller, list and filters."""
        return _text(next(self._signatures(position, scope)) + position)

    def read(self, cursor: str, scope: str) -> str:
        """The position in a cursor of the same scope. Raises Invalid for any other cursor."""
        try:
            raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raw = b""
        matches = [hmac.compare_digest(raw[:16], signature) for signature in self._signatures(raw[16:], scope)]
        # Several texts decode to the same bytes (unused bits, padding). Only the one that write creates is valid.
        if len(raw) < 17 or not any(matches) or _text(raw) != cursor:
            raise Invalid.fields(cursor="Is not a cursor of this list")
        return raw[16:].decode()


class Page(QueryParams, frozen=True):
    """The requested part of a list."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    cursor: (
        Annotated[str, Meta(max_length=1000, description="meta.pagination.nextCursor of the previous page.")] | None
    ) = None
    offset: Annotated[int, Meta(ge=0, description=OFFSET, extra_json_schema={"maximum": MAX_COUNTED})] | None = None

    def __post_init__(self) -> None:
        if self.cursor is not None and self.offset is not None:
            raise Invalid.fields(offset="Can't be combined with cursor")
        if self.offset is not None and self.offset > MAX_COUNTED:
            raise Invalid.fields(offset=f"Must be at most {MAX_COUNTED}; use cursor beyond it")

    def by_offset(self, items: Sequence[bytes], total: int, request_id: str) -> bytes:
        """The page with the total, which is exact up to MAX_COUNTED."""
        pagination: dict[str, Any] = {"total": min(total, MAX_COUNTED), "limit": self.limit, "offset": self.offset}
        if total > MAX_COUNTED:
            pagination["totalIsCapped"] = True
        return envelope(b"[" + b",".join(items[: self.limit]) + b"]", request_id, {"pagination": pagination})

    def by_cursor(self, rows: Sequence[tuple[bytes, bytes]], sign: Callable[[bytes], str], request_id: str) -> bytes:
        """The page with the cursor of the next page. rows: up to limit + 1 pairs (sort key, item)."""
        has_more = len(rows) > self.limit
        items = rows[: self.limit]
        pagination = {"limit": self.limit, "nextCursor": sign(items[-1][0]) if has_more else None, "hasMore": has_more}
        return envelope(b"[" + b",".join([item for _, item in items]) + b"]", request_id, {"pagination": pagination})
