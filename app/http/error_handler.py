"""Error responses: every exception becomes an error envelope."""

import logging
from typing import Any

import psycopg
from litestar import Request, Response
from litestar.exceptions import HTTPException

from app.errors import BY_STATUS, ApiError, Invalid, MethodNotAllowed, PayloadTooLarge, from_database, redacted
from app.http.envelope import error_envelope
from app.http.middleware import allowed_methods

log = logging.getLogger("claims.api")


def handle_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Creates the response to an exception. Logs server errors with the request id."""
    headers = request.scope["state"]["answer_headers"]
    request_id = headers["X-Request-Id"]
    match error:
        case ApiError():
            api_error = error
        case HTTPException():
            api_error = _from_http(error, request)
        case psycopg.Error():
            api_error = from_database(error)
            if api_error.status >= 500:
                log.error("request %s: %s", request_id, redacted(error))
        case _:
            api_error = ApiError()
            log.error("request %s: %s", request_id, type(error).__name__, exc_info=_frames_only(error))
    # In place, because OuterMiddleware writes this dict into the response. The error's rate limit headers replace the general ones.
    headers |= api_error.headers
    return Response(
        error_envelope(api_error, request_id),
        status_code=api_error.status,
        headers=headers,
        media_type="application/json",
        background=api_error.afterwards,
    )


def _from_http(error: HTTPException, request: Request[Any, Any, Any]) -> ApiError:
    """Converts Litestar's error to one of the API's."""
    kind = BY_STATUS.get(error.status_code, ApiError if error.status_code >= 500 else Invalid)
    if kind is MethodNotAllowed:
        allowed = allowed_methods((error.headers or {}).get("allow", "").split(", "))
        return MethodNotAllowed({"allowed": allowed}, headers={"Allow": ", ".join(allowed)})
    if kind is PayloadTooLarge:
        most = request.route_handler.resolve_request_max_body_size()
        return PayloadTooLarge({"fields": {"body": [f"Must have at most {most} bytes"]}})
    if kind is not Invalid:
        return kind(headers=error.headers)
    if "route_handler" not in request.scope:
        return Invalid.fields(Host="Is malformed")  # the only header that Litestar reads before routing
    fields: dict[str, list[str]] = {}
    for detail in error.extra if isinstance(error.extra, list) else []:
        if isinstance(detail, dict) and detail.get("source") == "path":
            fields.setdefault(_path_name(request, detail["key"]), []).append(detail["message"])
    return Invalid({"fields": fields or {"body": ["Is not well-formed JSON"]}})


def _path_name(request: Request[Any, Any, Any], argument: str) -> str:
    """The path parameter's name for a handler's argument."""
    definition = request.route_handler.parsed_fn_signature.parameters[argument].kwarg_definition
    return getattr(definition, "name", None) or argument


def _frames_only(error: Exception) -> tuple[type[Exception], Exception, Any]:
    """The traceback without the message, because the message can contain values of a row."""
    return Exception, Exception(type(error).__name__), error.__traceback__
