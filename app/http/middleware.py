"""The middleware of every request. A request passes, in this order:

1. OuterMiddleware: the client's address, the request id, the Host header, HEAD, If-None-Match, and the headers of every response.
2. Litestar's router.
3. RequestMiddleware: rate limits, authentication, content type and coding.
4. BodyMiddleware: the idempotency key and the JSON body, decoded once.
5. ConcurrencyLimit (app/http/concurrency.py), then the handler with its dependencies (app/http/dependencies.py).
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from uuid import uuid4

from litestar import Request
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send
from litestar.utils.scope.state import ScopeState

from app.errors import Invalid, Unauthorized, UnsupportedMediaType
from app.http import denied
from app.http.body_text import without_mark
from app.http.conditional import is_not_modified, make_not_modified
from app.http.envelope import error_envelope
from app.http.idempotency import read_key
from app.http.prepared_response import PreparedResponse
from app.http.route_options import options_of
from app.http.validation import decode_json
from app.security.client_address import Proxies, client_address, forwarded_tls, network
from app.security.tokens import Caller, TokenCache

SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
}
"""Headers of every response. A handler may replace one in `answer_headers`."""
TLS_SECURITY_HEADERS = SECURITY_HEADERS | {b"strict-transport-security": b"max-age=31536000"}
_WELL_FORMED = re.compile(r"[!-~]{1,128}")
_lower = lru_cache(maxsize=100)(lambda name: name.lower().encode("latin-1"))


class OuterMiddleware:
    """Sets the client's address, the request id and the response headers, and requires exactly one Host. Runs before the router.

    A HEAD runs as a GET, so that it has the same effects and headers. Its body is not sent.
    """

    def __init__(self, app: ASGIApp, trusted_proxies: str) -> None:
        self._app = app
        self._proxies = Proxies(trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._set_client(scope)
        fields = scope["state"]["fields"] = _single_fields(scope)
        is_head = scope["state"]["is_head"] = scope.get("method") == "HEAD"
        if is_head:  # a copy, because the server frames the response by the method of its own scope
            scope = {**scope, "method": "GET"}  # type: ignore[assignment]
        has_tags = b"if-none-match" in fields and scope.get("method") == "GET"
        omits_body = is_head
        headers = scope["state"]["answer_headers"] = {"X-Request-Id": _request_id(fields)}
        if scope["path"].lstrip("/").startswith("api/"):  # the router ignores repeated slashes
            headers["Cache-Control"] = "no-store"
        security_headers = TLS_SECURITY_HEADERS if scope["scheme"] == "https" else SECURITY_HEADERS

        async def send_with_headers(message: Message) -> None:
            nonlocal omits_body
            if message["type"] == "http.response.start":
                _set_headers(message, headers, security_headers)
                if has_tags and is_not_modified(_whole_field(scope, b"if-none-match").encode("latin-1"), message):
                    make_not_modified(message)
                    omits_body = True
                caller, status = scope.get("auth"), message["status"]
                if caller and status in denied.OUTCOMES:
                    await denied.record(scope, caller, status, headers["X-Request-Id"], client_address(scope))
            elif omits_body and message["type"] == "http.response.body":
                message["body"] = b""
            await send(message)

        if fields.get(b"host") is None:
            error = Invalid.fields(Host="Must be sent exactly once")
            body = error_envelope(error, headers["X-Request-Id"])
            await PreparedResponse(body, error.status).to_litestar()(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _set_client(self, scope: Scope) -> None:
        """Replaces the connection's address and scheme by the client's, if a trusted proxy forwards them."""
        host, port = scope["client"] or ("", 0)
        address, is_proxy = self._proxies.peer(host)
        if is_proxy:
            address = self._proxies.client(address, scope["headers"])
            if (tls := forwarded_tls(scope["headers"])) is not None:
                scope["scheme"] = "https" if tls else "http"
        scope["client"] = address, port


class RequestMiddleware(ASGIMiddleware):
    """Applies the rate limits (429), authenticates the caller (401) and checks the content type and coding (415)."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._tokens = TokenCache(keys)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        headers = scope["state"]["answer_headers"]
        handler = scope["route_handler"]
        options = options_of(handler)
        state = scope["litestar_app"].state
        if options.rate_limited:
            headers |= await state.address_limits.consume(network(client_address(scope)))
        if scope.get("method") == "OPTIONS":
            # Litestar's own response lists only the methods of the handler that was registered first.
            routes = (route for route in scope["litestar_app"].routes if route.path_format == scope["path_template"])
            headers["Allow"] = ", ".join(allowed_methods(next(routes).methods))
        elif not options.public:
            caller = scope["auth"] = self._authenticate(scope)
            headers |= await state.user_limits.consume(caller.user_id)
        _check_body_type(scope, handler)
        await next_app(scope, receive, send)

    def _authenticate(self, scope: Scope) -> Caller:
        scheme, _, token = (_field(scope, b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized
        return self._tokens.read(token)


class BodyMiddleware(ASGIMiddleware):
    """Reads the Idempotency-Key, and decodes the JSON body if the route accepts one. The handler receives the decoded struct."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        scope["state"]["idempotency_key"] = read_key(scope)
        field = scope["route_handler"].parsed_fn_signature.parameters.get("data")
        if field is not None and (body := await Request[Any, Any, Any](scope, receive).body()):
            # Litestar would accept "1" for a number and "null" for null, as in a query string. It does not convert a struct again.
            ScopeState.from_scope(scope).json = decode_json(field.annotation, without_mark(body))
        await next_app(scope, receive, send)


def _set_headers(
    message: HTTPResponseStartEvent, headers: dict[str, str], security_headers: dict[bytes, bytes]
) -> None:
    """Sets the response's headers, in place of those with the same names."""
    encoded = security_headers | {_lower(name): value.encode("latin-1") for name, value in headers.items()}
    message["headers"] = [pair for pair in message["headers"] if pair[0] not in encoded] + list(encoded.items())


def _request_id(fields: dict[bytes, bytes | None]) -> str:
    """The id that the client sent, if it is well formed, else a new one."""
    sent = (fields.get(b"x-request-id") or b"").decode("latin-1")
    return sent if _WELL_FORMED.fullmatch(sent) else str(uuid4())


def _single_fields(scope: Scope) -> dict[bytes, bytes | None]:
    """The value of each header; None if it was sent several times, because then it is ambiguous."""
    fields: dict[bytes, bytes | None] = {}
    for name, value in scope["headers"]:
        fields[name] = None if name in fields else value
    return fields


def _field(scope: Scope, name: bytes) -> str | None:
    """The value of a header; None if it is missing or was sent several times."""
    value = scope["state"]["fields"].get(name)
    return None if value is None else value.decode("latin-1")


def _whole_field(scope: Scope, name: bytes) -> str:
    """The value of a header that is a list: all lines of it together."""
    return ",".join(value.decode("latin-1") for other, value in scope["headers"] if other == name)


def allowed_methods(methods: Iterable[str]) -> list[str]:
    """The methods of a path for `Allow`: HEAD wherever there is GET."""
    return sorted({*methods, "HEAD"} if "GET" in methods else methods)


def _check_body_type(scope: Scope, handler: Any) -> None:
    """Refuses a body whose type or coding the route does not accept, before the body is read. A body without a type is accepted."""
    accepted = tuple(options_of(handler).consumes)
    if "data" in handler.parsed_fn_signature.parameters:
        accepted = ("application/json",)
    if not accepted:
        return
    sent = _field(scope, b"content-type")
    if sent and sent.partition(";")[0].strip().lower() not in accepted:
        raise UnsupportedMediaType.of(
            "Content-Type", f"Must be {' or '.join(accepted)}", {"Accept": ", ".join(accepted)}
        )
    if b"content-encoding" in scope["state"]["fields"]:
        codings = {coding.strip().lower() for coding in _whole_field(scope, b"content-encoding").split(",")}
        if codings - {"", "identity"}:
            raise UnsupportedMediaType.of(
                "Content-Encoding", "Must be identity or absent", {"Accept-Encoding": "identity"}
            )
