"""Properties of a route that its signature does not show. Routes name them as `options=RouteOptions(...)`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from litestar.handlers import BaseRouteHandler

from app.http.schemas import QueryParams

RESOURCES = "app.resources."


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOptions:
    """The options of one route. An unknown option fails when the module is imported."""

    public: bool = False
    """No access token is needed."""
    rate_limited: bool = True
    limit_concurrency: bool = False
    """Hashes a password: only few of these requests run at a time."""
    heavy: bool = False
    """Keeps a core of the database busy: runs in the class of service "heavy"."""
    query: type[QueryParams] = QueryParams
    """The struct of the query string, without the parameters of a page."""
    paged: bool = False
    """Takes the parameters of a page as well."""
    idempotency: Literal["request", "per_line", "refused"] = "request"
    """How a POST treats an Idempotency-Key: one stored response, one key for each line, or 400."""
    conditional: bool = False
    """Honours If-Match."""
    etag: bool = False
    """The response carries an ETag."""
    location: bool = True
    """A 201 response carries the Location of the new record."""
    audit_read: bool = False
    """Reading is recorded in the audit log, so the transaction writes."""
    source: str = "api"
    """The source of status changes that the request makes."""
    consumes: Mapping[str, Any] = field(default_factory=dict)
    """Media types of a streamed request body, each with the struct of a line."""
    produces: Mapping[str, Any] = field(default_factory=dict)
    """Media types of a streamed response body, each with the struct of a line, if it has one."""
    extra_status: int | None = None
    """A second successful status."""
    allow_empty: bool = False
    """204 instead of 200 where there is nothing to return."""
    registers: bool = False
    """Registers an account: never 401, and 403 although it needs no token."""
    health: Literal["alive", "ready"] | None = None
    """A health check: errors are not those of the API."""
    hidden: bool = False
    """Not part of the OpenAPI document."""


DEFAULT = RouteOptions()


def options_of(handler: BaseRouteHandler) -> RouteOptions:
    """The options of a route."""
    found: RouteOptions = handler.opt.get("options", DEFAULT)
    return found


def resource_of(handler: BaseRouteHandler) -> str:
    """The resource that a handler belongs to, named as its module in app/resources; else the module's own name."""
    module = handler.fn.__module__
    return module.removeprefix(RESOURCES).split(".")[0] if module.startswith(RESOURCES) else module.rpartition(".")[2]
