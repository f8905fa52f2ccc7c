"""Validation of query strings and bodies. The error names every invalid field."""

import re
from collections import Counter
from functools import cache, lru_cache
from typing import Any, Literal, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from app.errors import Invalid
from app.http.schemas import NUL, QueryParams, RequestBody, parts, read_custom

CACHED_QUERY_BYTES = 256
"""Query strings up to this size are parsed once and cached."""
_INTEGER = re.compile(r"-?[0-9]+")
MAX_QUERY_BYTES, MAX_QUERY_PARAMETERS = 8192, 100
"""The largest accepted query string, because parsing time grows with its size. Useful ones are far smaller."""


def read_query(query: type[QueryParams], page: type[QueryParams] | None, text: bytes) -> tuple[Any, Any]:
    """Parses the query string into two structs: the route's own parameters, and the paging parameters (None if page is None).

    Raises Invalid, which names every invalid or unknown parameter.
    """
    return (_read_query_cached if len(text) <= CACHED_QUERY_BYTES else _read_query)(query, page, text)


def _read_query(query: type[QueryParams], page: type[QueryParams] | None, text: bytes) -> tuple[Any, Any]:
    if len(text) > MAX_QUERY_BYTES or text.count(b"&") >= MAX_QUERY_PARAMETERS:
        raise Invalid.fields(query=f"Must contain at most {MAX_QUERY_PARAMETERS} parameters in {MAX_QUERY_BYTES} bytes")
    sent = parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    raw = dict(sent)
    of_page = {name: raw.pop(name) for name in _names(page) & raw.keys()} if page else {}
    errors = _malformed(sent, _numbers(query) | (_numbers(page) if page else frozenset()))
    try:
        if not errors:
            return _convert(raw, query, strict=False), _convert(of_page, page, strict=False) if page else None
    except msgspec.ValidationError:
        errors = field_errors(query, raw, strict=False) | (field_errors(page, of_page, strict=False) if page else {})
    raise Invalid({"fields": errors})


def _malformed(sent: list[tuple[str, str]], integers: frozenset[str]) -> dict[str, list[str]]:
    """The errors of parameters that msgspec would accept but the API does not."""
    errors = {name: [NUL] for name, value in sent if "\0" in value}
    counts = Counter(name for name, _ in sent)
    errors |= {name: ["Is sent more than once"] for name, count in counts.items() if count > 1}
    # msgspec would read 1e2 and 5.0 as integers.
    errors |= {
        name: ["Must be an integer in decimal digits"]
        for name, value in sent
        if name in integers and not _INTEGER.fullmatch(value)
    }
    # msgspec would read the word null as "not sent". Without the filter, the list would contain all records.
    return errors | {name: [f"Is not a well-formed {name}"] for name, value in sent if value.lower() == "null"}


_read_query_cached = lru_cache(maxsize=1000)(_read_query)  # many clients request the same first pages


@cache
def _names(struct: type[QueryParams]) -> frozenset[str]:
    """The names of the struct's own parameters."""
    fields = msgspec.structs.fields(struct)
    return frozenset(field.encode_name for field in fields if field.name != "organization_id")


@cache
def _numbers(shape: type[QueryParams]) -> frozenset[str]:
    """The names of the parameters that are integers."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(shape) if int in parts(field.type))


def _convert(raw: Any, type_: Any, *, strict: bool = True) -> Any:
    return msgspec.convert(raw, type_, strict=strict, dec_hook=read_custom)


def field_errors(shape: Any, raw: Any, *, strict: bool = True) -> dict[str, list[str]]:
    """The errors of all invalid fields of a body or a query, by field name. msgspec itself stops at the first one.

    strict: False for a query, whose values are all text.
    raw: the decoded JSON; {"body": [...]} is returned if it is not an object. A nested field is named `outer.inner`.
    """
    if not isinstance(raw, dict):
        return {"body": ["Must be a JSON object"]}
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    errors = {str(name)[:64]: ["Is not a known field"] for name in raw if name not in fields}
    for name, field in fields.items():
        if name not in raw:
            if field.required:
                errors[name] = ["Is required"]
        elif isinstance(raw[name], str) and "\0" in raw[name]:
            errors[name] = [NUL]
        elif isinstance(raw[name], dict) and (inner := struct_type(field.type)):
            errors |= {f"{name}.{nested}": problem for nested, problem in field_errors(inner, raw[name]).items()}
        else:
            try:
                _convert(raw[name], field.type, strict=strict)
            except msgspec.ValidationError as error:
                errors[name] = [friendly_message(str(error).split(" - at")[0], name, field.type)]
    return errors


def struct_type(type_: Any) -> type[Struct] | None:
    """The Struct among a field's types, if there is one."""
    types = [type_, *get_args(type_)]
    return next((member for member in types if isinstance(member, type) and issubclass(member, Struct)), None)


def friendly_message(message: str, name: str, type_: Any) -> str:
    """Rewords a message of msgspec for clients. It names the allowed values, or the format by the description of the field's type."""
    if "matching regex" in message:
        described = [part.description for part in parts(type_) if isinstance(part, Meta) and part.description]
        return f"Is not a well-formed {name}" + "".join(f": {text.rstrip('.')}" for text in described)
    if message.startswith("Invalid enum value"):  # msgspec's message repeats the value that was sent
        values = [value for part in parts(type_) if get_origin(part) is Literal for value in get_args(part)]
        return f"Must be one of {', '.join(values)}"
    return message.replace("`", "")


def decode_json(type_: Any, body: bytes) -> Any:
    """Decodes the body as the type, without converting between JSON types. Raises Invalid, which names every invalid field.

    "" for an optional field means that it is not given. So does null for one that is not nullable, if it has a default.
    """
    try:
        return _decoder(type_).decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    try:
        raw = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        raise Invalid.fields(body="Is not well-formed JSON") from None
    except UnicodeError:
        raise Invalid.fields(body="Must be UTF-8") from None
    except RecursionError:
        raise Invalid.fields(body="Is nested too deeply") from None
    shape = struct_type(type_)
    given = _given(shape, raw)
    try:
        return _convert(given, type_)
    except msgspec.ValidationError:
        raise Invalid({"fields": field_errors(shape, given)}) from None


def _given(shape: Any, raw: Any) -> Any:
    """The decoded body without optional fields that are not given. Fields that may be null become null, others are left out."""
    if not isinstance(raw, dict) or not (isinstance(shape, type) and issubclass(shape, RequestBody)):
        return raw
    given = dict(raw)
    for field in msgspec.structs.fields(shape):
        name = field.encode_name
        if field.required or name not in raw:
            continue
        nullable = type(None) in parts(field.type)
        if nullable and raw[name] == "":
            given[name] = None
        elif not nullable and field.default is not msgspec.UNSET and raw[name] in ("", None):
            del given[name]
        elif inner := struct_type(field.type):
            given[name] = _given(inner, raw[name])
    return given


@cache
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_, dec_hook=read_custom)
