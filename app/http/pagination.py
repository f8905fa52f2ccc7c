"""Pages of lists: by cursor, which costs the same at any depth, or by offset with a total."""

import base64
import hmac
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta

from app.errors import Invalid
from app.http.schemas import Query, envelope
from app.security.mac import mac

Q = TypeVar("Q", bound=Query)

CAPPED = 10_000
"""How far totals are counted, and how far an offset may go."""
OFFSET = "Jumps to a place and counts; not together with cursor."


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Cursors:
    """Signs where a page ended, bound to caller, list and filters: an edited or a borrowed cursor is Invalid.

    keys: the first signs, all verify, so that a cursor outlives the rotation of its key.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def _mac(self, key: bytes, place: bytes, bound: str) -> bytes:
        return mac(key, bound.encode() + b"\0" + place)[:16]

    def write(self, place: bytes, bound: str) -> str:
        """place: the JSON array of the last row's sort key."""
        return _text(self._mac(self._keys[0], place, bound) + place)

    def read(self, cursor: str, bound: str) -> str:
        """The place that write was given."""
        try:
            raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raw = b""
        fits = [hmac.compare_digest(raw[:16], self._mac(key, raw[16:], bound)) for key in self._keys]
        # The last character has bits to spare, and padding says nothing: only the spelling that write gives is one.
        if len(raw) < 17 or not any(fits) or _text(raw) != cursor:
            raise Invalid.fields(cursor="Is not a cursor of this list")
        return raw[16:].decode()


class Page(Query, frozen=True):
    """What part of a list is asked for."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    cursor: (
        Annotated[str, Meta(max_length=1000, description="meta.pagination.nextCursor of the page before.")] | None
    ) = None
    offset: Annotated[int, Meta(ge=0, description=OFFSET, extra_json_schema={"maximum": CAPPED})] | None = None

    def __post_init__(self) -> None:
        if self.cursor is not None and self.offset is not None:
            raise Invalid.fields(offset="Can't go together with cursor")
        if self.offset is not None and self.offset > CAPPED:
            raise Invalid.fields(offset=f"Must be at most {CAPPED}; page with cursor beyond it")

    def by_offset(self, items: Sequence[bytes], total: int, request_id: str) -> bytes:
        """The page with its total, exact up to CAPPED."""
        pagination: dict[str, Any] = {"total": min(total, CAPPED), "limit": self.limit, "offset": self.offset}
        if total > CAPPED:
            pagination["totalIsCapped"] = True
        return envelope(b"[" + b",".join(items[: self.limit]) + b"]", request_id, pagination)

    def by_cursor(self, rows: Sequence[tuple[bytes, bytes]], sign: Callable[[bytes], str], request_id: str) -> bytes:
        """The page with the cursor of the next; rows: up to limit + 1 of (sort key, item)."""
        more = len(rows) > self.limit
        shown = rows[: self.limit]
        pagination = {"limit": self.limit, "nextCursor": sign(shown[-1][0]) if more else None, "hasMore": more}
        return envelope(b"[" + b",".join([item for _, item in shown]) + b"]", request_id, pagination)


def paged(filters: type[Q]) -> type[Q]:
    """The filters together with the parameters of a Page, and what a Page does."""
    fields = [
        (field.name, field.type, field.default)
        for field in msgspec.structs.fields(Page)
        if field.name != "organization_id"
    ]
    does = {name: getattr(Page, name) for name in ("__post_init__", "by_offset", "by_cursor")}
    name = filters.__name__.replace("Filter", "Page")
    made = msgspec.defstruct(
        name, fields, bases=(filters,), namespace=does, kw_only=True, forbid_unknown_fields=True, rename="camel"
    )
    return cast("type[Q]", made)
