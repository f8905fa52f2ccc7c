"""Dependencies of handlers: `db: Db`, the caller's session, and `anonymous: Anonymous`, for requests without a caller."""

import hashlib
import re
from codecs import BOM_UTF8
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.types import Receive

from app.config import Settings
from app.database.admission import ServiceClass
from app.database.anonymous import AnonymousSession
from app.database.connection import Rows
from app.database.context import ContextSigner
from app.database.pool import Pool
from app.database.session import DatabaseSession, RequestContext
from app.database.statements import Statement
from app.errors import Invalid
from app.http.idempotency import IdempotencyKey
from app.http.login_throttle import LoginThrottle
from app.http.pagination import Cursors, Page
from app.http.rate_limits import RateLimit
from app.http.responses import Preconditions, Responder
from app.http.route_options import options_of
from app.http.validation import read_query
from app.security.client_address import client_address, network
from app.security.tokens import Caller

MAX_ETAGS = 100
"""Tags of If-Match that are read. A record has only one version at a time."""
HEAVY_OFFSET = 1000
"""The offset from which a page counts as heavy."""
_ETAG = re.compile(r'\s*(W/)?"([^"]*)"\s*')


class AnonymousRequest(msgspec.Struct, frozen=True):
    """A request without a caller, or one that must also prove a password."""

    session: AnonymousSession
    throttle: LoginThrottle
    settings: Settings
    origin: dict[str, str]
    """The parts of the request that the audit log records: its id and the client's address."""
    authenticate: Callable[[Caller], Responder]
    """Returns the session of a caller who has just logged in."""

    async def rows(self, statement: Statement, **params: Any) -> Rows:
        """Runs one statement without a context; returns its rows."""
        return await self.session.rows(statement, **params)


Db = NamedDependency[Responder]
Anonymous = NamedDependency[AnonymousRequest]


def init_app_state(state: State, settings: Settings, pool: Pool) -> None:
    """Sets the objects that all requests of one process share."""
    state.pool, state.settings = pool, settings
    state.cursors = Cursors(settings.cursor_keys())
    state.signer = ContextSigner(*next(iter(settings.context_keys().items())))
    state.user_limits = RateLimit(pool, state.signer, "user", settings.rate_limit_user)
    state.address_limits = RateLimit(pool, state.signer, "address", settings.rate_limit_address)


async def provide_db(request: Request[Any, Caller, State]) -> Responder:
    """The dependency `db`: the caller's session, with the parsed query string, Idempotency-Key and If-Match."""
    options = options_of(request.route_handler)
    key = await _idempotency_key(request)
    versions = _versions(request.headers.get("If-Match")) if request.method in ("PATCH", "PUT") else None
    query, page = read_query(options.query, Page if options.paged else None, request.scope["query_string"])
    context = _context(
        request,
        request.auth,
        source=options.source,
        read_only=request.method == "GET" and not options.audit_read,
        service_class=_service_class(request, options.heavy, page),
    )
    # Not request.url, which fails if Host is malformed.
    preconditions = Preconditions(path=request.scope["path"], idempotency_key=key, versions=versions)
    return _responder(request, context, preconditions, query, page)


async def provide_anonymous(request: Request[Any, Any, State]) -> AnonymousRequest:
    """The dependency `anonymous`: a session without a context, and the login throttle."""
    state = request.app.state
    address = client_address(request.scope)
    client = network(address)
    session = AnonymousSession(state.pool, state.signer, ("", client))

    def authenticate(caller: Caller) -> Responder:
        preconditions = Preconditions(path=request.scope["path"])
        return _responder(request, _context(request, caller), preconditions)

    origin = {"request_id": _request_id(request), "address": address}
    return AnonymousRequest(session, LoginThrottle(session, client), state.settings, origin, authenticate)


def _request_id(request: Request[Any, Any, Any]) -> str:
    return str(request.scope["state"]["answer_headers"]["X-Request-Id"])


def _context(request: Request[Any, Any, Any], caller: Caller, **more: Any) -> RequestContext:
    return RequestContext(caller=caller, request_id=_request_id(request), address=client_address(request.scope), **more)


def _responder(
    request: Request[Any, Any, State],
    context: RequestContext,
    preconditions: Preconditions,
    query: Any = None,
    page: Page | None = None,
) -> Responder:
    state = request.app.state
    session = DatabaseSession(state.pool, state.signer, context, partial(wait_for_disconnect, request.receive))
    return Responder(session, preconditions, state.cursors, query, page)


async def wait_for_disconnect(receive: Receive) -> None:
    """Returns when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _idempotency_key(request: Request[Any, Any, Any]) -> IdempotencyKey | None:
    """The key that BodyMiddleware read, with the hash of the body. A streamed body is not hashed."""
    key = request.scope["state"]["idempotency_key"]
    if key is None:
        return None
    body = b"" if options_of(request.route_handler).consumes else (await request.body()).removeprefix(BOM_UTF8)
    return IdempotencyKey(request.scope["path"], key, hashlib.sha256(body).digest())


def _versions(if_match: str | None) -> list[int] | None:
    """The versions that If-Match names; None for any. Weak tags match nothing (RFC 9110, 13.1.1)."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = [_ETAG.fullmatch(part) for part in if_match.split(",", MAX_ETAGS)]
    if None in tags:  # tags after MAX_ETAGS are one part, which is not a valid tag
        raise Invalid.fields(**{"If-Match": 'Must be an ETag of the record, such as "3", or *'})
    strong = [tag.group(2) for tag in tags if tag and not tag.group(1)]
    return [int(version) for version in strong if re.fullmatch(r"[0-9]{1,9}", version)]


def _service_class(request: Request[Any, Caller, Any], heavy: bool, page: Page | None) -> ServiceClass:
    if heavy or (page and (page.offset or 0) >= HEAVY_OFFSET):
        return "heavy"
    return "quick" if request.method == "GET" else "slow"
