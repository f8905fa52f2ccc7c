"""Claims: create, list, read, change."""

from datetime import date, datetime
from typing import Annotated, Literal, get_args
from uuid import UUID

from litestar import Response, get, patch, post
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import UNSET, Meta, UnsetType

from app import sql
from app.db import Db
from app.errors import Invalid
from app.wire import Answer, Body, CursorText, Limit, Money, Offset, Page, Shape, cents

queries = sql.load("claims")

Status = Literal[
    "draft",
    "submitted",
    "under_review",
    "pending_info",
    "approved",
    "rejected",
    "paid",
    "appealed",
    "voided",
    "reversed",
]
Notes = Annotated[str, Meta(max_length=1000)]
Reason = Annotated[str, Meta(min_length=1, max_length=1000)]


class NewClaim(Body):
    """amount in major units; a draft is checked once it is submitted."""

    patient_id: UUID
    provider_id: UUID
    diagnosis_code: Annotated[str, Meta(min_length=3, max_length=8, examples=["E11.9"])]
    amount: Money
    service_date: date
    notes: Notes | None = None
    claim_number: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    draft: bool = False


class ClaimChange(Body):
    """A move to another status, or new notes, or both."""

    status: Status | UnsetType = UNSET
    reason: Reason | None = None
    denial_reason: Reason | None = None
    denial_code: Annotated[str, Meta(min_length=1, max_length=20)] | None = None
    approved_amount: Money | None = None
    notes: Notes | UnsetType | None = UNSET


class Claim(Shape):
    """A claim as it stands in lists."""

    id: UUID
    claim_number: str
    patient_id: UUID
    provider_id: UUID
    diagnosis_code: str
    amount: Money
    approved_amount: Money | None
    service_date: date
    status: Status
    notes: str | None
    denial_reason: str | None
    denial_code: str | None
    assigned_to: UUID | None
    submitted_at: datetime | None
    processed_at: datetime | None
    paid_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int


class StatusChange(
    Shape, rename={"from_": "from", "by_user_id": "byUserId", "by_role": "byRole", "event_id": "eventId"}
):
    """One entry of statusHistory; the first has no `from`."""

    from_: Status | None
    to: Status
    at: datetime
    by_user_id: UUID | None
    by_role: Literal["admin", "claims_processor", "provider", "patient", "system"]
    reason: str | None
    source: Literal["api", "bulk", "job", "import", "sql"]
    event_id: UUID | None


class ClaimWithHistory(Claim):
    """A claim and every status it had, oldest first."""

    status_history: list[StatusChange]


def _statuses(text: str | None) -> list[str] | None:
    if text is None:
        return None
    wanted = text.split(",")
    if unknown := sorted(set(wanted) - set(get_args(Status))):
        raise Invalid.fields(status=f"Knows no {unknown[0][:40]!r}")
    return wanted


@post("/api/claims")
async def create_claim(data: JSONBody[NewClaim], db: Db) -> Response[Answer[Claim]]:
    """A new claim, submitted at once unless it is a draft."""
    given = {
        "claim_number": data.claim_number,
        "patient_id": data.patient_id,
        "provider_id": data.provider_id,
        "diagnosis_code": data.diagnosis_code,
        "amount_cents": cents(data.amount),
        "service_date": data.service_date,
        "status": "draft" if data.draft else "submitted",
        "notes": data.notes,
    }
    return await db.created(queries.create, **given)


@get("/api/claims")
async def list_claims(
    db: Db,
    limit: Limit = 20,
    cursor: CursorText = None,
    offset: Offset = None,
    status: Annotated[str | None, QueryParameter(description="One status, or several by comma.")] = None,
) -> Answer[list[Claim]]:
    """What the caller may see, newest first."""
    return await db.page(queries.list_newest, queries.count, Page(limit, cursor, offset), status=_statuses(status))


@get("/api/claims/{claim_id:str}")
async def get_claim(claim_id: FromPath[UUID], db: Db) -> Answer[ClaimWithHistory]:
    """One claim with its history; 404 when missing or hidden from the caller (the same on purpose)."""
    return await db.one(queries.get, claim_id=claim_id)


@patch("/api/claims/{claim_id:str}")
async def change_claim(claim_id: FromPath[UUID], data: JSONBody[ClaimChange], db: Db) -> Answer[Claim]:
    """Moves a claim along the transition table, or changes its notes while it is not decided."""
    notes = {} if data.notes is UNSET else {"notes": data.notes}
    if data.status is not UNSET:
        given = {
            "status": data.status,
            "reason": data.reason,
            "denial_reason": data.denial_reason,
            "denial_code": data.denial_code,
            "approved_cents": cents(data.approved_amount, "approvedAmount"),
        }
        return await db.one(queries.move, claim_id=claim_id, **given, **notes)
    return await db.one(queries.change if notes else queries.get, claim_id=claim_id, **notes)


handlers = [create_claim, list_claims, get_claim, change_claim]
