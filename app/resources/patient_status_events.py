"""Patient status events: what happened to a patient, and what its job made of it."""

from typing import Annotated
from uuid import UUID

from litestar import Response, get, post
from litestar.params import JSONBody, PathParameter

from app.database import statements
from app.database.connection import Rows
from app.errors import IdempotencyMismatch
from app.http.dependencies import Db
from app.http.envelope import Envelope
from app.http.prepared_response import PreparedResponse
from app.http.route_options import RouteOptions
from app.http.schemas import Instant, Name, Notes, Number, RequestBody, ResponseBody, regex_string
from app.resources.job_results import JobResult
from app.vocabulary import EventType, JobStatus

queries = statements.load("patient_status_events")


class NewEvent(RequestBody):
    """occurredAt carries an offset. The same idempotencyKey is the same event."""

    patient_id: UUID
    event_type: EventType
    occurred_at: Instant
    provider_id: UUID | None = None
    visit_number: Number | None = None
    facility: Name | None = None
    notes: Notes | None = None
    idempotency_key: Annotated[str, regex_string("^[!-~]+$", min_length=1, max_length=255)] | None = None


class Event(ResponseBody):
    """An event, the state of its job and, once that is done, its result."""

    id: UUID
    patient_id: UUID
    provider_id: UUID | None
    event_type: EventType
    occurred_at: Instant
    visit_number: Number | None
    facility: Name | None
    notes: Notes | None
    idempotency_key: str | None
    created_at: Instant
    job_status: JobStatus
    job_result: JobResult | None


PatientId = Annotated[UUID, PathParameter(name="patientId")]


@post("/api/patient-status", status_code=202, options=RouteOptions(extra_status=200))
async def create_event(data: JSONBody[NewEvent], db: Db) -> Response[Envelope[Event]]:
    """202 with the event, its job enqueued in the same transaction; 200 with the first event where the key is known."""

    def build(results: list[Rows]) -> PreparedResponse:
        made, first = results
        # No row at all: the key's event is one the caller may not see, so it is another one.
        if not made and not (first and first[0][1]):
            raise IdempotencyMismatch
        return db.data((made or first)[0][0], 202 if made else 200)

    return await db.respond(build, queries.create, queries.get_by_key, **data.sent_fields())


@get("/api/patient-status/history/{patientId:str}", options=RouteOptions(paged=True))
async def list_events(patient_id: PatientId, db: Db) -> Envelope[list[Event]]:
    """A patient's events, newest first; 404 when the patient is missing or hidden from the caller."""
    return await db.page(queries.list_newest, queries.count, parent=queries.patient_exists, patient_id=patient_id)


handlers = [create_event, list_events]
