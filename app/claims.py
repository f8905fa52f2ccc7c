"""Claims: create, list, read, decide, hand out, bring in and take out in bulk."""

from collections.abc import AsyncIterator
from datetime import date
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

import msgspec
from litestar import Request, Response, get, patch, post, put
from litestar.params import JSONBody
from litestar.response import Stream
from msgspec import UNSET, Meta, UnsetType

from app import sql, streams
from app.db import Db, Session
from app.errors import Invalid, Unavailable
from app.wire import (
    Answer,
    Body,
    Id,
    Instant,
    Money,
    MoneyOrNone,
    Notes,
    Number,
    Query,
    Role,
    Shape,
    Sum,
    Text,
    cents,
    one_of_several,
    paged,
)

queries = sql.load("claims")

Status = Literal[
    "draft", "submitted", "under_review", "pending_info", "approved", "rejected", "paid", "appealed", "voided", "reversed",
]  # fmt: skip
SORTS = {"createdAt": "created_at", "serviceDate": "service_date", "amount": "amount_cents"}
DiagnosisCode = Annotated[str, Meta(pattern=r"^[A-Za-z][0-9][0-9A-Za-z]\.?[0-9A-Za-z]{0,4}$", examples=["E11.9"])]
DenialCode = Annotated[str, Meta(min_length=1, max_length=20, pattern=r"^[^\u0000]*$", examples=["CO-50"])]


class NewClaim(Body):
    """amount in major units; a draft is checked once it is submitted."""

    patient_id: UUID
    provider_id: UUID
    diagnosis_code: DiagnosisCode
    amount: Money
    service_date: date
    notes: Notes | None = None
    claim_number: Number | None = None
    draft: bool = False

    def columns(self) -> dict[str, Any]:
        """As the table has it."""
        given = self.given()
        status = "draft" if given.pop("draft") else "submitted"
        return given | {"amount_cents": cents(given.pop("amount")), "status": status}


class ClaimChange(Body):
    """A move to another status, or new notes, or both. What else is sent goes with the status."""

    status: Status | UnsetType = UNSET
    reason: Text | None = None
    denial_reason: Text | None = None
    denial_code: DenialCode | None = None
    approved_amount: MoneyOrNone | None = None
    notes: Notes | UnsetType | None = UNSET


class BulkMove(Body):
    """Every claim stands alone; one that is named twice counts once."""

    claim_ids: Annotated[list[UUID], Meta(min_length=1, max_length=1000)]
    status: Status
    reason: Text | None = None
    denial_reason: Text | None = None


class Assignment(Body):
    """Who shall work on the claim: a processor of the organization, or nobody."""

    user_id: UUID | None


class ClaimFilter(Query):
    """Which claims. Amounts in major units; From and To belong to what they bound."""

    status: Annotated[str, one_of_several(get_args(Status))] | None = None
    patient_id: UUID | None = None
    provider_id: UUID | None = None
    assigned_to: (
        Annotated[str, Meta(pattern="^(me|none|[0-9a-fA-F-]{36})$", description="me, none, or a user's id.")] | None
    ) = None
    service_date_from: date | None = None
    service_date_to: date | None = None
    amount_min: MoneyOrNone | None = None
    amount_max: MoneyOrNone | None = None
    diagnosis_code: DiagnosisCode | None = None
    created_from: Instant | None = None
    created_to: Instant | None = None
    claim_number: Annotated[Number, Meta(description="What the number begins with.")] | None = None
    sort: Literal["createdAt", "-createdAt", "serviceDate", "-serviceDate", "amount", "-amount"] = "-createdAt"

    def order(self, query: sql.Query) -> sql.Query:
        """The query in the order that was asked for."""
        sign, name = self.sort[: self.sort.startswith("-")], self.sort.lstrip("-")
        return query.sorted[sign + SORTS[name]]

    def _worker(self) -> UUID | None:
        try:
            return None if self.assigned_to in (None, "me", "none") else UUID(self.assigned_to)
        except ValueError:
            raise Invalid.fields(assignedTo="Must be me, none, or a user's id") from None

    def filters(self) -> dict[str, Any]:
        """As the statement takes them."""
        statuses = self.status.split(",") if self.status else None
        one = statuses[0] if statuses and len(statuses) == 1 else None
        return {
            "status": one,
            "statuses": None if one else statuses,
            "patient_id": self.patient_id,
            "provider_id": self.provider_id,
            "unassigned": self.assigned_to == "none" or None,
            "mine": self.assigned_to == "me" or None,
            "assigned_to": self._worker(),
            "service_date_from": self.service_date_from,
            "service_date_to": self.service_date_to,
            "amount_min": cents(self.amount_min, "amountMin"),
            "amount_max": cents(self.amount_max, "amountMax"),
            "diagnosis_code": self.diagnosis_code,
            "created_from": self.created_from,
            "created_to": self.created_to,
            "claim_number": self.claim_number,
        }


class StatsFilter(Query):
    """Which claims count, by the day of care."""

    service_date_from: date | None = None
    service_date_to: date | None = None


class Claim(Shape):
    """A claim as it stands in lists."""

    id: UUID
    claim_number: str
    patient_id: UUID
    provider_id: UUID
    diagnosis_code: str
    amount: Sum
    approved_amount: Sum | None
    service_date: date
    status: Status
    notes: str | None
    denial_reason: str | None
    denial_code: str | None
    assigned_to: UUID | None
    submitted_at: Instant | None
    processed_at: Instant | None
    paid_at: Instant | None
    created_at: Instant
    updated_at: Instant
    version: int


class StatusChange(
    Shape, rename={"from_": "from", "by_user_id": "byUserId", "by_role": "byRole", "event_id": "eventId"}
):
    """One entry of statusHistory; the first has no `from`."""

    from_: Status | None
    to: Status
    at: Instant
    by_user_id: UUID | None
    by_role: Role | Literal["system"]
    reason: str | None
    source: Literal["api", "bulk", "job", "import", "sql"]
    event_id: UUID | None


class ClaimWithHistory(Claim):
    """A claim and every status it had, oldest first."""

    status_history: list[StatusChange]


class NotMoved(Shape):
    """Why one claim of a bulk update stayed as it was."""

    id: UUID
    code: str
    message: str


class BulkResult(Shape):
    """The ids of the claims that moved, and what kept the others."""

    updated: list[UUID]
    failed: list[NotMoved]


class Tally(Shape):
    """How many, and for how much in all."""

    count: int
    amount: Sum


ByStatus = msgspec.defstruct("ByStatus", [(status, Tally) for status in get_args(Status)], bases=(Shape,))
"""A tally for every status, zeros included."""


class Stats(Shape):
    """approvalRate: approved among decided, 0 to 1; averageProcessingHours: from submission to the first decision."""

    by_status: ByStatus  # type: ignore[valid-type]
    total: Tally
    approval_rate: Annotated[float, Meta(ge=0, le=1)] | None
    average_processing_hours: Annotated[float, Meta(ge=0)] | None


class LineResult(Shape):
    """What became of one line of an import."""

    line: int
    result: Literal["created", "duplicate", "failed"]
    id: UUID | None
    error: dict[str, Any] | None


@post("/api/claims", versioned=True)
async def create_claim(data: JSONBody[NewClaim], db: Db) -> Response[Answer[Claim]]:
    """A new claim, submitted at once unless it is a draft."""
    return await db.created(queries.create, **data.columns())


@get("/api/claims", query=paged(ClaimFilter))
async def list_claims(db: Db) -> Answer[list[Claim]]:
    """What the caller may see, newest first unless sorted otherwise."""
    page: ClaimFilter = db.query
    return await db.page(page.order(queries.list), queries.count, **page.filters())


@get("/api/claims/{id:str}", versioned=True)
async def get_claim(claim_id: Id, db: Db) -> Answer[ClaimWithHistory]:
    """One claim with its history; 404 when missing or hidden from the caller (the same on purpose)."""
    return await db.one(queries.get, claim_id=claim_id)


@patch("/api/claims/{id:str}", conditional=True, versioned=True)
async def change_claim(claim_id: Id, data: JSONBody[ClaimChange], db: Db) -> Answer[Claim]:
    """Moves a claim along the transition table, or changes its notes while it is not decided."""
    given = data.changes()
    given["approved_cents"] = cents(given["approved_amount"], "approvedAmount")
    if given["status"] is None and (data.reason or data.denial_reason or data.denial_code or data.approved_amount):
        raise Invalid.fields(status="Is required for what goes with it")
    query = queries.move if given["status"] else queries.note if "set_notes" in given else queries.keep
    return await db.changed(queries.find, query, claim_id=claim_id, **given)


@post("/api/claims/bulk-status-update", status_code=200, source="bulk")
async def move_claims(data: JSONBody[BulkMove], db: Db) -> Answer[BulkResult]:
    """Moves up to 1,000 claims, each for itself: one that can't be moved stops no other."""
    return await db.one(queries.move_all, **data.given())


@get("/api/claims/stats", query=StatsFilter)
async def get_stats(db: Db) -> Answer[Stats]:
    """Counts and sums over what the caller may see."""
    query: StatsFilter = db.query
    days = {"service_date_from": query.service_date_from, "service_date_to": query.service_date_to}
    return await db.one(queries.stats, **days)


@put("/api/claims/{id:str}/assignment", conditional=True, versioned=True)
async def assign_claim(claim_id: Id, data: JSONBody[Assignment], db: Db) -> Answer[Claim]:
    """Hands the claim to a processor of the organization, or takes it back."""
    return await db.changed(queries.find, queries.assign, claim_id=claim_id, user_id=data.user_id)


@post("/api/claims/next", status_code=200, or_nothing=True, versioned=True)
async def take_next_claim(db: Db) -> Answer[Claim] | None:
    """The oldest open claim that nobody works on, now the caller's; 204 when there is none. Two callers never get the same."""
    return await db.one_or_nothing(queries.take_next)


@post(
    "/api/claims/import",
    status_code=200,
    source="import",
    takes=dict.fromkeys(streams.NDJSON, NewClaim),
    gives={streams.NDJSON[0]: LineResult},
    request_max_body_size=streams.MOST_BYTES,
)
async def import_claims(request: Request[Any, Any, Any], db: Db) -> Stream:
    """A claim a line, up to 100,000; a result a line, in order. With an Idempotency-Key, sending it again doubles nothing."""
    lines = await streams.receive(request.stream())
    return await streams.answer(_imported(lines, db), "application/x-ndjson")


async def _imported(lines: streams.Lines, db: Session) -> AsyncIterator[bytes]:
    """A result a line; each batch is committed before its results are given."""
    for batch in lines.batches():
        fitting, results = streams.decode(batch, NewClaim, NewClaim.columns)
        try:
            results |= dict(await db.lines(queries.import_lines, fitting))
        except Unavailable as error:
            # Said line by line, so that a client knows which to send again.
            results |= {one["line"]: streams.failure(one["line"], error) for one in fitting}
        yield b"".join(results[number] + b"\n" for number, _ in batch)


@get("/api/claims/export", query=ClaimFilter, recorded=True, gives={streams.NDJSON[0]: Claim, "text/csv": None})
async def export_claims(request: Request[Any, Any, Any], db: Db) -> Stream:
    """The list's claims, all of them, as NDJSON or as CSV by Accept."""
    as_csv = streams.prefers_csv(request.headers.get("Accept", ""))
    pages = _exported(db)
    if as_csv:
        columns = [field.encode_name for field in msgspec.structs.fields(Claim)]
        return await streams.answer(streams.csv(pages, columns), "text/csv; charset=utf-8; header=present")
    return await streams.answer(streams.ndjson(pages), "application/x-ndjson")


async def _exported(db: Session) -> AsyncIterator[list[bytes]]:
    """Page after page along the order, each in a transaction of its own: no slow reader holds one open."""
    filter_: ClaimFilter = db.query
    query, after = filter_.order(queries.list), None
    await db.rows(queries.record_export)
    while True:
        (rows,) = await db.rows(query, after=after, offset=None, limit=streams.PAGE - 1, **filter_.filters())
        yield [item for _, item in rows]
        if len(rows) < streams.PAGE:
            return
        after = rows[-1][0].decode()


handlers = [
    create_claim, list_claims, get_claim, change_claim, move_claims, get_stats, assign_claim, take_next_claim,
    import_claims, export_claims,
]  # fmt: skip
