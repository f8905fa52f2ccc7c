"""Patient status events, such as admission and discharge, and the results of their jobs."""

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
from app.http.schemas import Instant, Name, Notes, Number, RequestBody, ResponseBody, SentInstant, regex_string
from app.resources.job_results import JobResult
from app.vocabulary import EventType, JobStatus

queries = statements.load("patient_status_events")


class NewEvent(RequestBody):
    """A new event. occurredAt requires a UTC offset. Events with the same idempotencyKey are the same event."""

    patient_id: UUID
    event_type: EventType
    occurred_at: SentInstant
    provider_id: UUID | None = None
    visit_number: Number | None = None
    facility: Name | None = None
    notes: Notes | None = None
    idempotency_key: Annotated[str, regex_string("^[!-~]+$", min_length=1, max_length=255)] | None = None


class Event(ResponseBody):
    """An event, the status of its job and, once the job is completed, its result."""

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
    """Create a patient event and enqueue its job. Returns 202 with the event.

    If the idempotencyKey is already known, returns 200 with the first event.

    Roles: admin, provider (in care).
    """

    def build(results: list[Rows]) -> PreparedResponse:
        created, existing = results
        # Without any row, the key belongs to an event that the caller may not see. So it is a different event.
        if not created and not (existing and existing[0][1]):
            raise IdempotencyMismatch
        return db.data((created or existing)[0][0], 202 if created else 200)

    return await db.respond(build, queries.create, queries.get_by_key, **data.sent_fields())


@get("/api/patient-status/history/{patientId:str}", options=RouteOptions(paged=True))
async def list_events(patient_id: PatientId, db: Db) -> Envelope[list[Event]]:
    """List a patient's events, newest first. Returns 404 if the patient does not exist or the caller may not see it.

    Roles: admin, claims_processor (of assigned claims), provider (in care), patient.
    """
    return await db.page(queries.list_newest, queries.count, parent=queries.patient_exists, patient_id=patient_id)


handlers = [create_event, list_events]
