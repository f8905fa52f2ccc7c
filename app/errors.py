"""Every error a client can see. A class's docstring is its message; status and code stand beside it."""

from typing import Any, ClassVar

import msgspec
import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests


class ApiError(Exception):
    """Something went wrong on our side."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, details: dict[str, Any] | None = None) -> None:
        super().__init__(type(self).__doc__)
        self.details = details


class Invalid(ApiError):
    """The request does not fit; details name each field."""

    status, code = 400, "VALIDATION_ERROR"

    @classmethod
    def fields(cls, **problems: str) -> "Invalid":
        """One problem a field, by its wire name."""
        return cls({"fields": {name: [problem] for name, problem in problems.items()}})


class Unauthorized(ApiError):
    """Log in first."""

    status, code = 401, "UNAUTHORIZED"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    """Your role may not do this."""

    status, code = 403, "FORBIDDEN"


class NotFound(ApiError):
    """There is no such record, or you may not see it."""

    status, code = 404, "NOT_FOUND"


class MethodNotAllowed(ApiError):
    """This path does not take this method."""

    status, code = 405, "METHOD_NOT_ALLOWED"


class Conflict(ApiError):
    """The record is not in a state that allows this, or the value is taken."""

    status, code = 409, "CONFLICT"


class PayloadTooLarge(ApiError):
    """The body is too large."""

    status, code = 413, "PAYLOAD_TOO_LARGE"


class UnsupportedMediaType(ApiError):
    """Send application/json."""

    status, code = 415, "UNSUPPORTED_MEDIA_TYPE"


class IdempotencyMismatch(ApiError):
    """This idempotency key was used with another content."""

    status, code = 422, "IDEMPOTENCY_MISMATCH"


class Unavailable(ApiError):
    """The database can't be reached right now."""

    status, code = 503, "UNAVAILABLE"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


BY_STATUS = {
    error.status: error
    for error in (Invalid, Unauthorized, Forbidden, NotFound, MethodNotAllowed, PayloadTooLarge, UnsupportedMediaType)
}

FIELD_OF_CONSTRAINT = {
    "claims_claim_number_key": "claimNumber",
    "providers_npi_key": "npi",
    "providers_npi_check": "npi",
    "patients_member_number_key": "memberNumber",
    "patients_date_of_birth_check": "dateOfBirth",
    "claims_amount_check": "amount",
    "claims_approved_amount_check": "approvedAmount",
}
"""Constraint names are public: clients see which field they mean, by its wire name."""


def from_database(error: Exception) -> ApiError:
    """The answer to a database error: by SQLSTATE only, never with the server's words.

    INVAL, TRANS and DECID are raised by sql/functions/claims.sql; their detail is JSON made for the client.
    """
    if isinstance(error, PoolTimeout | TooManyRequests):
        return Unavailable()
    state = getattr(error, "sqlstate", None)
    diag = error.diag if isinstance(error, psycopg.Error) else None
    detail = diag.message_detail if diag else None
    field = FIELD_OF_CONSTRAINT.get(diag.constraint_name or "") if diag else None
    match state:
        case "INVAL":
            return Invalid({"fields": msgspec.json.decode(detail or "{}")})
        case "TRANS":
            return Conflict(msgspec.json.decode(detail or "{}"))
        case "DECID":
            return Conflict({"fields": {"notes": ["Can't be changed once a claim is decided"]}})
        case "28000":
            return Unauthorized()
        case "42501":
            return Forbidden()
        case "23505":
            return Conflict({"fields": {field: ["Is taken"]}} if field else None)
        case "23514" if field:
            return Invalid({"fields": {field: ["Is out of range"]}})
        case None:
            # No SQLSTATE: the driver's own error. A value that it could not send is the client's fault.
            if isinstance(error, psycopg.DataError):
                return Invalid()
            return Unavailable() if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else ApiError()
    return Unavailable() if isinstance(error, psycopg.OperationalError) else ApiError()
