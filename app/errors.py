"""Errors that a client can receive. A class's docstring is the message; its attributes are the status and the code."""

from typing import Any, ClassVar

import msgspec
import psycopg


class ApiError(Exception):
    """Something went wrong on our side."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    always: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        details: dict[str, Any] | None = None,
        *,
        message: str | None = None,
        headers: dict[str, str] | None = None,
        afterwards: Any = None,
    ) -> None:
        """message: names the cause, if the class alone does not.

        afterwards: a background task, run after the response is sent, so that the response time does not reveal its work.
        """
        super().__init__(message or type(self).__doc__)
        self.details = details
        self.headers = self.always | (headers or {})
        self.afterwards = afterwards

    @classmethod
    def fields(cls, **problems: str) -> "ApiError":
        """One problem for each field, by the field's name in the API."""
        return cls({"fields": {name: [problem] for name, problem in problems.items()}})


class Invalid(ApiError):
    """The request is invalid. See details.fields."""

    status, code = 400, "VALIDATION_ERROR"


class Unauthorized(ApiError):
    """The credentials are missing, wrong or expired. Log in, and send the access token."""

    status, code = 401, "UNAUTHORIZED"
    always: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    """Your role may not do this. The API reference names the roles that may."""

    status, code = 403, "FORBIDDEN"


class RegistrationClosed(Forbidden):
    """New organizations can't be registered here. To join one, register with an invitation."""


class NotFound(ApiError):
    """There is no such record, or you may not see it."""

    status, code = 404, "NOT_FOUND"


class UnknownPath(NotFound):
    """There is no such path. Paths are case-sensitive; /docs lists them."""


class MethodNotAllowed(ApiError):
    """This path does not accept this method. See details.allowed."""

    status, code = 405, "METHOD_NOT_ALLOWED"


class RequestTimeout(ApiError):
    """The request was not received within the time limit."""

    status, code = 408, "REQUEST_TIMEOUT"


class Conflict(ApiError):
    """The record is not in a state that allows this, or the value is taken."""

    status, code = 409, "CONFLICT"

    @classmethod
    def of(cls, problems: dict[str, list[str]]) -> "Conflict":
        """A conflict whose message names the cause, as app.conflict_message of SQL does."""
        message = " ".join(f"{name}: {texts[0]}." for name, texts in problems.items())
        return cls({"fields": problems}, message=message or None)


class PreconditionFailed(ApiError):
    """The record has changed since the version that If-Match names."""

    status, code = 412, "PRECONDITION_FAILED"


class PayloadTooLarge(ApiError):
    """The body is larger than this path accepts. See details.fields."""

    status, code = 413, "PAYLOAD_TOO_LARGE"


class TooManyLines(PayloadTooLarge):
    """The import has more lines than are accepted. See details.fields."""


class LineTooLong(PayloadTooLarge):
    """The line is longer than an import accepts. See details.fields."""


class UnsupportedMediaType(ApiError):
    """The body has a Content-Type or a Content-Encoding that this path does not accept. See details.fields."""

    status, code = 415, "UNSUPPORTED_MEDIA_TYPE"

    @classmethod
    def of(cls, header: str, problem: str, accepted: dict[str, str]) -> "UnsupportedMediaType":
        """accepted: the response header with what would be accepted (RFC 9110, 15.5.16)."""
        message = f"The {header} of the body is not accepted here. See details.fields."
        return cls({"fields": {header: [problem]}}, message=message, headers=accepted)


class IdempotencyMismatch(ApiError):
    """This idempotency key was already used for a different request."""

    status, code = 422, "IDEMPOTENCY_MISMATCH"


class HeadersTooLarge(ApiError):
    """The head of the request has more than 64 KiB."""

    status, code = 431, "HEADERS_TOO_LARGE"


class TooManyHeaderFields(HeadersTooLarge):
    """The head of the request has more than 100 fields."""


class RateLimited(ApiError):
    """Too many requests. Try again after the seconds in Retry-After."""

    status, code = 429, "RATE_LIMITED"


class UserRateLimited(RateLimited):
    """This user has sent too many requests in a minute. Try again after the seconds in Retry-After."""


class AddressRateLimited(RateLimited):
    """This address has sent too many requests in a minute. Try again after the seconds in Retry-After."""


class TooManyLoginAttempts(RateLimited):
    """There were too many login attempts. Try again after the seconds in Retry-After."""


class TooManyLogins(RateLimited):
    """Too many logins and registrations of this address wait. Send fewer at once."""


class TooManyAtOnce(RateLimited):
    """Too many of your requests run or wait. Send fewer at once."""


class TooManyStreams(RateLimited):
    """Too many of your imports and exports run or wait. Send fewer at once."""


class ImportSpaceUsed(RateLimited):
    """Your unfinished imports use all the space that one user may use. Try again when one has ended."""


class TooManyStoredResponses(RateLimited):
    """The responses stored for idempotency keys use all the space of your organization. See details.fields."""


class Unavailable(ApiError):
    """The database can't be reached right now."""

    status, code = 503, "UNAVAILABLE"
    always: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class NoConnection(Unavailable):
    """The database takes no more connections."""


class DiskFull(Unavailable):
    """The database has no space left on its disk."""


class TooSlow(Unavailable):
    """The database took too long to respond, so the request was cancelled."""


class RecordInUse(Unavailable):
    """Another request is changing the same record. Try again."""


class NotTrusted(Unavailable):
    """The database rejects this server. Its operator finds the reason in the server's log."""


class Overloaded(Unavailable):
    """The server is busy. Try again."""


class LoginsOverloaded(Overloaded):
    """Too many logins and registrations wait. Try again."""


class OrganizationBusy(Overloaded):
    """Too many requests of your organization run at once. Try again."""


class ImportDiskFull(Overloaded):
    """The server has no space for more imports. Try again when one has ended."""


BY_STATUS = {
    error.status: error
    for error in (
        Invalid,
        Unauthorized,
        Forbidden,
        UnknownPath,
        MethodNotAllowed,
        PayloadTooLarge,
        UnsupportedMediaType,
    )
}

OF_CONSTRAINT = {
    "claims_claim_number_key": ("claimNumber", "Is taken"),
    "providers_npi_key": ("npi", "Is taken"),
    "providers_npi_check": ("npi", "Has a wrong check digit"),
    "patients_member_number_key": ("memberNumber", "Is taken"),
    "patients_date_of_birth_check": ("dateOfBirth", "Must be between 1875-01-01 and today"),
    "claims_amount_check": ("amount", "Must be between 0.01 and 1000000"),
    "claims_approved_amount_check": ("approvedAmount", "Must be between 0 and the claim's amount"),
    "organizations_slug_key": ("slug", "Is taken"),
    "users_email_key": ("email", "Is taken"),
    "users_provider_check": ("providerId", "Is required for the role provider, and allowed for no other"),
    "users_patient_check": ("patientId", "Is required for the role patient, and allowed for no other"),
    "users_organization_id_provider_id_fkey": ("providerId", "No such provider"),
    "users_organization_id_patient_id_fkey": ("patientId", "No such patient"),
    "invitations_provider_check": ("providerId", "Is required for the role provider, and allowed for no other"),
    "invitations_patient_check": ("patientId", "Is required for the role patient, and allowed for no other"),
    "invitations_organization_id_provider_id_fkey": ("providerId", "No such provider"),
    "invitations_organization_id_patient_id_fkey": ("patientId", "No such patient"),
}
"""The field, by its name in the API, and its problem, by the name of the violated constraint. Clients receive both."""


OWN_RECORDS = "You may create records only for your own provider."
"""Only providers are restricted to a part of the records that their role may create."""

SIGNATURE_PROBLEMS = {
    "28000": "the database rejected this process's signature: it has another secret, or none, under that name of TOKEN_KEYS",
    "CLOCK": "the database rejected the time of this process's signature: compare the clocks of both machines",
}
"""Explanations for the log, by SQLSTATE."""


def from_database(error: Exception) -> ApiError:
    """The response to a database error, chosen by its SQLSTATE. It never contains the server's message.

    Functions of this schema raise INVAL, CLASH, TRANS and QUOTA; their detail is JSON for the client. ENDED means that the user is
    unknown or inactive, or that the session has ended. With 28000 and CLOCK, the database rejects this process's signature
    (SIGNATURE_PROBLEMS). The client is not at fault then.
    """
    state = getattr(error, "sqlstate", None)
    diag = error.diag if isinstance(error, psycopg.Error) else None
    detail = diag.message_detail if diag else None
    violated = OF_CONSTRAINT.get(diag.constraint_name or "") if diag else None
    fields = {"fields": {violated[0]: [violated[1]]}} if violated else None
    match state:
        case "INVAL":
            return Invalid({"fields": msgspec.json.decode(detail or "{}")})
        case "TRANS":
            return _illegal_transition(msgspec.json.decode(detail or "{}"))
        case "CLASH":
            return Conflict.of(msgspec.json.decode(detail or "{}"))
        case "QUOTA":
            problem = {"Idempotency-Key": ["Too many responses are stored"]}
            return TooManyStoredResponses(
                {"fields": problem}, headers={"Retry-After": str(msgspec.json.decode(detail or "{}")["retryAfter"])}
            )
        case "ENDED":
            return Unauthorized()
        case "53100":
            return DiskFull()
        case "53300":
            return NoConnection()
        case "57014":
            return TooSlow()
        case "55P03" | "40P01" | "40001":  # a lock timeout, a deadlock, a serialization failure
            return RecordInUse()
        case "28000" | "CLOCK":
            return NotTrusted()
        case "42501":
            if (
                diag and diag.source_function == "ExecWithCheckOptions"
            ):  # a policy has refused the new row, not the role
                return Forbidden(message=OWN_RECORDS)
            # PostgreSQL's own errors of this kind have no detail; app.raise_forbidden names what keeps the caller.
            return Forbidden(
                message=msgspec.json.decode(detail).get("message") if detail and detail.startswith("{") else None
            )
        case "23505":
            return Conflict.of(fields["fields"]) if fields else Conflict()
        case "23514" | "23503" if fields:
            return Invalid(fields)
        case None:
            # The driver's own error. A value that it cannot send is the client's fault.
            if isinstance(error, psycopg.DataError):
                return Invalid.fields(request="Contains a value that can't be stored")
            return Unavailable() if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else ApiError()
    return Unavailable() if isinstance(error, psycopg.OperationalError) else ApiError()


def _illegal_transition(details: dict[str, Any]) -> Conflict:
    """The conflict of a status change, with the cause as its message."""
    moved = f"A claim that is {details.get('from') or 'new'} can't become {details.get('to')}."
    return Conflict(details, message=details.pop("message", moved))


def redacted(error: psycopg.Error) -> str:
    """A database error for the log: its class and SQLSTATE. The message is left out, because it can contain values of rows."""
    text = f"{type(error).__name__} {error.sqlstate or ''}".strip()
    return f"{text}: {SIGNATURE_PROBLEMS[error.sqlstate]}" if error.sqlstate in SIGNATURE_PROBLEMS else text
