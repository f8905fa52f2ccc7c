"""Error responses: the contract's envelope for every exception."""

import logging
from typing import Any

import psycopg
from litestar import Request, Response
from litestar.exceptions import HTTPException

from app.errors import BY_STATUS, ApiError, Invalid, from_database, redacted
from app.http.envelope import error_envelope

log = logging.getLogger("claims.api")


def handle_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The response to an exception. Errors of the server are logged with the request id."""
    headers = request.scope["state"]["answer_headers"]
    request_id = headers["X-Request-Id"]
    match error:
        case ApiError():
            answer = error
        case HTTPException():
            answer = _from_http(error, request)
        case psycopg.Error():
            answer = from_database(error)
            if answer.status >= 500:
                log.error("request %s: %s", request_id, redacted(error))
        case _:
            answer = ApiError()
            log.error("request %s: %s", request_id, type(error).__name__, exc_info=_frames_only(error))
    # In place, because OuterMiddleware writes this dict into the response. An error's rate limit headers replace the general ones.
    headers |= answer.headers
    return Response(
        error_envelope(answer, request_id),
        status_code=answer.status,
        headers=headers,
        media_type="application/json",
        background=answer.afterwards,
    )


def _from_http(error: HTTPException, request: Request[Any, Any, Any]) -> ApiError:
    """Litestar's error as one of the API's."""
    kind = BY_STATUS.get(error.status_code, ApiError if error.status_code >= 500 else Invalid)
    if kind is not Invalid:
        return kind(headers=error.headers)
    if "route_handler" not in request.scope:
        return Invalid.fields(Host="Is malformed")  # the only header that is read before the path
    fields: dict[str, list[str]] = {}
    for one in error.extra if isinstance(error.extra, list) else []:
        if isinstance(one, dict) and one.get("source") == "path":
            fields.setdefault(_path_name(request, one["key"]), []).append(one["message"])
    return Invalid({"fields": fields or {"body": ["Is not well-formed JSON"]}})


def _path_name(request: Request[Any, Any, Any], argument: str) -> str:
    """The name in the path of a handler's argument."""
    definition = request.route_handler.parsed_fn_signature.parameters[argument].kwarg_definition
    return getattr(definition, "name", None) or argument


def _frames_only(error: Exception) -> tuple[type[Exception], Exception, Any]:
    """The traceback without the message, which may hold values of a row."""
    return Exception, Exception(type(error).__name__), error.__traceback__
