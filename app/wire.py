"""The wire's shapes that all resources share: envelope, pages, cursors, bodies, query strings."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, Generic, Literal, TypeVar, cast, get_args
from uuid import UUID

import msgspec
from litestar.params import PathParameter
from msgspec import Meta, Struct

from app.errors import ApiError, Invalid

T = TypeVar("T")

NUL = "Must not hold a NUL character"
CAPPED = 10_000
"""How far totals are counted, and how far an offset may go."""
OFFSET = "Jumps to a place and counts; not together with cursor."
IGNORED = Annotated[Any, Meta(description="Accepted and ignored: the tenant comes from the caller.")]


class Body(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What a request body has in common: unknown fields are refused, but organizationId is accepted and ignored."""

    organization_id: IGNORED = None

    def __post_init__(self) -> None:
        if any(isinstance(value, str) and "\0" in value for value in msgspec.structs.astuple(self)):
            raise ValueError(NUL)

    def given(self) -> dict[str, Any]:
        """The fields as a statement's parameters; those that were not sent (UNSET) are left out."""
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in fields if name != "organization_id" and value is not msgspec.UNSET}

    def changes(self) -> dict[str, Any]:
        """Every field, None where it was not sent, and `set_<field>` for those that were: null is a change, too."""
        sent = self.given()
        everything = {name: sent.get(name) for name in self.__struct_fields__ if name != "organization_id"}
        return everything | {f"set_{name}": True for name in sent}


class Query(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What a query string may hold: a parameter nobody knows is refused, since a filter with a typo would show everything."""

    organization_id: IGNORED = None


Q = TypeVar("Q", bound=Query)


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

    timestamp: Annotated[datetime, Meta(tz=True)]
    request_id: str
    pagination: Pagination | msgspec.UnsetType = msgspec.UNSET


class Answer(Shape, Generic[T]):
    """A successful answer."""

    success: Literal[True]
    data: T
    meta: AnswerMeta


class Problem(Shape):
    """What went wrong: a code to branch on, a message to read, and where it helps the fields it is about."""

    code: str
    message: str
    details: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class Failure(Shape):
    """An answer to a request that failed."""

    success: Literal[False]
    error: Problem
    meta: AnswerMeta


class Skipped(Shape):
    """A claim that a job left alone, and why."""

    id: UUID
    reason: str


class NotDone(Shape):
    """A claim that a job could not move, and the code of what kept it."""

    id: UUID
    code: str


class JobResult(Shape):
    """What a job did to the patient's claims."""

    updated: list[UUID]
    skipped: list[Skipped]
    failed: list[NotDone]


JobStatus = Literal["pending", "processing", "completed", "failed"]


def _money(least: float, most: float) -> Any:
    about = {"type": "number", "multipleOf": 0.01}
    return Meta(
        ge=least, le=most, description="Major units, at most two decimals.", examples=[1250.5], extra_json_schema=about
    )


Money = Annotated[float, _money(0.01, 1_000_000)]
MoneyOrNone = Annotated[float, _money(0, 1_000_000)]
Sum = Annotated[float, Meta(description="Major units, two decimals.", examples=[1250.5])]
TEXT = r"^[^\u0000]*$"
"""What no string may hold can be said in a schema, too."""
Text = Annotated[str, Meta(min_length=1, max_length=1000, pattern=TEXT)]
Notes = Annotated[str, Meta(max_length=1000, pattern=TEXT)]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=TEXT)]
Number = Annotated[str, Meta(min_length=1, max_length=64, pattern=TEXT)]
Email = Annotated[
    str, Meta(min_length=3, max_length=254, pattern=r"^[^@\s\u0000]+@[^@\s\u0000]+$", examples=["pat@example.org"])
]
Slug = Annotated[str, Meta(pattern="^[a-z0-9-]{2,63}$", examples=["healthfirst"])]
Role = Literal["admin", "claims_processor", "provider", "patient"]
Id = Annotated[UUID, PathParameter(name="id")]
"""The `{id}` of a path."""
Instant = Annotated[datetime, Meta(tz=True)]


def cents(amount: float | None, field: str = "amount") -> int | None:
    """Whole cents of an amount in major units; Invalid where it has more than two decimals."""
    if amount is None:
        return None
    if not isfinite(amount):
        raise Invalid.fields(**{field: "Is no amount"})
    whole = round(amount * 100)
    # 0.1 + 0.2 is 0.30000000000000004 in every client that counts in binary: that is 30 cents.
    if abs(amount * 100 - whole) > 1e-6:
        raise Invalid.fields(**{field: "Must have at most two decimals"})
    return whole


def one_of_several(values: Iterable[str]) -> Any:
    """A query parameter that takes one of the values, or several by comma."""
    any_of = "|".join(values)
    return Meta(pattern=f"^({any_of})(,({any_of}))*$", description="One, or several by comma.")


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
    """Signs where a page ended, bound to caller, list and filters: an edited or a borrowed cursor is Invalid.

    keys: the first signs, all verify, so that a cursor outlives the rotation of its key.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def _mac(self, key: bytes, place: bytes, bound: str) -> bytes:
        return hmac.digest(key, bound.encode() + b"\0" + place, hashlib.sha256)[:16]

    def write(self, place: bytes, bound: str) -> str:
        """place: the JSON array of the last row's sort key."""
        return base64.urlsafe_b64encode(self._mac(self._keys[0], place, bound) + place).decode().rstrip("=")

    def read(self, cursor: str, bound: str) -> str:
        """The place that write was given."""
        try:
            raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raw = b""
        fits = [hmac.compare_digest(raw[:16], self._mac(key, raw[16:], bound)) for key in self._keys]
        if len(raw) < 17 or not any(fits):
            raise Invalid.fields(cursor="Is not a cursor of this list")
        return raw[16:].decode()


class Page(Query):
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
        return envelope(b"[" + b",".join(item for _, item in shown) + b"]", request_id, pagination)


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


def read_query(shape: type[T], sent: Sequence[tuple[str, str]]) -> T:
    """The query string as its Struct; Invalid names every parameter that does not fit."""
    raw = dict(sent)
    found = {name: [NUL] for name, value in sent if "\0" in value}
    if len(raw) < len(sent):
        found |= {name: ["Is given more than once"] for name in raw if sum(name == one for one, _ in sent) > 1}
    try:
        if not found:
            return msgspec.convert(raw, shape, strict=False)
    except msgspec.ValidationError:
        found = problems(shape, raw, strict=False)
    raise Invalid({"fields": found})


def problems(shape: Any, raw: Any, *, strict: bool = True) -> dict[str, list[str]]:
    """Every field of a body or a query that does not fit, by its wire name; msgspec itself stops at the first.

    raw: the decoded JSON. {"body": [...]} when it is no object. A field inside another is named `outer.inner`.
    """
    if not isinstance(raw, dict):
        return {"body": ["Must be a JSON object"]}
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    found = {str(name)[:64]: ["Is not known here"] for name in raw if name not in fields}
    for name, field in fields.items():
        if name not in raw:
            if field.required:
                found[name] = ["Is required"]
        elif isinstance(raw[name], str) and "\0" in raw[name]:
            found[name] = [NUL]
        elif isinstance(raw[name], dict) and (inner := _struct_in(field.type)):
            found |= {f"{name}.{one}": problem for one, problem in problems(inner, raw[name]).items()}
        else:
            try:
                msgspec.convert(raw[name], field.type, strict=strict)
            except msgspec.ValidationError as error:
                found[name] = [_readable(str(error).split(" - at")[0], name)]
    return found


def _struct_in(type_: Any) -> type[Struct] | None:
    """The Struct among a field's types, if there is one."""
    kinds = [type_, *get_args(type_)]
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, Struct)), None)


def _readable(message: str, name: str) -> str:
    if "matching regex" in message:
        return f"Is not a well-formed {name}"
    return message.replace("`", "")


def encode_name(name: str) -> str:
    """snake_case as the wire's camelCase."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
