"""Patients: the insured, known by member number; and which providers treat them."""

from datetime import date
from typing import Annotated
from uuid import UUID

from litestar import Response, delete, get, patch, post, put
from litestar.params import JSONBody, PathParameter
from msgspec import UNSET, Meta, UnsetType

from app.database import statements
from app.http.dependencies import Db
from app.http.envelope import Envelope
from app.http.route_options import RouteOptions
from app.http.schemas import NO_NUL, Email, Id, Instant, Name, Number, RequestBody, ResponseBody

queries = statements.load("patients")

Phone = Annotated[str, Meta(min_length=1, max_length=40, pattern=NO_NUL, examples=["+1 617 555 0100"])]
ProviderId = Annotated[UUID, PathParameter(name="providerId")]


class NewPatient(RequestBody):
    """memberNumber is unique in the organization."""

    member_number: Number
    first_name: Name
    last_name: Name
    date_of_birth: date
    email: Email | None = None
    phone: Phone | None = None


class PatientChange(RequestBody):
    """Only what is sent changes; null takes away what is optional."""

    member_number: Number | UnsetType = UNSET
    first_name: Name | UnsetType = UNSET
    last_name: Name | UnsetType = UNSET
    date_of_birth: date | UnsetType = UNSET
    email: Email | UnsetType | None = UNSET
    phone: Phone | UnsetType | None = UNSET


class Patient(ResponseBody):
    """A patient of the caller's organization."""

    id: UUID
    member_number: Number
    first_name: Name
    last_name: Name
    date_of_birth: date
    email: Email | None
    phone: Phone | None
    created_at: Instant


@post("/api/patients")
async def create_patient(data: JSONBody[NewPatient], db: Db) -> Response[Envelope[Patient]]:
    """A new patient; one that a provider enters is in its care."""
    return await db.created(queries.create, queries.get_by_member_number, **data.sent_fields())


@get("/api/patients", options=RouteOptions(paged=True))
async def list_patients(db: Db) -> Envelope[list[Patient]]:
    """What the caller may see, newest first."""
    return await db.page(queries.list_newest, queries.count)


@get("/api/patients/{id:str}", options=RouteOptions(audit_read=True))
async def get_patient(patient_id: Id, db: Db) -> Envelope[Patient]:
    """One patient; 404 when missing or hidden from the caller. Reading it is an entry of the trail."""
    return await db.one(queries.get, patient_id=patient_id)


@patch("/api/patients/{id:str}")
async def change_patient(patient_id: Id, data: JSONBody[PatientChange], db: Db) -> Envelope[Patient]:
    """Corrects what is known of a patient."""
    return await db.updated(queries.exists, queries.change, patient_id=patient_id, **data.update_params())


@put("/api/patients/{id:str}/providers/{providerId:str}", status_code=204)
async def set_care(patient_id: Id, provider_id: ProviderId, db: Db) -> None:
    """From now on the provider treats the patient, and so sees it; 204 also where it did already."""
    return await db.no_content(queries.set_care, patient_id=patient_id, provider_id=provider_id)


@delete("/api/patients/{id:str}/providers/{providerId:str}")
async def end_care(patient_id: Id, provider_id: ProviderId, db: Db) -> None:
    """The provider no longer sees the patient; its own claims stay its own."""
    return await db.no_content(queries.end_care, patient_id=patient_id, provider_id=provider_id)


handlers = [create_patient, list_patients, get_patient, change_patient, set_care, end_care]
