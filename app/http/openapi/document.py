"""The OpenAPI document, built from the routes, their options (app/http/route_options.py) and their structs.

msgspec validates requests with the same structs, so document and validation agree. `make openapi` writes it to openapi.json.
"""

import inspect
import json
import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream
from litestar.routes import HTTPRoute

from app.errors import (
    ApiError,
    Conflict,
    Forbidden,
    IdempotencyMismatch,
    Invalid,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    RateLimited,
    RequestTimeout,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from app.http.envelope import Envelope, ErrorEnvelope, PageMeta, ResponseMeta
from app.http.openapi import examples
from app.http.openapi.components import Components, portable
from app.http.openapi.text import ABOUT, DESCRIPTIONS, HEADERS, LIMITED, PARAMETERS, PUBLISHED_NAMES, REF, TAGS, Json
from app.http.openapi.transitions import as_markdown
from app.http.pagination import Page
from app.http.route_options import options_of, resource_of
from app.http.schemas import QueryParams, describe_custom


def document(app: Litestar) -> Json:
    """The OpenAPI document of the application."""
    operations = sorted(_operations(app), key=_order)
    shapes = [
        ErrorEnvelope,
        ResponseMeta,
        PageMeta,
        *(shape for _, _, handler in operations for shape in _shapes(handler)),
    ]
    components = Components(shapes)
    paths: Json = {}
    for path, method, handler in operations:
        paths.setdefault(path, {})[method] = _Operation(path, method, handler, components).build()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Claims",
            "version": "0.5.0",
            "description": ABOUT,
            "contact": {"name": "The operators of this installation"},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The server that this document was read from."}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.schemas.items())),
            "responses": {error.__name__: _error_response(error) for error in ERRORS},
            "headers": HEADERS,
            "parameters": PARAMETERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


TRANSITIONS = "{transitions}"
"""In the description of an operation, the place of the table of transitions."""
SENTENCE_END = r"[.;:](?:\s|$)"
ERRORS: list[type[ApiError]] = [
    Invalid, Unauthorized, Forbidden, NotFound, RequestTimeout, Conflict, PreconditionFailed, PayloadTooLarge, UnsupportedMediaType,
    IdempotencyMismatch, RateLimited, ApiError, Unavailable,
]  # fmt: skip


def _operations(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for method in sorted(handler.http_methods - {"OPTIONS", "HEAD"}):
                    if not options_of(handler).hidden:
                        yield re.sub(r":\w+}", "}", route.path), method.lower(), handler


def _tag(handler: HTTPRouteHandler) -> str:
    return resource_of(handler).replace("_", " ")


def _order(operation: tuple[str, str, HTTPRouteHandler]) -> tuple[int, str, int]:
    """The place of an operation: its tag's, and in the tag that of its handler in the source."""
    handler = operation[2]
    return list(TAGS).index(_tag(handler)), handler.fn.__module__, inspect.unwrap(handler.fn).__code__.co_firstlineno


def _body(handler: HTTPRouteHandler) -> tuple[Any, bool]:
    """The type of the request body, None if there is no body, and whether a body is required."""
    field = handler.parsed_fn_signature.parameters.get("data")
    return (field.annotation, NoneType not in get_args(field.annotation)) if field else (None, False)


def _response_type(handler: HTTPRouteHandler) -> Any:
    """The type of the response body, without Response[...] and None; None for no content or a stream."""
    type_ = handler.parsed_fn_signature.return_type.annotation
    while get_origin(type_) in (Response, Union, UnionType):
        type_ = next(member for member in get_args(type_) if member is not NoneType)
    return None if type_ in (None, NoneType) or type_ is Stream else type_


def _data(handler: HTTPRouteHandler) -> Any:
    type_ = _response_type(handler)
    return get_args(type_)[0] if get_origin(type_) is Envelope else type_


def _shapes(handler: HTTPRouteHandler) -> list[Any]:
    shapes = [
        _body(handler)[0],
        _data(handler),
        *options_of(handler).produces.values(),
        *options_of(handler).consumes.values(),
    ]
    return [shape for shape in shapes if shape is not None]


def _header_refs(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _messages(error: type[ApiError]) -> list[str]:
    """The messages of an error and of its causes, which are its subclasses."""
    causes = [] if error is ApiError else error.__subclasses__()
    return [inspect.getdoc(error) or "", *(message for cause in causes for message in _messages(cause))]


def _error_response(error: type[ApiError]) -> Json:
    problem: Json = {"code": error.code, "message": inspect.getdoc(error)}
    if error is Invalid:
        problem["details"] = examples.FIELDS
    example: Json = {"success": False, "error": problem, "meta": examples.META}
    headers = ["X-Request-Id", *error.always, *(["Retry-After", *LIMITED] if error is RateLimited else [])]
    headers += ["Accept", "Accept-Encoding"] if error is UnsupportedMediaType else []
    return {
        "description": "\n".join(_messages(error)),
        "headers": _header_refs(*headers),
        "content": {
            "application/json": {
                "schema": {"$ref": REF.format(name=PUBLISHED_NAMES["ErrorEnvelope"])},
                "example": example,
            }
        },
    }


class _Operation:
    """The operation of one method and path."""

    def __init__(self, path: str, method: str, handler: HTTPRouteHandler, components: Components) -> None:
        self.path, self.method, self.handler, self.components = path, method, handler, components
        self.options = options_of(handler)
        first, *rest = handler.fn.__name__.split("_")
        self.id = first + "".join(word.capitalize() for word in rest)
        self.takes_key = method == "post" and not self.options.public and self.options.idempotency != "refused"
        self.answers_not_modified = method == "get" and self.options.etag
        self.replays = self.takes_key and self.options.idempotency == "request"

    def build(self) -> Json:
        """The operation object."""
        text = (inspect.getdoc(self.handler.fn) or "").replace(TRANSITIONS, as_markdown())
        operation: Json = {
            "operationId": self.id,
            "summary": f"{re.split(SENTENCE_END, text)[0]} [{self._roles(text)}]",
            "description": text,
            "tags": [_tag(self.handler)],
            "security": [] if self.options.public else [{"bearer": []}],
            "parameters": self._parameters(),
            "responses": self._successes() | self._errors(),
        }
        body = self._request_body()
        return operation | ({"requestBody": body} if body else {})

    def _roles(self, text: str) -> str:
        """The roles of the last line of the description, for the operation's head."""
        roles = text.splitlines()[-1].removeprefix("Roles: ").rstrip(".")
        return "no login" if self.options.public else "all roles" if roles == "all" else roles

    def _parameters(self) -> list[Json]:
        parameters: list[Json] = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "format": "uuid"},
                "example": examples.PATH_IDS[_tag(self.handler)] if name == "id" else examples.PARAMETERS[name],
            }
            for name in re.findall(r"{(\w+)}", self.path)
        ]
        structs: list[type[QueryParams]] = [*([Page] if self.options.paged else []), self.options.query]
        for struct in structs:
            (_,), components = msgspec.json.schema_components([struct], schema_hook=describe_custom)
            for name, schema in components[struct.__name__]["properties"].items():
                if name != "organizationId":
                    parameters.append({"name": name, "in": "query", **_optional(name, schema)})
        if self.takes_key:
            parameters.append({"$ref": f"#/components/parameters/{'IdempotencyKey' if self.replays else 'KeyOfLines'}"})
        if self.options.conditional:
            parameters.append({"$ref": "#/components/parameters/IfMatch"})
        if self.answers_not_modified:
            parameters.append({"$ref": "#/components/parameters/IfNoneMatch"})
        return parameters

    def _request_body(self) -> Json | None:
        if streamed := self.options.consumes:
            return {
                "required": True,
                "content": {media: _lines(media, line, is_request=True) for media, line in streamed.items()},
            }
        shape, is_required = _body(self.handler)
        if shape is None:
            return None
        schema = self.components.of(shape)
        content = {"schema": schema, "example": self.components.example(schema)}
        return {"required": is_required, "content": {"application/json": content}}

    def _successes(self) -> Json:
        status = self.handler.status_code
        headers = ["X-Request-Id", *(LIMITED if self.options.rate_limited else [])]
        headers += ["Location"] if status == 201 and self.options.location else []
        headers += ["ETag"] if self.options.etag else []
        headers += ["Idempotent-Replayed"] if self.replays else []
        not_modified = {"304": {"description": DESCRIPTIONS[304], "headers": _header_refs(*headers)}}
        headers += ["Content-Disposition"] if self.options.produces and self.method == "get" else []
        success = {"description": DESCRIPTIONS[status], "headers": _header_refs(*headers)}
        no_content = {"204": {"description": DESCRIPTIONS[204], "headers": _header_refs(*headers)}}
        if lines := self.options.produces:
            return {"200": success | {"content": {media: _lines(media, line) for media, line in lines.items()}}}
        if _response_type(self.handler) is None:
            return no_content
        responses = {str(status): success | {"content": {"application/json": self._content()}}}
        if extra := self.options.extra_status:
            responses[str(extra)] = responses[str(status)] | {"description": DESCRIPTIONS[extra]}
        if self.answers_not_modified:
            responses |= not_modified
        return responses | (no_content if self.options.allow_empty else {})

    def _content(self) -> Json:
        data = self.components.of(_data(self.handler))
        if get_origin(_response_type(self.handler)) is not Envelope:
            return {"schema": data, "example": self.components.example(data)}
        example = examples.OF_OPERATIONS.get(self.id) or self.components.example(
            data["items"] if self.options.paged else data
        )
        meta = examples.META | ({"pagination": examples.PAGINATION} if self.options.paged else {})
        return {
            "schema": self.components.envelope(_data(self.handler), paged=self.options.paged),
            "example": {"success": True, "data": [example] if self.options.paged else example, "meta": meta},
        }

    def _errors(self) -> Json:
        # Every path refuses a request without exactly one Host.
        invalid = {"400": {"$ref": "#/components/responses/Invalid"}}
        if self.options.health == "alive":
            return invalid
        if self.options.health == "ready":
            return invalid | {
                "503": self._successes()["200"]
                | {"description": "A part is not ready. The body contains the state of each part."}
            }
        takes_body = _body(self.handler)[0] is not None or bool(self.options.consumes)
        rules: list[tuple[type[ApiError], Any]] = [
            (Invalid, True),
            (Unauthorized, not self.options.registers),
            (Forbidden, not self.options.public or self.options.registers),
            (NotFound, "{" in self.path),
            (RequestTimeout, self.options.consumes),
            (Conflict, self.method != "get"),
            (PreconditionFailed, self.options.conditional),
            (PayloadTooLarge, takes_body),
            (UnsupportedMediaType, takes_body),
            (IdempotencyMismatch, self.takes_key),
            (RateLimited, True),
            (ApiError, True),
            (Unavailable, True),
        ]
        return {
            str(error.status): {"$ref": f"#/components/responses/{error.__name__}"}
            for error, applies in rules
            if applies
        }


def _lines(media_type: str, line: Any, *, is_request: bool = False) -> Json:
    """A streamed body: contentSchema describes its lines. Generators pass `binary` on as it is, and would encode plain text as JSON."""
    if line is None:
        return {"schema": {"type": "string"}, "example": examples.CSV}
    name = PUBLISHED_NAMES.get(line.__name__, line.__name__)
    schema = {
        "type": "string",
        "format": "binary",
        **({"minLength": 1} if is_request else {}),
        "contentMediaType": media_type,
        "contentSchema": {"type": "array", "items": {"$ref": REF.format(name=name)}},
    }
    return {"schema": schema, "example": f"{json.dumps(examples.EXAMPLES[name])}\n"}


def _optional(name: str, schema: Json) -> Json:
    """A query parameter, without null, because a parameter is omitted instead."""
    schema = dict(schema)
    description = schema.pop("description", None)
    if "anyOf" in schema:
        (alternative,) = [member for member in schema.pop("anyOf") if member.get("type") != "null"]
        schema |= alternative
    description = schema.pop("description", description)
    schema.pop("examples", None)
    schema = portable(schema)
    is_free = name in examples.PARAMETERS and "$ref" not in schema
    return (
        {"required": False, "schema": schema}
        | ({"description": description} if description else {})
        | ({"example": examples.PARAMETERS[name]} if is_free else {})
    )
