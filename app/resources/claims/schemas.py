"""Request bodies, query strings and responses of claims."""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.database.statements import Statement
from app.errors import Invalid
from app.http.envelope import ErrorDetails
from app.http.schemas import (
    NOT_BLANK,
    WHITE_SPACE,
    Instant,
    Money,
    MoneyOrZero,
    Notes,
    Number,
    QueryParams,
    RequestBody,
    ResponseBody,
    ResponseWarning,
    SentInstant,
    Sum,
    Text,
    comma_separated,
    regex_string,
    to_cents,
)
from app.vocabulary import CLAIM_STATUSES, ActingRole, ClaimStatus

WORKER = "^(me|none|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$"
SORTS = {"createdAt": "created_at", "serviceDate": "service_date", "amount": "amount_cents"}
DiagnosisCode = Annotated[
    str,
    regex_string(
        r"^[A-Za-z][0-9A-Za-z]{2}\.?[0-9A-Za-z]{0,4}$",
        description="An ICD-10-CM code, with or without the dot.",
        examples=["E11.9"],
    ),
]
DenialCode = Annotated[str, Meta(min_length=1, max_length=20, pattern=NOT_BLANK, examples=["CO-50"])]


class NewClaim(RequestBody):
    """A new claim. amount is in major units. A draft is checked when it is submitted."""

    patient_id: UUID
    provider_id: UUID
    diagnosis_code: DiagnosisCode
    amount: Money
    service_date: date
    notes: Notes | None = None
    claim_number: Number | None = None
    draft: bool = False

    def columns(self) -> dict[str, Any]:
        """The claim as columns of the table, for a create and for an import line. Without a claim number the column's default is used."""
        columns = self.sent_fields()
        columns["amount_cents"] = to_cents(columns.pop("amount"))
        columns["status"] = "draft" if columns.pop("draft") else "submitted"
        if columns["claim_number"] is None:
            del columns["claim_number"]
        return columns


BELONGS_TO = {"approvedAmount": "approved", "denialReason": "rejected", "denialCode": "rejected"}
"""The status to which each of these fields belongs. With another one it would have no effect, so it is refused."""


def _misplaced(status: str, given: dict[str, Any]) -> dict[str, str]:
    """The problems of fields that were sent with a status to which they do not belong."""
    return {
        name: f"Is allowed only with the status {BELONGS_TO[name]}"
        for name, value in given.items()
        if value is not None and BELONGS_TO[name] != status
    }


class ClaimChange(RequestBody):
    """A change of the status, the notes or both. The other fields belong to the change of status.

    rejected requires a denialReason. pending_info, appealed and reversed require a reason, as do moving back from approved to
    under_review and voiding an approved claim. approvedAmount belongs to approved; without it the whole amount is approved.
    """

    status: ClaimStatus | UnsetType = UNSET
    reason: Text | None = None
    denial_reason: Text | None = None
    denial_code: DenialCode | None = None
    approved_amount: MoneyOrZero | None = None
    notes: Notes | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {
            "approvedAmount": self.approved_amount,
            "denialReason": self.denial_reason,
            "denialCode": self.denial_code,
        }
        if self.status is UNSET:
            if any(value is not None for value in (self.reason, *given.values())):
                raise Invalid.fields(status="Is required with reason, denialReason, denialCode or approvedAmount")
        elif problems := _misplaced(self.status, given):
            raise Invalid.fields(**problems)


class BulkMove(RequestBody):
    """A change of the status of several claims. Each claim is changed independently; repeated ids count once.

    denialReason belongs to rejected.
    """

    claim_ids: Annotated[list[UUID], Meta(min_length=1, max_length=1000)]
    status: ClaimStatus
    reason: Text | None = None
    denial_reason: Text | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if problems := _misplaced(self.status, {"denialReason": self.denial_reason}):
            raise Invalid.fields(**problems)


class Assignment(RequestBody):
    """The claims processor to whom the claim is assigned; null unassigns it."""

    user_id: UUID | None


class ClaimFilter(QueryParams, frozen=True):
    """Filters of claims. Amounts are in major units; bounds are inclusive."""

    status: Annotated[str, comma_separated(CLAIM_STATUSES)] | None = None
    patient_id: UUID | None = None
    provider_id: UUID | None = None
    assigned_to: Annotated[str, regex_string(WORKER, description="me, none (unassigned), or a user's id.")] | None = (
        None
    )
    service_date_from: date | None = None
    service_date_to: date | None = None
    amount_min: MoneyOrZero | None = None
    amount_max: MoneyOrZero | None = None
    diagnosis_code: DiagnosisCode | None = None
    created_from: SentInstant | None = None
    created_to: SentInstant | None = None
    claim_number: Annotated[Number, Meta(description="The beginning of the claim number.")] | None = None
    sort: Literal["createdAt", "-createdAt", "serviceDate", "-serviceDate", "amount", "-amount"] = "-createdAt"

    def order(self, query: Statement) -> Statement:
        """The statement for the requested order."""
        sign, name = self.sort[: self.sort.startswith("-")], self.sort.lstrip("-")
        return query.sorted[sign + SORTS[name]]

    def params(self) -> dict[str, Any]:
        """The filters as parameters of the statement."""
        statuses = self.status.split(",") if self.status else None
        one = statuses[0] if statuses and len(statuses) == 1 else None
        return {
            "status": one,
            "statuses": None if one else statuses,
            "patient_id": self.patient_id,
            "provider_id": self.provider_id,
            "unassigned": self.assigned_to == "none" or None,
            "mine": self.assigned_to == "me" or None,
            "assigned_to": None if self.assigned_to in ("me", "none") else self.assigned_to,
            "service_date_from": self.service_date_from,
            "service_date_to": self.service_date_to,
            "amount_min": to_cents(self.amount_min, "amountMin"),
            "amount_max": to_cents(self.amount_max, "amountMax"),
            "diagnosis_code": self.diagnosis_code,
            "created_from": self.created_from,
            "created_to": self.created_to,
            "claim_number": self.claim_number.lstrip(WHITE_SPACE) if self.claim_number else None,
        }


class StatsFilter(QueryParams, frozen=True):
    """Filters of statistics: the range of service dates."""

    service_date_from: date | None = None
    service_date_to: date | None = None


class Claim(ResponseBody):
    """A claim, without its history."""

    id: UUID
    claim_number: Number
    patient_id: UUID
    provider_id: UUID
    diagnosis_code: DiagnosisCode
    amount: Sum
    approved_amount: Sum | None
    service_date: date
    status: ClaimStatus
    notes: Notes | None
    denial_reason: Text | None
    denial_code: DenialCode | None
    assigned_to: UUID | None
    submitted_at: Instant | None
    processed_at: Instant | None
    paid_at: Instant | None
    created_at: Instant
    updated_at: Instant
    version: int


class StatusChange(
    ResponseBody, rename={"from_": "from", "by_user_id": "byUserId", "by_role": "byRole", "event_id": "eventId"}
):
    """An entry of statusHistory. The first entry has no `from`."""

    from_: ClaimStatus | None
    to: ClaimStatus
    at: Instant
    by_user_id: UUID | None
    by_role: ActingRole
    reason: Text | None
    source: Literal["api", "bulk", "job", "import", "sql"]
    event_id: UUID | None


class ClaimWithHistory(Claim):
    """A claim with its status changes, oldest first."""

    status_history: list[StatusChange]


class NotMoved(ResponseBody):
    """The error of a claim that a bulk update left unchanged."""

    id: UUID
    code: str
    message: str


class BulkResult(ResponseBody):
    """The ids of the updated claims, and the errors of the others."""

    updated: list[UUID]
    failed: list[NotMoved]


class ClaimTotal(ResponseBody):
    """Number of claims, and the sum of their amounts."""

    count: int
    amount: Sum


ByStatus = msgspec.defstruct(
    "ByStatus",
    [(status, ClaimTotal) for status in CLAIM_STATUSES],
    bases=(ResponseBody,),
    rename={status: status for status in CLAIM_STATUSES},
)
"""Number and sum for every status, zeros included."""


class Stats(ResponseBody):
    """Statistics of claims. approvalRate is the share of approved claims among decided ones, from 0 to 1.

    averageProcessingHours is the time from submission to the first decision.
    """

    by_status: ByStatus  # type: ignore[valid-type]
    total: ClaimTotal
    approval_rate: Annotated[float, Meta(ge=0, le=1)] | None
    average_processing_hours: Annotated[float, Meta(ge=0)] | None


class LineError(ResponseBody):
    """The error of a line, as in other responses. `fields` is the same as `details.fields`, or empty."""

    code: str
    message: str
    fields: dict[str, list[str]]
    details: ErrorDetails | UnsetType = UNSET


class LineResult(ResponseBody):
    """The result of one line of an import. `line` is its number in the body, in which blank lines count."""

    line: int
    result: Literal["created", "duplicate", "failed"]
    id: UUID | None
    error: LineError | None
    warnings: list[ResponseWarning] | UnsetType = UNSET
