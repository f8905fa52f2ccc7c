"""Properties of a route that are not part of its signature. Routes set them with `options=RouteOptions(...)`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from litestar.handlers import BaseRouteHandler

from app.http.schemas import QueryParams

RESOURCES = "app.resources."


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOptions:
    """The options of one route. A misspelt option fails when the module is imported."""

    public: bool = False
    """Requires no access token."""
    rate_limited: bool = True
    limit_concurrency: bool = False
    """Limits the running requests, because each hashes a password."""
    heavy: bool = False
    """Runs in the class of service "heavy", because it keeps a core of the database busy."""
    query: type[QueryParams] = QueryParams
    """The struct of the query string, without the paging parameters."""
    paged: bool = False
    """Accepts the paging parameters as well."""
    idempotency: Literal["request", "per_line", "refused"] = "request"
    """Handling of an Idempotency-Key of a POST: one stored response, one key for each line, or 400."""
    conditional: bool = False
    """Evaluates If-Match."""
    etag: bool = False
    """The response has an ETag."""
    location: bool = True
    """A 201 response has the Location of the new record."""
    audit_read: bool = False
    """Records the read access in the audit log, so the transaction is not read-only."""
    source: str = "api"
    """The recorded source of the request's status changes."""
    consumes: Mapping[str, Any] = field(default_factory=dict)
    """Media types of a streamed request body, each with the struct of a line."""
    produces: Mapping[str, Any] = field(default_factory=dict)
    """Media types of a streamed response body, each with the struct of a line, or None."""
    extra_status: int | None = None
    """A second successful status."""
    allow_empty: bool = False
    """Responds with 204 instead of 200 if there is nothing to return."""
    registers: bool = False
    """Registers an account: it returns no 401, but may return 403 although it requires no token."""
    health: Literal["alive", "ready"] | None = None
    """Is a health check, whose errors are not those of the API."""
    hidden: bool = False
    """Is not part of the OpenAPI document."""


DEFAULT = RouteOptions()


def options_of(handler: BaseRouteHandler) -> RouteOptions:
    """The options of a route."""
    options: RouteOptions = handler.opt.get("options", DEFAULT)
    return options


def resource_of(handler: BaseRouteHandler) -> str:
    """The resource of a handler: the name of its module in app/resources. For other modules, the module's own name."""
    module = handler.fn.__module__
    return module.removeprefix(RESOURCES).split(".")[0] if module.startswith(RESOURCES) else module.rpartition(".")[2]
