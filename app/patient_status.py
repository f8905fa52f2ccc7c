"""Patient status events: what happened to a patient, and what its job made of it."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app import sql
from app.db import Db
from app.errors import IdempotencyMismatch
from app.wire import Answer, Body, CursorText, Limit, Name, Offset, Page, Shape

queries = sql.load("patient_status")

EventType = Literal["admission", "discharge", "treatment_initiated", "admission_cancelled", "discharge_cancelled"]


class NewEvent(Body):
    """occurredAt carries an offset. The same idempotencyKey is the same event."""

    patient_id: UUID
    event_type: EventType
    occurred_at: Annotated[datetime, Meta(tz=True)]
    provider_id: UUID | None = None
    visit_number: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    facility: Name | None = None
    notes: Annotated[str, Meta(max_length=1000)] | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=255, pattern="^[!-~]+$")] | None = None


class Event(Shape):
    """An event, the state of its job and, once that is done, its result."""

    id: UUID
    patient_id: UUID
    provider_id: UUID | None
    event_type: EventType
    occurred_at: datetime
    visit_number: str | None
    facility: str | None
    notes: str | None
    idempotency_key: str | None
    created_at: datetime
    job_status: Literal["pending", "processing", "completed", "failed"]
    job_result: Any


@post("/api/patient-status", status_code=202)
async def create_event(data: JSONBody[NewEvent], db: Db) -> Response[Answer[Event]]:
    """202 with the event, its job enqueued in the same transaction; 200 with the first event where the key is known."""
    given = {
        "patient_id": data.patient_id,
        "event_type": data.event_type,
        "occurred_at": data.occurred_at,
        "provider_id": data.provider_id,
        "visit_number": data.visit_number,
        "facility": data.facility,
        "notes": data.notes,
        "idempotency_key": data.idempotency_key,
    }
    made, first = await db.rows(queries.create, queries.get_by_key, **given)
    if not made and not first[0][1]:
        raise IdempotencyMismatch
    return db.answer((made or first)[0][0], 202 if made else 200)


@get("/api/patient-status/history/{patient_id:str}")
async def list_events(
    patient_id: FromPath[UUID], db: Db, limit: Limit = 20, cursor: CursorText = None, offset: Offset = None
) -> Answer[list[Event]]:
    """A patient's events, newest first; 404 when the patient is missing or hidden from the caller."""
    page = Page(limit, cursor, offset)
    return await db.page(queries.list_newest, queries.count, page, of=queries.find_patient, patient_id=patient_id)


handlers = [create_event, list_events]
