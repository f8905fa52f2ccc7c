"""The Litestar application: resources, the one dependency, the errors, the pool's life."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
from litestar import Litestar, Request, Response, get
from litestar.datastructures import MutableScopeHeaders, State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.middleware import ASGIMiddleware
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from litestar.types.empty import Empty
from litestar.utils.scope.state import ScopeState
from psycopg_pool import PoolTimeout, TooManyRequests

from app import auth, claims, patient_status, patients, providers, reference, schema
from app.config import Settings, read_settings
from app.db import Session, open_pool, ping, redacted
from app.errors import BY_STATUS, ApiError, Invalid, Unauthorized, Unavailable, from_database
from app.tokens import Caller, read_token
from app.wire import Cursors, encode_name, failure, problems

log = logging.getLogger("claims.api")

MAX_BODY = 1_000_000
"""Bytes."""
_WELL_FORMED = re.compile(r"[!-~]{1,128}")


class Entrance(ASGIMiddleware):
    """Gives every request its id, and the caller its token names; 401 before anything else is read."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._keys = keys

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        headers = dict(scope["headers"])
        sent = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = sent if _WELL_FORMED.fullmatch(sent) else str(uuid4())
        scope["state"]["request_id"] = request_id

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableScopeHeaders.from_message(message)["X-Request-Id"] = request_id
            await send(message)

        handler = scope.get("route_handler")
        if handler is not None and not handler.opt.get("public"):
            scope["auth"] = self._caller([value for name, value in scope["headers"] if name == b"authorization"])
        await next_app(scope, receive, with_id)

    def _caller(self, authorization: list[bytes]) -> Caller:
        scheme, _, token = (authorization[0] if len(authorization) == 1 else b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized
        return read_token(token, self._keys)


def make_session(state: State, caller: Caller, request: Request[Any, Any, Any]) -> Session:
    """The session of one caller's request."""
    about = {
        "id": request.scope["state"]["request_id"],
        "address": request.client.host if request.client else "",
        "path": request.url.path,
    }
    return Session(state.pool, state.cursors, caller, about, read_only=request.method in ("GET", "HEAD"))


async def provide_db(request: Request[Any, Caller, State]) -> Session:
    """What handlers take as `db`."""
    return make_session(request.app.state, request.auth, request)


def _from_http(error: HTTPException, request: Request[Any, Any, Any]) -> ApiError:
    """Litestar's own errors in this API's words; a body's fields all at once."""
    kind = BY_STATUS.get(error.status_code, ApiError if error.status_code >= 500 else Invalid)
    if kind is not Invalid:
        return kind()
    fields: dict[str, list[str]] = {}
    for one in error.extra if isinstance(error.extra, list) else []:
        if isinstance(one, dict) and one.get("source") != "body" and one.get("key"):
            fields.setdefault(encode_name(one["key"]), []).append(one["message"])
    shape = request.route_handler.parsed_fn_signature.parameters.get("data")
    if shape is not None:
        body = ScopeState.from_scope(request.scope).json
        fields |= {} if body is Empty else problems(shape.annotation, body)
    return Invalid({"fields": fields or {"body": ["Is not well-formed JSON"]}})


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The contract's envelope for anything that went wrong; what is not the client's fault is logged with the request id."""
    request_id = request.scope["state"].get("request_id") or str(uuid4())
    match error:
        case ApiError():
            answer = error
        case HTTPException():
            answer = _from_http(error, request)
        case psycopg.Error() | PoolTimeout() | TooManyRequests():
            answer = from_database(error)
            if answer.status >= 500:
                what = redacted(error) if isinstance(error, psycopg.Error) else type(error).__name__
                log.error("request %s: %s", request_id, what)
        case _:
            answer = ApiError()
            log.error("request %s: %s", request_id, type(error).__name__, exc_info=_frames_only(error))
    headers = answer.headers | {"X-Request-Id": request_id}
    return Response(
        failure(answer, request_id), status_code=answer.status, headers=headers, media_type="application/json"
    )


def _frames_only(error: Exception) -> tuple[type[Exception], Exception, Any]:
    """The traceback without the message, which may hold values of a row."""
    return Exception, Exception(type(error).__name__), error.__traceback__


@get("/health", opt={"public": True})
async def health() -> dict[str, str]:
    """Alive; touches nothing."""
    return {"status": "ok"}


@get("/health/ready", opt={"public": True})
async def ready(state: State) -> Response[dict[str, str]]:
    """200 when the database answers and its schema is the one this code expects; 503 names which part does not."""
    parts = {"database": "ok", "schema": "ok"}
    try:
        async with asyncio.timeout(0.9):
            await ping(state.pool)
            parts["schema"] = await _schema_state(state)
    except (psycopg.Error, PoolTimeout, TooManyRequests, TimeoutError, Unavailable):
        parts["database"] = "unreachable"
    fine = all(value == "ok" for value in parts.values())
    return Response(parts, status_code=200 if fine else 503, headers={} if fine else {"Retry-After": "1"})


async def _schema_state(state: State) -> str:
    """Looked at once in five seconds at most: the digest of the catalog costs the database about 20 ms."""
    checked_at, result = getattr(state, "schema_seen", (0.0, ""))
    if time.monotonic() - checked_at > 5:
        async with state.pool.connection() as connection:
            result = "; ".join(await schema.differences(connection)) or "ok"
        state.schema_seen = (time.monotonic(), result)
    return result


@asynccontextmanager
async def _life(settings: Settings, app: Litestar) -> AsyncIterator[None]:
    pool = open_pool(settings)
    await pool.open()
    try:
        app.state.pool = pool
        app.state.cursors = Cursors(settings.cursor_key())
        app.state.settings = settings
        app.state.session = partial(make_session, app.state)
        async with pool.connection(timeout=10) as connection:
            await schema.refuse_unsafe(connection)
        yield
    finally:
        await pool.close()


def create_app(settings: Settings | None = None) -> Litestar:
    """The application; without settings they are read from the environment."""
    settings = settings or read_settings(need=("api_database_url", "token_keys"))
    return Litestar(
        route_handlers=[
            health,
            ready,
            *auth.handlers,
            *claims.handlers,
            *patient_status.handlers,
            *patients.handlers,
            *providers.handlers,
            *reference.handlers,
        ],
        dependencies={"db": Provide(provide_db)},
        middleware=[Entrance(settings.token_keys)],
        exception_handlers={Exception: answer_error},
        lifespan=[partial(_life, settings)],
        request_max_body_size=MAX_BODY,
        openapi_config=OpenAPIConfig(
            title="Claims",
            version="0.1.0",
            path="/schema",
            security=[{"bearer": []}],
            components=Components(
                security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")}
            ),
            render_plugins=[JsonRenderPlugin()],
        ),
        logging_config=None,
        debug=False,
    )
