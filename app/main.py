"""The Litestar application: the resources, the two dependencies, the errors, the pool's life."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import psycopg
from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types.empty import Empty
from litestar.utils.scope.state import ScopeState

from app.config import Settings, read_settings
from app.database import key_check as signing
from app.database.pool import Pool, api_pool, redacted
from app.database.server_version import Unsafe
from app.errors import BY_STATUS, ApiError, Invalid, Unavailable, from_database
from app.http.concurrency import Turns
from app.http.middleware import Entrance, Front, furnish, provide_db, provide_door
from app.http.openapi import docs as reference
from app.http.schemas import failure, problems, struct_in
from app.http.spool import Disk
from app.operations import migrate as schema

log = logging.getLogger("claims.api")

MAX_BODY = 1_000_000
"""Bytes."""
RESOURCES = (
    "health",
    "auth",
    "claims",
    "patients",
    "providers",
    "users",
    "invitations",
    "organizations",
    "diagnosis_codes",
    "patient_status_events",
    "job_processing_logs",
    "audit_logs",
)
"""Each is a module of this package with its `handlers`, a line here, and one word in every folder."""


def _from_http(error: HTTPException, request: Request[Any, Any, Any]) -> ApiError:
    """Litestar's own errors in this API's words; a body's fields all at once."""
    kind = BY_STATUS.get(error.status_code, ApiError if error.status_code >= 500 else Invalid)
    if kind is not Invalid:
        return kind(headers=error.headers)
    if "route_handler" not in request.scope:
        return Invalid.fields(Host="Is malformed")  # all that is looked at before the path is
    fields: dict[str, list[str]] = {}
    for one in error.extra if isinstance(error.extra, list) else []:
        if isinstance(one, dict) and one.get("source") == "path":
            fields.setdefault(_wire_name(request, one["key"]), []).append(one["message"])
    shape = request.route_handler.parsed_fn_signature.parameters.get("data")
    if shape is not None:
        body = ScopeState.from_scope(request.scope).json
        fields |= {} if body is Empty else problems(struct_in(shape.annotation), body)
    return Invalid({"fields": fields or {"body": ["Is not well-formed JSON"]}})


def _wire_name(request: Request[Any, Any, Any], argument: str) -> str:
    """What the path calls the handler's argument."""
    definition = request.route_handler.parsed_fn_signature.parameters[argument].kwarg_definition
    return getattr(definition, "name", None) or argument


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The contract's envelope for anything that went wrong; what is not the client's fault is logged with the request id."""
    headers = request.scope["state"]["answer_headers"]
    name = headers["X-Request-Id"]
    match error:
        case ApiError():
            answer = error
        case HTTPException():
            answer = _from_http(error, request)
        case RecursionError() | UnicodeDecodeError() if ScopeState.from_scope(request.scope).json is Empty:
            # Of a body that could not be decoded, and that Litestar lets through.
            deep = isinstance(error, RecursionError)
            answer = Invalid.fields(body="Is nested too deeply" if deep else "Is not well-formed JSON")
        case psycopg.Error():
            answer = from_database(error)
            if answer.status >= 500:
                log.error("request %s: %s", name, redacted(error))
        case _:
            answer = ApiError()
            log.error("request %s: %s", name, type(error).__name__, exc_info=_frames_only(error))
    # In place: what goes out is updated from the same dict, and what the error says of a limit holds for its answer.
    headers |= answer.headers
    return Response(
        failure(answer, name),
        status_code=answer.status,
        headers=headers,
        media_type="application/json",
        background=answer.afterwards,
    )


def _frames_only(error: Exception) -> tuple[type[Exception], Exception, Any]:
    """The traceback without the message, which may hold values of a row."""
    return Exception, Exception(type(error).__name__), error.__traceback__


@asynccontextmanager
async def _life(settings: Settings, app: Litestar) -> AsyncIterator[None]:
    pool = api_pool(settings)
    try:
        with _said_in_one_line(pool):
            await pool.open()
            furnish(app.state, settings, pool)
            app.state.disk = Disk(settings.import_disk)
            await schema.refuse_unsafe(pool.fetch)
            await signing.refuse_unknown_key(pool.fetch, app.state.signer)
        yield
    finally:
        await pool.close()


@contextmanager
def _said_in_one_line(pool: Pool) -> Iterator[None]:
    """Logs why the process can't start. uvicorn would add a traceback, so its log ends here."""
    try:
        yield
    except (Unsafe, Unavailable) as error:
        log.critical("the API can't start: %s", f"the database {pool.trouble}" if pool.trouble else error)
        logging.getLogger("uvicorn.error").disabled = True
        raise


def create_app(settings: Settings | None = None) -> Litestar:
    """The application; without settings they are read from the environment."""
    settings = settings or read_settings(need=("api_database_url", "token_keys"))
    app = Litestar(
        route_handlers=[
            *(handler for name in RESOURCES for handler in import_module(f"app.resources.{name}").handlers),
            *reference.handlers,
        ],
        dependencies={"db": Provide(provide_db), "door": Provide(provide_door)},
        middleware=[Entrance(settings.token_keys), Turns()],
        exception_handlers={Exception: answer_error},
        lifespan=[partial(_life, settings)],
        request_max_body_size=MAX_BODY,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )
    app.asgi_handler = Front(app.asgi_handler, settings.trusted_proxies)  # a middleware would miss unknown paths
    return app
