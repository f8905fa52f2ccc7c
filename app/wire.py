"""The wire's shapes that all resources share: envelope, pages, cursors, bodies."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from litestar.params import QueryParameter
from msgspec import Meta, Struct

from app.errors import ApiError, Invalid

T = TypeVar("T")

NUL = "Must not hold a NUL character"
CAPPED = 10_000
"""How far totals are counted, and how far an offset may go."""


class Body(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What a request body has in common: unknown fields are refused, but organizationId is accepted and ignored."""

    organization_id: Annotated[Any, Meta(description="Accepted and ignored: the tenant comes from the caller.")] = None

    def __post_init__(self) -> None:
        if any(isinstance(value, str) and "\0" in value for value in msgspec.structs.astuple(self)):
            raise ValueError(NUL)


class Shape(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What an answer looks like. SQL builds the JSON; this documents it, and a test decodes every answer strictly into it."""


class Pagination(Shape, omit_defaults=True):
    """By cursor {limit, nextCursor, hasMore}; by offset {total, limit, offset}."""

    limit: int
    next_cursor: str | msgspec.UnsetType | None = msgspec.UNSET
    has_more: bool | msgspec.UnsetType = msgspec.UNSET
    total: int | msgspec.UnsetType = msgspec.UNSET
    total_is_capped: bool | msgspec.UnsetType = msgspec.UNSET
    offset: int | msgspec.UnsetType = msgspec.UNSET


class AnswerMeta(Shape):
    """When, and for which request."""

    timestamp: str
    request_id: str
    pagination: Pagination | msgspec.UnsetType = msgspec.UNSET


class Answer(Shape, Generic[T]):
    """A successful answer."""

    success: Literal[True]
    data: T
    meta: AnswerMeta


Money = Annotated[Decimal, Meta(description="Major units, at most two decimals.", examples=[1250.5])]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Email = Annotated[str, Meta(min_length=3, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
Limit = Annotated[int, QueryParameter(ge=1, le=100)]
Offset = Annotated[int | None, QueryParameter(ge=0, description=f"At most {CAPPED}; beyond it use cursor.")]
CursorText = Annotated[
    str | None, QueryParameter(max_length=1000, description="meta.pagination.nextCursor of the page before.")
]


def cents(amount: Decimal | None, field: str = "amount") -> int | None:
    """Whole cents of an amount in major units; Invalid where it has more than two decimals or is out of every range."""
    if amount is None:
        return None
    if not amount.is_finite() or abs(amount) > 10**9:
        raise Invalid.fields(**{field: "Is out of range"})
    if amount != round(amount, 2):
        raise Invalid.fields(**{field: "Must have at most two decimals"})
    return int(amount * 100)


def _meta(request_id: str, pagination: dict[str, Any] | None = None) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    meta: dict[str, Any] = {"timestamp": now, "requestId": request_id}
    if pagination is not None:
        meta["pagination"] = pagination
    return msgspec.json.encode(meta)


def envelope(data: bytes, request_id: str, pagination: dict[str, Any] | None = None) -> bytes:
    """A successful answer around JSON that PostgreSQL built."""
    return b'{"success":true,"data":' + data + b',"meta":' + _meta(request_id, pagination) + b"}"


def failure(error: ApiError, request_id: str) -> bytes:
    """A failed answer."""
    body: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.details:
        body["details"] = error.details
    return b'{"success":false,"error":' + msgspec.json.encode(body) + b',"meta":' + _meta(request_id) + b"}"


class Cursors:
    """Signs where a page ended, bound to caller, list and filters: an edited or a borrowed cursor is Invalid."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def _mac(self, place: bytes, bound: str) -> bytes:
        return hmac.digest(self._key, bound.encode() + b"\0" + place, hashlib.sha256)[:16]

    def write(self, place: bytes, bound: str) -> str:
        """place: the JSON array of the last row's sort key."""
        return base64.urlsafe_b64encode(self._mac(place, bound) + place).decode().rstrip("=")

    def read(self, cursor: str, bound: str) -> str:
        """The place that write was given."""
        try:
            raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except ValueError:
            raw = b""
        if len(raw) < 17 or not hmac.compare_digest(raw[:16], self._mac(raw[16:], bound)):
            raise Invalid.fields(cursor="Is not a cursor of this list")
        return raw[16:].decode()


class Page(Struct):
    """What part of a list is asked for."""

    limit: int
    cursor: str | None
    offset: int | None

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
        return envelope(b"[" + b",".join(item for _, item in shown) + b"]", request_id, pagination)


def problems(shape: type[Struct], raw: Any) -> dict[str, list[str]]:
    """Every field of a body that does not fit, by its wire name; msgspec itself stops at the first.

    raw: the decoded JSON. {"body": [...]} when it is no object.
    """
    if not isinstance(raw, dict):
        return {"body": ["Must be a JSON object"]}
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    found = {name: ["Is not a field"] for name in raw if name not in fields}
    for name, field in fields.items():
        if name not in raw:
            if field.required:
                found[name] = ["Is required"]
        elif isinstance(raw[name], str) and "\0" in raw[name]:
            found[name] = [NUL]
        else:
            try:
                msgspec.convert(raw[name], field.type, strict=True)
            except msgspec.ValidationError as error:
                found[name] = [str(error).split(" - at")[0]]
    return found


def encode_name(name: str) -> str:
    """snake_case as the wire's camelCase."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
