"""The envelope of every JSON response, and its schemas."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from app.errors import ApiError
from app.http.schemas import ResponseBody, ResponseWarning

T = TypeVar("T")


class Pagination(ResponseBody, omit_defaults=True):
    """Paging of a list: {limit, nextCursor, hasMore} by cursor, {total, limit, offset} by offset.

    totalIsCapped is true if there are more than 10,000 items; total is 10,000 then.
    """

    limit: int
    next_cursor: str | msgspec.UnsetType | None = msgspec.UNSET
    has_more: bool | msgspec.UnsetType = msgspec.UNSET
    total: int | msgspec.UnsetType = msgspec.UNSET
    total_is_capped: bool | msgspec.UnsetType = msgspec.UNSET
    offset: int | msgspec.UnsetType = msgspec.UNSET


class ResponseMeta(ResponseBody):
    """Time and request id of the response; of a list also its pagination, of a new record also its warnings, if there are some."""

    timestamp: Annotated[datetime, Meta(tz=True)]
    request_id: str
    pagination: Pagination | msgspec.UnsetType = msgspec.UNSET
    warnings: list[ResponseWarning] | msgspec.UnsetType = msgspec.UNSET


class PageMeta(ResponseMeta):
    """Time and request id of the response, and the pagination of its list."""

    pagination: Pagination


class Envelope(ResponseBody, Generic[T]):
    """A successful response."""

    success: Literal[True]
    data: T
    meta: ResponseMeta


class ErrorDetails(ResponseBody, rename={"from_": "from"}):
    """fields: the problems of each invalid field. Of a refused change of status: from, to and the allowed statuses."""

    json_schema: ClassVar[dict[str, Any]] = {"additionalProperties": True}

    fields: dict[str, list[str]] | msgspec.UnsetType = msgspec.UNSET
    from_: str | msgspec.UnsetType | None = msgspec.UNSET
    to: str | msgspec.UnsetType = msgspec.UNSET
    allowed: list[str] | msgspec.UnsetType = msgspec.UNSET


class Error(ResponseBody):
    """The error: a code for programs, a message for people, and details such as the invalid fields."""

    code: str
    message: str
    details: ErrorDetails | msgspec.UnsetType = msgspec.UNSET


class ErrorEnvelope(ResponseBody):
    """The response to a request that failed."""

    success: Literal[False]
    error: Error
    meta: ResponseMeta


def _meta(request_id: str, more: dict[str, Any] | None = None) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    meta: dict[str, Any] = {"timestamp": now, "requestId": request_id}
    return msgspec.json.encode(meta | more if more else meta)


def envelope(data: bytes, request_id: str, more: dict[str, Any] | None = None) -> bytes:
    """The body of a successful response, around JSON that PostgreSQL built. more: further fields of meta."""
    return b"".join((b'{"success":true,"data":', data, b',"meta":', _meta(request_id, more), b"}"))


def error_envelope(error: ApiError, request_id: str) -> bytes:
    """The body of an error response."""
    body: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.details:
        body["details"] = error.details
    return b'{"success":false,"error":' + msgspec.json.encode(body) + b',"meta":' + _meta(request_id) + b"}"
