"""Every error a client can see. A class's docstring is its message; status and code stand beside it."""

from typing import Any, ClassVar

import msgspec
import psycopg


class ApiError(Exception):
    """Something went wrong on our side."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    always: ClassVar[dict[str, str]] = {}

    def __init__(
        self, details: dict[str, Any] | None = None, *, headers: dict[str, str] | None = None, afterwards: Any = None
    ) -> None:
        """afterwards: a background task, run once the answer is out, so that nobody can tell by the time what it does."""
        super().__init__(type(self).__doc__)
        self.details = details
        self.headers = self.always | (headers or {})
        self.afterwards = afterwards

    @classmethod
    def fields(cls, **problems: str) -> "ApiError":
        """One problem a field, by its wire name."""
        return cls({"fields": {name: [problem] for name, problem in problems.items()}})


class Invalid(ApiError):
    """The request does not fit; details name each field."""

    status, code = 400, "VALIDATION_ERROR"


class Unauthorized(ApiError):
    """Log in first."""

    status, code = 401, "UNAUTHORIZED"
    always: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    """Your role may not do this."""

    status, code = 403, "FORBIDDEN"


class NotFound(ApiError):
    """There is no such record, or you may not see it."""

    status, code = 404, "NOT_FOUND"


class MethodNotAllowed(ApiError):
    """This path does not take this method."""

    status, code = 405, "METHOD_NOT_ALLOWED"


class RequestTimeout(ApiError):
    """The request came too slowly."""

    status, code = 408, "REQUEST_TIMEOUT"


class Conflict(ApiError):
    """The record is not in a state that allows this, or the value is taken."""

    status, code = 409, "CONFLICT"


class PreconditionFailed(ApiError):
    """The record has changed since the version that If-Match names."""

    status, code = 412, "PRECONDITION_FAILED"


class PayloadTooLarge(ApiError):
    """The body is too large."""

    status, code = 413, "PAYLOAD_TOO_LARGE"


class UnsupportedMediaType(ApiError):
    """The body is of another type than this path takes."""

    status, code = 415, "UNSUPPORTED_MEDIA_TYPE"


class IdempotencyMismatch(ApiError):
    """This idempotency key was used with another content."""

    status, code = 422, "IDEMPOTENCY_MISMATCH"


class HeadersTooLarge(ApiError):
    """The head of the request is too large."""

    status, code = 431, "HEADERS_TOO_LARGE"


class RateLimited(ApiError):
    """Too many requests; try again later."""

    status, code = 429, "RATE_LIMITED"


class Unavailable(ApiError):
    """The database can't be reached right now."""

    status, code = 503, "UNAVAILABLE"
    always: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class NoConnection(Unavailable):
    """The database takes no more connections."""


class DiskFull(Unavailable):
    """The database has no space left on its disk."""


BY_STATUS = {
    error.status: error
    for error in (Invalid, Unauthorized, Forbidden, NotFound, MethodNotAllowed, PayloadTooLarge, UnsupportedMediaType)
}

OF_CONSTRAINT = {
    "claims_claim_number_key": ("claimNumber", "Is taken"),
    "providers_npi_key": ("npi", "Is taken"),
    "providers_npi_check": ("npi", "Has a wrong check digit"),
    "patients_member_number_key": ("memberNumber", "Is taken"),
    "patients_date_of_birth_check": ("dateOfBirth", "Is out of range"),
    "claims_amount_check": ("amount", "Is out of range"),
    "claims_approved_amount_check": ("approvedAmount", "Is out of range"),
    "organizations_slug_key": ("slug", "Is taken"),
    "users_email_key": ("email", "Is taken"),
    "users_provider_check": ("providerId", "Goes with the role provider, and only with it"),
    "users_patient_check": ("patientId", "Goes with the role patient, and only with it"),
    "users_organization_id_provider_id_fkey": ("providerId", "Names no provider"),
    "users_organization_id_patient_id_fkey": ("patientId", "Names no patient"),
    "invitations_provider_check": ("providerId", "Goes with the role provider, and only with it"),
    "invitations_patient_check": ("patientId", "Goes with the role patient, and only with it"),
    "invitations_organization_id_provider_id_fkey": ("providerId", "Names no provider"),
    "invitations_organization_id_patient_id_fkey": ("patientId", "Names no patient"),
}
"""Constraint names are public: clients see which field they mean, by its wire name, and what is wrong with it."""


SIGNATURE_PROBLEMS = {
    "28000": "the database refused what this process signed: it has another secret, or none, under that name of TOKEN_KEYS",
    "CLOCK": "the database refused the time of what this process signed: compare the clocks of both machines",
}
"""Explanations for the log, by SQLSTATE."""


def from_database(error: Exception) -> ApiError:
    """The answer to a database error: by SQLSTATE only, never with the server's words.

    INVAL, CLASH, TRANS and QUOTA are raised by sql/functions; their detail is JSON made for the client. ENDED: the caller may not come in.
    28000 and CLOCK refuse what this process signs, which is no fault of the client (REFUSED).
    """
    state = getattr(error, "sqlstate", None)
    diag = error.diag if isinstance(error, psycopg.Error) else None
    detail = diag.message_detail if diag else None
    broken = OF_CONSTRAINT.get(diag.constraint_name or "") if diag else None
    fields = {"fields": {broken[0]: [broken[1]]}} if broken else None
    match state:
        case "INVAL":
            return Invalid({"fields": msgspec.json.decode(detail or "{}")})
        case "TRANS":
            return Conflict(msgspec.json.decode(detail or "{}"))
        case "CLASH":
            return Conflict({"fields": msgspec.json.decode(detail or "{}")})
        case "QUOTA":
            problem = {"Idempotency-Key": ["More answers are kept than fit"]}
            return RateLimited(
                {"fields": problem}, headers={"Retry-After": str(msgspec.json.decode(detail or "{}")["retryAfter"])}
            )
        case "ENDED":
            return Unauthorized()
        case "53100":
            return DiskFull()
        case "28000" | "CLOCK":
            return Unavailable()
        case "42501":
            return Forbidden()
        case "23505":
            return Conflict(fields)
        case "23514" | "23503" if fields:
            return Invalid(fields)
        case None:
            # No SQLSTATE: the driver's own error. A value that it could not send is the client's fault.
            if isinstance(error, psycopg.DataError):
                return Invalid()
            return Unavailable() if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else ApiError()
    return Unavailable() if isinstance(error, psycopg.OperationalError) else ApiError()


def redacted(error: psycopg.Error) -> str:
    """A database error for the log: its class and SQLSTATE. Messages hold values of rows, so they stay out."""
    words = f"{type(error).__name__} {error.sqlstate or ''}".strip()
    return f"{words}: {SIGNATURE_PROBLEMS[error.sqlstate]}" if error.sqlstate in SIGNATURE_PROBLEMS else words
