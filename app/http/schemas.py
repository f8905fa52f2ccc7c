"""Types shared by request bodies, query strings and responses: money, names, ids, instants."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from math import isfinite
from typing import Annotated, Any, Literal, get_args, get_origin
from uuid import UUID

import msgspec
from litestar.params import PathParameter
from msgspec import Meta, Struct

from app.errors import Invalid

NUL = "Must not contain a NUL character"
IGNORED = Annotated[Any, Meta(description="Accepted and ignored. The access token determines the organization.")]


class RequestBody(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Base of request bodies. Unknown fields are refused; organizationId is accepted and ignored."""

    organization_id: IGNORED = None

    def __post_init__(self) -> None:
        """Refuses NUL, empties optional fields that are "", and removes white space around numbers."""
        emptiable, numbers = text_rules(type(self))
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not isinstance(value, str):
                continue
            if "\0" in value:
                raise ValueError(NUL)
            if not value and name in emptiable:
                setattr(self, name, None)
            elif name in numbers:
                setattr(self, name, value.strip(WHITE_SPACE))

    def sent_fields(self) -> dict[str, Any]:
        """The fields as parameters of a statement, without those that were not sent (UNSET)."""
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in fields if name != "organization_id" and value is not msgspec.UNSET}

    def columns(self) -> dict[str, Any]:
        """The sent fields as columns of the table; in most tables these have the same names."""
        return self.sent_fields()

    def insert_params(self) -> dict[str, Any]:
        """The parameters of a statement that inserts `@columns`: the columns, and their names as `columns`."""
        columns = self.columns()
        return columns | {"columns": tuple(columns)}

    def update_params(self) -> dict[str, Any]:
        """Every field, None if it was not sent, and `set_<field>` for each that was sent, because null is also a change."""
        sent = self.sent_fields()
        all_fields = {name: sent.get(name) for name in self.__struct_fields__ if name != "organization_id"}
        return all_fields | {f"set_{name}": True for name in sent}


class QueryParams(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True, frozen=True):
    """Base of query strings. Unknown parameters are refused, because a misspelt filter would return all records."""

    organization_id: IGNORED = None


class ResponseBody(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Base of responses. SQL builds the JSON; the structs document it, and a test decodes every response strictly into them."""


class ResponseWarning(ResponseBody):
    """A warning about a request that was fulfilled."""

    code: Literal["POSSIBLE_DUPLICATE"]
    message: str
    claim_ids: list[UUID]


def _money(least: float, most: float) -> Any:
    description = "Major units, at most two decimals."
    # Not multipleOf: 0.01, by which several validators refuse one amount of ten. to_cents refuses more than two decimals.
    return Meta(ge=least, le=most, description=description, examples=[1250.5])


Money = Annotated[float, _money(0.01, 1_000_000)]
MoneyOrZero = Annotated[float, _money(0, 1_000_000)]
Sum = Annotated[float, Meta(description="Major units, two decimals.", examples=[1250.5])]
NO_NUL = r"^[^\x00]*$"
"""The rule for all strings, as a pattern for the JSON schemas. RE2 knows \\x00, but not \\u0000."""
END = r"(?!\n)"
"""After a $, the end of the string and nothing else. In JSON Schema, $ alone means that."""


def regex_string(pattern: str, **meta: Any) -> Any:
    """A pattern with the meaning of JSON Schema: $ is the end of the string. In Python, $ alone would allow a line feed after it.

    The OpenAPI document has the pattern without END, because RE2 and Go have no look-ahead.
    """
    return Meta(pattern=pattern + END, **meta)


# Characters are listed, because classes such as \s differ between the languages that read the pattern, and only those of the Basic
# Multilingual Plane: app.is_clean_number of SQL refuses the others, too.
_SPACES = r"\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_UNSEEN = (  # the categories Cc, Cf, Zl and Zp
    r"\u0000-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
)
WHITE_SPACE = "".join(filter(str.isspace, map(chr, (*range(9, 14), *range(32, 0x3001)))))
"""The characters with the property White_Space, which a number loses at both ends."""
_BLANK = (
    r"\u0000-\u0020\u007f-\u00a0\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u2064\u2066-\u206f\u3000\ufeff\ufff9-\ufffb"
)
NOT_BLANK = rf"^[^\u0000]*[^{_BLANK}][^\u0000]*$"
"""A string without NUL that contains more than white space and invisible characters."""
_NUMBER = rf"^[{_SPACES}]*[^{_BLANK}]([^{_UNSEEN}]*[^{_BLANK}])?[{_SPACES}]*$"

Text = Annotated[str, Meta(min_length=1, max_length=1000, pattern=NOT_BLANK, examples=["Not covered by the plan"])]
Notes = Annotated[str, Meta(max_length=1000, pattern=NO_NUL, examples=["Follow-up visit"])]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=NOT_BLANK, examples=["Ada Moreau"])]
NUMBER = Meta(min_length=1, max_length=64, pattern=_NUMBER, examples=["A-1042"])
Number = Annotated[str, NUMBER]
"""A number that people read: without control and invisible characters. White space around it is removed."""
# White space and control characters are listed, because classes such as \s differ between the languages that read the pattern.
_MAIL = r"[^@\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f\u3000\ufeff]"
EMAIL = f"^{_MAIL}+@{_MAIL}+$"
DOCUMENTED_PATTERNS = {
    EMAIL: r"^[^@\x00-\x20\x7f-\xa0]+@[^@\x00-\x20\x7f-\xa0]+$",
    NOT_BLANK: r"^[^\x00]*[^\x00-\x20\x7f-\xa0][^\x00]*$",
    _NUMBER: r"^[\x09-\x0d\x20\xa0]*[^\x00-\x20\x7f-\xa0]([^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0])?[\x09-\x0d\x20\xa0]*$",
}
"""The document's patterns, which allow more than those of the API: RE2 and ECMAScript have no common escape above \\xff."""
Email = Annotated[str, regex_string(EMAIL, min_length=3, max_length=254, examples=["pat@example.org"])]
Slug = Annotated[
    str,
    regex_string(
        "^[a-z0-9-]{2,63}$", description="2 to 63 lower-case letters, digits and hyphens.", examples=["healthfirst"]
    ),
]
Id = Annotated[UUID, PathParameter(name="id")]
"""The `{id}` of a path."""
Instant = Annotated[datetime, Meta(tz=True)]
"""An instant in a response."""


class SentInstant(datetime):
    """An instant in a request. Digits beyond microseconds are cut, because rounding could move it into the next day."""


_FRACTION = re.compile(r"(\.[0-9]{6})[0-9]+")
_LEAP_SECOND = re.compile(r"(.{17})60(?:\.[0-9]+)?(.*)", re.DOTALL)


def read_custom(type_: type, sent: Any) -> Any:
    """The decoding hook of msgspec. A leap second becomes the last microsecond before it."""
    if type_ is not SentInstant:
        raise NotImplementedError
    text = _FRACTION.sub(r"\1", sent, count=1) if isinstance(sent, str) else sent
    leap = _LEAP_SECOND.fullmatch(text) if isinstance(text, str) else None
    if leap:
        text = f"{leap[1]}59.999999{leap[2]}"
    at = msgspec.convert(text, Instant)
    offset = at.utcoffset() or timedelta()
    if leap and (timedelta(hours=at.hour, minutes=at.minute) - offset) % timedelta(days=1) != timedelta(
        hours=23, minutes=59
    ):
        raise ValueError("Invalid RFC3339 encoded datetime")
    return SentInstant.combine(at.date(), at.timetz())


def describe_custom(type_: type) -> dict[str, Any]:
    """The JSON schema of a type that read_custom reads."""
    if type_ is not SentInstant:
        raise NotImplementedError
    return {"type": "string", "format": "date-time"}


@cache
def text_rules(shape: type[RequestBody]) -> tuple[frozenset[str], frozenset[str]]:
    """The names of a body's fields for which "" means "not given", and of those that are numbers."""
    fields = msgspec.structs.fields(shape)
    return (
        frozenset(field.name for field in fields if not field.required and type(None) in get_args(field.type)),
        frozenset(field.name for field in fields if NUMBER in parts(field.type)),
    )


def parts(type_: Any) -> list[Any]:
    """The type, the members of its unions, and the metadata of its annotations, at any depth."""
    inner = [] if get_origin(type_) is Literal else get_args(type_)
    return [type_, *(part for member in inner for part in parts(member))]


def to_cents(amount: float | None, field: str = "amount") -> int | None:
    """Converts an amount in major units to cents. Raises Invalid if it has more than two decimals."""
    if amount is None:
        return None
    if not isfinite(amount):
        raise Invalid.fields(**{field: "Is not a valid amount"})
    # A client that calculates in binary may send 0.30000000000000004 for 0.1 + 0.2. In 15 digits, which every float has, that is 0.3.
    cents = Decimal(f"{amount:.15g}") * 100
    if cents % 1:
        raise Invalid.fields(**{field: "Must have at most two decimals"})
    return int(cents)


def comma_separated(values: Sequence[str]) -> Any:
    """A query parameter that accepts one of the values, or several separated by commas."""
    any_of = "|".join(values)
    return regex_string(
        f"^({any_of})(,({any_of}))*$", description=f"One or several of {', '.join(values)}, separated by commas."
    )


def encode_name(name: str) -> str:
    """Converts a snake_case name to the API's camelCase."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
