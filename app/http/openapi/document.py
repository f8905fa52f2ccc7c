"""The OpenAPI document, built from the routes, their options (app/http/route_options.py) and their structs.

msgspec validates requests with the same structs, so document and validation agree. `make openapi` writes it to openapi.json.
"""

import inspect
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
from app.http.envelope import Envelope, ErrorEnvelope, ResponseMeta
from app.http.openapi.text import ABOUT, DESCRIPTIONS, HEADERS, LIMITED, PARAMETERS, PUBLISHED_NAMES, REF, SAMPLE, Json
from app.http.pagination import Page
from app.http.route_options import options_of, resource_of
from app.http.schemas import QueryParams, RequestBody, describe_custom, parts
from app.http.validation import struct_type


def document(app: Litestar) -> Json:
    """The OpenAPI document of the application."""
    operations = list(_operations(app))
    shapes = [ErrorEnvelope, ResponseMeta, *(shape for _, _, handler in operations for shape in _shapes(handler))]
    unique = list(dict.fromkeys(shapes))
    schemas, components = msgspec.json.schema_components(unique, schema_hook=describe_custom, ref_template=REF)
    of = dict(zip(unique, schemas, strict=True))
    for shape in unique:
        if (body := struct_type(shape)) and issubclass(body, RequestBody):
            _allow_empty(body, components[body.__name__]["properties"])
        components.get(getattr(shape, "__name__", ""), {}).update(getattr(shape, "json_schema", {}))
    for component in components.values():
        if "description" in component:  # its lines have the indentation of the docstring
            component["description"] = inspect.cleandoc(component["description"])
    paths: Json = {}
    for path, method, handler in operations:
        paths.setdefault(path, {})[method] = _Operation(path, method, handler, of, components).build()
    whole: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "Claims",
            "version": "0.5.0",
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "responses": {error.__name__: _error_response(error) for error in ERRORS},
            "headers": HEADERS,
            "parameters": PARAMETERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }
    return _with_published_names(whole)


EMPTY: Json = {"type": "string", "const": ""}
"""The empty string, which means "not given" for optional fields."""


def _allow_empty(shape: type[RequestBody], properties: Json) -> None:
    """Adds to the schemas of optional fields that "" means "not given", and null if the field has another default."""
    for field in msgspec.structs.fields(shape):
        schema = properties[field.encode_name]
        nullable = NoneType in parts(field.type)
        if field.required or field.name == "organization_id" or (not nullable and field.default is msgspec.UNSET):
            continue
        default = {"default": schema.pop("default")} if "default" in schema else {}
        alternatives = schema.pop("anyOf") if "anyOf" in schema else [schema | {}, {"type": "null"}]
        texts = [one for one in alternatives if one.get("type") == "string"]
        if not any(one.keys().isdisjoint({"minLength", "format", "enum"}) for one in texts):
            alternatives = [*alternatives, EMPTY]
        schema.clear()
        schema |= {"anyOf": alternatives} | default


def _with_published_names(whole: Json) -> Json:
    """The document with the names of PUBLISHED_NAMES for its schemas."""
    text = msgspec.json.encode(whole)
    for struct, published in PUBLISHED_NAMES.items():
        text = text.replace(f'"{REF.format(name=struct)}"'.encode(), f'"{REF.format(name=published)}"'.encode())
    whole = msgspec.json.decode(text)
    schemas = whole["components"]["schemas"]
    renamed = {PUBLISHED_NAMES.get(name, name): schema for name, schema in schemas.items()}
    whole["components"]["schemas"] = dict(sorted(renamed.items()))
    return whole


ERRORS: list[type[ApiError]] = [
    Invalid, Unauthorized, Forbidden, NotFound, RequestTimeout, Conflict, PreconditionFailed, PayloadTooLarge, UnsupportedMediaType,
    IdempotencyMismatch, RateLimited, ApiError, Unavailable,
]  # fmt: skip


def _operations(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in sorted(app.routes, key=lambda route: route.path):
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for method in sorted(handler.http_methods - {"OPTIONS", "HEAD"}):
                    if not options_of(handler).hidden:
                        yield re.sub(r":\w+}", "}", route.path), method.lower(), handler


def _body(handler: HTTPRouteHandler) -> Any:
    field = handler.parsed_fn_signature.parameters.get("data")
    return field.annotation if field else None


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
        _body(handler),
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
    meta = {"timestamp": SAMPLE["date-time"], "requestId": SAMPLE["uuid"]}
    example: Json = {"success": False, "error": {"code": error.code, "message": inspect.getdoc(error)}, "meta": meta}
    if error is Invalid:
        example["error"]["details"] = {"fields": {"amount": ["Expected float >= 0.01"]}}
    headers = ["X-Request-Id", *error.always, *(["Retry-After", *LIMITED] if error is RateLimited else [])]
    headers += ["Accept", "Accept-Encoding"] if error is UnsupportedMediaType else []
    return {
        "description": "\n".join(_messages(error)),
        "headers": _header_refs(*headers),
        "content": {"application/json": {"schema": {"$ref": REF.format(name="ErrorEnvelope")}, "example": example}},
    }


class _Operation:
    """The operation of one method and path."""

    def __init__(
        self, path: str, method: str, handler: HTTPRouteHandler, of: dict[Any, Json], components: Json
    ) -> None:
        self.path, self.method, self.handler, self.of, self.components = path, method, handler, of, components
        self.options = options_of(handler)
        self.takes_key = method == "post" and not self.options.public and self.options.idempotency != "refused"
        self.answers_not_modified = method == "get" and self.options.etag
        self.replays = self.takes_key and self.options.idempotency == "request"

    def build(self) -> Json:
        """The operation object."""
        text = inspect.getdoc(self.handler.fn) or ""
        first, *rest = self.handler.fn.__name__.split("_")
        operation: Json = {
            "operationId": first + "".join(word.capitalize() for word in rest),
            "summary": re.split(r"[.;:](?:\s|$)", text)[0],
            "description": text,
            "tags": [resource_of(self.handler).replace("_", " ")],
            "security": [] if self.options.public else [{"bearer": []}],
            "parameters": self._parameters(),
            "responses": self._successes() | self._errors(),
        }
        body = self._request_body()
        return operation | ({"requestBody": body} if body else {})

    def _parameters(self) -> list[Json]:
        parameters: list[Json] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
            for name in re.findall(r"{(\w+)}", self.path)
        ]
        structs: list[type[QueryParams]] = [*([Page] if self.options.paged else []), self.options.query]
        for struct in structs:
            (_,), components = msgspec.json.schema_components([struct], schema_hook=describe_custom)
            for name, schema in components[struct.__name__]["properties"].items():
                if name != "organizationId":
                    parameters.append({"name": name, "in": "query", **_optional(schema)})
        if self.takes_key:
            parameters.append({"$ref": f"#/components/parameters/{'IdempotencyKey' if self.replays else 'KeyOfLines'}"})
        if self.options.conditional:
            parameters.append({"$ref": "#/components/parameters/IfMatch"})
        if self.answers_not_modified:
            parameters.append({"$ref": "#/components/parameters/IfNoneMatch"})
        return parameters

    def _request_body(self) -> Json | None:
        if streamed := self.options.consumes:
            (media_type, line), *_ = streamed.items()
            return {"required": True, "content": {media_type: self._lines(line)}}
        shape = _body(self.handler)
        if shape is None:
            return None
        schema = self.of[shape]
        content = {"schema": schema, "example": self._example(schema)}
        return {"required": NoneType not in get_args(shape), "content": {"application/json": content}}

    def _lines(self, line: Any) -> Json:
        schema = {"schema": {"type": "string", "minLength": 1}}
        return schema | ({"x-itemSchema": self.of[line]} if line else {})

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
            return {"200": success | {"content": {media: self._lines(line) for media, line in lines.items()}}}
        if _response_type(self.handler) is None:
            return no_content
        responses = {str(status): success | {"content": {"application/json": self._content()}}}
        if extra := self.options.extra_status:
            responses[str(extra)] = responses[str(status)] | {"description": DESCRIPTIONS[extra]}
        if self.answers_not_modified:
            responses |= not_modified
        return responses | (no_content if self.options.allow_empty else {})

    def _content(self) -> Json:
        data = self.of[_data(self.handler)]
        if get_origin(_response_type(self.handler)) is not Envelope:
            return {"schema": data, "example": self._example(data)}
        schema = {
            "type": "object",
            "properties": {"success": {"const": True}, "data": data, "meta": {"$ref": REF.format(name="ResponseMeta")}},
            "required": ["success", "data", "meta"],
            "additionalProperties": False,
        }
        return {"schema": schema, "example": self._example(schema)}

    def _errors(self) -> Json:
        if self.options.health == "alive":
            return {}
        if self.options.health == "ready":
            return {
                "503": self._successes()["200"]
                | {"description": "A part is not ready. The body contains the state of each part."}
            }
        takes_body = _body(self.handler) is not None or bool(self.options.consumes)
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

    def _example(self, schema: Json) -> Any:
        """A value that the schema allows, from the schema's own examples if it has some."""
        if "$ref" in schema:
            return self._example(self.components[schema["$ref"].rsplit("/", 1)[1]])
        if "examples" in schema:
            return schema["examples"][0]
        if "const" in schema or "enum" in schema:
            return schema["const"] if "const" in schema else schema["enum"][0]
        if "anyOf" in schema:
            return self._example(schema["anyOf"][0])
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                return [self._example(schema["items"])] if "items" in schema else []
            case "boolean":
                return schema.get("default", True)
            case "integer" | "number":
                return schema.get("default", max(1, schema.get("minimum", 1)))
            case _:
                return SAMPLE.get(schema.get("format", ""), "text")

    def _object(self, schema: Json) -> Json:
        shown = {
            name: self._example(property_)
            for name, property_ in schema.get("properties", {}).items()
            if name not in ("organizationId", "pagination")
            and (name in schema.get("required", []) or "examples" in property_)
        }
        if isinstance(more := schema.get("additionalProperties"), dict) and "propertyNames" in schema:
            shown |= {name: self._example(more) for name in schema["propertyNames"].get("enum", [])}
        return shown


def _optional(schema: Json) -> Json:
    """A query parameter's schema, without null, because a parameter is omitted instead."""
    schema = dict(schema)
    description = schema.pop("description", None)
    if schema.get("default", 0) is None:
        schema.pop("default")
    if "anyOf" in schema:
        (alternative,) = [member for member in schema.pop("anyOf") if member.get("type") != "null"]
        schema |= alternative
    description = schema.pop("description", description)
    return {"required": False, "schema": schema} | ({"description": description} if description else {})
