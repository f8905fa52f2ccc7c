"""Types that request bodies, query strings and responses share: money, names, ids, instants."""

from collections.abc import Iterable
from datetime import datetime
from math import isfinite
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar.params import PathParameter
from msgspec import Meta, Struct

from app.errors import Invalid

NUL = "Must not hold a NUL character"
IGNORED = Annotated[Any, Meta(description="Accepted and ignored: the tenant comes from the caller.")]


class RequestBody(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What a request body has in common: unknown fields are refused, but organizationId is accepted and ignored."""

    organization_id: IGNORED = None

    def __post_init__(self) -> None:
        if any(isinstance(value, str) and "\0" in value for value in msgspec.structs.astuple(self)):
            raise ValueError(NUL)

    def sent_fields(self) -> dict[str, Any]:
        """The fields as a statement's parameters; those that were not sent (UNSET) are left out."""
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in fields if name != "organization_id" and value is not msgspec.UNSET}

    def update_params(self) -> dict[str, Any]:
        """Every field, None where it was not sent, and `set_<field>` for those that were: null is a change, too."""
        sent = self.sent_fields()
        everything = {name: sent.get(name) for name in self.__struct_fields__ if name != "organization_id"}
        return everything | {f"set_{name}": True for name in sent}


class QueryParams(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True, frozen=True):
    """What a query string may hold: a parameter nobody knows is refused, since a filter with a typo would show everything."""

    organization_id: IGNORED = None


class ResponseBody(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What an answer looks like. SQL builds the JSON; this documents it, and a test decodes every answer strictly into it."""


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


def regex_string(pattern: str, **about: Any) -> Any:
    """A pattern as JSON Schema means it: $ is the end, where Python's alone would let a line feed follow."""
    return Meta(pattern=pattern + r"(?!\n)", **about)


Text = Annotated[str, Meta(min_length=1, max_length=1000, pattern=NO_NUL, examples=["Not covered by the plan"])]
Notes = Annotated[str, Meta(max_length=1000, pattern=NO_NUL, examples=["Follow-up visit"])]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL, examples=["Ada Moreau"])]
Number = Annotated[str, Meta(min_length=1, max_length=64, pattern=NO_NUL, examples=["A-1042"])]
# What is white space, and what a control character, is not the same in every language that reads a pattern: so they are listed.
_MAIL = r"[^@\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f\u3000\ufeff]"
Email = Annotated[str, regex_string(f"^{_MAIL}+@{_MAIL}+$", min_length=3, max_length=254, examples=["pat@example.org"])]
Slug = Annotated[str, regex_string("^[a-z0-9-]{2,63}$", examples=["healthfirst"])]
Id = Annotated[UUID, PathParameter(name="id")]
"""The `{id}` of a path."""
Instant = Annotated[datetime, Meta(tz=True)]


def to_cents(amount: float | None, field: str = "amount") -> int | None:
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


def comma_separated(values: Iterable[str]) -> Any:
    """A query parameter that takes one of the values, or several by comma."""
    any_of = "|".join(values)
    return regex_string(f"^({any_of})(,({any_of}))*$", description="One, or several by comma.")


def encode_name(name: str) -> str:
    """snake_case as the wire's camelCase."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
