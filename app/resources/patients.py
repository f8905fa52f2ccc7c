"""Patients: insured persons, identified by member number, and the providers that treat them."""

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
from app.http.schemas import NOT_BLANK, Email, Id, Instant, Name, Number, RequestBody, ResponseBody

queries = statements.load("patients")

Phone = Annotated[str, Meta(min_length=1, max_length=40, pattern=NOT_BLANK, examples=["+1 617 555 0100"])]
ProviderId = Annotated[UUID, PathParameter(name="providerId")]


class NewPatient(RequestBody):
    """A new patient. memberNumber is unique in the organization."""

    member_number: Number
    first_name: Name
    last_name: Name
    date_of_birth: date
    email: Email | None = None
    phone: Phone | None = None


class PatientChange(RequestBody):
    """Changes of a patient. Fields that are not sent stay unchanged; null removes an optional value."""

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
    """Create a patient. A patient created by a provider is in that provider's care.

    Roles: admin, provider (into own care).
    """
    return await db.created(queries.create, queries.get_by_member_number, **data.insert_params())


@get("/api/patients", options=RouteOptions(paged=True))
async def list_patients(db: Db) -> Envelope[list[Patient]]:
    """List patients, newest first. Contains the patients that the caller may see.

    Roles: admin, claims_processor (of assigned claims), provider (in care), patient.
    """
    return await db.page(queries.list_newest, queries.count)


@get("/api/patients/{id:str}", options=RouteOptions(audit_read=True))
async def get_patient(patient_id: Id, db: Db) -> Envelope[Patient]:
    """Get a patient. Returns 404 if it does not exist or the caller may not see it. The access is recorded in the audit log.

    Roles: admin, claims_processor (of assigned claims), provider (in care), patient.
    """
    return await db.one(queries.get, patient_id=patient_id)


@patch("/api/patients/{id:str}")
async def change_patient(patient_id: Id, data: JSONBody[PatientChange], db: Db) -> Envelope[Patient]:
    """Change a patient. Fields that are not sent stay unchanged.

    Roles: admin.
    """
    return await db.updated(queries.exists, queries.change, patient_id=patient_id, **data.update_params())


@put("/api/patients/{id:str}/providers/{providerId:str}", status_code=204)
async def set_care(patient_id: Id, provider_id: ProviderId, db: Db) -> None:
    """Add a patient to a provider's care. The provider then sees the patient. Has no effect if the patient is in its care already.

    Roles: admin.
    """
    return await db.no_content(queries.set_care, patient_id=patient_id, provider_id=provider_id)


@delete("/api/patients/{id:str}/providers/{providerId:str}")
async def end_care(patient_id: Id, provider_id: ProviderId, db: Db) -> None:
    """Remove a patient from a provider's care. The provider no longer sees the patient, but keeps access to its own claims.

    Roles: admin.
    """
    return await db.no_content(queries.end_care, patient_id=patient_id, provider_id=provider_id)


handlers = [create_patient, list_patients, get_patient, change_patient, set_care, end_care]
