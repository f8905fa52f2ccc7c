"""Types shared by request bodies, query strings and responses: money, names, ids, instants."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from math import isfinite
from typing import Annotated, Any
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
        if any(isinstance(value, str) and "\0" in value for value in msgspec.structs.astuple(self)):
            raise ValueError(NUL)

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


Text = Annotated[str, Meta(min_length=1, max_length=1000, pattern=NO_NUL, examples=["Not covered by the plan"])]
Notes = Annotated[str, Meta(max_length=1000, pattern=NO_NUL, examples=["Follow-up visit"])]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL, examples=["Ada Moreau"])]
Number = Annotated[str, Meta(min_length=1, max_length=64, pattern=NO_NUL, examples=["A-1042"])]
# White space and control characters are listed, because classes such as \s differ between the languages that read the pattern.
_MAIL = r"[^@\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f\u3000\ufeff]"
EMAIL, DOCUMENTED_EMAIL = f"^{_MAIL}+@{_MAIL}+$", r"^[^@\x00-\x20\x7f-\xa0]+@[^@\x00-\x20\x7f-\xa0]+$"
"""The pattern of an email, and the document's, which allows more: RE2 and ECMAScript have no common escape above \\xff."""
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
