"""What every request goes through before its handler: its id, the limits, the caller its token names, and its session."""

import hashlib
import os
import re
from functools import lru_cache, partial
from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

from app.config import Settings
from app.database.anonymous import Door
from app.database.context import Signer
from app.database.pool import Lane, Pool
from app.database.session import About, Session
from app.errors import Invalid, Unauthorized, UnsupportedMediaType
from app.http import denied as denials
from app.http.pagination import Cursors
from app.http.rate_limits import Limits, network
from app.http.responses import Reply
from app.http.schemas import Query as NoQuery
from app.http.schemas import failure, problems, read_query, struct_in
from app.security.client_address import Proxies, by_tls
from app.security.tokens import Caller, Tokens

_WELL_FORMED = re.compile(r"[!-~]{1,128}")
_KEY = re.compile(r"[!-~]{1,255}")
_ETAGS = re.compile(r'\s*(W/)?"([^"]*)"\s*')

MOST_TAGS = 100
"""Of If-Match; a claim has one at a time."""

ALWAYS = {
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
}
"""Headers of every answer; a handler may put a policy of its own into `answer_headers`."""
BY_TLS = ALWAYS | {b"strict-transport-security": b"max-age=31536000"}

_lower = lru_cache(maxsize=100)(lambda name: name.lower().encode("latin-1"))


class Front:
    """Outermost, before the router: the client's address, the request id and the one Host; the headers of every answer."""

    def __init__(self, app: ASGIApp, trusted_proxies: str) -> None:
        self._app = app
        self._proxies = Proxies(trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._locate(scope)
        fields = scope["state"]["fields"] = _fields(scope)
        answer = scope["state"]["answer_headers"] = {"X-Request-Id": _request_id(fields)}
        if scope["path"].startswith("/api/"):
            answer["Cache-Control"] = "no-store"
        always = BY_TLS if scope["scheme"] == "https" else ALWAYS

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _put(message, answer, always)
                caller, status = scope.get("auth"), message["status"]
                if caller and status in denials.OUTCOMES:
                    await denials.record(scope, caller, status, answer["X-Request-Id"], _address(scope))
            await send(message)

        if fields.get(b"host") is None:
            error = Invalid.fields(Host="Must be given exactly once")
            refused = Reply(failure(error, answer["X-Request-Id"]), error.status).response()
            await refused(scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers)

    def _locate(self, scope: Scope) -> None:
        """Replaces the connection's address and scheme by those of the client where a trusted proxy names them."""
        host, port = scope["client"] or ("", 0)
        address, is_proxy = self._proxies.peer(host)
        if is_proxy:
            address = self._proxies.client(address, scope["headers"])
            if (tls := by_tls(scope["headers"])) is not None:
                scope["scheme"] = "https" if tls else "http"
        scope["client"] = address, port


class Entrance(ASGIMiddleware):
    """Counts a request and lets it in as the caller its token names; else 401, 415 or 429."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._tokens = Tokens(keys)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        answer = scope["state"]["answer_headers"]
        handler = scope["route_handler"]
        state = scope["litestar_app"].state
        if not handler.opt.get("unlimited"):
            answer |= await state.address_limits.take(network(_address(scope)))
        if scope.get("method") == "OPTIONS":
            # Litestar's own answer knows only the methods of the handler that was registered first.
            routes = (one for one in scope["litestar_app"].routes if one.path_format == scope["path_template"])
            answer["Allow"] = ", ".join(sorted(next(routes).methods))
        elif not handler.opt.get("public"):
            caller = scope["auth"] = self._caller(scope)
            answer |= await state.user_limits.take(caller.user_id)
        _check_type(scope, handler)
        await next_app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller:
        scheme, _, token = (_header(scope, b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized
        return self._tokens.read(token)


def _put(message: HTTPResponseStartEvent, answer: dict[str, str], always: dict[bytes, bytes]) -> None:
    """The answer's headers, in place of those that it has by the same names."""
    put = always | {_lower(name): value.encode("latin-1") for name, value in answer.items()}
    message["headers"] = [pair for pair in message["headers"] if pair[0] not in put] + list(put.items())


def _request_id(fields: dict[bytes, bytes | None]) -> str:
    """The request's own id if it sent a well-formed one, else a new one."""
    sent = (fields.get(b"x-request-id") or b"").decode("latin-1")
    return sent if _WELL_FORMED.fullmatch(sent) else new_id()


def new_id() -> str:
    """A random UUID (RFC 9562, version 4) as text: uuid4 makes an object first, which takes three times as long."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _fields(scope: Scope) -> dict[bytes, bytes | None]:
    """The headers' values by name; None where there are several, as which one counts would be a guess."""
    found: dict[bytes, bytes | None] = {}
    for name, value in scope["headers"]:
        found[name] = None if name in found else value
    return found


def _header(scope: Scope, name: bytes) -> str | None:
    """A header's value; None where it is missing or there are several."""
    value = scope["state"]["fields"].get(name)
    return None if value is None else value.decode("latin-1")


def _address(scope: Scope) -> str:
    """The client's, as Front found it."""
    client = scope["client"]
    return client[0] if client else ""


def _check_type(scope: Scope, handler: Any) -> None:
    """A body of another type than the route takes is refused before it is read; without a type it is taken for the right one."""
    sent = _header(scope, b"content-type")
    wanted = tuple(handler.opt.get("takes", ()))
    if "data" in handler.parsed_fn_signature.parameters:
        wanted = ("application/json",)
    if sent and wanted and sent.partition(";")[0].strip().lower() not in wanted:
        raise UnsupportedMediaType


def _versions(if_match: str | None) -> list[int] | None:
    """The versions that If-Match names; None where any will do. Weak tags match nothing (RFC 9110, 13.1.1)."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = [_ETAGS.fullmatch(part) for part in if_match.split(",", MOST_TAGS)]
    if None in tags:  # so is what comes after so many
        raise Invalid.fields(**{"If-Match": 'Must be "<version>" as ETag gave it, or *'})
    strong = [tag.group(2) for tag in tags if tag and not tag.group(1)]
    return [int(one) for one in strong if re.fullmatch(r"[0-9]{1,9}", one)]


async def _key(request: Request[Any, Any, Any]) -> tuple[str | None, bytes]:
    """The Idempotency-Key of a POST and what it stands for; Invalid where it is malformed or not taken."""
    if request.method != "POST" or not (sent := request.headers.getall("Idempotency-Key", [])):
        return None, b""
    if request.route_handler.opt.get("keyless"):
        raise Invalid.fields(**{"Idempotency-Key": "Is not taken here: the answer holds a secret"})
    if len(sent) > 1 or not _KEY.fullmatch(sent[0]):
        raise Invalid.fields(**{"Idempotency-Key": "Must be 1 to 255 visible ASCII characters"})
    whole = b"" if request.route_handler.opt.get("takes") else await request.body()
    return sent[0], hashlib.sha256(whole).digest()


async def _check_json(request: Request[Any, Any, Any]) -> None:
    """A body in JSON's own types: Litestar would take "1" for a number and "null" for nothing, as in a query string."""
    field = request.route_handler.parsed_fn_signature.parameters.get("data")
    if field is None or not await request.body():
        return
    sent = await request.json()
    try:
        msgspec.convert(sent, field.annotation)
    except msgspec.ValidationError:
        raise Invalid({"fields": problems(struct_in(field.annotation), sent)}) from None


async def _gone(receive: Receive) -> None:
    """Comes back when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _session(state: State, caller: Caller, request: Request[Any, Any, Any], **more: Any) -> Session:
    about = About(
        caller=caller,
        request_id=request.scope["state"]["answer_headers"]["X-Request-Id"],
        address=_address(request.scope),
        path=request.scope["path"],  # request.url would fail over a malformed Host
        **more,
    )
    return Session(state.pool, state.cursors, state.signer, about, partial(_gone, request.receive))


async def provide_db(request: Request[Any, Caller, State]) -> Session:
    """What handlers take as `db`."""
    opt = request.route_handler.opt
    key, body_hash = await _key(request)
    await _check_json(request)
    more = {
        "source": opt.get("source", "api"),
        "read_only": request.method in ("GET", "HEAD") and not opt.get("recorded"),
        "key": key,
        "body_hash": body_hash,
        "versions": _versions(request.headers.get("If-Match")) if request.method in ("PATCH", "PUT") else None,
    }
    query = read_query(opt.get("query", NoQuery), request.scope["query_string"])
    session = _session(request.app.state, request.auth, request, lane=_lane(request, query), **more)
    session.query = query
    return session


DEEP = 1000
"""The offset from which a page counts as heavy."""


def _lane(request: Request[Any, Caller, Any], query: Any) -> Lane:
    """heavy: routes with heavy=True, and pages that jump far."""
    if request.route_handler.opt.get("heavy") or (getattr(query, "offset", None) or 0) >= DEEP:
        return "heavy"
    return "quick" if request.method in ("GET", "HEAD") else "slow"


async def provide_door(request: Request[Any, Any, State]) -> Door:
    """What handlers take as `door`."""
    await _key(request)
    await _check_json(request)
    state = request.app.state

    def session(caller: Caller) -> Session:
        return _session(state, caller, request)

    about = request.scope["state"]["answer_headers"]["X-Request-Id"]
    return Door(state.pool, state.settings, state.signer, session, _address(request.scope), about)


def furnish(state: State, settings: Settings, pool: Pool) -> None:
    """What the requests of one process share."""
    state.pool, state.settings = pool, settings
    state.cursors = Cursors(settings.cursor_keys())
    state.signer = Signer(*next(iter(settings.context_keys().items())))
    state.user_limits = Limits(pool, state.signer, "user", settings.rate_limit_user)
    state.address_limits = Limits(pool, state.signer, "address", settings.rate_limit_address)
