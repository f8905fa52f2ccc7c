"""The wire's shapes that all resources share: envelope, pages, cursors, bodies, query strings."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache, lru_cache
from math import isfinite
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from litestar.params import PathParameter
from msgspec import Meta, Struct

from app.errors import ApiError, Invalid

T = TypeVar("T")

REMEMBERED = 256
"""Bytes of a query string that is read once for all who send it."""
LONGEST_QUERY, MOST_PARAMETERS = 8192, 100
"""Bytes and parameters of a query string: reading one takes as long as it is, and none of use comes near."""
NUL = "Must not hold a NUL character"
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


class Query(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True, frozen=True):
    """What a query string may hold: a parameter nobody knows is refused, since a filter with a typo would show everything."""

    organization_id: IGNORED = None


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
MoneyOrZero = Annotated[float, _money(0, 1_000_000)]
Sum = Annotated[float, Meta(description="Major units, two decimals.", examples=[1250.5])]
NO_NUL = r"^[^\u0000]*$"
"""What no string may hold can be said in a schema, too."""


def spelled(pattern: str, **about: Any) -> Any:
    """A pattern as JSON Schema means it: $ is the end, where Python's alone would let a line feed follow."""
    return Meta(pattern=pattern + r"(?!\n)", **about)


Text = Annotated[str, Meta(min_length=1, max_length=1000, pattern=NO_NUL, examples=["Not covered by the plan"])]
Notes = Annotated[str, Meta(max_length=1000, pattern=NO_NUL, examples=["Follow-up visit"])]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL, examples=["Ada Moreau"])]
Number = Annotated[str, Meta(min_length=1, max_length=64, pattern=NO_NUL, examples=["A-1042"])]
# What is white space, and what a control character, is not the same in every language that reads a pattern: so they are listed.
_MAIL = r"[^@\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f\u3000\ufeff]"
Email = Annotated[str, spelled(f"^{_MAIL}+@{_MAIL}+$", min_length=3, max_length=254, examples=["pat@example.org"])]
Slug = Annotated[str, spelled("^[a-z0-9-]{2,63}$", examples=["healthfirst"])]
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
    return spelled(f"^({any_of})(,({any_of}))*$", description="One, or several by comma.")


def _meta(request_id: str, pagination: dict[str, Any] | None = None) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    meta: dict[str, Any] = {"timestamp": now, "requestId": request_id}
    if pagination is not None:
        meta["pagination"] = pagination
    return msgspec.json.encode(meta)


def envelope(data: bytes, request_id: str, pagination: dict[str, Any] | None = None) -> bytes:
    """A successful answer around JSON that PostgreSQL built."""
    return b"".join((b'{"success":true,"data":', data, b',"meta":', _meta(request_id, pagination), b"}"))


def failure(error: ApiError, request_id: str) -> bytes:
    """A failed answer."""
    body: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.details:
        body["details"] = error.details
    return b'{"success":false,"error":' + msgspec.json.encode(body) + b',"meta":' + _meta(request_id) + b"}"


Q = TypeVar("Q", bound=Query)


def read_query(shape: type[Q], text: bytes) -> Q:
    """The query string as its Struct; Invalid names every parameter that does not fit."""
    return (_remembered if len(text) <= REMEMBERED else _read_query)(shape, text)


def _read_query(shape: type[Q], text: bytes) -> Q:
    if len(text) > LONGEST_QUERY or text.count(b"&") >= MOST_PARAMETERS:
        raise Invalid.fields(query=f"Must hold at most {MOST_PARAMETERS} parameters in {LONGEST_QUERY} bytes")
    sent = parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    raw = dict(sent)
    found = {name: [NUL] for name, value in sent if "\0" in value}
    if len(raw) < len(sent):
        times = Counter(name for name, _ in sent)
        found |= {name: ["Is given more than once"] for name in raw if times[name] > 1}
    # msgspec would take a bare number for the seconds since 1970.
    found |= {
        name: ["Invalid RFC3339 encoded datetime"]
        for name, value in sent
        if ":" not in value and name in _instants(shape)
    }
    # msgspec would take the word null for "not given", and a filter that is not there shows everything.
    found |= {name: [f"Is not a well-formed {name}"] for name, value in sent if value.lower() == "null"}
    try:
        if not found:
            return msgspec.convert(raw, shape, strict=False)
    except msgspec.ValidationError:
        found = problems(shape, raw, strict=False)
    raise Invalid({"fields": found})


_remembered = lru_cache(maxsize=1000)(_read_query)  # first pages are asked for again and again


@cache
def _instants(shape: type[Query]) -> frozenset[str]:
    """The parameters that are instants."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(shape) if Instant in get_args(field.type))


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
        elif isinstance(raw[name], dict) and (inner := struct_in(field.type)):
            found |= {f"{name}.{one}": problem for one, problem in problems(inner, raw[name]).items()}
        else:
            try:
                msgspec.convert(raw[name], field.type, strict=strict)
            except msgspec.ValidationError as error:
                found[name] = [_readable(str(error).split(" - at")[0], name)]
    return found


def struct_in(type_: Any) -> type[Struct] | None:
    """The Struct among a field's types, if there is one."""
    kinds = [type_, *get_args(type_)]
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, Struct)), None)


def _readable(message: str, name: str) -> str:
    if "matching regex" in message:
        return f"Is not a well-formed {name}"
    if message.startswith("Invalid enum value"):  # msgspec's own words repeat it
        return "Is none of the values known here"
    return message.replace("`", "")


def encode_name(name: str) -> str:
    """snake_case as the wire's camelCase."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
